"""What the study of class pathways is asked, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gradsplinter.checks import check_integer, check_integers, check_values
from gradsplinter.embedder import EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.studies.adversarial_result import mean_columns
from gradsplinter.studies.classifiers import ClassifierConfig
from gradsplinter.studies.embedding_trial import FIXED_POINTS

FIRST_TAUGHT = 100_000
"""Seed of the first network that the embedder is taught with."""
TRUE, SHUFFLED = "true", "shuffled"


@dataclass(frozen=True)
class ClassPartsConfig:
    """What is trained and asked.

    Raises:
        TypeError, ValueError: a value of another type or out of range.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Networks whose pathways are compared, at least two; and as many of shuffled labels."""
    taught: int = 16
    """Networks that the embedder is taught with, others than these."""
    architecture: str = "64-64"
    """Widths of hidden layers."""
    training_examples: int = 8000
    """At most; the first ones of the training part."""
    epochs: int = 10
    """Of the training of networks."""
    directions: int = 8
    """Principal directions of the training images."""
    examples: int = 512
    """Test images at which a pathway is looked at, at most."""
    shape: EmbedderConfig = field(default_factory=EmbedderConfig)
    """Of the embedder, but for the number of inputs."""
    teaching: EmbedderTrainingConfig = field(
        default_factory=lambda: EmbedderTrainingConfig(
            tokens="samples", points=256, steps=1000, refresh=50
        )
    )
    """Of the embedder."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", check_integers(self.seeds, "seeds", 0))
        check_values(self.seeds, "seeds")
        if len(self.seeds) < 2:
            raise ValueError(f"seeds must hold at least two values, got {len(self.seeds)}")
        if max(self.seeds) >= FIRST_TAUGHT:
            raise ValueError(f"seeds must be below {FIRST_TAUGHT:,}, got {max(self.seeds)}")
        for name, least in (
            ("taught", 1), ("training_examples", 2), ("directions", 1), ("examples", FIXED_POINTS),
        ):  # fmt: skip
            check_integer(getattr(self, name), name, least)
        if self.shape.inputs not in (EmbedderConfig.inputs, self.directions):
            raise ValueError(
                f"shape.inputs must be {self.directions}, as directions, got {self.shape.inputs}"
            )
        if not isinstance(self.architecture, str):
            raise TypeError(
                f"architecture must be a string, got {type(self.architecture).__name__}"
            )
        if self.architecture in ("conv", "linear"):
            raise ValueError(
                f"architecture must be widths of hidden layers, got {self.architecture}"
            )
        _ = self.training

    @property
    def training(self) -> ClassifierConfig:
        return ClassifierConfig(self.architecture, self.epochs)


@dataclass(frozen=True)
class ClassifierRow:
    """A network whose pathways are compared."""

    dataset: str
    labels: str
    """"true", or "shuffled"."""
    seed: int
    accuracy: float
    """On test images and their true classes."""


@dataclass(frozen=True)
class ClassPartsRow:
    """The pathways of one network, by one method."""

    dataset: str
    labels: str
    seed: int
    method: str
    neighbours: float
    """Share of pathways whose nearest one in the other networks is of the same class."""
    agreement: float
    """Mean rank correlation, over pairs of classes, of the distances of their pathways here with those in each other
    network."""
    confusion: float
    """Rank correlation, over pairs of classes, of nearness with how often all networks confuse them."""
    cosine: float
    """Of nearness with the cosine of the mean gradients by pixels."""


@dataclass(frozen=True, eq=False)
class ClassPartsResult:
    """Of one data set.

    Attributes:
        config: what was trained.
        dataset: its name.
        classes: their names.
        networks, rows: tables.
        distances: `[C, C]`: of pathways by the embedder, mean over networks.
        confusion: `[C, C]`: test images of a class (row) that are taken for another one, all networks.
        embeddings: `[seeds, C, size]`.
    """

    config: ClassPartsConfig
    dataset: str
    classes: tuple[str, ...]
    networks: list[ClassifierRow]
    rows: list[ClassPartsRow]
    distances: Tensor
    confusion: Tensor
    embeddings: Tensor

    def means(self) -> list[dict[str, Any]]:
        """Over networks, with standard errors."""
        groups: dict[tuple[str, str], list[ClassPartsRow]] = {}
        for row in self.rows:
            groups.setdefault((row.labels, row.method), []).append(row)
        return [
            {"dataset": self.dataset, "labels": labels, "method": method}
            | mean_columns(rows, ("neighbours", "agreement", "confusion", "cosine"))
            for (labels, method), rows in groups.items()
        ]

    def pairs(self) -> list[dict[str, Any]]:
        """Every two classes, those whose pathways are most alike first."""
        n = len(self.classes)
        found = [
            {
                "dataset": self.dataset,
                "class": self.classes[i],
                "other": self.classes[j],
                "distance": round(float(self.distances[i, j]), 4),
                "confused": int(self.confusion[i, j] + self.confusion[j, i]),
            }
            for i in range(n)
            for j in range(i + 1, n)
        ]
        return sorted(found, key=lambda row: row["distance"])
