"""Operations that are linear in pieces: in which piece each entry is, and what is computed there.

A piece is a number, its *code*, of as many bits for each entry of an operation's result. With the codes given,
the operation is affine in its inputs, and so has one derivative.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

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

    def evaluate(self, *inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """The code of these inputs, and the result for them."""
        code = self.code(*inputs)
        return code, self.apply(code, *inputs)

    @abstractmethod
    def derivative(
        self, code: list[Tensor], shapes: Sequence[torch.Size], dtype: torch.dtype
    ) -> Tensor:
        """What `backward` needs of these codes `[n, ...]`, in a tensor with as many rows.

        Args:
            code: of n patterns.
            shapes: of an example of each input.
            dtype: of gradients.
        """

    @abstractmethod
    def backward(
        self, gradient: Tensor, derivative: Tensor, shapes: Sequence[torch.Size]
    ) -> list[Tensor]:
        """The gradient with respect to each input, from that with respect to the result.

        Args:
            gradient: `[n, ...]`
            derivative: a row of `derivative` for each row; it may be overwritten.
            shapes: of an example of each input.
        """


def bits_of(numbers: Tensor, count: int) -> list[Tensor]:
    """The lowest bits of numbers, the lowest first."""
    return [(numbers >> bit & 1).bool() for bit in range(count)]


def number_of(bits: list[Tensor]) -> Tensor:
    """int64: what `bits_of` took apart."""
    number = bits[0].long()
    for at, bit in enumerate(bits[1:], 1):
        number = number | bit.long() << at
    return number


def _mask(on: Tensor, dtype: torch.dtype) -> Tensor:
    """Words with all bits set where a gradient passes: `&` is exact and, on a CPU, faster than `where`."""
    return -on.to(_WORDS[dtype])


def _masked(gradient: Tensor, mask: Tensor) -> Tensor:
    return (gradient.view(mask.dtype) & mask).view(gradient.dtype)


def _reduced(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Summed over what was broadcast."""
    return gradient.sum_to_size(len(gradient), *shape)


_WORDS = {torch.float32: torch.int32, torch.float64: torch.int64}


@dataclass(frozen=True, eq=False)
class Pointwise(Unit):
    """slope · z + intercept of the piece, which is the number of thresholds below z.

    Slopes, intercepts and thresholds are scalars, or tensors that broadcast with z. `function` is torch's
    own that does the same, if there is one.
    """

    thresholds: Sequence[float | Tensor]
    slopes: Sequence[float | Tensor]
    intercepts: Sequence[float | Tensor]
    function: Callable[[Tensor], Tensor] | None = None

    @property
    def pieces(self) -> int:  # type: ignore[override]
        return len(self.slopes)

    def code(self, *inputs: Tensor) -> list[Tensor]:
        (z,) = inputs
        above = [z > threshold for threshold in self.thresholds]
        return above if len(above) == 1 else bits_of(torch.stack(above).sum(0), self.bits)

    def apply(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        (z,) = inputs
        result = self._line(0, z)
        for piece, there in enumerate(self._pieces(code), 1):
            result = torch.where(there, self._line(piece, z), result)
        return result

    def evaluate(self, *inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        if self.function is None:
            return super().evaluate(*inputs)
        return self.code(*inputs), self.function(*inputs)

    def derivative(
        self,
        code: list[Tensor],
        shapes: Sequence[torch.Size],  # noqa: ARG002
        dtype: torch.dtype,
    ) -> Tensor:
        slope = code[0].new_full((), 0, dtype=dtype) + self.slopes[0]
        for piece, there in enumerate(self._pieces(code), 1):
            slope = torch.where(there, self.slopes[piece], slope)
        return _mask(slope != 0, dtype) if self._is_switch else slope

    def backward(
        self, gradient: Tensor, derivative: Tensor, shapes: Sequence[torch.Size]
    ) -> list[Tensor]:
        if self._is_switch:
            masked = derivative.bitwise_and_(gradient.view(derivative.dtype))
            return [_reduced(masked.view(gradient.dtype), shapes[0])]
        return [_reduced(derivative.mul_(gradient), shapes[0])]

    @property
    def _is_switch(self) -> bool:
        return not any(isinstance(slope, Tensor) or slope not in (0, 1) for slope in self.slopes)

    def _pieces(self, code: list[Tensor]) -> list[Tensor]:
        """Where each piece is, from the second on."""
        return code if len(code) == 1 else [number_of(code) == p for p in range(1, self.pieces)]

    def _line(self, piece: int, z: Tensor) -> Tensor:
        slope, intercept = self.slopes[piece], self.intercepts[piece]
        if isinstance(slope, Tensor) or slope not in (0, 1):
            return slope * z if intercept == 0 else slope * z + intercept
        if slope == 1:
            return z if intercept == 0 else z + intercept
        return torch.as_tensor(intercept, dtype=z.dtype, device=z.device)


def relu() -> Pointwise:
    return Pointwise([0.0], [0.0, 1.0], [0.0, 0.0], torch.relu)


def leaky_relu(slope: float | Tensor) -> Pointwise:
    """PReLU too, where `slope` broadcasts with the channels."""
    function = None if isinstance(slope, Tensor) else partial(F.leaky_relu, negative_slope=slope)
    return Pointwise([0.0], [slope, 1.0], [0.0, 0.0], function)


def absolute() -> Pointwise:
    return Pointwise([0.0], [-1.0, 1.0], [0.0, 0.0], torch.abs)


def clamp(low: float | None, high: float | None) -> Pointwise:
    """Hardtanh and ReLU6 too."""
    if low is None and high is None:
        raise ValueError("clamp must have a minimum or a maximum")
    if low is not None and high is not None and bool((torch.as_tensor(high) - low < 0).any()):
        raise ValueError(f"clamp must have a minimum <= its maximum, got {low} and {high}")
    function = partial(torch.clamp, min=low, max=high)
    if high is None:
        return Pointwise([low], [0.0, 1.0], [low, 0.0], function)  # type: ignore[list-item]
    if low is None:
        return Pointwise([high], [1.0, 0.0], [0.0, high], function)
    return Pointwise([low, high], [0.0, 1.0, 0.0], [low, 0.0, high], function)


def hardsigmoid() -> Pointwise:
    return Pointwise([-3.0, 3.0], [0.0, 1 / 6, 0.0], [0.0, 0.5, 1.0], F.hardsigmoid)


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

    def derivative(
        self,
        code: list[Tensor],
        shapes: Sequence[torch.Size],  # noqa: ARG002
        dtype: torch.dtype,
    ) -> Tensor:
        return _mask(code[0], dtype)

    def backward(
        self, gradient: Tensor, derivative: Tensor, shapes: Sequence[torch.Size]
    ) -> list[Tensor]:
        masks = derivative, ~derivative
        return [_reduced(_masked(gradient, m), s) for m, s in zip(masks, shapes, strict=True)]


@dataclass(eq=False)
class Smooth(Unit):
    """A smooth function of each entry; a piece is a range of its slopes, and has their mean.

    Args:
        function: of a tensor, entry by entry; it may change that in place.
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
            edges = torch.linspace(float(slopes[0]), float(slopes[-1]), self.pieces + 1)
            bounds = edges[1:-1].to(slopes)
        piece = torch.bucketize(slopes, bounds, right=True)
        sums = slopes.new_zeros(self.pieces).index_add_(0, piece, slopes)
        counts = slopes.new_zeros(self.pieces).index_add_(0, piece, torch.ones_like(slopes))
        ends = torch.cat([slopes[:1], bounds, slopes[-1:]])
        middle = (ends[1:] + ends[:-1]) / 2  # of a piece that has none
        self.slopes = torch.where(counts > 0, sums / counts.clamp(min=1), middle).to(z.dtype)
        self.bounds = bounds.to(z.dtype)

    def code(self, *inputs: Tensor) -> list[Tensor]:
        assert self.bounds is not None
        piece = torch.bucketize(self._slopes(inputs[0]), self.bounds, right=True)
        return bits_of(piece, self.count)

    def apply(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        assert self.slopes is not None
        return self.slopes[number_of(code)] * inputs[0]

    def evaluate(self, *inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        return self.code(*inputs), self.function(inputs[0].clone())

    def derivative(
        self,
        code: list[Tensor],
        shapes: Sequence[torch.Size],  # noqa: ARG002
        dtype: torch.dtype,  # noqa: ARG002
    ) -> Tensor:
        assert self.slopes is not None
        return self.slopes[number_of(code)]

    def backward(
        self, gradient: Tensor, derivative: Tensor, shapes: Sequence[torch.Size]
    ) -> list[Tensor]:
        return [_reduced(gradient * derivative, shapes[0])]

    def _slopes(self, z: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self.function(z.clone()).sum(), z)
        return slopes
