"""The page in a real browser: what it shows, what it lights up, and that it asks nobody.

Without Chromium these tests are skipped, and fail where the environment variable CI is set.
"""

import math
import os
import re
import shutil
from itertools import pairwise

import pytest
import torch
from networks import random_inputs, random_network
from playwright.sync_api import sync_playwright

from gradsplinter import ReluNetwork, computation_graph
from gradsplinter.graph_choice import view
from gradsplinter.graph_layout import NO_GROUP, groups, order_nodes
from gradsplinter.page import Examples, chosen_examples, graph_page, whole_paths

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "</script><img src=x onerror='window.ran = 1'><b>&amp; \u2028 @data@"

X = random_inputs(200, 4)
VIEW = view(computation_graph(random_network((4, 7, 5, 3)), X), most_nodes=10**6, most_edges=10**6)
PRUNED = view(VIEW.graph, most_nodes=40, most_edges=50)
PARTLY = view(VIEW.graph, most_nodes=110, examples=range(0, 200, 12))
LARGE = view(
    computation_graph(random_network((6, 20, 20, 4)), random_inputs(700, 6)), 1200, 4000
)  # fmt: skip


def dead_graph():
    """The outputs have no gradient beyond the last hidden layer."""
    return graph_of([torch.eye(2)] * 3, [torch.zeros(2), torch.full((2,), -99.0), torch.zeros(2)])


def graph_of(weights, biases, x=None, **options):
    x = random_inputs(20, weights[0].shape[1]) if x is None else x
    return computation_graph(ReluNetwork(weights, biases), x, **options)


def with_communities(*of_directions):
    """The view, its components having the communities of their directions."""
    of = torch.tensor(of_directions)
    return view(VIEW.graph, communities={
        site: of.expand(VIEW.graph.splinters[site].n_modes, 3) for site in VIEW.graph.sites
    })  # fmt: skip


NET = VIEW.graph.net
TWO, ONE, SOME = (with_communities(*of) for of in ((1, 0, 1), (0, 0, 0), (1, 0, -1)))
WIDE = view(  # the path of an example has more nodes than are shown at a time
    computation_graph(random_network((4, 12, 600)), random_inputs(4, 4)), 10**6, 2000
)
MANY = view(computation_graph(random_network((3, 8, 23)), random_inputs(50, 3)), 200)
NEAR = view(VIEW.graph, 30, angle=math.radians(12.5))
PAGES = {
    "small": lambda: graph_page(VIEW, title="Small", examples=Examples(torch.arange(200), X)),
    "pruned": lambda: graph_page(PRUNED),
    "partly": lambda: graph_page(PARTLY),
    "large": lambda: graph_page(LARGE),
    "image": lambda: graph_page(
        VIEW, examples=Examples(torch.arange(200), X), image_shape=(2, 2)
    ),
    "dead": lambda: graph_page(view(dead_graph())),
    "without edges": lambda: graph_page(
        view(graph_of([torch.eye(2)] * 2, [torch.full((2,), -99.0), torch.zeros(2)], start=1))
    ),
    "one mode": lambda: graph_page(view(graph_of([torch.ones(1, 3)], [torch.zeros(1)]))),
    "same outputs": lambda: graph_page(
        view(graph_of([*NET.weights[:-1], NET.weights[-1][[0, 0, 1]]], NET.biases, X))
    ),
    "hostile": lambda: graph_page(
        view(VIEW.graph, directions=[HOSTILE, "b" * 300, "c"]), title=HOSTILE,
        examples=Examples(torch.arange(200), X, [HOSTILE] * 200),
    ),
    "communities": lambda: graph_page(TWO),
    "one community": lambda: graph_page(ONE),
    "some communities": lambda: graph_page(SOME),
    "many directions": lambda: graph_page(MANY),
    "merged": lambda: graph_page(NEAR),
    "wide": lambda: graph_page(WIDE),
    "zeros": lambda: graph_page(view(graph_of(NET.weights, NET.biases, X, directions=torch.zeros(1, 3)))),
    "equally rare": lambda: graph_page(view(graph_of(
        [torch.eye(4), torch.ones(1, 4)], [torch.zeros(4), torch.zeros(1)],
        torch.cat([torch.ones(60, 4), -torch.ones(40, 4)])))),
}  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        message = "there is no Chromium (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def load(chromium, folder):
    """Opens a page, offline; when the test is over it must have been silent and asked nobody."""
    opened = []

    def open_page(name, **options):
        file = folder / f"{name}.html"
        if not file.exists():
            file.write_text(PAGES[name](), encoding="utf-8")
        size = {"width": 1200, "height": 800}
        context = chromium.new_context(offline=True, **{"viewport": size} | options)
        page = context.new_page()
        found = []
        page.on("console", lambda message: found.append(message.text))
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("request", lambda request: found.append(request.url))
        page.goto(file.as_uri())
        opened.append((context, file.as_uri(), found))
        return page

    yield open_page
    for context, address, found in opened:
        context.close()
        assert found == [address]  # the file itself


def drawn(page, selector):
    """Ids of nodes, or pairs of nodes of edges, that are drawn and match."""
    found = page.evaluate(
        """selector => cy.elements(selector).map(e =>
            e.isNode() ? Number(e.id()) : [Number(e.source().id()), Number(e.target().id())])""",
        selector,
    )
    return sorted(tuple(e) if isinstance(e, list) else e for e in found)


def click(page, node):
    """With the mouse, where the node is drawn."""
    place = page.evaluate(
        "i => { const box = document.getElementById('graph').getBoundingClientRect();"
        "const at = cy.getElementById(String(i)).renderedPosition();"
        "return [box.x + at.x, box.y + at.y]; }",
        node,
    )
    page.mouse.click(*place)


def neighbours(found, node, cosine):
    near = set()
    for edge in found.edges:
        if node in (edge.a, edge.b) and (edge.kind == "between" or abs(edge.weight) >= cosine):
            near |= {edge.a, edge.b}
    return near


@pytest.mark.parametrize("name", PAGES)
def test_every_page_loads_and_can_be_used_in_silence(name, load):
    page = load(name)
    assert page.locator("#shown").inner_text().startswith("Showing ")
    page.locator("#next").click()
    for node in (0, -1):
        page.evaluate("i => selectNode(nodes.at(i).id)", node)
        page.get_by_text("Numbers", exact=True).first.click()
    page.locator("#query").fill("site 0")
    page.keyboard.press("Escape")
    for slider in ("most", "weight", "cosine"):
        if page.locator(f"#{slider}").is_enabled():
            page.locator(f"#{slider}").press("Home")


def test_the_policy_lets_nothing_else_run_or_leave(chromium, folder):
    file = folder / "policy.html"
    file.write_text(graph_page(VIEW), encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', file.read_text())[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(file.as_uri())
        tried = page.evaluate("""async () => {
            const violated = [];
            addEventListener("securitypolicyviolation", e => violated.push(e.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.ran = 1";
            const image = document.createElement("img");
            image.src = "https://example.org/x.png";
            document.body.append(script, image);
            document.body.setAttribute("style", "color: red");
            await fetch("https://example.org").catch(() => 0);
            await new Promise(done => setTimeout(done, 50));
            return [window.ran, violated.sort()];
        }""")
    assert tried == [None, ["connect-src", "img-src", "script-src-elem", "style-src-attr"]]


def test_a_click_lights_up_the_neighbours(load):
    page = load("small")
    assert drawn(page, "node") == list(range(len(VIEW.nodes)))
    cosine = page.evaluate("state.cosine") / 100
    for node in (0, 4, VIEW.of_site(1)[2], VIEW.of_site(0)[5]):
        click(page, node)
        expected = neighbours(VIEW, node, cosine)
        assert drawn(page, "node.lit") == sorted(expected)
        assert drawn(page, "node.chosen") == [node]
        assert set(drawn(page, "node.dim")) == set(range(len(VIEW.nodes))) - expected
        assert all(node in pair for pair in drawn(page, "edge.lit"))
        assert page.locator("#selection-title").inner_text() == VIEW.nodes[node].name
    page.keyboard.press("Escape")
    assert drawn(page, ".lit, .dim, .chosen") == []
    assert page.locator("#selection").is_hidden()


def test_what_the_panel_says_of_a_node(load):
    page = load("small")
    node = VIEW.of_site(0)[0]
    click(page, node)
    panel = page.locator("#selection").inner_text()
    it = VIEW.nodes[node]
    examples = [i for i in range(200) if node in VIEW.path(i)]
    assert f"{len(examples)} of 200" in panel
    assert "site 0, input" in panel
    assert all(VIEW.directions[d] in panel for d in it.directions)
    assert f"{it.n_modes} mode" in panel
    shown = page.locator("#selection h3:has-text('Examples') + div button").all_inner_texts()
    assert shown[:3] == [str(i) for i in examples[:3]]
    page.get_by_text("Numbers", exact=True).first.click()
    page.locator("#selection td").first.wait_for()
    numbers = page.locator("#selection td").all_inner_texts()
    expected = [float(v) for v in it.vector]
    assert [float(n.replace("\u2212", "-")) for n in numbers] == pytest.approx(expected, rel=5e-3)
    assert page.locator("#selection svg.bars rect").count() == 4
    neighbour = page.locator("#selection h3:has-text('Above') + ul button").first
    name = neighbour.inner_text().split()[0]
    neighbour.click()
    assert page.locator("#selection-title").inner_text() == name


def test_vectors_of_images_are_images(load):
    page = load("image")
    click(page, VIEW.of_site(0)[0])
    pixels = page.evaluate("""() => { const c = document.querySelector("#selection canvas");
        return [c.width, c.height, ...c.getContext("2d").getImageData(0, 0, 2, 2).data]; }""")
    assert pixels[:2] == [2, 2]
    vector = VIEW.nodes[VIEW.of_site(0)[0]].vector
    for k in range(4):
        red, _, blue, _ = pixels[2 + 4 * k : 6 + 4 * k]
        assert (red > blue) == (float(vector[k]) > 0)
    click(page, VIEW.of_site(1)[0])  # is none
    assert page.locator("#selection canvas").count() == 0
    page.locator("#number").fill("7")
    page.keyboard.press("Enter")
    assert page.locator("#example-found canvas").count() == 1


@pytest.mark.parametrize("i", [0, 123, 199])
def test_the_path_of_an_example(i, load):
    page = load("small")
    page.locator("#number").fill(str(i))
    page.keyboard.press("Enter")
    assert drawn(page, "node.lit") == VIEW.path(i)
    modes = {VIEW.graph.start: 0} | VIEW.graph.example(i)
    pairs = set()
    for above, site in pairwise(VIEW.sites):
        ends = zip(VIEW.index[above][modes[above]], VIEW.index[site][modes[site]], strict=True)
        pairs |= {(int(a), int(b)) for a, b in ends if a >= 0 and b >= 0}
    assert drawn(page, "edge.between.lit") == sorted(pairs)
    words = page.locator("#example-found").inner_text()
    assert f"Example {i}" in words
    assert all(f"{mode} at site {site}" in words for site, mode in VIEW.graph.example(i).items())


def test_a_path_brings_in_what_the_filter_hides(load):
    page = load("pruned")
    page.locator("#most").press("Home")
    assert len(drawn(page, "node")) == 1
    page.locator("#number").fill("17")
    page.keyboard.press("Enter")
    assert drawn(page, "node.lit") == PRUNED.path(17)
    missing = missing_of(PRUNED, 17)
    assert sum(missing.values()) > 0
    words = page.locator("#example-found").inner_text()
    where = ", ".join(f"{n} of 3 at site {site}" for site, n in missing.items() if n > 0)
    assert f"{sum(missing.values())} of its components" in words
    assert f"left out of this file: {where}" in words
    assert f"left out of this file: {where}." in page.locator("#live").inner_text()


def missing_of(found, i):
    """By site, how many components of an example a view has left out."""
    return {
        site: int(((found.index[site] < 0) & (found.graph.lengths(site) > 0))[mode].sum())
        for site, mode in found.graph.example(i).items()
    }


def test_examples_whose_path_is_whole_are_listed(load):
    assert "this file has a part only" in load("pruned").locator("#example-found").inner_text()
    assert load("pruned").locator("#whole").is_hidden()
    assert load("small").locator("#whole").is_hidden()  # where all are
    page = load("partly")
    whole = [i for i in range(200) if sum(missing_of(PARTLY, i).values()) == 0]
    assert whole == whole_paths(PARTLY, torch.arange(200)).nonzero().flatten().tolist()
    assert 12 < len(whole) < 200
    assert f"The whole path of {len(whole)} is in" in page.locator("#example-found").inner_text()
    page.locator("#whole button").last.click()  # the others
    assert page.locator("#whole button").all_inner_texts() == [str(i) for i in whole]
    page.locator("#whole button").last.click()
    assert drawn(page, "node.lit") == PARTLY.path(whole[-1])
    assert "left out" not in page.locator("#example-found").inner_text()
    dashed = page.locator("#rarest button.not-shown").all_inner_texts()
    assert len(dashed) > 0
    assert dashed == [str(i) for i in PARTLY.graph.rarest().tolist() if i not in whole]


def test_edges_of_a_path_that_are_left_out_are_counted(chromium, folder):
    found = view(VIEW.graph, 10**6, most_edges=10)
    kept = {(e.a, e.b) for e in found.edges}
    path, modes = set(), {VIEW.graph.start: 0} | found.graph.example(3)
    for above, site in pairwise(found.sites):
        ends = zip(found.index[above][modes[above]], found.index[site][modes[site]], strict=True)
        path |= {(int(a), int(b)) for a, b in ends if a >= 0 and b >= 0}
    file = folder / "edges.html"
    file.write_text(graph_page(found), encoding="utf-8")
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(file.as_uri())
        page.evaluate("selectExample(3)")
        words = page.locator("#example-found").inner_text()
    assert len(path - kept) > 0
    assert f"{len(path - kept)} weak edge" in words


def test_how_components_became_nodes_is_said(load):
    words = load("small").locator("#left-out").inner_text()
    assert words == "Nodes are the components of a site that differ, whatever their mode."
    words = load("merged").locator("#left-out").inner_text()
    assert "merged within 12.5° of each other, whatever their mode; " in words
    for at in NEAR.merges:
        assert (
            f"site {at.site}: {at.components} components became {at.nodes} nodes, the widest of"
            in words
        )
    assert any(at.nodes < at.components for at in NEAR.merges)
    shown = load("pruned").locator("#shown")
    assert "makes one of those that are near with --angle" in shown.inner_text()
    assert shown.locator("code").all_inner_texts() == ["--nodes", "--angle"]
    words = load("merged").locator("#shown").inner_text()
    assert "gradsplinter graph puts in more with --nodes" in words
    assert "--angle" not in words


def test_steps_from_example_to_example(load):
    page = load("small")
    page.locator("#next").click()
    page.locator("#next").click()
    assert page.locator("#number").input_value() == "1"
    page.locator("#previous").click()
    assert drawn(page, "node.lit") == VIEW.path(0)
    assert page.locator("#previous").is_disabled()
    rarest = VIEW.graph.rarest().tolist()
    assert page.locator("#rarest button").all_inner_texts() == [str(i) for i in rarest]
    page.locator("#rarest button").first.click()
    assert drawn(page, "node.lit") == VIEW.path(rarest[0])
    for wrong in ("200", "-1", "1.5"):
        page.locator("#number").fill(wrong)
        page.keyboard.press("Enter")
        assert page.locator("#example-found").inner_text() == "Examples are numbered 0 to 199."
        assert drawn(page, "node.lit") == []


def test_filters_change_what_is_visible(load):
    page = load("small")
    edges = [e for e in VIEW.edges if e.kind == "between"]
    assert len(drawn(page, "edge.between")) == len(edges)
    for _ in range(5):
        page.locator("#weight").press("PageUp")
    least = page.evaluate("weights[state.weight]")
    kept = [e for e in edges if e.weight >= least * (1 - 1e-6)]
    assert 0 < len(kept) < len(edges)
    assert len(drawn(page, "edge.between")) == pytest.approx(len(kept), abs=1)
    page.locator("#cosine").press("End")
    assert drawn(page, "edge.within") == []
    page.locator("#cosine").press("Home")
    assert len(drawn(page, "edge.within")) == sum(e.kind == "within" for e in VIEW.edges)
    page.locator("#most").press("Home")
    for _ in range(10):
        page.locator("#most").press("ArrowRight")
    strength = [n.flow / max(m.flow for m in VIEW.nodes if m.site == n.site) for n in VIEW.nodes]
    inner = sorted(VIEW.of_site(0) + VIEW.of_site(1) + VIEW.of_site(2), key=lambda i: -strength[i])
    assert drawn(page, "node") == sorted([0, 1, 2, *inner[:8]])
    assert "Showing 11 of" in page.locator("#shown").inner_text()


def test_a_large_graph_starts_pruned_and_says_so(load):
    page = load("large")
    assert len(LARGE.nodes) > 1000
    assert len(drawn(page, "node")) == 300
    words = page.locator("#shown").inner_text()
    assert f"Showing 300 of {len(LARGE.nodes):,} nodes" in words
    out = sum(left.nodes for left in LARGE.left_out)
    assert f"{out:,} more nodes" in words
    assert "gradsplinter graph puts in more with --nodes" in words
    page.locator("#most").press("End")
    assert len(drawn(page, "node")) == 1000
    assert page.locator("[role=option]").count() == 1000


def test_hidden_neighbours_can_be_brought_in(load):
    page = load("large")
    node = LARGE.of_site(2)[0]
    click(page, node)
    hidden = {e.b for e in LARGE.edges if e.kind == "between" and e.a == node}
    hidden -= set(drawn(page, "node"))
    assert hidden
    page.locator("#show-neighbours").click()
    assert hidden <= set(drawn(page, "node.lit"))
    assert page.locator("#show-neighbours").count() == 0


def test_never_more_nodes_are_shown_than_is_promised(load):
    page = load("large")
    page.locator("#most").press("End")
    for _ in range(5):
        page.locator("#most").press("ArrowLeft")
    shown = set(drawn(page, "node"))
    assert len(shown) == 995
    near = [{e.a for e in LARGE.edges if e.kind == "between" and e.b == n}
            | {e.b for e in LARGE.edges if e.kind == "between" and e.a == n}
            for n in range(len(LARGE.nodes))]  # fmt: skip
    node = max(shown, key=lambda n: len(near[n] - shown))
    hidden = near[node] - shown
    assert len(hidden) > 5
    page.evaluate("i => selectNode(i)", node)
    button = page.locator("#show-neighbours")
    assert button.inner_text() == f"Show the 5 strongest of {len(hidden)} hidden neighbours"
    button.click()
    now = set(drawn(page, "node"))
    rank = {n: page.evaluate("i => nodes[i].rank", n) for n in hidden}
    assert now - shown == set(sorted(hidden, key=rank.get)[:5])
    assert shown < now
    assert len(now) == 1000
    x, y = page.evaluate(
        "i => Object.values(cy.getElementById(String(i)).renderedPosition())", node
    )
    assert 0 < x < page.evaluate("cy.width()")
    assert 0 < y < page.evaluate("cy.height()")
    left = f"{len(hidden) - 5} neighbours stay hidden: 1,000 nodes at most are shown at a time."
    assert page.locator("#stay-hidden").inner_text() == left
    assert page.locator("#live").inner_text() == f"5 nodes brought in; {left}"
    assert button.count() == 0
    assert "Showing 1,000 of" in page.locator("#shown").inner_text()
    page.evaluate("selectExample(data.rarest.length)")
    assert len(drawn(page, "node")) == 1000
    weakest = int(page.evaluate("ranking.at(-1)"))
    page.evaluate("i => selectNode(i)", weakest)
    assert len(drawn(page, "node")) == 1000
    assert drawn(page, "node.chosen") == [weakest]


def test_a_path_that_is_too_long_to_be_shown(load):
    path = WIDE.path(2)
    assert len(path) > 1000
    page = load("wide")
    page.locator("#number").fill("2")
    page.keyboard.press("Enter")
    lit = drawn(page, "node.lit")
    assert lit == drawn(page, "node")
    assert len(lit) == 1000
    assert set(lit) < set(path)
    words = f"{len(path) - 1000} of its nodes are hidden: 1,000 nodes at most are shown at a time"
    assert words in page.locator("#example-found").inner_text()
    assert words in page.locator("#live").inner_text()


@pytest.mark.parametrize(("name", "found"), [("small", VIEW), ("merged", NEAR)])
def test_edges_of_all_sites_have_one_scale(name, found, load):
    page = load(name)
    widths = page.evaluate("""cy.edges('.between').map(e =>
        [Number(e.source().id()), Number(e.target().id()), e.data('width')])""")
    weights = {(e.a, e.b): e.weight for e in found.edges if e.kind == "between"}
    assert len(widths) == len(weights)
    heaviest = max(weights.values())
    for a, b, width in widths:
        assert width == pytest.approx(0.5 + 2.5 * weights[a, b] / heaviest, rel=1e-3)
    assert "wider: more weight, on one scale" in page.locator("#legend").inner_text()


def test_how_many_examples_are_equally_rare_is_said(load):
    page = load("equally rare")
    rarest = [60, 64, 68, 72, 76, 80, 84, 88, 92, 96]
    assert page.locator("#rarest button").all_inner_texts() == [str(i) for i in rarest]
    assert page.locator("#ties").inner_text() == "40 are equally rare: these 10 are of them."


def test_names_with_html_are_shown_and_not_run(load):
    page = load("hostile")
    assert page.title() == page.locator("h1").text_content() == HOSTILE
    click(page, 0)
    assert page.locator("#selection-title").text_content() == HOSTILE
    page.locator("#number").fill("3")
    page.keyboard.press("Enter")
    assert HOSTILE in page.locator("#example-found h3").first.text_content()
    page.locator("#query").fill("onerror")
    assert HOSTILE in page.locator("#found").text_content()
    assert page.locator("img").count() == 0
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize(
    ("text", "nodes", "examples"),
    [
        ("1.3", [i for i, n in enumerate(VIEW.nodes) if n.name == "1.3"], []),
        ("1.", [i for i, n in enumerate(VIEW.nodes) if "1." in n.name], []),
        ("site 2", VIEW.of_site(2), []),
        ("Y1", [i for i, n in enumerate(VIEW.nodes) if 1 in n.directions], []),
        ("mode 3 site 0", [int(i) for i in VIEW.index[0][3] if i >= 0], []),
        ("example 12", [], [12]),
        ("nobody", [], []),
        ("mode 99999", [], []),
    ],
)
def test_search(text, nodes, examples, load):
    page = load("small")
    page.locator("#query").fill(text)
    assert drawn(page, "node.match") == sorted(set(nodes))
    words = page.locator("#found p").inner_text()
    if nodes or examples:
        found = sum(text in n.name for n in VIEW.nodes) if text == "1.3" else len(set(nodes))
        assert words.startswith(f"{found} node")
        page.keyboard.press("Enter")  # takes the first
        assert page.locator("#found").is_hidden()
        assert len(drawn(page, "node.lit")) > 0
    else:
        assert words.startswith("Nothing found.")


def test_a_name_comes_before_those_that_contain_it_and_clearing_takes_the_rings_away(load):
    page = load("small")
    page.locator("#query").fill("0.3")
    first, *others = page.locator("#found li button").all_inner_texts()
    assert first.startswith("0.3, site 0")
    assert any(other.startswith("0.30, ") for other in others)
    (only,) = drawn(page, "node.match")
    assert VIEW.nodes[only].name == "0.3"
    page.locator("#clear").click()
    assert drawn(page, "node.match") == []
    assert page.locator("#query").input_value() == ""
    assert page.locator("#clear").is_hidden()


@pytest.mark.parametrize("width", [1400, 420])
def test_headings_and_the_table_of_sites_are_whole(width, load):
    page = load("large", viewport={"width": width, "height": 900})
    cut = page.evaluate("""[...document.querySelectorAll("#headings *, #headings, #sites")].filter(
        (e) => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1
      ).map((e) => e.textContent)""")
    assert cut == []


def test_a_dead_network_is_said_to_be(load):
    words = load("dead").locator("#shown").inner_text()
    why = ": no unit of site 2 is on in any example."
    assert f"every gradient with respect to sites 1 and 0 is zero{why}" in words
    words = load("without edges").locator("#shown").inner_text()
    assert "0 edges" in words
    assert "there are no edges, since every gradient with respect to site 0 is zero" in words
    words = load("zeros").locator("#shown").inner_text()
    assert words.endswith("every gradient with respect to sites 2 and 1 and 0 is zero.")


def test_outputs_that_are_the_same_share_their_nodes(load):
    page = load("same outputs")
    click(page, 3)
    assert "y0, y1" in page.locator("#selection dl").inner_text()


@pytest.mark.parametrize(
    ("name", "found", "legend"),
    [
        ("small", VIEW, ["y0", "y1", "y2", "several directions"]),
        ("communities", TWO, ["community 0", "community 1"]),
        (
            "one community",
            ONE,
            ["y0", "y1", "y2", "several directions", "one community, so by direction"],
        ),
        ("some communities", SOME, ["community 0", "community 1", "no community"]),
    ],
)
def test_colours_are_those_of_figures_and_exports(name, found, legend, load):
    page = load(name)
    rows = page.locator("#legend li").all_inner_texts()
    assert rows[: rows.index("larger: more flow")] == legend
    kinds = groups(found)
    colours = dict(page.evaluate("cy.nodes().map(n => [Number(n.id()), n.data('colour')])"))
    assert colours == {n: kinds.color(n) for n in range(len(found.nodes))}
    assert len(set(colours.values()) - {NO_GROUP}) == len(kinds.names)
    said = "Community" in (click(page, 2) or page.locator("#selection dl").inner_text())
    assert said == (found.nodes[2].community is not None)


def test_groups_that_share_a_colour_differ_in_shape(load):
    page = load("many directions")
    looks = page.evaluate("cy.nodes('.start').map(n => [n.data('colour'), n.data('shape')])")
    assert len(looks) == 23
    assert len({colour for colour, _ in looks}) == 10
    assert len({tuple(look) for look in looks}) == 23
    assert "and 11 more" in page.locator("#legend").inner_text()


@pytest.mark.parametrize(("name", "found"), [("small", VIEW), ("communities", TWO)])
def test_nodes_stand_in_the_order_of_figures(name, found, load):
    shown = load(name).evaluate("sites.map(site => [site.site, ordered(site)])")
    assert dict(shown) == order_nodes(found)


def test_a_walk_by_keyboard_alone(load):
    page = load("small")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "nodes":
            break
    assert page.evaluate("document.activeElement.id") == "nodes"
    active = "document.activeElement.getAttribute('aria-activedescendant')"
    assert page.evaluate(active) == "node-0"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(active) == "node-1"
    page.keyboard.press("ArrowLeft")
    below = int(page.evaluate(active).removeprefix("node-"))
    assert VIEW.nodes[below].site == 2
    assert below in neighbours(VIEW, 1, 9)
    assert drawn(page, "node.cursor") == [below]
    assert page.locator("#pointed").inner_text().startswith(f"{VIEW.nodes[below].name}, site 2")
    page.keyboard.press("Enter")
    assert drawn(page, "node.chosen") == [below]
    assert page.locator(f"#node-{below}").get_attribute("aria-selected") == "true"
    assert page.locator("#live").inner_text().startswith(f"{VIEW.nodes[below].name}, site 2")
    zoom = page.evaluate("cy.zoom()")
    page.keyboard.press("+")
    assert page.evaluate("cy.zoom()") > zoom
    page.keyboard.press("0")
    page.keyboard.press("Home")
    page.keyboard.press("End")
    assert VIEW.nodes[int(page.evaluate(active).removeprefix("node-"))].site == 2
    page.keyboard.press("Escape")
    assert drawn(page, ".chosen") == []
    assert page.locator("#live").inner_text() == "Selection cleared."


def test_the_focus_is_never_lost(load):
    """A button that its own press takes away hands the focus on."""
    page = load("large")
    active = "document.activeElement.id"
    page.evaluate(f"selectNode({LARGE.of_site(2)[0]})")
    for button in (
        "#show-neighbours",
        "#selection h3:has-text('Below') + ul li:first-child button",
    ):
        page.locator(button).focus()
        page.keyboard.press("Enter")
        assert page.evaluate(active) == "selection-title"
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(active) == "example-title"
    page.locator("#query").fill("site 1")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate(active) == "selection-title"


def test_the_view_of_the_user_stays(load):
    page = load("small")
    page.locator("#zoom-in").click()
    before = page.evaluate("[cy.zoom(), cy.pan()]")
    page.locator("#legend summary").click()
    page.wait_for_timeout(100)
    assert page.evaluate("[cy.zoom(), cy.pan()]") == before
    page.locator("#fit").click()
    page.locator("#legend summary").click()
    page.wait_for_timeout(100)
    assert page.evaluate("currentView() === fitted")


@pytest.mark.parametrize("name", ["small", "image", "large", "dead"])
def test_every_control_has_a_name_for_screen_readers(name, load):
    page = load(name)
    page.evaluate("selectNode(2)")
    page.evaluate("selectExample(1)")
    page.locator("#query").fill("site")
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = set()
    for node in tree:
        role = node.get("role", {}).get("value")
        focusable = any(
            p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", [])
        )
        named = (
            "button",
            "searchbox",
            "slider",
            "spinbutton",
            "listbox",
            "option",
            "image",
            "region",
        )
        if not node["ignored"] and role != "RootWebArea" and (focusable or role in named):
            roles.add(role)
            assert node.get("name", {}).get("value", "").strip(), node
    assert {"button", "searchbox", "slider", "spinbutton", "listbox", "option"} <= roles
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("width", [360, 800, 3840])
@pytest.mark.parametrize("name", ["small", "hostile"])
def test_nothing_is_cut_off_at_any_width(name, width, load):
    page = load(name, viewport={"width": width, "height": 700})
    page.evaluate("selectNode(0)")
    page.evaluate("selectExample(1)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#graph").bounding_box()
    assert box["width"] > 300
    assert box["height"] > 200
    inside = page.evaluate("""() => cy.nodes().every(n => {
        const { x, y } = n.renderedPosition();
        return x >= 0 && y >= 0 && x <= cy.width() && y <= cy.height(); })""")
    assert inside


def test_dark_mode_and_stillness(load):
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    page = load("small", color_scheme="dark", reduced_motion="reduce")
    assert page.evaluate(paper) == "rgb(20, 23, 27)"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.evaluate("void cy.panBy({ x: 5000, y: 0 })")
    page.evaluate("lookAt(0)")
    assert page.evaluate("cy.getElementById('0').renderedPosition('x') < cy.width()")
    assert not page.evaluate("cy.animated()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(scheme, load):
    page = load("small", color_scheme=scheme)
    colours = page.evaluate("""() => Object.fromEntries(
        ["ink", "soft", "accent", "minus", "paper", "card"].map(name => [name,
          getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim()]))""")

    def luminance(colour):
        parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for text in ("ink", "soft", "accent", "minus"):
        for ground in ("paper", "card"):
            low, high = sorted((luminance(colours[text]), luminance(colours[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_examples_of_large_data_are_the_rarest_and_others_evenly_spread():
    graph = LARGE.graph
    assert torch.equal(chosen_examples(graph), torch.arange(700))
    some = chosen_examples(graph, most=101)
    assert len(some) == len(some.unique()) == 101
    assert torch.equal(some, some.sort().values)
    assert set(graph.rarest(51).tolist()) <= set(some.tolist())
    again = chosen_examples(graph, 21, some)
    assert set(graph.rarest(11).tolist()) <= set(again.tolist()) <= set(some.tolist())
    assert len(chosen_examples(graph, most=1)) == 1


def test_an_example_that_is_not_in_the_page(chromium, folder):
    file = folder / "some.html"
    some = chosen_examples(VIEW.graph, most=50)
    file.write_text(graph_page(VIEW, examples=Examples(some)), encoding="utf-8")
    there, missing = int(some[30]), min(set(range(200)) - set(some.tolist()))
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(file.as_uri())
        assert "50 of 200 examples are in this file" in page.locator("#example").inner_text()
        page.locator("#number").fill(str(missing))
        page.keyboard.press("Enter")
        words = page.locator("#example-found").inner_text()
        assert words == f"Example {missing} is not among the 50 in this file."
        page.locator("#number").fill(str(there))
        page.keyboard.press("Enter")
        assert drawn(page, "node.lit") == VIEW.path(there)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"image_shape": (3, 3)},
            ValueError,
            "image_shape must have 4 pixels to match the network's input, got 3x3",
        ),
        ({"image_shape": (0, 4)}, ValueError, "image_shape must be at least 1, got 0"),
        (
            {"examples": Examples(torch.tensor([1, 200]))},
            IndexError,
            "examples.index must hold examples in 0..199, got 200",
        ),
        (
            {"examples": Examples(torch.tensor([1, 5, 3]))},
            ValueError,
            "examples.index must be ascending, got 3 after 5",
        ),
        (
            {"examples": Examples(torch.tensor([1, 5, 5]))},
            ValueError,
            "examples.index must be ascending, got 5 after 5",
        ),
        (
            {"examples": Examples(torch.arange(3), X)},
            ValueError,
            "examples.inputs must have shape [3, 4], got [200, 4]",
        ),
        (
            {"examples": Examples(torch.arange(3), None, ["a"])},
            ValueError,
            "examples.names must hold 3 names, got 1",
        ),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        graph_page(VIEW, **options)
