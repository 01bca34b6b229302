"""Parts of networks: coordinates and directions by hand, and both studies on tiny networks."""

import csv
import dataclasses
import json
import math
import sys

import pytest
import torch

from gradsplinter import ReluNetwork, data
from gradsplinter.cli.parts import EmbedParts
from gradsplinter.embedder import EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.embedding import activations
from gradsplinter.families import SideBySide
from gradsplinter.formula import Formula
from gradsplinter.plot.parts import average_linkage
from gradsplinter.studies import class_parts, parts_judge
from gradsplinter.studies import parts as parts_study
from gradsplinter.studies.class_parts import run_class_parts, same_class
from gradsplinter.studies.class_parts_result import ClassPartsConfig
from gradsplinter.studies.classifiers import train_classifier
from gradsplinter.studies.part_tokens import (
    ZooParts,
    centred,
    mean_gradients,
    parts_by_inputs,
    parts_by_principal_directions,
    principal_directions,
)
from gradsplinter.studies.parts import _directions, run_parts
from gradsplinter.studies.parts_judge import Judge, Near
from gradsplinter.studies.parts_result import METHODS, Part, PartsConfig, tasks_of
from gradsplinter.table import splinter
from gradsplinter.tokens import Tokens, joined, of_splinters, tokens_of
from gradsplinter.train import initialise, train
from gradsplinter.zoo import ZooConfig
from gradsplinter.zoo_training import make_zoo


def uniform(n, inputs, seed=0):
    return torch.rand(n, inputs, generator=torch.Generator().manual_seed(seed))


def side_by_side(nets):
    """One network of which each output is one of these networks of equal widths."""
    return ReluNetwork(
        [
            torch.block_diag(*weights)
            for weights in zip(*(net.weights for net in nets), strict=True)
        ],
        [torch.cat(biases) for biases in zip(*(net.biases for net in nets), strict=True)],
    )


# --- what is looked at ------------------------------------------------------------------------------


def test_the_direction_that_is_read_has_the_length_of_the_output():
    """y = 3 a1 - 2 a2 of a linear rest: v · a is y, so v must not be normalised."""
    net = ReluNetwork(
        [torch.eye(2), torch.eye(2), torch.tensor([[3.0, -2.0]])],
        [torch.zeros(2)] * 2 + [torch.zeros(1)],
    )
    x = uniform(50, 2) + 0.1  # all units are on
    v = mean_gradients(splinter(net, x, 1))
    assert v.tolist() == [[3, -2]]
    torch.testing.assert_close(activations(net, x, 1) @ v.T, net(x))


def test_what_is_read_of_a_linear_rest_is_the_output():
    """All units are on, so the outputs are v · a."""
    weights = [
        torch.eye(4),
        torch.eye(4),
        torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]),
    ]
    net = ReluNetwork(weights, [torch.zeros(4)] * 2 + [torch.zeros(2)])
    rows = list(_directions(SideBySide([Formula("x1 * x2")] * 2), net, uniform(200, 4) + 0.1, 5))
    assert [(row.seed, row.site) for row in rows] == [(5, 1)] * 2
    for row in rows:
        assert (row.slope, row.r2) == (pytest.approx(1), pytest.approx(1))


def test_gradients_that_cancel_are_read_badly():
    """abs(x1 - x2) as relu(x1 - x2) + relu(x2 - x1) after site 1: the mean gradient is about 0."""
    weights = [torch.eye(2), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.tensor([[1.0, 1.0]])]
    net = ReluNetwork(weights, [torch.zeros(2)] * 2 + [torch.zeros(1)])
    x = uniform(1000, 2)
    (row,) = _directions(
        SideBySide([Formula("abs(x1 - x2)")]), net, torch.cat([x, x.flip(1)[:900]]), 0
    )
    assert row.r2 < 0.05


def test_the_mean_gradient_counts_examples():
    """relu(x1) with weight 4: on in one of four examples."""
    net = ReluNetwork([torch.eye(2), torch.tensor([[4.0, 1.0]])], [torch.zeros(2), torch.zeros(1)])
    x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-2.0, 1.0], [-1.0, 3.0]])
    assert mean_gradients(splinter(net, x)).tolist() == [[1, 1]]


def test_principal_directions_whiten_and_have_a_sign():
    a = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 6)
    a[:, 4] = 3 * a[:, 4].exp().clamp(max=50)  # skewed
    scores = centred(
        Tokens((a @ principal_directions(a, 3).T)[None], a[None], torch.full((1, 2000), 1 / 2000))
    )
    found = scores.points[0].double()
    torch.testing.assert_close(found.T @ found / 2000, torch.eye(3).double(), atol=1e-3, rtol=0)
    assert ((found**3).mean(0) >= 0).all()
    flipped = principal_directions(-a, 3)
    torch.testing.assert_close(flipped, -principal_directions(a, 3), atol=1e-5, rtol=1e-3)


def test_centred_by_hand():
    tokens = Tokens(
        torch.tensor([[[1.0], [5.0]]]), torch.zeros(1, 2, 1), torch.tensor([[0.75, 0.25]])
    )
    assert centred(tokens).points.tolist() == [[[-1], [3]]]
    assert centred(tokens, torch.tensor([10.0])).points.tolist() == [[[9], [13]]]


def test_parts_by_inputs_are_those_of_the_networks_side_by_side():
    nets = [initialise([2, 16, 8, 8, 1], seed) for seed in range(3)]
    net, x = side_by_side(nets), uniform(100, 6)
    found = dict(parts_by_inputs(net, x, 2, seed=7, kind="samples"))
    assert len(found) == 3 * 5
    for output, small in enumerate(nets):
        own = x[:, 2 * output : 2 * output + 2].contiguous()
        whole = found[Part(7, output, 0, 4, "inputs")]
        alone = tokens_of([small], own, kind="samples")
        torch.testing.assert_close(whole.points, alone.points)
        torch.testing.assert_close(whole.values, alone.values, atol=1e-6, rtol=1e-4)
        later = splinter(small, own, 2)
        earlier = splinter(small, own, 0, 2, mean_gradients(later))
        expected = of_splinters(earlier, own, kind="samples")
        part = found[Part(7, output, 0, 2, "inputs")]
        torch.testing.assert_close(part.values, expected.values, atol=1e-6, rtol=1e-4)


def test_coordinates_of_a_hidden_site_stand_for_the_inputs_where_they_are_handed_on():
    """Site 1 is twice the inputs, site 2 the same: a later part is the network, in units of the inputs."""
    weights = [
        2 * torch.eye(2),
        torch.tensor([[1.0, 1.0], [1.0, -1.0]]),
        torch.eye(2),
        torch.tensor([[1.0, 3.0]]),
    ]
    net = ReluNetwork(weights, [torch.zeros(2)] * 3 + [torch.zeros(1)])
    x = uniform(200, 2) + 0.1
    found = dict(parts_by_inputs(net, x, 2, seed=0, kind="samples"))
    whole = found[Part(0, 0, 0, 4, "inputs")]
    later = found[Part(0, 0, 1, 4, "inputs")]
    torch.testing.assert_close(later.points, whole.points)
    torch.testing.assert_close(later.values, whole.values)


class Groups:
    def __init__(self, units):
        self.units = units


def test_principal_parts_have_the_units_of_their_task():
    nets = [initialise([2, 8, 8, 1], seed) for seed in (3, 4)]
    net, x = side_by_side(nets), uniform(300, 4)
    groups = {
        site: torch.arange(width).div(width // 2, rounding_mode="floor")
        for site, width in ((0, 4), (1, 16))
    }
    found = dict(parts_by_principal_directions(net, x, 2, Groups(groups), 0, "samples"))
    assert set(found) == {Part(0, output, 1, 3, "principal") for output in (0, 1)}
    zoo = ZooParts(nets[1:], x[:, 2:].contiguous(), "samples")
    (alone,) = zoo.tokens([0], x[:, 2:].contiguous())
    part = found[Part(0, 1, 1, 3, "principal")]
    torch.testing.assert_close(part.points, alone.points, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(part.values, alone.values, atol=1e-5, rtol=1e-3)
    groups[1][:] = 0  # no unit for the second task
    left = dict(parts_by_principal_directions(net, x, 2, Groups(groups), 0, "samples"))
    assert {part.output for part in left} == {0}


def test_names_of_parts():
    names = [Part(0, 0, *sites, "inputs").name(4) for sites in ((0, 1), (0, 4), (2, 4))]
    assert names == ["input → site 1", "input → output", "site 2 → output"]


# --- how it is judged -------------------------------------------------------------------------------


def test_nearness_by_hand():
    """Two networks of three outputs each; tasks 0 (twice) and 1, then 0, 0 and 2; on a line."""
    parts = [Part(seed, output, 0, 3, "inputs") for seed in (0, 1) for output in range(3)]
    labels = torch.tensor([0, 0, 1, 0, 0, 2])
    near = Near(torch.tensor([[0.0], [1.0], [1.4], [0.2], [9.0], [1.1]]), parts, labels)
    first = torch.tensor([True] * 3 + [False] * 3)
    assert near.neighbours(first) == 0.5  # the one of task 1 has no equal elsewhere
    assert near.products(first) == 0.5  # the second is nearer to task 1
    every = torch.ones(6, dtype=torch.bool)
    same = near.distance(torch.tensor([True] + [False] * 5), every, same=True)
    assert same == pytest.approx((0.2 + 9) / 2)
    assert near.distance(torch.tensor([True] + [False] * 5), every, same=False) == pytest.approx(
        1.1
    )
    assert math.isnan(near.neighbours(torch.zeros(6, dtype=torch.bool)))


def test_same_class_by_hand():
    own = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    assert same_class(own, torch.stack([own + 0.1, own.flip(0) + 1])) == 1
    assert same_class(own, own.flip(0)[None]) == 0


def test_tasks_change_from_network_to_network_and_the_first_is_the_product():
    zoo = make_zoo(ZooConfig(tasks=5, networks=2, examples=256, steps=1), progress=False)
    config = PartsConfig(others=3)
    assert tasks_of(config, zoo, 0).tolist() == [0, 0, 0, 1, 2, 3]
    assert tasks_of(config, zoo, 1).tolist() == [0, 0, 0, 4, 1, 2]


def test_average_linkage_by_hand():
    points = torch.tensor([0.0, 10.0, 1.0, 12.0])
    merges, order = average_linkage((points.unsqueeze(1) - points).abs())
    assert merges == [(0, 2, 1.0), (1, 3, 2.0), (4, 5, 10.5)]
    assert order == [0, 2, 1, 3]


# --- all of it --------------------------------------------------------------------------------------

TEACHING = EmbedderTrainingConfig(steps=3, points=32, batch=8, tokens="samples")
TINY = PartsConfig(
    seeds=(0, 1), others=1, hidden=(8, 8), training_examples=256, steps=30, examples=64, teaching=TEACHING
)  # fmt: skip
TINY_CLASSES = ClassPartsConfig(
    seeds=(0, 1), taught=2, architecture="8-8", training_examples=200, epochs=2, directions=3,
    examples=64, teaching=TEACHING,
)  # fmt: skip


@pytest.fixture(scope="module")
def zoo():
    return make_zoo(ZooConfig(tasks=3, networks=3, examples=256, steps=20), progress=False)


@pytest.fixture(scope="module")
def recorded(zoo):
    """The result, and what each embedder was taught with: fingerprints and its seed."""
    train, taught = parts_judge.train_embedder_of, []

    def keeps(look, names, shape, config, **options):
        taught.append((set(names), config.seed))
        return train(look, names, shape, config, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_judge, "train_embedder_of", keeps)
        return run_parts(TINY, zoo, progress=False), taught


def test_the_command(tmp_path, zoo, recorded, capsys):
    zoo.save(tmp_path / "zoo")
    out = tmp_path / "results"
    command = EmbedParts(TINY, TINY_CLASSES, ("digits",), tmp_path / "zoo", out=out, progress=False)
    command.run()
    tables = {
        f"{name}.csv"
        for name in (
            "outputs", "directions", "communities", "parts", "parts-means", "zoo", "classifiers", "classes",
            "classes-means", "classes-pairs", "zoo-means",
        )
    }  # fmt: skip
    figures = {
        f"{name}.{end}"
        for name in ("parts", "parts-map", "classes-digits")
        for end in ("png", "pdf")
    }
    assert {path.name for path in out.iterdir()} == tables | figures | {"config.json"}
    about = json.loads((out / "config.json").read_text())
    assert about["command"] == "embed parts"
    assert about["zoo"]["fingerprint"] == zoo.fingerprint
    with (out / "outputs.csv").open() as file:
        tasks = [row["task"] for row in csv.DictReader(file)]
    assert tasks == ["x1 * x2"] * 3 + [zoo.tasks[1].name] + ["x1 * x2"] * 3 + [zoo.tasks[2].name]
    with (out / "parts.csv").open() as file:
        rows = list(csv.DictReader(file))
    parts = {"input → site 1", "input → output", "site 1 → output"}
    assert {row["part"] for row in rows if row["coordinates"] == "inputs"} == parts
    with (out / "zoo.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file) if row["method"] == "embedder"] == [
            *("0", "1"), *(["0", "1"] if any(row["coordinates"] == "principal" for row in rows) else [])
        ]  # fmt: skip
    with (out / "zoo-means.csv").open() as file:
        assert {row["probe_seeds"] for row in csv.DictReader(file)} == {"2"}
    again, _ = recorded
    for name in ("probe", "neighbours", "within", "between"):
        assert [float(row[name]) for row in rows] == [getattr(row, name) for row in again.rows]
    with (out / "classes-pairs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 45
    printed = capsys.readouterr().out
    assert "2 networks of 4 tasks each" in printed
    assert "digits, 2 networks 8-8 of shuffled labels" in printed


def test_interrupted_it_goes_on_to_the_same_results(tmp_path, zoo, recorded, monkeypatch):
    """It is stopped by the third judge; networks and the first two are kept."""
    made, trained = [], []

    def stops_at(most):
        def judge(*arguments, **options):
            if len(made) == most:
                raise KeyboardInterrupt
            made.append(1)
            return Judge(*arguments, **options)

        return judge

    def trains(*arguments, **options):
        trained.append(1)
        return train(*arguments, **options)

    monkeypatch.setattr(parts_study, "train", trains)
    monkeypatch.setattr(parts_study, "Judge", stops_at(1))
    zoo.save(tmp_path / "zoo")
    out = tmp_path / "results"
    command = EmbedParts(TINY, TINY_CLASSES, (), tmp_path / "zoo", out=out, progress=False)
    with pytest.raises(KeyboardInterrupt):
        command.run()
    kept = tmp_path / "results.checkpoint"
    assert not out.exists()
    assert f"are in {kept}/; the same command goes on from there" in command.after_interrupt()
    monkeypatch.setattr(parts_study, "Judge", stops_at(100))
    result = run_parts(TINY, zoo, checkpoint=kept, progress=False)
    expected, taught = recorded
    assert (len(made), len(trained)) == (len(taught), 1)
    for name in ("outputs", "directions", "communities", "whole", "parts"):
        assert getattr(result, name) == getattr(expected, name)
    for name in ("labels", "embeddings", "zoo_embeddings"):
        assert torch.equal(getattr(result, name), getattr(expected, name))
    assert list(map(repr, result.rows)) == list(map(repr, expected.rows))  # some are nan
    other = dataclasses.replace(TINY, examples=65)
    with pytest.raises(ValueError, match=r"same study, got .* with config.examples 64, not 65"):
        run_parts(other, zoo, checkpoint=kept, progress=False)
    command.run()
    assert (len(made), len(trained)) == (len(taught), 1)
    assert not kept.exists()


def test_class_pathways_go_on_to_the_same_results(tmp_path, monkeypatch):
    """Stopped while the networks are trained, and while the embedder is taught."""
    parts = data.load("digits", "train"), data.load("digits", "test")
    teaching = dataclasses.replace(TEACHING, steps=4, refresh=2)
    config = dataclasses.replace(TINY_CLASSES, teaching=teaching)
    expected = run_class_parts(config, "digits", *parts, progress=False)
    trained, looked = [], []

    def trains(*arguments):
        if len(trained) == 3:
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(1)
        return train_classifier(*arguments)

    def joins(*arguments):
        looked.append(1)
        if len(looked) == 3:  # of the second validation's networks
            raise KeyboardInterrupt
        return joined(*arguments)

    monkeypatch.setattr(class_parts, "train_classifier", trains)
    monkeypatch.setattr(class_parts, "joined", joins)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_class_parts(config, "digits", *parts, checkpoint=tmp_path, progress=False)
    assert len(trained) == 6 + 1  # two that teach, two of each kind
    assert (tmp_path / "digits-embedder.safetensors").exists()
    found = run_class_parts(config, "digits", *parts, checkpoint=tmp_path, progress=False)
    assert len(trained) == 6 + 1
    assert (found.networks, found.rows) == (expected.networks, expected.rows)
    for name in ("distances", "confusion", "embeddings"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    other = dataclasses.replace(config, epochs=3)
    with pytest.raises(ValueError, match=r"same study, got .* with config.epochs 2, not 3"):
        run_class_parts(other, "digits", *parts, checkpoint=tmp_path, progress=False)
    turned = dataclasses.replace(parts[0], x=parts[0].x.flip(0))
    with pytest.raises(ValueError, match=r"same study, got .* with other data"):
        run_class_parts(config, "digits", turned, parts[1], checkpoint=tmp_path, progress=False)


def test_before_there_is_anything_to_keep(tmp_path, zoo, monkeypatch):
    zoo.save(tmp_path / "zoo")
    command = EmbedParts(
        TINY, zoo=tmp_path / "zoo", datasets=(), out=tmp_path / "a", progress=False
    )

    def stops(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(parts_study, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        command.run()
    assert command.after_interrupt() == "the results are as they were before"
    assert {path.name for path in tmp_path.iterdir()} == {"zoo"}


def test_networks_that_are_not_those_that_were_kept(tmp_path, zoo, monkeypatch):
    def stops(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts_study, "Judge", stops)
        with pytest.raises(KeyboardInterrupt):
            run_parts(TINY, zoo, checkpoint=tmp_path, progress=False)
    (tmp_path / "network-1.safetensors").write_bytes(
        (tmp_path / "network-0.safetensors").read_bytes()
    )
    with pytest.raises(
        ValueError, match=r"checkpoint must be as it was written, got .* another network"
    ):
        run_parts(TINY, zoo, checkpoint=tmp_path, progress=False)
    # Without the file, it is trained again, to the same one.
    (tmp_path / "network-1.safetensors").unlink()
    monkeypatch.setattr(parts_study, "Judge", stops)
    with pytest.raises(KeyboardInterrupt):
        run_parts(TINY, zoo, checkpoint=tmp_path, progress=False)
    kept = json.loads((tmp_path / "parts.json").read_text())["parts"]
    found = ReluNetwork.load(tmp_path / "network-1.safetensors")
    assert found.fingerprint == kept["network-1"]


def test_training_fresh_and_looked_at_examples_have_nothing_in_common(zoo, monkeypatch):
    """Not the inputs of one task in one example either, in any of the networks."""
    drawn = []
    sample = SideBySide.sample

    def keeps(task, n, *, generator):
        drawn.append(sample(task, n, generator=generator))
        return drawn[-1]

    def stops(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(SideBySide, "sample", keeps)
    monkeypatch.setattr(parts_study, "Judge", stops)
    with pytest.raises(KeyboardInterrupt):
        run_parts(TINY, zoo, progress=False)
    sizes = [TINY.training_examples, TINY.examples, parts_study.FRESH]
    assert sorted(map(len, drawn)) == sorted(2 * sizes)
    pairs = torch.cat([x.view(-1, 2) for x in drawn])
    assert len(pairs.unique(dim=0)) == len(pairs)


def test_each_network_has_a_judge_that_has_not_seen_what_it_is_tested_on(zoo, recorded):
    """Another split and another embedder for each seed; what is taught are none of the held-out networks."""
    result, taught = recorded
    every = {net.fingerprint for net in zoo.networks}
    seeds = [row.seed for row in result.whole if row.method == "embedder"]
    assert [seed for _, seed in taught] == seeds
    assert set(seeds) == {0, 1}
    for names, seed in taught:
        training, held_out = (
            {zoo.networks[i].fingerprint for i in part.tolist()} for part in zoo.split(1, seed)
        )
        assert names == training
        assert not names & held_out
        assert names | held_out == every
    assert taught[0][0] != taught[1][0]
    for seed in (0, 1):
        assert {row.method for row in result.rows if row.seed == seed} == set(METHODS)


def test_what_the_judge_shows_are_its_training_networks(zoo, monkeypatch):
    seen = []
    tokens_of_ = parts_judge.tokens_of

    def looks(nets, *arguments, **options):
        seen.append({net.fingerprint for net in nets})
        return tokens_of_(nets, *arguments, **options)

    monkeypatch.setattr(parts_judge, "tokens_of", looks)
    judge = Judge(TINY, zoo, "inputs", 1, None, progress=False)
    held_out = {zoo.networks[i].fingerprint for i in judge.test.tolist()}
    assert len(seen) == 3  # for the validation, for the training, and then all, to be judged
    assert not any(held_out & some for some in seen[:2])
    assert held_out <= seen[2]


def test_what_is_missing_is_said_before_anything_is_trained(zoo, tmp_path, monkeypatch):
    for name in ("make_zoo", "run_parts"):
        monkeypatch.setattr(f"gradsplinter.cli.parts.{name}", None)
    zoo.save(tmp_path / "zoo")
    command = EmbedParts(TINY, TINY_CLASSES, ("none",), tmp_path / "zoo", out=tmp_path / "out")
    with pytest.raises(ValueError, match="name must be"):
        command.run()
    few = dataclasses.replace(TINY, others=3)
    with pytest.raises(ValueError, match="zoo must have more tasks than others = 3, got 3"):
        dataclasses.replace(command, config=few).run()
    with pytest.raises(ValueError, match="must have more tasks than others = 10, got 10"):
        dataclasses.replace(command, zoo=None, config=dataclasses.replace(TINY, others=10)).run()
    with pytest.raises(ValueError, match="folder must hold a zoo, got"):
        dataclasses.replace(command, zoo=tmp_path).run()
    with pytest.raises(ValueError, match="device must be cpu, cuda or cuda:INDEX, got tpu"):
        dataclasses.replace(command, device="tpu").run()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for run in (command.run, lambda: run_parts(TINY, zoo, progress=False)):
        with pytest.raises(ImportError, match="cluster"):
            run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: PartsConfig(teaching=dataclasses.replace(TEACHING, seed=3)),
            ValueError,
            "teaching.seed must be left out, since seeds has them, got 3",
        ),
        (lambda: PartsConfig(seeds=(0,)), ValueError, "seeds must hold at least two values, got 1"),
        (lambda: PartsConfig(seeds=(0, 0)), ValueError, "seeds must be different"),
        (lambda: PartsConfig(hidden=(8,)), ValueError, "hidden must hold at least two values"),
        (lambda: PartsConfig(others=0), ValueError, "others must be at least 1, got 0"),
        (lambda: PartsConfig(examples=10), ValueError, "examples must be at least 64, got 10"),
        (lambda: PartsConfig(learned=1.0), ValueError, "learned must be below 1, got 1.0"),
        (lambda: PartsConfig(learned=-math.inf), ValueError, "learned must be finite, got -inf"),
        (lambda: PartsConfig(learned="a"), TypeError, "learned must be a number, got str"),
        (lambda: PartsConfig(hidden=8), TypeError, "hidden must hold integers, got int"),
        (lambda: PartsConfig(hidden="88"), TypeError, "hidden must hold integers, got str"),
        (lambda: PartsConfig(hidden=(8, 0)), ValueError, "hidden must be at least 1, got 0"),
        (lambda: PartsConfig(seeds=8), TypeError, "seeds must hold integers, got int"),
        (lambda: PartsConfig(seeds=()), ValueError, "seeds must hold at least one value, got none"),
        (lambda: ClassPartsConfig(seeds=8), TypeError, "seeds must hold integers, got int"),
        (lambda: ClassPartsConfig(seeds=(3,)), ValueError, "seeds must hold at least two values"),
        (lambda: ClassPartsConfig(seeds=(0, 100_000)), ValueError, "seeds must be below 100,000"),
        (lambda: ClassPartsConfig(architecture="conv"), ValueError, "widths of hidden layers"),
        (
            lambda: PartsConfig(shape=EmbedderConfig(inputs=5)),
            ValueError,
            "shape.inputs must be 2, as of a task, got 5",
        ),
        (
            lambda: ClassPartsConfig(shape=EmbedderConfig(inputs=5)),
            ValueError,
            "shape.inputs must be 8, as directions, got 5",
        ),
        (lambda: ClassPartsConfig(architecture=5), TypeError, "architecture must be a string, got"),
        (lambda: ClassPartsConfig(directions=0), ValueError, "directions must be at least 1"),
        (lambda: EmbedParts(zoo_networks=1), ValueError, "zoo_networks must be at least 2, got 1"),
    ],
)  # fmt: skip
def test_bad_configurations(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ZooConfig("formulae-4d", tasks=3, networks=2),
            "tasks of 2 inputs, got formulae-4d with 4",
        ),
        (ZooConfig(tasks=3, networks=2, hidden=(8,)), "networks of at least 2 hidden layers"),
        (ZooConfig(tasks=2, networks=2), "more tasks than others = 2, got 2"),
    ],
)
def test_zoos_that_do_not_fit(config, message):
    small = dataclasses.replace(config, examples=256, steps=1)
    with pytest.raises(ValueError, match=message):
        run_parts(dataclasses.replace(TINY, others=2), make_zoo(small, progress=False))
