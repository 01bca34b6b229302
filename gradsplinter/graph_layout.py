"""Where the nodes of a view go and which of them belong together: for figures, pages and exports alike."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from gradsplinter.graph_view import GraphView

# Okabe and Ito's palette, which people with colour blindness can tell apart, without the yellow that is
# hard to see on white; three of Tol's, and a brown.
COLORS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"),
    *("#56B4E9", "#882255", "#999933", "#332288", "#7F5539"),
)
NO_GROUP = "#8A8A8A"
SWEEPS = 3  # more change next to nothing


@dataclass(frozen=True)
class Groups:
    """The communities of a view's nodes; where it has none or a single one, their directions."""

    names: list[str]
    of: list[int | None]
    """Of each node; None for one of no community, or of several directions."""
    rest: str
    """What the nodes of no group are."""

    def color(self, node: int) -> str:
        return group_color(self.of[node])


def group_color(group: int | None) -> str:
    """One of ten; more groups than that have colours in common."""
    return NO_GROUP if group is None else COLORS[group % len(COLORS)]


def groups(view: GraphView) -> Groups:
    """The communities of a view's nodes; where it has none or a single one, their directions.

    Examples:
        >>> import torch
        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> from gradsplinter.graph_choice import view
        >>> net = ReluNetwork([torch.eye(2), torch.ones(2, 2)], [torch.zeros(2), torch.zeros(2)])
        >>> found = view(computation_graph(net, torch.ones(3, 2)), directions=["sum", "again"])
        >>> [(node.name, node.directions) for node in found.nodes]
        [('sum', (0,)), ('again', (1,)), ('1.0', (0, 1)), ('0.0', (0, 1))]
        >>> groups(found)
        Groups(names=['sum', 'again'], of=[0, 1, None, None], rest='several directions')
    """
    communities = [node.community for node in view.nodes]
    count = max((c + 1 for c in communities if c is not None), default=0)
    if count > 1:
        return Groups([f"community {c}" for c in range(count)], communities, "no community")
    single = [n.directions[0] if len(n.directions) == 1 else None for n in view.nodes]
    return Groups(view.directions, single, "several directions")


def flow_shares(view: GraphView) -> list[float]:
    """Of each node, its share of the flow of its site, with what is left out there."""
    shares = [0.0] * len(view.nodes)
    for left in view.left_out:
        nodes = view.of_site(left.site)
        total = sum(view.nodes[n].flow for n in nodes)
        for n in nodes:
            shares[n] = view.nodes[n].flow / total * (1 - left.flow) if total else 0.0
    return shares


def heaviest(view: GraphView) -> float:
    """The largest weight of an edge between sites; 1 if there is none.

    The widths of all these edges are relative to it, so that those of different sites can be compared.
    """
    return max((e.weight for e in view.edges if e.kind == "between"), default=0.0) or 1.0


def colors_repeat(view: GraphView) -> bool:
    """Whether nodes of different groups have the same colour."""
    there = {group for group in groups(view).of if group is not None}
    return len({group_color(group) for group in there}) < len(there)


def order_nodes(view: GraphView) -> dict[int, list[int]]:
    """By site, its nodes from top to bottom, so that few edges cross.

    The directions are in the order of their groups. Site by site, the other nodes then go to the mean place
    of the nodes above them, weighted by what flows along the edges; on the way back to that of the nodes
    below, and so on (the barycenters of Sugiyama, Tagawa and Toda, 1981). Where every node has one node
    above it, none cross; where components are merged, nodes can have several.
    """
    above: dict[int, list[tuple[int, float]]] = defaultdict(list)
    below: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for edge in view.edges:
        if edge.kind == "between":
            above[edge.b].append((edge.a, edge.weight * edge.count))
            below[edge.a].append((edge.b, edge.weight * edge.count))
    of = groups(view).of
    start, *others = view.sites
    order = {site: view.of_site(site) for site in view.sites}
    order[start].sort(key=lambda n: float("inf") if (group := of[n]) is None else group)
    place = {n: (at + 0.5) / len(nodes) for nodes in order.values() for at, n in enumerate(nodes)}

    def sort(site: int, neighbours: dict[int, list[tuple[int, float]]]) -> None:
        order[site].sort(key=lambda n: _mean(place[n], [(place[m], w) for m, w in neighbours[n]]))
        place.update({n: (at + 0.5) / len(order[site]) for at, n in enumerate(order[site])})

    for sweep in range(SWEEPS):
        for site in others[-2::-1] if sweep else []:
            sort(site, below)
        for site in others:
            sort(site, above)
    return order


def _mean(alone: float, places: list[tuple[float, float]]) -> float:
    total = sum(weight for _, weight in places)
    return sum(place * weight for place, weight in places) / total if total else alone
