"""Transposed layers against autograd, and by hand."""

import pytest
import torch
from torch import nn

from gradsplinter.transposes import FEW, transposed

LAYERS = [
    (nn.Linear(5, 3), (5,)),
    (nn.Linear(5, 3), (4, 5)),
    (nn.Flatten(), (2, 3, 4)),
    (nn.Unflatten(1, (2, 3)), (6,)),
    (nn.Conv1d(1, 3, 3, padding=2, dilation=2), (1, 9)),
    (nn.Conv1d(3, 2, 4, stride=3, padding=1), (3, 11)),
    (nn.Conv2d(2, 5, (3, 2), stride=(1, 2), padding=(0, 1)), (2, 6, 7)),
    (nn.Conv2d(3, 4, 2, padding=2), (3, 4, 5)),
    (nn.Conv2d(4, 6, 3), (4, 6, 7)),
    (nn.Conv2d(4, 6, (3, 1), padding=(1, 0), dilation=(2, 1)), (4, 7, 5)),
    (nn.Conv3d(2, 2, 2, stride=2), (2, 5, 4, 3)),
    (nn.Conv3d(4, 2, (1, 2, 3), padding=(0, 1, 2)), (4, 2, 3, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_against_autograd(layer, shape):
    layer = layer.double().requires_grad_(False)
    x = torch.randn(6, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    y = layer(x)
    gradient = torch.randn(y.shape, dtype=torch.float64)
    (expected,) = torch.autograd.grad(y, x, gradient)
    found = transposed(layer, shape)(gradient)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ReLU(),
        nn.BatchNorm1d(3),
        nn.Conv1d(4, 4, 3, groups=2),
        nn.Conv1d(4, 4, 3, padding="same"),
        nn.Conv1d(1, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(4, 4, 2, padding=2),
        nn.Conv1d(FEW + 1, 4, 2, stride=2),
        nn.ConvTranspose1d(4, 4, 2),
    ],
    ids=str,
)
def test_others_are_left_to_autograd(layer):
    assert transposed(layer, (4, 9)) is None
