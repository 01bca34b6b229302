"""What the study of parts of networks is asked, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradsplinter.checks import check_integer, check_integers, check_number, check_values
from gradsplinter.embedder import EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.studies.adversarial_result import mean_columns
from gradsplinter.studies.embedding_trial import AT_FIXED_POINTS, FIXED_POINTS
from gradsplinter.studies.part_tokens import COORDINATES, Part
from gradsplinter.train import TrainConfig
from gradsplinter.zoo import Zoo, ZooConfig

INPUTS = 2
"""Of each task."""
PRODUCTS = 3
"""Tasks of each network that are the same: the first of the zoo."""
METHODS = ("embedder", "untrained embedder", AT_FIXED_POINTS, "statistics of gradients")


@dataclass(frozen=True)
class PartsConfig:
    """What is trained and asked.

    Raises:
        TypeError, ValueError: a value of another type or out of range.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One network of several tasks for each, at least two; and a split of the zoo and an embedder taught with it, for
    each kind of coordinates, by which the parts of this network are judged."""
    others: int = 5
    """Tasks of a network beside three products; from network to network other ones of the zoo's."""
    hidden: tuple[int, ...] = (128, 128, 128)
    """Widths of hidden layers, at least two."""
    training_examples: int = 40_000
    """That each network is trained on."""
    steps: int = 4000
    """Of Adam with 256 examples each."""
    learning_rate: float = 3e-3
    """Of Adam."""
    learned: float = 0.97
    """The R² on fresh examples from which on an output counts as learned."""
    examples: int = 512
    """At which a part is looked at."""
    shape: EmbedderConfig = field(default_factory=EmbedderConfig)
    """Of the embedder, but for the number of inputs."""
    teaching: EmbedderTrainingConfig = field(
        default_factory=lambda: EmbedderTrainingConfig(tokens="samples", points=128, steps=1000)
    )
    """Of the embedders, whose seeds are those above. There are two for each seed: that they take minutes, they have
    fewer steps, and fewer points, than `EmbedderTrainingConfig` by itself. Tokens are samples: nearly every example
    is alone in its mode of a network of several tasks, which no network of a zoo is like."""

    def __post_init__(self) -> None:
        for name, least in (("seeds", 0), ("hidden", 1)):
            object.__setattr__(self, name, check_integers(getattr(self, name), name, least))
        check_values(self.seeds, "seeds")
        for name, least in (
            ("others", 1), ("training_examples", 256), ("examples", FIXED_POINTS),
        ):  # fmt: skip
            check_integer(getattr(self, name), name, least)
        if self.shape.inputs != INPUTS:
            raise ValueError(
                f"shape.inputs must be {INPUTS}, as of a task, got {self.shape.inputs}"
            )
        for name in ("seeds", "hidden"):
            if len(getattr(self, name)) < 2:
                raise ValueError(
                    f"{name} must hold at least two values, got {len(getattr(self, name))}"
                )
        if self.teaching.seed != EmbedderTrainingConfig.seed:
            raise ValueError(
                f"teaching.seed must be left out, since seeds has them, got {self.teaching.seed}"
            )
        if not check_number(self.learned, "learned") < 1:
            raise ValueError(f"learned must be below 1, got {self.learned}")
        _ = self.training

    @property
    def outputs(self) -> int:
        return PRODUCTS + self.others

    @property
    def training(self) -> TrainConfig:
        widths = (INPUTS * self.outputs, *self.hidden, self.outputs)
        return TrainConfig(widths, self.steps, self.learning_rate, 256)


@dataclass(frozen=True)
class OutputRow:
    """How well a network has learned one of its tasks."""

    seed: int
    output: int
    task: str
    r2: float
    learned: bool


@dataclass(frozen=True)
class DirectionRow:
    """What an output reads at a hidden site a, v · a, as a stand-in for the output; v is its mean gradient."""

    seed: int
    site: int
    task: str
    slope: float
    """Of the output by v · a, least squares: 1 where v has the right length."""
    r2: float
    """Squared correlation of the two: small where gradients cancel in the mean."""


@dataclass(frozen=True)
class CommunityRow:
    """Groups of units of a network, found without outputs and tasks."""

    seed: int
    tasks: int
    found: int
    inputs_ari: float
    """Adjusted Rand index of the inputs with the tasks that they belong to."""
    neurons_ari: float
    """Of the neurons that work on one task, with that task, by what goes wrong without them (`ablation.truth`)."""
    neurons: int
    """So many neurons that is."""


@dataclass(frozen=True)
class PartRow:
    """Parts of one kind of one network, by one method."""

    seed: int
    method: str
    part: str
    coordinates: str
    parts: int
    """So many there are."""
    probe: float
    """Share whose task is named by a linear probe that was trained on networks of the zoo only."""
    neighbours: float
    """Share whose nearest part in all other networks, of any kind, has the same task."""
    products: float
    """Share of the products whose nearest part of another output in the same network, of any kind, is a product."""
    within: float
    """Mean distance to parts of the same kind and task in other networks."""
    between: float
    """To parts of the same kind and other tasks in other networks."""


@dataclass(frozen=True)
class WholeRow:
    """How well the probe of one judge does on networks of the zoo that were held out."""

    seed: int
    coordinates: str
    method: str
    probe: float
    """Share whose task is named."""


@dataclass(frozen=True, eq=False)
class PartsResult:
    """Rows, and embeddings by the tasks' own inputs, those of the first seed's embedder.

    Which inputs and which output are a task's is taken as planted, and not found.

    Attributes:
        config: what was trained.
        zoo: what the embedder was taught with.
        outputs, directions, communities, rows, whole: tables.
        parts: in order of `embeddings`.
        labels: int64: the zoo's task of each part.
        embeddings: `[parts, size]`.
        zoo_embeddings: `[networks, size]`.
    """

    config: PartsConfig
    zoo: Zoo
    outputs: list[OutputRow]
    directions: list[DirectionRow]
    communities: list[CommunityRow]
    rows: list[PartRow]
    whole: list[WholeRow]
    parts: list[Part]
    labels: Tensor
    embeddings: Tensor
    zoo_embeddings: Tensor

    @property
    def chance(self) -> dict[str, float]:
        """What `probe`, `neighbours` and `products` are for parts that are taken at random."""
        seeds = torch.tensor([part.seed for part in self.parts])
        elsewhere = seeds.unsqueeze(1) != seeds
        same = elsewhere & (self.labels.unsqueeze(1) == self.labels)
        share = same.sum(1).double() / elsewhere.sum(1)
        return {
            "probe": 1 / self.zoo.config.tasks,
            "neighbours": float(share[share > 0].mean()),
            "products": (PRODUCTS - 1) / (self.config.outputs - 1),
        }

    def means(self) -> list[dict[str, Any]]:
        """Over networks, each with a judge of its own, with standard errors, and of how many networks each is: of some
        there may be no equal part elsewhere, or no product. `ratio` is `within` / `between`."""
        groups: dict[tuple[str, str, str], list[PartRow]] = {}
        for row in self.rows:
            groups.setdefault((row.coordinates, row.part, row.method), []).append(row)
        order = sorted(
            groups, key=lambda key: (COORDINATES.index(key[0]), key[1].startswith("site"), key[1])
        )
        found = []
        for key in order:
            rows = groups[key]
            columns = mean_columns(rows, ("probe", "neighbours", "products", "within", "between"))
            names = dict(zip(("coordinates", "part", "method"), key, strict=True))
            parts = {"parts": sum(row.parts for row in rows)}
            ratio = {"ratio": columns["within"] / columns["between"]}
            found.append(names | parts | columns | ratio)
        return found

    def whole_means(self) -> list[dict[str, Any]]:
        """`whole` over seeds, with standard errors."""
        groups: dict[tuple[str, str], list[WholeRow]] = {}
        for row in self.whole:
            groups.setdefault((row.coordinates, row.method), []).append(row)
        return [
            {"coordinates": coordinates, "method": method} | mean_columns(rows, ("probe",))
            for (coordinates, method), rows in groups.items()
        ]


def tasks_of(config: PartsConfig, zoo: Zoo, number: int) -> Tensor:
    """int64 `[outputs]`: the zoo's tasks of the network of this number, of which the first is the product."""
    others = number * config.others + torch.arange(config.others)
    rest = 1 + others % (zoo.config.tasks - 1)
    return torch.cat([torch.zeros(PRODUCTS, dtype=torch.int64), rest])


def check_zoo(config: PartsConfig, zoo: ZooConfig) -> None:
    """
    Raises:
        ValueError: a zoo whose networks have other inputs, or that has too few tasks.
    """
    if zoo.widths[0] != INPUTS:
        raise ValueError(
            f"zoo must be of tasks of {INPUTS} inputs, got {zoo.family} with {zoo.widths[0]}"
        )
    if len(zoo.hidden) < 2:
        raise ValueError(
            f"zoo must have networks of at least 2 hidden layers, got widths {zoo.widths}"
        )
    if zoo.tasks <= config.others:
        raise ValueError(f"zoo must have more tasks than others = {config.others}, got {zoo.tasks}")
