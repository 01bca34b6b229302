"""`gradsplinter graph`: what it writes and prints, and that bad input writes nothing."""

import base64
import json
import re
import sys

import numpy as np
import pytest
import torch
from networks import random_inputs, random_network

from gradsplinter import ReluNetwork, cli, computation_graph
from gradsplinter.graph_view import view
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
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe4\nb\nc\n")
    (tmp_path / "old.html").write_text("old")
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


def test_dead_networks_are_pointed_out(here, monkeypatch, capsys):
    dead = [torch.full((2,), -99.0), torch.zeros(2)]
    ReluNetwork([torch.ones(2, 4), torch.eye(2)], dead).save(here / "dead.safetensors")
    run(monkeypatch, "dead.safetensors", "x.npy", "-o", "x.html")
    assert "warning: every gradient with respect to site 0 is zero" in capsys.readouterr().out
    assert len(data_of(here / "x.html")["nodes"]) == 4


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
        ("net.safetensors wide.npy", "DATA must have shape [N, 4] to match the network's input"),
        (
            "net.safetensors bytes.npy",
            "DATA in bytes.npy must be float32 like the network, got uint8",
        ),
        ("net.safetensors x.npy --start 4", "--start must be a site after the source, in 1..3"),
        ("net.safetensors x.npy --end 3", "--end must be a site in 0..2, got 3"),
        ("net.safetensors x.npy --start 1 --end 1", "--start must be a site after the source"),
        (
            "net.safetensors x.npy --directions none.npy",
            "--directions must hold at least one direction, got none",
        ),
        ("net.safetensors x.npy --directions wide.npy", "--directions must have shape [D, 3]"),
        (
            "net.safetensors x.npy --directions text.npy",
            "--directions must be a .npy file of numbers [D, h], got text.npy",
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
    def contents():
        return {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}

    before = contents()
    out = [] if "--out" in arguments else ["--out", "new.html"]
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments.split(), *out)
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1
    assert contents() == before


def test_a_failure_or_ctrl_c_leaves_nothing(here, monkeypatch, capsys):
    for error, code in ((KeyboardInterrupt, 130), (OSError("disk full"), 2)):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr("gradsplinter.io.os.fsync", fail)
        with pytest.raises(SystemExit) as stopped:
            run(monkeypatch, "net.safetensors", "x.npy", "-o", "new.html")
        assert stopped.value.code == code
    assert "nothing was written" in capsys.readouterr().err
    assert not list(here.glob("new*"))


def test_exports_communities_and_an_angle(here, monkeypatch, capsys):
    run(monkeypatch, "net.safetensors", "x.npy", "--out", "new.html", "--angle", "20",
        "--communities", "--export", "a.graphml", "b.dot", "c.json")  # fmt: skip
    found = data_of(here / "new.html")
    assert len(found["nodes"]) == len(
        view(computation_graph(NET, X), 10**6, angle=20 * np.pi / 180).nodes
    )
    assert {node["community"] for node in found["nodes"]} == {0}
    assert (here / "a.graphml").read_text().startswith("<?xml")
    assert (here / "b.dot").read_text().startswith("digraph")
    assert "nodes" in json.loads((here / "c.json").read_text())
    assert "Written to c.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--export", "a.txt"], "--export must end in .graphml, .dot or .json, got a.txt"),
        (
            ["--export", "a.dot", "old.json"],
            "--export must be a new file, got old.json, which exists",
        ),
        (["--angle", "400"], "--angle must be in"),
    ],
)
def test_bad_exports_write_nothing(here, monkeypatch, capsys, arguments, message):
    (here / "old.json").write_text("old")
    before = sorted(here.iterdir())
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "net.safetensors", "x.npy", "--out", "new.html", *arguments)
    assert error.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(here.iterdir()) == before
    assert (here / "old.json").read_text() == "old"
