"""Messages of `TrainConfig`, `initialise` and `train`."""

import math

import pytest
import torch

from gradsplinter.train import TrainConfig, initialise, train

X, Y = torch.rand(2, 10, 4), torch.rand(2, 10, 2)
NAN = X.clone().index_put_(tuple(torch.tensor([1, 2, 3])), torch.tensor(float("nan")))


def test_diverging():
    config = TrainConfig((4, 8, 2), steps=50, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"learning_rate must be .* 1e\+30: the loss with seed"):
        train(config, X, Y, range(2), progress=False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"widths": (4,)}, ValueError, r"widths must hold at least input and output, got \(4,\)"),
        ({"widths": (4, 0, 2)}, ValueError, r"widths\[1\] must be at least 1, got 0"),
        ({"widths": (4, 2.5)}, TypeError, r"widths\[1\] must be an integer, got float"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": None}, TypeError, "steps must be an integer, got NoneType"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"chunk": True}, TypeError, "chunk must be an integer, got bool"),
        (
            {"learning_rate": 0.0},
            ValueError,
            "learning_rate must be positive and at most 1e30, got 0.0",
        ),
        (
            {"learning_rate": math.nan},
            ValueError,
            "learning_rate must be positive and at most 1e30, got nan",
        ),
        ({"learning_rate": "1"}, TypeError, "learning_rate must be a number, got '1'"),
    ],
)
def test_bad_configurations(arguments, error, message):
    with pytest.raises(error, match=message):
        TrainConfig(**{"widths": (4, 8, 2), **arguments})


def test_bad_initialise():
    for widths, seed, dtype, error, message in (
        ((4,), 0, torch.float32, ValueError, "widths must hold at least"),
        ((4, 2), -1, torch.float32, ValueError, "seed must be at least 0, got -1"),
        ((4, 2), "0", torch.float32, TypeError, "seed must be an integer, got str"),
        ((4, 2), 0, torch.float16, TypeError, "dtype must be .* got torch.float16"),
    ):
        with pytest.raises(error, match=message):
            initialise(widths, seed, dtype)


@pytest.mark.parametrize(
    ("x", "y", "seeds", "error", "message"),
    [
        (X[0], Y, [0, 1], ValueError, r"x must have 3 dimensions, got 2"),
        (X, Y[0], [0, 1], ValueError, r"y must have 3 dimensions, got 2"),
        (X[..., :3], Y, [0, 1], ValueError, r"x must have shape \[2, 10, 4\], got \[2, 10, 3\]"),
        (X, Y[:, :9], [0, 1], ValueError, r"y must have shape \[2, 10, 2\], got \[2, 9, 2\]"),
        (X, Y, [0], ValueError, r"x must have shape \[1, 10, 4\], got \[2, 10, 4\]"),
        (X, Y[:1], [0, 1], ValueError, r"y must have shape \[2, 10, 2\], got \[1, 10, 2\]"),
        (X[:, :0], Y[:, :0], [0, 1], ValueError, r"x must have shape \[2, 1, 4\], got \[2, 0, 4\]"),
        (X[:0], Y[:0], [], ValueError, "seeds must hold at least one seed, got none"),
        (X, Y, [0, -1], ValueError, r"seeds\[1\] must be at least 0, got -1"),
        (X, Y, [0, 1.5], TypeError, r"seeds\[1\] must be an integer, got float"),
        (X.half(), Y, [0, 1], TypeError, "x must be float32 or float64, got float16"),
        (X, Y.double(), [0, 1], TypeError, "y must be float32, got float64"),
        (X.numpy(), Y, [0, 1], TypeError, "x must be a torch.Tensor, got ndarray"),
        (NAN, Y, [0, 1], ValueError, r"x must be finite, got 1 .*first at \[1, 2, 3\]: nan"),
        (X, Y / 0, [0, 1], ValueError, r"y must be finite, got 40 values"),
        (X.to("meta"), Y, [0, 1], NotImplementedError, "x must be on the CPU, got meta"),
    ],
)
def test_bad_data(x, y, seeds, error, message):
    with pytest.raises(error, match=message):
        train(TrainConfig((4, 8, 2), steps=1), x, y, seeds, progress=False)


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="batch_size must be at most n = 10, got 11"):
        train(TrainConfig((4, 8, 2), batch_size=11), X, Y, [0, 1], progress=False)


@pytest.mark.parametrize(
    ("checkpoints", "callback", "error", "message"),
    [
        ([0, 6], print, ValueError, r"checkpoints must be in 0\.\.5, got 6"),
        ([-1], print, ValueError, r"checkpoints\[0\] must be at least 0, got -1"),
        ([1.0], print, TypeError, r"checkpoints\[0\] must be an integer, got float"),
        ([1], None, ValueError, "checkpoints and callback must be given together"),
        ([], print, ValueError, "checkpoints and callback must be given together"),
    ],
)
def test_bad_checkpoints(checkpoints, callback, error, message):
    with pytest.raises(error, match=message):
        train(TrainConfig((4, 8, 2), steps=5), X, Y, [0, 1], checkpoints=checkpoints,
              callback=callback, progress=False)  # fmt: skip
