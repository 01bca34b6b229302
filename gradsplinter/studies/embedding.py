"""Can a linear probe tell from an embedding which task a network was trained on, better than without learning?

An embedder is taught, without labels, to fill in hidden gradients of the training networks of a zoo. Then all networks
are embedded, and probes are trained on those of the training networks and tested on networks that neither the
embedder nor the probe has seen. The same is asked of features that need no learning, of the embedder before it learned,
and of one that learned from labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.embedder import Embedder
from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.embedding_trial import FIXED_POINTS, EmbeddingConfig, Trial
from gradsplinter.studies.kept import Kept, about
from gradsplinter.studies.probe import check_probe, probe_accuracy
from gradsplinter.studies.statistics import rank_correlation
from gradsplinter.tokens import Tokens
from gradsplinter.zoo import Zoo

CHOOSE_BY = 40
"""Training networks, by which the kernel of the Gaussian process is chosen."""
LEAST_TASKS = 6
LEAST_NETWORKS = 4
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
    """Rows, and of the first seed the embedder and the embeddings of all networks."""

    config: EmbeddingConfig
    zoo: Zoo
    probes: list[ProbeRow]
    cloze: list[ClozeRow]
    structure: list[StructureRow]
    embedder: Embedder
    embeddings: Tensor


def run_embedding(
    config: EmbeddingConfig,
    zoo: Zoo,
    *,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> EmbeddingResult:
    """Everything that is measured on one zoo.

    Args:
        config: what is taught and asked.
        zoo: the networks.
        checkpoint: a .json file in which the rows of finished seeds are kept, and from which it goes on where it was
            interrupted; beside it, as .safetensors, the embedder of the first.
        device: where embedders are taught; by default on the CPU.
        progress: show bars on stderr.

    Raises:
        ValueError: a zoo that is too small; a device that is not there; a checkpoint of something else.
        ImportError: scikit-learn is missing.
    """
    _check(config, zoo)
    path = None if checkpoint is None else Path(checkpoint)
    kept = Kept(path, about_seed(config, zoo) | {"first seed": config.seeds[0]})
    for seed in tqdm(config.seeds, disable=not progress, desc="seeds", unit="seed"):
        if f"seed {seed}" in kept:
            continue
        trial = Trial(config, zoo, seed, device=device, progress=progress)
        rows = {name: [asdict(row) for row in of(trial)] for name, (_, of) in PARTS.items()}
        if seed == config.seeds[0]:
            embedder = trial.trained.embedder
            if path is not None:
                embedder.save(path.with_suffix(".safetensors"))
        kept[f"seed {seed}"] = rows
    if path is not None:
        embedder = Embedder.load(path.with_suffix(".safetensors")).eval().requires_grad_(False)
    found: dict[str, list[Any]] = {
        name: [row(**values) for seed in config.seeds for values in kept[f"seed {seed}"][name]]
        for name, (row, _) in PARTS.items()
    }
    tokens = Trial(config, zoo, config.seeds[0]).tokens
    return EmbeddingResult(
        config, zoo, **found, embedder=embedder, embeddings=embedder.encode(tokens)
    )


def about_seed(config: EmbeddingConfig, zoo: Zoo) -> dict[str, Any]:
    """What the results of a seed depend on."""
    settings = asdict(config)
    del settings["seeds"]
    return about(settings, zoo)


def _check(config: EmbeddingConfig, zoo: Zoo) -> None:
    if zoo.config.tasks < LEAST_TASKS:
        raise ValueError(
            f"zoo must be of at least {LEAST_TASKS} tasks, half of which are left unseen, got "
            f"{zoo.config.tasks}"
        )
    left = (zoo.config.networks - config.held_out) * (zoo.config.tasks // 2)
    if 0 < left < LEAST_NETWORKS:
        raise ValueError(
            f"held_out must leave at least {LEAST_NETWORKS} networks of half of the tasks, got "
            f"{config.held_out}, which leaves {left}"
        )
    if config.shape.values != "gradients":
        raise ValueError(f"values must be gradients, got {config.shape.values}")
    check_probe()


def probe_rows(trial: Trial) -> Iterator[ProbeRow]:
    """What the probes say of the split's test networks."""
    labels, everything = trial.zoo.labels, (trial.training, trial.test)
    known = trial.trained.embedder
    for method, features in _features(trial, known):
        yield _probe(trial, method, "all labels", features, everything)
        yield _one_label(trial, method, "one label a class", features, everything)
    few, none = trial.few, torch.zeros_like(trial.few)
    of_few, visible = trial.tokens.only(few), trial.config.visible
    for question, tokens, shown in (
        (f"{visible} modes", of_few, None),
        (f"{visible} gradients, all places", trial.tokens, few),
        ("no gradient, all places", trial.tokens, none),
        ("noisy gradients", trial.noisy(), None),
    ):
        for method, features in _of_tokens(trial, tokens, shown):
            yield _probe(trial, method, question, features, everything)
        if shown is None:
            named = baselines.nearest_task(tokens, trial.zoo.tasks)
            accuracy = float((named == labels)[trial.test].double().mean())
            yield ProbeRow(trial.seed, KNOWS, question, accuracy)
    _, others = trial.halves()
    unseen = [index[torch.isin(labels[index], others)] for index in everything]
    for method, features in _features(trial, trial.half.embedder, supervised=False):
        yield _probe(trial, method, "unseen tasks", features, unseen)
        yield _one_label(trial, method, "unseen tasks, one label", features, unseen)


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
    yield f"gradients at {FIXED_POINTS} points", baselines.gradients_at(nets, fixed)
    yield "statistics of modes", baselines.mode_statistics(trial.tokens)
    yield "weights", baselines.flat_weights(nets)
    yield "weights, neurons in order", baselines.sorted_weights(nets)
    yield "statistics of weights", baselines.weight_statistics(nets)


def _of_tokens(trial: Trial, tokens: Tokens, shown: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """Of what is shown: all tokens, or the places of all and the values of some."""
    yield "embedder", trial.trained.embedder.encode(tokens, shown)
    yield "untrained embedder", trial.untrained.encode(tokens, shown)
    yield "supervised embedder", trial.supervised.encode(tokens, shown)
    if shown is None:
        found = baselines.nearest_at(tokens, tokens.shares > 0, trial.fixed)
        yield f"gradients at {FIXED_POINTS} points", found
        yield "statistics of modes", baselines.mode_statistics(tokens)


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


PARTS: dict[str, tuple[type[Any], Callable[[Trial], Iterator[Any]]]] = {
    "probes": (ProbeRow, probe_rows),
    "cloze": (ClozeRow, cloze_rows),
    "structure": (StructureRow, structure_rows),
}
"""Tables of the study: their rows, and what makes these of a trial."""
