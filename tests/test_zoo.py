"""Families of tasks, and zoos of networks trained on them."""

import csv
import dataclasses
import json
import math

import pytest
import torch
from safetensors.torch import load, save

from gradsplinter import cli, zoo_training
from gradsplinter import zoo as zoo_module
from gradsplinter.families import FAMILIES, Varied, Waves, family
from gradsplinter.formula import Formula
from gradsplinter.zoo import Zoo, ZooConfig
from gradsplinter.zoo_training import make_zoo

SMALL = ZooConfig(
    "formulae", tasks=3, networks=4, hidden=(8,), examples=64, steps=20, batch_size=32
)


@pytest.fixture(scope="module")
def zoo():
    return make_zoo(SMALL, progress=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name):
    """All tasks differ and have one output; the first ones do not depend on how many there are."""
    tasks = family(name, 40)
    assert len({task.name for task in tasks}) == 40
    assert {(task.n_inputs, task.n_outputs) for task in tasks} == {(tasks[0].n_inputs, 1)}
    assert family(name, 10) == tasks[:10]
    generator = torch.Generator().manual_seed(0)
    x = tasks[0].sample(200, generator=generator, dtype=torch.float64)
    gradients = torch.stack([task.gradient(x).flatten() for task in tasks])
    assert float(torch.pdist(gradients).min()) > 0.1  # no two are the same up to a constant


@pytest.mark.parametrize(
    "task", [Waves(3, 2), Waves(5, 1, -2.0, 2.0, 2.0), Varied(Formula("x1 * x2"), Waves(1, 2), 0.3)]
)
def test_gradients_of_waves(task):
    generator = torch.Generator().manual_seed(0)
    x = task.sample(50, generator=generator, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(task.target(x).sum(), x)
    torch.testing.assert_close(task.gradient(x).squeeze(1), expected)


def test_waves_by_hand():
    """One term: ±sqrt(2) sin(w x + φ), whose root mean square over a period is 1."""
    task = Waves(0, 1, 0.0, 1.0, 1.0, terms=1)
    sizes, waves, phases = task._parameters
    x = torch.tensor([[0.25]], dtype=torch.float64)
    expected = sizes[0].sign() * 2**0.5 * torch.sin(waves[0, 0] * 0.25 + phases[0])
    assert float(task.target(x)) == pytest.approx(float(expected), rel=1e-12)


def test_the_networks_of_a_zoo(zoo):
    assert len(zoo.networks) == 12
    assert {net.widths for net in zoo.networks} == {(2, 8, 1)}
    assert len({net.fingerprint for net in zoo.networks}) == 12
    assert zoo.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    again = make_zoo(SMALL, progress=False)
    assert again.fingerprint == zoo.fingerprint
    assert torch.equal(again.r2, zoo.r2)


def test_what_is_learned_is_measured_on_fresh_examples(zoo):
    """R² is 1 - mean squared error / variance; these have not learned, and are told, not dropped."""
    assert len(zoo.failed) > 0
    assert f"{len(zoo.failed)} have not learned theirs" in repr(zoo)
    net, task = zoo.networks[5], zoo.tasks[1]
    x = task.sample(4000, generator=torch.Generator().manual_seed(123))
    y = task.target(x)
    r2 = 1 - float((net(x) - y).square().mean() / y.var())
    assert float(zoo.r2[5]) == pytest.approx(r2, abs=0.05 * (1 + abs(r2)))


def trained_with(monkeypatch):
    """x, y and seeds of the networks of each task."""
    train, given = zoo_training.train, []

    def records(config, x, y, seeds, **options):
        given.append((x, y, list(seeds)))
        return train(config, x, y, seeds, **options)

    monkeypatch.setattr(zoo_training, "train", records)
    return given


def test_each_network_has_its_own_seed_and_examples(monkeypatch):
    """No two share an example; the seeds are those of `rows`."""
    given = trained_with(monkeypatch)
    zoo = make_zoo(SMALL, progress=False)
    assert [seed for *_, seeds in given for seed in seeds] == [row["seed"] for row in zoo.rows()]
    examples = torch.cat([x.flatten(0, 1) for x, *_ in given])
    assert len(examples.unique(dim=0)) == len(examples) == 12 * 64
    for task, (x, y, _) in zip(zoo.tasks, given, strict=True):
        assert torch.equal(y.flatten(0, 1), task.target(x.flatten(0, 1)))


def test_examples_known_by_heart_are_not_a_task_that_is_learned(monkeypatch):
    given = trained_with(monkeypatch)
    config = ZooConfig("curves", tasks=2, networks=2, hidden=(64,), examples=2, steps=200)
    zoo = make_zoo(config, progress=False)
    x, y = (torch.cat([part[i] for part in given]) for i in (0, 1))
    for net, own_x, own_y in zip(zoo.networks, x, y, strict=True):
        assert float((net(own_x) - own_y).square().mean() / own_y.var(correction=0)) < 1e-3
    assert zoo.failed.tolist() == [0, 1, 2, 3]


def test_enough_steps_learn():
    config = ZooConfig("curves", tasks=2, networks=2, examples=256, steps=400)
    assert float(make_zoo(config, progress=False).r2.min()) > 0.95


@pytest.mark.parametrize("held_out", [1, 3])
def test_splits_are_of_networks(zoo, held_out):
    """All tasks on both sides, no network on both, by their weights."""
    splits = [zoo.split(held_out, seed) for seed in range(5)]
    for training, out in splits:
        assert sorted([*training.tolist(), *out.tolist()]) == list(range(12))
        assert zoo.labels[out].bincount().tolist() == [held_out] * 3
        left, right = (
            {zoo.networks[i].fingerprint for i in part.tolist()} for part in (training, out)
        )
        assert not left & right
    assert len({tuple(out.tolist()) for _, out in splits}) > 1


def test_saved_and_loaded(zoo, tmp_path):
    zoo.save(tmp_path / "zoo")
    loaded = Zoo.load(tmp_path / "zoo")
    assert loaded.config == SMALL
    assert loaded.fingerprint == zoo.fingerprint
    assert torch.equal(loaded.labels, zoo.labels)
    torch.testing.assert_close(loaded.r2, zoo.r2, atol=1e-6, rtol=0)
    assert sorted(path.name for path in (tmp_path / "zoo").iterdir()) == [
        "manifest.json",
        "networks.safetensors",
    ]


def _change(folder, **values):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_folders_that_hold_no_whole_zoo(zoo, tmp_path):
    folder = tmp_path / "zoo"
    with pytest.raises(ValueError, match=r"folder must hold a zoo, got .*, which is not there$"):
        Zoo.load(folder)
    left = tmp_path / "zoo.checkpoint.safetensors"
    left.touch()
    with pytest.raises(ValueError, match="is not there: it is not finished, make it with the same"):
        Zoo.load(folder)
    left.unlink()
    folder.mkdir()
    with pytest.raises(ValueError, match=r"folder must hold a zoo, got .*, which has no networks"):
        Zoo.load(folder)
    zoo.save(folder)
    manifest, networks = folder / "manifest.json", folder / "networks.safetensors"
    whole = manifest.read_text(), networks.read_bytes()
    networks.write_bytes(whole[1][:-10])
    with pytest.raises(ValueError, match=r"networks\.safetensors must be a safetensors file"):
        Zoo.load(folder)
    networks.write_bytes(whole[1][:-1] + b"?")
    with pytest.raises(ValueError, match="whose networks are not those of its manifest"):
        Zoo.load(folder)
    tensors = load(whole[1])
    tensors["weight.1"][3, 0, 0] = torch.nan
    networks.write_bytes(save(tensors))
    with pytest.raises(ValueError, match="got networks that cannot be: weights: layer 1 must be"):
        Zoo.load(folder)
    networks.write_bytes(whole[1])
    for changes, message in (
        ({"gradsplinter.Zoo": 1}, "with schema 1: make it again"),
        ({"tasks": ["x1 * x2", "x1", "x2"]}, "whose tasks differ: make it again"),
        ({"targets": [[0.0] * 16] * 3}, "whose tasks differ: make it again"),
        ({"targets": [[0.0]] * 3}, "whose tasks differ: make it again"),
        ({"targets": "?"}, "with a damaged manifest"),
        ({"config": {"family": "formulae"}}, "with a damaged manifest"),
        ({"r2": None}, "with a damaged manifest"),
        ({"r2": [1.0]}, r"with a damaged manifest: r2 must have shape \[12\], got \[1\]"),
        ({"r2": [[1.0] * 12]}, r"r2 must have shape \[12\], got \[1, 12\]"),
        ({"r2": [0.5] * 11 + [float("nan")]}, "r2 must be finite and at most 1"),
        ({"r2": [0.5] * 11 + [float("-inf")]}, "r2 must be finite and at most 1"),
        ({"r2": [0.5] * 11 + [1.1]}, "r2 must be finite and at most 1"),
    ):
        manifest.write_text(whole[0])
        _change(folder, **changes)
        with pytest.raises(ValueError, match=message):
            Zoo.load(folder)
    manifest.unlink()
    with pytest.raises(ValueError, match=r"which has no manifest\.json"):
        Zoo.load(folder)


def test_tasks_are_known_by_their_targets(zoo, tmp_path, monkeypatch):
    """Of the same names, but another formula; what is rounded differently is the same."""
    zoo.save(tmp_path / "zoo")
    tasks = family("formulae", 3)

    def changed(last):
        class Other(Formula):
            name = tasks[1].name

        return lambda *_: (tasks[0], Other(last), tasks[2])

    monkeypatch.setattr(zoo_module, "family", changed(tasks[1].name + " + 1e-9 * x1"))
    assert Zoo.load(tmp_path / "zoo").fingerprint == zoo.fingerprint
    monkeypatch.setattr(zoo_module, "family", changed(tasks[1].name + " + 1e-3 * x1"))
    with pytest.raises(ValueError, match="whose tasks differ: make it again"):
        Zoo.load(tmp_path / "zoo")


def test_batches_of_few_examples():
    """By default 256 examples a step, or all where there are fewer; what is asked for is never changed."""
    assert ZooConfig().training.batch_size == 256
    assert ZooConfig(examples=100).training.batch_size == 100
    with pytest.raises(ValueError, match="batch_size must be at most examples = 100, got 256"):
        ZooConfig(examples=100, batch_size=256)


def interrupted_at(monkeypatch, call):
    """The training of this task, from 1 on, is stopped; how many were begun is the length of the result."""
    train, begun = zoo_training.train, []

    def stops(*arguments, **options):
        begun.append(1)
        if len(begun) == call:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(zoo_training, "train", stops)
    return begun


def test_interrupted_it_goes_on_to_the_same_networks(zoo, tmp_path, monkeypatch):
    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        interrupted_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            make_zoo(SMALL, path, progress=False)
    begun = interrupted_at(monkeypatch, 99)
    again = make_zoo(SMALL, path, progress=False)
    assert len(begun) == 1
    assert again.fingerprint == zoo.fingerprint
    assert torch.equal(again.r2, zoo.r2)
    assert make_zoo(SMALL, path, progress=False).fingerprint == zoo.fingerprint
    assert len(begun) == 1  # all of it is in the checkpoint
    for change, what in (
        ({"seed": 1}, "config.seed 0, not 1"),
        ({"steps": 21}, "config.steps 20, not 21"),
        ({"family": "hard-formulae"}, "config.family formulae, not hard-formulae"),
    ):
        with pytest.raises(ValueError, match=f"same zoo, got .* with {what}"):
            make_zoo(dataclasses.replace(SMALL, **change), path, progress=False)
    path.write_bytes(b"?")
    with pytest.raises(ValueError, match="checkpoint must be a safetensors file"):
        make_zoo(SMALL, path, progress=False)


def test_rows(zoo):
    """Seeds go on from zoo to zoo: the next one begins where this one ends."""
    rows = zoo.rows()
    assert [row["network"] for row in rows] == list(range(12))
    assert [row["task"] for row in rows] == [t.name for t in zoo.tasks for _ in range(4)]
    assert [row["seed"] for row in rows] == list(range(12))
    assert [row["network"] for row in rows if not row["learned"]] == zoo.failed.tolist()
    assert [row["r2"] for row in rows] == pytest.approx(zoo.r2.tolist(), abs=1e-6)
    assert list(dataclasses.replace(SMALL, seed=2).seeds) == list(range(24, 36))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"family": "cubes"}, ValueError, "family must be one of curves, formulae"),
        ({"tasks": 41}, ValueError, "tasks must be at most 40, got 41"),
        ({"tasks": 1}, ValueError, "tasks must be at least 2"),
        ({"networks": 1}, ValueError, "networks must be at least 2"),
        ({"networks": 2.5}, TypeError, "networks must be an integer"),
        ({"networks": "a"}, TypeError, "networks must be an integer, got str"),
        ({"examples": "a"}, TypeError, "examples must be an integer, got str"),
        ({"hidden": (0,)}, ValueError, "hidden must be at least 1, got 0"),
        ({"hidden": ()}, ValueError, "hidden must hold at least one width, got none"),
        ({"hidden": 8}, TypeError, "hidden must hold integers, got int"),
        ({"hidden": "88"}, TypeError, "hidden must hold integers, got str"),
        ({"hidden": (8.0,)}, TypeError, "hidden must be an integer, got float"),
        ({"batch_size": "a"}, TypeError, "batch_size must be an integer, got str"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"learned": "a"}, TypeError, "learned must be a number, got str"),
        ({"learned": None}, TypeError, "learned must be a number, got NoneType"),
        ({"learned": True}, TypeError, "learned must be a number, got bool"),
        ({"batch_size": 2000}, ValueError, "batch_size must be at most examples = 1024"),
        ({"learned": 1.0}, ValueError, r"learned must be in \(0, 1\)"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be positive"),
    ],
)
def test_bad_configurations(values, error, message):
    with pytest.raises(error, match=message):
        ZooConfig(**values)


def test_bad_splits(zoo):
    with pytest.raises(ValueError, match="held_out must be below 4"):
        zoo.split(4, 0)
    with pytest.raises(ValueError, match="held_out must be at least 1"):
        zoo.split(0, 0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Waves(0, 1, 1.0, 1.0), ValueError, "low must be below high, got 1.0 and 1.0"),
        (lambda: Waves(0, low="a"), TypeError, "low must be a number, got str"),
        (lambda: Waves(0, low=-math.inf), ValueError, "low must be finite, got -inf"),
        (lambda: Waves(0, high=math.nan), ValueError, "high must be finite, got nan"),
        (lambda: Waves(0, frequency=0.0), ValueError, "frequency must be positive"),
        (lambda: Waves(0, frequency=math.inf), ValueError, "frequency must be finite, got inf"),
        (lambda: Varied(Formula("x1"), Waves(0, 2), 0.1), ValueError, "task must have 2 inputs"),
        (lambda: Varied(Formula("x1"), Waves(0, 1), 0.0), ValueError, "size must be positive"),
        (lambda: Varied(Formula("x1"), Waves(0, 1), "a"), TypeError, "size must be a number"),
    ],
)
def test_bad_tasks(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- the command ------------------------------------------------------------------------------------

LINE = "--family curves --tasks 2 --networks 3 --hidden 8 --examples 64 --steps 5 --batch-size 32"


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["gradsplinter", "zoo", *LINE.split(), *arguments])
    cli.main()


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch)
    printed = capsys.readouterr().out
    zoo = Zoo.load(tmp_path / "zoo" / "curves")
    assert len(zoo.networks) == 6
    assert len(zoo.failed) > 0
    assert f"{len(zoo.failed)} networks with an R² below 0.9, left in the zoo" in printed
    assert "waves 1" in printed
    assert {path.name for path in (tmp_path / "zoo" / "curves").iterdir()} == {
        *("manifest.json", "networks.safetensors", "networks.csv", "networks.png", "networks.pdf")
    }
    with (tmp_path / "zoo" / "curves" / "networks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["r2"]) for row in rows] == zoo.r2.tolist()
    assert [row["task"] for row in rows] == [t.name for t in zoo.tasks for _ in range(3)]


def test_the_command_goes_on(tmp_path, monkeypatch, capsys):
    out = tmp_path / "zoo"
    run(monkeypatch, "--out", str(tmp_path / "whole"))
    for call, message in ((1, "the results are as they were before"), (2, "goes on from there")):
        with monkeypatch.context() as patch:
            interrupted_at(patch, call)
            with pytest.raises(SystemExit) as stopped:
                run(patch, "--out", str(out))
        assert stopped.value.code == cli.INTERRUPTED
        assert message in " ".join(capsys.readouterr().err.split())
        assert not out.exists()
    with pytest.raises(SystemExit):
        run(monkeypatch, "--out", str(out), "--seed", "1")
    printed = " ".join(capsys.readouterr().err.split())
    assert "error: checkpoint must be of the same zoo" in printed
    assert "remove this file to begin anew)" in printed
    begun = interrupted_at(monkeypatch, 99)
    run(monkeypatch, "--out", str(out))
    assert len(begun) == 1  # of two tasks
    assert Zoo.load(out).fingerprint == Zoo.load(tmp_path / "whole").fingerprint
    assert {path.name for path in tmp_path.iterdir()} == {"zoo", "whole"}


def test_the_command_replaces_nothing_unasked(tmp_path, monkeypatch, capsys):
    out = tmp_path / "zoo"
    run(monkeypatch, "--out", str(out))
    before = Zoo.load(out).fingerprint
    with pytest.raises(SystemExit):
        run(monkeypatch, "--out", str(out), "--seed", "1")
    assert "error: --out must be a new folder" in " ".join(capsys.readouterr().err.split())
    assert Zoo.load(out).fingerprint == before
    run(monkeypatch, "--out", str(out), "--seed", "1", "--overwrite")
    assert Zoo.load(out).fingerprint != before


def test_errors_name_the_option(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--out", str(tmp_path / "zoo"), "--networks", "1")
    assert "error: --networks must be at least 2" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "zoo").exists()
