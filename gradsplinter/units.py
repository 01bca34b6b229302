"""Operations that are linear in pieces: in which piece each entry is, and what is computed there.

A piece is a number, its *code*. All entries of an operation's result have codes, as many bits each; with
the codes given, the operation is affine in its inputs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


class Unit(ABC):
    """A piecewise-linear operation on tensors `[N, ...]`."""

    pieces: int

    @property
    def bits(self) -> int:
        """Of a code."""
        return max(1, math.ceil(math.log2(self.pieces)))

    @abstractmethod
    def codes(self, *inputs: Tensor) -> Tensor:
        """int64, of the shape of the result: the piece of each entry, 0..pieces-1."""

    @abstractmethod
    def apply(self, codes: Tensor, *inputs: Tensor) -> Tensor:
        """The result where entries are in these pieces, whether or not the inputs are there."""


@dataclass(frozen=True, eq=False)
class Pointwise(Unit):
    """slope · z + intercept of the piece, which is the number of thresholds below z.

    Slopes, intercepts and thresholds are scalars, or tensors that broadcast with z.
    """

    thresholds: Sequence[float | Tensor]
    slopes: Sequence[float | Tensor]
    intercepts: Sequence[float | Tensor]

    @property
    def pieces(self) -> int:  # type: ignore[override]
        return len(self.slopes)

    def codes(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        return torch.stack([z > threshold for threshold in self.thresholds]).sum(0)

    def apply(self, codes: Tensor, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        return self._of(codes, self.slopes, z) * z + self._of(codes, self.intercepts, z)

    def _of(self, codes: Tensor, values: Sequence[float | Tensor], z: Tensor) -> Tensor:
        if all(isinstance(value, int | float) for value in values):
            return z.new_tensor(values)[codes]
        found = torch.as_tensor(values[0], dtype=z.dtype, device=z.device).expand_as(z)
        for piece, value in enumerate(values[1:], 1):
            found = torch.where(codes == piece, torch.as_tensor(value, dtype=z.dtype), found)
        return found


def relu() -> Pointwise:
    return Pointwise([0.0], [0.0, 1.0], [0.0, 0.0])


def leaky_relu(slope: float | Tensor) -> Pointwise:
    """PReLU too, where `slope` broadcasts with the channels."""
    return Pointwise([0.0], [slope, 1.0], [0.0, 0.0])


def absolute() -> Pointwise:
    return Pointwise([0.0], [-1.0, 1.0], [0.0, 0.0])


def clamp(low: float | None, high: float | None) -> Pointwise:
    """Hardtanh and ReLU6 too."""
    if low is None and high is None:
        raise ValueError("clamp must have a minimum or a maximum")
    if high is None:
        return Pointwise([low], [0.0, 1.0], [low, 0.0])  # type: ignore[list-item]
    if low is None:
        return Pointwise([high], [1.0, 0.0], [0.0, high])
    return Pointwise([low, high], [0.0, 1.0, 0.0], [low, 0.0, high])


def hardsigmoid() -> Pointwise:
    return Pointwise([-3.0, 3.0], [0.0, 1 / 6, 0.0], [0.0, 0.5, 1.0])


@dataclass(frozen=True, eq=False)
class Larger(Unit):
    """The larger or the smaller one of two tensors; code 1 where that is the first."""

    largest: bool = True
    pieces: int = 2

    def codes(self, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return (a >= b).long() if self.largest else (a <= b).long()

    def apply(self, codes: Tensor, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return torch.where(codes == 1, a, b)


@dataclass(frozen=True, eq=False)
class MaxPool(Unit):
    """Max pooling; the code of a window is the place in it that won.

    Args:
        kernel, stride, padding, dilation: of each axis.
        ceil: of `nn.MaxPool1d` and so on, `ceil_mode`.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil: bool = False

    @property
    def pieces(self) -> int:  # type: ignore[override]
        return math.prod(self.kernel)

    def codes(self, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        axes = len(self.kernel)
        pool: Callable[..., tuple[Tensor, Tensor]] = {
            1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d,
        }[axes]  # fmt: skip
        _, at = pool(
            z, self.kernel, self.stride, self.padding, self.dilation, self.ceil, return_indices=True
        )
        sizes = z.shape[-axes:]
        code = torch.zeros_like(at)
        for axis, begins in enumerate(self._begins(at.shape[-axes:], at.device)):
            place = at // math.prod(sizes[axis + 1 :]) % sizes[axis]
            code = code * self.kernel[axis] + (place - begins) // self.dilation[axis]
        return code

    def apply(self, codes: Tensor, *inputs: Tensor) -> Tensor:
        (z,) = inputs
        axes = len(self.kernel)
        at, left = torch.zeros_like(codes), codes
        places = []
        begins = self._begins(codes.shape[-axes:], codes.device)
        for axis in range(axes - 1, -1, -1):
            places.append(begins[axis] + left % self.kernel[axis] * self.dilation[axis])
            left = left // self.kernel[axis]
        for axis, place in enumerate(reversed(places)):
            at = at * z.shape[axis - axes] + place
        return z.flatten(-axes).gather(-1, at.flatten(-axes)).reshape(codes.shape)

    def _begins(self, shape: Sequence[int], device: torch.device) -> list[Tensor]:
        """Where each window begins along each axis, to broadcast with the result."""
        axes = len(self.kernel)
        return [
            (torch.arange(shape[axis], device=device) * self.stride[axis] - self.padding[axis])
            .reshape(-1, *[1] * (axes - 1 - axis))
            for axis in range(axes)
        ]  # fmt: skip
