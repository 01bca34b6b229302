"""Training the networks of a `Zoo`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from gradsplinter import io
from gradsplinter.network import ReluNetwork
from gradsplinter.tasks import Task
from gradsplinter.train import train
from gradsplinter.wording import difference
from gradsplinter.zoo import KEY, Zoo, ZooConfig, identity, same_tasks, stacked, unstacked

_FRESH = 2048
"""Examples that a network has not seen, on which it is judged."""
_UPDATES = 20
"""Of the bar, for each task."""


def make_zoo(
    config: ZooConfig, checkpoint: str | Path | None = None, *, progress: bool = True
) -> Zoo:
    """Train the networks of a zoo, those of a task at once, each on its own examples from its own initial weights.

    Args:
        config: which networks.
        checkpoint: a file in which it keeps what it has after every task, and from which it goes on where it
            was interrupted, to the same networks.
        progress: show a bar on stderr, which counts the steps of every network.

    Raises:
        ValueError: a training that diverges; a checkpoint of another zoo, or that is damaged.
    """
    path = None if checkpoint is None else Path(checkpoint)
    done = _Done() if path is None or not path.exists() else _Done.load(path, config)
    generator = torch.Generator().manual_seed(config.seed)
    count, steps = config.networks, config.steps
    marks = range(0, steps + 1, -(-steps // _UPDATES)) if progress else range(0)
    with tqdm(
        total=config.tasks * count * steps, initial=len(done.networks) * steps, disable=not progress,
        unit="step", desc="zoo",
    ) as bar:  # fmt: skip

        def update(step: int, _: ReluNetwork, __: int) -> None:
            bar.update(min(marks.step, step))

        for i, task in enumerate(config.all_tasks):
            x, y, fresh_x, fresh_y = _sample(task, config, generator)
            first = i * count
            if first < len(done.networks):
                continue
            trained = train(
                config.training, x, y, config.seeds[first : first + count], checkpoints=marks,
                callback=update if progress else None, progress=False,
            )  # fmt: skip
            done.networks += trained.networks
            for net, own_x, own_y in zip(trained.networks, fresh_x, fresh_y, strict=True):
                done.r2.append(_r2(net(own_x), own_y))
            bar.update(len(done.networks) * steps - bar.n)
            if path is not None:
                done.save(path, config)
    return Zoo(config, done.networks, config.labels, torch.tensor(done.r2, dtype=torch.float64))


@dataclass
class _Done:
    """Networks of the first tasks, and their R²."""

    networks: list[ReluNetwork] = field(default_factory=list)
    r2: list[float] = field(default_factory=list)

    def save(self, path: Path, config: ZooConfig) -> None:
        tensors = stacked(self.networks) | {"r2": torch.tensor(self.r2, dtype=torch.float64)}
        io.write_file(path, save(tensors, metadata={KEY: json.dumps(_about(config))}))

    @classmethod
    def load(cls, path: Path, config: ZooConfig) -> _Done:
        metadata, tensors = io.read_safetensors(path, "checkpoint")
        about, own = io.json_object(metadata.get(KEY, "")), json.loads(json.dumps(_about(config)))
        found, expected = (
            {key: record.get(key) for key in (KEY, "config", "tasks", "versions")}
            for record in (about, own)
        )
        other = difference(found, expected)
        try:
            if not other and not same_tasks(about, own):
                other = "other targets"
        except (KeyError, TypeError, ValueError):
            other = "no targets"
        if other:
            raise ValueError(f"checkpoint must be of the same zoo, got {path} with {other}")
        r2 = tensors.pop("r2", torch.zeros(0))
        what = "checkpoint must hold finished tasks of a zoo"
        return cls(unstacked(tensors, config, len(r2), what), r2.tolist())


def _about(config: ZooConfig) -> dict[str, Any]:
    """What the networks depend on."""
    return identity(config) | {"versions": {"torch": torch.__version__}}


def _sample(task: Task, config: ZooConfig, generator: torch.Generator) -> Sequence[Tensor]:
    """x and y `[networks, examples, *]`, and fresh ones."""
    n, count = config.examples, config.networks
    x = task.sample(count * (n + _FRESH), generator=generator)
    parts = []
    for data in (x, task.target(x)):
        parts.append(data.view(count, n + _FRESH, -1).split([n, _FRESH], dim=1))
    (x, fresh_x), (y, fresh_y) = ([part.contiguous() for part in both] for both in parts)
    return x, y, fresh_x, fresh_y


def _r2(found: Tensor, y: Tensor) -> float:
    error = (found - y).double().square().mean()
    return float(1 - error / y.double().var(correction=0))
