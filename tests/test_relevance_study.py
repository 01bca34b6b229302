"""The study of relevance: what is measured, by hand; rows, figures, the command, bad configurations."""

import csv
import dataclasses
import json
import math
import sys

import pytest
import torch

from gradsplinter import cli, data, splinter
from gradsplinter.plot.relevance import figures
from gradsplinter.regions import float64_network
from gradsplinter.relevance import lrp_alpha_beta
from gradsplinter.studies.classifiers import ClassifierConfig, train_classifier
from gradsplinter.studies.heat_maps import (
    INPUT,
    PRODUCT,
    Explained,
    chance_of_neighbours,
    clusters_within,
    group_means,
    pairs_of,
    share_explained,
    shared_neighbours,
    shuffled_within,
)
from gradsplinter.studies.relevance import RelevanceConfig, run_relevance
from gradsplinter.studies.statistics import rank_correlation

F64 = torch.float64
TINY = RelevanceConfig(
    dataset="digits", architecture="12-12", epochs=15, seeds=(0, 3), examples=150,
    epsilons=(0.0, 1e-6, 0.1), angles=(5.0, 30.0, 180.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return data.load("digits"), data.load("digits", "test")


@pytest.fixture(scope="module")
def result(digits):
    return run_relevance(TINY, *digits, progress=False)


def seen(gradients, x, chosen, bits=None):
    gradients, x = torch.tensor(gradients, dtype=F64), torch.tensor(x, dtype=F64)
    bits = torch.zeros(len(x), 1) if bits is None else torch.tensor(bits)
    maps = {PRODUCT: gradients * x, INPUT: x}
    return Explained(x, torch.tensor(chosen), gradients, bits > 0, maps)


def test_shares_by_hand():
    """Heat maps (2, 0), (4, 0) in class 0 and (0, 1), (0, 3), (0, 5) in class 1: variance 2 + 8."""
    made = seen([[2, 0], [2, 0], [0, 1], [0, 1], [0, 5]], [[1, 9], [2, 9], [9, 1], [9, 3], [9, 1]],
                [0, 0, 1, 1, 1])  # fmt: skip
    of_class = share_explained(made, made.chosen)
    # The mean gradient of class 1 is 7 / 3: off by 4 / 3, 4 and 8 / 3.
    assert of_class.by_gradient == pytest.approx(1 - (16 / 9 + 16 + 64 / 9) / 10)
    assert of_class.by_map == pytest.approx(0)
    of_groups = share_explained(made, torch.tensor([0, 0, 1, 1, 2]))
    assert of_groups.by_gradient == pytest.approx(1)
    assert of_groups.by_map == pytest.approx(1 - (2 + 2) / 10)


def test_groups_by_hand():
    values = torch.tensor([[1.0], [3.0], [10.0]])
    assert group_means(values, torch.tensor([2, 2, 0])).flatten().tolist() == [2, 2, 10]
    angles = torch.tensor([0.0, 4, 40, 0, 2]).deg2rad()
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    chosen = torch.tensor([1, 1, 1, 0, 1])
    assert clusters_within(vectors, chosen, 10.0).tolist() == [0, 0, 1, 2, 0]
    groups = torch.tensor([0, 0, 1, 1, 2, 3, 3, 3])
    chosen = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    shuffled = shuffled_within(groups, chosen, torch.Generator().manual_seed(1))
    assert shuffled[:5].sort().values.tolist() == [0, 0, 1, 1, 2]
    assert shuffled[5:].tolist() == [3, 3, 3]
    assert shuffled.tolist() != groups.tolist()


def test_pairs_by_hand():
    made = seen([[1, 0], [0, 1], [1, 1], [1, 0]], [[1, 1], [1, 1], [2, 0], [5, 0]], [0, 0, 0, 1],
                [[0, 1], [1, 1], [1, 0], [0, 0]])  # fmt: skip
    found = pairs_of(made, PRODUCT)
    assert found.index.tolist() == [[0, 1], [0, 2], [1, 2]]
    half = 0.5**0.5
    torch.testing.assert_close(found.maps, torch.tensor([0.0, 1, 0], dtype=F64))
    torch.testing.assert_close(found.gradients, torch.tensor([0.0, half, half], dtype=F64))
    torch.testing.assert_close(found.inputs, torch.tensor([1.0, half, half], dtype=F64))
    assert found.units.tolist() == [0.5, 1, 0.5]
    assert found.alike(found.maps).tolist() == [1]


def test_pairs_are_compared_within_classes():
    """Class 0 rises and class 1 falls, though all together rise."""
    a = torch.tensor([1.0, 2, 3, 4, 10, 11, 12])
    b = torch.tensor([1.0, 2, 3, 4, 12, 11, 10])
    made = pairs_of(seen([[1.0]] * 4, [[1.0]] * 4, [0] * 4), PRODUCT)
    found = dataclasses.replace(made, classes=torch.tensor([0, 0, 0, 0, 1, 1, 1]))
    assert rank_correlation(a, b) > 0.7
    assert found.rank_correlation(a, b) == pytest.approx((4 * 1 - 3 * 1) / 7)
    constant = torch.tensor([5.0, 5, 5, 5, 1, 2, 3])  # in class 0 there is nothing to correlate
    assert found.rank_correlation(a, constant) == pytest.approx(1)
    assert math.isnan(found.rank_correlation(a, torch.zeros(7)))
    # Of class 0 two of 200 pairs, of class 1 at least one.
    cosines = torch.linspace(0, 1, 250)
    classes = torch.tensor([0] * 200 + [1] * 50)
    some = dataclasses.replace(found, classes=classes)
    assert some.alike(cosines).tolist() == [199, 198, 249]


def test_neighbours_by_hand():
    angles = torch.linspace(0, 60, 21, dtype=F64).deg2rad()
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    chosen = torch.zeros(21, dtype=torch.int64)
    assert shared_neighbours(vectors, 7 * vectors, chosen) == 1
    assert chance_of_neighbours(chosen) == pytest.approx(10 / 20)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    assert shared_neighbours(vectors, vectors[order], chosen) == pytest.approx(0.5, abs=0.15)
    # Examples of another class are no neighbours, however near they are; of the class the farthest are.
    a, b = torch.randn(2, 36, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(3).repeat(12)

    def nearest(rows, n):
        others = [m for m in range(36) if m != n and labels[m] == labels[n]]
        by = {m: float(rows[n] @ rows[m] / rows[m].norm()) for m in others}
        return set(sorted(others, key=lambda m: -by[m])[:10])

    expected = sum(len(nearest(a, n) & nearest(b, n)) for n in range(36)) / 360
    assert 0.8 < expected < 0.99
    assert shared_neighbours(a, b, labels) == pytest.approx(expected)
    few = torch.tensor([0] * 15 + [1] * 6)  # a class of six has no ten others
    assert chance_of_neighbours(few) == pytest.approx(10 / 14)


def test_rows(result):
    rules = [PRODUCT, "ε = 0", "ε = 1e-06", "ε = 0.1", "α = 1, β = 0", "α = 2, β = 1"]
    assert [row.rule for row in result.rules] == 2 * rules
    assert [row.rule for row in result.pairs] == 2 * [*rules, INPUT]
    for row in result.networks:
        assert row.identity < 1e-12
        assert row.accuracy > 0.5
        assert 1 < row.modes <= row.examples == 150
        assert 0 < row.unseen < 1
    for row in result.rules:
        if row.rule in (PRODUCT, "ε = 0"):
            assert row.difference < 1e-12
        if row.rule == "ε = 1e-06":
            assert 1e-9 < row.difference < 1e-2
        if row.rule.startswith("α"):
            assert row.difference > 0.3
        assert row.cosine <= 1 + 1e-12
    for row in result.pairs:
        assert -1 <= row.with_gradients <= 1
        assert row.units_alike <= row.units
        if row.rule == INPUT:
            assert row.with_inputs == pytest.approx(1)
            assert row.neighbours_by_inputs == 1
    assert [row.site for row in result.sites] == 2 * [0, 1, 2]


def test_groups_that_are_finer_explain_more(result):
    for seed in TINY.seeds:
        rows = {(r.way, r.angle): r for r in result.groups if r.seed == seed}
        assert rows["class and mode", 0].by_gradient == pytest.approx(1)
        assert rows["class", 0].by_map == pytest.approx(0)
        assert rows["class", 0].by_gradient == rows["class", 0].chance_by_gradient
        widest, middle, finest = (rows["clusters", angle] for angle in (180, 30, 5))
        assert widest.groups == rows["class", 0].groups
        assert widest.by_gradient == pytest.approx(rows["class", 0].by_gradient)
        assert widest.groups < middle.groups < finest.groups
        assert middle.by_gradient < finest.by_gradient
        assert middle.by_map < finest.by_map
        assert middle.by_gradient > middle.chance_by_gradient


def test_the_explained_examples_are_of_the_first_network(result, digits):
    module = train_classifier(ClassifierConfig("12-12", 15), digits[0], 0)
    net, (made,) = float64_network(module), result.explained
    x = digits[1].x[:150].double()
    assert torch.equal(made.x, x)
    assert torch.equal(made.chosen, net(x).argmax(dim=1))
    s, rows = splinter(net, x), torch.arange(150)
    used = (x != 0).any(dim=0)
    assert 0 < (~used).sum() < 20
    assert torch.equal(made.gradients, s.jacobian()[s.ids, made.chosen] * used)
    squares = s.jacobian()[s.ids, made.chosen][:, used].square()
    row = result.networks[0]
    assert row.zeros == pytest.approx(float((x[:, used] == 0).double().mean()))
    assert row.unseen == pytest.approx(float(squares[x[:, used] == 0].sum() / squares.sum()))
    z = x @ net.weights[0].T + net.biases[0]
    assert torch.equal(made.bits[:, :12], z > 0)
    expected = lrp_alpha_beta(net, x, 2.0, 1.0)[rows, made.chosen]
    torch.testing.assert_close(made.maps["α = 2, β = 1"], expected)
    opposed = [row.opposed for row in result.sites if (row.seed, row.site) == (0, 0)]
    first, second = net(x).topk(2, dim=1).indices.T
    products = (s.jacobian()[s.ids, first] * s.jacobian()[s.ids, second]).sum(dim=1)
    assert opposed == [pytest.approx(float((products < 0).double().mean()))]


def test_the_same_again(result, digits):
    again = run_relevance(dataclasses.replace(TINY, seeds=(3,)), *digits, progress=False)
    for name in ("networks", "rules", "groups", "pairs", "sites"):
        assert getattr(again, name) == [row for row in getattr(result, name) if row.seed == 3]


def test_figures_are_drawn(result):
    drawn = figures(result)
    assert set(drawn) == {"rules", "groups", "pairs", "maps", "alike"}
    for figure in drawn.values():
        figure.canvas.draw()
    assert [ax.get_title(loc="left") for ax in drawn["maps"].axes[:3]] == [
        INPUT,
        "gradient",
        PRODUCT,
    ]
    assert len(drawn["maps"].axes) == 5 * 6 + 1
    by_map, by_gradient = drawn["alike"].axes[4:12:6]
    assert by_map.get_title(loc="left").startswith("heat maps: cosine ")
    assert float(by_map.get_title(loc="left")[-4:]) > float(by_gradient.get_title(loc="left")[-4:])
    assert set(figures(dataclasses.replace(result, image_shape=None))) == {
        "rules",
        "groups",
        "pairs",
    }


@pytest.mark.parametrize("name", ["maps", "alike"])
def test_heat_maps_have_a_key_and_are_blue_where_positive(result, name):
    *pictures, key = figures(result)[name].axes
    assert key.get_xlabel() == "gradients and heat maps: entry / largest of its picture"
    signed = [ax.images[0] for ax in pictures if ax.images[0].get_array().min() < 0]
    assert signed
    for image in signed:
        low, high = image.get_clim()
        assert low == -high
        red, _, blue, _ = image.get_cmap()(image.norm(high))
        assert blue > red


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gradsplinter", "relevance", *arguments])
    cli.main()


COMMAND = [
    *("--dataset", "iris", "--architecture", "8", "--epochs", "40", "--seeds", "0", "1"),
    *("--epsilons", "0.01", "--angles", "20"),
]


def test_the_command(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run(monkeypatch, *COMMAND, "--out", str(out))
    tables = {f"{name}.csv" for name in ("networks", "rules", "groups", "pairs", "sites")}
    drawn = {f"{n}.{end}" for n in ("rules", "groups", "pairs") for end in ("png", "pdf")}
    assert {path.name for path in out.iterdir()} == {"config.json", *tables, *drawn}
    about = json.loads((out / "config.json").read_text())
    assert about["config"]["dataset"] == "iris"
    assert about["data"] == {"source": "scikit-learn", "train": 120, "test": 30}
    with (out / "rules.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    printed = capsys.readouterr().out
    assert "Means ± standard deviations over 2 networks" in printed
    mean = sum(float(row["cosine"]) for row in rows if row["rule"] == "ε = 0.01") / 2
    assert f"{mean:.3f} ± " in printed
    with pytest.raises(SystemExit):
        run(monkeypatch, *COMMAND, "--out", str(out))
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0", "0"], "error: --seeds must be different, got 0, 0"),
        (["--dataset", "cifar"], "error: --dataset must be one of mnist, fashion-mnist, digits, iris, got 'cifar'"),
        (["--architecture", "conv"], "error: --architecture must be widths of hidden layers"),
        (["--alphas", "0.5"], "error: --alphas must be at least 1 and finite, got 0.5"),
    ],
)  # fmt: skip
def test_bad_commands(arguments, message, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments, "--out", str(tmp_path / "out"))
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *COMMAND, "--out", str(tmp_path / "out"))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: the extra `data` is missing for the data set iris")
    assert "pip install '.[data]'" in message


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradsplinter.studies.relevance.train_classifier", stop)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *COMMAND, "--out", str(tmp_path / "out"))
    assert stopped.value.code == 130
    assert "interrupted; the results are as they were before" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "conv"}, "^architecture must be widths of hidden layers, .* got 'conv'"),
        ({"epochs": 0}, "^epochs must be at least 1, got 0"),
        ({"seeds": ()}, "^seeds must hold at least one value, got none"),
        ({"seeds": (-1,)}, "^seeds must be at least 0, got -1"),
        ({"examples": 1}, "^examples must be at least 2, got 1"),
        ({"examples": 5001}, "^examples must be at most 5,000, got 5,001"),
        ({"epsilons": (-0.1,)}, "^epsilons must be at least 0 and finite, got -0.1"),
        ({"epsilons": (math.inf,)}, "^epsilons must be at least 0 and finite, got inf"),
        ({"alphas": (0.5,)}, "^alphas must be at least 1 and finite, got 0.5"),
        ({"angles": (0.0,)}, r"^angles must be in \(0, 180\], got 0"),
    ],
)  # fmt: skip
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)
