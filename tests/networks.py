"""Random networks, equality of bits, and a fast fma."""

import ctypes
import ctypes.util
from itertools import pairwise

import torch
from torch import Tensor

from gradsplinter import ReluNetwork, Splinters, SplinterTable

MODES = ("signatures", "counts", "first")
INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}

_libm = ctypes.CDLL(ctypes.util.find_library("m"))
libm_fma = {torch.float32: _libm.fmaf, torch.float64: _libm.fma}
"""Of the C library: as that of the reference (tests/test_properties.py), in a fiftieth of its time."""
for _function, _number in ((_libm.fmaf, ctypes.c_float), (_libm.fma, ctypes.c_double)):
    _function.argtypes, _function.restype = [_number] * 3, _number


def random_network(widths, seed=0, dtype=torch.float32):
    """Weights of standard deviation 1 / sqrt(inputs), biases of 0.3, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    layers = list(pairwise(widths))
    return ReluNetwork(
        [torch.randn(m, n, dtype=dtype, generator=generator) / n**0.5 for n, m in layers],
        [0.3 * torch.randn(m, dtype=dtype, generator=generator) for _, m in layers],
    )


def moved(net: ReluNetwork, device: torch.device | str) -> ReluNetwork:
    """The same on a device."""
    return ReluNetwork([w.to(device) for w in net.weights], [b.to(device) for b in net.biases])


def on_meta(net: ReluNetwork) -> ReluNetwork:
    """The same on a device that is not the CPU."""
    return moved(net, "meta")


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


def same(found: Tensor, expected: Tensor) -> bool:
    """The same bits, for a tensor that may be on a GPU and one that is on the CPU."""
    return same_bits(found.cpu(), expected)


def same_modes(table: SplinterTable, expected: Splinters) -> bool:
    """Whether a table, which may be on a GPU, holds these modes."""
    modes = table.modes()
    assert modes.signatures.device.type == "cpu"
    assert table.n_examples == expected.n_examples
    return all(torch.equal(getattr(modes, name), getattr(expected, name)) for name in MODES)
