"""What of a computation graph is drawn or exported: some nodes, edges between them, and what is left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gradsplinter.graph import ComputationGraph
from gradsplinter.wording import counted


@dataclass(frozen=True, eq=False)
class ViewNode:
    """A component of a site, or a direction of the start site.

    Attributes:
        vector: [h_site], of length 1.
        flow: Σ over examples and directions of the length of the gradient that comes through it.
        count: examples that use it, once for each direction that does.
        directions: directions of the start site that have it in some mode.
        modes: modes of the site that have it, the one with the most examples first; at most 20.
    """

    name: str
    site: int
    vector: Tensor
    flow: float
    count: int
    directions: tuple[int, ...]
    modes: tuple[int, ...]
    n_modes: int
    community: int | None


@dataclass(frozen=True)
class ViewEdge:
    """Between two nodes of a view.

    Attributes:
        kind: between adjacent sites, or within a site.
        a: index of the node above; within a site of either.
        weight: between sites the mean weight of the edges that became this one; within a site the
            mean cosine of the components that do, each as often as there are examples.
        count: examples in which both occur together, once for each direction or pair of directions.
    """

    kind: Literal["between", "within"]
    a: int
    b: int
    weight: float
    count: int


@dataclass(frozen=True)
class LeftOut:
    """What a view does not have of a site.

    Attributes:
        flow: its share of the site's flow, 0 to 1.
    """

    site: int
    nodes: int
    flow: float


@dataclass(frozen=True)
class SiteMerge:
    """How the components of a site became nodes, before some of these were left out.

    Attributes:
        widest: as `Merged.widest`: radians; 0 where only equal components were merged.
    """

    site: int
    components: int
    nodes: int
    widest: float


def zero_note(graph: ComputationGraph) -> str:
    """Which sites have gradients of zero only, and why where it is the units' doing; else empty.

    Directions of zeros, weights of zeros and products too small for a float give such gradients, too.
    """
    zero = [site for site in graph.sites if not bool(graph.lengths(site).any())]
    if not zero:
        return ""
    after = zero[0] + 1
    why = f": no unit of site {after} is on in any example" if after in graph.silent_sites() else ""
    sites = f"site{'s' * (len(zero) > 1)} {' and '.join(map(str, zero))}"
    return f"every gradient with respect to {sites} is zero{why}"


def _both(angle: float) -> str:
    return f"{angle:.2g} rad = {math.degrees(angle):.2g}°"


@dataclass(frozen=True, eq=False, repr=False)
class GraphView:
    """Some nodes and edges of a computation graph, as `view` chose them.

    Attributes:
        nodes: site by site from the start site back; those of a site by flow, the strongest first.
        index: by site, the start site too, int64 [U, D]: the node of each component; -1 where it is
            zero or left out.
        left_out: for each site.
        directions: names of the directions.
        angle: within which components were merged; None where only equal ones were.
        merges: for each site but the start site.
    """

    graph: ComputationGraph
    nodes: list[ViewNode]
    edges: list[ViewEdge]
    index: dict[int, Tensor]
    left_out: list[LeftOut]
    left_out_edges: int
    directions: list[str]
    angle: float | None
    merges: list[SiteMerge]

    @property
    def merge_note(self) -> str:
        """How many components became how many nodes, and the widest angle found in one of them."""
        alike = (
            "equal components" if self.angle is None else f"components within {_both(self.angle)}"
        )
        sites = [
            f"{m.components:,} to {m.nodes:,} at site {m.site}"
            + (f" (at most {_both(m.widest)} apart)" if m.widest else "")
            for m in self.merges
        ]
        return f"{alike} merged: {', '.join(sites)}"

    @property
    def sites(self) -> tuple[int, ...]:
        """From the start site back."""
        return tuple(self.index)

    def of_site(self, site: int) -> list[int]:
        """The indices of the nodes of a site."""
        return [i for i, node in enumerate(self.nodes) if node.site == site]

    def path(self, i: int) -> list[int]:
        """The indices of the nodes that example i uses, from the start site back.

        Raises:
            IndexError: no such example.
        """
        modes = {self.graph.start: 0} | self.graph.example(i)
        return sorted({int(n) for s in self.sites for n in self.index[s][modes[s]] if n >= 0})

    def __repr__(self) -> str:
        sites = "; ".join(
            f"site {left.site}: {counted(len(self.of_site(left.site)), 'node')}"
            + (f", {left.nodes:,} left out with {left.flow:.1%} of the flow" if left.nodes else "")
            for left in self.left_out
        )
        edges = counted(len(self.edges), "edge") + (
            f", {self.left_out_edges:,} left out" if self.left_out_edges else ""
        )
        notes = [edges, sites, self.merge_note, zero_note(self.graph)]
        return f"GraphView: {'; '.join(filter(None, notes))}"
