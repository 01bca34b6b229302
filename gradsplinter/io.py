"""Results on disk: whole folders or nothing, plain formats, never pickle."""

from __future__ import annotations

import csv
import fcntl
import glob
import json
import mmap
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

_PICKLED = {b"PK", *(bytes([0x80, protocol]) for protocol in range(2, 6))}
"""How files of torch.save (archives with a pickle in them) and pickles begin."""


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
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(ValueError), only_writer(left):  # by a process that was killed
            shutil.rmtree(left)
    temporary = _beside(path, "tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise ValueError(
            f"out must be a folder that can be written, got {path}: {error}"
        ) from error
    with only_writer(temporary):
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
    old = _beside(path, "old")
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


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold a lock on a folder; it ends with the process, however that ends.

    A folder that is not there is made, and removed if nothing was written.

    Raises:
        ValueError: another one writes there, or it is no folder, or cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"path must be a new or empty folder, got {path}")
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ValueError(
            f"path must be a folder that can be written, got {path}: {error}"
        ) from error
    try:
        if not os.access(path, os.W_OK | os.X_OK):
            raise ValueError(f"path must be a folder that can be written, got {path}")
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"path must be a folder that nobody else writes to, got {path}"
            ) from None
        except OSError:  # of a file system without locks
            pass
        yield
        new = False
    finally:
        if new:
            with suppress(OSError):  # it holds something
                path.rmdir()
        # Closing is not enough: forked workers of a DataLoader have it open, too.
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_UN)
        os.close(folder)


def write_file(path: Path, data: bytes) -> None:
    """All or nothing, also where the machine crashes: written elsewhere, flushed, renamed."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        _write_flushed(temporary, data)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def write_files(files: Mapping[Path, bytes]) -> None:
    """All of them or none: after an error or Ctrl-C each path is as it was.

    Where the machine crashes, every path has its old content or its new one, whole.
    """
    with ExitStack() as clean, ExitStack() as undo:
        written = {}
        for path, data in files.items():
            written[path] = _beside(path, "tmp")
            clean.callback(written[path].unlink, missing_ok=True)
            _write_flushed(written[path], data)
        for path, temporary in written.items():
            if os.path.lexists(path):
                old = _beside(path, "old")
                clean.callback(old.unlink, missing_ok=True)
                shutil.copy2(path, old, follow_symlinks=False)
                undo.callback(old.rename, path)
            else:
                undo.callback(path.unlink, missing_ok=True)
            temporary.rename(path)
        for folder in {path.parent for path in files}:
            _flush_folder(folder)
        undo.pop_all()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{suffix}")


def _write_flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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


def why_pickled(path: str | Path, instead: str = "") -> str:
    """Why a file that is no safetensors file is not opened, if it is a pickle; and what to do instead."""
    with suppress(OSError), Path(path).open("rb") as file:
        if file.read(2) in _PICKLED:
            return (
                ", a file of torch.save or a pickle. These are never opened, since they can run any code"
                + (f". {instead}" if instead else "")
            )
    return ""


def how_to_convert(save: str) -> str:
    """A pickled state_dict; `save` is what writes the new file."""
    return (
        f"Convert it once: module.load_state_dict(torch.load(path, weights_only=True)), then {save}"
    )


def read_safetensors(path: str | Path, name: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no safetensors file; `name` is what the caller calls the path.
    """
    try:
        file: Any
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        reason = why_pickled(path) or f": {error}"
        raise ValueError(f"{name} must be a safetensors file, got {path}{reason}") from error


def open_arrays(path: Path) -> Iterator[tuple[Path, NDArray[Any] | SafetensorsRows]]:
    """The arrays of a .npy or .safetensors file, or of a folder of them, without reading them.

    Raises:
        ValueError: no such file, or of another kind; a folder without one.
    """
    if path.is_dir():
        visible = (p for p in path.iterdir() if not p.name.startswith("."))
        files = sorted(p for p in visible if p.suffix.lower() in _READERS and p.is_file())
        if not files:
            raise ValueError(f"x must be a folder of .npy or .safetensors files, got {path}")
    elif path.suffix.lower() in _READERS:
        files = [path]
    else:
        raise ValueError(f"x must be a .npy or .safetensors file, or a folder of them, got {path}")
    for file in files:
        yield file, _READERS[file.suffix.lower()](file)


def _open_npy(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # EOFError, OverflowError and others where the file is damaged
        # NumPy's advice to allow pickled objects is none that one should follow.
        reason = "" if "pickle" in str(error) else f": {error}"
        raise ValueError(f"x must be a .npy file of numbers, got {path}{reason}") from error
    if not isinstance(array, np.ndarray):  # np.load takes archives under any name
        raise ValueError(  # noqa: TRY004 (what a file holds is a value, whatever its type)
            f"x must be a .npy file of numbers, got {path}, which holds a {type(array).__name__}"
        )
    return array


_READERS: dict[str, Callable[[Path], NDArray[Any] | SafetensorsRows]] = {
    ".npy": _open_npy,
    ".safetensors": SafetensorsRows,
}


class NpyColumn:
    """A new .npy file of int64 `[N]` that grows. It can be read at any time.

    The header says how many numbers count, and is written after them: a process that is killed leaves
    the file as it was before, perhaps with bytes after its end.

    Raises:
        ValueError: not a new .npy file.
    """

    def __init__(self, path: str | Path, name: str) -> None:
        self._path = Path(path).absolute()
        self._name = name
        self._made = False
        if self._path.suffix != ".npy":
            raise ValueError(f"{name} must be the path of a .npy file, got {path}")
        if os.path.lexists(self._path):
            raise self._exists()
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise ValueError(f"{name} must be in a folder that can be written, got {path}")

    def _exists(self) -> ValueError:
        return ValueError(f"{self._name} must be a new file, got {self._path}, which exists")

    def reserve(self, begin: int, count: int) -> None:
        """Make room on the disk for numbers `begin`..`begin + count - 1`."""
        if not self._made:
            try:
                self._path.touch(exist_ok=False)
            except FileExistsError:
                if self._path.lstat().st_size > 0:  # an empty one: made here, and interrupted
                    raise self._exists() from None
            self._made = True
        with self._path.open("r+b") as file:
            if begin == 0:
                file.write(_npy_header(0))
                file.flush()
            _allocate(file.fileno(), _NPY_HEADER + 8 * begin, 8 * count, self._path)

    def write(self, begin: int, index: Tensor, numbers: Tensor | None) -> None:
        """Write `index`, or `numbers[index]`, from number `begin` on, where the file then ends."""
        with self._path.open("r+b") as file:
            file.seek(_NPY_HEADER + 8 * begin)
            for part in index.split(2**20):
                file.write((part if numbers is None else numbers[part]).cpu().numpy().data)
            file.flush()
            file.seek(0)
            file.write(_npy_header(begin + len(index)))

    def read(self, count: int, copy: bool) -> Tensor:  # noqa: ARG002 (a mapping of its own)
        """The first `count` numbers, mapped; changes to the tensor do not reach the file."""
        if count == 0:
            return torch.empty(0, dtype=torch.int64)
        with self._path.open("rb") as file:
            size = _NPY_HEADER + 8 * count
            pages = mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE | _MAP_NORESERVE)
        return torch.frombuffer(pages, dtype=torch.int64, count=count, offset=_NPY_HEADER)


_NPY_HEADER = 128  # bytes
_MAP_NORESERVE = 0x4000  # in Linux: the file may be larger than the memory


def _allocate(file: int, begin: int, size: int, path: Path) -> None:
    if not hasattr(os, "posix_fallocate"):  # there `write` finds out, which can be repeated
        return
    try:
        os.posix_fallocate(file, begin, size)
    except OSError as error:  # which knows no name
        raise OSError(error.errno, error.strerror, str(path)) from None


def _npy_header(count: int) -> bytes:
    descr = np.dtype(np.int64).str
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({count},), }}"
    size = _NPY_HEADER - 10
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + f"{text:<{size - 1}}\n".encode()


def json_object(text: str) -> dict[str, Any]:
    """What a text holds as JSON; of anything but an object, {}."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


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
