"""`table.json`: what a table on disk is of, and the list of its parts; and reading what is on that list."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from gradsplinter.io import read_json, write_file

SCHEMA = 1


@dataclass(frozen=True)
class Part:
    """One line of the list of parts."""

    file: str
    sha256: str
    examples: int
    modes: int
    data: str | None
    """SHA-256 of some of the examples (`gradsplinter.store.Witness`), if they were seen."""


@dataclass(frozen=True)
class Index:
    """What `table.json` says, but for its schema and its own checksum."""

    fingerprint: str
    """Of the network."""
    widths: list[int]
    dtype: str
    source: int
    target: int
    directions: str | None
    """SHA-256 of their file; None for the target's own nodes."""
    parts: list[Part]
    bits: list[int] | None = None
    """Of the pattern of each site of a traced network; None for a `ReluNetwork`, which has a file beside."""
    names: list[str] | None = None
    """Of the sites of a traced network."""

    @property
    def n_examples(self) -> int:
        return sum(part.examples for part in self.parts)

    @classmethod
    def read(cls, folder: Path) -> Index:
        """
        Raises:
            ValueError: there is none, of a newer schema, or a damaged one.
        """
        path = folder / "table.json"
        if not path.is_file():
            raise ValueError(
                f"path must be the folder of a table, got {folder}, which has no table.json"
            )
        found = read_json(path)
        if found.get("schema") != SCHEMA:
            raise ValueError(
                f"{folder} must be of schema {SCHEMA}, got {found.get('schema')!r}; "
                "a newer gradsplinter may read it"
            )
        for name, kind in _KINDS.items():
            if not isinstance(found.get(name), kind):
                raise ValueError(  # noqa: TRY004 (what a file holds is a value, whatever its type)
                    f"{folder} is damaged: table.json has no valid {name!r}"
                )
        sizes = {len(found.get(name) or ()) for name in _OPTIONAL}
        if sizes not in ({0}, {len(found["widths"])}):
            raise ValueError(f"{folder} is damaged: table.json has no valid 'bits' and 'names'")
        if found["checksum"] != _checksum(found):
            raise ValueError(f"{folder} is damaged: table.json does not have its own checksum")
        parts = [_part(folder, number, part) for number, part in enumerate(found["parts"])]
        names = (field.name for field in fields(cls))
        return cls(**{name: found[name] for name in names if name in found} | {"parts": parts})

    def write(self, folder: Path) -> None:
        """
        Raises:
            OSError: it cannot be written; what was there stays.
        """
        value = {"schema": SCHEMA} | asdict(self)
        value = {name: entry for name, entry in value.items() if name not in _OPTIONAL or entry}
        value["checksum"] = _checksum(value)
        write_file(folder / "table.json", (json.dumps(value, indent=2) + "\n").encode())


def part_name(number: int) -> str:
    return f"part-{number:05}.safetensors"


_KINDS: dict[str, type | tuple[type, ...]] = {
    "fingerprint": str,
    "widths": list,
    "dtype": str,
    "source": int,
    "target": int,
    "directions": (str, NoneType),
    "parts": list,
    "bits": (list, NoneType),
    "names": (list, NoneType),
    "checksum": str,
}
_OPTIONAL = ("bits", "names")
_PART_KINDS: dict[str, type | tuple[type, ...]] = {
    "file": str,
    "sha256": str,
    "examples": int,
    "modes": int,
    "data": (str, NoneType),
}


def _part(folder: Path, number: int, found: object) -> Part:
    valid = (
        isinstance(found, dict)
        and found.keys() == _PART_KINDS.keys()
        and all(isinstance(found[name], kind) for name, kind in _PART_KINDS.items())
        and min(found["examples"], found["modes"]) >= 1
    )
    if not isinstance(found, dict) or not valid:
        raise ValueError(f"{folder} is damaged: table.json lists a part that is none: {found!r}")
    if found["file"] != part_name(number):
        raise ValueError(
            f"{folder} is damaged: table.json lists {found['file']!r} for {part_name(number)}"
        )
    return Part(**found)


def _checksum(value: dict[str, Any]) -> str:
    """Of all that `table.json` says, but for the checksum itself."""
    rest = {name: entry for name, entry in value.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_checked(path: Path, sha256: str) -> bytes:
    """
    Raises:
        ValueError: a file that cannot be read, or is not as it was written.
    """
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged: its checksum is not that in table.json")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def tensors_of(path: Path, data: bytes) -> dict[str, Tensor]:
    """Of a safetensors file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_tensors(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return tensors
