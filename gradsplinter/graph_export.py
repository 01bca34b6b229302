"""A view of a computation graph for other programs: networkx, GraphML, DOT, attribution graphs.

In all of them edges between sites point in the direction of the forward pass, from the node nearer to the
input, as data flows; in a view the first node of an edge is the one above. Edges within a site have no
direction and go from the node with more flow to the other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from gradsplinter.checks import check_path
from gradsplinter.graph_attribution import to_circuit_tracer
from gradsplinter.graph_layout import colors_repeat, flow_shares, groups, heaviest, order_nodes
from gradsplinter.graph_view import GraphView
from gradsplinter.io import write_file
from gradsplinter.wording import missing_extra

if TYPE_CHECKING:
    import networkx as nx

Attributes = dict[str, int | float | str]


def to_networkx(view: GraphView) -> nx.DiGraph:
    """A DiGraph whose nodes are the indices of the view's; attributes are numbers and strings.

    A node has name, site, flow, count, directions and modes (numbers with spaces between), n_modes,
    vector (likewise, shortest digits that are exact) and, if it has one, community. An edge has kind
    (between, within), weight and count. The graph's own attributes say what is left out.

    Raises:
        ImportError: networkx is not installed.

    Examples:
        >>> import torch
        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> from gradsplinter.graph_choice import view
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> graph = to_networkx(view(computation_graph(net, torch.ones(3, 2))))
        >>> list(graph.nodes(data="name")), list(graph.edges)
        ([(0, 'y0'), (1, '1.0'), (2, '0.0')], [(1, 0), (2, 1)])
    """
    try:
        import networkx as nx  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ImportError(missing_extra("to_networkx", "graph", error)) from error
    graph = nx.DiGraph(**_of_graph(view))
    graph.add_nodes_from((n, _of_node(view, n)) for n in range(len(view.nodes)))
    graph.add_edges_from(_edges(view))
    return graph


def to_graphml(view: GraphView) -> str:
    """GraphML, with the nodes and attributes of `to_networkx`; networkx is not needed.

    `networkx.read_graphml(..., node_type=int)` gives the same nodes and edges with the same attributes; to
    those of the graph it adds `node_default` and `edge_default`. Characters that XML cannot hold are not the
    same: control characters are written as their pictures (␀ for the first), others as �.
    """
    keys: dict[str, str] = {}

    def data(kind: str, attributes: Attributes) -> str:
        for name, value in attributes.items():
            keys[f"{kind}.{name}"] = (
                f'<key id="{kind}.{name}" for="{kind}" attr.name="{name}" '
                f'attr.type="{_GRAPHML_TYPES[type(value)]}"/>\n'
            )
        return "".join(
            f'<data key="{kind}.{name}">{_xml(value)}</data>' for name, value in attributes.items()
        )

    body = [data("graph", _of_graph(view)) + "\n"]
    for n in range(len(view.nodes)):
        body.append(f'<node id="{n}">{data("node", _of_node(view, n))}</node>\n')
    for source, target, attributes in _edges(view):
        body.append(
            f'<edge source="{source}" target="{target}">{data("edge", attributes)}</edge>\n'
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
        f'{"".join(keys.values())}<graph edgedefault="directed">\n{"".join(body)}</graph>\n</graphml>\n'
    )


_GRAPHML_TYPES = {int: "long", float: "double", str: "string"}


def _xml(value: float | str) -> str:
    return escape(
        _printable(str(value), keep="\t\n\r"), {"\r": "&#13;"}
    )  # which is else read as \n


def _printable(text: str, keep: str = "") -> str:
    """With pictures instead of control characters, and without what UTF-8 and XML cannot hold."""
    return "".join(
        c if c in keep
        else chr(0x2400 + ord(c)) if c < " "
        else "\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff"
        else c
        for c in text
    )  # fmt: skip


def to_dot(view: GraphView) -> str:
    """DOT for Graphviz: a column for each site, colours by community or else by direction.

    The area of a node is its share of the flow of its site, the width of an edge between sites its weight,
    on one scale for all. Edges within a site are thin, dashed where the cosine is negative, and do not
    move nodes. Where different groups have the same colour, a label says so.
    """
    found, share = groups(view), flow_shares(view)
    lines = [
        "digraph gradsplinter {",
        "rankdir=LR; ranksep=2; nodesep=0.1; outputorder=edgesfirst;",
        'node [shape=circle, style=filled, fixedsize=true, penwidth=0, label="", fontsize=8];',
        "edge [arrowhead=none];",
    ]
    if colors_repeat(view):
        lines.append(
            'label="Colours repeat: different groups have the same."; labelloc=b; fontsize=10;'
        )
    for site, nodes in reversed(order_nodes(view).items()):
        lines.append("{ rank=same;")
        for n in nodes:
            node = view.nodes[n]
            width = max(0.08, 0.8 * share[n] ** 0.5)
            tip = f"{node.name}: site {site}, {share[n]:.1%} of its flow, {node.count} examples"
            lines.append(
                f"{n} [xlabel={_dot(node.name)}, tooltip={_dot(tip)}, "
                f'width={width:.3f}, fillcolor="{found.color(n)}"];'
            )
        lines.append("}")
    most = heaviest(view)
    for source, target, attributes in _edges(view):
        weight = float(attributes["weight"])
        if attributes["kind"] == "between":
            look = f'penwidth={0.3 + 3.7 * weight / most:.3f}, color="{found.color(source)}"'
        else:
            look = f'style={"solid" if weight > 0 else "dashed"}, penwidth=0.3, constraint=false, color="#22222266"'
        lines.append(f'{source} -> {target} [{look}, tooltip="{weight:.4g}"];')
    return "\n".join([*lines, "}", ""])


def _dot(text: str) -> str:
    """Quoted, for an attribute in which Graphviz reads escapes and XML's entities."""
    text = _printable(text, keep="\n").replace("\\", r"\\").replace('"', r"\"")
    return '"' + text.replace("\n", r"\n").replace("&", "&amp;") + '"'


def save(view: GraphView, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a view to a file: .graphml, .dot, or .json for circuit-tracer.

    Args:
        view: what to write.
        path: of the file.
        overwrite: replace a file that is there.

    Raises:
        TypeError: not a path.
        ValueError: another suffix, a file that exists, a folder that cannot be written to.
    """
    path = check_place(path, overwrite=overwrite)
    try:
        write_file(path, text(view, path).encode())
    except OSError as error:
        raise ValueError(
            f"path must be in a folder that can be written, got {path}: {error}"
        ) from error


def text(view: GraphView, path: Path) -> str:
    """What `save` writes to a path that `check_place` has passed."""
    if path.suffix == ".graphml":
        return to_graphml(view)
    if path.suffix == ".dot":
        return to_dot(view)
    return json.dumps(to_circuit_tracer(view, path.stem), indent=1) + "\n"


def check_place(path: str | Path, *, overwrite: bool) -> Path:
    """What `save` needs of a path, before any work.

    Raises:
        TypeError, ValueError: as `save`.
    """
    path = check_path(path, "path")
    if path.suffix not in (".graphml", ".dot", ".json"):
        raise ValueError(f"path must end in .graphml, .dot or .json, got {path}")
    if path.is_dir():
        raise ValueError(f"path must be a file, got the folder {path}")
    if os.path.lexists(path) and not overwrite:
        raise ValueError(f"path must be a new file, got {path}, which exists")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise ValueError(f"path must be in a folder that can be written, got {path}")
    return path


def _of_graph(view: GraphView) -> Attributes:
    graph = view.graph
    attributes: Attributes = {
        "examples": graph.n_examples,
        "start": graph.start,
        "end": graph.end,
        "left_out_edges": view.left_out_edges,
    }
    for left in view.left_out:
        attributes[f"left_out_nodes_site_{left.site}"] = left.nodes
        attributes[f"left_out_flow_site_{left.site}"] = left.flow
    return attributes


def _of_node(view: GraphView, n: int) -> Attributes:
    node = view.nodes[n]
    attributes: Attributes = {
        "name": node.name,
        "site": node.site,
        "flow": node.flow,
        "count": node.count,
        "directions": " ".join(map(str, node.directions)),
        "modes": " ".join(map(str, node.modes)),
        "n_modes": node.n_modes,
        "vector": " ".join(map(str, node.vector.cpu().numpy())),
    }
    return attributes if node.community is None else attributes | {"community": node.community}


def _edges(view: GraphView) -> Iterator[tuple[int, int, Attributes]]:
    for edge in view.edges:
        ends = (edge.b, edge.a) if edge.kind == "between" else (edge.a, edge.b)
        yield *ends, {"kind": edge.kind, "weight": edge.weight, "count": edge.count}
