"""Many small networks of known tasks: what an embedding of networks is learned from and judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from gradsplinter import io
from gradsplinter.checks import check_integer, check_integers, check_number
from gradsplinter.families import family
from gradsplinter.network import ReluNetwork
from gradsplinter.tasks import Task
from gradsplinter.train import TrainConfig

SCHEMA = 2
NETWORKS, MANIFEST = "networks.safetensors", "manifest.json"
KEY = "gradsplinter.Zoo"
"""Of the schema, in files."""
_PLACES = 16
"""Examples by whose targets a task is recognised."""
_BATCH = 256


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
    """For each task, of which `embed train` and `embed study` hold out 10."""
    hidden: tuple[int, ...] = (32, 32)
    """Widths of the hidden layers."""
    examples: int = 1024
    """That each network is trained on, its own."""
    steps: int = 1000
    """Of Adam."""
    batch_size: int | None = None
    """Examples a step; by default 256, or all where there are fewer."""
    learning_rate: float = 1e-2
    """Of Adam."""
    learned: float = 0.9
    """The R² on fresh examples from which on a network counts as having learned its task."""
    seed: int = 0
    """Of all data and initial weights."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", check_integers(self.hidden, "hidden", 1))
        if not self.hidden:
            raise ValueError(
                "hidden must hold at least one width, got none: one gradient everywhere"
            )
        for name, least in (("networks", 2), ("examples", 2), ("seed", 0)):
            check_integer(getattr(self, name), name, least)
        _ = self.all_tasks, self.training
        if self.batch_size is not None and self.batch_size > self.examples:
            raise ValueError(
                f"batch_size must be at most examples = {self.examples}, got {self.batch_size}"
            )
        if not 0 < check_number(self.learned, "learned") < 1:
            raise ValueError(f"learned must be in (0, 1), got {self.learned}")

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        return family(self.family, self.tasks)

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.all_tasks[0].n_inputs, *self.hidden, 1)

    @property
    def training(self) -> TrainConfig:
        batch_size = min(_BATCH, self.examples) if self.batch_size is None else self.batch_size
        return TrainConfig(self.widths, self.steps, self.learning_rate, batch_size)

    @property
    def labels(self) -> Tensor:
        """int64: the task of each network."""
        return torch.arange(self.tasks).repeat_interleave(self.networks)

    @property
    def seeds(self) -> range:
        """Of the training of each network, in order."""
        count = self.tasks * self.networks
        return range(self.seed * count, (self.seed + 1) * count)


@dataclass(frozen=True, eq=False)
class Zoo:
    """Networks of one shape, `networks` of each task, those of a task one after the other.

    Attributes:
        config: how they were made.
        networks: M of them.
        labels: int64 `[M]`: the task of each.
        r2: float64 `[M]`: 1 - mean squared error / variance, on examples that it has not seen.

    Examples:
        >>> from gradsplinter.zoo_training import make_zoo
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

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        return self.config.all_tasks

    @property
    def failed(self) -> Tensor:
        """Indices of the networks that have not learned their task."""
        return (self.r2 < self.config.learned).nonzero().flatten()

    def rows(self) -> list[dict[str, Any]]:
        """A row for each network: its number, task and seed, its R², and whether it has learned the task."""
        return [
            {
                "network": i,
                "task": self.tasks[label].name,
                "seed": seed,
                "r2": round(r2, 6),
                "learned": r2 >= self.config.learned,
            }
            for i, (label, seed, r2) in enumerate(
                zip(self.labels.tolist(), self.config.seeds, self.r2.tolist(), strict=True)
            )
        ]

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
            >>> from gradsplinter.zoo_training import make_zoo
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
        manifest = identity(self.config) | {
            "fingerprint": self.fingerprint,
            "failed": self.failed.tolist(),
            "r2": [round(float(value), 6) for value in self.r2],
        }
        with io.new_folder(Path(folder)) as new:
            io.write_file(new / NETWORKS, save(stacked(self.networks), metadata={KEY: str(SCHEMA)}))
            io.write_json(new / MANIFEST, manifest)

    @classmethod
    def load(cls, folder: str | Path) -> Zoo:
        """Read what `save` wrote; nothing is ever unpickled.

        Raises:
            ValueError: a folder that is incomplete, damaged, of another version of zoos or of tasks,
                with R² that cannot be.
        """
        folder = Path(folder)
        if not folder.is_dir():
            left = folder.with_name(f"{folder.name}.checkpoint.safetensors")
            why = ": it is not finished, make it with the same `gradsplinter zoo`"
            raise ValueError(
                f"folder must hold a zoo, got {folder}, which is not there{why if left.exists() else ''}"
            )
        for name in (NETWORKS, MANIFEST):
            if not (folder / name).is_file():
                raise ValueError(f"folder must hold a zoo, got {folder}, which has no {name}")
        manifest = io.read_json(folder / MANIFEST)
        version = manifest.get(KEY)
        if version != SCHEMA:
            raise ValueError(
                f"folder must hold a zoo of schema {SCHEMA}, got {folder} with schema {version}: "
                "make it again with `gradsplinter zoo`"
            )
        try:
            fields = dict(manifest["config"])
            config = ZooConfig(**fields | {"hidden": tuple(fields["hidden"])})
            fingerprint, r2 = manifest["fingerprint"], _checked_r2(manifest["r2"], config)
            same = same_tasks(manifest, identity(config))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"folder must hold a zoo, got {folder} with a damaged manifest: {error}"
            ) from error
        if not same:
            raise ValueError(
                f"folder must hold a zoo of the tasks of this version of gradsplinter, got {folder}, "
                "whose tasks differ: make it again with `gradsplinter zoo`"
            )
        _, found = io.read_safetensors(
            folder / NETWORKS, f"folder must hold a zoo, whose {NETWORKS}"
        )
        count, what = config.tasks * config.networks, "folder must hold a zoo"
        zoo = cls(config, unstacked(found, config, count, what), config.labels, r2)
        if zoo.fingerprint != fingerprint:
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


def identity(config: ZooConfig) -> dict[str, Any]:
    """Of the zoo: also what the tasks are, by their targets at examples of their own."""
    targets = []
    for task in config.all_tasks:
        generator = torch.Generator().manual_seed(0)
        x = task.sample(_PLACES, generator=generator, dtype=torch.float64)
        targets.append(task.target(x).flatten().tolist())
    names = [task.name for task in config.all_tasks]
    return {KEY: SCHEMA, "config": asdict(config), "tasks": names, "targets": targets}


def same_tasks(found: dict[str, Any], own: dict[str, Any]) -> bool:
    """By their names, and by their targets but for what libraries of mathematics round differently."""
    if found["tasks"] != own["tasks"]:
        return False
    targets, expected = (
        torch.tensor(about["targets"], dtype=torch.float64) for about in (found, own)
    )
    return targets.shape == expected.shape and torch.allclose(
        targets, expected, rtol=1e-6, atol=1e-6
    )


def _checked_r2(values: Any, config: ZooConfig) -> Tensor:
    r2 = torch.tensor(values, dtype=torch.float64)
    count = config.tasks * config.networks
    if r2.shape != (count,):
        raise ValueError(f"r2 must have shape [{count}], got {list(r2.shape)}")
    if not bool(((r2 <= 1) & r2.isfinite()).all()):
        raise ValueError("r2 must be finite and at most 1")
    return r2


def stacked(networks: Sequence[ReluNetwork]) -> dict[str, Tensor]:
    """All weights and biases, by layer."""
    tensors = {}
    for i in range(networks[0].depth):
        tensors[f"weight.{i + 1}"] = torch.stack([net.weights[i] for net in networks])
        tensors[f"bias.{i + 1}"] = torch.stack([net.biases[i] for net in networks])
    return tensors


def unstacked(
    found: dict[str, Tensor], config: ZooConfig, count: int, what: str
) -> list[ReluNetwork]:
    """The first `count` networks of a zoo, from what `stacked` made."""
    expected: dict[str, Any] = {}
    for i, (before, after) in enumerate(pairwise(config.widths), 1):
        expected |= {f"weight.{i}": [count, after, before], f"bias.{i}": [count, after]}
    shapes = {name: list(tensor.shape) for name, tensor in found.items()}
    if shapes != expected:
        raise ValueError(
            f"{what}, {count} networks of widths {config.widths}, got tensors of shapes {shapes}"
        )
    depth = len(config.widths) - 1
    try:
        return [
            ReluNetwork(
                tuple(found[f"weight.{i}"][m] for i in range(1, depth + 1)),
                tuple(found[f"bias.{i}"][m] for i in range(1, depth + 1)),
            )
            for m in range(count)
        ]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}, got networks that cannot be: {error}") from error
