"""Networks of torch's default initialisation, and data for them."""

from __future__ import annotations

from itertools import groupby, pairwise

import torch
from torch import Tensor, nn

from gradsplinter import ReluNetwork

# Widths and examples: the Jacobians that are raced, each example a mode of its own.
JACOBIANS = [
    ((4, 16, 16, 2), 100_000),
    ((784, 64, 64, 10), 10_000),
    ((784, 128, 128, 10), 10_000),
    ((784, 512, 512, 10), 4_000),
    ((64, 256, 256, 256, 256, 10), 5_000),
]
SIGNATURES = [
    ((4, 32, 32, 2), 10**6),
    ((4, 64, 64, 64, 2), 10**6),
    ((784, 512, 512, 10), 20_000),
    ((784, 128, 128, 10), 60_000),
    ((64, 256, 256, 256, 256, 10), 100_000),
    ((4, *[32] * 19, 2), 10**6),
]


def network(*widths: int) -> tuple[nn.Sequential, ReluNetwork]:
    torch.manual_seed(0)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    module = nn.Sequential(*layers[:-1]).requires_grad_(False)
    return module, ReluNetwork.from_module(module)


def name(net: ReluNetwork, n: int) -> str:
    """N × widths, equal hidden ones as h^count."""
    runs = [(width, len(list(group))) for width, group in groupby(net.widths)]
    return f"{n:,} × " + "-".join(
        f"{w}^{count}" if count > 3 else "-".join([f"{w}"] * count) for w, count in runs
    )


def bits(module: nn.Sequential, x: Tensor) -> Tensor:
    """torch's own activation pattern, bool [N, hidden units]."""
    found = []
    for layer in module:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            found.append(x > 0)
    return torch.cat(found, dim=1)
