"""Can a linear probe tell from an embedding which task a network was trained on, better than without learning?

An embedder is taught, without labels, to fill in hidden gradients of the training networks of a zoo. Then all networks
are embedded, and probes are trained on those of the training networks and tested on networks that neither the
embedder nor the probe has seen. The same is asked of features that need no learning, of the embedder before it learned,
and of one that learned from labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gradsplinter.checks import check_integer, check_values
from gradsplinter.embedder import Embedder, EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig, TrainedEmbedder, train_embedder
from gradsplinter.network import ReluNetwork
from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.studies.statistics import rank_correlation
from gradsplinter.tokens import Tokens, tokens_of
from gradsplinter.zoo import Zoo

FIXED_POINTS = 64
"""At which outputs and gradients are features."""
CHOOSE_BY = 40
"""Training networks, by which the kernel of the Gaussian process is chosen."""


@dataclass(frozen=True)
class EmbeddingConfig:
    """What is taught and asked.

    Raises:
        TypeError, ValueError: a value of another type or out of range.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of splits and trainings, one of each."""
    held_out: int = 10
    """Networks of each task that are only tested."""
    points: int = 1024
    """Examples at which a network is looked at to be embedded."""
    visible: int = 8
    """Modes that are shown where evidence is sparse."""
    noise: float = 0.5
    """Of noisy gradients, by their standard deviation over the training set."""
    shape: EmbedderConfig = field(default_factory=EmbedderConfig)
    """Of the embedder, but for the number of inputs, which is the zoo's."""
    training: EmbedderTrainingConfig = field(default_factory=EmbedderTrainingConfig)
    """Of the embedder, but for the seed."""

    def __post_init__(self) -> None:
        check_values(self.seeds, "seeds")
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        for name, least in (("held_out", 1), ("points", FIXED_POINTS), ("visible", 1)):
            check_integer(getattr(self, name), name, least)
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be at least 0 and finite, got {self.noise}")


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


def run_embedding(config: EmbeddingConfig, zoo: Zoo, *, progress: bool = True) -> EmbeddingResult:
    """Everything that is measured on one zoo.

    Raises:
        ValueError: a zoo that is too small.
    """
    config = replace(config, shape=replace(config.shape, inputs=zoo.config.widths[0]))
    probes: list[ProbeRow] = []
    cloze: list[ClozeRow] = []
    structure: list[StructureRow] = []
    first: tuple[Tensor, TrainedEmbedder] | None = None
    for seed in tqdm(config.seeds, disable=not progress, desc="seeds", unit="seed"):
        one = _Seed(config, zoo, seed, progress)
        probes += one.probes()
        cloze += one.cloze()
        structure += one.structure()
        if first is None:
            first = one.embedding.clone(), one.trained
    assert first is not None
    return EmbeddingResult(config, zoo, probes, cloze, structure, *first)


class _Seed:
    """One split and one training."""

    def __init__(self, config: EmbeddingConfig, zoo: Zoo, seed: int, progress: bool) -> None:
        self.config, self.zoo, self.seed, self.progress = config, zoo, seed, progress
        self.training, self.test = zoo.split(config.held_out, seed)
        self.generator = torch.Generator().manual_seed(1_000_000 + seed)
        self.x = self.sample(config.points, self.generator)
        self.tokens = tokens_of(zoo.networks, self.x)
        self.trained = self.teach(self.training)
        with torch.no_grad():
            self.embedding = self.trained.embedder.encode(self.tokens)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.zoo.tasks[0].sample(n, generator=generator)

    def nets(self, index: Tensor) -> list[ReluNetwork]:
        return [self.zoo.networks[i] for i in index.tolist()]

    def teach(self, index: Tensor) -> TrainedEmbedder:
        config = replace(self.config.training, seed=self.seed)
        return train_embedder(
            self.nets(index), self.sample, self.config.shape, config, progress=self.progress
        )

    def untrained(self) -> Embedder:
        embedder = Embedder(self.config.shape, seed=self.seed)
        embedder.standardise(self.tokens[self.training])
        return embedder.requires_grad_(False)

    def probes(self) -> Iterator[ProbeRow]:
        labels = self.zoo.labels
        for method, features in self.features():
            for question, per_class in (("all labels", None), ("one label a class", 1)):
                accuracy = probe_accuracy(
                    features, labels, self.training, self.test, per_class=per_class
                )
                yield ProbeRow(self.seed, method, question, accuracy)
        for question, tokens, visible in (
            (f"{self.config.visible} visible modes", self.tokens, self.few()),
            ("noisy gradients", self.noisy(), None),
        ):
            for method, features in self.of_tokens(tokens, visible):
                accuracy = probe_accuracy(features, labels, self.training, self.test)
                yield ProbeRow(self.seed, method, question, accuracy)
        yield from self.unseen()

    def features(self) -> Iterator[tuple[str, Tensor]]:
        nets, fixed = self.zoo.networks, self.x[:FIXED_POINTS]
        yield "embedder", self.embedding
        yield "untrained embedder", self.untrained().encode(self.tokens)
        yield "supervised embedder", self.supervised()
        yield f"outputs at {FIXED_POINTS} points", baselines.outputs_at(nets, fixed)
        yield f"gradients at {FIXED_POINTS} points", baselines.gradients_at(nets, fixed)
        yield "statistics of modes", baselines.mode_statistics(self.tokens)
        yield "weights", baselines.flat_weights(nets)
        yield "weights, neurons in order", baselines.sorted_weights(nets)
        yield "statistics of weights", baselines.weight_statistics(nets)

    def of_tokens(self, tokens: Tokens, visible: Tensor | None) -> Iterator[tuple[str, Tensor]]:
        everything = tokens.shares > 0 if visible is None else visible
        yield "embedder", self.trained.embedder.encode(tokens, visible)
        yield "untrained embedder", self.untrained().encode(tokens, visible)
        fixed = self.x[:FIXED_POINTS]
        yield (
            f"gradients at {FIXED_POINTS} points",
            baselines.nearest_at(tokens, everything, fixed),
        )
        if visible is None:
            yield "statistics of modes", baselines.mode_statistics(tokens)

    def few(self) -> Tensor:
        """bool `[M, T]`: some modes of each network."""
        return self.tokens.some(self.config.visible, self.generator)

    def noisy(self) -> Tokens:
        noise = torch.randn(self.tokens.values.shape, generator=self.generator)
        scale = self.config.noise * self.trained.embedder.value_scale
        return replace(self.tokens, values=self.tokens.values + scale * noise)

    def supervised(self) -> Tensor:
        """Embeddings of the same architecture, taught with the labels of the training networks."""
        config = self.config.training
        embedder = self.untrained().requires_grad_(True)
        head = nn.utils.skip_init(nn.Linear, self.config.shape.size, self.zoo.config.tasks)
        generator = torch.Generator().manual_seed(self.seed)
        nn.init.normal_(head.weight, std=0.1, generator=generator)
        nn.init.zeros_(head.bias)
        parameters = [*embedder.of_token.parameters(), *embedder.of_set.parameters()]
        optimizer = torch.optim.AdamW([*parameters, *head.parameters()], config.learning_rate)
        for step in range(config.steps // 3):
            if step % 25 == 0:
                tokens = tokens_of(
                    self.nets(self.training), self.sample(config.points, self.generator)
                )
            chosen = torch.randperm(len(self.training), generator=generator)[: config.batch]
            loss = nn.functional.cross_entropy(
                head(embedder.encode(tokens[chosen])), self.zoo.labels[self.training][chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return embedder.encode(self.tokens)

    def halves(self) -> tuple[Tensor, Tensor]:
        """Tasks that `half` knows, and the others."""
        order = torch.randperm(
            self.zoo.config.tasks, generator=torch.Generator().manual_seed(self.seed)
        )
        half = len(order) // 2
        return order[:half], order[half:]

    @cached_property
    def half(self) -> TrainedEmbedder:
        """Taught with the networks of half of the tasks."""
        known, _ = self.halves()
        return self.teach(self.training[torch.isin(self.zoo.labels[self.training], known)])

    def unseen(self) -> Iterator[ProbeRow]:
        labels = self.zoo.labels
        _, others = self.halves()
        training, test = (
            index[torch.isin(labels[index], others)] for index in (self.training, self.test)
        )
        for method, features in (
            ("embedder", self.half.embedder.encode(self.tokens)),
            ("untrained embedder", self.untrained().encode(self.tokens)),
        ):
            accuracy = probe_accuracy(features, labels, training, test)
            yield ProbeRow(self.seed, method, "unseen tasks", accuracy)

    def cloze(self) -> Iterator[ClozeRow]:
        labels, training = self.zoo.labels, self.tokens[self.training]
        known, _ = self.halves()
        mean = (training.shares.unsqueeze(2) * training.values).sum((0, 1)) / len(training)
        unseen = self.test[~torch.isin(labels[self.test], known)]
        for share in self.config.training.mask:
            some = training[
                torch.randperm(len(self.training), generator=self.generator)[:CHOOSE_BY]
            ]
            process = baselines.GaussianProcess(some, self.hide(some, share))
            for networks, index, embedder in (
                ("known tasks", self.test, self.trained.embedder),
                ("unseen tasks", unseen, self.half.embedder),
            ):
                tokens = self.tokens[index]
                hidden = self.hide(tokens, share)
                for method, fill in _fills(embedder, process):
                    r2 = baselines.cloze_r2(tokens, hidden, fill, mean)
                    yield ClozeRow(self.seed, method, networks, share, r2)

    def structure(self) -> Iterator[StructureRow]:
        labels, fixed = self.zoo.labels, self.x[:FIXED_POINTS]
        _, others = self.halves()
        fields = torch.stack([task.gradient(self.x).flatten() for task in self.zoo.tasks])
        raw = baselines.gradients_at(self.zoo.networks, fixed)
        untrained = self.untrained().encode(self.tokens)
        for networks, tasks, embedding in (
            ("known tasks", torch.arange(self.zoo.config.tasks), self.embedding),
            ("unseen tasks", others.sort().values, self.half.embedder.encode(self.tokens)),
        ):
            index = self.test[torch.isin(labels[self.test], tasks)]
            for method, features in (
                ("embedder", embedding),
                ("untrained embedder", untrained),
                (f"gradients at {FIXED_POINTS} points", raw),
            ):
                found = features[index]
                distances = torch.cdist(found, found).fill_diagonal_(torch.inf)
                nearest = labels[index][distances.argmin(1)]
                means = torch.stack([found[labels[index] == task].mean(0) for task in tasks])
                yield StructureRow(
                    self.seed,
                    method,
                    networks,
                    float((nearest == labels[index]).double().mean()),
                    rank_correlation(torch.pdist(means), torch.pdist(fields[tasks])),
                )

    def hide(self, tokens: Tokens, share: float) -> Tensor:
        counts = (share * (tokens.shares > 0).sum(1, keepdim=True)).round()
        return tokens.some(counts, self.generator)


def _fills(
    embedder: Embedder, process: Callable[[Tokens, Tensor], Tensor]
) -> Sequence[tuple[str, baselines.Fill]]:
    return (
        ("embedder", lambda tokens, visible: embedder.decode(
            embedder.encode(tokens, visible), tokens.points
        )),
        ("nearest visible mode", lambda tokens, visible: baselines.nearest_visible(
            tokens, visible, tokens.points
        )),
        ("Gaussian process of the network alone", process),
    )  # fmt: skip
