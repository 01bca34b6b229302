"""Images with labels on disk, as MNIST and Fashion-MNIST come: IDX files, and `.npz` archives of all parts.

Whatever a file says of its own size is checked before that much is read.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""By part: images and labels."""
SIDE = 28
N_CLASSES = 10
AT_ONCE = 2**24

Bytes = NDArray[np.uint8]


def find(
    folder: Path, name: str, part: str, sha256: Mapping[str, str] | None = None
) -> tuple[Bytes, Bytes] | None:
    """Images `[N, 28, 28]` and labels `[N]` of a part, from IDX files or else from `name`.npz.

    Args:
        sha256: of what is in each IDX file; an archive is then not looked for.

    Returns:
        None where the folder does not have them.

    Raises:
        ValueError: a file that is damaged, holds something else or has another checksum.
    """
    paths = [_idx_path(folder, file) for file in IDX_FILES[part]]
    if paths[0] and paths[1]:
        sums = [None if sha256 is None else sha256[file] for file in IDX_FILES[part]]
        images = read_idx(paths[0], (SIDE, SIDE), sums[0])
        labels = read_idx(paths[1], (), sums[1])
        return _checked(images, labels, str(paths[1]))
    archive = folder / f"{name}.npz"
    if sha256 is None and archive.is_file():
        return _from_npz(archive, part)
    return None


def _idx_path(folder: Path, file: str) -> Path | None:
    """Some copies are called train-images.idx3-ubyte."""
    stems = (file, file.replace("-idx", ".idx"))
    paths = [folder / f"{stem}{end}" for stem in stems for end in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def read_idx(path: Path, shape: tuple[int, ...], sha256: str | None = None) -> Bytes:
    """Bytes `[N, *shape]` of an IDX file, gzipped or not: rank and sizes in big-endian words, then values.

    Raises:
        ValueError: as `find`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header, values = _read_idx(file, path, shape)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} must be a whole gzip file: {error}") from error
    if sha256 is not None:
        found = hashlib.sha256(header)
        found.update(values)
        if found.hexdigest() != sha256:
            raise ValueError(f"{path} must be the published file, got another one by its SHA-256")
    return np.frombuffer(values, np.uint8).reshape(-1, *shape)


def _read_idx(
    file: IO[bytes] | gzip.GzipFile, path: Path, shape: tuple[int, ...]
) -> tuple[bytes, bytearray]:
    rank = 1 + len(shape)
    header = file.read(4 + 4 * rank)
    if len(header) < 4 + 4 * rank or header[:4] != bytes([0, 0, 8, rank]):
        gzipped = f"; it is gzipped, name it {path.name}.gz" * header.startswith(b"\x1f\x8b")
        raise ValueError(
            f"{path} must be an IDX file of bytes with {rank} dimension{'s' * (rank > 1)}, "
            f"got one that begins with {header[:4].hex(' ')}{gzipped}"
        )
    count, *sizes = np.frombuffer(header, ">u4", offset=4).tolist()
    if tuple(sizes) != shape:
        raise ValueError(f"{path} must hold images of {shape}, got {tuple(sizes)}")
    wanted = count * math.prod(shape)
    values = _read_at_most(file, wanted + 1)
    if len(values) != wanted:
        raise ValueError(f"{path} must hold {_as_said(wanted, len(values))}")
    return header, values


def _from_npz(path: Path, part: str) -> tuple[Bytes, Bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            images, labels = (_read_npy(archive, f"{axis}_{part}") for axis in "xy")
            return _checked(images, labels, str(path))
    except _DAMAGED as error:
        raise ValueError(f"{path} must be an archive of x_{part} and y_{part}: {error}") from error
    except MemoryError as error:
        raise ValueError(f"{path} must fit into memory, which it does not") from error


_DAMAGED = (
    OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    RuntimeError,  # where it is encrypted or compressed in an unknown way
)  # fmt: skip


def _read_npy(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array of numbers, if it has the size that its header says."""
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"no array {name}")
    with archive.open(f"{name}.npy") as file:
        shape, by_columns, dtype = _npy_header(file, name)
        if dtype.kind not in "biuf":
            raise ValueError(f"{name} must hold numbers, got {dtype}")
        if any(size < 0 for size in shape):
            raise ValueError(f"{name} must have sizes of 0 or more, got {list(shape)}")
        wanted = math.prod(shape) * dtype.itemsize
        values = _read_at_most(file, wanted + 1)
    if len(values) != wanted:
        raise ValueError(f"{name} must hold {_as_said(wanted, len(values))}")
    flat = np.frombuffer(values, dtype)
    return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)


def _npy_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first axis changes fastest, and dtype."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(file)
    except (ValueError, TypeError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        # Not NumPy's words, which advise to trust the file.
        raise ValueError(f"{name} must begin with the header of a NumPy array") from error
    raise ValueError(f"{name} must be of NumPy's format 1.0 or 2.0, got {version}")


def _read_at_most(file: IO[bytes] | gzip.GzipFile, count: int) -> bytearray:
    """Piece by piece, so that memory is taken for what is there alone."""
    values = bytearray()
    while some := file.read(min(AT_ONCE, count - len(values))):
        values += some
    return values


def _as_said(wanted: int, found: int) -> str:
    """Of a file whose header says another size than it has."""
    got = "more" if found > wanted else f"{found:,}"
    return f"{wanted:,} bytes after its header, as that says, got {got}"


def _checked(images: NDArray[Any], labels: NDArray[Any], name: str) -> tuple[Bytes, Bytes]:
    if images.dtype != np.uint8 or images.shape[1:] not in ((SIDE, SIDE), (SIDE * SIDE,)):
        raise ValueError(
            f"images must be uint8 [N, {SIDE}, {SIDE}], got {images.dtype} {list(images.shape)}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{name} must hold an integer label for each of {len(images):,} images, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < N_CLASSES:
        raise ValueError(
            f"{name} must hold labels in 0..{N_CLASSES - 1}, got {labels.min()}..{labels.max()}"
        )
    return images.reshape(-1, SIDE, SIDE), labels.astype(np.uint8)
