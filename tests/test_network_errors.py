"""Weights and biases that are no network, and what ReluNetwork says about them, word by word."""

import pytest
import torch

from gradsplinter import ReluNetwork

NAN, INF = torch.nan, torch.inf


def put(tensor, index, value):
    copy = tensor.clone()
    copy[index] = value
    return copy


W, B = torch.ones(3, 2), torch.ones(3)


@pytest.mark.parametrize(
    ("weights", "biases", "error", "message"),
    [
        ([], [], ValueError, "weights must hold at least one layer, got none"),
        ([W], [], ValueError, "biases must hold one tensor per layer (1), got 0"),
        ([W], [B, B], ValueError, "biases must hold one tensor per layer (1), got 2"),
        ([[1.0]], [B], TypeError, "weights: layer 1 must be a tensor, got list"),
        ([W], [None], TypeError, "biases: layer 1 must be a tensor, got NoneType"),
        (
            [W.half()],
            [B.half()],
            TypeError,
            "weights: layer 1 must be float32 or float64 like the other layers (layer 1 is "
            "torch.float16), got torch.float16",
        ),
        (
            [W, W.double().T],
            [B, B[:2]],
            TypeError,
            "weights: layer 2 must be float32 or float64 like the other layers (layer 1 is "
            "torch.float32), got torch.float64",
        ),
        (
            [W],
            [B.double()],
            TypeError,
            "biases: layer 1 must be float32 or float64 like the other layers (layer 1 is "
            "torch.float32), got torch.float64",
        ),
        (
            [W, W.T.to("meta")],
            [B, B[:2]],
            ValueError,
            "weights: layer 2 must be on cpu like layer 1, got meta",
        ),
        (
            [B],
            [B],
            ValueError,
            "weights: layer 1 must be non-empty with 2 dimensions, got shape [3]",
        ),
        (
            [W],
            [W],
            ValueError,
            "biases: layer 1 must be non-empty with 1 dimension, got shape [3, 2]",
        ),
        (
            [W[:, :0]],
            [B],
            ValueError,
            "weights: layer 1 must be non-empty with 2 dimensions, got shape [3, 0]",
        ),
        (
            [W],
            [B[:2]],
            ValueError,
            "biases: layer 1 must have shape [3] to match its weights, got [2]",
        ),
        (
            [W, W],
            [B, B],
            ValueError,
            "weights: layer 2 must have shape [*, 3] to follow layer 1, got [3, 2]",
        ),
        (
            [W, put(W.T, (1, 2), NAN)],
            [B, B[:2]],
            ValueError,
            "weights: layer 2 must be finite, got 1 value that is not (the first at [1, 2]: nan)",
        ),
        (
            [W],
            [torch.full((3,), -INF)],
            ValueError,
            "biases: layer 1 must be finite, got 3 values that are not (the first at [0]: -inf)",
        ),
    ],
)
def test_weights(weights, biases, error, message):
    with pytest.raises(error) as raised:
        ReluNetwork(weights, biases)
    assert str(raised.value) == message
