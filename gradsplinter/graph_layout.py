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


@dataclass(frozen=True)
class Groups:
    """The communities of a view's nodes; where it has none, their directions."""

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
    """The communities of a view's nodes; where it has none, their directions.

    Examples:
        >>> import torch
        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> from gradsplinter.graph_view import view
        >>> net = ReluNetwork([torch.eye(2), torch.ones(2, 2)], [torch.zeros(2), torch.zeros(2)])
        >>> found = view(computation_graph(net, torch.ones(3, 2)), directions=["sum", "again"])
        >>> [(node.name, node.directions) for node in found.nodes]
        [('sum', (0,)), ('again', (1,)), ('1.0', (0, 1)), ('0.0', (0, 1))]
        >>> groups(found)
        Groups(names=['sum', 'again'], of=[0, 1, None, None], rest='several directions')
    """
    communities = [node.community for node in view.nodes]
    count = max((c + 1 for c in communities if c is not None), default=0)
    if count > 0:
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


def order_nodes(view: GraphView) -> dict[int, list[int]]:
    """By site, its nodes from top to bottom, so that few edges cross.

    The directions are in the order of their groups. Site by site, a node then goes to the mean place of
    the nodes above it, weighted by what flows along the edges (the barycenters of Sugiyama, Tagawa and
    Toda, 1981). Going back again would change nothing: most nodes have one above them, so none cross.
    """
    above: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for edge in view.edges:
        if edge.kind == "between":
            above[edge.b].append((edge.a, edge.weight * edge.count))
    of = groups(view).of
    order: dict[int, list[int]] = {}
    place: dict[int, float] = {}

    def wanted(node: int) -> float:
        if view.nodes[node].site == view.sites[0]:
            return float("inf") if (group := of[node]) is None else group
        total = sum(flow for _, flow in above[node])
        return sum(place[a] * flow for a, flow in above[node]) / total if total else float("inf")

    for site in view.sites:
        order[site] = sorted(view.of_site(site), key=wanted)
        place |= {node: float(at) for at, node in enumerate(order[site])}
    return order
