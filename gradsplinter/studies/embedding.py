"""Can a linear probe tell from an embedding which task a network was trained on, better than without learning?

An embedder is taught, without labels, to fill in hidden gradients of the training networks of a zoo. Then all networks
are embedded, and probes are trained on those of the training networks and tested on networks that neither the
embedder nor the probe has seen. The same is asked of features that need no learning, of the embedder before it learned,
and of one that learned from labels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.embedder import Embedder
from gradsplinter.known_tasks import LEAST, KnownTasks
from gradsplinter.studies.embedding_rows import PARTS, ClozeRow, ProbeRow, StructureRow
from gradsplinter.studies.embedding_trial import EmbeddingConfig, Trial
from gradsplinter.studies.kept import Kept, about
from gradsplinter.studies.probe import check_probe
from gradsplinter.zoo import Zoo

LEAST_TASKS = 6


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
            interrupted; beside it, as .embedder, the embedder of the first.
        device: where embedders are taught; by default on the CPU.
        progress: show bars on stderr.

    Raises:
        ValueError: a zoo that is too small; a device that is not there; a checkpoint of something else.
        ImportError: scikit-learn is missing.
    """
    check_study(config, zoo)
    path = None if checkpoint is None else Path(checkpoint)
    kept = Kept(path, about_seed(config, zoo) | {"first seed": config.seeds[0]})
    of_first = None if path is None else path.with_suffix(".embedder")
    if of_first is not None and f"seed {config.seeds[0]}" in kept and not of_first.exists():
        raise ValueError(f"checkpoint must be whole, got {path} without {of_first.name}")
    for seed in tqdm(config.seeds, disable=not progress, desc="seeds", unit="seed"):
        if f"seed {seed}" in kept:
            continue
        trial = Trial(config, zoo, seed, device=device, progress=progress)
        rows = {name: [asdict(row) for row in of(trial)] for name, (_, of) in PARTS.items()}
        if seed == config.seeds[0]:
            embedder = trial.trained.embedder
            if of_first is not None:
                embedder.save(of_first)
        kept[f"seed {seed}"] = rows
    if of_first is not None:
        embedder = Embedder.load(of_first).eval().requires_grad_(False)
    found: dict[str, list[Any]] = {
        name: [row(**values) for seed in config.seeds for values in kept[f"seed {seed}"][name]]
        for name, (row, _) in PARTS.items()
    }
    first = Trial(config, zoo, config.seeds[0])
    embeddings = embedder.encode(first.tokens)
    names, training = [task.name for task in zoo.tasks], first.training
    embedder.known = KnownTasks.of(names, zoo.labels[training], embeddings[training])
    return EmbeddingResult(config, zoo, **found, embedder=embedder, embeddings=embeddings)


def about_seed(config: EmbeddingConfig, zoo: Zoo) -> dict[str, Any]:
    """What the results of a seed depend on."""
    settings = asdict(config)
    del settings["seeds"]
    return about(settings, zoo=zoo.fingerprint)


def check_study(config: EmbeddingConfig, zoo: Zoo) -> None:
    """
    Raises:
        ValueError: a zoo that is too small, or what is filled in are no gradients.
        ImportError: scikit-learn is missing.
    """
    if zoo.config.tasks < LEAST_TASKS:
        raise ValueError(
            f"zoo must be of at least {LEAST_TASKS} tasks, half of which are left unseen, got "
            f"{zoo.config.tasks}"
        )
    left = zoo.config.networks - config.held_out
    if left < LEAST:
        raise ValueError(
            f"held_out must leave at least {LEAST} networks of each task, of which the zoo has "
            f"{zoo.config.networks}, got {config.held_out}"
        )
    if config.shape.values != "gradients":
        raise ValueError(f"values must be gradients, got {config.shape.values}")
    check_probe()
