"""What do splinters say that a heat map of relevance does not?

Networks that classify images are explained by heat maps of the output that they choose: by layer-wise relevance
propagation (LRP), and by gradient × input, which is LRP without ε. Measured is how far the rules of LRP are from
gradient × input; how much of what differs between the heat maps of a class lies in the gradients and how much
in the inputs; and, over all pairs of examples of a class, whether alike heat maps come from alike gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from gradsplinter.checks import check_integer
from gradsplinter.clusters import agglomerative
from gradsplinter.data import Dataset
from gradsplinter.network import ReluNetwork
from gradsplinter.patterns import unpack_bits
from gradsplinter.relevance import gradient_times_input, lrp_alpha_beta, lrp_epsilon
from gradsplinter.splinters import Splinters
from gradsplinter.studies.classifiers import (
    ClassifierConfig,
    accuracy,
    hidden_widths,
    train_classifier,
)
from gradsplinter.table import splinter

ALIKE = 100
"""The most alike pair of so many counts as alike."""
AT_ONCE = 200
"""Examples whose relevance for all outputs is held at once."""


@dataclass(frozen=True)
class RelevanceConfig:
    """What is trained and measured.

    Raises:
        TypeError, ValueError: an unknown architecture, a number out of range, a list without values.
    """

    data: str = "mnist"
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
    angles: tuple[float, ...] = (20.0, 30.0, 40.0, 50.0, 60.0)
    """Diameters of clusters of gradients, in degrees."""

    def __post_init__(self) -> None:
        ClassifierConfig(self.architecture, self.epochs)
        hidden_widths(self.architecture)  # of which "conv" has none
        for name in ("seeds", "epsilons", "alphas", "angles"):
            if not getattr(self, name):
                raise ValueError(f"{name} must hold at least one value, got none")
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        check_integer(self.examples, "examples", 2)
        for epsilon in self.epsilons:
            if not 0 <= epsilon < math.inf:
                raise ValueError(f"epsilons must be at least 0 and finite, got {epsilon}")
        for alpha in self.alphas:
            if not 1 <= alpha < math.inf:
                raise ValueError(f"alphas must be at least 1 and finite, got {alpha}")
        for angle in self.angles:
            if not 0 < angle <= 180:
                raise ValueError(f"angles must be in (0, 180], got {angle}")


@dataclass(frozen=True)
class Rule:
    """How near the heat maps by one rule are to gradient × input; means over examples."""

    seed: int
    rule: str
    """"epsilon" or "alpha-beta"."""
    parameter: float
    """ε or α."""
    cosine: float
    """Of the two heat maps of an example."""
    difference: float
    """‖rule's - gradient × input‖ / ‖gradient × input‖."""
    kept: float
    """Relevance of all inputs / the outputs' values, sums over examples."""


@dataclass(frozen=True)
class Group:
    """What is explained of the heat maps of a class when gradients are put in groups."""

    seed: int
    way: str
    """"class" (one group a class), "clusters" or "modes"."""
    angle: float
    """Diameter of a cluster, in degrees; 0 for other ways."""
    groups: int
    """Of all classes."""
    by_gradient: float
    """Share of the variance of heat maps within classes that the group's mean gradient × the input has."""
    by_map: float
    """Share that the group's mean heat map has."""
    chance_gradient: float
    """`by_gradient` where the members of groups are drawn at random within classes, groups as large."""
    chance_map: float
    """`by_map`, likewise."""


@dataclass(frozen=True)
class Pairs:
    """All pairs of examples for which a network chooses the same output."""

    seed: int
    pairs: int
    same_mode: int
    """Pairs that share their mode, and with it all gradients."""
    map_gradient: float
    """Rank correlation of the cosines of heat maps with those of gradients."""
    map_input: float
    """... with those of inputs."""
    gradient_input: float
    """Rank correlation of the cosines of gradients with those of inputs."""
    determined: float
    """R² of the cosine of heat maps by least squares on those of gradients and of inputs."""
    alike_gradient: float
    """Mean cosine of the gradients of the one pair in a hundred whose heat maps are most alike."""
    all_gradient: float
    """Mean cosine of gradients, of all pairs."""
    alike_units: float
    """Mean share of hidden units that are on in one of the two only, of the same alike pairs."""
    all_units: float
    """... of all pairs."""
    neighbours: float
    """How many of the 10 examples with most alike heat maps are among the 10 with most alike gradients, share."""


@dataclass(frozen=True)
class Site:
    """The gradients of the two largest outputs of an example, with respect to a site."""

    seed: int
    site: int
    cosine: float
    """Mean over examples."""
    opposed: float
    """Share of examples in which it is below 0: what raises one output lowers the other."""


@dataclass(frozen=True)
class Network:
    """One network."""

    seed: int
    accuracy: float
    """On all test data."""
    examples: int
    modes: int
    """Of the explained examples."""
    largest: int
    """Examples in the largest mode."""
    identity: float
    """Largest difference of LRP without ε from gradient × input, relative to the largest relevance."""
    kept: float
    """Relevance of all inputs by gradient × input / the outputs' values; biases have the rest."""
    hidden: float
    """Share of the squared gradient at inputs that are 0, where every heat map here is 0."""
    maps_cosine: float
    """Mean cosine of the heat maps of an example's two largest outputs."""
    gradients_cosine: float
    """... of their gradients."""
    maps_gradients: float
    """Rank correlation of the two cosines over examples."""


@dataclass(frozen=True, eq=False)
class Explained:
    """The explained examples of one network, for figures."""

    x: Tensor
    """float64 `[N, h]`."""
    chosen: Tensor
    """int64 `[N]`: the largest output."""
    gradients: Tensor
    """float64 `[N, h]`: of the chosen output."""
    maps: dict[str, Tensor]
    """float64 `[N, h]` by rule: "gradient × input", "ε = 0.1", "α = 2, β = 1", ..."""
    pair_cosines: Tensor
    """float64 `[3, pairs]`: of heat maps, gradients and inputs."""
    pair_units: Tensor
    """float64 `[pairs]`: share of the hidden units that differ."""
    pairs: Tensor
    """int64 `[pairs, 2]`."""


@dataclass(frozen=True, eq=False)
class RelevanceResult:
    config: RelevanceConfig
    classes: tuple[str, ...]
    image_shape: tuple[int, int] | None
    networks: list[Network]
    rules: list[Rule]
    groups: list[Group]
    pairs: list[Pairs]
    sites: list[Site]
    explained: Explained
    """Of the first seed."""
