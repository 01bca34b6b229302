"""Results do not depend on the caller's floating-point mode."""

import pytest
import torch

import gradsplinter
from gradsplinter import ReluNetwork, reference

TINY = 1e-40  # subnormal in float32


@pytest.fixture
def flush_denormal():
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormal numbers")
    torch.set_flush_denormal(False)
    yield torch.set_flush_denormal
    torch.set_flush_denormal(False)


def test_subnormal_numbers_are_kept(flush_denormal):
    net = ReluNetwork(
        [torch.tensor([[1.0, 0.0], [0.5, -0.5]]), torch.tensor([[1e-20, 1e-20]])],
        [torch.zeros(2), torch.zeros(1)],
    )
    x = torch.full((200, 2), TINY)
    directions = torch.tensor([[1e-20]])
    flush_denormal(True)
    words = gradsplinter.signatures(net, x)
    gradients = gradsplinter.jacobian(net, words, directions=directions)
    flush_denormal(False)
    assert words.tolist() == [[0b01]] * 200
    expected = reference.jacobian(net, words[:1], directions=directions)
    assert expected[0, 0, 0] > 0
    assert torch.equal(gradients, expected.expand(200, 1, 2))


def test_subnormal_weights_have_lengths(flush_denormal):
    net = ReluNetwork([torch.tensor([[TINY, 0.0, 0.0]]), torch.ones(1, 1)], [torch.zeros(1)] * 2)
    flush_denormal(True)
    cosines = gradsplinter.gram(net, torch.tensor([[1]] * 100))
    flush_denormal(False)
    assert torch.equal(cosines, torch.ones(100, 1, 1))
