"""What is asked of the embedders of one split, and of what needs no learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradsplinter.embedder import Embedder
from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.embedding_trial import AT_FIXED_POINTS, FIXED_POINTS, Trial
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.studies.statistics import rank_correlation
from gradsplinter.tokens import Tokens

CHOOSE_BY = 40
"""Training networks, by which the kernel of the Gaussian process is chosen."""
KNOWS = "knows the exact fields"
"""Names the task whose exact gradients are nearest: a yardstick, since it needs the tasks themselves."""
FILLED = f"{AT_FIXED_POINTS}, by a Gaussian process"
NOISY = "noisy gradients"
NOISY_HIDDEN = 0.3
"""Share of noisy tokens by which the kernel of the Gaussian process is chosen."""


@dataclass(frozen=True)
class ProbeRow:
    """The accuracy of a probe on held-out networks."""

    seed: int
    method: str
    question: str
    accuracy: float


@dataclass(frozen=True)
class ClozeRow:
    """How well hidden gradients of held-out networks are filled in."""

    seed: int
    method: str
    networks: str
    """"known tasks", or "unseen tasks", which no network of the embedder's training has."""
    hidden: float
    """Share of the modes."""
    r2: float


@dataclass(frozen=True)
class StructureRow:
    """Which networks lie near each other."""

    seed: int
    method: str
    networks: str
    """As in `ClozeRow`."""
    neighbours: float
    """Share of held-out networks whose nearest other one has the same task."""
    correlation: float
    """Rank correlation, over pairs of tasks, of the distance of their mean embeddings with the distance of their
    exact gradient fields (root mean square)."""


def probe_rows(trial: Trial) -> Iterator[ProbeRow]:
    """What the probes say of the split's test networks."""
    labels, everything = trial.zoo.labels, (trial.training, trial.test)
    known = trial.trained.embedder
    for method, features in _features(trial, known):
        yield _probe(trial, method, "all labels", features, everything)
        yield _one_label(trial, method, "one label a class", features, everything)
    few, noisy, visible = trial.few, trial.noisy(), trial.config.visible
    for question, seen, whole, hidden in (
        (f"{visible} modes", trial.tokens.only(few), trial.tokens, ~few),
        (NOISY, noisy, noisy, trial.hide(noisy, NOISY_HIDDEN)),
    ):
        for method, features in _of_tokens(trial, seen):
            yield _probe(trial, method, question, features, everything)
        features = _filled(trial, seen, whole, hidden)
        yield _probe(trial, FILLED, question, features, everything)
        named = baselines.nearest_task(seen, trial.zoo.tasks, by_share=question != NOISY)
        accuracy = float((named == labels)[trial.test].double().mean())
        yield ProbeRow(trial.seed, KNOWS, question, accuracy)
    for question, shown in (
        (f"{visible} gradients, all places", few),
        ("no gradient, all places", torch.zeros_like(few)),
    ):
        for method, embedder in _embedders(trial):
            features = embedder.encode(trial.tokens, shown)
            yield _probe(trial, method, question, features, everything)
    _, others = trial.halves
    unseen = [index[torch.isin(labels[index], others)] for index in everything]
    for method, features in _features(trial, trial.half.embedder, supervised=False):
        yield _probe(trial, method, "unseen tasks", features, unseen)
        yield _one_label(trial, method, "unseen tasks, one label", features, unseen)


def cloze_rows(trial: Trial) -> Iterator[ClozeRow]:
    """How well hidden gradients of the split's test networks are filled in."""
    labels = trial.zoo.labels
    half, others = trial.halves
    every = labels.unique()
    for networks, known, asked, embedder in (
        ("known tasks", every, every, trial.trained.embedder),
        ("unseen tasks", half, others, trial.half.embedder),
    ):
        taught = trial.training[torch.isin(labels[trial.training], known)]
        tokens = trial.tokens[trial.test[torch.isin(labels[trial.test], asked)]]
        for share in trial.config.training.mask:
            some = trial.tokens[_some(taught, trial.generator)]
            process = baselines.GaussianProcess(some, trial.hide(some, share))
            hidden = trial.hide(tokens, share)
            for method, fill in _fills(embedder, process):
                r2 = baselines.cloze_r2(tokens, hidden, fill, embedder.value_mean)
                yield ClozeRow(trial.seed, method, networks, share, r2)


def structure_rows(trial: Trial) -> Iterator[StructureRow]:
    """Which of the split's test networks lie near each other."""
    labels, tasks = trial.zoo.labels, trial.zoo.tasks
    _, others = trial.halves
    x = trial.sample(trial.config.points, trial.generator)
    fields = torch.stack([task.gradient(x).flatten() for task in tasks])
    raw = baselines.gradients_at(trial.zoo.networks, trial.fixed)
    untrained = trial.untrained.encode(trial.tokens)
    for networks, chosen, embedder in (
        ("known tasks", torch.arange(len(tasks)), trial.trained.embedder),
        ("unseen tasks", others.sort().values, trial.half.embedder),
    ):
        index = trial.test[torch.isin(labels[trial.test], chosen)]
        for method, features in (
            ("embedder", embedder.encode(trial.tokens)),
            ("untrained embedder", untrained),
            (AT_FIXED_POINTS, raw),
        ):
            found = features[index]
            distances = torch.cdist(found, found).fill_diagonal_(torch.inf)
            nearest = labels[index][distances.argmin(1)]
            means = torch.stack([found[labels[index] == task].mean(0) for task in chosen])
            yield StructureRow(
                trial.seed,
                method,
                networks,
                float((nearest == labels[index]).double().mean()),
                rank_correlation(torch.pdist(means), torch.pdist(fields[chosen])),
            )


def _some(training: Tensor, generator: torch.Generator) -> Tensor:
    """A few of the training networks."""
    return training[torch.randperm(len(training), generator=generator)[:CHOOSE_BY]]


def _probe(
    trial: Trial, method: str, question: str, features: Tensor, split: Sequence[Tensor]
) -> ProbeRow:
    return ProbeRow(
        trial.seed, method, question, probe_accuracy(features, trial.zoo.labels, *split)
    )


def _one_label(
    trial: Trial, method: str, question: str, features: Tensor, split: Sequence[Tensor]
) -> ProbeRow:
    """The mean over several draws of the networks that have a label."""
    found = [
        probe_accuracy(
            features, trial.zoo.labels, order[torch.isin(order, split[0])], split[1], per_class=1
        )
        for order in trial.labelled
    ]
    return ProbeRow(trial.seed, method, question, sum(found) / len(found))


def _features(
    trial: Trial, embedder: Embedder, *, supervised: bool = True
) -> Iterator[tuple[str, Tensor]]:
    nets, fixed = trial.zoo.networks, trial.fixed
    yield "embedder", embedder.encode(trial.tokens)
    yield "untrained embedder", trial.untrained.encode(trial.tokens)
    if supervised:
        yield "supervised embedder", trial.supervised.encode(trial.tokens)
    yield f"outputs at {FIXED_POINTS} points", baselines.outputs_at(nets, fixed)
    yield AT_FIXED_POINTS, baselines.gradients_at(nets, fixed)
    yield "statistics of modes", baselines.mode_statistics(trial.tokens)
    yield "weights", baselines.flat_weights(nets)
    yield "weights, neurons in order", baselines.sorted_weights(nets)
    yield "statistics of weights", baselines.weight_statistics(nets)


def _of_tokens(trial: Trial, tokens: Tokens) -> Iterator[tuple[str, Tensor]]:
    for method, embedder in _embedders(trial):
        yield method, embedder.encode(tokens)
    yield AT_FIXED_POINTS, baselines.nearest_at(tokens, tokens.shares > 0, trial.fixed)
    yield "statistics of modes", baselines.mode_statistics(tokens)


def _embedders(trial: Trial) -> Sequence[tuple[str, Embedder]]:
    return (
        ("embedder", trial.trained.embedder),
        ("untrained embedder", trial.untrained),
        ("supervised embedder", trial.supervised),
    )


def _filled(trial: Trial, seen: Tokens, whole: Tokens, hidden: Tensor) -> Tensor:
    """Gradients at the fixed points, by a Gaussian process of what is seen of each network.

    Its kernel is the one that fills in best what is hidden of the whole of some training networks.
    """
    index = _some(trial.training, trial.generator)
    some = whole[index]
    process = baselines.GaussianProcess(some, hidden[index, : some.shares.shape[1]])
    points = trial.fixed.expand(len(seen), *trial.fixed.shape)
    return process(seen, seen.shares > 0, points).flatten(1)


def _fills(
    embedder: Embedder, process: Callable[[Tokens, Tensor], Tensor]
) -> Sequence[tuple[str, baselines.Fill]]:
    """Ways to fill in, all from the visible tokens alone: not even the places of the others are shown."""
    return (
        ("embedder", embedder.fill),
        ("nearest visible mode", lambda tokens, visible: baselines.nearest_visible(
            tokens, visible, tokens.points
        )),
        ("Gaussian process of the network alone", process),
    )  # fmt: skip


PARTS: dict[str, tuple[type[Any], Callable[[Trial], Iterator[Any]]]] = {
    "probes": (ProbeRow, probe_rows),
    "cloze": (ClozeRow, cloze_rows),
    "structure": (StructureRow, structure_rows),
}
"""Tables of the study: their rows, and what makes these of a trial."""
