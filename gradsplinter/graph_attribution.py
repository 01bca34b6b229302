"""A view of a computation graph as an attribution graph, for the front ends that draw those."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from gradsplinter.graph_layout import Groups, flow_shares, groups
from gradsplinter.graph_view import GraphView, ViewNode


def to_circuit_tracer(
    view: GraphView, slug: str, prompt: str | None = None, scan: str | None = None
) -> dict[str, Any]:
    """The JSON of attribution graphs, schema version 1, as circuit-tracer and Neuronpedia draw it.

    Sites become layers: the nodes of site m are features of layer m, those of the start site logits, whose
    probability is their share of the flow. Links point from source to target in the direction of the
    forward pass. Their weight is the mean over the examples that use the target, 0 in those that do not use
    the link, so the links into a node say what it is made of. Edges within a site are left out.

    There are no tokens. Instead each community, or else each direction, has a column (`ctx_idx`), which
    `prompt_tokens` names. The first token is empty: front ends drop what is in more than 2/3 of the columns,
    so there must be two.

    `activation` is the mean length of the gradient through a node. `influence` is the share of its site's
    flow that comes through stronger nodes, so the sliders of the front ends hide the weakest ones.

    Args:
        view: what to export.
        slug: the name of the graph, and of its file without `.json`.
        prompt: the line above the graph; by default it says what the graph is of.
        scan: the name of the network, by default its widths.

    Examples:
        >>> import torch
        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> from gradsplinter.graph_choice import view
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> found = to_circuit_tracer(view(computation_graph(net, torch.ones(3, 2))), "sum")
        >>> [(node["node_id"], node["feature_type"]) for node in found["nodes"]]
        [('2_0_1', 'logit'), ('1_0_1', 'cross layer transcoder'), ('0_0_1', 'cross layer transcoder')]
        >>> [(link["source"], link["target"]) for link in found["links"]]
        [('1_0_1', '2_0_1'), ('0_0_1', '1_0_1')]
    """
    graph, found = view.graph, groups(view)
    nodes = _nodes(view, found)
    network = "-".join(map(str, graph.net.widths))
    return {
        "metadata": {
            "slug": slug,
            "scan": f"relu-{network}" if scan is None else scan,
            "transcoder_list": [],
            "prompt_tokens": ["", *found.names, *[found.rest] * (None in found.of)],
            "prompt": f"{graph.n_examples:,} examples of {graph.net!r}"
            if prompt is None
            else prompt,
            "node_threshold": 1.0,  # of influence: every node is shown at first
            "schema_version": 1,
            "info": {
                "description": repr(view),
                "generator": {"name": "gradsplinter", "version": version("gradsplinter")},
            },
        },
        "qParams": {
            "pinnedIds": [],
            "supernodes": [],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": [
            {
                "source": nodes[edge.b]["node_id"],
                "target": nodes[edge.a]["node_id"],
                "weight": edge.weight * edge.count / view.nodes[edge.a].count,
            }
            for edge in view.edges
            if edge.kind == "between"
        ],
    }


def _nodes(view: GraphView, found: Groups) -> list[dict[str, Any]]:
    shares = flow_shares(view)
    nodes = []
    for site in view.sites:
        stronger = 0.0
        for rank, n in enumerate(view.of_site(site)):
            group = found.of[n]
            column = 1 + (len(found.names) if group is None else group)
            kind = _logit if site == view.graph.start else _feature
            nodes.append(
                {
                    "node_id": f"{site}_{rank}_{column}",
                    "layer": str(site),
                    "ctx_idx": column,
                    "run_idx": 0,
                    "reverse_ctx_idx": 0,
                    "influence": stronger,
                    "activation": view.nodes[n].flow / view.nodes[n].count,
                    **kind(view.nodes[n], rank, shares[n]),
                }
            )
            stronger = min(1.0, stronger + shares[n])
    return nodes


def _feature(node: ViewNode, rank: int, share: float) -> dict[str, Any]:
    diagonal = node.site + rank
    return {
        "feature": diagonal * (diagonal + 1) // 2 + rank,  # Cantor's pairing, as in version 1
        "feature_type": "cross layer transcoder",
        "token_prob": 0.0,
        "is_target_logit": False,
        "jsNodeId": f"{node.site}_{rank}-0",
        "clerp": f"{node.name}: {share:.1%} of the flow of site {node.site}",
    }


def _logit(node: ViewNode, rank: int, share: float) -> dict[str, Any]:
    # Front ends read the name between the first two quotes, the number after the first "(p=".
    name = node.name.replace('"', "'").replace("(p=", "(p =")
    return {
        "feature": rank,
        "feature_type": "logit",
        "token_prob": share,
        "is_target_logit": True,
        "jsNodeId": f"L_{rank}-0",
        "clerp": f'Output "{name}" (p={share:.3f})',
    }
