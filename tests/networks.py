"""Random networks, and equality of bits."""

from itertools import pairwise

import torch
from torch import Tensor

from gradsplinter import ReluNetwork

INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}


def random_network(widths, seed=0, dtype=torch.float32):
    """Weights of standard deviation 1 / sqrt(inputs), biases of 0.3, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    layers = list(pairwise(widths))
    return ReluNetwork(
        [torch.randn(m, n, dtype=dtype, generator=generator) / n**0.5 for n, m in layers],
        [0.3 * torch.randn(m, dtype=dtype, generator=generator) for _, m in layers],
    )


def on_meta(net: ReluNetwork) -> ReluNetwork:
    """The same on a device that is not the CPU."""
    return ReluNetwork([w.to("meta") for w in net.weights], [b.to("meta") for b in net.biases])


def random_inputs(n, width, seed=1, dtype=torch.float32):
    return torch.randn(n, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal shape, dtype and bits: 0.0 differs from -0.0. A NaN equals any other NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype not in INTEGER:
        return torch.equal(a, b)
    number = ~a.isnan()
    integer = INTEGER[a.dtype]
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(
        a[number].view(integer), b[number].view(integer)
    )
