"""Heat maps of many examples, compared with each other and with the gradients that they come from.

A heat map is here the relevance of the inputs for the output that a network chooses, one row for each example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from gradsplinter.clusters import agglomerative
from gradsplinter.network import ReluNetwork
from gradsplinter.ops import unique_rows
from gradsplinter.patterns import unpack_bits
from gradsplinter.relevance import gradient_times_input, lrp_alpha_beta, lrp_epsilon
from gradsplinter.splinters import Splinters
from gradsplinter.studies.statistics import rank_correlation

Rule = Callable[[ReluNetwork, Tensor], Tensor]
"""Network and inputs `[N, h_0]` → relevance `[N, h_L, h_0]`."""
PRODUCT = "gradient × input"
INPUT = "input"
AT_ONCE = 200
"""Examples whose relevance for all outputs is held at once."""
ALIKE = 100
"""Of so many pairs one counts as alike."""
NEIGHBOURS = 10
"""Examples that are nearest to one."""


@dataclass(frozen=True, eq=False)
class Explained:
    """Some examples, and what is compared of them."""

    x: Tensor
    """`[N, h]`: the examples."""
    chosen: Tensor
    """int64 `[N]`: the largest output."""
    gradients: Tensor
    """`[N, h]`: of the chosen output; taken as 0 at inputs that are 0 in all these examples."""
    bits: Tensor
    """bool `[N, units]`: which hidden units are on."""
    maps: dict[str, Tensor]
    """`[N, h]` by the name of the rule: "gradient × input", those of LRP, and "input", the example itself."""

    @property
    def products(self) -> Tensor:
        """Gradient × input."""
        return self.gradients * self.x


def rules_of(epsilons: Sequence[float], alphas: Sequence[float]) -> dict[str, Rule]:
    """The rules of LRP by their names; β is α - 1.

    Examples:
        >>> list(rules_of([0.5], [1.0, 2.0]))
        ['ε = 0.5', 'α = 1, β = 0', 'α = 2, β = 1']
    """
    found: dict[str, Rule] = {}
    found |= {epsilon_rule(e): partial(lrp_epsilon, epsilon=e) for e in epsilons}
    found |= {alpha_rule(a): partial(lrp_alpha_beta, alpha=a, beta=a - 1) for a in alphas}
    return found


def epsilon_rule(epsilon: float) -> str:
    """Its name."""
    return f"ε = {epsilon:g}"


def alpha_rule(alpha: float) -> str:
    """Its name."""
    return f"α = {alpha:g}, β = {alpha - 1:g}"


def explain(
    net: ReluNetwork, splinters: Splinters, x: Tensor, rules: Mapping[str, Rule]
) -> Explained:
    """The gradients and heat maps of the output that the network chooses in each example."""
    chosen = net(x).argmax(dim=1)
    ids, rows = ids_of(splinters), torch.arange(len(x))
    maps = {PRODUCT: gradient_times_input(splinters, x)[rows, chosen]}
    for name, rule in rules.items():
        parts = zip(x.split(AT_ONCE), chosen.split(AT_ONCE), strict=True)
        maps[name] = torch.cat([rule(net, part)[range(len(part)), of] for part, of in parts])
    maps[INPUT] = x
    bits = torch.cat(unpack_bits(splinters.signatures[ids], net.widths[1:-1]), dim=1)
    used = (x != 0).any(dim=0)  # what none of them has makes no difference to any
    return Explained(x, chosen, splinters.jacobian()[ids, chosen] * used, bits, maps)


def two_largest(net: ReluNetwork, splinters: Splinters, x: Tensor) -> tuple[Tensor, Tensor]:
    """`[N, h_source]` each: the gradients of the two largest outputs of each example."""
    first, second = net(x).topk(2, dim=1).indices.unbind(dim=1)
    jacobian, ids = splinters.jacobian(), ids_of(splinters)
    return jacobian[ids, first], jacobian[ids, second]


def ids_of(splinters: Splinters) -> Tensor:
    """Of examples whose modes were kept."""
    assert splinters.ids is not None
    return splinters.ids


@dataclass(frozen=True)
class Share:
    """What groups of examples say of the heat maps: shares of their variance within classes."""

    by_gradient: float
    """By the group's mean gradient × the example's own input."""
    by_map: float
    """By the group's mean heat map."""


def share_explained(seen: Explained, groups: Tensor) -> Share:
    """How much of the gradient × input maps is explained by groups `[N]` of the examples of a class.

    The variance is Σ‖R - mean of its class‖²; a share is 1 - Σ‖R - what stands for it‖² / that.

    Examples:
        Two examples with the gradients (1, 0) and (0, 1), once as one group and once as two:

        >>> x, gradients = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.eye(2)
        >>> seen = Explained(x, torch.zeros(2, dtype=torch.int64), gradients, torch.eye(2) > 0, {})
        >>> share_explained(seen, torch.tensor([0, 0]))
        Share(by_gradient=0.5, by_map=0.0)
        >>> share_explained(seen, torch.tensor([0, 1]))
        Share(by_gradient=1.0, by_map=1.0)
    """
    maps = seen.products
    variance = (maps - group_means(maps, seen.chosen)).square().sum()

    def share(standing: Tensor) -> float:
        return float(1 - (maps - standing).square().sum() / variance)

    return Share(
        share(group_means(seen.gradients, groups) * seen.x), share(group_means(maps, groups))
    )


def group_means(values: Tensor, groups: Tensor) -> Tensor:
    """`[N, h]`: for each row the mean of its group's rows; `groups` is int64 `[N]`, from 0."""
    sums = values.new_zeros(int(groups.max()) + 1, values.shape[1]).index_add_(0, groups, values)
    counts = groups.bincount(minlength=len(sums)).clamp_min(1)
    return (sums / counts.unsqueeze(1))[groups]


def clusters_within(gradients: Tensor, chosen: Tensor, degrees: float) -> Tensor:
    """int64 `[N]`: clusters of the gradients of each class, no two farther apart than the angle."""
    found = torch.zeros_like(chosen)
    for label in chosen.unique():
        rows = (chosen == label).nonzero().squeeze(1)
        found[rows] = agglomerative(gradients[rows], math.radians(degrees)).ids
    return unique_rows(torch.stack([chosen, found], dim=1)).ids


def shuffled_within(groups: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Groups as large as these, of members that are drawn at random within classes."""
    found = groups.clone()
    for label in chosen.unique():
        rows = (chosen == label).nonzero().squeeze(1)
        found[rows] = groups[rows[torch.randperm(len(rows), generator=generator)]]
    return found


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of examples for which the same output is chosen."""

    index: Tensor
    """int64 `[P, 2]`"""
    classes: Tensor
    """int64 `[P]`: the output that is chosen in both."""
    maps: Tensor
    """`[P]`: cosines of the heat maps by one rule."""
    gradients: Tensor
    """`[P]`: cosines of the gradients."""
    inputs: Tensor
    """`[P]`: cosines of the inputs."""
    units: Tensor
    """`[P]`: share of the hidden units that are on in one of the two only."""

    def alike(self, by: Tensor) -> Tensor:
        """Of each class the one pair in a hundred that is most alike by some cosines, int64."""
        order = by.argsort(descending=True, stable=True)
        found = [order[self.classes[order] == label] for label in self.classes.unique()]
        return torch.cat([some[: max(1, len(some) // ALIKE)] for some in found])

    def rank_correlation(self, a: Tensor, b: Tensor) -> float:
        """Within classes: their mean, each as much as it has pairs."""
        classes = [self.classes == label for label in self.classes.unique()]
        found = [(rank_correlation(a[some], b[some]), int(some.sum())) for some in classes]
        found = [(value, count) for value, count in found if not math.isnan(value)]
        total = sum(count for _, count in found)
        return sum(value * count for value, count in found) / total if total else math.nan


def pairs_of(seen: Explained, rule: str) -> Pairs:
    """Compare the heat maps by a rule, the gradients and the inputs of all pairs."""
    same = seen.chosen.unsqueeze(0) == seen.chosen.unsqueeze(1)
    index = same.triu(1).nonzero()
    i, j = index.unbind(dim=1)

    def of_pairs(rows: Tensor) -> Tensor:
        return cosines(rows)[i, j]

    differ = torch.cdist(seen.bits.double(), seen.bits.double(), p=1)[i, j] / seen.bits.shape[1]
    maps, gradients, inputs = map(of_pairs, (seen.maps[rule], seen.gradients, seen.x))
    return Pairs(index, seen.chosen[i], maps, gradients, inputs, differ)


def cosines(rows: Tensor) -> Tensor:
    """Of every two rows; 0 with a zero row."""
    units = F.normalize(rows, dim=1, eps=0)
    return units.nan_to_num() @ units.nan_to_num().T


def shared_neighbours(a: Tensor, b: Tensor, chosen: Tensor) -> float:
    """How many of the 10 examples of its class that are nearest to an example in `a` are so in `b` too.

    By cosine; mean share over the examples whose class has more than 10.
    """
    apart = chosen.unsqueeze(0) != chosen.unsqueeze(1)
    enough = (~apart).sum(dim=1) > NEIGHBOURS
    near = []
    for rows in (a, b):
        found = cosines(rows).masked_fill(apart, -torch.inf).fill_diagonal_(-torch.inf)
        nearest = found.argsort(dim=1, descending=True, stable=True)[:, :NEIGHBOURS]
        near.append(torch.zeros_like(found).scatter_(1, nearest, 1)[enough])
    return float((near[0] * near[1]).sum(dim=1).mean() / NEIGHBOURS)


def chance_of_neighbours(chosen: Tensor) -> float:
    """What `shared_neighbours` would be for random neighbours."""
    others = chosen.bincount()[chosen] - 1
    return float((NEIGHBOURS / others[others >= NEIGHBOURS]).mean())
