"""By what parts of networks are told apart: an embedder, and features that need no learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gradsplinter.draws import generator_of
from gradsplinter.embedder import Embedder
from gradsplinter.embedder_training import train_embedder_of
from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.embedding_trial import AT_FIXED_POINTS, FIXED_POINTS
from gradsplinter.studies.part_tokens import Part, ZooParts
from gradsplinter.studies.parts_result import (
    INPUTS,
    PartRow,
    PartsConfig,
    WholeRow,
)
from gradsplinter.studies.probe import probe_labels
from gradsplinter.studies.statistics import standardised
from gradsplinter.tokens import Tokens, joined, tokens_of
from gradsplinter.zoo import Zoo

LOOK_AT = 1024
"""Examples by which the principal directions of a network of the zoo are found."""


class Judge:
    """An embedder and baselines by one kind of coordinates, and what they know of the zoo; for one network.

    Each network of several tasks has a judge of its own, so that errors over networks are over splits of the zoo
    and trainings of the embedder, too.

    Args:
        config: how the embedder is taught.
        zoo: its networks; those of `test` are held out.
        coordinates: "inputs": whole networks, or "principal": their parts from site 1 on.
        seed: of the network, of the split and of the teaching.
        device: where the embedder is taught.
        progress: show a bar.
    """

    def __init__(
        self,
        config: PartsConfig,
        zoo: Zoo,
        coordinates: str,
        seed: int,
        device: torch.device | str | None,
        progress: bool,
    ) -> None:
        self.config, self.zoo, self.coordinates, self.seed = config, zoo, coordinates, seed
        kind = config.teaching.tokens
        self.training, self.test = zoo.split(max(1, zoo.config.networks // 5), seed)
        x = self.sample(LOOK_AT, generator_of(seed, "examples of the zoo"))
        later = ZooParts(zoo.networks, x, kind) if coordinates == "principal" else None

        def look_at(index: Sequence[int], x: Tensor) -> Tokens:
            if later is not None:
                return joined(list(later.tokens(index, x)))
            return tokens_of([zoo.networks[i] for i in index], x, kind=kind)

        def look(index: Sequence[int], generator: torch.Generator) -> Tokens:
            return look_at(
                [training[i] for i in index], self.sample(config.teaching.points, generator)
            )

        training = self.training.tolist()
        shape = replace(config.shape, inputs=INPUTS)
        names = [zoo.networks[i].fingerprint for i in training]
        teaching = replace(config.teaching, seed=seed)
        taught = train_embedder_of(look, names, shape, teaching, device=device, progress=progress)
        self.embedder = taught.embedder
        self.tokens = look_at(range(len(zoo.networks)), x[: config.examples])
        self.untrained = Embedder(shape, seed).requires_grad_(False)
        self.untrained.standardise(self.tokens[self.training])
        points = self.tokens.points[self.tokens.shares > 0]
        order = torch.randperm(len(points), generator=generator_of(seed, "fixed points"))
        self.fixed = points[order[:FIXED_POINTS]]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.zoo.tasks[0].sample(n, generator=generator)

    def features(self, method: str, tokens: Tokens) -> Tensor:
        """`[B, F]`."""
        ways: dict[str, Callable[[], Tensor]] = {
            "embedder": lambda: self.embedder.encode(tokens),
            "untrained embedder": lambda: self.untrained.encode(tokens),
            AT_FIXED_POINTS: lambda: baselines.nearest_at(tokens, tokens.shares > 0, self.fixed),
            "statistics of gradients": lambda: baselines.mode_statistics(tokens),
        }
        return ways[method]()

    def rows(
        self, method: str, of_zoo: Tensor, of_parts: Tensor, parts: list[Part], labels: Tensor
    ) -> tuple[WholeRow, list[PartRow]]:
        """How well the probe does on the zoo itself; and of the judge's own network, among the parts of all."""
        known, count = of_zoo[self.training], len(self.training)
        every = torch.cat([known, of_zoo[self.test], of_parts])
        rows = torch.arange(len(every))
        found = probe_labels(every, self.zoo.labels[self.training], rows[:count], rows[count:])
        held_out, named = found.split([len(self.test), len(parts)])
        right = float((held_out == self.zoo.labels[self.test]).double().mean())
        whole = WholeRow(self.seed, self.coordinates, method, right)
        return whole, list(self._of_parts(method, known, of_parts, parts, labels, named))

    def _of_parts(
        self,
        method: str,
        known: Tensor,
        of_parts: Tensor,
        parts: list[Part],
        labels: Tensor,
        named: Tensor,
    ) -> Iterator[PartRow]:
        near = Near(standardised(of_parts, known), parts, labels)
        depth = len(self.config.hidden) + 1
        names = [part.name(depth) for part in parts]
        for name in dict.fromkeys(names):
            kind = torch.tensor([other == name for other in names])
            own = kind & (near.seeds == self.seed)
            if bool(own.any()):
                yield PartRow(
                    self.seed, method, name, self.coordinates, int(own.sum()),
                    _share(named == labels, own), near.neighbours(own), near.products(own),
                    near.distance(own, kind, same=True), near.distance(own, kind, same=False),
                )  # fmt: skip


class Near:
    """Distances between parts `[P, F]`, and which of them are parts of the same network or task."""

    def __init__(self, features: Tensor, parts: Sequence[Part], labels: Tensor) -> None:
        self.labels = labels
        self.seeds = torch.tensor([part.seed for part in parts])
        outputs = torch.tensor([part.output for part in parts])
        self.distances = torch.cdist(features.double(), features.double())
        self.elsewhere = self.seeds.unsqueeze(1) != self.seeds
        self.beside = ~self.elsewhere & (outputs.unsqueeze(1) != outputs)
        self.same = labels.unsqueeze(1) == labels

    def neighbours(self, own: Tensor) -> float:
        """Share with the same task as the nearest part elsewhere, of those for which there is one."""
        return self._nearest_is_same(own, self.elsewhere)

    def products(self, own: Tensor) -> float:
        """Share of the products whose nearest part of another output of the network is a product."""
        return self._nearest_is_same(own & (self.labels == 0), self.beside)

    def _nearest_is_same(self, own: Tensor, among: Tensor) -> float:
        nearest = self.distances.masked_fill(~among, torch.inf).argmin(1)
        possible = (among & self.same).any(1)
        return _share(self.labels[nearest] == self.labels, own & possible)

    def distance(self, own: Tensor, kind: Tensor, *, same: bool) -> float:
        """Mean distance to parts of a kind elsewhere, of the same task or of others."""
        pairs = own.unsqueeze(1) & kind & self.elsewhere & (self.same == same)
        return _share(self.distances, pairs)


def _share(values: Tensor, where: Tensor) -> float:
    """The mean of some; NaN of none."""
    return float(values[where].double().mean())
