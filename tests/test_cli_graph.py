"""`gradsplinter graph`: what it writes and prints, and that bad input writes nothing."""

import base64
import json
import re
import sys

import numpy as np
import pytest
import torch
from networks import random_inputs, random_network

import gradsplinter.graph_export
import gradsplinter.io
from gradsplinter import ReluNetwork, cli, computation_graph
from gradsplinter.graph_choice import view
from gradsplinter.page import data as page_data

NET = random_network((4, 6, 5, 3))
X = random_inputs(200, 4)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a network, its data, and what is wrong with each."""
    monkeypatch.chdir(tmp_path)
    NET.save("net.safetensors")
    np.save("x.npy", X.numpy())
    np.save("wide.npy", random_inputs(5, 7).numpy())
    np.save("bytes.npy", (X.abs() * 80).to(torch.uint8).numpy())
    np.save("none.npy", np.zeros((0, 3), dtype=np.float32))
    np.save("few.npy", np.eye(5)[:2])
    np.save("complex.npy", np.eye(3) * 1j)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe4\nb\nc\n")
    (tmp_path / "old.html").write_text("old")
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "folder.html").mkdir()
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gradsplinter", "graph", *arguments])
    cli.main()


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def test_it_writes_a_page_and_prints_the_sizes(here, monkeypatch, capsys):
    run(monkeypatch, "net.safetensors", "x.npy", "--out", "new.html")
    found = data_of(here / "new.html")
    graph = computation_graph(NET, X)
    assert len(found["nodes"]) == len(view(graph, 10**6).nodes)
    assert found["nExamples"] == 200
    printed = capsys.readouterr().out
    for size in graph.sizes():
        row = rf"{size.site} +{size.modes:,} +{size.components:,} +{size.unique_components:,} .*"
        assert re.search(row + f"{size.naive_nodes:,}", printed)
    assert f"{graph.share_used()[0]:.2%}" in printed
    assert "rarest examples: " + ", ".join(map(str, graph.rarest().tolist())) in printed
    assert "(6 are equally rare: the last 2 are of them)" in printed
    assert "Written to new.html" in printed
    assert "warning" not in printed


def test_options(here, monkeypatch):
    run(monkeypatch, "net.safetensors", "bytes.npy", "-o", "old.html", "--overwrite", "--divisor",
        "255", "--start", "2", "--end", "0", "--directions", "few.npy", "--names", "two.txt",
        "--nodes", "9", "--image", "2x2", "--title", "<T>")  # fmt: skip
    found = data_of(here / "old.html")
    assert found["directions"] == ["a", "b"]
    assert [node["name"] for node in found["nodes"][:2]] == ["a", "b"]
    assert (found["start"], found["end"], found["image"]) == (2, 0, [2, 2])
    assert len(found["nodes"]) <= 9
    assert "<title>&lt;T&gt;</title>" in (here / "old.html").read_text(encoding="utf-8")


def test_the_inputs_of_the_chosen_examples(here, monkeypatch):
    monkeypatch.setattr(page_data, "MOST_EXAMPLES", 30)
    (here / "labels.txt").write_text("".join(f"example {i}\n" for i in range(200)))
    run(monkeypatch, "net.safetensors", "x.npy", "-o", "x.html", "--example-names", "labels.txt")
    found = data_of(here / "x.html")
    assert len(found["examples"]) == 30
    assert found["names"] == [f"example {i}" for i in found["examples"]]
    inputs = np.frombuffer(base64.b64decode(found["inputs"]), "<f4").reshape(30, 4)
    assert np.array_equal(inputs, X[found["examples"]].numpy())


def test_how_many_are_equally_rare_is_said(here, monkeypatch, capsys):
    signs = torch.tensor([[1.0, -1, 1, -1]]).where(
        torch.arange(200)[:, None] < 40, torch.ones(1, 4)
    )
    np.save("signs.npy", signs.numpy())
    ReluNetwork([torch.eye(4), torch.ones(1, 4)], [torch.zeros(4), torch.zeros(1)]).save(
        "eye.safetensors"
    )
    run(monkeypatch, "eye.safetensors", "signs.npy", "-o", "x.html")
    ties = "40 are equally rare: these 10 are of them"
    printed = capsys.readouterr().out
    assert f"rarest examples: 0, 4, 8, 12, 16, 20, 24, 28, 32, 36 ({ties})" in printed
    found = data_of(here / "x.html")
    assert found["ties"] == ties
    assert [i for i, _ in found["rarest"]] == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]


def test_dead_networks_are_pointed_out(here, monkeypatch, capsys):
    dead = [torch.full((2,), -99.0), torch.zeros(2)]
    ReluNetwork([torch.ones(2, 4), torch.eye(2)], dead).save(here / "dead.safetensors")
    run(monkeypatch, "dead.safetensors", "x.npy", "-o", "x.html")
    said = "every gradient with respect to site 0 is zero: no unit of site 1 is on in any example"
    assert f"warning: {said}; the graph has no nodes there" in capsys.readouterr().out
    assert len(data_of(here / "x.html")["nodes"]) == 4
    np.save("zeros.npy", np.zeros((1, 3)))
    run(monkeypatch, "net.safetensors", "x.npy", "-o", "y.html", "--directions", "zeros.npy")
    printed = capsys.readouterr().out
    assert "every gradient with respect to sites 2 and 1 and 0 is zero; the graph" in printed
    assert "no unit" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "missing.safetensors x.npy",
            "MODEL must be a network that ReluNetwork.save wrote: [Errno 2] No such file or directory: 'missing.safetensors'",
        ),
        ("x.npy x.npy", "MODEL must be a network that ReluNetwork.save wrote: path must be a "),
        ("net.safetensors missing.npy", "DATA must be a .npy file of numbers, got missing.npy"),
        ("net.safetensors text.npy", "DATA must be a .npy file of numbers, got text.npy"),
        (
            "net.safetensors wide.npy",
            "DATA in wide.npy must have shape [N, 4] to match the network's input, got [5, 7]",
        ),
        (
            "net.safetensors bytes.npy",
            "DATA in bytes.npy must be float32 like the network, got uint8",
        ),
        ("net.safetensors x.npy --start 4", "--start must be a site after the --end, in 1..3"),
        ("net.safetensors x.npy --end 3", "--end must be a site in 0..2, got 3"),
        ("net.safetensors x.npy --start 1 --end 1", "--start must be a site after the --end"),
        (
            "net.safetensors x.npy --directions none.npy",
            "--directions must hold at least one direction, got none",
        ),
        ("net.safetensors x.npy --directions wide.npy", "--directions must have shape [D, 3]"),
        (
            "net.safetensors x.npy --directions text.npy",
            "--directions must be a .npy file of numbers, a row for each vector, got text.npy",
        ),
        (
            "net.safetensors x.npy --directions complex.npy",
            "--directions must be real numbers, got complex.npy, which holds complex128",
        ),
        ("net.safetensors x.npy --names two.txt", "--names must hold 3 names, one a line, got 2"),
        (
            "net.safetensors x.npy --names latin.txt",
            "--names must be a text file in UTF-8, one name a line, got latin.txt",
        ),
        (
            "net.safetensors x.npy --example-names two.txt",
            "--example-names must hold 200 names, one a line, got 2",
        ),
        ("net.safetensors x.npy --nodes 0", "--nodes must be at least 1, got 0"),
        ("net.safetensors x.npy --examples -1", "--examples must be at least 0, got -1"),
        *(
            (
                f"net.safetensors x.npy --angle {angle}",
                f"--angle must be in 0.0001..90 degrees, got {angle}",
            )
            for angle in ("400", "0", "-5", "nan")
        ),
        ("net.safetensors x.npy --export a.txt", "--export must end in .graphml, .dot or .json"),
        (
            "net.safetensors x.npy --export a.dot old.json",
            "--export must be a new file, got old.json, which exists; --overwrite replaces it",
        ),
        (
            "net.safetensors x.npy --export a.graphml no/such.dot",
            "--export must be in a folder that can be written, got no/such.dot",
        ),
        (
            "net.safetensors x.npy --export b.dot ./b.dot",
            "--export must be a file of its own, got b.dot twice",
        ),
        (
            "net.safetensors x.npy --out old.html --overwrite --export b.dot b.dot",
            "--export must be a file of its own, got b.dot twice",
        ),
        ("net.safetensors x.npy --image 3x3", "--image must have 4 pixels to match the network's"),
        (
            "net.safetensors x.npy --image two",
            "--image must be height x width as in 28x28, got two",
        ),
        (
            "net.safetensors x.npy --out old.html",
            "--out must be a new file, got old.html, which exists; --overwrite replaces it",
        ),
        ("net.safetensors x.npy --out folder.html", "--out must be a file, got the folder"),
        ("net.safetensors x.npy --out x.npy", "--out must be the path of a .html file, got x.npy"),
        (
            "net.safetensors x.npy --out no/new.html",
            "--out must be in a folder that can be written",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, here, monkeypatch, capsys):
    before = contents(here)
    out = [] if "--out" in arguments else ["--out", "new.html"]
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments.split(), *out)
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1
    assert contents(here) == before


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt, 130, "interrupted; nothing was written"),
        (OSError("disk full"), 2, "error: disk full"),
    ],
)
@pytest.mark.parametrize("failing", ["graph_export.to_dot", "io.os.fsync", "io.Path.rename"])
def test_a_failure_or_ctrl_c_leaves_everything_as_it_was(
    here, monkeypatch, capsys, failing, error, code, said
):
    """At the second call, when one file is made already."""
    before, calls = contents(here), []
    module, *names = failing.split(".")
    owner = getattr(gradsplinter, module)
    for name in names[:-1]:
        owner = getattr(owner, name)
    call = getattr(owner, names[-1])

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return call(*arguments)

    monkeypatch.setattr(owner, names[-1], fail)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "net.safetensors", "x.npy", "-o", "old.html", "--overwrite",
            "--export", "a.dot", "b.dot")  # fmt: skip
    assert stopped.value.code == code
    assert said in capsys.readouterr().err
    assert contents(here) == before


def test_ctrl_c_after_the_files_are_written_says_so(here, monkeypatch, capsys):
    def stop(text, **_):
        if str(text).startswith("Written"):
            raise KeyboardInterrupt

    monkeypatch.setattr("gradsplinter.cli.graph.console.print", stop)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "net.safetensors", "x.npy", "-o", "new.html", "--export", "a.dot")
    assert stopped.value.code == 130
    assert "interrupted; all files are written" in capsys.readouterr().err
    assert (here / "new.html").exists()
    assert (here / "a.dot").exists()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_exports_and_an_angle(here, monkeypatch, capsys):
    run(monkeypatch, "net.safetensors", "x.npy", "--out", "new.html", "--angle", "20",
        "--export", "a.graphml", "b.dot", "c.json")  # fmt: skip
    found = data_of(here / "new.html")
    expected = view(computation_graph(NET, X), 2000, angle=20 * np.pi / 180)
    assert len(found["nodes"]) == len(expected.nodes)
    assert found["merge"]["degrees"] == pytest.approx(20)
    assert [site["site"] for site in found["merge"]["sites"]] == [at.site for at in expected.merges]
    assert [site["nodes"] for site in found["merge"]["sites"]] == [
        at.nodes for at in expected.merges
    ]
    assert all(site["widest"] <= 20 for site in found["merge"]["sites"])
    ids = re.findall(r'<node id="(\d+)">', (here / "a.graphml").read_text())
    assert ids == [str(i) for i in range(len(expected.nodes))]
    assert (here / "b.dot").read_text().count("fillcolor") == len(expected.nodes)
    assert len(json.loads((here / "c.json").read_text())["nodes"]) == len(expected.nodes)
    assert "Written to c.json" in capsys.readouterr().out


def test_overwrite_replaces_exports_too_and_export_can_be_repeated(here, monkeypatch):
    run(monkeypatch, "net.safetensors", "x.npy", "-o", "old.html", "--overwrite",
        "--export", "old.json", "--export=a.dot", "--export", "b.dot", "c.graphml")  # fmt: skip
    assert json.loads((here / "old.json").read_text())["nodes"]
    assert all((here / name).exists() for name in ("a.dot", "b.dot", "c.graphml"))
    (here / "folder.json").mkdir()
    with pytest.raises(SystemExit):
        run(monkeypatch, "net.safetensors", "x.npy", "-o", "old.html", "--overwrite",
            "--export", "folder.json")  # fmt: skip


def test_communities_colour_page_and_exports_alike(here, monkeypatch, capsys):
    """Two networks side by side, each with two outputs; then one network, which is one community."""
    halves = [random_network((3, 8, 2), seed) for seed in (1, 2)]
    weights = [torch.block_diag(*(half.weights[k] for half in halves)) for k in range(2)]
    biases = [torch.cat([half.biases[k] for half in halves]) for k in range(2)]
    ReluNetwork(weights, biases).save("two.safetensors")
    np.save("six.npy", random_inputs(300, 6).numpy())
    run(monkeypatch, "two.safetensors", "six.npy", "-o", "two.html", "--communities",
        "--export", "two.dot")  # fmt: skip
    found, printed = data_of(here / "two.html"), capsys.readouterr().out
    assert found["groups"]["names"] == ["community 0", "community 1"]
    assert not found["groups"]["oneCommunity"]
    colours = found["groups"]["colours"]
    of = [node["group"] for node in found["nodes"]]
    assert of == [node["community"] for node in found["nodes"]]
    assert of[0] == of[1] != of[2] == of[3]
    for node, vector in vectors_of(found, 0, 6):  # which of the halves it reads
        assert (np.abs(vector[:3]).max() > 0) == (of[node] == of[0])
        assert (np.abs(vector[3:]).max() > 0) == (of[node] == of[2])
    in_dot = re.findall(
        r'^(\d+) \[.*fillcolor="(.*?)"', (here / "two.dot").read_text(), re.MULTILINE
    )
    assert {int(n): colour for n, colour in in_dot} == {n: colours[g] for n, g in enumerate(of)}
    assert "Communities: 2, separation" in printed

    run(monkeypatch, "net.safetensors", "x.npy", "-o", "one.html", "--communities",
        "--export", "one.dot")  # fmt: skip
    found, printed = data_of(here / "one.html"), capsys.readouterr().out
    assert {node["community"] for node in found["nodes"]} == {0}
    assert found["groups"]["oneCommunity"]
    assert found["groups"]["names"] == ["y0", "y1", "y2"]
    assert {node["group"] for node in found["nodes"]} >= {0, 1, 2}
    assert re.search(r"Communities: 1, .*; so colours are by direction", printed)


def vectors_of(found, site, width):
    """The nodes of a site with their vectors."""
    vectors = np.frombuffer(base64.b64decode(found["vectors"][str(site)]), "<f4").reshape(-1, width)
    return zip([i for i, n in enumerate(found["nodes"]) if n["site"] == site], vectors, strict=True)


def whole(found):
    """The examples of a page that have all of their nodes there."""
    count = len(found["directions"])

    def is_whole(row):
        for site in reversed(found["trie"]):
            if -1 in site["nodes"][row * count : (row + 1) * count]:
                return False
            row = site["parents"][row] if site["parents"] else 0
        return True

    return [i for i, row in zip(found["examples"], found["rows"], strict=True) if is_whole(row)]


@pytest.mark.parametrize("angle", [[], ["--angle", "3"]])
def test_the_rarest_and_some_other_examples_are_kept_whole(here, monkeypatch, capsys, angle):
    monkeypatch.setattr(page_data, "MOST_EXAMPLES", 30)
    run(monkeypatch, "net.safetensors", "x.npy", "-o", "x.html", "--nodes", "110",
        "--examples", "9", *angle)  # fmt: skip
    found, graph = data_of(here / "x.html"), computation_graph(NET, X)
    kept = whole(found)
    assert set(graph.rarest(5).tolist()) < set(kept)
    assert 9 <= len(kept) < 30
    assert len(found["nodes"]) <= 110
    printed = capsys.readouterr().out
    assert f"paths: whole of {len(kept)} of the 30 examples in the page" in printed
    assert "warning" not in printed
    run(monkeypatch, "net.safetensors", "x.npy", "-o", "none.html", "--nodes", "110",
        "--examples", "0", *angle)  # fmt: skip
    assert not set(graph.rarest(5).tolist()) <= set(whole(data_of(here / "none.html")))


def test_more_examples_than_there_are_nodes_for(here, monkeypatch, capsys):
    run(monkeypatch, "net.safetensors", "x.npy", "-o", "x.html", "--nodes", "40",
        "--examples", "50")  # fmt: skip
    found, printed = data_of(here / "x.html"), capsys.readouterr().out
    assert len(found["nodes"]) <= 40
    assert 1 <= len(whole(found)) < 50
    assert f"paths: whole of {len(whole(found))} of the 200 examples in the page" in printed
    assert "warning: the paths of 50 examples do not fit into --nodes" in printed
    assert "are left out: --nodes puts in more, --angle makes one of those that are near" in printed
