"""What do splinters say that a heat map of relevance does not?

Networks that classify are explained by heat maps of the output that they choose: by layer-wise relevance propagation
(LRP), and by gradient × input, which is LRP without ε. Measured is how far the rules of LRP are from it; how much
of what differs between the heat maps of a class lies in gradients and how much in inputs; and whether alike
heat maps come from alike gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from gradsplinter.checks import check_integer, check_values
from gradsplinter.data import Dataset
from gradsplinter.draws import generator_of
from gradsplinter.network import ReluNetwork
from gradsplinter.ops import unique_rows
from gradsplinter.regions import float64_network
from gradsplinter.relevance import gradient_times_input, lrp_epsilon
from gradsplinter.splinters import Splinters
from gradsplinter.studies import heat_maps
from gradsplinter.studies.classifiers import (
    ClassifierConfig,
    accuracy,
    hidden_widths,
    train_classifier,
)
from gradsplinter.studies.heat_maps import Explained
from gradsplinter.studies.statistics import rank_correlation
from gradsplinter.table import splinter

MOST_EXAMPLES = 5000
"""That are explained: all pairs of them are compared."""


@dataclass(frozen=True)
class RelevanceConfig:
    """What is trained and measured.

    Raises:
        TypeError, ValueError: an unknown architecture, a number out of range, a list without values.
    """

    dataset: str = "mnist"
    """Of `data.load`: mnist, fashion-mnist, digits or iris."""
    architecture: str = "64-64"
    """Widths of the hidden layers."""
    epochs: int = 10
    """Passes through the training data."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """A network for each."""
    examples: int = 1000
    """Of the test data, the first ones: those that are explained."""
    epsilons: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    """Of the ε rule."""
    alphas: tuple[float, ...] = (1.0, 2.0)
    """Of the αβ rule; β is α - 1."""
    angles: tuple[float, ...] = (20.0, 30.0, 40.0, 50.0)
    """Diameters of clusters of gradients, in degrees."""

    def __post_init__(self) -> None:
        ClassifierConfig(self.architecture, self.epochs)
        hidden_widths(self.architecture)  # of which "conv" has none
        for name in ("seeds", "epsilons", "alphas", "angles"):
            check_values(getattr(self, name), name)
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        if check_integer(self.examples, "examples", 2) > MOST_EXAMPLES:
            raise ValueError(f"examples must be at most {MOST_EXAMPLES:,}, got {self.examples:,}")
        for name, least in (("epsilons", 0), ("alphas", 1)):
            for value in getattr(self, name):
                if not least <= value < math.inf:
                    raise ValueError(f"{name} must be at least {least} and finite, got {value}")
        for angle in self.angles:
            if not 0 < angle <= 180:
                raise ValueError(f"angles must be in (0, 180], got {angle}")


@dataclass(frozen=True)
class NetworkRow:
    """One network, and the gradients of its two largest outputs in each example."""

    seed: int
    accuracy: float
    """On all test data."""
    examples: int
    modes: int
    """Of the explained examples."""
    identity: float
    """Largest difference of LRP without ε from gradient × input / the largest relevance."""
    zeros: float
    """Share of inputs that are 0 in an example, of those that are not 0 in all."""
    unseen: float
    """Share of the squared gradient at such inputs, where each of these heat maps is 0."""
    cosine: float
    """Between the gradients of the two outputs, mean over examples."""
    maps_cosine: float
    """Between their heat maps by gradient × input."""
    agreement: float
    """Rank correlation of these two cosines over examples."""


@dataclass(frozen=True)
class RuleRow:
    """The heat maps by one rule beside gradient × input; means over examples."""

    seed: int
    rule: str
    cosine: float
    """Of the two heat maps of an example."""
    difference: float
    """‖rule's - gradient × input‖ / ‖gradient × input‖."""
    kept: float
    """Relevance of all inputs / the outputs' values, sums over examples."""


@dataclass(frozen=True)
class GroupRow:
    """What groups of gradients say of heat maps by gradient × input; `heat_maps.Share`."""

    seed: int
    way: str
    """"class": one group a class; "clusters"; "class and mode": one for each mode in a class."""
    angle: float
    """Diameter of a cluster in degrees; else 0."""
    groups: int
    by_gradient: float
    by_map: float
    chance_by_gradient: float
    """By groups as large of members that are drawn at random within classes."""
    chance_by_map: float


@dataclass(frozen=True)
class PairRow:
    """Heat maps by one rule, gradients and inputs of all pairs of examples of a class, by their cosines.

    The rule "input" takes the example itself for its heat map: what one knows without a network.
    """

    seed: int
    rule: str
    pairs: int
    same_mode: int
    """Pairs that share their mode, and with it all gradients."""
    with_gradients: float
    """Rank correlation of the cosines of heat maps and of gradients, within classes."""
    with_inputs: float
    """... of heat maps and of inputs."""
    gradients: float
    """Mean cosine of the gradients of all pairs."""
    gradients_alike: float
    """... of the one pair in a hundred of each class with the most alike heat maps."""
    units: float
    """Mean share of the hidden units that are on in one of the two only, of all pairs."""
    units_alike: float
    """... of the same alike pairs."""
    neighbours_by_gradients: float
    """Share of the 10 nearest examples by heat map that are among the 10 nearest by gradient."""
    neighbours_by_inputs: float
    """... by input."""
    neighbours_by_chance: float


@dataclass(frozen=True)
class SiteRow:
    """The gradients of the two largest outputs of an example with respect to a site."""

    seed: int
    site: int
    cosine: float
    """Mean over examples."""
    opposed: float
    """Share of examples with a cosine below 0: what raises one output lowers the other."""


@dataclass(frozen=True, eq=False)
class RelevanceResult:
    config: RelevanceConfig
    classes: tuple[str, ...]
    image_shape: tuple[int, int] | None
    networks: list[NetworkRow]
    rules: list[RuleRow]
    groups: list[GroupRow]
    pairs: list[PairRow]
    sites: list[SiteRow]
    explained: list[Explained]
    """By the network of the first seed."""


def run_relevance(
    config: RelevanceConfig, train: Dataset, test: Dataset, *, progress: bool = True
) -> RelevanceResult:
    """Train and measure.

    Examples:
        >>> from gradsplinter import data
        >>> config = RelevanceConfig("iris", "8", epochs=50, seeds=(0,))
        >>> found = run_relevance(config, data.load("iris"), data.load("iris", "test"), progress=False)
        >>> found.networks[0].identity < 1e-12
        True
    """
    result = RelevanceResult(config, test.classes, test.image_shape, [], [], [], [], [], [])
    x = test.x[: config.examples].double()
    training = ClassifierConfig(config.architecture, config.epochs)
    rules = heat_maps.rules_of(config.epsilons, config.alphas)
    with tqdm(total=len(config.seeds), disable=not progress, unit="network") as bar:
        for seed in config.seeds:
            module = train_classifier(training, train, seed)
            net = float64_network(module)
            splinters = splinter(net, x)
            seen = heat_maps.explain(net, splinters, x, rules)
            result.networks.append(_network(seed, accuracy(module, test), net, splinters, seen))
            result.rules.extend(
                _rule(seed, rule, seen, net) for rule in seen.maps if rule != heat_maps.INPUT
            )
            result.groups.extend(_groups(seed, splinters, seen, config.angles))
            result.pairs.extend(_pairs(seed, rule, seen) for rule in seen.maps)
            result.sites.extend(_site(seed, site, net, x) for site in range(net.depth))
            if seed == config.seeds[0]:
                result.explained.append(seen)
            bar.update()
    return result


def _network(
    seed: int, accuracy: float, net: ReluNetwork, splinters: Splinters, seen: Explained
) -> NetworkRow:
    x = seen.x
    identical = torch.cat([lrp_epsilon(net, part) for part in x.split(heat_maps.AT_ONCE)])
    off = (identical - gradient_times_input(splinters, x)).abs().max() / identical.abs().max()
    first, second = heat_maps.two_largest(net, splinters, x)
    cosines = F.cosine_similarity(first, second, dim=1)
    of_maps = F.cosine_similarity(first * x, second * x, dim=1)
    zeros = (x == 0)[:, (x != 0).any(dim=0)].double().mean()
    unseen = seen.gradients[x == 0].square().sum() / seen.gradients.square().sum()
    return NetworkRow(
        seed, accuracy, len(x), splinters.n_modes, float(off), float(zeros), float(unseen),
        float(cosines.mean()), float(of_maps.mean()), rank_correlation(cosines, of_maps),
    )  # fmt: skip


def _rule(seed: int, rule: str, seen: Explained, net: ReluNetwork) -> RuleRow:
    found, product = seen.maps[rule], seen.maps[heat_maps.PRODUCT]
    cosine = float(F.cosine_similarity(found, product, dim=1).mean())
    difference = float(((found - product).norm(dim=1) / product.norm(dim=1)).mean())
    kept = float(found.sum() / net(seen.x).amax(dim=1).sum())
    return RuleRow(seed, rule, cosine, difference, kept)


def _groups(
    seed: int, splinters: Splinters, seen: Explained, angles: Sequence[float]
) -> Iterator[GroupRow]:
    generator = generator_of(seed, "groups at random")
    modes = torch.stack([seen.chosen, heat_maps.ids_of(splinters)], dim=1)
    ways = [("class", 0.0, seen.chosen), ("class and mode", 0.0, unique_rows(modes).ids)]
    ways += [
        ("clusters", a, heat_maps.clusters_within(seen.gradients, seen.chosen, a)) for a in angles
    ]
    for way, angle, groups in ways:
        found = heat_maps.share_explained(seen, groups)
        chance = heat_maps.share_explained(
            seen, heat_maps.shuffled_within(groups, seen.chosen, generator)
        )
        yield GroupRow(
            seed, way, angle, len(groups.unique()), found.by_gradient, found.by_map,
            chance.by_gradient, chance.by_map,
        )  # fmt: skip


def _pairs(seed: int, rule: str, seen: Explained) -> PairRow:
    pairs, maps = heat_maps.pairs_of(seen, rule), seen.maps[rule]
    alike = pairs.alike(pairs.maps)
    return PairRow(
        seed, rule, len(pairs.maps), int((pairs.units == 0).sum()),
        pairs.rank_correlation(pairs.maps, pairs.gradients), pairs.rank_correlation(pairs.maps, pairs.inputs),
        float(pairs.gradients.mean()), float(pairs.gradients[alike].mean()),
        float(pairs.units.mean()), float(pairs.units[alike].mean()),
        heat_maps.shared_neighbours(maps, seen.gradients, seen.chosen),
        heat_maps.shared_neighbours(maps, seen.x, seen.chosen),
        heat_maps.chance_of_neighbours(seen.chosen),
    )  # fmt: skip


def _site(seed: int, site: int, net: ReluNetwork, x: Tensor) -> SiteRow:
    first, second = heat_maps.two_largest(net, splinter(net, x, source=site), x)
    cosines = F.cosine_similarity(first, second, dim=1)
    return SiteRow(seed, site, float(cosines.mean()), float((cosines < 0).double().mean()))
