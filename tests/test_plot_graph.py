"""Figures of a graph: what is drawn is what the view and the graph say."""

import io
import re
from collections import Counter
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.collections import EllipseCollection, LineCollection
from networks import random_inputs, random_network

from gradsplinter import ReluNetwork, computation_graph
from gradsplinter.graph_choice import view
from gradsplinter.graph_layout import COLORS, group_color, groups, order_nodes
from gradsplinter.plot.activated import activated
from gradsplinter.plot.dendrogram import GAP, KEY, THINNEST, TRUNK, dendrogram
from gradsplinter.plot.graph import layers
from gradsplinter.plot.similarity import similarity
from gradsplinter.plot.style import label, save, wrapped

X = random_inputs(500, 4)
GRAPH = computation_graph(random_network((4, 9, 7, 6, 3)), X)
VIEW = view(GRAPH, most_nodes=80)
DEAD = computation_graph(
    ReluNetwork([torch.eye(2), torch.eye(2)], [torch.full((2,), -9.0), torch.zeros(2)]),
    torch.ones(5, 2),
)
ONE = computation_graph(random_network((2, 8, 1)), random_inputs(50, 2))
ODD = ["$x$ and \\frac{1", "_hidden <b>&amp;", "line\nbreak\x00" + 60 * "long "]


def texts(figure):
    figure.savefig(
        io.BytesIO()
    )  # which raises where something cannot be drawn: warnings are errors
    return [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")) if t.get_text()]


def of(figure, kind):
    return {c.get_label(): c for c in figure.axes[0].collections if isinstance(c, kind)}


def hexes(colors):
    return ["#" + "".join(f"{round(255 * v):02X}" for v in color[:3]) for color in colors]


def test_layers_draw_every_node_and_edge():
    figure = layers(VIEW)
    shown = texts(figure)
    heaviest = max(e.weight for e in VIEW.edges if e.kind == "between")
    assert any("its mean weight, on one scale." in text for text in shown)
    nodes = of(figure, EllipseCollection)["nodes"]
    assert len(nodes.get_offsets()) == len(VIEW.nodes)
    assert hexes(nodes.get_facecolors())[:3] == list(COLORS[:3])
    lines = of(figure, LineCollection)
    for site in GRAPH.sites:
        edges = [e for e in VIEW.edges if e.kind == "between" and VIEW.nodes[e.b].site == site]
        drawn = lines[f"edges to site {site}"]
        assert len(drawn.get_segments()) == len(edges)
        expected = [0.3 + 2.7 * e.weight / heaviest for e in edges]
        assert drawn.get_linewidths() == pytest.approx(expected)
        for segment, edge in zip(drawn.get_segments(), edges, strict=True):
            ends = nodes.get_offsets()[[edge.b, edge.a]]
            assert np.allclose(segment[[0, -1]], ends)
    large = [e for e in VIEW.edges if e.kind == "within" and abs(e.weight) >= 0.5]
    assert len(lines["within sites"].get_segments()) == len(large)
    assert set(VIEW.directions) < set(shown)
    for left in VIEW.left_out:
        if left.nodes:
            assert any(
                f"{left.nodes:,} left out with\n{left.flow:.1%} of" in text for text in shown
            )


def test_nodes_of_a_site_do_not_overlap_and_larger_ones_have_more_flow():
    for most in (20, 80, 600):
        found = view(GRAPH, most_nodes=most)
        nodes = of(layers(found), EllipseCollection)["nodes"]
        y, size = nodes.get_offsets()[:, 1], nodes.get_widths()
        for ordered in order_nodes(found).values():
            gaps = -np.diff(y[ordered])
            touching = (size[ordered][1:] + size[ordered][:-1]) / 2
            assert bool((gaps >= touching - 1e-9).all())
            by_flow = sorted(ordered)
            assert bool((np.diff(size[by_flow]) <= 1e-12).all())


def test_an_example_is_highlighted():
    path = VIEW.path(7)
    figure = layers(VIEW, 7)
    faces = hexes(of(figure, EllipseCollection)["nodes"].get_facecolors())
    full = [group_color(group) for group in groups(VIEW).of]
    assert {n for n, (face, it) in enumerate(zip(faces, full, strict=True)) if face == it} == set(
        path
    )
    lit = sum(
        int((np.array(lines.get_alpha()) > 0.5).sum())
        for name, lines in of(figure, LineCollection).items()
        if name.startswith("edges")
    )
    expected = {
        (int(VIEW.index[s + 1][GRAPH.parents[s][m], d]), int(VIEW.index[s][m, d]))
        for s, m in GRAPH.example(7).items()
        for d in range(3)
    }
    assert lit == len({pair for pair in expected if min(pair) >= 0})
    shown = texts(figure)
    assert any(text.startswith("Highlighted: what example 7 uses.") for text in shown)
    used = [int(m[1]) for t in shown if (m := re.search(r"nodes?, (\d+) used", t))]
    missing = [int(m[1]) for t in shown if (m := re.search(r"\((\d+) used not shown\)", t))]
    assert sum(used) == len(path)
    distinct = {(s, int(GRAPH.merged(s).index[m, d])) for s, m in GRAPH.example(7).items()
                for d in range(3)}  # fmt: skip
    assert sum(used) - 3 + sum(missing) == len([c for _, c in distinct if c >= 0])
    with pytest.raises(IndexError, match=r"^i must be an example in 0..499, got 500$"):
        layers(VIEW, 500)


def test_names_can_be_read_and_no_edge_strikes_through_them():
    found = view(GRAPH, 30, examples=[7])
    figure = layers(found, 7)
    nodes = of(figure, EllipseCollection)["nodes"]
    faces, names = nodes.get_facecolors(), {n.name: i for i, n in enumerate(found.nodes)}
    assert bool((faces[:, 3] == 1).all())
    seen = set()
    for text in figure.axes[0].texts:
        if text.get_text() not in names or text.get_text() in found.directions:
            continue
        i = names[text.get_text()]
        side = text.get_horizontalalignment()
        ground = faces[i][:3] if side == "center" else np.ones(3)
        assert contrast(mpl.colors.to_rgb(text.get_color()), ground) >= 2.5
        assert text.get_alpha() in (None, 1)
        if side == "left":  # where the edges leave
            (outline,) = text.get_path_effects()
            assert outline._gc["foreground"] == "white"
            assert outline._gc["linewidth"] > 1
        seen.add((side, i in found.path(7)))
    assert {("center", False), ("center", True), ("left", False), ("right", False)} <= seen


def contrast(a, b):
    """As WCAG 2 defines it."""
    low, high = sorted(
        sum(
            w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
            for w, v in zip((0.2126, 0.7152, 0.0722), rgb, strict=True)
        )
        for rgb in (a, b)
    )
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("found", [VIEW, view(ONE), view(GRAPH, 80, communities={
    s: torch.tensor([0, 1, 0]).expand(GRAPH.splinters[s].n_modes, 3) for s in GRAPH.sites})])  # fmt: skip
@pytest.mark.parametrize("example", [None, 3])
def test_what_stands_below_the_nodes_neither_overlaps_nor_leaves_a_band(found, example):
    figure = layers(found, example)
    shown = texts(figure)
    legend = figure.legends[0]
    notes = [t for t in figure.axes[0].texts if "Area of a node" in t.get_text()]
    captions = [t for t in figure.axes[0].texts if re.match(r"\d+ nodes?(\b|,)", t.get_text())]
    assert len(captions) == len(found.sites)
    parts = [*([[legend]] if legend.get_texts() else []), notes]
    bottom = min(t.get_window_extent().y0 for t in captions)
    for part in parts:
        boxes = [artist.get_window_extent() for artist in part]
        gap = (bottom - max(box.y1 for box in boxes)) / figure.dpi
        assert 0 < gap < 0.25, shown
        bottom = min(box.y0 for box in boxes)
    assert 0 < bottom / figure.dpi < 0.25


def test_a_legend_names_communities_but_not_directions():
    assert layers(VIEW).legends[0].get_texts() == []
    kinds = {s: torch.tensor([0, 1, 0]).expand(GRAPH.splinters[s].n_modes, 3) for s in GRAPH.sites}
    figure = layers(view(GRAPH, 80, communities=kinds))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["community 0", "community 1"]


@pytest.mark.parametrize("graph", [DEAD, ONE, computation_graph(GRAPH.net, X, start=2)])
def test_small_and_odd_graphs_can_be_drawn(graph, tmp_path):
    found = view(graph)
    save(layers(found, 0), tmp_path, "layers")
    save(dendrogram(graph, 0), tmp_path, "dendrogram")
    for site in found.sites:
        save(similarity(found, site), tmp_path, f"similarity-{site}")
    assert len(list(tmp_path.iterdir())) == 2 * (2 + len(found.sites))


def test_sites_without_gradients_are_said_to_be():
    shown = texts(layers(view(DEAD)))
    assert "0 nodes\nevery gradient is zero" in shown
    assert any("respect to site 0 is zero: no unit of site 1 is on in any example." in t
               for t in shown)  # fmt: skip
    zeros = computation_graph(GRAPH.net, X, torch.zeros(1, 3))
    shown = texts(layers(view(zeros)))
    assert shown.count("0 nodes\nevery gradient is zero") == 4
    assert any("respect to sites 3 and 2 and 1 and 0 is zero." in text for text in shown)
    assert not any("every gradient" in text for text in texts(layers(VIEW)))


@pytest.mark.parametrize(("outputs", "repeat"), [(10, False), (11, True)])
def test_colours_that_repeat_are_said_to(outputs, repeat):
    many = view(computation_graph(random_network((3, 8, outputs)), random_inputs(50, 3)), 200)
    assert any("Colours repeat" in text for text in texts(layers(many))) == repeat


def test_what_was_merged_is_said():
    near = texts(layers(view(GRAPH, 80, angle=0.3)))
    assert any("Merged within 0.3 rad = 17°." in text for text in near)
    assert not any("Merged" in text for text in texts(layers(VIEW)))


def test_directions_without_a_node_are_said():
    ten = computation_graph(random_network((3, 8, 6, 10)), random_inputs(50, 3))
    few = view(ten, 25)
    at = few.index[2]
    alone = [name for d, name in enumerate(few.directions) if not bool((at[:, d] >= 0).any())]
    assert 0 < len(alone) < 10
    shown = " ".join(" ".join(texts(layers(few))).split())
    assert f"Directions without a kept node: {', '.join(alone)}." in shown
    assert not any("kept node" in text for text in texts(layers(view(ten, 30))))


def test_odd_names_are_drawn_as_they_are():
    found = view(GRAPH, 80, directions=ODD)
    for figure in (layers(found), similarity(found, 4), dendrogram(GRAPH, 0, name=ODD[0])):
        shown = texts(figure)
        assert any(r"\$x\$ and" in text for text in shown)  # which matplotlib draws as $x$ and
        assert all(len(text) < 45 for text in shown if "long" in text)


def test_labels():
    assert label("y0") == "y0"
    assert label("a  b\n\x00c") == "a b c"
    assert label("0123456789", 7) == "0123…89"
    assert label("01234567890123456789", 10) == "012345…789"
    assert label("_a") == " _a"
    assert label("$x$") == r"\$x\$"
    assert label("") == ""
    assert wrapped("", 9) == ""
    assert wrapped("a + b*c + d", 9) == "a + b*c +\nd"
    assert wrapped("0123456789 $", 5) == "01234\n56… \\$"


def test_similarity_is_abs_cos_and_pale_where_no_example_uses_both():
    site = 1
    figure = similarity(VIEW, site)
    picture = figure.axes[0].images[0].get_array()
    nodes = sorted(VIEW.of_site(site), key=lambda n: VIEW.nodes[n].directions)
    assert picture.shape == (len(nodes), len(nodes), 3)
    pairs = {frozenset((e.a, e.b)): e.weight for e in VIEW.edges if e.kind == "within"}
    shades = mpl.colormaps["magma"]
    for i, a in enumerate(nodes):
        for j, b in enumerate(nodes):
            cosine = abs(float(VIEW.nodes[a].vector @ VIEW.nodes[b].vector))
            full = np.array(shades(min(1.0, cosine))[:3])
            together = a == b or frozenset((a, b)) in pairs
            expected = full if together else full + 0.75 * (0.93 - full)
            assert np.allclose(picture[i, j], expected, atol=0.02)
            if together and a != b:
                assert cosine == pytest.approx(abs(pairs[frozenset((a, b))]), abs=1e-6)
    apart = len(nodes) * (len(nodes) - 1) // 2 - sum(p <= set(nodes) for p in pairs)
    assert any(t.startswith(f"pale: {apart:,} pairs") for t in texts(figure))
    with pytest.raises(ValueError, match=r"^site must be in 0..4, got 5$"):
        similarity(VIEW, 5)


def test_dendrogram_accounts_for_all_examples():
    for most in (1, 7, 10**6):
        shown = texts(dendrogram(GRAPH, 1, most=most))
        leaves = [t for t in shown if re.match(r"[\d.]+%   ", t)]
        stubs = [t for t in shown if t.startswith("… ")]
        counts = GRAPH.splinters[0].counts
        assert len(leaves) == min(most, len(counts))
        more = sum(int(re.match(r"… ([\d,]+) more", t)[1].replace(",", "")) for t in stubs)
        assert more == len(counts) - len(leaves)
        largest = counts.sort(descending=True).values[: len(leaves)] / GRAPH.n_examples
        assert sorted(leaves_share(leaves)) == pytest.approx(largest.sort().values, abs=6e-4)
        assert stubs == [] if most > len(counts) else stubs
        total = sum(leaves_share(leaves)) + sum(
            float(re.search(r"with ([\d.]+)%", t)[1]) / 100 for t in stubs
        )
        assert total == pytest.approx(1, abs=6e-4 * (len(leaves) + len(stubs)))


def leaves_share(texts):
    return [float(text.split("%")[0]) / 100 for text in texts]


def test_branches_leave_side_by_side_with_the_width_of_their_share():
    figure = dendrogram(GRAPH, 0, most=10**6)
    ribbons = [ribbon.get_paths()[0].vertices for ribbon in figure.axes[0].collections]
    for site in GRAPH.sites:
        x = (GRAPH.start - site) * GAP
        sides = [
            ends[np.isclose(ends[:, 0], x)][:, 1]
            for ends in ribbons
            if ends[:, 0].max() <= x + 1e-9
        ]
        sides = sorted((side.min(), side.max()) for side in sides if len(side))
        shares = GRAPH.splinters[site].counts / GRAPH.n_examples
        widths = sorted(bottom - top for top, bottom in sides)
        assert widths == pytest.approx(sorted((TRUNK * shares).clamp(min=THINNEST).tolist()))
        assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(sides))
        left = [
            ends[np.isclose(ends[:, 0], x)][:, 1]
            for ends in ribbons
            if ends[:, 0].min() >= x - 1e-9
        ]
        left = sorted((side.min(), side.max()) for side in left if len(side))
        assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(left))
        if site == GRAPH.sites[0]:  # one mode, from whose end the others leave
            assert (left[0][0] + left[-1][1]) / 2 == pytest.approx(sum(sides[0]) / 2)


def test_leaves_of_the_same_vector_have_the_same_letter():
    # Unit 0 of the last hidden layer is not seen by the output: its bit makes modes, not components.
    net = ReluNetwork(
        [torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0]])],
        [torch.zeros(2), torch.zeros(1)],
    )
    x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, 2.0], [1.0, -1.0]])
    figure = dendrogram(computation_graph(net, x), 0)
    shown = texts(figure)
    assert shown.count("A") == 2 + 1  # and in the key
    assert "(0, 1)" in shown
    assert "25.0%   gradient zero" in shown
    boxes = [t.get_bbox_patch() for t in figure.axes[0].texts if t.get_text() == "A"]
    assert hexes(box.get_facecolor() for box in boxes) == [group_color(0)] * 3


def test_letters_of_long_vectors_say_where_these_are_found():
    graph = computation_graph(random_network((6, 4, 2)), random_inputs(200, 6))
    merged = graph.merged(0, 1.0)
    shown = texts(dendrogram(graph, 1, most=10**6, angle=1.0))
    found = [re.fullmatch(r"graph\.component\(0, (\d+), 1\)", text) for text in shown]
    kinds = [int(merged.index[int(m[1]), 1]) for m in found if m]
    assert len(set(kinds)) == len(kinds) > 0
    assert all((merged.index[:, 1] == kind).sum() > 1 for kind in kinds)


def test_what_stands_below_a_tree_does_not_overlap():
    for graph in (GRAPH, ONE, DEAD):
        figure = dendrogram(graph, 0, most=6, angle=0.3)
        texts(figure)
        (notes,) = (t for t in figure.axes[0].texts if t.get_text().startswith("Width:"))
        box = notes.get_window_extent()
        assert box.y0 > 0
        assert box.x1 < figure.bbox.x1
        others = [t.get_window_extent().y0 for t in figure.axes[0].texts if t is not notes]
        assert box.y1 < min(others)


def test_leaves_can_be_merged_by_angle():
    index = GRAPH.merged(0, 0.1).index[:, 0]
    shown = texts(dendrogram(GRAPH, 0, most=10**6, angle=0.1))
    letters = [text for text in shown if re.fullmatch(r"[A-Z]\d*", text)]
    key = [text for text in shown if re.fullmatch(r"\(.*,.*\)", text)]
    assert len(key) == min(KEY, len(set(letters)))
    letters = letters[: len(letters) - len(key)]
    times = index[index >= 0].unique(return_counts=True)[1]
    assert sorted(Counter(letters).values()) == sorted(times[times > 1].tolist())
    assert any("merged within 0.1 rad" in text for text in shown)


def test_what_an_example_activates():
    """Three examples use two components of the input, one uses one and one none."""
    net = ReluNetwork([torch.eye(2), torch.tensor([[1.0, 1], [1, 0]])], [torch.zeros(2)] * 2)
    x = torch.tensor([[-1.0, 1], [1, 1], [2, 1], [-1, -1], [1, 2]])
    small = computation_graph(net, x)
    figure = activated({"small": small, "random $x$": GRAPH})
    shown = texts(figure)
    assert {"small", r"random \$x\$", "site 0, 3 modes: 47 %", "site 1, 1 mode: 100 %"} <= set(
        shown
    )
    lines = [line for line in figure.axes[0].lines if line.get_color() == group_color(0)]
    bar, curve, dot = (np.array(line.get_xydata()) for line in lines)
    assert bar == pytest.approx(np.array([[1 / 3, 0.6], [2 / 3, 0.6]]))
    assert curve == pytest.approx(np.array([[2 / 3, 0.6], [1, 0.8], [1, 1]]))
    assert dot == pytest.approx(np.array([[7 / 15, 0.6]]))
    for site, used in GRAPH.share_used().items():
        modes = GRAPH.splinters[site].n_modes
        share = f"{float(f'{100 * used:.2g}'):g} %"
        assert f"site {site}, {modes:,} mode{'s' * (modes > 1)}: {share}" in shown
        (curve, *_, dot) = [
            np.array(line.get_xydata())
            for line in figure.axes[1].lines
            if line.get_color() == group_color(site)
        ]
        assert dot[0] == pytest.approx([used, curve[0, 1]])
        assert curve[-1] == pytest.approx([1, 1])
        assert bool((np.diff(curve, axis=0) >= 0).all())
        counts = GRAPH.splinters[site].counts.sort(descending=True).values
        assert curve[:, 1] == pytest.approx(counts.cumsum(0).numpy() / 500)


def test_what_an_example_activates_where_there_is_nothing():
    assert "site 0, 1 mode: no components" in texts(activated({"dead": DEAD}))
    with pytest.raises(ValueError, match=r"^graphs must hold at least one graph, got none$"):
        activated({})


def test_dendrogram_refuses_what_is_not_there():
    with pytest.raises(IndexError, match=r"^direction must be in 0..2, got 3$"):
        dendrogram(GRAPH, 3)
    with pytest.raises(ValueError, match=r"^most must be at least 1, got 0$"):
        dendrogram(GRAPH, 0, most=0)
