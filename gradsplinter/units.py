"""Operations that are linear in pieces: in which piece each entry is, and what is computed there.

A piece is a number, its *code*, of as many bits for each entry of an operation's result. With the codes given,
the operation is affine in its inputs.
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
    def code(self, *inputs: Tensor) -> list[Tensor]:
        """The bits of each entry's piece, the lowest first: bool, of the shape of the result."""

    @abstractmethod
    def apply(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        """The result where entries are in these pieces, whether or not the inputs are there."""

    def value(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        """The result for these inputs, whose code this is."""
        return self.apply(code, *inputs)


def _bits(numbers: Tensor, count: int) -> list[Tensor]:
    return [(numbers >> bit & 1).bool() for bit in range(count)]


def _number(bits: list[Tensor]) -> Tensor:
    number = bits[0].long()
    for at, bit in enumerate(bits[1:], 1):
        number = number | bit.long() << at
    return number


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

    def code(self, *inputs: Tensor) -> list[Tensor]:
        (z,) = inputs
        above = [z > threshold for threshold in self.thresholds]
        return above if len(above) == 1 else _bits(torch.stack(above).sum(0), self.bits)

    def apply(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        (z,) = inputs
        pieces = code if len(code) == 1 else [_number(code) == p for p in range(1, self.pieces)]
        result = self._line(0, z)
        for piece, there in enumerate(pieces, 1):
            result = torch.where(there, self._line(piece, z), result)
        return result

    def _line(self, piece: int, z: Tensor) -> Tensor:
        slope, intercept = self.slopes[piece], self.intercepts[piece]
        if isinstance(slope, Tensor) or slope not in (0, 1):
            return slope * z if intercept == 0 else slope * z + intercept
        if slope == 1:
            return z if intercept == 0 else z + intercept
        return torch.as_tensor(intercept, dtype=z.dtype, device=z.device).expand_as(z)


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

    def code(self, *inputs: Tensor) -> list[Tensor]:
        a, b = inputs
        return [a >= b if self.largest else a <= b]

    def apply(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        a, b = inputs
        return torch.where(code[0], a, b)


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

    def code(self, *inputs: Tensor) -> list[Tensor]:
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
        return _bits(code, self.bits)

    def apply(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        (z,) = inputs
        axes = len(self.kernel)
        codes = _number(code)
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


@dataclass(eq=False)
class Smooth(Unit):
    """A smooth function of each entry; a piece is a range of its slopes, and has their mean.

    Args:
        function: of a tensor, entry by entry.
        count: bits of a code, so that there are 2^count pieces.
        quantiles: as many slopes in each piece, of those that `calibrate` sees; else ranges of equal width.
    """

    function: Callable[[Tensor], Tensor]
    count: int
    quantiles: bool = True
    bounds: Tensor | None = None
    """[2^count - 1]: between the pieces, ascending."""
    slopes: Tensor | None = None
    """[2^count]: of the pieces."""

    @property
    def pieces(self) -> int:  # type: ignore[override]
        return 1 << self.count

    def calibrate(self, z: Tensor) -> None:
        """Choose the pieces by the slopes at these entries."""
        slopes = self._slopes(z).flatten().double().sort().values
        if self.quantiles:
            at = torch.arange(1, self.pieces) * len(slopes) // self.pieces
            bounds = slopes[at]
        else:
            bounds = torch.linspace(float(slopes[0]), float(slopes[-1]), self.pieces + 1)[1:-1].to(
                slopes
            )
        piece = torch.bucketize(slopes, bounds, right=True)
        sums = slopes.new_zeros(self.pieces).index_add_(0, piece, slopes)
        counts = slopes.new_zeros(self.pieces).index_add_(0, piece, torch.ones_like(slopes))
        ends = torch.cat([slopes[:1], bounds, slopes[-1:]])
        middle = (ends[1:] + ends[:-1]) / 2  # of a piece that has none
        self.slopes = torch.where(counts > 0, sums / counts.clamp(min=1), middle).to(z.dtype)
        self.bounds = bounds.to(z.dtype)

    def code(self, *inputs: Tensor) -> list[Tensor]:
        assert self.bounds is not None
        return _bits(torch.bucketize(self._slopes(inputs[0]), self.bounds, right=True), self.count)

    def apply(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        assert self.slopes is not None
        return self.slopes[_number(code)] * inputs[0]

    def value(self, code: list[Tensor], *inputs: Tensor) -> Tensor:  # noqa: ARG002
        return self.function(inputs[0])

    def _slopes(self, z: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self.function(z).sum(), z)
        return slopes
