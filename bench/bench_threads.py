"""Each kernel on one thread against all threads, for work of more than 10 ms on one."""

import pytest
import torch
from workloads import JACOBIANS, SIGNATURES, name, network

import gradsplinter


def on_one_thread(call):
    def run():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return call()
        finally:
            torch.set_num_threads(threads)

    return run


def scale(race, work, call):
    """The same results, and how much longer they take on one thread."""
    for all_threads, one in zip(call(), on_one_thread(call)(), strict=True):
        assert torch.equal(all_threads, one)
    race(work, {"ours": call, "ours, 1 thread": on_one_thread(call)})


@pytest.mark.parametrize(("widths", "n"), SIGNATURES)
def bench_signatures(race, widths, n):
    n = race.size(n, 2_000)
    _, net = network(*widths)
    x = torch.rand(n, widths[0])
    scale(
        race,
        f"threads: unique_signatures, {name(net, n)}",
        lambda: gradsplinter.unique_signatures(net, x),
    )


@pytest.mark.parametrize(("widths", "n"), JACOBIANS[1:])
def bench_gradients(race, widths, n):
    n = race.size(n, 200)
    _, net = network(*widths)
    patterns = gradsplinter.signatures(net, torch.rand(n, widths[0]))
    out = gradsplinter.jacobian(net, patterns)
    scale(
        race,
        f"threads: jacobian into memory at hand, {name(net, n)}",
        lambda: [gradsplinter.jacobian(net, patterns, out=out)],
    )
    scale(race, f"threads: gram, {name(net, n)}", lambda: [gradsplinter.gram(net, patterns)])
    if widths[0] > 100:
        scale(race, f"threads: cross, {name(net, n)}", lambda: [gradsplinter.cross(out)])


@pytest.mark.parametrize("unique", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("words", [2, 16])
def bench_unique_rows(race, words, unique):
    n = race.size(1_000_000, 3_000)
    kinds = torch.randint(-(2**63), 2**63 - 1, (unique, words))
    rows = kinds[torch.randint(unique, (n,))] if unique < n else kinds[:n]
    scale(
        race,
        f"threads: unique_rows, {n:,} × {64 * words} bits, {unique:,} unique",
        lambda: gradsplinter.unique_rows(rows),
    )
