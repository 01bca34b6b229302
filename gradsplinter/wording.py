"""What messages share."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """A number of things.

    Examples:
        >>> counted(1, "mode"), counted(2000, "mode")
        ('1 mode', '2,000 modes')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


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
