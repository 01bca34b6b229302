"""Data of any kind and size → tensors `[n, h_0]` in a network's dtype, a bounded number of rows each."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradsplinter import io
from gradsplinter.wording import other_float

Data = Tensor | NDArray[Any] | str | Path | Iterable[Any]
"""What `batches` takes."""

MOST_ROWS = {"cpu": 2**20, "cuda": 2**24}
"""Most examples in a batch of data that is in the memory of such a device."""
MOST_BYTES = 2**26
"""Most bytes in a batch that is read from a file or a memory map."""

# Every one of their values is a float32.
_EXACT_IN_FLOAT32 = (torch.float16, torch.bfloat16)


@runtime_checkable
class Sliceable(Protocol):
    """What gives some of its rows when it is sliced: a tensor, an array, a data frame, a part of a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: slice, /) -> Any: ...


def batches(
    x: Data,
    dtype: torch.dtype,
    divisor: float | None = None,
    *,
    skip: int = 0,
    width: int | None = None,
) -> Iterator[Tensor]:
    """The examples of `x` in order, a bounded number of them at a time.

    Args:
        x: one of

            - a tensor or array `[N, h_0]` (more dimensions are flattened: images), a memory map too, or anything else with a shape whose rows
              can be sliced (of h5py, zarr, pandas, polars);
            - the path of a `.npy` or `.safetensors` file, or of a folder, whose files of these kinds
              are taken in the order of their names as strings (`10.npy` before `2.npy`); hidden ones,
              other files and folders in it are left out. Files must not change while they are read:
              one that is cut short then ends the process (SIGBUS), as with any memory map;
            - an iterable, for example a `DataLoader` or `x.split(1000)`, of tensors, arrays or
              paths. Of a batch that is a tuple or a list, as (x, label), the first entry is taken;
              `x` itself must be the data alone.
        dtype: of the network. float16 and bfloat16 are widened, which is exact; other floats must
            have this dtype.
        divisor: integer data is turned into `dtype` and divided by it (255 for images of bytes, 1
            for none). It must be given for integers, and only for them.
        skip: leave out so many examples from the start.
        width: h_0 of the network, which all must have; the message names the file or the batch that
            has another. None takes all.

    Raises:
        TypeError: data of another type or dtype, integers without a divisor.
        ValueError: an array without two dimensions or of another width, a file that cannot be read,
            fewer examples than are to be left out.

    Examples:
        >>> images = [np.array([[0, 255]], dtype=np.uint8), torch.tensor([[51, 102]])]
        >>> list(batches(images, torch.float32, divisor=255))
        [tensor([[0., 1.]]), tensor([[0.2000, 0.4000]])]
    """
    return spans(x, dtype, divisor, [(skip, None)], width)


def spans(
    x: Data,
    dtype: torch.dtype,
    divisor: float | None,
    wanted: Sequence[tuple[int, int | None]],
    width: int | None = None,
) -> Iterator[Tensor]:
    """As `batches`, of the examples begin..end - 1 for each (begin, end) in ascending order only.

    An end of None is that of the data. Each span has batches of its own; those of arrays without
    rows are empty.
    """
    if divisor is not None:
        divisor = check_divisor(divisor, dtype)
    left = deque(wanted)
    position = 0  # of the first row of an array in the whole data
    for rows, name in _arrays(x, "x"):
        _check_rows(rows, name, width)
        count = rows.shape[0]
        if count == 0:
            yield _converted(rows[:0], name, dtype, divisor)
        step = _batch_rows(rows)
        while left and left[0][0] < position + count:
            begin, end = left.popleft()
            stop = position + count if end is None else min(end, position + count)
            for at in range(begin - position, stop - position, step):
                some = rows[at : min(at + step, stop - position)]
                yield _converted(some, name, dtype, divisor)
            if stop != end:
                left.appendleft((stop, end))
                break
        position += count
    if left and left[-1] != (position, None):
        raise ValueError(
            f"x must hold at least the {left[-1][1] or left[-1][0]:,} examples that are to be left "
            f"out, got {position:,}"
        )


def shape_of(x: Data) -> tuple[int, ...] | None:
    """Of one example, where arrays have more than two dimensions: by the first file or batch of several.

    Of an iterator it cannot be told, since that would take a batch of it.

    Examples:
        >>> shape_of(np.zeros((5, 1, 28, 28))), shape_of(np.zeros((5, 784)))
        ((1, 28, 28), None)
        >>> shape_of([(np.zeros((5, 1, 28, 28)), np.zeros(5))])
        (1, 28, 28)
    """
    if isinstance(x, str | Path):
        return next((shape_of(rows) for _, rows in io.open_arrays(Path(x))), None)  # type: ignore[arg-type]
    if isinstance(x, list | tuple):
        return shape_of(x[0]) if x else None
    if isinstance(x, Tensor) and x.is_nested:  # has none; refused when it is read
        return None
    shape = getattr(x, "shape", ())
    return tuple(shape[1:]) if len(shape) > 2 else None


def count_examples(x: Data) -> int | None:
    """How many examples `x` holds, where that can be told without reading it.

    Examples:
        >>> count_examples(np.zeros((5, 2))), count_examples(iter([]))
        (5, None)
    """
    if isinstance(x, Sliceable | str | Path):
        return sum(rows.shape[0] for rows, _ in _arrays(x, "x") if rows.shape)
    return None


def _arrays(x: object, name: str) -> Iterator[tuple[Sliceable, str]]:
    """`x` as arrays whose rows are examples, with the name of each for messages.

    Paths are opened, iterables walked through.
    """
    if isinstance(x, str | Path):
        for file, array in io.open_arrays(Path(x)):
            yield array, f"{name} in {file}"
    elif isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array without a mask, got a masked array; fill it")
    elif isinstance(x, Tensor | Sliceable):  # a tensor of nested ones has no shape
        yield x, name
    elif isinstance(x, Iterable) and not isinstance(x, Mapping):
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


def _check_rows(rows: Sliceable, name: str, width: int | None) -> None:
    if isinstance(rows, Tensor):
        if rows.is_nested or rows.layout != torch.strided:
            raise TypeError(
                f"{name} must be a dense tensor, got "
                + ("a nested one" if rows.is_nested else f"layout {rows.layout}")
            )
        if rows.is_quantized:
            raise TypeError(f"{name} must be a tensor of numbers, got a quantized one")
    if len(rows.shape) < 2:
        raise ValueError(
            f"{name} must have 2 dimensions, got {len(rows.shape)} (shape {list(rows.shape)})"
        )
    found = math.prod(rows.shape[1:])
    if width is not None and found != width:
        raise ValueError(
            f"{name} must have shape [N, {width}] to match the network's input, "
            f"got {list(rows.shape)}"
        )


def rows_at_once(device: torch.device) -> int:
    """Most examples that are worked on at once there."""
    return MOST_ROWS.get(device.type, MOST_ROWS["cpu"])


def _batch_rows(rows: Sliceable) -> int:
    # Integers are copied to floats, and files into memory: not too much at a time.
    if isinstance(rows, Tensor) and rows.dtype.is_floating_point:
        return rows_at_once(rows.device)
    most = MOST_ROWS["cpu"]
    if isinstance(rows, np.ndarray) and rows.dtype.kind == "f" and not _is_mapped(rows):
        return most
    entries = int(np.prod(rows.shape[1:], dtype=np.int64))
    return max(1, min(most, MOST_BYTES // max(1, 8 * entries)))


def _is_mapped(array: NDArray[Any]) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _converted(values: object, name: str, dtype: torch.dtype, divisor: float | None) -> Tensor:
    tensor = values if isinstance(values, Tensor) else _tensor_of(values, name)
    tensor = tensor.flatten(1)
    if not tensor.dtype.is_floating_point and not tensor.dtype.is_complex:
        if divisor is None:
            raise TypeError(
                f"{name} must be {_name(dtype)} like the network, got {_name(tensor.dtype)}; "
                "for integers say what to divide them by, e.g. divisor=255 (--divisor 255)"
            )
        most = 1
        if tensor.dtype != torch.bool:
            limits = torch.iinfo(tensor.dtype)
            most = max(limits.max, -limits.min)
        if most / torch.finfo(dtype).max >= divisor:
            raise ValueError(
                f"divisor must be more than {most / torch.finfo(dtype).max:.3g}, so that every "
                f"{_name(tensor.dtype)} stays finite as {_name(dtype)}, got {divisor}"
            )
        return tensor.to(dtype).div_(divisor)
    if divisor is not None:
        raise TypeError(
            f"divisor must be None, since {name} is {_name(tensor.dtype)} and not integer"
        )
    if tensor.dtype in _EXACT_IN_FLOAT32:
        tensor = tensor.to(dtype)
    if tensor.dtype != dtype:
        names = _name(dtype), _name(tensor.dtype)
        raise TypeError(
            f"{name} must be {names[0]} like the network, got {names[1]}{other_float(name, *names)}"
        )
    return tensor


def _tensor_of(values: object, name: str) -> Tensor:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must hold numbers of at most 64 bits, got an array of {array.dtype}"
        )
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    # A copy only where torch could not take the array: read-only, or with strides it does not have.
    return torch.from_numpy(np.require(array, requirements=["C", "A", "W"]))


def check_divisor(divisor: object, dtype: torch.dtype) -> float:
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
