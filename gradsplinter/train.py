"""Train many small networks of one shape at once: their weights are stacked, and so are the steps.

Each network has its own seed, data and targets, and does not depend on which others it is trained
with: its initial weights and the order of its batches come from a generator of its own.

A chunk of networks belongs to one thread. The threads that torch uses within an operation wait for
each other after every small product, which costs a multiple of its gain on a busy machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from threading import Event
from typing import NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gradsplinter.checks import check_finite, check_tensor
from gradsplinter.network import ReluNetwork
from gradsplinter.tasks import DTYPES, check_integer

# What a chunk's activations and their gradients may take, to stay in a core's share of the cache.
CHUNK_BYTES = 4 * 2**20
# Larger batches are worked off in equal blocks of at most so many examples, for the same reason. It
# does not depend on the chunk, so that the order of the sums does not either.
BLOCK = 2048
# Adam (Kingma and Ba 2015, algorithm 1), as in torch.optim.Adam.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class TrainConfig:
    """How networks are trained: mean squared error, Adam, a fixed number of steps.

    A value of another type is a TypeError, one out of range a ValueError.

    Args:
        widths: (h_0, ..., h_L).
        steps: Adam steps, at least 1.
        learning_rate: of Adam, positive.
        batch_size: examples a step; None takes all. In every epoch a network walks through a
            permutation of its own; the last examples, where they do not fill a batch, are left out
            of that epoch.
        chunk: most networks stacked at once; None takes as many as keep a step in cache.

    Examples:
        >>> TrainConfig((4, 16, 2), batch_size=256).learning_rate
        0.01
    """

    widths: tuple[int, ...]
    steps: int = 1000
    learning_rate: float = 1e-2
    batch_size: int | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        widths = tuple(check_integer(w, f"widths[{i}]", 1) for i, w in enumerate(self.widths))
        if len(widths) < 2:
            raise ValueError(f"widths must hold at least input and output, got {widths}")
        object.__setattr__(self, "widths", widths)
        for name in ("steps", "batch_size", "chunk"):
            value = getattr(self, name)
            if value is not None or name == "steps":
                object.__setattr__(self, name, check_integer(value, name, 1))
        if not isinstance(self.learning_rate, int | float):
            raise TypeError(f"learning_rate must be a number, got {self.learning_rate!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks, and `[M, steps]` the mean squared error of each step's batch before the step."""

    networks: list[ReluNetwork]
    losses: Tensor

    def __len__(self) -> int:
        return len(self.networks)


def initialise(widths: Sequence[int], seed: int, dtype: torch.dtype = torch.float32) -> ReluNetwork:
    """An untrained network, the same as `nn.Linear` layers made after `torch.manual_seed(seed)`.

    Weights and biases of layer l are uniform in ±1/sqrt(h_(l-1)); the global generator is not used.

    Raises:
        TypeError, ValueError: as `TrainConfig`; a seed below 0, another dtype.

    Examples:
        >>> initialise([4, 16, 2], seed=0)
        ReluNetwork(4-16-2, float32)
    """
    if dtype not in DTYPES:
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    generator = torch.Generator().manual_seed(check_integer(seed, "seed", 0))
    layers = [
        (torch.empty(after, before, dtype=dtype), torch.empty(after, dtype=dtype))
        for before, after in pairwise(TrainConfig(tuple(widths)).widths)
    ]
    _reset(layers, generator)
    return ReluNetwork(*zip(*layers, strict=True))


def train(
    config: TrainConfig, x: Tensor, y: Tensor, seeds: Sequence[int], *, progress: bool = True
) -> Trained:
    """Train M networks, each on its own data, with `torch.get_num_threads()` threads.

    A network starts from `initialise(widths, seed)`; its generator goes on to draw
    `torch.randperm(n)` for each epoch of batches. The same call gives the same bits. Trained alone
    or in another chunk, its products may be rounded differently, which a long training amplifies.

    Args:
        config: the shape, and how to train.
        x: inputs `[M, n, h_0]`, float32 or float64, on the CPU; `expand` shares them for nothing.
        y: targets `[M, n, h_L]` of the same dtype.
        seeds: M integers of at least 0.
        progress: show a bar on stderr, which counts the steps of every network.

    Raises:
        TypeError: another type or dtype.
        ValueError: shapes that do not fit, fewer examples than 1 or a batch, values that are not
            finite, a training that diverges.
        NotImplementedError: a device other than the CPU.

    Examples:
        >>> x = torch.rand(3, 100, 1)
        >>> trained = train(TrainConfig((1, 8, 1), steps=20), x, x**2, range(3), progress=False)
        >>> trained.networks[0], trained.losses.shape
        (ReluNetwork(1-8-1, float32), torch.Size([3, 20]))
    """
    seeds = _check_data(config, x, y, seeds)
    total = len(seeds) * config.steps
    with tqdm(total=total, disable=not progress, unit="step", desc="training") as bar:
        parts = _train_chunks(config, x, y, seeds, bar)
    networks = [network for part in parts for network in part.networks]
    return Trained(networks, torch.cat([part.losses for part in parts]))


def _train_chunks(
    config: TrainConfig, x: Tensor, y: Tensor, seeds: list[int], bar: tqdm[NoReturn]
) -> list[Trained]:
    threads = torch.get_num_threads()
    chunks = _chunks(config, x, threads)
    done = [0] * len(chunks)
    stop = Event()

    def work(i: int) -> Trained:
        with torch.no_grad():  # which is a setting of the thread
            stack = _Stack(config, x[chunks[i]], y[chunks[i]], seeds[chunks[i]])
            for step in range(config.steps):
                if stop.is_set():
                    raise CancelledError
                stack.step(step)
                done[i] += len(stack.seeds)
            return stack.trained()

    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        results = [pool.submit(work, i) for i in range(len(chunks))]
        while (state := wait(results, 0.1, FIRST_EXCEPTION)).not_done:
            bar.update(sum(done) - bar.n)
            for result in state.done:
                result.result()  # raises what its thread raised
        bar.update(sum(done) - bar.n)
        return [result.result() for result in results]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


class _Stack:
    """C networks side by side: examples are the last dimension of all data, `[C, width, rows]`.

    So every product is one of long rows. No step allocates anything large.
    """

    def __init__(self, config: TrainConfig, x: Tensor, y: Tensor, seeds: Sequence[int]) -> None:
        self.config, self.seeds = config, seeds
        self.x, self.y = x.mT.contiguous(), y.mT.contiguous()
        self.rows = config.batch_size or x.shape[1]
        self.losses = x.new_zeros(config.steps, len(seeds))
        # One flat buffer each for parameters, gradients and Adam's moments: one update for all.
        size = len(seeds) * sum(n * (m + 1) for m, n in pairwise(config.widths))
        self.parameters, self.denominator = x.new_empty(2, size)
        self.gradient, self.mean, self.square = x.new_zeros(3, size)
        self.layers = self._layers(self.parameters)
        self.gradients = self._layers(self.gradient)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for i, generator in enumerate(self.generators):
            _reset([(weight[i], bias[i]) for weight, bias in self.layers], generator)
        rows = len(seeds) * _block(self.rows)
        self.activations = [x.new_empty(rows * width) for width in config.widths[1:]]
        self.backs = [x.new_empty(rows * width) for width in config.widths[1:-1]]

    def _layers(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of a flat buffer: the weights `[C, h_l, h_(l-1)]` and biases `[C, h_l, 1]`."""
        count = len(self.seeds)
        layers = []
        for before, after in pairwise(self.config.widths):
            size = count * after * before
            weight, bias, flat = flat.split([size, count * after, len(flat) - size - count * after])
            layers.append((weight.view(count, after, before), bias.view(count, after, 1)))
        return layers

    def step(self, step: int) -> None:
        """One step of Adam; the losses before it go to `losses[step]`."""
        x, y = self._batch(step)
        self.gradient.zero_()
        size = _block(self.rows)
        for x_block, y_block in zip(x.split(size, 2), y.split(size, 2), strict=True):
            self._add_gradient(x_block, y_block, self.losses[step])
        self.mean.lerp_(self.gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(self.gradient, self.gradient, value=1 - BETA2)
        scale = math.sqrt(1 - BETA2 ** (step + 1))
        torch.sqrt(self.square, out=self.denominator).div_(scale).add_(EPSILON)
        rate = self.config.learning_rate / (1 - BETA1 ** (step + 1))
        self.parameters.addcdiv_(self.mean, self.denominator, value=-rate)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        n = self.x.shape[2]
        if self.rows == n:
            return self.x, self.y
        begin = step % (n // self.rows) * self.rows
        if begin == 0:
            epochs = [torch.randperm(n, generator=generator) for generator in self.generators]
            self.order = torch.stack(epochs).unsqueeze(1)
        index = self.order[:, :, begin : begin + self.rows]
        x, y = (data.gather(2, index.expand(-1, data.shape[1], -1)) for data in (self.x, self.y))
        return x, y

    def _add_gradient(self, x: Tensor, y: Tensor, losses: Tensor) -> None:
        """Add a block's share of the mean squared errors `[C]` and of their gradient."""
        count, _, rows = x.shape
        inputs = [x]
        for (weight, bias), buffer in zip(self.layers, self.activations, strict=True):
            z = buffer[: count * weight.shape[1] * rows].view(count, -1, rows)
            torch.baddbmm(bias, weight, inputs[-1], out=z)
            inputs.append(z if buffer is self.activations[-1] else z.relu_())
        back = inputs.pop().sub_(y)
        entries = self.rows * y.shape[1]
        losses.add_(back.square().sum((1, 2)), alpha=1 / entries)
        back.mul_(2 / entries)
        for layer in reversed(range(len(self.layers))):
            a = inputs[layer]
            weight_gradient, bias_gradient = self.gradients[layer]
            weight_gradient.baddbmm_(back, a.mT)
            bias_gradient.add_(back.sum(2, keepdim=True))
            if layer > 0:
                out = self.backs[layer - 1][: a.numel()].view_as(a)
                back = torch.bmm(self.layers[layer][0].mT, back, out=out)
                # In place and in one pass, as no public function of torch is.
                torch.ops.aten.threshold_backward.grad_input(back, a, 0, grad_input=back)

    def trained(self) -> Trained:
        for step, i in (~self.losses.isfinite()).nonzero().tolist():
            raise ValueError(
                f"learning_rate must be small enough to train, got {self.config.learning_rate}: "
                f"the loss with seed {self.seeds[i]} is not finite at step {step}"
            )
        layers = [(weight, bias.squeeze(2)) for weight, bias in self.layers]
        networks = []
        for i in range(len(self.seeds)):
            weights, biases = zip(*((weight[i], bias[i]) for weight, bias in layers), strict=True)
            networks.append(ReluNetwork(weights, biases))
        return Trained(networks, self.losses.mT)


def _reset(layers: Sequence[tuple[Tensor, Tensor]], generator: torch.Generator) -> None:
    """The two calls of `nn.Linear.reset_parameters` for each (weight, bias)."""
    for weight, bias in layers:
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
        bound = 1 / math.sqrt(weight.shape[1])
        nn.init.uniform_(bias, -bound, bound, generator=generator)


def _block(rows: int) -> int:
    """The size of the fewest equal blocks of at most BLOCK examples."""
    return -(-rows // -(-rows // BLOCK))


def _chunks(config: TrainConfig, x: Tensor, threads: int) -> list[slice]:
    """The fewest chunks of equal size, one for each thread or a multiple of that."""
    # An activation and its gradient in every hidden layer; input, output and target once.
    floats = 2 * sum(config.widths) - config.widths[0]
    size = _block(config.batch_size or x.shape[1]) * floats * x.element_size()
    number = -(-len(x) // (config.chunk or max(1, CHUNK_BYTES // size)))
    if config.chunk is None:
        number = min(len(x), -(-number // threads) * threads)
    bounds = [len(x) * i // number for i in range(number + 1)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]


def _check_data(config: TrainConfig, x: Tensor, y: Tensor, seeds: Sequence[int]) -> list[int]:
    checked = [check_integer(seed, f"seeds[{i}]", 0) for i, seed in enumerate(seeds)]
    if not checked:
        raise ValueError("seeds must hold at least one seed, got none")
    check_tensor(x, "x", 3, DTYPES)
    check_tensor(y, "y", 3, (x.dtype,))
    for name, tensor, width in (("x", x, config.widths[0]), ("y", y, config.widths[-1])):
        if tensor.device.type != "cpu":
            raise NotImplementedError(f"{name} must be on the CPU, got {tensor.device}")
        expected = [len(checked), max(1, x.shape[1]), width]
        if list(tensor.shape) != expected:
            raise ValueError(f"{name} must have shape {expected}, got {list(tensor.shape)}")
        check_finite(tensor, name)
    if (config.batch_size or 1) > x.shape[1]:
        raise ValueError(f"batch_size must be at most n = {x.shape[1]}, got {config.batch_size}")
    return checked
