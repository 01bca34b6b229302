"""Counting different gradients by hashes, which may collide."""

import pytest
import torch
from networks import random_inputs, random_network

from gradsplinter import ReluNetwork, splinter
from gradsplinter.distinct import count_different, hashes_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", [(3, 4, 4, 3), (2, 5, 3, 4)])
def test_whatever_collides(widths, dtype, monkeypatch):
    net = random_network(widths, dtype=dtype)
    last = net.weights[-1].clone()
    last[:, 0] = 0  # so that two patterns have one gradient
    last[0] = 0
    net = ReluNetwork((*net.weights[:-1], last), net.biases)
    s = splinter(net, random_inputs(500, widths[0], dtype=dtype))
    gradients = s.jacobian()
    wanted = gradients.any(dim=2)
    expected = sum(len(gradients[wanted[:, d], d].unique(dim=0)) for d in range(s.n_directions))
    assert expected < int(wanted.sum())
    hashes = hashes_of(gradients)
    for at_once in (2**24, 1):
        monkeypatch.setattr("gradsplinter.distinct.AT_ONCE", at_once)
        for some in (hashes, hashes & 3, torch.zeros_like(hashes)):
            assert count_different(s, wanted, some) == expected
    assert count_different(s, torch.zeros_like(wanted), hashes) == 0


def test_equal_gradients_have_equal_hashes():
    rows = torch.tensor([[0.0, 1, -0.0], [-0.0, 1, 0.0], [0.0, 1, 1.0]])
    for dtype in (torch.float32, torch.float64):
        a, b, c = hashes_of(rows.to(dtype).unsqueeze(1)).flatten().tolist()
        assert a == b != c
