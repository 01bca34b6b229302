"""Gram matrices of gradients: cross from the Jacobian, gram from the patterns, and torch's products.

Ours sum in float64. cross and gram are asked for dot products, since torch's peers give these.
"""

import pytest
import torch
from bench_jacobian import masked_matmul
from conftest import Needs
from workloads import JACOBIANS, name, network

import gradsplinter
from gradsplinter import unpack_bits


@pytest.mark.parametrize(("widths", "n"), JACOBIANS)
def bench_cross(race, widths, n):
    n = race.size(n, 200)
    _, net = network(*widths)
    patterns = gradsplinter.signatures(net, torch.rand(n, widths[0]))
    jacobian = gradsplinter.jacobian(net, patterns)
    dots = gradsplinter.cross(jacobian, normalize=False)
    double = jacobian.double()
    exact = double @ double.mT
    torch.testing.assert_close(dots.double(), exact, rtol=1e-6, atol=1e-9)
    size = float(exact.abs().max())
    without = gradsplinter.gram(net, patterns, normalize=False).double()
    assert float((without - exact).abs().max()) < 1e-5 * size
    units = torch.nn.functional.normalize(double, dim=2)
    torch.testing.assert_close(
        gradsplinter.cross(jacobian).double(), units @ units.mT, rtol=1e-6, atol=1e-6
    )
    del double, units
    directions = widths[-1]
    race(
        f"cross, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.cross(jacobian, normalize=False),
            "bmm (float32 sums)": lambda: jacobian @ jacobian.mT,
            "bmm (float64 sums)": lambda: jacobian.double() @ jacobian.double().mT,
            "einsum (float32 sums)": lambda: torch.einsum("uih,ujh->uij", jacobian, jacobian),
        },
        needs=Needs(
            float64=n * directions * (directions + 1) * widths[0],
            bytes=4 * jacobian.numel() + 4 * exact.numel(),
        ),
    )
    masks = [site.float() for site in unpack_bits(patterns, widths[1:-1])]

    def by_hand():
        gradients = masked_matmul(net.weights, masks)
        return gradients @ gradients.mT

    def by_hand_without():
        """The same idea as gram: A K Aᵀ."""
        gradients = masked_matmul(net.weights[1:], masks[1:]) * masks[0].unsqueeze(1)
        return gradients @ (net.weights[0] @ net.weights[0].T) @ gradients.mT

    assert float((by_hand_without().double() - exact).abs().max()) < 1e-4 * size
    race(
        f"from patterns to Gram matrices, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.gram(net, patterns, normalize=False),
            "our jacobian, our cross": lambda: gradsplinter.cross(
                gradsplinter.jacobian(net, patterns), normalize=False
            ),
            "masked matmul, bmm": by_hand,
            "masked matmul, A K Aᵀ": by_hand_without,
        },
    )
