"""Ctrl-C, or any Python signal handler that raises, stops a long call between two blocks."""

import signal
import time
from itertools import pairwise

import pytest
import torch
from networks import random_inputs, random_network

import gradsplinter
from gradsplinter import ReluNetwork, SplinterTable, ops, splinter


class Stop(Exception):
    pass


@pytest.fixture
def stop_soon():
    """Raise Stop in the main thread 0.2 s after the call."""

    def handler(*_):
        raise Stop

    before = signal.signal(signal.SIGALRM, handler)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.2)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def network(*widths):
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(after, before, generator=generator) for before, after in pairwise(widths)
    ]
    return ReluNetwork(weights, [torch.zeros(len(w)) for w in weights])


def long_signatures():
    gradsplinter.signatures(network(64, 512, 512, 2), torch.ones(300_000, 64))


def long_jacobian():
    net = network(64, 256, 256, 100)
    gradsplinter.jacobian(net, torch.full((20_000, 8), -1))


def long_cross():
    gradsplinter.cross(torch.ones(2_000, 100, 400))


def long_gram():
    """Of few blocks, each of which takes a second or more."""
    net = network(600, 600, 600, 300)
    ops.gram(
        net,
        torch.full((500, 20), -1) & torch.tensor([-1] * 9 + [2**24 - 1] + [-1] * 9 + [2**24 - 1]),
    )


def long_unique_rows():
    # One hash for all rows: every insertion walks through the whole table.
    torch.ops.gradsplinter.unique_rows(torch.arange(300_000).unsqueeze(1), hash_bits=0)


def long_nearest():
    ops.nearest_signatures(torch.ones(40_000, 64).long(), torch.ones(40_000, 64).long())


CALLS = [long_signatures, long_jacobian, long_cross, long_gram, long_unique_rows, long_nearest]


@pytest.mark.parametrize("call", CALLS)
def test_a_signal_stops_the_call(call, stop_soon):
    with ops.instruction_set("portable"):
        stop_soon()
        with pytest.raises(Stop):
            call()
        # The kernels are usable afterwards.
        assert gradsplinter.unique_rows(torch.tensor([[1], [1]])).counts.tolist() == [2]


@pytest.mark.parametrize(
    ("widths", "examples"), [((4, 64, 64, 2), 2**22), ((16, 64, 64, 64, 2), 2**21)]
)
def test_an_update_is_stopped_at_once_and_goes_on(widths, examples, stop_soon):
    """Of few modes, and of one for nearly each example; some 0.1 s, on a machine that may be busy."""
    net, x = random_network(widths), random_inputs(examples, widths[0])
    table = SplinterTable(net, ids=True)
    begin = time.perf_counter()
    stop_soon()
    with ops.instruction_set("portable"), pytest.raises(Stop):
        table.update(x)
    assert time.perf_counter() - begin < 0.2 + 1
    done = table.n_examples
    assert done % 2**20 == 0
    assert done < examples
    table.update(x, skip=done)
    expected = splinter(net, x)
    found = table.splinters()
    for name in ("signatures", "counts", "first", "ids"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
