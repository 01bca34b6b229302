"""The columns of a matrix in groups that its rows keep apart, by modularity, tested against chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import torch
from torch import Tensor

from gradsplinter.checks import check_integer

LEAST = 0.1
"""Least separation of a split: 0 is what chance gives, 1 no affinity between communities."""
PERMUTATIONS = 19
"""A split must be better than all of so many by chance, so that one in 20 by chance passes."""


@dataclass(frozen=True, eq=False)
class Split:
    """Columns in groups."""

    groups: Tensor
    """int64 [n]; -1 for a column without entries."""
    affinity: Tensor
    """float64 [n, n], the diagonal being 0"""
    modularity: float = 0.0
    separation: float = 0.0
    chance: float = float("nan")

    @property
    def n(self) -> int:
        return 1 + int(self.groups.max())


def split_columns(
    rows: Tensor, weights: Tensor, widths: Sequence[int], least: float, permutations: int, seed: int
) -> Split:
    """Split columns by the affinity Σ over rows of weight · entry · entry of every two of them.

    Args:
        rows: float64 `[R, n]`, not negative; the columns of several sites side by side.
        weights: float64 `[R]`.
        widths: columns of each site.
        least, permutations, seed: as `communities` says.
    """
    check_integer(permutations, "permutations", 0)
    check_integer(seed, "seed", 0)
    if not 0 <= least <= 1:
        raise ValueError(f"least must be in 0..1, got {least}")
    affinity = _affinity(rows, weights)
    used = (weights @ rows) > 0
    groups = used.long() - 1
    if int(used.sum()) < 2:
        return Split(groups, affinity)
    among = affinity[used][:, used]
    coarse = louvain(among, seed)
    modularity, separation = _quality(among, coarse)
    if int(coarse.max()) == 0 or separation < least:
        return Split(groups, affinity)
    chance = float("nan")
    if (
        float(among.sum()) > 0
    ):  # else no gradient has two entries, and nothing can be tied by chance
        of_site = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))[used]
        generator = torch.Generator().manual_seed(seed)
        for _ in range(permutations):
            random = _affinity(_shuffled(rows[:, used], of_site, generator), weights)
            found = _quality(random, louvain(random, seed))[0]
            chance = found if isnan(chance) else max(chance, found)
            if chance >= modularity:
                return Split(groups, affinity, chance=chance)
    fine = _refined(among, coarse, least, seed)
    groups[used] = fine
    return Split(groups, affinity, *_quality(among, fine), chance)


def _affinity(rows: Tensor, weights: Tensor) -> Tensor:
    return ((rows * weights.unsqueeze(1)).T @ rows).fill_diagonal_(0)


def _shuffled(rows: Tensor, of_site: Tensor, generator: torch.Generator) -> Tensor:
    """Each row with its entries at other columns of the same site."""
    result = torch.empty_like(rows)
    for site in of_site.unique():
        columns = (of_site == site).nonzero().squeeze(1)
        order = torch.rand(len(rows), len(columns), generator=generator).argsort(dim=1)
        result[:, columns] = rows[:, columns].gather(1, order)
    return result


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
        raise ImportError(
            "communities need networkx: `pip install 'gradsplinter[graph]'` installs it"
        ) from error
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
