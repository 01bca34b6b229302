"""Data of any kind and size → tensors `[n, h_0]` in a network's dtype, a bounded number of rows each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradsplinter import io

Data = Tensor | NDArray[Any] | str | Path | Iterable[Any]
"""What `batches` takes."""

ROWS = {"cpu": 2**20, "cuda": 2**24}
"""Most examples in a batch of data that is in the memory of such a device."""
BYTES = 2**26
"""Most bytes in a batch that is read from a file or a memory map."""

# Every one of their values is a float32.
_EXACT_IN_FLOAT32 = (torch.float16, torch.bfloat16)


@runtime_checkable
class Rows(Protocol):
    """An array that gives some of its rows when it is sliced: a tensor, an array, a part of a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: slice, /) -> Any: ...


def batches(
    x: Data, dtype: torch.dtype, divisor: float | None = None, *, skip: int = 0
) -> Iterator[Tensor]:
    """The examples of `x` in order, a bounded number of them at a time.

    Args:
        x: one of

            - a tensor or array `[N, h_0]`, a memory map too;
            - the path of a `.npy` or `.safetensors` file, or of a folder of such files, which are
              taken in the order of their names;
            - an iterable, for example a `DataLoader`, of tensors, arrays or paths. Of a batch that
              is a tuple or a list, as (x, label), the first entry is taken.
        dtype: of the network. float16 and bfloat16 are widened, which is exact; other floats must
            have this dtype.
        divisor: integer data is turned into `dtype` and divided by it (255 for images of bytes, 1
            for none). It must be given for integers, and only for them.
        skip: leave out so many examples from the start.

    Raises:
        TypeError: data of another type or dtype, integers without a divisor.
        ValueError: an array without two dimensions, a file that cannot be read.

    Examples:
        >>> images = [np.array([[0, 255]], dtype=np.uint8), torch.tensor([[51, 102]])]
        >>> list(batches(images, torch.float32, divisor=255))
        [tensor([[0., 1.]]), tensor([[0.2000, 0.4000]])]
    """
    if divisor is not None:
        divisor = _check_divisor(divisor, dtype)
    for rows in _arrays(x, "x"):
        if isinstance(rows, Tensor) and rows.layout != torch.strided:
            raise TypeError(f"x must be a dense tensor, got layout {rows.layout}")
        if len(rows.shape) != 2:
            raise ValueError(
                f"x must have 2 dimensions, got {len(rows.shape)} (shape {list(rows.shape)})"
            )
        count = rows.shape[0]
        begin = min(skip, count)
        skip -= begin
        step = _batch_rows(rows)
        for at in range(begin, max(count, begin + 1), step):  # once where there are none, to check
            yield _converted(rows[at : at + step], dtype, divisor)


def count_examples(x: Data) -> int | None:
    """How many examples `x` holds, where that can be told without reading it.

    Examples:
        >>> count_examples(np.zeros((5, 2))), count_examples(iter([]))
        (5, None)
    """
    if isinstance(x, Tensor | np.ndarray | str | Path):
        return sum(rows.shape[0] for rows in _arrays(x, "x") if rows.shape)
    return None


def _arrays(x: object, name: str) -> Iterator[Rows]:
    """`x` as arrays whose rows are examples; paths are opened, iterables walked through."""
    if isinstance(x, str | Path):
        yield from io.open_arrays(Path(x))
    elif isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array without a mask, got a masked array; fill it")
    elif isinstance(x, Tensor | np.ndarray):
        yield x
    elif isinstance(x, Iterable):
        for i, batch in enumerate(x):
            if isinstance(batch, tuple | list) and batch:
                yield from _arrays(batch[0], f"{name}[{i}][0]")
            else:
                yield from _arrays(batch, f"{name}[{i}]")
    else:
        raise TypeError(
            f"{name} must be a tensor, an array, a path or an iterable of these, "
            f"got {type(x).__name__}"
        )


def rows_at_once(device: torch.device) -> int:
    """Most examples that are worked on at once there."""
    return ROWS.get(device.type, ROWS["cpu"])


def _batch_rows(rows: Rows) -> int:
    # Integers are copied to floats, and files into memory: not too much at a time.
    if isinstance(rows, Tensor) and rows.dtype.is_floating_point:
        return rows_at_once(rows.device)
    most = ROWS["cpu"]
    if isinstance(rows, np.ndarray) and rows.dtype.kind == "f" and not _is_mapped(rows):
        return most
    entries = int(np.prod(rows.shape[1:], dtype=np.int64))
    return max(1, min(most, BYTES // max(1, 8 * entries)))


def _is_mapped(array: NDArray[Any]) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _converted(values: object, dtype: torch.dtype, divisor: float | None) -> Tensor:
    tensor = values if isinstance(values, Tensor) else _tensor_of(values)
    if not tensor.dtype.is_floating_point and not tensor.dtype.is_complex:
        if divisor is None:
            raise TypeError(
                f"x must be {_name(dtype)} like the network, got {_name(tensor.dtype)}; "
                "for integers say what to divide them by, e.g. divisor=255"
            )
        most = 1 if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max
        if most / torch.finfo(dtype).max >= divisor:
            raise ValueError(
                f"divisor must be more than {most / torch.finfo(dtype).max:.3g}, so that every "
                f"{_name(tensor.dtype)} stays finite as {_name(dtype)}, got {divisor}"
            )
        return tensor.to(dtype).div_(divisor)
    if divisor is not None:
        raise TypeError(f"divisor must be None, since x is {_name(tensor.dtype)} and not integer")
    if tensor.dtype in _EXACT_IN_FLOAT32:
        tensor = tensor.to(dtype)
    return tensor


def _tensor_of(values: object) -> Tensor:
    array = np.asarray(values)
    if array.dtype == object or array.dtype.kind not in "biuf":
        raise TypeError(f"x must hold numbers, got an array of {array.dtype}")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    # A copy only where torch could not take the array: read-only, or with strides it does not have.
    return torch.from_numpy(np.require(array, requirements=["C", "A", "W"]))


def _check_divisor(divisor: object, dtype: torch.dtype) -> float:
    if isinstance(divisor, bool) or not isinstance(divisor, Real):
        raise TypeError(f"divisor must be a number, got {type(divisor).__name__}")
    try:
        value = float(divisor)
    except OverflowError:
        value = math.inf
    limits = torch.finfo(dtype)
    if not limits.tiny <= value <= limits.max:
        raise ValueError(
            f"divisor must be a number from {limits.tiny:.3g} to {limits.max:.3g}, as {_name(dtype)} "
            f"has them, got {divisor}"
        )
    return value


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
