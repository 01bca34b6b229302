"""Patterns, gradients and graphs of a convolutional network, against the ways to do it in torch."""

import torch
from bench_jacobian import autograd_per_output, vmap_jacrev

from gradsplinter import TracedNetwork, computation_graph, data, ops, splinter
from gradsplinter.studies.classifiers import build


def bench_convolutional_network(race):
    """With one mode an example, as images have."""
    images = data.load("mnist")
    module = build("conv", images, seed=0).eval().requires_grad_(False)
    net = TracedNetwork.from_module(module)
    x = images.x[: race.size(300, 20)]

    def of_one(image):
        return module(image.unsqueeze(0)).squeeze(0)

    # In float64, where the order in which torch adds decides in which mode no example is.
    some = x[:20].double()
    exact = splinter(TracedNetwork.from_module(module.double()), some)
    expected = vmap_jacrev(of_one, some)
    torch.testing.assert_close(exact.jacobian()[exact.ids], expected, rtol=1e-9, atol=1e-12)
    module.float()
    s = splinter(net, x)
    assert s.n_modes == len(x)
    near = (s.jacobian()[:20] - expected).abs().amax(dim=(1, 2)) < 1e-5
    assert float(near.double().mean()) >= 0.9
    sizes = computation_graph(net, x).sizes()
    assert sizes[-1].components == len(x) * len(images.classes)

    work = f"{len(x)} × {'-'.join(map(str, net.widths))}, convolutional"
    race(
        f"splinter, {work}",
        {"ours": lambda: splinter(net, x), "torch's forward pass alone": lambda: module(x)},
    )
    race(
        f"jacobian, U = N, {work}",
        {
            "ours": lambda: ops.jacobian(net, s.signatures),
            "vmap(jacrev)": lambda: vmap_jacrev(of_one, x),
            "autograd per output": lambda: autograd_per_output(module, x),
        },
    )
    race(f"sizes of the graph, {work}", {"ours": lambda: computation_graph(net, x).sizes()})
