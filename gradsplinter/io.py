"""Results on disk: whole folders or nothing, plain formats, never pickle."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends without an error.

    A crash or Ctrl-C leaves what was there. Files and folders in `path` whose names the block did not
    write stay, too. The folder is made at once, so that a place that cannot be written to is refused
    before any work.

    Raises:
        ValueError: `path` is a file, or its folder cannot be written to.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise ValueError(f"out must be a folder, got the file {path}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise ValueError(
            f"out must be a folder that can be written, got {path}: {error}"
        ) from error
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _replace(path, temporary)  # if this fails, the results are not lost


def _replace(path: Path, by: Path) -> None:
    if not path.exists():
        by.rename(path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        path.rename(old)
    except OSError:  # a mount point cannot be renamed
        _move_into(path, by)
        return
    try:
        by.rename(path)
    except BaseException:
        old.rename(path)
        raise
    for entry in old.iterdir():
        if not (path / entry.name).exists():
            entry.rename(path / entry.name)
    shutil.rmtree(old)


def _move_into(path: Path, by: Path) -> None:
    """Replace the entries of `path` one by one."""
    for entry in sorted(by.iterdir()):
        place = path / entry.name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        shutil.move(entry, place)
    by.rmdir()


class SafetensorsRows:
    """The only tensor of a safetensors file, read a slice of rows at a time."""

    def __init__(self, path: Path) -> None:
        try:
            file: Any = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"x must be a safetensors file, got {path}: {error}") from error
        names = list(file.keys())
        if len(names) != 1:
            raise ValueError(
                f"x must be a safetensors file of one tensor, got {path} with {len(names)}"
            )
        self._rows = file.get_slice(names[0])
        self.shape = tuple(self._rows.get_shape())

    def __getitem__(self, rows: slice) -> Tensor:
        tensor: Tensor = self._rows[rows]
        return tensor


def open_arrays(path: Path) -> Iterator[NDArray[Any] | SafetensorsRows]:
    """The arrays of a .npy or .safetensors file, or of a folder of them, without reading them.

    Raises:
        ValueError: no such file, or of another kind; a folder without one.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in _READERS)
        if not files:
            raise ValueError(f"x must be a folder of .npy or .safetensors files, got {path}")
    elif path.suffix in _READERS:
        files = [path]
    else:
        raise ValueError(f"x must be a .npy or .safetensors file, or a folder of them, got {path}")
    for file in files:
        yield _READERS[file.suffix](file)


def _open_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"x must be a .npy file of numbers, got {path}: {error}") from error
    return array


_READERS: dict[str, Callable[[Path], NDArray[Any] | SafetensorsRows]] = {
    ".npy": _open_npy,
    ".safetensors": SafetensorsRows,
}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """
    Raises:
        ValueError: the file is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):  # what a file holds is a value, whatever its type
        raise ValueError(  # noqa: TRY004
            f"{path} must hold a JSON object, got {type(value).__name__}"
        )
    return value


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One line per row; the first row's keys are the header. None is an empty field."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
