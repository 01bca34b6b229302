"""Checks of arguments, made where Python is entered; messages name the argument and what came."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gradsplinter.wording import counted, other_float

# What a network computes in: the numeric contract holds for these.
DTYPES = (torch.float32, torch.float64)
SHORTEST = 1e-150
"""Of vectors whose lengths are computed: the squares of shorter ones vanish in float64."""


def check_tensor(
    value: object, name: str, rank: int, dtypes: tuple[torch.dtype, ...], like: str = ""
) -> None:
    """Raise unless `value` is a dense tensor of this rank and one of these dtypes, `like` whose."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")
    if value.dtype not in dtypes:
        expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        got = str(value.dtype).removeprefix("torch.")
        remedy = other_float(name, expected, got) if like else ""
        raise TypeError(f"{name} must be {expected}{like}, got {got}{remedy}")
    if value.dim() != rank:
        raise ValueError(
            f"{name} must have {rank} dimension{'s' * (rank > 1)}, "
            f"got {value.dim()} (shape {list(value.shape)})"
        )


def check_finite(tensor: Tensor, name: str) -> None:
    """Raise ValueError with the number of values that are not finite and where the first one is.

    On a GPU this waits for the values, and so is left out while a CUDA graph is captured.
    """
    if tensor.is_meta or (tensor.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    # A sum is finite only if every term is; it costs a third of isfinite().all().
    if math.isfinite(tensor.detach().sum()):
        return
    bad = ~torch.isfinite(tensor.detach())
    count = int(bad.sum())
    if count:
        first = bad.nonzero()[0].tolist()
        value = tensor[tuple(first)].item()
        raise ValueError(
            f"{name} must be finite, got {count} value{'s' if count > 1 else ''} "
            f"that {'are' if count > 1 else 'is'} not (the first at {first}: {value})"
        )


def check_examples(
    x: Tensor, width: int, dtype: torch.dtype, device: torch.device, *, finite: bool
) -> Tensor:
    """`x` without its autograd history, if it can be inputs `[N, width]` of a network."""
    check_tensor(x, "x", 2, (dtype,), " like the network")
    if x.device != device:
        raise ValueError(f"x must be on the network's device {device}, got {x.device}")
    if x.shape[1] != width:
        raise ValueError(
            f"x must have shape [N, {width}] to match the network's input, got {list(x.shape)}"
        )
    if finite:
        check_finite(x, "x")
    return x.detach() if x.requires_grad else x


def check_integer(value: object, name: str, least: int | None = None) -> int:
    """`value` as an int, of at least `least` if given; True and False are not integers."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    number = operator.index(value)
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def check_integers(values: object, name: str, least: int | None = None) -> tuple[int, ...]:
    """`values` as a tuple of integers, each of at least `least` if given."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must hold integers, got {type(values).__name__}")
    return tuple(check_integer(value, name, least) for value in values)


def check_number(value: object, name: str) -> float:
    """`value` as a float that is finite; True and False are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def check_numbers(values: object, name: str) -> tuple[float, ...]:
    """`values` as a tuple of finite numbers."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must hold numbers, got {type(values).__name__}")
    return tuple(check_number(value, name) for value in values)


def check_values(values: Sequence[object], name: str) -> None:
    """Raise unless there are values, and all of them different."""
    if not values:
        raise ValueError(f"{name} must hold at least one value, got none")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} must be different, got {', '.join(map(str, values))}")


def check_bool(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")
    return value


def check_span(
    depth: int, source: int, target: int, names: tuple[str, str] = ("source", "target")
) -> tuple[int, int]:
    """Sites with 0 <= source < target <= depth; a negative target counts from the end, -1 is L.

    `names` are those of the two arguments.
    """
    source, target = (
        check_integer(site, name) for site, name in zip((source, target), names, strict=True)
    )
    resolved = target + depth + 1 if -depth - 1 <= target < 0 else target
    if not 0 <= source < depth:
        raise ValueError(f"{names[0]} must be a site in 0..{depth - 1}, got {source}")
    if not source < resolved <= depth:
        raise ValueError(
            f"{names[1]} must be a site after the {names[0]}, in {source + 1}..{depth}, got {target}"
        )
    return source, resolved


def check_on_cpu(device: torch.device, name: str) -> None:
    if device.type != "cpu":
        raise NotImplementedError(f"{name} must be on the CPU, got {device}")


def check_device(value: torch.device | str | None) -> torch.device:
    """The CPU, which None is too, or a CUDA device that is here."""
    try:
        device = torch.device("cpu" if value is None else value)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu, cuda or cuda:INDEX, got {value}")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(
            f"device must be one that is here, got {value} where torch sees "
            f"{counted(count, 'CUDA device')}"
        )
    return device


def check_path(value: object, name: str) -> Path:
    if not isinstance(value, str | Path):
        raise TypeError(f"{name} must be a path, got {type(value).__name__}")
    return Path(value)
