"""`gradsplinter embed`, `embed train` and `embed study`, on the folder of `gradsplinter zoo`."""

import csv
import json
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors import safe_open

from gradsplinter import Embedder, cli, embed, embedder_training
from gradsplinter.cli.embed import _in_words
from gradsplinter.embedder import EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.known_tasks import KnownTasks
from gradsplinter.studies.embedded import Embedded
from gradsplinter.studies.embedding import EmbeddingResult
from gradsplinter.studies.embedding_ablation import AblationRow
from gradsplinter.studies.embedding_rows import ProbeRow
from gradsplinter.train import initialise
from gradsplinter.zoo import Zoo

ZOO = "--tasks 6 --networks 4 --hidden 8 --examples 64 --steps 40 --batch-size 32"
TRAIN = "embed train zoo --held-out 1 --steps 60 --batch 6 --points 64 --refresh 20 --patience 9"
STUDY = (
    "embed study zoo --seeds 0 1 --held-out 2 --points 64 --training.steps 20 --training.batch 6 "
    "--training.points 64 --out study"
)


def run_in(monkeypatch, folder, line):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["gradsplinter", *line.split()])
    cli.main()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with a zoo, an embedder taught with it, and a network of the zoo embedded."""
    here = tmp_path_factory.mktemp("embed")
    with pytest.MonkeyPatch.context() as patch:
        run_in(patch, here, f"zoo {ZOO} --out zoo")
        run_in(patch, here, f"{TRAIN} --out taught")
        Zoo.load("zoo").networks[5].save("net.safetensors")
        x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
        np.save("x.npy", x.numpy())
        initialise([3, 8, 2], 0).save("three.safetensors")
        initialise([2, 8, 3], 0).save("outputs.safetensors")
        np.save("three.npy", np.random.default_rng(0).random((50, 3), dtype=np.float32))
        run_in(
            patch,
            here,
            "embed net.safetensors x.npy --embedder taught/embedder.safetensors --out one",
        )
    return here


@pytest.fixture
def run(done, monkeypatch):
    return lambda line: run_in(monkeypatch, done, line)


def names(folder):
    return {path.name for path in folder.iterdir()}


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def error_of(run, line, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(line)
    assert stopped.value.code == cli.USAGE_ERROR
    return " ".join(capsys.readouterr().err.split())


# --- embed train --------------------------------------------------------------------------------------


def test_what_training_writes(done):
    figures = {"training.png", "training.pdf"}
    tables = {"training.csv", "validations.csv", "cloze.csv"}
    assert names(done / "taught") == {"embedder.safetensors", "config.json", *tables, *figures}
    assert not list(done.glob("*checkpoint*"))
    zoo, embedder = Zoo.load(done / "zoo"), Embedder.load(done / "taught" / "embedder.safetensors")
    assert embedder.known.names == tuple(task.name for task in zoo.tasks)
    assert embedder.point_low.tolist() == pytest.approx([0, 0], abs=0.1)
    about = json.loads((done / "taught" / "config.json").read_text())
    assert [found["fingerprint"] for found in about["zoos"]] == [zoo.fingerprint]
    assert about["networks"] == {"training": 18, "held_out": 6}
    assert about["config"]["shape"]["inputs"] == 2
    assert about["config"]["training"]["steps"] == 60
    assert [row["step"] for row in rows(done / "taught" / "validations.csv")] == ["20", "40", "60"]
    assert len(rows(done / "taught" / "training.csv")) == 60
    hidden = [float(row["hidden"]) for row in rows(done / "taught" / "cloze.csv")]
    assert hidden == list(EmbedderTrainingConfig().mask)


def test_interrupted_it_goes_on_to_the_same_bits(done, run, monkeypatch, capsys):
    """And no held-out network is among those of its training."""
    look, calls = embedder_training.tokens_of, []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:  # two at first, then one after each validation
            raise KeyboardInterrupt
        return look(*arguments, **options)

    monkeypatch.setattr(embedder_training, "tokens_of", stops)
    with pytest.raises(SystemExit) as stopped:
        run(f"{TRAIN} --out again")
    assert len(calls) == 4
    assert stopped.value.code == cli.INTERRUPTED
    printed = " ".join(capsys.readouterr().err.split())
    assert "again.checkpoint.safetensors; the same command goes on from there" in printed
    assert not (done / "again").exists()
    zoo, checkpoint = Zoo.load(done / "zoo"), done / "again.checkpoint.safetensors"
    with safe_open(checkpoint, framework="pt") as file:
        state = json.loads(file.metadata()["gradsplinter.EmbedderTraining"])
    training, held_out = (
        {zoo.networks[i].fingerprint for i in part.tolist()} for part in zoo.split(1, 0)
    )
    assert state["step"] == 40
    assert set(state["networks"]) == training
    assert not training & held_out

    calls[:] = [1] * 9  # never 4 again
    other = error_of(run, f"{TRAIN} --out again --seed 1", capsys)
    assert "error: checkpoint must be of the same training" in other
    assert "remove this file to begin anew" in other
    calls[:] = [1] * 9
    run(f"{TRAIN} --out again")
    assert (
        len(calls) == 9 + 3
    )  # two at first, whose results are left, and one after step 40; not at 20
    for name in ("embedder.safetensors", "training.csv", "validations.csv", "cloze.csv"):
        assert (done / "again" / name).read_bytes() == (done / "taught" / name).read_bytes(), name
    assert not checkpoint.exists()


def test_interrupted_before_there_is_anything_to_keep(done, run, monkeypatch, capsys):
    def stops(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(embedder_training, "tokens_of", stops)
    with pytest.raises(SystemExit):
        run(f"{TRAIN} --out early")
    assert "the results are as they were before" in " ".join(capsys.readouterr().err.split())
    assert not (done / "early").exists()


@pytest.mark.parametrize(
    ("line", "function"),
    [("embed train zoo", "embed_train.teach"), ("embed study zoo", "embed_study.run_embedding")],
)
def test_a_bar_is_for_terminals(line, function, run, monkeypatch, capsys):
    def stop(*_, progress, **__):
        raise ValueError(f"progress: {progress}")

    monkeypatch.setattr(f"gradsplinter.cli.{function}", stop)
    for terminal, options in ((True, ""), (False, ""), (True, "--no-progress")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        shown = terminal and not options
        assert f"progress: {shown}" in error_of(run, f"{line} --out x {options}", capsys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--held-out 4", "--held-out must be below 4, the networks of a task, got 4"),
        ("--held-out 0", "--held-out must be at least 1, got 0"),
        ("--steps 0", "--steps must be at least 1, got 0"),
        ("--pooling max", "--pooling must be one of mean, attention, got 'max'"),
        ("--device tpu", "--device must be cpu, cuda or cuda:INDEX, got tpu"),
        ("--device cuda:99", "--device must be one that is here, got cuda:99 where torch sees"),
        ("--out taught", "--out must be a new folder, got"),
    ],
)
def test_bad_options_of_training(line, message, run, capsys):
    out = "" if "--out" in line else "--out x"
    held_out = "" if "--held-out" in line else "--held-out 1"
    assert f"error: {message}" in error_of(run, f"embed train zoo {held_out} {line} {out}", capsys)


def test_zoos_that_do_not_go_together(run, capsys):
    found = error_of(run, "embed train zoo zoo --held-out 1 --out x", capsys)
    assert "error: ZOO must not share networks, got some twice" in found
    assert "error: ZOO must hold at least one zoo" in error_of(run, "embed train --out x", capsys)


def test_zoos_that_are_not_whole(done, run, tmp_path, capsys):
    """Each fault of a folder is tested in test_zoo.py; here, what one reads of it."""
    line = f"embed train {tmp_path} --held-out 1 --out x"
    assert "error: ZOO must hold a zoo, got" in error_of(run, line, capsys)
    for name in names(done / "zoo"):
        (tmp_path / name).write_bytes((done / "zoo" / name).read_bytes())
    manifest = tmp_path / "manifest.json"
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(about | {"gradsplinter.Zoo": 9}))
    found = error_of(run, line, capsys)
    assert "error: ZOO must hold a zoo of schema 2, got" in found
    assert "with schema 9: make it again with `gradsplinter zoo`" in found
    manifest.write_text(json.dumps(about | {"fingerprint": "0"}))
    assert "whose networks are not those of its manifest" in error_of(run, line, capsys)
    (tmp_path / "networks.safetensors").write_bytes(b"?")
    for command in (line, f"embed study {tmp_path}"):
        assert "networks.safetensors must be a safetensors file" in error_of(run, command, capsys)
    assert not (done / "x").exists()


# --- embed --------------------------------------------------------------------------------------------


def test_a_network_is_embedded(done):
    assert names(done / "one") == {
        *("embedding.csv", "nearest.csv", "config.json", "parts.png", "parts.pdf")
    }
    zoo, embedder = Zoo.load(done / "zoo"), Embedder.load(done / "taught" / "embedder.safetensors")
    x = torch.from_numpy(np.load(done / "x.npy"))
    expected = embed(zoo.networks[5], x, embedder)[0]
    (row,) = rows(done / "one" / "embedding.csv")
    assert row.pop("part") == "output 0"
    assert [float(value) for value in row.values()] == pytest.approx(expected.tolist())
    nearest = rows(done / "one" / "nearest.csv")
    known = embedder.known.nearest(expected, len(embedder.known))
    assert [row["task"] for row in nearest] == [task.name for task in known]
    assert [float(row["distance"]) for row in nearest] == pytest.approx([t.distance for t in known])
    about = json.loads((done / "one" / "config.json").read_text())
    assert about["network"] == {"widths": [2, 8, 1], "fingerprint": zoo.networks[5].fingerprint}
    assert about["config"]["embedder"] == "taught/embedder.safetensors"
    assert about["warnings"] == []


def test_the_report_in_words(done, run, monkeypatch, capsys):
    monkeypatch.setattr("gradsplinter.plot.embedded.parts", lambda *_: Figure())
    run("embed net.safetensors x.npy --embedder taught/embedder.safetensors --out two")
    found = capsys.readouterr()
    nearest = rows(done / "one" / "nearest.csv")
    words = " ".join(found.out.split())
    begin = "nearest" if nearest[0]["far"] == "False" else "like none of the 6 known tasks"
    assert words.startswith(f"output 0: {begin}")
    assert f"{nearest[0]['task']} ({float(nearest[0]['distance']):.3g}; networks of it are" in words
    assert f"then {nearest[1]['task']} ({float(nearest[1]['distance']):.3g}), " in words
    assert all(len(line) <= 80 for line in found.out.splitlines())
    assert found.err == ""


def test_a_nearest_task_that_is_far_is_said_to_be():
    """From the product by more than 3 times 0.2; from the sum, whose networks are spread, it is not."""
    known = KnownTasks(("x1 * x2", "x1"), torch.tensor([[0.0], [3.0]]), torch.tensor([0.2, 1.0]))
    at = torch.tensor([1.0])
    part = Embedded("output 0", None, at, known.nearest(at), False, None, None)
    words = _in_words(part, known).replace("\N{NO-BREAK SPACE}", " ")
    assert words == (
        "nearest x1 * x2 (1; networks of it are 0.2 from their middle on average), which is far; within 3 times the "
        "usual distance only x1 (2, usual 1)"
    )


def test_outputs_and_directions_with_the_shipped_embedder(done, run, monkeypatch, capsys):
    run("embed outputs.safetensors x.npy --out outputs")
    parts = [row["part"] for row in rows(done / "outputs" / "embedding.csv")]
    assert parts == ["output 0", "output 1", "output 2"]
    assert len(rows(done / "outputs" / "nearest.csv")) == 3 * len(Embedder.pretrained().known)
    monkeypatch.chdir(done)
    monkeypatch.setattr("gradsplinter.plot.embedded.parts", lambda *_: Figure())
    np.save("directions.npy", np.eye(3)[1:2])
    run("embed outputs.safetensors x.npy --directions directions.npy --out direction")
    one, three = (rows(done / name / "embedding.csv") for name in ("direction", "outputs"))
    assert one[0]["part"] == "direction 0"
    assert list(one[0].values())[1:] == list(three[1].values())[1:]
    drawn = []
    monkeypatch.setattr(
        "gradsplinter.plot.embedded.parts", lambda _, name: drawn.append(name) or Figure()
    )
    np.save("basis.npy", np.eye(2))
    run("embed outputs.safetensors x.npy --basis basis.npy --out basis")
    assert rows(done / "basis" / "embedding.csv") == three
    run("embed outputs.safetensors x.npy --target 1 --out units")
    assert drawn == ["coordinate ", "x"]
    units = [row["part"] for row in rows(done / "units" / "embedding.csv")]
    net = initialise([2, 8, 3], 0)
    first = net.weights[0] @ torch.from_numpy(np.load("x.npy")).T + net.biases[0].unsqueeze(1)
    alive = first.amax(1) > 0
    assert units == [f"unit {i} of site 1" for i in alive.nonzero().flatten().tolist()]
    assert 0 < len(units) < 8
    printed = " ".join(capsys.readouterr().out.split())
    assert "unit 7 of site 1: " in printed
    assert "constant at these examples, and left out: unit" in printed


def test_examples_outside_of_where_it_learned(done, run, monkeypatch, capsys):
    monkeypatch.chdir(done)
    np.save("far.npy", 3 * np.load("x.npy"))
    monkeypatch.setattr("gradsplinter.plot.embedded.parts", lambda *_: Figure())
    run("embed net.safetensors far.npy --out far")
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("warning: DATA should lie where the embedder learned, from (")
    (warning,) = json.loads((done / "far" / "config.json").read_text())["warnings"]
    assert "of the examples do not" in warning


def test_networks_of_four_inputs(tmp_path, monkeypatch, capsys):
    """From the zoo to the nearest task; of more than two inputs only that is drawn."""
    small = "--tasks 2 --networks 3 --hidden 8 --examples 64 --steps 20"
    run_in(monkeypatch, tmp_path, f"zoo --family formulae-4d {small} --out zoo")
    run_in(
        monkeypatch,
        tmp_path,
        "embed train zoo --held-out 1 --steps 5 --tokens samples --out taught",
    )
    zoo = Zoo.load("zoo")
    zoo.networks[4].save("net.safetensors")
    x = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    np.save("x.npy", x.numpy())
    run_in(
        monkeypatch, tmp_path,
        "embed net.safetensors x.npy --embedder taught/embedder.safetensors --out one",
    )  # fmt: skip
    assert names(tmp_path / "one") == {
        *("embedding.csv", "nearest.csv", "config.json", "parts.png", "parts.pdf")
    }
    (row,) = rows(tmp_path / "one" / "embedding.csv")
    expected = embed(zoo.networks[4], x, Embedder.load("taught/embedder.safetensors"))[0]
    assert [float(value) for value in list(row.values())[1:]] == pytest.approx(expected.tolist())
    assert "output 0: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "three.safetensors three.npy",
            "MODEL must have 2 units at site 0, as the embedder, got 3",
        ),
        ("net.safetensors three.npy", "DATA "),
        ("net.safetensors x.npy --source 1", "MODEL must have 2 units at site 1, as the embedder"),
        ("net.safetensors x.npy --target 7", "--target must be a site after the source"),
        (
            "net.safetensors x.npy --embedder net.safetensors",
            "--embedder must be a file written by",
        ),
        ("net.safetensors x.npy --embedder zoo/manifest.json", "--embedder must be a safetensors"),
        (
            "net.safetensors x.npy --embedder pickled.pt",
            "--embedder must be a safetensors file, got pickled.pt, a file of torch.save or a pickle.",
        ),
        (
            "net.safetensors x.npy --embedder taught",
            "--embedder must be a file, got the folder taught: taught/embedder.safetensors may be",
        ),
        ("huge.safetensors x.npy", "MODEL must have gradients near those that the embedder"),
        ("net.safetensors x.npy --embedder no.safetensors", "--embedder must be a file of"),
        ("net.safetensors x.npy --embedder of_outputs", "--embedder must be one of gradients"),
        ("net.safetensors x.npy --directions x.npy", "--directions "),
        ("net.safetensors x.npy --basis no.npy", "--basis must be a .npy file of numbers"),
        (
            "net.safetensors x.npy --basis x.npy",
            "--basis must have 2 rows, as the embedder has inputs, got 200",
        ),
        ("constant.safetensors x.npy", "MODEL must not be constant at these examples"),
        ("net.safetensors nan.npy", "DATA must be finite, got 1 value that is not"),
        ("net.safetensors single.npy", "DATA must visit at least 2 modes of the network, got 1"),
        ("net.safetensors x.npy --out one", "--out must be a new folder, got"),
        ("net.safetensors x.npy --out x.npy", "--out must be a folder, got the file"),
        ("tain taught", "command must be one that there is, got embed tain: is embed train meant?"),
        ("nothing.safetensors x.npy", "MODEL must be a network that ReluNetwork.save wrote"),
    ],
)
def test_what_cannot_be_embedded(line, message, done, run, monkeypatch, capsys):
    monkeypatch.chdir(done)
    Embedder(EmbedderConfig(values="outputs")).save("of_outputs")
    net = initialise([2, 8, 1], 0)
    type(net)((net.weights[0], 0 * net.weights[1]), net.biases).save("constant.safetensors")
    torch.save(net.weights, "pickled.pt")
    type(net)((net.weights[0], 1e30 * net.weights[1]), net.biases).save("huge.safetensors")
    x = np.load("x.npy")
    np.save("single.npy", x[:1])
    x[3, 1] = np.nan
    np.save("nan.npy", x)
    out = "" if "--out" in line else "--out x"
    assert f"error: {message}" in error_of(run, f"embed {line} {out}", capsys)
    assert not (done / "x").exists()


# --- embed study --------------------------------------------------------------------------------------


def test_the_study(done, run, capsys):
    run(STUDY)
    tables = {f"{n}{end}.csv" for n in ("probes", "cloze", "structure") for end in ("", "-means")}
    assert {"config.json", "embedder.safetensors", *tables} < names(done / "study")
    assert {"probes.png", "cloze.png"} < names(done / "study")
    accuracies = [
        float(row["accuracy"])
        for row in rows(done / "study" / "probes.csv")
        if (row["method"], row["question"]) == ("embedder", "all labels")
    ]
    (mean,) = (
        row
        for row in rows(done / "study" / "probes-means.csv")
        if (row["method"], row["question"]) == ("embedder", "all labels")
    )
    assert mean["seeds"] == "2"
    assert float(mean["accuracy"]) == pytest.approx(sum(accuracies) / 2, abs=1e-6)
    error = abs(accuracies[0] - accuracies[1]) / 2  # of two values
    assert float(mean["accuracy_error"]) == pytest.approx(error, abs=1e-6)
    printed = capsys.readouterr().out
    assert f"{float(mean['accuracy']):.2f} ± {error:.2f}" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    embedder = Embedder.load(done / "study" / "embedder.safetensors")
    assert embedder.known.names == tuple(task.name for task in Zoo.load(done / "zoo").tasks)


@pytest.mark.parametrize("asked", [True, False])
def test_ablations_are_written_and_told_where_they_are_asked_for(
    asked, done, run, monkeypatch, capsys
):
    """Of an embedding that is no better than chance, and rows by hand."""

    def no_embedding(config, zoo, **_):
        probes = [ProbeRow(0, "embedder", "all labels", 0.25)]
        embedder = Embedder.load(done / "taught" / "embedder.safetensors")
        return EmbeddingResult(config, zoo, probes, [], [], embedder, torch.zeros(24, 16))

    def by_hand(_, __, *, checkpoint, **___):
        checkpoint.write_text("kept until the folder is written")
        return [
            AblationRow(seed, *what, accuracy, 0.5, 0.4, -0.25)
            for what in (("", "as it is"), ("size of the embedding", "2"))
            for seed, accuracy in ((0, 0.7), (1, 0.9))
        ]

    monkeypatch.setattr("gradsplinter.cli.embed_study.run_embedding", no_embedding)
    monkeypatch.setattr("gradsplinter.cli.embed_study.run_ablation", by_hand)
    for figure in ("probes", "cloze", "map_of"):
        monkeypatch.setattr(f"gradsplinter.plot.embedding.{figure}", lambda *_: Figure())
    out = f"asked-{asked}"
    run(f"embed study zoo --held-out 2 --out {out} {'--ablations' * asked}")
    assert [path.name for path in done.glob(f"{out}*")] == [out]  # and no checkpoint
    printed = capsys.readouterr().out
    written = {name for name in names(done / out) if name.startswith("ablations")}
    if not asked:
        assert not written
        assert "One thing changed" not in printed
        return
    assert written == {f"ablations{end}" for end in (".csv", "-means.csv", ".png", ".pdf")}
    found = rows(done / out / "ablations.csv")
    assert [row["all_labels"] for row in found] == ["0.7", "0.9", "0.7", "0.9"]
    assert [row["seed"] for row in found] == ["0", "1", "0", "1"]
    first, second = rows(done / out / "ablations-means.csv")
    assert (first["question"], first["variant"]) == ("", "as it is")
    assert (second["question"], second["variant"]) == ("size of the embedding", "2")
    for row in (first, second):
        means = [row[name] for name in ("all_labels", "one_label", "few_modes", "cloze_r2")]
        assert means == ["0.8", "0.5", "0.4", "-0.25"]
        assert (row["seeds"], row["all_labels_error"]) == ("2", "0.1")
    assert "One thing changed at a time; accuracies of the probe, and R² of hidden" in printed
    words = " ".join(printed.split())
    cells = "0.80 ± 0.10 0.50 ± 0.00 0.40 ± 0.00 -0.25 ± 0.00"
    assert "all labels one label few modes R² ─" in words
    assert f"─ as it is {cells}" in words
    assert f"size of the embedding: 2 {cells}" in words
    assert all(len(line) <= 80 for line in printed.splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--shape.inputs 3", "--shape.inputs must be 2, as of the zoo's networks, got 3"),
        ("--training.seed 5", "--training.seed must be left out, since --seeds has them, got 5"),
        ("--seeds 0 0", "--seeds must be different"),
        ("--out taught", "--out must be a new folder"),
    ],
)
def test_bad_options_of_the_study(options, message, run, capsys):
    out = "" if "--out" in options else "--out x"
    assert f"error: {message}" in error_of(run, f"embed study zoo {options} {out}", capsys)


# --- commands of two words ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["embed", "embed train", "embed study"])
def test_help(command, run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(f"{command} --help")
    assert stopped.value.code == 0
    assert f"usage: gradsplinter {command} [-h]" in capsys.readouterr().out


def test_bad_options_of_its_training(run, capsys):
    found = error_of(run, "embed study zoo --training.steps 0 --out x", capsys)
    assert "steps must be at least 1, got 0" in found
