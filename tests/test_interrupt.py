"""Ctrl-C, or any Python signal handler that raises, stops a long call between two blocks."""

import signal
from itertools import pairwise

import pytest
import torch

import gradsplinter
from gradsplinter import ReluNetwork, ops


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


def long_unique_rows():
    # One hash for all rows: every insertion walks through the whole table.
    torch.ops.gradsplinter.unique_rows(torch.arange(300_000).unsqueeze(1), hash_bits=0)


@pytest.mark.parametrize("call", [long_signatures, long_jacobian, long_cross, long_unique_rows])
def test_a_signal_stops_the_call(call, stop_soon):
    with ops.instruction_set("portable"):
        stop_soon()
        with pytest.raises(Stop):
            call()
        # The kernels are usable afterwards.
        assert gradsplinter.unique_rows(torch.tensor([[1], [1]])).counts.tolist() == [2]
