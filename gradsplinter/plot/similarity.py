"""How similar the nodes of a site are."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gradsplinter.graph_layout import Groups, group_color, groups
from gradsplinter.graph_view import GraphView
from gradsplinter.plot.graph_text import site_name
from gradsplinter.plot.style import label, style


def similarity(view: GraphView, site: int) -> Figure:
    """abs(cos) of every two nodes of a site, by community or else by direction.

    Pairs that no example uses together are pale: they have no edge.

    Raises:
        ValueError: no such site.
    """
    if site not in view.sites:
        raise ValueError(f"site must be in {view.sites[-1]}..{view.sites[0]}, got {site}")
    found = groups(view)
    last = len(found.names)
    nodes = sorted(view.of_site(site), key=lambda n: last if (g := found.of[n]) is None else g)
    count = len(nodes)
    size = min(9.0, max(2.8, 0.13 * count))
    with style():
        figure = Figure(figsize=(size + 2.6, size + 1.3), layout="constrained")
        ax = figure.add_subplot()
        ax.set_title(f"similarity of nodes, {site_name(view.graph, site)}")
        if count == 0:
            ax.set_axis_off()
            ax.text(0.5, 0.5, "no nodes", ha="center", va="center")
            return figure
        vectors = np.stack([view.nodes[n].vector.double().numpy() for n in nodes])
        cosines = np.abs(vectors @ vectors.T).clip(0, 1)
        colors = ScalarMappable(Normalize(0, 1), "magma")
        picture = colors.to_rgba(cosines)[..., :3]
        together = _together(view, nodes)
        picture[~together] += 0.75 * (0.93 - picture[~together])
        ax.imshow(picture, interpolation="nearest")
        figure.colorbar(colors, ax=ax, shrink=0.8, label="|cos| of two nodes")
        _name_rows(ax, view, nodes, found)
        left = view.left_out[view.sites.index(site)]
        apart = count * (count - 1) // 2 - int(np.triu(together, 1).sum())
        text = (
            f"pale: {apart:,} pairs that never occur together, so have no edge. " if apart else ""
        )
        if left.nodes:
            text += f"{left.nodes:,} nodes with {left.flow:.1%} of the flow are left out."
        figure.supxlabel(textwrap.fill(text, int(14 * (size + 2))), fontsize=8, color="#555555")
    return figure


def _together(view: GraphView, nodes: list[int]) -> NDArray[np.bool_]:
    """[n, n]: whether two nodes of a site occur in a common mode; a node does with itself."""
    index = view.index[view.nodes[nodes[0]].site]
    mode, direction = (index >= 0).nonzero().unbind(1)
    row = np.zeros(len(view.nodes), dtype=np.int64)
    row[nodes] = np.arange(len(nodes))
    has = np.zeros((len(nodes), len(index)), dtype=np.float32)
    has[row[index[mode, direction].numpy()], mode.numpy()] = 1
    return has @ has.T + np.eye(len(nodes)) > 0


def _name_rows(ax: Axes, view: GraphView, nodes: list[int], found: Groups) -> None:
    """Names of nodes, if there is room, and borders and names of groups."""
    ax.grid(visible=False)
    ax.tick_params(length=0, labelsize=6)
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    names = [label(view.nodes[n].name, 16) for n in nodes]
    ax.set_yticks(range(len(nodes)), names) if len(nodes) <= 70 else ax.set_yticks([])
    begin = 0
    for group, members in groupby(found.of[n] for n in nodes):
        end = begin + len(list(members))
        color, name = group_color(group), found.rest if group is None else found.names[group]
        if end < len(nodes):
            for line in (ax.axhline, ax.axvline):
                line(end - 0.5, color="white", lw=0.8)
        # A bar beside the matrix, and the group's name above it.
        bar: dict[str, Any] = {"color": color, "lw": 4, "solid_capstyle": "butt", "clip_on": False}
        ax.plot([begin - 0.4, end - 0.6], [-0.012] * 2, transform=ax.get_xaxis_transform(), **bar)
        ax.annotate(
            label(name, 18), ((begin + end - 1) / 2, -0.025), ha="right", va="top", rotation=45,
            xycoords=ax.get_xaxis_transform(), rotation_mode="anchor", fontsize=7, color=color,
        )  # fmt: skip
        begin = end
