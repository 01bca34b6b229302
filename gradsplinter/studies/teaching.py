"""An embedder taught with a zoo: what it remembers, and how well it does on networks that were held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gradsplinter.checks import check_integer
from gradsplinter.embedder import Embedder, EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig, TrainedEmbedder, train_embedder
from gradsplinter.known_tasks import KnownTasks
from gradsplinter.network import ReluNetwork
from gradsplinter.studies.embedding_baselines import cloze_r2
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.tokens import Tokens, tokens_of
from gradsplinter.zoo import Zoo

POINTS = 1024
"""Examples at which a network is looked at, its own ones, to be remembered or tested."""


@dataclass(frozen=True)
class ClozeRow:
    """How well hidden gradients of held-out networks are filled in, all of them together."""

    hidden: float
    """Share of the modes."""
    r2: float
    """1 - squared error / squared distance from the mean gradient of the training networks."""


@dataclass(frozen=True, eq=False)
class Taught:
    """An embedder, and what was measured on the held-out networks.

    Attributes:
        trained: by the training networks; its embedder remembers their tasks.
        training, held_out: indices of the zoo's networks.
        cloze: a row for each share of hidden modes in the training.
        recognised: share of held-out networks whose nearest known task is their own.
        unlike: share of held-out networks that would be called like none of the known tasks.
        probe: accuracy of a linear probe; None where scikit-learn is missing.
    """

    trained: TrainedEmbedder
    training: Tensor
    held_out: Tensor
    cloze: list[ClozeRow]
    recognised: float
    unlike: float
    probe: float | None


def teach(
    zoo: Zoo,
    shape: EmbedderConfig | None = None,
    config: EmbedderTrainingConfig | None = None,
    *,
    held_out: int = 10,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Taught:
    """Teach an embedder with a zoo, and have it remember the zoo's tasks.

    Args:
        zoo: the networks.
        shape: of the embedder; its number of inputs is the zoo's.
        config: how it is taught.
        held_out: networks of each task that it is not taught with, drawn by the seed of `config`, at least
            1 and not all.
        checkpoint, device, progress: as in `train_embedder`.

    Raises:
        ValueError: too few networks; what `train_embedder` refuses.

    Examples:
        >>> from gradsplinter.zoo import ZooConfig, make_zoo
        >>> zoo = make_zoo(ZooConfig(tasks=2, networks=4, examples=256, steps=10), progress=False)
        >>> taught = teach(zoo, config=EmbedderTrainingConfig(steps=5), held_out=1, progress=False)
        >>> taught.trained.embedder.known
        KnownTasks(x1 * x2, (x1 - x2) / (x2 + 0.5))
    """
    shape, config = shape or EmbedderConfig(), config or EmbedderTrainingConfig()
    shape = replace(shape, inputs=zoo.config.widths[0])
    training, out = zoo.split(check_integer(held_out, "held_out", 1), config.seed)
    # All tasks of a family have the same inputs.
    sample = zoo.tasks[0].sample

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return sample(n, generator=generator)

    trained = train_embedder(
        _some(zoo, training), draw, shape, config,
        checkpoint=checkpoint, device=device, progress=progress,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1_000_000 + config.seed)
    own, other = (
        tokens_of(
            _some(zoo, index),
            draw(len(index) * POINTS, generator).view(len(index), POINTS, -1),
            kind=config.tokens, values=shape.values,
        )
        for index in (training, out)
    )  # fmt: skip
    embedder = trained.embedder
    embeddings = torch.cat([embedder.encode(own), embedder.encode(other)])
    labels = zoo.labels[torch.cat([training, out])]
    names = [task.name for task in zoo.tasks]
    known = KnownTasks.of(names, labels[: len(training)], embeddings[: len(training)])
    embedder.known = known
    tested = embeddings[len(training) :]
    nearest = [known.nearest(one, 1)[0].name for one in tested]
    return Taught(
        trained, training, out,
        _cloze(embedder, own, other, config.mask, generator),
        _share([found == names[int(label)] for found, label in zip(nearest, zoo.labels[out], strict=True)]),
        _share([not known.has_alike(one) for one in tested]),
        _probe(embeddings, labels, len(training)),
    )  # fmt: skip


def _some(zoo: Zoo, index: Tensor) -> list[ReluNetwork]:
    return [zoo.networks[i] for i in index.tolist()]


def _cloze(
    embedder: Embedder,
    own: Tokens,
    other: Tokens,
    shares: tuple[float, ...],
    generator: torch.Generator,
) -> list[ClozeRow]:
    mean = (own.shares.unsqueeze(2) * own.values).sum((0, 1)) / len(own)

    def fill(tokens: Tokens, visible: Tensor) -> Tensor:
        return embedder.decode(embedder.encode(tokens, visible), tokens.points)

    rows = []
    for share in shares:
        counts = (share * (other.shares > 0).sum(1, keepdim=True)).round()
        hidden = other.some(counts, generator)
        rows.append(ClozeRow(share, cloze_r2(other, hidden, fill, mean)))
    return rows


def _share(found: list[bool]) -> float:
    return sum(found) / len(found)


def _probe(embeddings: Tensor, labels: Tensor, training: int) -> float | None:
    rows = torch.arange(len(labels))
    try:
        return probe_accuracy(embeddings, labels, rows[:training], rows[training:])
    except ImportError:
        return None
