"""Many small networks of known tasks: what an embedding of networks is learned from and judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from gradsplinter import io
from gradsplinter.checks import check_integer
from gradsplinter.families import family
from gradsplinter.network import ReluNetwork
from gradsplinter.tasks import Task
from gradsplinter.train import TrainConfig, train

SCHEMA = 1
NETWORKS, MANIFEST = "networks.safetensors", "manifest.json"
_FRESH = 2048
"""Examples that a network has not seen, on which it is judged."""


@dataclass(frozen=True)
class ZooConfig:
    """Which networks there are, and how they are trained.

    Raises:
        TypeError, ValueError: a value of another type or out of range.

    Examples:
        >>> ZooConfig("curves", tasks=3).widths
        (1, 32, 32, 1)
    """

    family: str = "formulae"
    """curves, formulae, formulae-4d, hard-curves, hard-formulae or hard-formulae-4d (`families.family`)."""
    tasks: int = 10
    """The first ones of the family."""
    networks: int = 50
    """For each task."""
    hidden: tuple[int, ...] = (32, 32)
    """Widths of the hidden layers."""
    examples: int = 1024
    """That each network is trained on, its own."""
    steps: int = 1000
    """Of Adam."""
    batch_size: int = 256
    """Examples a step."""
    learning_rate: float = 1e-2
    """Of Adam."""
    learned: float = 0.9
    """The R² on fresh examples from which on a network counts as having learned its task."""
    seed: int = 0
    """Of all data and initial weights."""

    def __post_init__(self) -> None:
        _ = self.all_tasks, self.training
        for name, least in (("networks", 2), ("examples", 2), ("seed", 0)):
            check_integer(getattr(self, name), name, least)
        if self.batch_size > self.examples:
            raise ValueError(
                f"batch_size must be at most examples = {self.examples}, got {self.batch_size}"
            )
        if not 0 < self.learned < 1:
            raise ValueError(f"learned must be in (0, 1), got {self.learned}")

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        return family(self.family, self.tasks)

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.all_tasks[0].n_inputs, *self.hidden, 1)

    @property
    def training(self) -> TrainConfig:
        return TrainConfig(self.widths, self.steps, self.learning_rate, self.batch_size)


@dataclass(frozen=True, eq=False)
class Zoo:
    """Networks of one shape, `networks` of each task, those of a task one after the other.

    Attributes:
        config: how they were made.
        networks: M of them.
        labels: int64 `[M]`: the task of each.
        r2: float64 `[M]`: 1 - mean squared error / variance, on examples that it has not seen.

    Examples:
        >>> zoo = make_zoo(ZooConfig(tasks=2, networks=2, examples=256, steps=10), progress=False)
        >>> zoo
        Zoo(formulae: 2 tasks × 2 networks 2-32-32-1, 4 have not learned theirs)
        >>> zoo.labels
        tensor([0, 0, 1, 1])
    """

    config: ZooConfig
    networks: list[ReluNetwork]
    labels: Tensor
    r2: Tensor

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.config.all_tasks

    @property
    def failed(self) -> Tensor:
        """Indices of the networks that have not learned their task."""
        return (self.r2 < self.config.learned).nonzero().flatten()

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all networks, in order."""
        digest = hashlib.sha256()
        for net in self.networks:
            digest.update(net.fingerprint.encode())
        return digest.hexdigest()

    def split(self, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of training and of held-out networks, ascending: all tasks in both, no network.

        Args:
            held_out: networks of each task that are held out, at least 1 and not all.
            seed: draws which.

        Examples:
            >>> zoo = make_zoo(ZooConfig(tasks=2, networks=3, examples=256, steps=1), progress=False)
            >>> training, held_out = zoo.split(1, seed=0)
            >>> zoo.labels[training].tolist(), zoo.labels[held_out].tolist()
            ([0, 0, 1, 1], [0, 1])
        """
        count = self.config.networks
        if check_integer(held_out, "held_out", 1) >= count:
            raise ValueError(
                f"held_out must be below {count}, the networks of a task, got {held_out}"
            )
        generator = torch.Generator().manual_seed(check_integer(seed, "seed", 0))
        out = torch.zeros(len(self.networks), dtype=torch.bool)
        for begin in range(0, len(out), count):
            out[begin + torch.randperm(count, generator=generator)[:held_out]] = True
        return (~out).nonzero().flatten(), out.nonzero().flatten()

    def save(self, folder: str | Path) -> None:
        """Write `networks.safetensors`, all weights stacked, and `manifest.json` into a folder.

        Raises:
            ValueError: the folder cannot be written to.
        """
        layers = [(net.weights, net.biases) for net in self.networks]
        tensors = {}
        for i in range(len(self.config.widths) - 1):
            tensors[f"weight.{i + 1}"] = torch.stack([weights[i] for weights, _ in layers])
            tensors[f"bias.{i + 1}"] = torch.stack([biases[i] for _, biases in layers])
        manifest = {
            "gradsplinter.Zoo": SCHEMA,
            "config": asdict(self.config),
            "tasks": [task.name for task in self.tasks],
            "fingerprint": self.fingerprint,
            "failed": self.failed.tolist(),
            "r2": [round(float(value), 6) for value in self.r2],
        }
        with io.new_folder(Path(folder)) as new:
            io.write_file(new / NETWORKS, save(tensors, metadata={"gradsplinter.Zoo": str(SCHEMA)}))
            io.write_json(new / MANIFEST, manifest)

    @classmethod
    def load(cls, folder: str | Path) -> Zoo:
        """Read what `save` wrote; nothing is ever unpickled.

        Raises:
            ValueError: a folder that is incomplete, damaged, of another version of zoos or of tasks.
        """
        folder = Path(folder)
        for name in (NETWORKS, MANIFEST):
            if not (folder / name).is_file():
                raise ValueError(f"folder must hold a zoo, got {folder}, which has no {name}")
        manifest = io.read_json(folder / MANIFEST)
        version = manifest.get("gradsplinter.Zoo")
        if version != SCHEMA:
            raise ValueError(
                f"folder must hold a zoo of schema {SCHEMA}, got {folder} with schema {version}: "
                "make it again with `gradsplinter zoo`"
            )
        try:
            fields = dict(manifest["config"])
            config = ZooConfig(**fields | {"hidden": tuple(fields["hidden"])})
            names, fingerprint, r2 = (manifest[key] for key in ("tasks", "fingerprint", "r2"))
            r2 = torch.tensor(r2, dtype=torch.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"folder must hold a zoo, got {folder} with a damaged manifest: {error}"
            ) from error
        if names != [task.name for task in config.all_tasks]:
            raise ValueError(
                f"folder must hold a zoo of the tasks of this version of gradsplinter, got {folder}, "
                "whose tasks differ: make it again with `gradsplinter zoo`"
            )
        zoo = cls(config, _networks(folder, config), _labels(config), r2)
        if len(r2) != len(zoo.networks) or zoo.fingerprint != fingerprint:
            raise ValueError(
                f"folder must hold a zoo as it was written, got {folder}, whose networks are not those "
                "of its manifest"
            )
        return zoo

    def __repr__(self) -> str:
        config, failed = self.config, len(self.failed)
        shape = "-".join(map(str, config.widths))
        lost = f", {failed} {'has' if failed == 1 else 'have'} not learned theirs" if failed else ""
        return (
            f"Zoo({config.family}: {config.tasks} tasks × {config.networks} networks {shape}{lost})"
        )


def make_zoo(config: ZooConfig, *, progress: bool = True) -> Zoo:
    """Train the networks of a zoo, all at once, each on its own examples from its own initial weights.

    Args:
        config: which networks.
        progress: show a bar on stderr.

    Raises:
        ValueError: a training that diverges.
    """
    generator = torch.Generator().manual_seed(config.seed)
    sampled = [_sample(task, config, generator) for task in config.all_tasks]
    x, y, fresh_x, fresh_y = (torch.cat(parts) for parts in zip(*sampled, strict=True))
    begin = config.seed * len(x)
    trained = train(config.training, x, y, range(begin, begin + len(x)), progress=progress)
    r2 = [_r2(net(x_), y_) for net, x_, y_ in zip(trained.networks, fresh_x, fresh_y, strict=True)]
    return Zoo(config, trained.networks, _labels(config), torch.tensor(r2, dtype=torch.float64))


def _sample(task: Task, config: ZooConfig, generator: torch.Generator) -> Sequence[Tensor]:
    """x and y `[networks, examples, *]`, and fresh ones."""
    n, count = config.examples, config.networks
    x = task.sample(count * (n + _FRESH), generator=generator)
    parts = []
    for data in (x, task.target(x)):
        parts.append(data.view(count, n + _FRESH, -1).split([n, _FRESH], dim=1))
    (x, fresh_x), (y, fresh_y) = parts
    return x, y, fresh_x, fresh_y


def _r2(found: Tensor, y: Tensor) -> float:
    error = (found - y).double().square().mean()
    return float(1 - error / y.double().var(correction=0))


def _labels(config: ZooConfig) -> Tensor:
    return torch.arange(config.tasks).repeat_interleave(config.networks)


def _networks(folder: Path, config: ZooConfig) -> list[ReluNetwork]:
    path, count = folder / NETWORKS, config.tasks * config.networks
    _, found = io.read_safetensors(path, f"folder must hold a zoo, whose {NETWORKS}")
    expected: dict[str, Any] = {}
    for i, (before, after) in enumerate(pairwise(config.widths), 1):
        expected |= {f"weight.{i}": [count, after, before], f"bias.{i}": [count, after]}
    shapes = {name: list(tensor.shape) for name, tensor in found.items()}
    if shapes != expected:
        raise ValueError(
            f"folder must hold a zoo of {count} networks of widths {config.widths}, got {path} with {shapes}"
        )
    depth = len(config.widths) - 1
    return [
        ReluNetwork(
            tuple(found[f"weight.{i}"][m] for i in range(1, depth + 1)),
            tuple(found[f"bias.{i}"][m] for i in range(1, depth + 1)),
        )
        for m in range(count)
    ]
