"""The words of a figure of a graph: captions, notes and the legend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from gradsplinter.graph import ComputationGraph
from gradsplinter.graph_layout import NO_GROUP, Groups, colors_repeat, group_color
from gradsplinter.graph_view import GraphView, zero_note
from gradsplinter.plot.style import label


@dataclass(frozen=True)
class Used:
    """What an example uses of a view."""

    nodes: set[int]
    edges: set[tuple[int, int]]
    missing: dict[int, int]
    """By site, how many of its components the view has left out."""


def used_by(view: GraphView, example: int) -> Used:
    modes = {view.graph.start: 0} | view.graph.example(example)
    edges, missing = set(), {}
    for above, site in pairwise(view.sites):
        upper, lower = view.index[above][modes[above]], view.index[site][modes[site]]
        edges |= set(zip(upper.tolist(), lower.tolist(), strict=True))
        there = view.graph.lengths(site)[modes[site]] > 0
        missing[site] = int((there & (lower < 0)).sum())
    return Used(set(view.path(example)), edges, missing)


def site_caption(view: GraphView, lit: Used | None, at: int) -> str:
    site, left = view.sites[at], view.left_out[at]
    shown = len(view.of_site(site))
    lines = [f"{shown:,} node{'s' * (shown != 1)}"]
    if lit is not None:
        used = sum(view.nodes[n].site == site for n in lit.nodes)
        lines[0] += f", {used:,} used"
        if missing := lit.missing.get(site, 0):
            lines.append(f"({missing:,} used not shown)")
    if site != view.graph.start and not bool(view.graph.lengths(site).any()):
        lines.append("every gradient is zero")
    if left.nodes:
        lines += [f"{left.nodes:,} left out with", f"{left.flow:.1%} of the flow"]
    return "\n".join(lines)


def site_name(graph: ComputationGraph, site: int) -> str:
    name = graph.net.names[site]
    if site in (0, graph.net.depth):
        return f"{name} (site {site})"
    return f"site {site}: {label(name, 18)}" if name else f"site {site}"


def directions_without_nodes(view: GraphView) -> list[str]:
    """Those whose gradient is not zero, and of whose components at the first site none is kept."""
    site = view.sites[1]
    there = (view.graph.lengths(site) > 0).any(dim=0)
    kept = (view.index[site] >= 0).any(dim=0)
    return [view.directions[d] for d in (there & ~kept).nonzero().flatten().tolist()]


def legend_kinds(view: GraphView, found: Groups) -> list[tuple[str, str]]:
    """Names and colours for the legend. Directions need none: they are named beside their nodes."""
    there = [] if found.names is view.directions else sorted({g for g in found.of if g is not None})
    kinds = [(label(found.names[g], 18), group_color(g)) for g in there]
    return kinds + [(found.rest, NO_GROUP)] * (None in found.of)


def explanation(view: GraphView, example: int | None, least_cosine: float) -> str:
    text = (
        "Area of a node: its share of the flow shown of its site. Width of an edge: its mean weight, on one "
        f"scale. Arcs: |cos| ≥ {least_cosine:g} within a site, dashed where it is negative."
    )
    if view.angle is not None:
        text += f" Merged within {view.angle:.2g} rad = {math.degrees(view.angle):.2g}°."
    if alone := directions_without_nodes(view):
        text += (
            f" Directions without a kept node: {', '.join(label(name, 12) for name in alone[:10])}"
        )
        text += f" and {len(alone) - 10:,} more." if len(alone) > 10 else "."
    if view.left_out_edges:
        text += f" {view.left_out_edges:,} edges are left out."
    if colors_repeat(view):
        text += " Colours repeat: different groups have the same."
    if zero := zero_note(view.graph):
        text += f" {zero[0].upper()}{zero[1:]}."
    return text if example is None else f"Highlighted: what example {example} uses. {text}"
