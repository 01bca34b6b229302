"""Attacks and noise: by hand on linear networks, within their bounds on others."""

import math

import pytest
import torch
from torch import nn

from gradsplinter.studies.attacks import (
    fgsm,
    gaussian_noise,
    mode_seeking,
    pgd,
    pre_activations,
    sign_noise,
)


@pytest.fixture
def linear():
    """Its logits are its two inputs: the loss of class 0 rises along (-1, 1)."""
    net = nn.Linear(2, 2)
    net.weight.data, net.bias.data = torch.eye(2), torch.zeros(2)
    return net.requires_grad_(False)


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)
        )
    return layers.requires_grad_(False)  # fmt: skip


def seeded():
    return torch.Generator().manual_seed(5)


X = torch.tensor([[0.5, 0.5], [0.05, 0.95]])
ZEROS = torch.zeros(2, dtype=torch.int64)


def test_fgsm_by_hand(linear):
    found = fgsm(linear, X, ZEROS, 0.125)
    assert torch.equal(found, torch.tensor([[0.375, 0.625], [0, 1]]))
    assert torch.equal(fgsm(linear, X, ZEROS + 1, 0.125)[0], torch.tensor([0.625, 0.375]))


def test_pgd_on_a_linear_network_ends_where_the_loss_is_largest(linear):
    found = pgd(linear, X, ZEROS, 0.125, "linf", 10, seeded())
    torch.testing.assert_close(found, torch.tensor([[0.375, 0.625], [0, 1]]))
    found = pgd(linear, X, ZEROS, 0.25, "l2", 40, seeded())
    moved = found[0] - X[0]
    # Steps of 2.5 ε in all bring it near (-1, 1) / sqrt(2) from wherever it began, and do not leave the ball.
    assert (moved[1] - moved[0]) / 2**0.5 > 0.98 * 0.25
    assert moved.norm() < 0.25 + 1e-6
    assert torch.equal(found[1], torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize(("norm", "order"), [("linf", torch.inf), ("l2", 2)])
@pytest.mark.parametrize("epsilon", [0.01, 0.3, 5.0])
def test_attacks_stay_in_the_ball_and_in_the_cube(net, norm, order, epsilon):
    x = torch.rand(40, 6, generator=seeded()).round(decimals=1)  # some at the border
    y = net(x).argmax(1)
    first = pgd(net, x, y, epsilon, norm, 8, seeded())
    seeking = mode_seeking(
        net, x, y, first, epsilon, norm, steps=8, weights=(1.0,), scale=torch.ones(16),
        nearest=lambda at, _: (torch.zeros(len(at)), torch.ones(len(at), 16)),
    )  # fmt: skip
    for found in (first, seeking):
        assert ((found >= 0) & (found <= 1)).all()
        assert ((found - x).norm(order, dim=1) <= epsilon * (1 + 1e-5)).all()
    assert torch.equal(first, pgd(net, x, y, epsilon, norm, 8, seeded()))
    loss = nn.CrossEntropyLoss(reduction="none")
    assert loss(net(first), y).mean() > loss(net(x), y).mean()


def test_a_network_without_a_gradient_is_left_where_it_is():
    net = nn.Linear(2, 2).requires_grad_(False)
    net.weight.data.zero_()
    assert torch.equal(fgsm(net, X, ZEROS, 0.1), X)
    found = pgd(net, X, ZEROS, 0.1, "l2", 3, seeded())
    assert ((found - X).norm(dim=1) <= 0.1 + 1e-6).all()


def test_pre_activations_by_hand(net):
    x = torch.rand(5, 6)
    z, logits = pre_activations(net, x)
    first = net[0](x)
    assert torch.equal(z, torch.cat([first, net[2](first.relu())], dim=1))
    assert torch.equal(logits, net(x))


def test_mode_seeking_finds_the_mode_it_looks_for():
    """Two units, on where their input is above 0.5; logits are (0.1, a_1 + a_2 - 0.2).

    From (0.9, 0.9) of class 1 both ways lead to class 0: with both units off, and with one on.
    """
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).requires_grad_(False)
    net[0].weight.data, net[0].bias.data = torch.eye(2), torch.full((2,), -0.5)
    net[2].weight.data = torch.tensor([[0.0, 0], [1, 1]])
    net[2].bias.data = torch.tensor([0.1, -0.2])
    x, y = torch.tensor([[0.9, 0.9]]), torch.tensor([1])
    for mode in ([True, False], [False, True], [False, False]):
        wanted = torch.tensor([mode])

        def nearest(at, _, wanted=wanted):
            return ((at > 0.5) != wanted).sum(1), 2 * wanted.float() - 1

        first = pgd(net, x, y, 0.5, "linf", 10, seeded())
        assert net(first).argmax() == 0
        found = mode_seeking(
            net, x, y, first, 0.5, "linf", steps=20, weights=(1.0, 100.0), scale=torch.ones(2),
            nearest=nearest,
        )  # fmt: skip
        assert net(found).argmax() == 0
        assert torch.equal(found > 0.5, wanted)


def test_mode_seeking_keeps_the_first_attack_where_it_finds_no_better():
    chain = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2)).requires_grad_(False)
    chain[2].weight.data.zero_()
    chain[2].bias.data = torch.tensor([1.0, 0.0])  # always class 0
    first = X + 0.01
    found = mode_seeking(
        chain, X, ZEROS, first, 0.1, "linf", steps=3, weights=(1.0,), scale=torch.ones(1),
        nearest=lambda at, _: (torch.zeros(len(at)), torch.ones(len(at), 1)),
    )  # fmt: skip
    assert torch.equal(found, first)


def test_noise_has_the_size_that_is_asked_for():
    x = torch.rand(300, 50, generator=seeded())
    moved = sign_noise(x, 0.05, seeded()) - x
    inside = (x > 0.05) & (x < 0.95)
    torch.testing.assert_close(moved[inside].abs(), torch.full_like(moved[inside], 0.05))
    assert abs(float(moved[inside].sign().mean())) < 0.05
    lengths = torch.linspace(0.1, 2, 300)
    noisy = gaussian_noise(x, lengths, seeded())
    assert ((noisy >= 0) & (noisy <= 1)).all()
    torch.testing.assert_close((noisy - x).norm(dim=1), lengths, atol=1e-3, rtol=0)
    far = gaussian_noise(x, torch.full((300,), 1e3), seeded())  # further than any corner
    assert ((far == 0) | (far == 1)).float().mean() > 0.99


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": X[0]}, ValueError, "^x must have 2 dimensions, got 1"),
        ({"x": X.half()}, TypeError, "^x must be float32 or float64, got float16"),
        ({"x": X + 1}, ValueError, r"^x must be in \[0, 1\], got values in \[1.05, 1.95\]"),
        ({"x": X * math.nan}, ValueError, r"^x must be in \[0, 1\], got values in \[nan, nan\]"),
        ({"epsilon": 0.0}, ValueError, "^epsilon must be positive and finite, got 0.0"),
        ({"norm": "l1"}, ValueError, "^norm must be linf or l2, got 'l1'"),
        ({"steps": 0}, ValueError, "^steps must be at least 1, got 0"),
    ],
)
def test_bad_arguments(linear, changes, error, message):
    given = {"x": X, "epsilon": 0.1, "norm": "l2", "steps": 2} | changes
    with pytest.raises(error, match=message):
        pgd(linear, y=ZEROS, generator=seeded(), **given)
