"""The commonest linear layers, transposed: what autograd does by a record of them, and more quickly.

On one thread of a CPU, torch's own way back through a convolution takes 1 to 5 times as long as these do, the
longest where it has few input channels, as the first one of a network for images has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 3
"""Input channels, up to which a matrix product for each place of the kernel is quickest."""


def transposed(part: Any, shape: Sequence[int]) -> Callable[[Tensor], Tensor] | None:
    """The transpose of a layer as a function of rows; None where none is written here.

    Args:
        part: any module.
        shape: of an example of its input.

    Examples:
        >>> layer = nn.Conv1d(1, 1, 2, bias=False).requires_grad_(False)
        >>> _ = layer.weight.copy_(torch.tensor([[[1.0, 10.0]]]))
        >>> transposed(layer, [1, 3])(torch.tensor([[[1.0, 2.0]]]))
        tensor([[[ 1., 12., 20.]]])
    """
    if type(part) is nn.Linear:
        return partial(linear, weight=part.weight.T.contiguous())
    if type(part) in (nn.Flatten, nn.Unflatten):
        return lambda gradient: gradient.reshape(-1, *shape)
    known = type(part) in _CONVOLUTIONS and part.groups == 1 and part.padding_mode == "zeros"
    if not known or isinstance(part.padding, str):
        return None
    if part.in_channels <= FEW:
        return partial(_spread, part=part, sizes=shape[1:])
    sizes = zip(part.kernel_size, part.dilation, part.padding, strict=True)
    padding = [(k - 1) * d - p for k, d, p in sizes]
    if any(step != 1 for step in part.stride) or min(padding) < 0:
        return None
    turned = part.weight.transpose(0, 1).flip(*range(2, 2 + len(padding))).contiguous()
    convolution: Callable[..., Tensor] = _CONVOLUTIONS[type(part)]
    return partial(convolution, weight=turned, padding=padding, dilation=part.dilation)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` of which each row is that of its own input, in every bit, wherever it stands.

    Where the number of terms is no multiple of four, or the weights lie the other way round in memory, MKL adds for
    some rows of a matrix in another order than for others (seen on an AMD EPYC with AVX-512, MKL 2024.2). So terms
    of 0 are added, and weights copied.

    Examples:
        >>> linear(torch.ones(1, 5), torch.ones(2, 5), torch.ones(2))
        tensor([[6., 6.]])
    """
    missing = -input.shape[-1] % 4
    if missing:
        input, weight = F.pad(input, (0, missing)), F.pad(weight, (0, missing))
    return F.linear(input, weight.contiguous(), bias)


_CONVOLUTIONS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


def _spread(gradient: Tensor, part: Any, sizes: Sequence[int]) -> Tensor:
    """For each place of the kernel, what its windows give to their entries there."""
    windows, channels = gradient.shape[2:], part.in_channels
    weight = part.weight.flatten(2).permute(2, 1, 0).flatten(0, 1)
    given = torch.matmul(weight, gradient.flatten(2))
    given = given.reshape(len(gradient), math.prod(part.kernel_size), channels, *windows)
    padded = [size + 2 * p for size, p in zip(sizes, part.padding, strict=True)]
    found = gradient.new_zeros(len(gradient), channels, *padded)
    for number, place in enumerate(itertools.product(*map(range, part.kernel_size))):
        steps = zip(place, part.dilation, part.stride, windows, strict=True)
        there = [slice(at * d, at * d + s * (n - 1) + 1, s) for at, d, s, n in steps]
        found[:, :, *there] += given[:, number]
    inner = [slice(p, p + size) for size, p in zip(sizes, part.padding, strict=True)]
    return found[:, :, *inner]
