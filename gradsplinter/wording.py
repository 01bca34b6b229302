"""What messages share."""

from __future__ import annotations

from typing import Any

_MOST = 60
"""Characters of a setting that is repeated in a message."""


def counted(n: int, noun: str) -> str:
    """A number of things.

    Examples:
        >>> counted(1, "mode"), counted(2000, "mode")
        ('1 mode', '2,000 modes')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def difference(found: Any, own: Any, name: str = "") -> str:
    """Where two records of settings differ first, in words; nothing where they do not.

    Examples:
        >>> difference({"zoo": "a", "config": {"steps": 100}}, {"zoo": "a", "config": {"steps": 2000}})
        'config.steps 100, not 2000'
        >>> difference({"networks": ["a"] * 50}, {"networks": ["b"] * 50})
        'other networks'
        >>> difference([1, 2], [1, 2])
        ''
    """
    if found == own:
        return ""
    if isinstance(found, dict) and isinstance(own, dict):
        inner = (
            difference(found.get(key), own.get(key), f"{name}.{key}" if name else key)
            for key in {**own, **found}
        )
        return next(text for text in inner if text)
    text = f"{name} {found}, not {own}"
    return f"other {name}" if len(text) > _MOST + len(name) else text


def missing_extra(what: str, extra: str, error: ImportError) -> str:
    """What is missing, and how one gets it: the package is installed from its source folder.

    Examples:
        >>> missing_extra("communities", "graph", ImportError("No module named 'networkx'"))
        "the extra `graph` is missing for communities (No module named 'networkx'); in the source folder: pip install '.[graph]'"
    """
    return (
        f"the extra `{extra}` is missing for {what} ({error}); in the source folder: "
        f"pip install '.[{extra}]'"
    )


def other_float(name: str, wanted: str, got: str) -> str:
    """What to do about data of another dtype than the network's; nothing where it is no float.

    Examples:
        >>> other_float("x", "float32", "float64")
        '; x.float() converts it, or make the network of module.double()'
        >>> other_float("x in a.npy", "float64", "float32")
        '; convert it to float64, or make the network of module.float()'
    """
    methods = {"float32": "float", "float64": "double"}
    if got not in methods:
        return ""
    convert = (
        f"convert it to {wanted}" if " " in name else f"{name}.{methods[wanted]}() converts it"
    )
    return f"; {convert}, or make the network of module.{methods[got]}()"
