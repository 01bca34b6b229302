"""Can a linear probe tell from an embedding which task a network was trained on, better than without learning?

An embedder is taught, without labels, to fill in hidden gradients of the training networks of a zoo. Then all networks
are embedded, and probes are trained on those of the training networks and tested on networks that neither the
embedder nor the probe has seen. The same is asked of features that need no learning, of the embedder before it learned,
and of one that learned from labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.embedder import Embedder
from gradsplinter.embedder_training import TrainedEmbedder
from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.embedding_trial import FIXED_POINTS, EmbeddingConfig, Trial
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.studies.statistics import rank_correlation
from gradsplinter.tokens import Tokens
from gradsplinter.zoo import Zoo

CHOOSE_BY = 40
"""Training networks, by which the kernel of the Gaussian process is chosen."""
KNOWS = "knows the exact fields"
"""Names the task whose exact gradients are nearest: what the evidence allows."""


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


@dataclass(frozen=True, eq=False)
class EmbeddingResult:
    """Rows, and of the first seed the embeddings of all networks."""

    config: EmbeddingConfig
    zoo: Zoo
    probes: list[ProbeRow]
    cloze: list[ClozeRow]
    structure: list[StructureRow]
    embeddings: Tensor
    trained: TrainedEmbedder


def run_embedding(
    config: EmbeddingConfig,
    zoo: Zoo,
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> EmbeddingResult:
    """Everything that is measured on one zoo.

    Args:
        config: what is taught and asked.
        zoo: the networks.
        device: where embedders are taught; by default on the CPU.
        progress: show bars on stderr.

    Raises:
        ValueError: a zoo that is too small; a device that is not there.
    """
    probes: list[ProbeRow] = []
    cloze: list[ClozeRow] = []
    structure: list[StructureRow] = []
    first: tuple[Tensor, TrainedEmbedder] | None = None
    for seed in tqdm(config.seeds, disable=not progress, desc="seeds", unit="seed"):
        trial = Trial(config, zoo, seed, device=device, progress=progress)
        probes += probe_rows(trial)
        cloze += cloze_rows(trial)
        structure += structure_rows(trial)
        if first is None:
            first = trial.trained.embedder.encode(trial.tokens), trial.trained
    assert first is not None
    return EmbeddingResult(config, zoo, probes, cloze, structure, *first)


def probe_rows(trial: Trial) -> Iterator[ProbeRow]:
    """What the probes say of the split's test networks."""
    labels, training, test = trial.zoo.labels, trial.training, trial.test

    def row(method: str, question: str, features: Tensor, per_class: int | None = None) -> ProbeRow:
        accuracy = probe_accuracy(features, labels, training, test, per_class=per_class)
        return ProbeRow(trial.seed, method, question, accuracy)

    for method, features in _features(trial):
        yield row(method, "all labels", features)
        yield row(method, "one label a class", features, 1)
    for question, tokens, visible in (
        (f"{trial.config.visible} visible modes", trial.tokens, trial.few()),
        ("noisy gradients", trial.noisy(), None),
    ):
        for method, features in _of_tokens(trial, tokens, visible):
            yield row(method, question, features)
        named = baselines.nearest_task(tokens, visible, trial.zoo.tasks)
        accuracy = float((named == labels)[test].double().mean())
        yield ProbeRow(trial.seed, KNOWS, question, accuracy)
    _, others = trial.halves()
    training, test = (index[torch.isin(labels[index], others)] for index in (training, test))
    for method, features in (
        ("embedder", trial.half.embedder.encode(trial.tokens)),
        ("untrained embedder", trial.untrained.encode(trial.tokens)),
    ):
        yield row(method, "unseen tasks", features)


def cloze_rows(trial: Trial) -> Iterator[ClozeRow]:
    """How well hidden gradients of the split's test networks are filled in."""
    labels, training = trial.zoo.labels, trial.tokens[trial.training]
    known, _ = trial.halves()
    mean = (training.shares.unsqueeze(2) * training.values).sum((0, 1)) / len(training)
    unseen = trial.test[~torch.isin(labels[trial.test], known)]
    for share in trial.config.training.mask:
        order = torch.randperm(len(trial.training), generator=trial.generator)
        some = training[order[:CHOOSE_BY]]
        process = baselines.GaussianProcess(some, trial.hide(some, share))
        for networks, index, embedder in (
            ("known tasks", trial.test, trial.trained.embedder),
            ("unseen tasks", unseen, trial.half.embedder),
        ):
            tokens = trial.tokens[index]
            hidden = trial.hide(tokens, share)
            for method, fill in _fills(embedder, process):
                r2 = baselines.cloze_r2(tokens, hidden, fill, mean)
                yield ClozeRow(trial.seed, method, networks, share, r2)


def structure_rows(trial: Trial) -> Iterator[StructureRow]:
    """Which of the split's test networks lie near each other."""
    labels, tasks = trial.zoo.labels, trial.zoo.tasks
    _, others = trial.halves()
    fields = torch.stack([task.gradient(trial.x).flatten() for task in tasks])
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
            (f"gradients at {FIXED_POINTS} points", raw),
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


def _features(trial: Trial) -> Iterator[tuple[str, Tensor]]:
    nets, fixed = trial.zoo.networks, trial.fixed
    yield from _embedders(trial, trial.tokens, None)
    yield f"outputs at {FIXED_POINTS} points", baselines.outputs_at(nets, fixed)
    yield f"gradients at {FIXED_POINTS} points", baselines.gradients_at(nets, fixed)
    yield "statistics of modes", baselines.mode_statistics(trial.tokens)
    yield "weights", baselines.flat_weights(nets)
    yield "weights, neurons in order", baselines.sorted_weights(nets)
    yield "statistics of weights", baselines.weight_statistics(nets)


def _of_tokens(
    trial: Trial, tokens: Tokens, visible: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    everything = tokens.shares > 0 if visible is None else visible
    yield from _embedders(trial, tokens, visible)
    found = baselines.nearest_at(tokens, everything, trial.fixed)
    yield f"gradients at {FIXED_POINTS} points", found
    if visible is None:
        yield "statistics of modes", baselines.mode_statistics(tokens)


def _embedders(
    trial: Trial, tokens: Tokens, visible: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    yield "embedder", trial.trained.embedder.encode(tokens, visible)
    yield "untrained embedder", trial.untrained.encode(tokens, visible)
    yield "supervised embedder", trial.supervised.encode(tokens, visible)


def _fills(
    embedder: Embedder, process: Callable[[Tokens, Tensor], Tensor]
) -> Sequence[tuple[str, baselines.Fill]]:
    return (
        ("embedder", embedder.fill),
        ("nearest visible mode", lambda tokens, visible: baselines.nearest_visible(
            tokens, visible, tokens.points
        )),
        ("Gaussian process of the network alone", process),
    )  # fmt: skip
