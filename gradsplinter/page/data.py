"""What the page is told about a view, as plain values for JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradsplinter.checks import check_integer, check_tensor
from gradsplinter.graph import ComputationGraph
from gradsplinter.graph_layout import NO_GROUP, Groups, group_color, groups, order_nodes
from gradsplinter.graph_view import GraphView, zero_note

MOST_EXAMPLES = 2000
"""In a page."""
MOST_NUMBERS = 2**20
"""Of the inputs of the examples of a page, which take 5.3 bytes each."""
RAREST = 10
"""Examples that the page lists."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples of a page."""

    index: Tensor
    """int64 [E]: their numbers in the data of the graph, ascending."""
    inputs: Tensor | None = None
    """[E, h_0]"""
    names: Sequence[str] | None = None
    """E of them, for example labels."""


def chosen_examples(
    graph: ComputationGraph, most: int | None = None, among: Tensor | None = None
) -> Tensor:
    """int64 `[E]`: all examples; of more than `most`, the rarest for one half and others evenly spread.

    The rarest as `rarest` of a graph chooses them: where too many are equally rare, spread over these.

    By default `most` is 2,000, or fewer where the input is so wide that they would fill the page.
    `among`, int64, ascending, are those to choose from; by default all.
    """
    if most is None:
        most = max(1, min(MOST_EXAMPLES, MOST_NUMBERS // graph.net.widths[0]))
    most = check_integer(most, "most", 1)
    if among is None:
        among = torch.arange(graph.n_examples)
    if len(among) <= most:
        return among
    chosen = torch.isin(among, graph.rarest((most + 1) // 2, among))
    others = (~chosen).nonzero().squeeze(1)
    room = most - (most + 1) // 2
    chosen[others[torch.arange(room) * len(others) // max(1, room)]] = True
    return among[chosen]


def ties_note(graph: ComputationGraph, rarest: Tensor) -> str:
    """How many examples are as rare as the last of `rarest`, if some of them are not listed there."""
    if len(rarest) == 0:
        return ""
    equal = graph.equally_rare(int(rarest[-1]))
    listed = int(torch.isin(rarest, equal).sum())
    if listed == len(equal):
        return ""
    which = "these" if listed == len(rarest) else "the last"
    some = f"{which} {listed} are" if listed > 1 else "the last is one"
    return f"{len(equal):,} are equally rare: {some} of them"


def whole_paths(view: GraphView, examples: Tensor) -> Tensor:
    """bool `[E]`: which of these examples have every component that they use in the view."""
    graph = view.graph
    whole = torch.ones(len(examples), dtype=torch.bool)
    for site in graph.sites:
        left_out = (view.index[site] < 0) & (graph.lengths(site) > 0)
        whole &= ~left_out.any(dim=1)[graph.modes(site)[examples]]
    return whole


def page_data(
    view: GraphView,
    examples: Examples | None,
    image_shape: tuple[int, int] | None,
) -> dict[str, Any]:
    graph, found = view.graph, groups(view)
    examples = examples or Examples(chosen_examples(graph))
    _check(graph, examples, image_shape)
    rarest = graph.rarest(RAREST)
    rarest = rarest[torch.isin(rarest, examples.index)]
    rarity = graph.rarity().sum(0)[rarest]
    return {
        "network": repr(graph.net),
        "siteNames": graph.net.names,
        "start": graph.start,
        "end": graph.end,
        "nExamples": graph.n_examples,
        "directions": view.directions,
        "image": image_shape,
        "sites": _sites(view),
        "nodes": _nodes(view, found),
        "groups": _groups(view, found),
        "merge": _merge(view),
        "vectors": {site: _vectors(view, site) for site in view.sites},
        "between": _edges(view, "between"),
        "within": _edges(view, "within"),
        "leftOutEdges": view.left_out_edges,
        "examples": examples.index.tolist(),
        "names": None if examples.names is None else [str(name) for name in examples.names],
        "inputs": None if examples.inputs is None else _base64(examples.inputs),
        "rarest": [[i, round(r, 2)] for i, r in zip(rarest.tolist(), rarity.tolist(), strict=True)],
        "ties": ties_note(graph, rarest),
        "zero": zero_note(graph),
        **_trie(view, examples.index),
    }


def _check(
    graph: ComputationGraph, examples: Examples, image_shape: tuple[int, int] | None
) -> None:
    width = graph.net.widths[0]
    check_tensor(examples.index, "examples.index", 1, (torch.int64,))
    count = len(examples.index)
    for i in examples.index.tolist():
        if not 0 <= i < graph.n_examples:
            raise IndexError(
                f"examples.index must hold examples in 0..{graph.n_examples - 1}, got {i}"
            )
    if bool((examples.index.diff() <= 0).any()):
        k = int((examples.index.diff() <= 0).nonzero()[0])
        before, after = examples.index[k : k + 2].tolist()
        raise ValueError(f"examples.index must be ascending, got {after} after {before}")
    if examples.inputs is not None and list(examples.inputs.shape) != [count, width]:
        raise ValueError(
            f"examples.inputs must have shape [{count}, {width}], got {list(examples.inputs.shape)}"
        )
    if examples.names is not None and len(examples.names) != count:
        raise ValueError(f"examples.names must hold {count} names, got {len(examples.names)}")
    if image_shape is not None:
        check_image_shape(image_shape, width)


def check_image_shape(image_shape: tuple[int, int], width: int) -> None:
    """Raise ValueError unless images of this shape have as many pixels as the input is wide."""
    height, across = (check_integer(side, "image_shape", 1) for side in image_shape)
    if height * across != width:
        raise ValueError(
            f"image_shape must have {width} pixels to match the network's input, "
            f"got {height}x{across}"
        )


def _sites(view: GraphView) -> list[dict[str, Any]]:
    """From the start site back."""
    graph = view.graph
    sizes = {size.site: size for size in graph.sizes()}
    shares = graph.share_used()
    found = []
    for left in view.left_out:
        size = sizes.get(left.site)
        found.append(
            {
                "site": left.site,
                "width": graph.net.widths[left.site],
                "modes": size.modes if size else 1,
                "components": size.components if size else len(graph.directions),
                "used": shares.get(left.site, 1.0),
                "leftOut": left.nodes,
                "leftOutFlow": left.flow,
            }
        )
    return found


def _groups(view: GraphView, found: Groups) -> dict[str, Any]:
    """Names and colours of the groups, and of the nodes that are in none."""
    return {
        "names": found.names,
        "colours": [group_color(group) for group in range(len(found.names))],
        "rest": found.rest,
        "restColour": NO_GROUP,
        "oneCommunity": found.names is view.directions
        and any(node.community is not None for node in view.nodes),
    }


def _merge(view: GraphView) -> dict[str, Any] | None:
    """What the page says of how components became nodes; None if only equal ones are one node."""
    if view.angle is None:
        return None
    sites = [
        {"site": at.site, "components": at.components, "nodes": at.nodes,
         "widest": math.degrees(at.widest)}
        for at in view.merges
    ]  # fmt: skip
    return {"degrees": math.degrees(view.angle), "sites": sites}


def _nodes(view: GraphView, found: Groups) -> list[dict[str, Any]]:
    order = {n: at for nodes in order_nodes(view).values() for at, n in enumerate(nodes)}
    examples = _examples_of_nodes(view)
    counts = {site: _counts(view.graph, site) for site in view.sites}
    return [
        {
            "name": node.name,
            "site": node.site,
            "flow": node.flow,
            "examples": int(examples[i]),
            "directions": node.directions,
            "modes": [[mode, int(counts[node.site][mode])] for mode in node.modes],
            "nModes": node.n_modes,
            "community": node.community,
            "group": found.of[i],
            "order": order[i],
        }
        for i, node in enumerate(view.nodes)
    ]


def _counts(graph: ComputationGraph, site: int) -> Tensor:
    """int64 [U]: the examples of each mode."""
    return torch.tensor([graph.n_examples]) if site == graph.start else graph.splinters[site].counts


def _examples_of_nodes(view: GraphView) -> Tensor:
    """int64 [nodes]: examples that use each, once each, whatever the directions."""
    found = torch.zeros(len(view.nodes), dtype=torch.int64)
    for site, index in view.index.items():
        modes, directions = (index >= 0).nonzero().unbind(1)
        pairs = torch.stack([modes, index[modes, directions]], dim=1).unique(dim=0)
        found.index_add_(0, pairs[:, 1], _counts(view.graph, site)[pairs[:, 0]])
    return found


def _vectors(view: GraphView, site: int) -> str:
    vectors = [view.nodes[i].vector for i in view.of_site(site)]
    return _base64(torch.stack(vectors)) if vectors else ""


def _edges(view: GraphView, kind: str) -> list[list[float]]:
    """a, b, weight, count."""
    return [
        [edge.a, edge.b, float(f"{edge.weight:.5g}"), edge.count]
        for edge in view.edges
        if edge.kind == kind
    ]


def _trie(view: GraphView, examples: Tensor) -> dict[str, Any]:
    """The modes of the examples, site by site from the start site back, and where each has its nodes.

    `rows` has, for each example, its row in the last site; `parents` the row of each row in the site
    above. Of `nodes`, row by row and direction by direction, -1 is left out and -2 a gradient of zero.
    """
    graph = view.graph
    modes, rows = graph.ids[examples].unique(return_inverse=True)
    sites = []
    for site in reversed(graph.sites):
        nodes = torch.where(graph.lengths(site)[modes] == 0, -2, view.index[site][modes])
        above, up = graph.parents[site][modes].unique(return_inverse=True)
        sites.append(
            {"modes": modes.tolist(), "parents": up.tolist(), "nodes": nodes.flatten().tolist()}
        )
        modes = above
    first = view.index[graph.start]
    nodes = torch.where(first < 0, -2, first).flatten()
    sites.append({"modes": [0], "parents": [], "nodes": nodes.tolist()})
    return {"trie": sites[::-1], "rows": rows.tolist()}


def _base64(values: Tensor) -> str:
    """As little-endian float32."""
    numbers = values.detach().cpu().to(torch.float32).contiguous().numpy().astype("<f4")
    return base64.b64encode(numbers.tobytes()).decode()
