"""Tables on disk: a folder of parts that can be appended to, merged and killed at any moment.

    table.json               what the table is of, and the list of its parts
    network.safetensors      as `ReluNetwork.save` writes it
    directions.safetensors   only where they are not the target's own nodes
    part-00000.safetensors   the modes of some examples: signatures, counts, first
    part-00001.safetensors   those of the next examples, and so on

A part counts once `table.json` lists it. Files are written under another name, flushed and renamed, so
that a crash leaves the state before or after.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from tqdm import tqdm

from gradsplinter.batches import Data, batches, count_examples
from gradsplinter.checks import check_integer
from gradsplinter.io import new_folder, only_writer, read_json, write_file
from gradsplinter.modes import Modes
from gradsplinter.network import ReluNetwork
from gradsplinter.table import SplinterTable

SCHEMA = 1
PART_EXAMPLES = 2**22
"""Examples of a part, at least: what is lost when `extract` is killed."""

_BEFORE_INDEX = {
    *("network.safetensors", "network.safetensors.tmp"),
    *("directions.safetensors", "directions.safetensors.tmp", "table.json.tmp"),
}


@dataclass(frozen=True)
class Part:
    """One line of the list of parts."""

    file: str
    sha256: str
    examples: int
    modes: int


class Store:
    """A table on disk. Opening one reads `table.json` only.

    Examples:
        >>> import tempfile
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> table = SplinterTable(net)
        >>> table.update(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store.create(Path(folder) / "splinters", table)
        ...     store.append(table.modes())
        ...     Store(Path(folder) / "splinters").table().n_modes
        2
    """

    def __init__(self, path: str | Path) -> None:
        """Open the folder of a table.

        Raises:
            ValueError: no such table, a newer schema, or a damaged one.
        """
        self.path = Path(path)
        self._index = _read_index(self.path)
        self.parts = [Part(**part) for part in self._index["parts"]]

    @classmethod
    def create(cls, path: str | Path, like: SplinterTable) -> Store:
        """A new folder, without parts, for tables of the same network, sites and directions.

        Raises:
            ValueError: something is there already, or it cannot be written.
        """
        path = Path(path)
        # What a creation that was killed may have left is no reason to refuse.
        if path.exists() and (
            not path.is_dir() or {p.name for p in path.iterdir()} - _BEFORE_INDEX
        ):
            raise ValueError(f"path must be a new or empty folder, got {path}")
        own = torch.equal(
            like.directions, torch.eye(like.net.widths[like.target], dtype=like.net.dtype)
        )
        try:
            path.mkdir(parents=True, exist_ok=True)
            like.net.save(path / "network.safetensors.tmp")
            write_file(
                path / "network.safetensors", (path / "network.safetensors.tmp").read_bytes()
            )
            data = save_tensors({"directions": like.directions.contiguous()})
            if not own:
                write_file(path / "directions.safetensors", data)
        except OSError as error:
            raise ValueError(
                f"path must be a folder that can be written, got {path}: {error}"
            ) from error
        index = {
            "schema": SCHEMA,
            "fingerprint": like.net.fingerprint,
            "widths": list(like.net.widths),
            "dtype": str(like.net.dtype).removeprefix("torch."),
            "source": like.source,
            "target": like.target,
            "directions": None if own else hashlib.sha256(data).hexdigest(),
            "parts": [],
        }
        _write_index(path, index)
        return cls(path)

    @property
    def n_examples(self) -> int:
        return sum(part.examples for part in self.parts)

    @property
    def index(self) -> dict[str, Any]:
        """What `table.json` says."""
        return dict(self._index)

    def append(self, modes: Modes) -> None:
        """Add the modes of the next examples as a part.

        Raises:
            OSError: it cannot be written; the table is as it was.
            TypeError, ValueError: modes that do not fit, or were not all kept; a table that another
                process has changed.
        """
        with only_writer(self.path):
            self._append([modes])

    def _append(self, pieces: Iterable[Modes]) -> None:
        """Parts count when all are written: the index is written once."""
        if _read_index(self.path)["parts"] != self._index["parts"]:
            raise ValueError(f"{self.path} was changed since it was opened; open it again")
        table, parts = self.empty_table(), list(self.parts)
        for modes in pieces:
            if modes.examples == 0:
                continue
            if modes.undercount > 0 or len(modes.counts) == 0:
                raise ValueError("modes must be all modes, got only the heaviest")
            table.check_modes(modes)
            tensors = {name: getattr(modes, name) for name in ("signatures", "counts", "first")}
            data = save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
            part = Part(
                file=_part_name(len(parts)),
                sha256=hashlib.sha256(data).hexdigest(),
                examples=int(modes.examples),
                modes=len(modes.counts),
            )
            write_file(self.path / part.file, data)
            parts.append(part)
        if len(parts) > len(self.parts):
            index = self._index | {"parts": [asdict(part) for part in parts]}
            _write_index(self.path, index)
            self.parts, self._index = parts, index

    def empty_table(self) -> SplinterTable:
        """A table of the same network, sites and directions.

        Raises:
            ValueError: damaged files.
        """
        path = self.path / "network.safetensors"
        try:
            net = ReluNetwork.load(path)
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        if net.fingerprint != self._index["fingerprint"]:
            raise ValueError(
                f"{self.path} must hold the network that table.json names, got another one"
            )
        directions = None
        if self._index["directions"] is not None:
            path = self.path / "directions.safetensors"
            data = _checked(path, self._index["directions"])
            directions = _tensors_of(path, data)["directions"]
        return SplinterTable(net, self._index["source"], self._index["target"], directions)

    def modes(self, part: Part) -> Modes:
        """Read a part.

        Raises:
            ValueError: it is damaged or missing.
        """
        path = self.path / part.file
        tensors = _tensors_of(path, _checked(path, part.sha256))
        found = {name: (tensor.dtype, *tensor.shape) for name, tensor in tensors.items()}
        words = tensors["signatures"].shape[-1] if "signatures" in tensors else 0
        one = (torch.int64, part.modes)
        if found != {"signatures": (*one, words), "counts": one, "first": one}:
            raise ValueError(f"{path} is damaged: it does not hold {part.modes} modes")
        if int(tensors["counts"].sum()) != part.examples:
            raise ValueError(
                f"{path} is damaged: its counts are not those of {part.examples} examples"
            )
        return Modes(tensors["signatures"], tensors["counts"], tensors["first"], part.examples)

    def table(self) -> SplinterTable:
        """The table of all parts.

        Raises:
            ValueError: damaged files.
        """
        table = self.empty_table()
        for part in self.parts:
            table.add(self.modes(part))
        return table


def extract(
    net: ReluNetwork | nn.Module,
    x: Data,
    path: str | Path,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    *,
    divisor: float | None = None,
    part_examples: int = PART_EXAMPLES,
    progress: bool = True,
) -> Store:
    """Collect splinters into a folder. A call that was interrupted or killed goes on when repeated.

    Args:
        net, x, source, target, directions, divisor: as in `splinter`; x must give the same examples
            in the same order when the call is repeated.
        path: a new folder, or one of the same call.
        part_examples: write a part after so many examples.
        progress: show a bar on stderr.

    Raises:
        TypeError, ValueError: as `splinter`; a folder of something else, which stays as it is.
    """
    check_integer(part_examples, "part_examples", 1)
    part = SplinterTable(net, source, target, directions)
    path = Path(path)
    with only_writer(path):
        if (path / "table.json").exists():
            store = Store(path)
            part.check_alike(store.empty_table())
        else:
            store = Store.create(path, part)
        done = store.n_examples
        total = count_examples(x)
        if total is not None and total < done:
            raise ValueError(
                f"x must begin with the {done:,} examples in {path}, got {total:,} in all"
            )
        with tqdm(
            total=total, initial=done, disable=not progress, unit="example", unit_scale=True
        ) as bar:
            for batch in batches(x, part.net.dtype, divisor, skip=done):
                part.add_batch(batch, done)
                done += len(batch)
                bar.update(len(batch))
                if part.n_examples >= part_examples:
                    store._append([part.modes()])
                    part = SplinterTable(part.net, source, target, directions)
            store._append([part.modes()])
    return store


def merge(paths: Sequence[str | Path], out: str | Path) -> Store:
    """The tables of several folders as one, whose examples follow each other in this order.

    Only signatures and counts are read.

    Raises:
        ValueError: fewer than one, folders of different networks, sites or directions, damaged ones;
            something at `out` already.
    """
    stores = [Store(path) for path in paths]
    if not stores:
        raise ValueError("paths must hold at least one folder, got none")
    like = stores[0].empty_table()
    for store in stores[1:]:
        like.check_alike(store.empty_table())
    if Path(out).exists():
        raise ValueError(f"out must be a new folder, got {out}, which exists")
    with new_folder(Path(out)) as folder:
        merged = Store.create(folder, like)
        merged._append(store.modes(part) for store in stores for part in store.parts)
    return Store(out)


def _read_index(path: Path) -> dict[str, Any]:
    if not (path / "table.json").is_file():
        raise ValueError(f"path must be the folder of a table, got {path}, which has no table.json")
    index = read_json(path / "table.json")
    if index.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} must be of schema {SCHEMA}, got {index.get('schema')!r}; "
            "a newer gradsplinter may read it"
        )
    for name, kind in _INDEX.items():
        if not isinstance(index.get(name), kind):
            raise ValueError(  # noqa: TRY004 (what a file holds is a value, whatever its type)
                f"{path} is damaged: table.json has no valid {name!r}"
            )
    if index["checksum"] != _checksum(index):
        raise ValueError(f"{path} is damaged: table.json does not have its own checksum")
    for number, part in enumerate(index["parts"]):
        types = {k: type(v) for k, v in part.items()} if isinstance(part, dict) else None
        if types != _PART or min(part["examples"], part["modes"]) < 1:
            raise ValueError(f"{path} is damaged: table.json lists a part that is none: {part!r}")
        if part["file"] != _part_name(number):
            raise ValueError(
                f"{path} is damaged: table.json lists {part['file']!r} for {_part_name(number)}"
            )
    return index


_INDEX: dict[str, type | tuple[type, ...]] = {
    "fingerprint": str,
    "widths": list,
    "dtype": str,
    "source": int,
    "target": int,
    "directions": (str, NoneType),
    "checksum": str,
    "parts": list,
}
_PART = {"file": str, "sha256": str, "examples": int, "modes": int}


def _checksum(index: dict[str, Any]) -> str:
    """Of all that `table.json` says, but for the checksum itself."""
    rest = {name: value for name, value in index.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _write_index(path: Path, index: dict[str, Any]) -> None:
    index["checksum"] = _checksum(index)
    write_file(path / "table.json", (json.dumps(index, indent=2) + "\n").encode())


def _part_name(number: int) -> str:
    return f"part-{number:05}.safetensors"


def _checked(path: Path, sha256: str) -> bytes:
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged: its checksum is not that in table.json")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _tensors_of(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_tensors(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return tensors
