"""Units in groups, by the modularity of their affinities, tested against chance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isnan

import torch
from torch import Tensor

from gradsplinter.checks import check_integer
from gradsplinter.wording import missing_extra

LEAST = 0.1
"""Least separation of a split: 0 is what chance gives, 1 no affinity between communities."""
PERMUTATIONS = 19
"""A split must be better than all of so many by chance, so that one in 20 by chance passes."""


@dataclass(frozen=True, eq=False)
class Split:
    """Units in groups."""

    groups: Tensor
    """int64 [n]; -1 for a unit that was not used."""
    affinity: Tensor
    """float64 [n, n], the diagonal being 0"""
    modularity: float = 0.0
    separation: float = 0.0
    chance: float = float("nan")

    @property
    def n(self) -> int:
        return 1 + int(self.groups.max())


def check_split(least: float, permutations: int, seed: int) -> None:
    check_integer(permutations, "permutations", 0)
    check_integer(seed, "seed", 0)
    if not 0 <= least <= 1:
        raise ValueError(f"least must be in 0..1, got {least}")


def split(
    affinity: Tensor, used: Tensor, least: float, seed: int, by_chance: Iterable[Tensor] = ()
) -> Split:
    """Split units, if that can be done well.

    Args:
        affinity: float64 `[n, n]`, not negative; the diagonal is not looked at.
        used: bool `[n]`: which units to split; the others are in no group.
        least, seed: as `communities` says.
        by_chance: affinities of as many units as are used. The split must have a higher modularity than
            the best split of each of them.
    """
    affinity = affinity.clone().fill_diagonal_(0)
    groups = used.long() - 1
    if int(used.sum()) < 2:
        return Split(groups, affinity)
    among = affinity[used][:, used]
    coarse = louvain(among, seed)
    modularity, separation = _quality(among, coarse)
    if int(coarse.max()) == 0 or separation < least:
        return Split(groups, affinity)
    chance = float("nan")
    if float(among.sum()) > 0:  # else nothing is tied, and nothing can be tied by chance
        for random in by_chance:
            found = _quality(random, louvain(random, seed))[0]
            chance = found if isnan(chance) else max(chance, found)
            if chance >= modularity:
                return Split(groups, affinity, chance=chance)
    fine = _refined(among, coarse, least, seed)
    groups[used] = fine
    return Split(groups, affinity, *_quality(among, fine), chance)


def affinity_of(rows: Tensor, weights: Tensor) -> Tensor:
    """Σ over rows of weight · entry · entry of every two columns; rows `[R, n]` and weights `[R]`."""
    return (rows * weights.unsqueeze(1)).T @ rows


def shuffled(rows: Tensor, weights: Tensor, permutations: int, seed: int) -> Iterator[Tensor]:
    """Affinities, the diagonal being 0, where each row has its entries at random columns."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(permutations):
        order = torch.rand(rows.shape, generator=generator).argsort(dim=1)
        yield affinity_of(rows.gather(1, order), weights).fill_diagonal_(0)


def _refined(affinity: Tensor, coarse: Tensor, least: float, seed: int) -> Tensor:
    """Split communities again: one next to a much stronger one can hide two (the resolution limit)."""
    fine = torch.empty_like(coarse)
    n = 0
    for c in range(int(coarse.max()) + 1):
        units = (coarse == c).nonzero().squeeze(1)
        among = affinity[units][:, units]
        parts = louvain(among, seed)
        if int(parts.max()) == 0 or _quality(among, parts)[1] < least:
            parts = torch.zeros_like(parts)
        else:
            parts = _refined(among, parts, least, seed)
        fine[units] = n + parts
        n += int(parts.max()) + 1
    return fine


def louvain(affinity: Tensor, seed: int) -> Tensor:
    """int64 [n]: communities, numbered by their first units."""
    try:
        import networkx as nx  # noqa: PLC0415 (takes its time, and is an extra)
    except ImportError as error:  # pragma: no cover
        raise ImportError(missing_extra("communities", "graph", error)) from error
    graph = nx.from_numpy_array(affinity.numpy())
    found: list[set[int]] = nx.community.louvain_communities(graph, seed=seed)
    groups = torch.empty(len(affinity), dtype=torch.int64)
    for c, units in enumerate(sorted(found, key=min)):
        groups[list(units)] = c
    return groups


def _quality(affinity: Tensor, groups: Tensor) -> tuple[float, float]:
    """Modularity and separation; 0 and 1 where there is no affinity to divide."""
    total = affinity.sum()
    if total == 0:
        return 0.0, 1.0
    member = torch.nn.functional.one_hot(groups).double()
    between = member.T @ affinity @ member / total
    within, expected = float(between.trace()), float(between.sum(dim=1).square().sum())
    if expected >= 1:
        return 0.0, 0.0
    return within - expected, (within - expected) / (1 - expected)
