"""An embedder taught with zoos: what it remembers, and how well it does on networks that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gradsplinter.embedder import Embedder, EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig, TrainedEmbedder, train_embedder
from gradsplinter.known_tasks import LEAST, KnownTasks
from gradsplinter.network import ReluNetwork
from gradsplinter.studies.embedding_baselines import cloze_r2
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.tokens import Tokens, hide, tokens_of
from gradsplinter.zoo import Zoo

POINTS = 1024
"""Examples at which a network is looked at, its own ones, to be remembered or tested."""


@dataclass(frozen=True)
class HeldOutRow:
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
        training, held_out: how many networks.
        cloze: a row for each share of hidden modes in the training.
        recognised: share of held-out networks whose nearest known task is their own.
        unlike: share of held-out networks that would be called like none of the known tasks.
        probe: accuracy of a linear probe; None where scikit-learn is missing.
    """

    trained: TrainedEmbedder
    training: int
    held_out: int
    cloze: list[HeldOutRow]
    recognised: float
    unlike: float
    probe: float | None


def teach(
    zoos: Sequence[Zoo],
    shape: EmbedderConfig | None = None,
    config: EmbedderTrainingConfig | None = None,
    *,
    held_out: int = 10,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Taught:
    """Teach an embedder with zoos, and have it remember their tasks.

    Args:
        zoos: of the same tasks; several ones, so that it knows networks of several shapes.
        shape: of the embedder; its number of inputs is the zoos'.
        config: how it is taught.
        held_out: networks of each task and zoo that it is not taught with, drawn by the seed of `config`,
            at least 1; of each task at least 2 are left, all zoos together.
        checkpoint, device, progress: as in `train_embedder`.

    Raises:
        TypeError: something that is no zoo.
        ValueError: no zoo, zoos of different tasks or that share networks, too few networks; what
            `train_embedder` refuses.

    Examples:
        >>> from gradsplinter.zoo import ZooConfig
        >>> from gradsplinter.zoo_training import make_zoo
        >>> zoo = make_zoo(ZooConfig(tasks=2, networks=4, examples=256, steps=10), progress=False)
        >>> taught = teach([zoo], config=EmbedderTrainingConfig(steps=5), held_out=1, progress=False)
        >>> taught.trained.embedder.known
        KnownTasks(x1 * x2, (x1 - x2) / (x2 + 0.5))
    """
    _check(zoos)
    shape, config = shape or EmbedderConfig(), config or EmbedderTrainingConfig()
    tasks, inputs = zoos[0].tasks, zoos[0].config.widths[0]
    shape = replace(shape, inputs=inputs)
    splits = [zoo.split(held_out, config.seed) for zoo in zoos]
    left = sum(zoo.config.networks - held_out for zoo in zoos)
    if left < LEAST:
        raise ValueError(
            f"held_out must leave at least {LEAST} networks of each task to be taught with, got {held_out}, "
            f"which leaves {left}"
        )
    training, labels = _joined(zoos, [own for own, _ in splits])
    tested, expected = _joined(zoos, [other for _, other in splits])

    def sample(n: int, generator: torch.Generator) -> Tensor:
        return tasks[0].sample(n, generator=generator)  # all tasks of a family have the same inputs

    trained = train_embedder(
        training, sample, shape, config, checkpoint=checkpoint, device=device, progress=progress
    )
    embedder = trained.embedder
    generator = torch.Generator().manual_seed(1_000_000 + config.seed)
    own, other = (
        tokens_of(
            nets, sample(len(nets) * POINTS, generator).view(len(nets), POINTS, inputs),
            kind=config.tokens, values=shape.values,
        )
        for nets in (training, tested)
    )  # fmt: skip
    embeddings, found = embedder.encode(own), embedder.encode(other)
    embedder.known = KnownTasks.of([task.name for task in tasks], labels, embeddings)
    nearest = [embedder.known.nearest(one, 1)[0].name for one in found]
    names = [tasks[label].name for label in expected.tolist()]
    return Taught(
        trained,
        len(training),
        len(tested),
        _cloze(embedder, own, other, config.mask, generator),
        _share([a == b for a, b in zip(nearest, names, strict=True)]),
        _share([not embedder.known.has_alike(one) for one in found]),
        _probe(torch.cat([embeddings, found]), torch.cat([labels, expected]), len(training)),
    )


def _check(zoos: Sequence[Zoo]) -> None:
    for i, zoo in enumerate(zoos):
        if not isinstance(zoo, Zoo):
            raise TypeError(f"zoos[{i}] must be a Zoo, got {type(zoo).__name__}")
    if not zoos:
        raise ValueError("zoos must hold at least one zoo, got none")
    kinds = {(zoo.config.family, zoo.config.tasks) for zoo in zoos}
    if len(kinds) > 1:
        found = ", ".join(f"{tasks} of {family}" for family, tasks in sorted(kinds))
        raise ValueError(f"zoos must be of the same tasks, got {found}")
    fingerprints = [net.fingerprint for zoo in zoos for net in zoo.networks]
    if len(set(fingerprints)) < len(fingerprints):
        raise ValueError(
            "zoos must not share networks, got some twice: make them with different seeds"
        )


def _joined(zoos: Sequence[Zoo], indices: Sequence[Tensor]) -> tuple[list[ReluNetwork], Tensor]:
    """Some networks of each zoo, and their labels."""
    pairs = list(zip(zoos, indices, strict=True))
    networks = [zoo.networks[i] for zoo, index in pairs for i in index.tolist()]
    return networks, torch.cat([zoo.labels[index] for zoo, index in pairs])


def _cloze(
    embedder: Embedder,
    own: Tokens,
    other: Tokens,
    shares: tuple[float, ...],
    generator: torch.Generator,
) -> list[HeldOutRow]:
    mean = (own.shares.unsqueeze(2) * own.values).sum((0, 1)) / len(own)

    rows = []
    for share in shares:
        hidden = hide(other, (share,), generator)
        rows.append(HeldOutRow(share, cloze_r2(other, hidden, embedder.fill, mean)))
    return rows


def _share(found: list[bool]) -> float:
    return sum(found) / len(found)


def _probe(embeddings: Tensor, labels: Tensor, training: int) -> float | None:
    rows = torch.arange(len(labels))
    try:
        return probe_accuracy(embeddings, labels, rows[:training], rows[training:])
    except ImportError:
        return None
