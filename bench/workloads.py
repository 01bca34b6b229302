"""Networks of torch's default initialisation, and data for them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from gradsplinter import ReluNetwork


def network(*widths: int) -> tuple[nn.Sequential, ReluNetwork]:
    torch.manual_seed(0)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    module = nn.Sequential(*layers[:-1]).requires_grad_(False)
    return module, ReluNetwork.from_module(module)


def name(net: ReluNetwork, n: int) -> str:
    return f"{n:,} × {'-'.join(map(str, net.widths))}"


def bits(module: nn.Sequential, x: Tensor) -> Tensor:
    """torch's own activation pattern, bool [N, hidden units]."""
    found = []
    for layer in module:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            found.append(x > 0)
    return torch.cat(found, dim=1)
