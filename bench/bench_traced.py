"""Patterns, gradients and graphs of a convolutional network, against the ways to do it in torch."""

import torch
from bench_jacobian import autograd_per_output, vmap_jacrev

from gradsplinter import TracedNetwork, computation_graph, data, ops, splinter
from gradsplinter.studies.classifiers import build


def bench_convolutional_network(race):
    """With one mode an example, as images have."""
    images = data.load("mnist")
    module = build("conv", images, seed=0).eval().requires_grad_(False)
    net = TracedNetwork.from_module(module, images.x.shape[1:])
    x = images.x[: race.size(500, 20)]
    s = splinter(net, x)
    work = f"{len(x)} × {'-'.join(map(str, net.widths))} convolutional"

    # In float64, where torch's order of adding hardly ever decides in which mode an example is.
    some = x[:20].double()
    exact = splinter(TracedNetwork.from_module(module.double(), some.shape[1:]), some)
    expected = vmap_jacrev(module, some)
    torch.testing.assert_close(exact.jacobian()[exact.ids], expected, rtol=1e-9, atol=1e-12)
    module.float()
    assert s.n_modes == len(x)
    same = (splinter(net, x[:20]).jacobian() - expected).abs().amax(dim=(1, 2)) < 1e-5
    assert float(same.double().mean()) >= 0.9
    graph = computation_graph(net, x)
    assert torch.equal(graph.splinters[0].signatures, s.signatures)
    torch.testing.assert_close(graph.lengths(0), s.jacobian().double().norm(dim=2))

    race(
        f"splinter, {work}",
        {"ours": lambda: splinter(net, x), "torch's forward pass alone": lambda: module(x)},
    )
    race(
        f"jacobian, U = N, {work}",
        {
            "ours": lambda: ops.jacobian(net, s.signatures),
            "vmap(jacrev)": lambda: vmap_jacrev(module, x),
            "autograd per output": lambda: autograd_per_output(module, x),
        },
    )
    race(f"sizes of the graph, {work}", {"ours": lambda: computation_graph(net, x).sizes()})
