"""Train many small networks of one shape at once: their weights are stacked, and so are the steps.

Each network has its own seed, data and targets, and does not depend on which others it is trained
with: its initial weights and the order of its batches come from a generator of its own.

A chunk of networks belongs to one thread. The threads that torch uses within an operation wait for
each other after every small product, which costs a multiple of its gain on a busy machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from threading import Event, Lock
from typing import NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter._stack import Stack, block_size, reset
from gradsplinter.checks import DTYPES, check_finite, check_integer, check_tensor
from gradsplinter.network import ReluNetwork

# What a chunk's activations and their gradients may take, to stay in a core's share of the cache.
CHUNK_BYTES = 4 * 2**20

Callback = Callable[[int, ReluNetwork, int], object]


@dataclass(frozen=True)
class TrainConfig:
    """How networks are trained: mean squared error, Adam, a fixed number of steps.

    A value of another type is a TypeError, one out of range a ValueError.

    Args:
        widths: (h_0, ..., h_L).
        steps: Adam steps, at least 1.
        learning_rate: of Adam, positive, at most 1e30.
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
        if not 0 < self.learning_rate <= 1e30:
            raise ValueError(
                f"learning_rate must be positive and at most 1e30, got {self.learning_rate}"
            )


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
    reset(layers, generator)
    return ReluNetwork(*zip(*layers, strict=True))


def train(
    config: TrainConfig,
    x: Tensor,
    y: Tensor,
    seeds: Sequence[int],
    *,
    checkpoints: Sequence[int] = (),
    callback: Callback | None = None,
    progress: bool = True,
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
        checkpoints: numbers of steps, 0..steps, after which `callback` is called.
        callback: called as callback(step, network, i) for each network i of the M; from the threads
            that train, one call at a time.
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
    at_step = _Checkpoints(config, checkpoints, callback)
    total = len(seeds) * config.steps
    with tqdm(total=total, disable=not progress, unit="step", desc="training") as bar:
        parts = _train_chunks(config, x, y, seeds, bar, at_step)
    networks = [network for part in parts for network in part.networks]
    return Trained(networks, torch.cat([part.losses for part in parts]))


class _Checkpoints:
    """Calls the callback at the steps at which it is wanted."""

    def __init__(
        self, config: TrainConfig, steps: Sequence[int], callback: Callback | None
    ) -> None:
        self.steps = {check_integer(step, f"checkpoints[{i}]", 0) for i, step in enumerate(steps)}
        if self.steps and max(self.steps) > config.steps:
            raise ValueError(f"checkpoints must be in 0..{config.steps}, got {max(self.steps)}")
        if bool(self.steps) != (callback is not None):
            raise ValueError("checkpoints and callback must be given together")
        self.callback, self.lock = callback, Lock()

    def __call__(self, step: int, stack: Stack, first: int) -> None:
        if self.callback is None or step not in self.steps:
            return
        with self.lock:
            for i, network in enumerate(stack.networks(), first):
                self.callback(step, network, i)


def _train_chunks(
    config: TrainConfig,
    x: Tensor,
    y: Tensor,
    seeds: list[int],
    bar: tqdm[NoReturn],
    at_step: _Checkpoints,
) -> list[Trained]:
    threads = torch.get_num_threads()
    chunks = _chunks(config, x, threads)
    done = [0] * len(chunks)
    stop = Event()

    def work(i: int) -> Trained:
        with torch.no_grad():  # which is a setting of the thread
            chunk = chunks[i]
            stack = Stack(config.widths, x[chunk], y[chunk], seeds[chunk], config.batch_size)
            losses = x.new_zeros(config.steps, len(seeds[chunk]))
            for step in range(config.steps):
                if stop.is_set():
                    raise CancelledError
                at_step(step, stack, chunk.start)
                stack.step(config.learning_rate, losses[step])
                done[i] += len(seeds[chunk])
            _check_losses(losses, seeds[chunk], config.learning_rate)
            at_step(config.steps, stack, chunk.start)
            return Trained(stack.networks(), losses.mT)

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


def _chunks(config: TrainConfig, x: Tensor, threads: int) -> list[slice]:
    """The fewest chunks of equal size, one for each thread or a multiple of that."""
    # An activation and its gradient in every hidden layer; input, output and target once.
    floats = 2 * sum(config.widths) - config.widths[0]
    size = block_size(config.batch_size or x.shape[1]) * floats * x.element_size()
    number = -(-len(x) // (config.chunk or max(1, CHUNK_BYTES // size)))
    if config.chunk is None:
        number = min(len(x), -(-number // threads) * threads)
    bounds = [len(x) * i // number for i in range(number + 1)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]


def _check_losses(losses: Tensor, seeds: list[int], learning_rate: float) -> None:
    for step, i in (~losses.isfinite()).nonzero().tolist():
        raise ValueError(
            f"learning_rate must be small enough to train, got {learning_rate}: "
            f"the loss with seed {seeds[i]} is not finite at step {step}"
        )


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
