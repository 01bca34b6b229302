"""signatures, and signatures + unique_rows, against torch's own forward pass and what one would
write by hand."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Needs
from workloads import SIGNATURES, bits, name, network

import gradsplinter
from gradsplinter import unpack_bits

# Pattern bits may differ from torch's where a pre-activation is within rounding of zero.
MOST_ROUNDING = 1e-5


def forward_into(net, x, buffers):
    """The forward pass as fast as torch can, without touching fresh memory."""
    for weight, bias, out in zip(net.weights, net.biases, buffers, strict=True):
        x = torch.addmm(bias, x, weight.T, out=out)
        if out is not buffers[-1]:
            x.relu_()
    return x


def by_hand(module, x):
    """Forward pass, packed bits, a 64-bit hash, pandas factorize: not even exact."""
    packed = np.packbits(bits(module, x).numpy(), axis=1)
    words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    odd = np.random.default_rng(0).integers(2**63, size=words.shape[1] // 8, dtype=np.uint64) | 1
    hashes = (words.view(np.uint64) * odd).sum(axis=1, dtype=np.uint64)
    return pd.factorize(hashes)


@pytest.mark.parametrize(("widths", "n"), SIGNATURES)
def bench_signatures(race, widths, n):
    n = race.size(n, 2_000)
    module, net = network(*widths)
    x = torch.rand(n, widths[0])
    words = gradsplinter.signatures(net, x)
    ours = torch.cat(unpack_bits(words, widths[1:-1]), dim=1)
    assert float((ours != bits(module, x)).float().mean()) < MOST_ROUNDING
    modes = len(gradsplinter.unique_rows(words).first)
    assert modes == len(np.unique(words.numpy().view(f"V{8 * words.shape[1]}")))

    # Every hidden layer, the inputs once, the words once.
    fmas = sum(a * b for a, b in pairwise(widths[:-1]))
    needs = Needs(float32=2 * n * fmas, bytes=4 * x.numel() + 8 * words.numel())
    race(
        f"signatures, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.signatures(net, x),
            "torch forward alone": lambda: module(x),
        },
        needs=needs,
    )
    buffers = [torch.zeros(n, width) for width in widths[1:]]
    torch.testing.assert_close(forward_into(net, x, buffers), module(x))
    contenders = {
        "ours": lambda: gradsplinter.unique_signatures(net, x),
        "torch forward alone": lambda: module(x),
        "torch forward alone, into memory at hand": lambda: forward_into(net, x, buffers),
        "forward, packbits, hash, factorize": lambda: by_hand(module, x),
        "forward, torch.unique(dim=0)": lambda: torch.unique(
            bits(module, x), dim=0, return_inverse=True, return_counts=True
        ),
    }
    race(f"unique_signatures ({modes:,} modes), {name(net, n)}", contenders, needs=needs)
