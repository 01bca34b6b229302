"""jacobian with one mode per example, against the ways to do it in torch."""

import warnings
from itertools import pairwise

import pytest
import torch
from conftest import Needs
from workloads import JACOBIANS, bits, name, network

import gradsplinter
from gradsplinter import unpack_bits


def vmap_jacrev(module, x):
    return torch.func.vmap(torch.func.jacrev(module))(x)


def autograd_per_output(module, x):
    x = x.clone().requires_grad_()
    y = module(x)
    outputs = range(y.shape[1])
    return torch.stack(
        [torch.autograd.grad(y[:, i].sum(), x, retain_graph=True)[0] for i in outputs], dim=1
    )


def masked_matmul(weights, masks):
    gradient = weights[-1].expand(len(masks[0]), -1, -1)
    for weight, mask in zip(reversed(weights[:-1]), reversed(masks), strict=True):
        gradient = (gradient * mask.unsqueeze(1)) @ weight
    return gradient


def masked_matmul_into(weights, masks, buffers):
    """The same without fresh memory: buffers [U, D, h] and again [U, D, h] for every hidden site."""
    gradient = weights[-1].expand(len(masks[0]), -1, -1)
    for weight, mask, (masked, out) in zip(
        reversed(weights[:-1]), reversed(masks), reversed(buffers), strict=True
    ):
        torch.mul(gradient, mask.unsqueeze(1), out=masked)
        gradient = torch.matmul(masked, weight, out=out)
    return gradient


def needs(net, masks, directions):
    """Products of the units that are on at both ends; the step through W^L is shared by all modes."""
    on = [masks[0].new_full((len(masks[0]),), net.widths[0]), *(mask.sum(1) for mask in masks)]
    on = [units.double() for units in on]
    fmas = sum(float((after * before).sum()) * directions for before, after in pairwise(on))
    return Needs(float32=2 * fmas, bytes=4 * len(masks[0]) * directions * net.widths[0])


@pytest.mark.parametrize(("widths", "n"), JACOBIANS)
def bench_jacobian(race, widths, n):
    n = race.size(n, 200)
    module, net = network(*widths)
    x = torch.rand(n, widths[0])
    patterns = gradsplinter.signatures(net, x)
    masks = [site.float() for site in unpack_bits(patterns, widths[1:-1])]
    ours = gradsplinter.jacobian(net, patterns)
    # Where torch rounds a pre-activation to the other side of zero, it is in another mode.
    agree = (torch.cat(masks, dim=1) == bits(module, x)).all(dim=1)
    assert float(agree.float().mean()) > 0.999
    torch.testing.assert_close(
        ours[agree], autograd_per_output(module, x)[agree], rtol=1e-3, atol=1e-5
    )
    torch.testing.assert_close(ours, masked_matmul(net.weights, masks), rtol=1e-3, atol=1e-5)
    sizes = [(n, widths[-1], h) for h in widths[:-1]]
    buffers = [(torch.zeros(b), torch.zeros(a)) for a, b in pairwise(sizes)]
    torch.testing.assert_close(
        ours, masked_matmul_into(net.weights, masks, buffers), rtol=1e-3, atol=1e-5
    )
    least = needs(net, masks, widths[-1])
    race(
        f"jacobian, U = N, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.jacobian(net, patterns),
            "vmap(jacrev)": lambda: vmap_jacrev(module, x),
            "autograd per output": lambda: autograd_per_output(module, x),
            "masked matmul": lambda: masked_matmul(net.weights, masks),
        },
        rounds=4,
        needs=least,
    )
    out = torch.zeros_like(ours)
    contenders = {
        "ours": lambda: gradsplinter.jacobian(net, patterns, out=out),
        "masked matmul": lambda: masked_matmul_into(net.weights, masks, buffers),
    }
    if not race.answers_only and not race.quick:
        with warnings.catch_warnings():  # of torch's own
            warnings.simplefilter("ignore")
            compiled = torch.compile(masked_matmul, dynamic=False)
            compiled_into = torch.compile(masked_matmul_into, dynamic=False)
            for found in (
                compiled(net.weights, masks),
                compiled_into(net.weights, masks, buffers),
            ):
                torch.testing.assert_close(ours, found, rtol=1e-3, atol=1e-5)
        contenders["masked matmul, torch.compile (fresh memory)"] = lambda: compiled(
            net.weights, masks
        )
        contenders["masked matmul, torch.compile"] = lambda: compiled_into(
            net.weights, masks, buffers
        )
    race(f"jacobian into memory at hand, {name(net, n)}", contenders, rounds=4, needs=least)
