"""What of the embedder and of its training matters? One thing is changed at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.embedding import about_seed, check_study
from gradsplinter.studies.embedding_trial import EmbeddingConfig, Trial
from gradsplinter.studies.kept import Kept
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.tokens import tokens_of
from gradsplinter.zoo import Zoo

HIDDEN = 0.6
"""Share of the tokens that are hidden where cloze errors are compared."""


@dataclass(frozen=True)
class AblationRow:
    """One training of one variant, on held-out networks."""

    seed: int
    question: str
    """What is changed; "" for the embedder as it is."""
    variant: str
    all_labels: float
    """Accuracy of the probe."""
    one_label: float
    """The same, with one label a class."""
    few_modes: float
    """The same, all labels, but of each network only few tokens."""
    cloze_r2: float
    """Of hidden values, 60 % of all; of what the variant fills in, and where it looks, so not comparable for outputs and
    samples."""


def run_ablation(
    config: EmbeddingConfig,
    zoo: Zoo,
    *,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> list[AblationRow]:
    """Every variant with every seed; arguments and errors are those of `run_embedding`."""
    check_study(config, zoo)
    kept = Kept(None if checkpoint is None else Path(checkpoint), about_seed(config, zoo))
    every = [(seed, *variant) for variant in variants(config, zoo) for seed in config.seeds]
    rows = []
    for seed, question, name, changed in tqdm(every, disable=not progress, desc="ablations"):
        key = f"{question}, {name}, seed {seed}"
        if key not in kept:
            kept[key] = asdict(_row(Trial(changed, zoo, seed, device=device), question, name))
        rows.append(AblationRow(**kept[key]))
    return rows


def variants(config: EmbeddingConfig, zoo: Zoo) -> Iterator[tuple[str, str, EmbeddingConfig]]:
    """What is changed, to what, and the configuration."""

    def shape(**changes: Any) -> EmbeddingConfig:
        return replace(config, shape=replace(config.shape, **changes))

    def training(**changes: Any) -> EmbeddingConfig:
        return replace(config, training=replace(config.training, **changes))

    def samples(taught: int, embedded: int) -> EmbeddingConfig:
        return replace(training(tokens="samples", points=taught), points=embedded)

    yield "", "as it is", config
    for share in (0.3, 0.6, 0.9):
        yield "masking rate", f"{share:.0%}", training(mask=(share,))
    yield "hidden tokens", "always shown where they are", training(absent=0.0)
    yield "hidden tokens", "never", training(absent=1.0)
    for size in (2, 4, 8, 32):
        yield "size of the embedding", str(size), shape(size=size)
    taught = config.training.points
    yield "tokens", "as many samples", samples(_modes(zoo, taught), _modes(zoo, config.points))
    yield "tokens", "all samples", samples(taught, taught)
    yield "filled in", "outputs", shape(values="outputs")
    yield "points", "drawn once", training(refresh=0)
    yield "points", "a grid, also to be embedded", replace(training(refresh=0), grid=True)
    yield "networks", "turned and mirrored", training(symmetries=True)
    yield "pooling", "attention", shape(pooling="attention")
    yield "hidden layers", "1", shape(depth=1)
    yield "noise on the embedding", "none", training(noise=0.0)


def _modes(zoo: Zoo, points: int) -> int:
    """How many a network has at so many examples, on average."""
    x = zoo.tasks[0].sample(points, generator=torch.Generator().manual_seed(0))
    return round(float((tokens_of(zoo.networks, x).shares > 0).sum(1).double().mean()))


def _row(trial: Trial, question: str, variant: str) -> AblationRow:
    embedder, labels = trial.trained.embedder, trial.zoo.labels
    training, test = trial.training, trial.test
    embedding = embedder.encode(trial.tokens)
    sparse = embedder.encode(trial.tokens.only(trial.few))
    tokens = trial.tokens[test]
    hidden = trial.hide(tokens, HIDDEN)
    return AblationRow(
        trial.seed,
        question,
        variant,
        probe_accuracy(embedding, labels, training, test),
        sum(probe_accuracy(embedding, labels, order, test, per_class=1) for order in trial.labelled)
        / len(trial.labelled),
        probe_accuracy(sparse, labels, training, test),
        baselines.cloze_r2(tokens, hidden, embedder.fill, embedder.value_mean),
    )
