"""What a call costs beside its work: one example through a small network."""

import torch
from workloads import network

import gradsplinter

CALLS = 1_000


def bench_calls(race):
    module, net = network(4, 32, 32, 2)
    x = torch.rand(1, 4)
    found = gradsplinter.unique_signatures(net, x)
    patterns = found.signatures
    jacobian = gradsplinter.jacobian(net, patterns)
    torch.testing.assert_close(jacobian[0], torch.func.jacrev(module)(x[0]))
    rows = patterns.clone()
    calls = {
        "signatures": lambda: gradsplinter.signatures(net, x),
        "unique_signatures": lambda: gradsplinter.unique_signatures(net, x),
        "unique_rows": lambda: gradsplinter.unique_rows(rows),
        "jacobian": lambda: gradsplinter.jacobian(net, patterns),
        "cross": lambda: gradsplinter.cross(jacobian),
        "gram": lambda: gradsplinter.gram(net, patterns),
        "splinter": lambda: gradsplinter.splinter(net, x),
    }

    library = torch.library.Library("gradsplinter_bench", "DEF")
    library.define("empty(Tensor x, Tensor[] weights, Tensor[] biases) -> Tensor")
    library.impl("empty", lambda *_: x, "CPU")
    operator = torch.ops.gradsplinter_bench.empty

    def repeat(call):
        def run():
            for _ in range(CALLS):
                call()

        return run

    for name, call in calls.items():
        contenders = {
            "ours": repeat(call),
            "torch's dispatch to an operator in Python that does nothing": repeat(
                lambda: operator(x, net.weights, net.biases)
            ),
            "torch forward alone": repeat(lambda: module(x)),
        }
        race(
            f"a call: {name}, 1 × 4-32-32-2",
            contenders,
            pieces=dict.fromkeys(contenders, CALLS),
        )
