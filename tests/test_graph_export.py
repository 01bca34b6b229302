"""Exports of a graph: what other programs read is what the view says."""

import builtins
import html
import io
import json
import re

import networkx as nx
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from networks import random_inputs, random_network

from gradsplinter import ReluNetwork, computation_graph
from gradsplinter.graph_attribution import to_circuit_tracer
from gradsplinter.graph_choice import view
from gradsplinter.graph_export import save, to_dot, to_graphml, to_networkx
from gradsplinter.graph_layout import NO_GROUP, flow_shares, groups

GRAPH = computation_graph(random_network((4, 9, 7, 6, 3)), random_inputs(500, 4))
KINDS = {s: torch.tensor([1, 0, -1]).expand(GRAPH.splinters[s].n_modes, 3) for s in GRAPH.sites}
SOME = view(GRAPH, 60, 50, communities=KINDS)
DEAD = view(
    computation_graph(
        ReluNetwork([torch.eye(2), torch.eye(2)], [torch.full((2,), -9.0), torch.zeros(2)]),
        torch.ones(5, 2),
    )
)
VIEWS = {"some": SOME, "all": view(GRAPH, 10**6, 10**6), "dead": DEAD}
SMALL = computation_graph(
    ReluNetwork([torch.eye(2), torch.ones(2, 2)], [torch.zeros(2), torch.zeros(2)]),
    torch.tensor([[1.0, 1.0], [-1.0, 1.0]]),
)
NAMES = st.lists(st.text(min_size=1), min_size=2, max_size=2)
ODD = [
    *"<&>\"'\\\n\r\t\0\x7f\x85\u2028\ud800\uffff\U0001f600",
    'a"b\\',
    "\\N",
    "]]>",
    "&amp;",
    "(p=1)",
]


@pytest.fixture(params=VIEWS)
def found(request):
    return VIEWS[request.param]


def printable(text, keep="\t\n\r"):
    """What GraphML and DOT hold of a name: pictures of control characters."""
    other = {ord(c): "\N{REPLACEMENT CHARACTER}" for c in "\ufffe\uffff"}
    other |= dict.fromkeys(range(55296, 57344), "�")
    return text.translate({c: chr(0x2400 + c) for c in range(32) if chr(c) not in keep} | other)


def test_networkx_has_every_attribute(found):
    graph = to_networkx(found)
    assert type(graph) is nx.DiGraph
    assert list(graph.nodes) == list(range(len(found.nodes)))
    for n, node in enumerate(found.nodes):
        data = dict(graph.nodes[n])
        assert data.pop("community", None) == node.community
        vector = [float(v) for v in data.pop("vector").split()]
        assert torch.equal(torch.tensor(vector, dtype=node.vector.dtype), node.vector)
        assert data == {
            "name": node.name,
            "site": node.site,
            "flow": node.flow,
            "count": node.count,
            "directions": " ".join(str(d) for d in node.directions),
            "modes": " ".join(str(m) for m in node.modes),
            "n_modes": node.n_modes,
        }
    assert graph.number_of_edges() == len(found.edges)
    for edge in found.edges:
        ends = (edge.b, edge.a) if edge.kind == "between" else (edge.a, edge.b)
        assert graph.edges[ends] == {
            "kind": edge.kind, "weight": edge.weight, "count": edge.count,
        }  # fmt: skip
        assert (found.nodes[ends[0]].site == found.nodes[ends[1]].site - 1) == (
            edge.kind == "between"
        )
    flat = [d for _, d in graph.nodes(data=True)] + [d for *_, d in graph.edges(data=True)]
    for attributes in [graph.graph, *flat]:
        assert {type(v) for v in attributes.values()} <= {int, float, str}
    for left in found.left_out:
        assert graph.graph[f"left_out_nodes_site_{left.site}"] == left.nodes
        assert graph.graph[f"left_out_flow_site_{left.site}"] == left.flow
    assert graph.graph["left_out_edges"] == found.left_out_edges
    assert graph.graph["examples"] == found.graph.n_examples


def test_networkx_is_an_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "networkx":
            raise ImportError("No module named 'networkx'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"^the extra `graph` is missing for to_networkx \(No "):
        to_networkx(DEAD)
    to_graphml(DEAD)  # does without
    to_dot(DEAD)


def read_graphml(text):
    graph = nx.read_graphml(io.BytesIO(text.encode()), node_type=int)
    assert graph.graph.pop("node_default") == graph.graph.pop("edge_default") == {}
    return graph


def assert_equal(a, b):
    assert a.graph == b.graph
    assert dict(a.nodes(data=True)) == dict(b.nodes(data=True))
    assert [*a.edges(data=True)] == [*b.edges(data=True)]
    for left, right in zip(a.nodes.values(), b.nodes.values(), strict=True):
        assert {k: type(v) for k, v in left.items()} == {k: type(v) for k, v in right.items()}


def test_graphml_round_trip(found):
    assert_equal(read_graphml(to_graphml(found)), to_networkx(found))


@given(NAMES)
@example(ODD[:2])
@example(["".join(c for c in ODD if c != "\ud800"), "a"])
@example(["\ud800", "]]>"])
@example([" a ", "\r\n"])
def test_any_name_survives_graphml(names):
    found = view(SMALL, directions=names)
    expected = to_networkx(found)
    for node, name in enumerate(names):
        assert expected.nodes[node]["name"] == name
        expected.nodes[node]["name"] = printable(name)
    assert_equal(read_graphml(to_graphml(found)), expected)


# The tokens of https://graphviz.org/doc/info/lang.html, without HTML strings and comments, which are not
# written. A tokenizer of our own is short and strict; the parsers on PyPI are larger than the writer and
# forgiving.
TOKEN = re.compile(
    r'\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<id>[A-Za-z_]\w*|-?(?:\.\d+|\d+(?:\.\d*)?)(?![\w.]))'
    r"|(?P<sign>->|[{}\[\];,=]))",
    re.ASCII | re.DOTALL,
)


def tokens(text):
    at = 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        assert match, f"no token at {text[at : at + 40]!r}"
        yield match[match.lastgroup]
        at = match.end()


def unquote(token):
    """As Graphviz does: escapes of attributes like label, and entities."""
    assert token[0] == token[-1] == '"'
    raw = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), token[1:-1], flags=re.DOTALL)
    return html.unescape(raw)


def read_dot(text):
    """Nodes with attributes by site, edges, and what stands outside of sites."""
    stream = list(tokens(text))
    assert stream[:3] == ["digraph", "gradsplinter", "{"]
    assert stream[-1] == "}"
    at, sites, edges, outside = 3, [], [], []
    inside = False
    while at < len(stream) - 1:
        end = at
        if stream[at] in "{}":
            assert inside == (stream[at] == "}")
            inside = not inside
            if inside:
                sites.append({})
        else:
            end = stream.index(";", at)
            statement = stream[at:end]
            attributes = {}
            if "[" in statement:
                begin = statement.index("[")
                assert statement[-1] == "]"
                parts = statement[begin + 1 : -1]
                for i in range(0, len(parts), 4):
                    assert parts[i + 1] == "="
                    assert i + 3 >= len(parts) or parts[i + 3] == ","
                    attributes[parts[i]] = parts[i + 2]
                statement = statement[:begin]
            if statement[1:2] == ["->"]:
                assert not inside
                edges.append((int(statement[0]), int(statement[2]), attributes))
            elif statement[0].isdigit():
                assert inside
                sites[-1][int(statement[0])] = attributes
            else:
                outside.append((*statement, attributes))
        at = end + 1
    assert not inside
    return sites, edges, outside


def test_dot_can_be_read_and_says_the_same(found):
    sites, edges, outside = read_dot(to_dot(found))
    assert ("rankdir", "=", "LR", {}) in outside
    assert outside.count(("rank", "=", "same", {})) == len(found.sites)
    assert [set(nodes) for nodes in sites] == [
        set(found.of_site(site)) for site in reversed(found.sites)
    ]
    kinds, share = groups(found), flow_shares(found)
    for n, attributes in ((n, a) for nodes in sites for n, a in nodes.items()):
        node = found.nodes[n]
        assert unquote(attributes["xlabel"]) == node.name
        assert unquote(attributes["fillcolor"]) == kinds.color(n)
        tip = f"{node.name}: site {node.site}, {share[n]:.1%} of its flow, {node.count} examples"
        assert unquote(attributes["tooltip"]) == tip
        assert float(attributes["width"]) == pytest.approx(
            max(0.08, 0.8 * share[n] ** 0.5), abs=1e-3
        )
    assert len(edges) == len(found.edges)
    for (source, target, attributes), edge in zip(edges, found.edges, strict=True):
        between = edge.kind == "between"
        assert (source, target) == ((edge.b, edge.a) if between else (edge.a, edge.b))
        assert float(unquote(attributes["tooltip"])) == pytest.approx(edge.weight, rel=1e-3)
        assert attributes.get("constraint") == (None if between else "false")
        if not between:
            assert attributes["style"] == ("solid" if edge.weight > 0 else "dashed")


@given(NAMES)
@example(["".join(ODD), "ends in \\"])
@example(["\\", '"'])
@example(["\\N", "&lt;"])
def test_any_name_survives_dot(names):
    text = to_dot(view(SMALL, directions=names))
    text.encode()
    sites, *_ = read_dot(text)
    for n, name in enumerate(names):
        assert unquote(sites[-1][n]["xlabel"]) == printable(name, keep="\n")


def test_edges_of_all_sites_have_one_scale_in_dot():
    _, edges, _ = read_dot(to_dot(SOME))
    most = max(edge.weight for edge in SOME.edges if edge.kind == "between")
    between = [(a, e) for (*_, a), e in zip(edges, SOME.edges, strict=True) if e.kind == "between"]
    assert len({SOME.nodes[e.b].site for _, e in between}) > 1
    for attributes, edge in between:
        assert float(attributes["penwidth"]) == pytest.approx(
            0.3 + 3.7 * edge.weight / most, abs=1e-3
        )


@pytest.mark.parametrize(("outputs", "repeat"), [(10, False), (11, True)])
def test_colours_that_repeat_are_said_to_in_dot(outputs, repeat):
    many = view(computation_graph(random_network((3, 8, outputs)), random_inputs(50, 3)), 200)
    label = ("label", "=", '"Colours repeat: different groups have the same."', {})
    assert (label in read_dot(to_dot(many))[2]) == repeat


def test_colors_of_communities_are_in_dot():
    assert {NO_GROUP, groups(SOME).color(0)} <= set(re.findall(r"#[0-9A-F]{6}", to_dot(SOME)))


# What must and may be there, and of which type, as of neuronpedia's apps/webapp/app/api/graph/
# graph-schema.json (github.com/hijohnnylin/neuronpedia, version 1.0.0) and circuit-tracer's
# circuit_tracer/frontend/graph_models.py (github.com/safety-research/circuit-tracer), which is stricter.
METADATA = {
    "slug": str, "scan": str, "transcoder_list": [str], "prompt_tokens": [str], "prompt": str,
    "node_threshold": float, "schema_version": int,
    "info": {"description": str, "generator": {"name": str, "version": str}},
}  # fmt: skip
Q_PARAMS = {
    "pinnedIds": [str],
    "supernodes": [[str]],
    "linkType": str,
    "clickedId": str,
    "sg_pos": str,
}
NODE = {
    "node_id": str, "feature": int, "layer": str, "ctx_idx": int, "feature_type": str,
    "token_prob": float, "is_target_logit": bool, "run_idx": int, "reverse_ctx_idx": int,
    "jsNodeId": str, "clerp": str, "influence": float, "activation": float,
}  # fmt: skip
LINK = {"source": str, "target": str, "weight": float}
SCHEMA = {"metadata": METADATA, "qParams": Q_PARAMS, "nodes": [NODE], "links": [LINK]}


def check(value, schema, where="graph"):
    if isinstance(schema, dict):
        assert list(value) == list(value | schema), where
        assert set(value) == set(schema), where
        for key, inner in schema.items():
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for i, one in enumerate(value):
            check(one, schema[0], f"{where}[{i}]")
    else:
        assert type(value) is schema, where


def test_circuit_tracer_follows_the_schema(found):
    done = json.loads(json.dumps(to_circuit_tracer(found, "a-slug"), allow_nan=False))
    check(done, SCHEMA)
    assert done["metadata"]["slug"] == "a-slug"
    assert done["metadata"]["schema_version"] == 1
    assert done["metadata"]["info"]["description"] == repr(found)
    tokens = done["metadata"]["prompt_tokens"]
    ids = [node["node_id"] for node in done["nodes"]]
    assert len(set(ids)) == len({n["jsNodeId"] for n in done["nodes"]}) == len(found.nodes)
    shares, kinds = flow_shares(found), groups(found)
    for n, (node, of) in enumerate(zip(done["nodes"], found.nodes, strict=True)):
        layer, rank, column = map(int, node["node_id"].split("_"))
        assert str(layer) == node["layer"] == str(of.site)
        assert found.of_site(layer)[rank] == n
        assert column == node["ctx_idx"]
        group = kinds.of[n]
        assert tokens[column] == (kinds.rest if group is None else kinds.names[group])
        assert node["activation"] == of.flow / of.count
        stronger = [shares[m] for m in found.of_site(of.site) if m < n]
        assert node["influence"] == pytest.approx(sum(stronger))
        assert 0 <= node["influence"] <= done["metadata"]["node_threshold"]
        assert node["is_target_logit"] == (node["feature_type"] == "logit")
        if node["feature_type"] == "logit":
            assert of.site == found.graph.start
            assert read_logit(node["clerp"]) == (of.name, pytest.approx(shares[n], abs=6e-4))
            assert node["token_prob"] == shares[n]
        else:
            assert node["feature_type"] == "cross layer transcoder"
            assert node["feature"] == (layer + rank) * (layer + rank + 1) // 2 + rank
            assert node["clerp"].startswith(f"{of.name}: ")
    # What front ends drop: features that are in more than 2/3 of the tokens.
    assert len(tokens) * 2 / 3 > 1


def read_logit(clerp):
    """As the front ends do."""
    return clerp.split('"')[1], float(clerp.split("(p=")[1].split(")")[0])


def test_circuit_tracer_links_say_what_a_node_is_made_of():
    found = VIEWS["all"]
    done = to_circuit_tracer(found, "all")
    between = [edge for edge in found.edges if edge.kind == "between"]
    assert len(done["links"]) == len(between)
    into = {}
    for link, edge in zip(done["links"], between, strict=True):
        assert int(link["source"].split("_")[0]) == int(link["target"].split("_")[0]) - 1
        assert link["source"] == done["nodes"][edge.b]["node_id"]
        assert link["target"] == done["nodes"][edge.a]["node_id"]
        into[edge.a] = into.get(edge.a, 0.0) + link["weight"]
    # The mean length of the gradient of a node, over all examples that use it.
    for site in GRAPH.sites[:-1]:
        weights, counts = GRAPH.weights(site - 1).double(), GRAPH.splinters[site - 1].counts
        above = found.index[site][GRAPH.parents[site - 1]]
        for n in found.of_site(site):
            mean = (weights * counts.unsqueeze(1))[above == n].sum() / found.nodes[n].count
            assert into.get(n, 0.0) == pytest.approx(float(mean))


@given(NAMES)
@example(['a"b', "(p=1) (p=x"])
@example(["\ud800", "\0"])
def test_any_name_can_be_read_from_a_logit(names):
    done = to_circuit_tracer(view(SMALL, directions=names), "names", prompt="p", scan="s")
    check(json.loads(json.dumps(done)), SCHEMA)
    assert done["metadata"]["prompt_tokens"][:3] == ["", *names]
    assert (done["metadata"]["prompt"], done["metadata"]["scan"]) == ("p", "s")
    for node, name in zip(done["nodes"], names, strict=False):
        read = name.replace('"', "'").replace("(p=", "(p =")
        assert read_logit(node["clerp"]) == (read, pytest.approx(0.5, abs=1e-3))


def test_save_writes_new_files_by_suffix(tmp_path):
    save(SOME, tmp_path / "a.graphml")
    save(SOME, str(tmp_path / "a.dot"))
    save(SOME, tmp_path / "a.json")
    assert (tmp_path / "a.graphml").read_text(encoding="utf-8") == to_graphml(SOME)
    assert (tmp_path / "a.dot").read_text(encoding="utf-8") == to_dot(SOME)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == to_circuit_tracer(
        SOME, "a"
    )
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(ValueError, match=r"^path must be a new file, got .*a\.dot, which exists$"):
        save(DEAD, tmp_path / "a.dot")
    with pytest.raises(ValueError, match=r"^path must end in .graphml, .dot or .json, got a.svg$"):
        save(SOME, "a.svg")
    with pytest.raises(
        ValueError, match=r"^path must be in a folder that can be written, got .*/no/"
    ):
        save(SOME, tmp_path / "no" / "a.dot")
    with pytest.raises(TypeError, match=r"^path must be a path, got int$"):
        save(SOME, 3)
