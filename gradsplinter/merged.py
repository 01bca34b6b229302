"""Components that are the same direction, or nearly so, made one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradsplinter import ops
from gradsplinter.clusters import clusters
from gradsplinter.wording import counted


@dataclass(frozen=True, eq=False, repr=False)
class Merged:
    """The different components of a site, whatever their modes and directions.

    Attributes:
        values: [C, h_site], of length 1: in order of first appearance, mode by mode.
        index: int64 [U, D]: which of them each component is; -1 where the gradient is zero.
        counts: int64 [C]: examples that use each, once for each direction that has it.
        diameters: float64 [C]: an angle between two components of each, at least half of the
            largest one and never above the angle of merging; 0 where only equal ones were merged.

    Examples:
        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> net = ReluNetwork([torch.eye(2), torch.ones(2, 2)], [torch.zeros(2), torch.zeros(2)])
        >>> computation_graph(net, torch.tensor([[1.0, 1.0], [-1.0, 1.0]])).merged(0)
        Merged: 4 components became 2; those of one are equal
    """

    values: Tensor
    index: Tensor
    counts: Tensor
    diameters: Tensor

    @property
    def n_components(self) -> int:
        """How many became these: modes × directions, without those whose gradient is zero."""
        return int((self.index >= 0).sum())

    @property
    def widest(self) -> float:
        """The largest of the diameters, in radians; 0 where there are none."""
        return float(self.diameters.max()) if len(self.diameters) else 0.0

    def __repr__(self) -> str:
        became = f"{counted(self.n_components, 'component')} became {len(self.counts):,}"
        if self.widest == 0:
            return f"Merged: {became}; those of one are equal"
        return f"Merged: {became}; widest angle found in one: {self.widest:.2g} rad"


def merge(rows: Tensor, used: Tensor, angle: float | None) -> Merged:
    """`ComputationGraph.merged`.

    Args:
        rows: `[n, h]`: the components that are not zero, mode by mode.
        used: int64 `[U, D]`: how many examples use each; n of them are not 0.
        angle: as there.
    """
    if angle is None:
        first, _, ids = ops.unique_rows(rows)
        values = rows if len(first) == len(rows) else rows[first]
        diameters = torch.zeros(len(first), dtype=torch.float64)
    else:
        found = clusters(rows, angle, max_diameter=angle)
        ids, values, diameters = found.ids, found.centers, found.diameters
    there = used > 0
    index = torch.full_like(used, -1)
    index[there] = ids
    counts = torch.zeros(len(values), dtype=torch.int64).index_add_(0, ids, used[there])
    return Merged(values, index, counts, diameters)
