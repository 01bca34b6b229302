"""Networks that classify real data, as the studies of real networks train them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradsplinter.checks import check_integer
from gradsplinter.data import Dataset
from gradsplinter.draws import generator_of

Callback = Callable[[int, nn.Module], object]


@dataclass(frozen=True)
class ClassifierConfig:
    """How a network is trained to classify: cross entropy, Adam, batches drawn anew in every epoch.

    Raises:
        TypeError, ValueError: an unknown architecture, a number out of range.

    Examples:
        >>> ClassifierConfig("512-512").epochs
        10
    """

    architecture: str = "64-64"
    """Widths of the hidden layers with ReLU between them, or "linear" (no hidden layer), or "conv"."""
    epochs: int = 10
    """Passes through the training data."""
    batch_size: int = 100
    """Examples a step; the last step of an epoch takes those that are left."""
    learning_rate: float = 1e-3
    """Of Adam."""

    def __post_init__(self) -> None:
        if self.architecture != "conv":
            hidden_widths(self.architecture)
        for name in ("epochs", "batch_size"):
            check_integer(getattr(self, name), name, 1)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


def hidden_widths(architecture: str) -> list[int]:
    """
    Raises:
        ValueError: it is neither "linear" nor written as widths joined by "-".

    Examples:
        >>> hidden_widths("64-32"), hidden_widths("linear")
        ([64, 32], [])
    """
    if architecture == "linear":
        return []
    widths = architecture.split("-")
    if not all(width.isdecimal() and int(width) > 0 for width in widths):
        raise ValueError(
            'architecture must be widths of hidden layers, as "64-64", or "linear" or "conv", '
            f"got {architecture!r}"
        )
    return [int(width) for width in widths]


def build(architecture: str, data: Dataset, seed: int) -> nn.Sequential:
    """An untrained network for the data; the global generator is left as it was.

    "conv" takes images of at least 10 x 10 as rows: two convolutions of 3 x 3 with 8 and 16 channels, each
    with ReLU and 2 x 2 max pooling, then a hidden layer of 64.

    Raises:
        ValueError: an unknown architecture; no images, or too small ones, for "conv".

    Examples:
        >>> from gradsplinter import data
        >>> build("16", data.load("iris"), seed=0)
        Sequential(
          (0): Linear(in_features=4, out_features=16, bias=True)
          (1): ReLU()
          (2): Linear(in_features=16, out_features=3, bias=True)
        )
    """
    inputs, classes = data.x.shape[1], len(data.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_integer(seed, "seed", 0))
        if architecture == "conv":
            return _convolutional(data, classes)
        widths = [inputs, *hidden_widths(architecture)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def fits(architecture: str, data: Dataset) -> bool:
    """Whether `build` has this architecture for the data.

    Examples:
        >>> from gradsplinter import data
        >>> fits("64-64", data.load("iris")), fits("conv", data.load("iris"))
        (True, False)
    """
    return architecture != "conv" or (data.image_shape is not None and min(data.image_shape) >= 10)


def _convolutional(data: Dataset, classes: int) -> nn.Sequential:
    if data.image_shape is None or not fits("conv", data):
        raise ValueError(
            "architecture must be widths of hidden layers unless data has images of at least 10 x 10, "
            f"got conv with image_shape {data.image_shape}"
        )
    height, width = (((side - 2) // 2 - 2) // 2 for side in data.image_shape)
    return nn.Sequential(
        nn.Unflatten(1, (1, *data.image_shape)),
        *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(16 * height * width, 64), nn.ReLU()),
        nn.Linear(64, classes),
    )


def shuffled_labels(data: Dataset, seed: int) -> Dataset:
    """The same examples, with their classes in random order: what is learned then is not what is in the images."""
    generator = generator_of(check_integer(seed, "seed", 0), "shuffled labels")
    order = torch.randperm(len(data), generator=generator)
    return Dataset(data.x, data.y[order], data.classes, data.image_shape, data.source)


def train_classifier(
    config: ClassifierConfig,
    data: Dataset,
    seed: int,
    *,
    checkpoints: Sequence[int] = (),
    callback: Callback | None = None,
) -> nn.Sequential:
    """A network in eval mode, trained from `build(config.architecture, data, seed)`.

    The same call gives the same bits on the same machine with the same number of threads.

    Args:
        config: the architecture, and how to train.
        data: what to classify.
        seed: of the weights and of the order of examples.
        checkpoints: numbers of steps after which `callback` is called; 0 is before the first, `steps_of` the last.
        callback: called as callback(step, network) with the network as it is then, in eval mode.

    Raises:
        TypeError, ValueError: no data, checkpoints out of range, a training that diverges.

    Examples:
        >>> from gradsplinter import data
        >>> iris = data.load("iris")
        >>> net = train_classifier(ClassifierConfig("16", epochs=200), iris, seed=0)
        >>> accuracy(net, data.load("iris", "test")) > 0.9
        True
    """
    if len(data) == 0:
        raise ValueError("data must hold at least one example, got none")
    total = steps_of(config, data)
    at = {check_integer(step, f"checkpoints[{i}]", 0) for i, step in enumerate(checkpoints)}
    if at and max(at) > total:
        raise ValueError(f"checkpoints must be in 0..{total}, got {max(at)}")
    if bool(at) != (callback is not None):
        raise ValueError("checkpoints and callback must be given together")
    net = build(config.architecture, data, seed)
    optimiser = torch.optim.Adam(net.parameters(), config.learning_rate)
    generator = generator_of(seed, "order of examples")
    step = 0

    def after_step() -> None:
        if callback is not None and step in at:
            with torch.no_grad():
                callback(step, net.eval())
            net.train()

    after_step()
    for _ in range(config.epochs):
        for rows in torch.randperm(len(data), generator=generator).split(config.batch_size):
            with torch.enable_grad():
                loss = F.cross_entropy(net(data.x[rows]), data.y[rows])
                optimiser.zero_grad()
                loss.backward()
            if not loss.isfinite():
                raise ValueError(
                    f"learning_rate must be small enough to train, got {config.learning_rate}: "
                    f"the loss with seed {seed} is not finite at step {step}"
                )
            optimiser.step()
            step += 1
            after_step()
    return net.eval().requires_grad_(False)


def steps_of(config: ClassifierConfig, data: Dataset) -> int:
    """Of Adam, in all epochs."""
    return config.epochs * math.ceil(len(data) / config.batch_size)


def predict(net: nn.Module, x: Tensor) -> Tensor:
    """Outputs `[N, classes]` of a network, a batch at a time."""
    with torch.no_grad():
        return torch.cat([net(part) for part in x.split(1000)])


def accuracy(net: nn.Module, data: Dataset) -> float:
    """The share of examples whose largest output is their class's."""
    return float((predict(net, data.x).argmax(dim=1) == data.y).float().mean())
