"""Tables on disk: a folder of parts that can be appended to, merged and killed at any moment.

    table.json               what the table is of, and the list of its parts (store_index.py)
    network.safetensors      as `ReluNetwork.save` writes it; of a traced network there is no file, since
                             weights do not say what is done with them
    directions.safetensors   only where they are not the target's own nodes
    part-00000.safetensors   the modes of some examples: signatures, counts, first
    part-00001.safetensors   those of the next examples, and so on

A part counts once `table.json` lists it. Files are written under another name, flushed and renamed, so
that a crash leaves the state before or after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors
from torch import nn

from gradsplinter.checks import check_path
from gradsplinter.io import new_folder, only_writer, write_file
from gradsplinter.modes import Modes
from gradsplinter.network import ReluNetwork
from gradsplinter.outline import Outline
from gradsplinter.store_index import Index, Part, part_name, read_checked, tensors_of
from gradsplinter.table import SplinterTable
from gradsplinter.traced import Network, TracedNetwork, network_of
from gradsplinter.wording import counted

_NETWORK = "network.safetensors"
_DIRECTIONS = "directions.safetensors"


class Store:
    """A table on disk. Opening one reads `table.json` only.

    Args:
        path: the folder.
        net: the network that the table is of. That of a traced network is not kept in the folder: without
            it modes can be counted, merged and appended, and whatever needs gradients says that it is
            missing.

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

    def __init__(self, path: str | Path, net: Network | nn.Module | None = None) -> None:
        """Open the folder of a table.

        Raises:
            ValueError: no such table, a newer schema, or a damaged one; a table of another network.
        """
        self.path = check_path(path, "path")
        self._index = Index.read(self.path)
        self._net = None if net is None else network_of(net)
        if self._net is not None and self._net.fingerprint != self._index.fingerprint:
            raise ValueError(
                f"net must be the network of {self.path}, of widths {self._index.widths} and fingerprint "
                f"{self._index.fingerprint[:8]}…, got {self._net!r} ({self._net.fingerprint[:8]}…)"
            )

    def __repr__(self) -> str:
        return (
            f"Store({str(self.path)!r}: {counted(self.n_examples, 'example')} in "
            f"{counted(len(self.parts), 'part')})"
        )

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is a table in this folder, whole or damaged."""
        return (path / "table.json").exists()

    @staticmethod
    def check_new(path: Path, like: SplinterTable) -> dict[str, bytes]:
        """What `create` will write, by the names of the files.

        Raises:
            ValueError: the folder holds more than a creation that was killed may have left.
        """
        if path.exists() and not path.is_dir():
            raise ValueError(f"path must be a new or empty folder, got {path}")
        files = _files_of(like)
        left = {f"{name}.tmp" for name in (*files, "table.json")}
        for entry in sorted(path.iterdir()) if path.exists() else ():
            same = (
                entry.name in files and entry.is_file() and entry.read_bytes() == files[entry.name]
            )
            if not same and entry.name not in left:
                raise ValueError(
                    f"path must be a new or empty folder, got {path}, which holds {entry.name}"
                )
        return files

    @classmethod
    def create(cls, path: str | Path, like: SplinterTable) -> Store:
        """A new folder, without parts, for tables of the same network, sites and directions.

        Raises:
            ValueError: something is there already, or it cannot be written.
        """
        path = check_path(path, "path")
        files = cls.check_new(path, like)
        index = Index(
            fingerprint=like.net.fingerprint,
            widths=list(like.net.widths),
            dtype=str(like.net.dtype).removeprefix("torch."),
            source=like.source,
            target=like.target,
            directions=hashlib.sha256(files[_DIRECTIONS]).hexdigest()
            if _DIRECTIONS in files
            else None,
            parts=[],
            bits=list(like.net.bits) if isinstance(like.net, TracedNetwork) else None,
            names=list(like.net.names) if isinstance(like.net, TracedNetwork) else None,
        )
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                write_file(path / name, data)
            index.write(path)
        except OSError as error:
            raise ValueError(
                f"path must be a folder that can be written, got {path}: {error}"
            ) from error
        return cls(path, like.net)

    @property
    def parts(self) -> Sequence[Part]:
        return tuple(self._index.parts)

    @property
    def n_examples(self) -> int:
        """N, the number of examples in all parts."""
        return self._index.n_examples

    def append(self, modes: Modes) -> None:
        """Add the modes of the next examples as a part.

        Raises:
            OSError: it cannot be written; the table is as it was.
            TypeError, ValueError: modes that do not fit, or were not all kept; a table that another
                process has changed.
        """
        if not isinstance(modes, Modes):
            raise TypeError(f"modes must be Modes, got {type(modes).__name__}")
        with only_writer(self.path):
            self._append([(modes, None)])

    def _append(self, pieces: Iterable[tuple[Modes, str | None]]) -> None:
        """Modes, and what is known of their data. They count when all are written."""
        if Index.read(self.path) != self._index:
            raise ValueError(f"{self.path} was changed since it was opened; open it again")
        table, parts = self.empty_table(), list(self.parts)
        for modes, seen in pieces:
            if modes.examples == 0:
                continue
            if modes.undercount > 0 or len(modes) == 0:
                raise ValueError("modes must be all modes, got only the heaviest")
            table.check_modes(modes)
            tensors = {name: getattr(modes, name) for name in ("signatures", "counts", "first")}
            data = save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
            part = Part(
                file=part_name(len(parts)),
                sha256=hashlib.sha256(data).hexdigest(),
                examples=int(modes.examples),
                modes=len(modes),
                data=seen,
            )
            write_file(self.path / part.file, data)
            parts.append(part)
        if len(parts) > len(self.parts):
            index = replace(self._index, parts=parts)
            index.write(self.path)
            self._index = index

    def empty_table(self) -> SplinterTable:
        """A table of the same network, sites and directions.

        Raises:
            ValueError: damaged files.
        """
        net = self._network()
        if net.fingerprint != self._index.fingerprint:
            raise ValueError(
                f"{self.path} must hold the network that table.json names, got another one"
            )
        directions = None
        if self._index.directions is not None:
            path = self.path / _DIRECTIONS
            data = read_checked(path, self._index.directions)
            directions = tensors_of(path, data)["directions"]
        return SplinterTable(net, self._index.source, self._index.target, directions)

    def _network(self) -> Network:
        index = self._index
        if index.bits is not None and index.names is not None:
            dtype = getattr(torch, index.dtype)
            return self._net or Outline(
                index.widths, index.bits, index.names, dtype, index.fingerprint
            )
        path = self.path / _NETWORK
        try:
            return ReluNetwork.load(path)
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error

    def modes(self, part: Part) -> Modes:
        """Read a part.

        Raises:
            ValueError: it is damaged or missing.
        """
        path = self.path / part.file
        tensors = tensors_of(path, read_checked(path, part.sha256))
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

    def check(self) -> None:
        """Raise ValueError unless every file is there and as it was written."""
        self.empty_table()
        for part in self.parts:
            read_checked(self.path / part.file, part.sha256)

    def table(self) -> SplinterTable:
        """The table of all parts.

        Raises:
            ValueError: damaged files.
        """
        table = self.empty_table()
        for part in self.parts:
            table.add(self.modes(part))
        return table


def merge(paths: Sequence[str | Path], out: str | Path) -> Store:
    """The tables of several folders as one, whose examples follow each other in this order.

    Only signatures and counts are read.

    Raises:
        TypeError: not a sequence of paths.
        ValueError: no folder, or one twice; folders of different networks, sites or directions,
            damaged ones; something at `out` already, or `out` within one of them.
    """
    if isinstance(paths, str | Path):
        raise TypeError(f"paths must be a list of folders, got the one path {paths}")
    stores = [Store(check_path(path, "paths")) for path in paths]
    if not stores:
        raise ValueError("paths must hold at least one folder, got none")
    out = check_path(out, "out")
    folders = [store.path.resolve() for store in stores]
    for i, folder in enumerate(folders):
        if folder in folders[:i]:
            raise ValueError(f"paths must be different folders, got {paths[i]} twice")
        if out.resolve().is_relative_to(folder):
            raise ValueError(f"out must not be within one of the folders, got {out}")
    like = stores[0].empty_table()
    for store in stores[1:]:
        like.check_alike(store.empty_table(), str(store.path))
    if out.exists():
        raise ValueError(f"out must be a new folder, got {out}, which exists")
    with new_folder(out) as folder:
        merged = Store.create(folder, like)
        merged._append((store.modes(part), part.data) for store in stores for part in store.parts)
    return Store(out)


def _files_of(table: SplinterTable) -> dict[str, bytes]:
    """The files that tell what a table is of, by their names."""
    files = {_NETWORK: table.net.to_bytes()} if isinstance(table.net, ReluNetwork) else {}
    own = torch.eye(table.net.widths[table.target], dtype=table.net.dtype)
    directions = table.directions.cpu()
    if not torch.equal(directions, own):
        files[_DIRECTIONS] = save_tensors({"directions": directions.contiguous()})
    return files
