"""A computation graph layer by layer."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from gradsplinter.graph_layout import NO_GROUP, Groups, groups, heaviest, order_nodes
from gradsplinter.graph_view import GraphView, ViewEdge
from gradsplinter.plot.graph_text import (
    Used,
    explanation,
    legend_kinds,
    site_caption,
    site_name,
    used_by,
)
from gradsplinter.plot.style import INK, label, style

GAP = 2.0  # inches between two sites
LEFT, RIGHT, TOP = 0.75, 0.75, 0.5  # inches around the nodes
LETTER = 0.075  # inches that a letter of a direction's name takes
LEAST_HEIGHT, MOST_HEIGHT = 2.4, 9.0  # inches that a column of nodes takes
LARGEST, SMALLEST = 0.5, 0.045  # inches: a node with all flow of its site, and with next to none
PAST_NAMES = 0.4  # inches that an arc goes out, at least, where names are in its way
APART = 0.035  # inches between nodes, if there is room
NAMED = 0.095  # inches that a node needs for its name
LINE, LEGEND_ROW, LEGEND_COLUMNS = (
    0.125,
    0.19,
    5,
)  # inches that a line below takes, and one of the legend
EDGE, BETWEEN = 0.12, 0.1  # inches around all, and between what is below
INSIDE = 0.25  # inches of a node that holds its name
OUTLINE = 3.6  # points around a name, so that no edge strikes through it
PALE = 0.2  # share of its colour that a node outside of the example's path keeps
QUIET, SOFT = "#808080", "#555555"  # names of those; what stands below
LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue
LIT = 0.08  # inches, at least, that a node of the example takes
STEEPNESS = np.linspace(0, 1, 25)


@dataclass(frozen=True)
class _Places:
    """In inches."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    diameter: NDArray[np.float64]
    width: float
    height: float
    named: set[int]
    """Sites whose nodes have room for their names."""


def layers(view: GraphView, example: int | None = None, *, least_cosine: float = 0.5) -> Figure:
    """The nodes of a view site by site, from the input side to the directions.

    Args:
        view: what to draw. Up to a hundred nodes a site show their names; of more one sees the shape.
        example: highlight what this example uses, and dim the rest. `view(..., examples=[i])` has it all.
        least_cosine: draw edges within a site whose abs(cos) is at least this.

    Raises:
        IndexError: no such example.
    """
    lit = None if example is None else used_by(view, example)
    places = _places(view)
    found = groups(view)
    captions = [site_caption(view, lit, at) for at in range(len(view.sites))]
    notes = textwrap.fill(explanation(view, example, least_cosine), int(17 * places.width))
    kinds = legend_kinds(view, found)
    legend = EDGE + _height(notes) + BETWEEN
    foot = legend + max(map(_height, captions)) + BETWEEN
    if kinds:
        foot += LEGEND_ROW * -(-len(kinds) // LEGEND_COLUMNS) + BETWEEN
    with style():
        figure = Figure(figsize=(places.width, places.height + foot))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, places.width), ylim=(-foot, places.height))
        ax.set_axis_off()
        _draw_between(ax, view, places, found, lit)
        _draw_within(ax, view, places, least_cosine, lit)
        faces = _draw_nodes(ax, view, places, found, lit)
        _name_nodes(ax, view, places, faces, lit)
        for column, (site, caption) in enumerate(zip(view.sites, captions, strict=True)):
            x = LEFT + GAP * (len(captions) - 1 - column)
            name = site_name(view.graph, site)
            ax.text(x, places.height - 0.12, name, ha="center", va="top", fontsize=10)
            ax.text(x, -BETWEEN, caption, ha="center", va="top", fontsize=7.5, color=SOFT)
        ax.text(EDGE, EDGE - foot, notes, fontsize=7, color=SOFT, va="bottom")
        figure.legend(
            [Line2D([], [], marker="o", lw=0, color=color) for _, color in kinds],
            [name for name, _ in kinds], ncols=LEGEND_COLUMNS, fontsize=7.5, loc="lower left",
            bbox_to_anchor=(0, legend / figure.get_figheight()), borderaxespad=0, borderpad=0,
            handletextpad=0.1, columnspacing=1,
        )  # fmt: skip
    return figure


def _height(text: str) -> float:
    """In inches, below the nodes."""
    return LINE * (1 + text.count("\n"))


def _places(view: GraphView) -> _Places:
    order = order_nodes(view)
    share = np.zeros(len(view.nodes))
    for nodes in order.values():
        flow = np.array([view.nodes[n].flow for n in nodes])
        share[nodes] = flow / flow.sum() if flow.sum() > 0 else 1
    diameter = np.maximum(LARGEST * np.sqrt(share), SMALLEST)
    slot = np.maximum(diameter + APART, NAMED)
    needed = max(float(np.sum(slot[nodes])) for nodes in order.values())
    height = min(max(needed, LEAST_HEIGHT), MOST_HEIGHT)
    x, y, named = np.zeros(len(share)), np.zeros(len(share)), set()
    for column, (site, nodes) in enumerate(reversed(order.items())):
        if np.sum(slot[nodes]) <= height:
            named.add(site)
        else:  # all of the site shrink alike
            diameter[nodes] *= min(1, 0.9 * height / float(np.sum(diameter[nodes])))
            slot[nodes] = diameter[nodes]
        slot[nodes] += (height - float(np.sum(slot[nodes]))) / max(1, len(nodes))
        x[nodes] = LEFT + GAP * column
        y[nodes] = height - np.cumsum(slot[nodes]) + slot[nodes] / 2
    longest = max(len(label(view.nodes[n].name)) for n in view.of_site(view.sites[0]))
    width = LEFT + GAP * (len(view.sites) - 1) + max(RIGHT, LARGEST / 2 + 0.2 + LETTER * longest)
    return _Places(x, y, diameter, width, height + TOP, named)


def _draw_between(
    ax: Axes, view: GraphView, places: _Places, found: Groups, lit: Used | None
) -> None:
    """As curves, level at both ends; those that are lit on top."""
    most = heaviest(view)
    for site in view.sites[1:]:
        edges = [e for e in view.edges if e.kind == "between" and view.nodes[e.b].site == site]
        if not edges:
            continue
        on = [lit is not None and (e.a, e.b) in lit.edges for e in edges]
        edges = [edges[i] for i in sorted(range(len(edges)), key=lambda i: on[i])]
        on.sort()
        a, b = np.array([e.a for e in edges]), np.array([e.b for e in edges])
        bend = STEEPNESS**2 * (3 - 2 * STEEPNESS)
        xs = places.x[b, None] + (places.x[a] - places.x[b])[:, None] * STEEPNESS
        ys = places.y[b, None] + (places.y[a] - places.y[b])[:, None] * bend
        weight = np.array([e.weight for e in edges])
        alpha = min(0.75, max(0.3, 40 / len(edges)))
        ax.add_collection(
            LineCollection(
                list(np.stack([xs, ys], axis=2)),
                linewidths=0.3 + 2.7 * weight / most,
                colors=[found.color(e.a) if _same(found, e) else NO_GROUP for e in edges],
                alpha=[alpha if lit is None else 0.95 if one else _dimmed(edges) for one in on],
                zorder=1,
                label=f"edges to site {site}",
            )
        )


def _same(found: Groups, edge: ViewEdge) -> bool:
    return found.of[edge.a] == found.of[edge.b]


def _dimmed(edges: list[ViewEdge]) -> float:
    """Fainter where many lie over each other."""
    return min(0.08, max(0.02, 20 / len(edges)))


def _draw_within(
    ax: Axes, view: GraphView, places: _Places, least: float, lit: Used | None
) -> None:
    """As arcs, which go the farther out the farther apart their nodes are."""
    edges = [e for e in view.edges if e.kind == "within" and abs(e.weight) >= least]
    if not edges:
        return
    a, b = np.array([e.a for e in edges]), np.array([e.b for e in edges])
    apart = np.abs(places.y[a] - places.y[b])
    first = [view.nodes[e.a].site == view.sites[-1] for e in edges]  # whose names are on the left
    out = np.where(first, 0.12, PAST_NAMES) + 0.45 * apart / (places.height - TOP)
    xs = places.x[a, None] + out[:, None] * np.sin(np.pi * STEEPNESS)
    ys = places.y[a, None] + (places.y[b] - places.y[a])[:, None] * STEEPNESS
    on = [lit is not None and {e.a, e.b} <= lit.nodes for e in edges]
    ax.add_collection(
        LineCollection(
            list(np.stack([xs, ys], axis=2)),
            linewidths=0.6,
            colors=INK,
            linestyles=["-" if e.weight > 0 else (0, (3, 2)) for e in edges],
            alpha=[
                min(0.45, max(0.12, 15 / len(edges)))
                if lit is None
                else 0.8
                if one
                else _dimmed(edges)
                for one in on
            ],
            zorder=2,
            label="within sites",
        )
    )


def _draw_nodes(
    ax: Axes, view: GraphView, places: _Places, found: Groups, lit: Used | None
) -> NDArray[np.float64]:
    """Returns the colours `[nodes, 3]`. They are opaque, or edges would strike through the names."""
    on = [lit is None or n in lit.nodes for n in range(len(view.nodes))]
    least = np.where(on, 0 if lit is None else LIT, 0)
    diameter = np.maximum(places.diameter, least)
    colors = np.array([to_rgb(found.color(n)) for n in range(len(view.nodes))])
    faces = np.where(np.array(on)[:, None], colors, 1 - PALE * (1 - colors))
    ax.add_collection(
        EllipseCollection(
            diameter, diameter, np.zeros(len(view.nodes)), units="xy",
            offsets=np.stack([places.x, places.y], axis=1), offset_transform=ax.transData,
            facecolors=faces,
            edgecolors=[INK if lit is not None and one else "white" for one in on],
            linewidths=[0.8 if lit is not None and one else 0.3 for one in on],
            zorder=3, label="nodes",
        )
    )  # fmt: skip
    return faces


def _name_nodes(
    ax: Axes, view: GraphView, places: _Places, faces: NDArray[np.float64], lit: Used | None
) -> None:
    """Inside of large nodes; beside others, if there is room: on the left of the last site."""
    for n, node in enumerate(view.nodes):
        start, used = node.site == view.sites[0], lit is not None and n in lit.nodes
        if node.site not in places.named and not used:
            continue
        inside = not start and places.diameter[n] > INSIDE
        side = 0 if inside else -1 if node.site == view.sites[-1] else 1
        quiet = lit is not None and not used
        on_dark = inside and faces[n] @ LUMINANCE < 0.6
        ax.text(
            places.x[n] + side * (places.diameter[n] / 2 + 0.04), places.y[n], label(node.name),
            ha=("right", "center", "left")[side + 1], va="center",
            color=QUIET if quiet else "white" if on_dark else INK,
            fontsize=8 if start else 6,
            zorder=4 if inside or used else 1.5,  # over the edges between sites, under the arcs
            path_effects=None if start or side < 1 else [withStroke(linewidth=OUTLINE, foreground="white")],
        )  # fmt: skip
