"""jacobian with one mode per example, against the ways to do it in torch."""

import pytest
import torch
from workloads import name, network

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


def masked_matmul(net, masks):
    gradient = net.weights[-1].expand(len(masks[0]), -1, -1)
    for weight, mask in zip(reversed(net.weights[:-1]), reversed(masks), strict=True):
        gradient = (gradient * mask.unsqueeze(1)) @ weight
    return gradient


@pytest.mark.parametrize(("widths", "n"), [((4, 16, 16, 2), 100_000), ((784, 64, 64, 10), 10_000)])
def bench_jacobian(race, widths, n):
    n = race.size(n, 500)
    module, net = network(*widths)
    x = torch.rand(n, widths[0])
    patterns = gradsplinter.signatures(net, x)
    masks = [bits.float() for bits in unpack_bits(patterns, widths[1:-1])]
    ours = gradsplinter.jacobian(net, patterns)
    torch.testing.assert_close(ours, autograd_per_output(module, x), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ours, masked_matmul(net, masks), rtol=1e-3, atol=1e-5)
    race(
        f"jacobian, U = N, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.jacobian(net, patterns),
            "vmap(jacrev)": lambda: vmap_jacrev(module, x),
            "autograd per output": lambda: autograd_per_output(module, x),
            "masked matmul": lambda: masked_matmul(net, masks),
        },
    )
