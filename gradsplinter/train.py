"""Train many small networks of one shape at once: their weights are stacked, and so are the steps.

Each network has its own seed, data and targets, and does not depend on which others it is trained
with: its initial weights and the order of its batches come from a generator of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.checks import check_finite, check_tensor
from gradsplinter.network import ReluNetwork

CACHE_BYTES = 32 * 2**20
"""A chunk's activations and their gradients should fit in this: about a last-level cache."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam (Kingma and Ba 2015, algorithm 1), as in `torch.optim.Adam`."""


@dataclass(frozen=True)
class TrainConfig:
    """How networks are trained: mean squared error, Adam, a fixed number of steps.

    Raises:
        ValueError: a number that must be positive is not, fewer than two widths.
    """

    widths: tuple[int, ...]
    """(h_0, ..., h_L)."""
    steps: int = 1000
    learning_rate: float = 1e-2
    batch_size: int | None = None
    """Examples a step; all by default. An epoch's last examples that do not fill a batch are left
    out of it (of another choice of examples in each epoch)."""
    chunk: int | None = None
    """Networks stacked at once; by default as many as keep a step in cache."""

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths must be two or more positive numbers, got {self.widths}")
        for name in ("steps", "batch_size", "chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks and the course of their training."""

    networks: list[ReluNetwork]
    losses: Tensor
    """[M, steps]: the mean squared error of each step's batch before the step."""

    def __len__(self) -> int:
        return len(self.networks)


def initialise(
    widths: Sequence[int],
    seed: int | torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> ReluNetwork:
    """An untrained network: weights and biases uniform in ±1/sqrt(h_(l-1)), as in `nn.Linear`.

    Examples:
        >>> initialise([4, 16, 2], seed=0)
        ReluNetwork(4-16-2, float32)
    """
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)

    def uniform(bound: float, *shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=generator, dtype=dtype) - 1) * bound

    layers = [
        (uniform(1 / math.sqrt(inputs), outputs, inputs), uniform(1 / math.sqrt(inputs), outputs))
        for inputs, outputs in pairwise(widths)
    ]
    return ReluNetwork(tuple(w for w, _ in layers), tuple(b for _, b in layers))


def train(
    config: TrainConfig, x: Tensor, y: Tensor, seeds: Sequence[int], *, progress: bool = True
) -> Trained:
    """Train M networks, each on its own data.

    A network is the same for the same seed and data up to rounding: the products of a stack are
    summed in an order that can depend on how many networks are in it. After 1,000 steps outputs of
    networks trained alone and together differ by well under 1e-2 of their scale.

    Args:
        config: shape and training.
        x: inputs `[M, n, h_0]`, float32 or float64.
        y: targets `[M, n, h_L]` of the same dtype.
        seeds: one for each network: its initial weights and the order of its batches.
        progress: show a progress bar.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes that do not fit, values that are not finite.

    Examples:
        >>> x = torch.rand(3, 100, 1)
        >>> trained = train(TrainConfig((1, 8, 1), steps=20), x, x**2, seeds=range(3), progress=False)
        >>> trained.networks[0], trained.losses.shape
        (ReluNetwork(1-8-1, float32), torch.Size([3, 20]))
    """
    _check_data(config, x, y, seeds)
    rows = min(config.batch_size or x.shape[1], x.shape[1])
    chunk = config.chunk or _networks_in_cache(config.widths, rows, x.element_size())
    networks: list[ReluNetwork] = []
    losses = x.new_empty(len(seeds), config.steps)
    with tqdm(
        total=len(seeds) * config.steps, disable=not progress, unit="step", desc="training"
    ) as bar:
        for begin in range(0, len(seeds), chunk):
            part = slice(begin, min(begin + chunk, len(seeds)))
            stack = _Stack(config.widths, seeds[part], x[part], y[part], rows)
            for step in range(config.steps):
                losses[part, step] = stack.step(config.learning_rate)
                bar.update(part.stop - part.start)
            networks += stack.networks()
    return Trained(networks, losses)


def _networks_in_cache(widths: tuple[int, ...], rows: int, itemsize: int) -> int:
    return max(1, CACHE_BYTES // (2 * rows * sum(widths) * itemsize))


@dataclass
class _Stack:
    """C networks side by side: every tensor has the networks as its first dimension."""

    widths: tuple[int, ...]
    seeds: Sequence[int]
    x: Tensor
    y: Tensor
    rows: int
    steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        start = [initialise(self.widths, g, self.x.dtype) for g in self.generators]
        layers = range(len(self.widths) - 1)
        sizes = [
            n.numel() for layer in layers for n in (start[0].weights[layer], start[0].biases[layer])
        ]
        # One flat buffer each for parameters, gradients and Adam's moments: one update for all.
        count = len(start)
        self.parameters = self.x.new_empty(count * sum(sizes))
        self.gradient = torch.zeros_like(self.parameters)
        self.mean = torch.zeros_like(self.parameters)
        self.square = torch.zeros_like(self.parameters)
        self.weights, self.biases = self._views(self.parameters, count, sizes)
        self.weight_gradients, self.bias_gradients = self._views(self.gradient, count, sizes)
        for layer in layers:
            torch.stack([n.weights[layer] for n in start], out=self.weights[layer])
            torch.stack([n.biases[layer].unsqueeze(0) for n in start], out=self.biases[layer])
        self.epoch = torch.empty(count, 0, dtype=torch.int64)
        self.position = 0

    def _views(
        self, flat: Tensor, count: int, sizes: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        weights, biases = [], []
        parts = iter(flat.split([count * size for size in sizes]))
        for inputs, outputs in pairwise(self.widths):
            weights.append(next(parts).view(count, outputs, inputs))
            biases.append(next(parts).view(count, 1, outputs))
        return weights, biases

    def step(self, learning_rate: float) -> Tensor:
        """One step of Adam → the losses before it, [C]."""
        x, y = self._batch()
        losses = self._backward(x, y)
        self.steps += 1
        self.mean.lerp_(self.gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(self.gradient, self.gradient, value=1 - BETA2)
        scale = math.sqrt(1 - BETA2**self.steps)
        denominator = self.square.sqrt().div_(scale).add_(EPSILON)
        rate = learning_rate / (1 - BETA1**self.steps)
        self.parameters.addcdiv_(self.mean, denominator, value=-rate)
        return losses

    def _backward(self, x: Tensor, y: Tensor) -> Tensor:
        activations = [x]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            a = torch.baddbmm(bias, activations[-1], weight.transpose(1, 2))
            activations.append(a.relu_() if weight is not self.weights[-1] else a)
        error = activations.pop().sub_(y)
        losses = error.square().mean(dim=(1, 2))
        back = error.mul_(2 / (y.shape[1] * y.shape[2]))
        for layer in reversed(range(len(self.weights))):
            torch.bmm(back.transpose(1, 2), activations[layer], out=self.weight_gradients[layer])
            torch.sum(back, dim=1, keepdim=True, out=self.bias_gradients[layer])
            if layer > 0:
                back = torch.bmm(back, self.weights[layer])
                back.masked_fill_(activations[layer] <= 0, 0)
        return losses

    def _batch(self) -> tuple[Tensor, Tensor]:
        n = self.x.shape[1]
        if self.rows == n:
            return self.x, self.y
        if self.position + self.rows > self.epoch.shape[1]:
            offsets = n * torch.arange(len(self.x)).unsqueeze(1)
            self.epoch = offsets + torch.stack(
                [torch.randperm(n, generator=g) for g in self.generators]
            )
            self.position = 0
        index = self.epoch[:, self.position : self.position + self.rows].flatten()
        self.position += self.rows
        return self._take(self.x, index), self._take(self.y, index)

    def _take(self, data: Tensor, index: Tensor) -> Tensor:
        return data.flatten(0, 1).index_select(0, index).view(len(data), self.rows, data.shape[2])

    def networks(self) -> list[ReluNetwork]:
        return [
            ReluNetwork(tuple(w[i] for w in self.weights), tuple(b[i, 0] for b in self.biases))
            for i in range(len(self.x))
        ]


def _check_data(config: TrainConfig, x: Tensor, y: Tensor, seeds: Sequence[int]) -> None:
    check_tensor(x, "x", 3, (torch.float32, torch.float64))
    check_tensor(y, "y", 3, (x.dtype,))
    if len(seeds) == 0:
        raise ValueError("seeds must hold at least one seed, got none")
    for name, tensor, width in (("x", x, config.widths[0]), ("y", y, config.widths[-1])):
        expected = (len(seeds), x.shape[1], width)
        if tuple(tensor.shape) != expected or x.shape[1] == 0:
            raise ValueError(
                f"{name} must have shape {list(expected)} (networks, examples of at least 1, "
                f"width), got {list(tensor.shape)}"
            )
        check_finite(tensor, name)
