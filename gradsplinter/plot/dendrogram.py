"""The tree of one direction: how its gradient splinters, site by site."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gradsplinter.checks import check_integer
from gradsplinter.graph import ComputationGraph
from gradsplinter.graph_layout import group_color
from gradsplinter.merged import Merged
from gradsplinter.plot.graph_text import site_name
from gradsplinter.plot.style import BLUE, GREY, INK, label, style

GAP = 1.5  # inches between two sites
LEFT, RIGHT, TOP, EDGE = 1.0, 2.3, 0.65, 0.15
TRUNK = 1.2  # inches: the width of all examples
THINNEST = 0.008
ROW = 0.15  # inches, at least, for a leaf with its text
LINE = 0.12  # inches that a line of the notes takes
KEY, KEY_WIDTH = 12, 1.9  # letters that are resolved; inches that one takes
SHORT = 5  # entries that a vector has, at most, where it is written out
BEND = np.linspace(0, 1, 25)


@dataclass(eq=False)
class _Branch:
    """A mode of a site, or the modes that are left out there."""

    site: int
    mode: int
    """-1 for those that are left out."""
    leaves: int
    """Modes of the last site that belong to it."""
    share: float
    """Of the examples."""
    children: list[_Branch] = field(default_factory=list)
    y: float = 0.0
    """Inches from the top."""

    @property
    def width(self) -> float:
        return max(THINNEST, TRUNK * self.share)


def dendrogram(
    graph: ComputationGraph,
    direction: int,
    *,
    most: int = 24,
    angle: float | None = None,
    name: str | None = None,
) -> Figure:
    """The modes of a graph as a tree, from one direction to its components at the last site.

    The width of a branch is its share of the examples. Leaves whose components are merged have the same
    letter and colour; what these are stands below the tree.

    Args:
        graph: whose modes.
        direction: 0..D - 1.
        most: leaves to draw, those with the most examples; stubs say what else branches off.
        angle: merge components within this angle, as `ComputationGraph.merged` does.
        name: of the direction.

    Raises:
        IndexError: no such direction.
        ValueError: `most` below 1, an angle out of range.
    """
    most = check_integer(most, "most", 1)
    if not 0 <= check_integer(direction, "direction") < len(graph.directions):
        raise IndexError(f"direction must be in 0..{len(graph.directions) - 1}, got {direction}")
    if name is None:
        name = f"{'y' if graph.start == graph.net.depth else 'd'}{direction}"
    root = _tree(graph, most)
    height = _stack(root, 0.0)
    width = LEFT + GAP * (graph.start - graph.end) + RIGHT
    merged = graph.merged(graph.end, angle)
    leaves = _leaves(root)
    component = merged.index[:, direction].tolist()
    times = Counter(component[leaf.mode] for leaf in leaves)
    kinds = {c: i for i, c in enumerate(c for c, n in times.items() if n > 1 and c >= 0)}
    key = [(kind, _vector(graph, merged, c, direction)) for c, kind in list(kinds.items())[:KEY]]
    notes = textwrap.fill(_notes(merged, angle, len(kinds)), int(17 * width))
    across = max(1, int((width - 2 * EDGE) / KEY_WIDTH))
    key_height = ROW * -(-len(key) // across)
    bottom = EDGE + key_height + LINE * (2 + notes.count("\n")) + EDGE
    with style():
        figure = Figure(figsize=(width, TOP + height + bottom))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(-LEFT, width - LEFT), ylim=(height + bottom, -TOP))
        ax.set_axis_off()
        _draw(ax, graph.start, root)
        _name_leaves(ax, graph, leaves, direction, [kinds.get(component[at.mode]) for at in leaves])
        ax.text(-0.1, root.y, label(name, 18), ha="right", va="center", fontsize=9)
        for site in graph.sites:
            count = graph.splinters[site].n_modes
            text = f"{site_name(graph, site)}\n{count:,} mode{'s' * (count != 1)}"
            ax.text((graph.start - site) * GAP, -TOP + 0.1, text, ha="center", va="top")
        for at, (kind, text) in enumerate(key):
            x, y = (
                EDGE - LEFT + KEY_WIDTH * (at % across),
                height + EDGE + ROW * (at // across + 0.5),
            )
            _draw_letter(ax, x + 0.06, y, kind)
            ax.text(x + 0.17, y, text, va="center", fontsize=7)
        ax.text(
            EDGE - LEFT, height + bottom - EDGE, notes, va="bottom", fontsize=7, color="#555555"
        )
    return figure


def _vector(graph: ComputationGraph, merged: Merged, component: int, direction: int) -> str:
    """Its entries, if they are few; else where one gets it."""
    values = merged.values[component].tolist()
    if len(values) <= SHORT:
        return f"({', '.join(f'{round(value, 2) + 0.0:g}' for value in values)})"
    mode = merged.index[:, direction].tolist().index(component)
    return f"graph.component({graph.end}, {mode}, {direction})"


def _notes(merged: Merged, angle: float | None, letters: int) -> str:
    alike = "the same vector"
    if angle is not None:
        alike = f"merged within {angle:g} rad (widest angle found: {merged.widest:.2g} rad)"
    text = f"Width: share of the examples. |g|: length of the gradient. The same letter: {alike}"
    text += "; a leaf without one is like no other here. "
    if letters > KEY:
        text += f"{letters - KEY} more letters are not resolved. "
    return text


def _tree(graph: ComputationGraph, most: int) -> _Branch:
    """The modes of the last site with the most examples, and what they belong to."""
    counts = graph.splinters[graph.end].counts
    at = {graph.end: torch.arange(len(counts))}  # by site, the mode of each mode of the last site
    for site in range(graph.end, graph.start):
        at[site + 1] = graph.parents[site][at[site]]
    kept = torch.zeros(len(counts), dtype=torch.bool)
    kept[counts.sort(descending=True, stable=True).indices[:most]] = True

    def grow(site: int, mode: int, leaves: Tensor) -> _Branch:
        branch = _Branch(site, mode, len(leaves), int(counts[leaves].sum()) / graph.n_examples)
        if mode < 0 or site == graph.end:
            return branch
        below = at[site - 1][leaves]
        modes = below[kept[leaves]].unique()
        branch.children = [grow(site - 1, m, leaves[below == m]) for m in modes.tolist()]
        branch.children.sort(key=lambda child: -child.share)
        others = leaves[~torch.isin(below, modes)]
        if len(others) > 0:
            branch.children.append(grow(site - 1, -1, others))
        return branch

    return grow(graph.start, 0, at[graph.end])


def _stack(branch: _Branch, top: float) -> float:
    """Give each branch its place, from `top` on; where the next one begins."""
    if not branch.children:
        height = max(ROW, branch.width + 0.03)
        branch.y = top + height / 2
        return top + height
    for child in branch.children:
        top = _stack(child, top)
    branch.y = (branch.children[0].y + branch.children[-1].y) / 2
    return top


def _draw(ax: Axes, start: int, branch: _Branch) -> None:
    """Ribbons, which leave a branch side by side."""
    x = (start - branch.site) * GAP
    y = branch.y - sum(child.width for child in branch.children) / 2
    for child in branch.children:
        middle = y + child.width / 2
        curve = middle + (child.y - middle) * BEND**2 * (3 - 2 * BEND)
        left_out = child.mode < 0
        ax.fill_between(
            x + GAP * BEND, curve - child.width / 2, curve + child.width / 2, linewidth=0,
            snap=False, color=GREY if left_out else BLUE, alpha=0.25 if left_out else 0.45,
        )  # fmt: skip
        y += child.width
        if left_out:
            text = f"… {child.leaves:,} more mode{'s' * (child.leaves != 1)} with {child.share:.1%}"
            ax.text(
                x + GAP + 0.05, child.y, f"{text} of the examples",
                va="center", fontsize=6, color="#555555",
            )  # fmt: skip
        else:
            ax.plot(
                [x + GAP] * 2, [child.y - child.width / 2, child.y + child.width / 2],
                color=INK, lw=1, solid_capstyle="butt",
            )  # fmt: skip
        _draw(ax, start, child)


def _leaves(branch: _Branch) -> list[_Branch]:
    if not branch.children:
        return [branch] if branch.mode >= 0 else []
    return [leaf for child in branch.children for leaf in _leaves(child)]


def _name_leaves(
    ax: Axes,
    graph: ComputationGraph,
    leaves: list[_Branch],
    direction: int,
    kinds: list[int | None],
) -> None:
    """Share, length, and the letter of each."""
    lengths = graph.lengths(graph.end)[:, direction].tolist()
    x = (graph.start - graph.end) * GAP
    for leaf, kind in zip(leaves, kinds, strict=True):
        length = lengths[leaf.mode]
        text = f"{leaf.share:.1%}   " + (f"|g| {length:.3g}" if length else "gradient zero")
        ax.text(x + 0.25, leaf.y, text, va="center", fontsize=6.5)
        if kind is not None:
            _draw_letter(ax, x + 0.14, leaf.y, kind)


def _draw_letter(ax: Axes, x: float, y: float, kind: int) -> None:
    ax.text(
        x, y, _letter(kind), ha="center", va="center", fontsize=6, color="white",
        bbox={"boxstyle": "round,pad=0.15", "fc": group_color(kind), "lw": 0},
    )  # fmt: skip


def _letter(number: int) -> str:
    """A, B, ..., Z, A1, B1, ..."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")
