"""Images with labels on disk, as MNIST and Fashion-MNIST come: IDX files, and `.npz` archives of all parts.

Whatever a file says of its own size is checked before that much is read.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

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
    file: BinaryIO | gzip.GzipFile, path: Path, shape: tuple[int, ...]
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
    values = bytearray()
    while len(values) <= wanted and (some := file.read(min(AT_ONCE, wanted + 1 - len(values)))):
        values += some
    if len(values) != wanted:
        got = "more" if len(values) > wanted else f"{len(values):,}"
        raise ValueError(
            f"{path} must hold {wanted:,} bytes after its header, as that says, got {got}"
        )
    return header, values


def _from_npz(path: Path, part: str) -> tuple[Bytes, Bytes]:
    try:
        with path.open("rb") as file, np.load(file) as archive:
            missing = [key for key in (f"x_{part}", f"y_{part}") if key not in archive]
            if missing:
                raise ValueError(f"no array {missing[0]}")
            return _checked(archive[f"x_{part}"], archive[f"y_{part}"], str(path))
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} must be an archive of x_{part} and y_{part}: {error}") from error


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
