"""Max pooling as an operation that is linear in pieces: a piece is the place in each window that won."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gradsplinter.units import Unit, bits_of, number_of


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
        return self.evaluate(*inputs)[0]

    def evaluate(self, *inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        (z,) = inputs
        axes = len(self.kernel)
        pool: Callable[..., tuple[Tensor, Tensor]] = {
            1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d,
        }[axes]  # fmt: skip
        if axes == 2:  # where torch is several times as fast
            z = z.contiguous(memory_format=torch.channels_last)
        value, at = pool(
            z, self.kernel, self.stride, self.padding, self.dilation, self.ceil, return_indices=True
        )
        # Numbers of places, so that each less that of the window's begin is the code, times `common`.
        common = math.lcm(*self.dilation)
        steps = [
            s * (common // d) for s, d in zip(_strides(self.kernel), self.dilation, strict=True)
        ]
        sizes = z.shape[-axes:]
        places = _grid([torch.arange(n) * s for n, s in zip(sizes, steps, strict=True)])
        code = places.to(z.device).take(at.contiguous())
        code -= self._begins(at.shape[-axes:], steps).to(z.device)
        if common > 1:
            code //= common
        if self.bits <= 8:
            code = code.byte()
        return bits_of(code, self.bits), value.contiguous()

    def apply(self, code: list[Tensor], *inputs: Tensor) -> Tensor:
        (z,) = inputs
        axes = len(self.kernel)
        at = self._at(code, z.shape[-axes:])
        return z.flatten(-axes).gather(-1, at).reshape(code[0].shape)

    def derivative(
        self,
        code: list[Tensor],
        shapes: Sequence[torch.Size],
        dtype: torch.dtype,  # noqa: ARG002
    ) -> Tensor:
        return self._at(code, shapes[0][-len(self.kernel) :])

    def backward(
        self, gradient: Tensor, derivative: Tensor, shapes: Sequence[torch.Size]
    ) -> list[Tensor]:
        axes, shape = len(self.kernel), (len(gradient), *shapes[0])
        found = gradient.new_zeros(shape).flatten(-axes)
        return [found.scatter_add_(-1, derivative, gradient.flatten(-axes)).reshape(shape)]

    def _at(self, code: list[Tensor], sizes: Sequence[int]) -> Tensor:
        """int64 `[..., windows]`: the places that won, numbered along all axes."""
        number, axes, steps = number_of(code), len(self.kernel), _strides(sizes)
        each = zip(self.kernel, self.dilation, steps, strict=True)
        within = _grid([torch.arange(k) * (d * s) for k, d, s in each])
        at = within.to(number.device).take(number)
        at += self._begins(number.shape[-axes:], steps).to(number.device)
        return at.flatten(-axes)

    def _begins(self, windows: Sequence[int], steps: Sequence[int]) -> Tensor:
        """int64 `[*windows]`: where each begins, if a step along an axis counts so much."""
        each = zip(windows, self.stride, self.padding, steps, strict=True)
        return _grid([(torch.arange(n) * s - p) * step for n, s, p, step in each])


def _strides(sizes: Sequence[int]) -> list[int]:
    """Of a contiguous tensor."""
    return [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]


def _grid(along: Sequence[Tensor]) -> Tensor:
    """Sums of one entry along each axis."""
    total = along[0]
    for numbers in along[1:]:
        total = total.unsqueeze(-1) + numbers
    return total
