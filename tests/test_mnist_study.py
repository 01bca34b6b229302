"""The MNIST study: networks and their nulls, tables, figures and command; what does not fit."""

import csv
import dataclasses
import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from gradsplinter import cli, data
from gradsplinter.data import Dataset
from gradsplinter.plot.mnist import clusters, figures
from gradsplinter.studies.gradient_clusters import Kind
from gradsplinter.studies.mnist import run_mnist
from gradsplinter.studies.mnist_config import MnistConfig, checkpoint_steps
from gradsplinter.studies.mnist_rows import (
    architecture_rows,
    class_rows,
    network_rows,
    pair_rows,
    training_rows,
)
from gradsplinter.studies.mnist_tables import (
    MEASURES,
    cluster_rows,
    compare,
    comparisons,
    site_rows,
)

TINY = MnistConfig(
    ("digits", "iris"), ("24-16", "linear", "conv"), (0, 1, 2), examples=150, steps=400, checkpoints=3,
    angles=(20.0, 40.0, 60.0), page_examples=40,
)  # fmt: skip


def both_parts(*names):
    return {name: (data.load(name), data.load(name, "test")) for name in names}


@pytest.fixture(scope="module")
def result():
    return run_mnist(TINY, both_parts("digits", "iris"), progress=False)


@pytest.mark.parametrize(("last", "count"), [(800, 10), (5, 10), (1, 2), (100, 2)])
def test_checkpoints_go_from_the_first_step_to_the_last(last, count):
    steps = checkpoint_steps(last, count)
    assert (steps[0], steps[-1]) == (0, last)
    assert steps == sorted(set(steps))
    assert count // 2 < len(steps) <= count


def test_networks_of_every_kind(result):
    assert result.left_out == [("digits", "conv")]
    settings = [("digits", "24-16"), ("digits", "linear"), ("iris", "24-16")]
    found = [(n.dataset, n.architecture, n.seed, n.kind) for n in result.networks]
    assert found == [
        (*setting, seed, kind) for setting in settings for seed in TINY.seeds
        for kind in ("trained", "untrained", "shuffled")
    ]  # fmt: skip
    for n in result.networks:
        assert n.examples == (150 if n.dataset == "digits" else 30)
        modes = [at.modes for _, at in sorted(n.sites.items())]
        assert modes == sorted(modes, reverse=True)
        assert modes[-1] == 1  # nothing switches after the last hidden site
        for at in n.sites.values():
            assert all(1 <= unique <= at.modes for unique in at.unique)
        assert (n.communities is None) == (n.architecture == "linear") == (not n.clusters)
        if n.kind == "trained":
            assert n.accuracy > 0.8
        if n.kind == "shuffled" and n.dataset == "digits":
            assert n.accuracy < 0.4


def test_training_goes_from_the_untrained_network_to_the_trained_one(result):
    for kind, which in (("untrained", 0), ("trained", -1)):
        for n in (n for n in result.networks if n.kind == kind):
            own = [
                c for c in result.training
                if (c.dataset, c.architecture, c.seed) == (n.dataset, n.architecture, n.seed)
            ]  # fmt: skip
            assert len(own) == TINY.checkpoints
            assert own[which].accuracy == n.accuracy
            for site, at in n.sites.items():
                assert torch.equal(own[which].sites[site].maps.centred, at.maps.centred)
                assert own[which].sites[site].unique == at.unique
    for row in training_rows(result):
        if row.step == max(c.step for c in result.training if c.dataset == row.dataset):
            assert row.to_final == (None if row.dataset == "iris" else pytest.approx(1))


def test_trained_networks_agree_and_their_nulls_do_not(result):
    rows = [
        row for row in site_rows(result) if (row.dataset, row.architecture) == ("digits", "24-16")
    ]
    assert len(rows) == 3 * 3 * 3
    for row in rows:
        assert row.unique <= row.modes
        assert row.compression == pytest.approx(row.examples / row.modes)
        if row.kind == "trained":
            assert row.agreement > 0.4
            assert row.likeness > 0.4
    for kind in ("untrained", "shuffled"):
        assert sum(row.agreement for row in rows if row.kind == kind) / 9 < 0.3
    for row in site_rows(result):
        if row.dataset == "iris":  # with three pairs of classes
            assert (row.agreement, row.likeness, row.confusions, row.beyond) == (None,) * 4


def test_comparisons_are_of_the_rows(result):
    rows = site_rows(result)
    found = comparisons(result)
    keys = [(c.dataset, c.architecture, c.site, c.measure) for c in found]
    assert len(set(keys)) == len(keys)
    assert {c.measure for c in found} >= {*MEASURES, "median_angle", "ratio_40", "cloud_in_dense"}
    (one,) = [c for c in found if keys[found.index(c)] == ("digits", "24-16", 1, "spread")]
    of = {
        kind: torch.tensor([
            row.spread for row in rows
            if (row.dataset, row.architecture, row.site, row.kind) == ("digits", "24-16", 1, kind)
        ])
        for kind in ("trained", "untrained", "shuffled")
    }  # fmt: skip
    assert one.shuffled == pytest.approx(of["shuffled"].mean().item())
    difference = of["trained"] - of["untrained"]
    error = difference.std().item() / math.sqrt(3)
    assert one.from_untrained == pytest.approx(difference.mean().item() / error, rel=1e-4)
    (equal,) = [c for c in found if keys[found.index(c)] == ("digits", "24-16", 2, "modes")]
    assert (equal.trained, equal.trained_error, equal.from_untrained) == (1, 0, None)


def test_the_other_tables(result):
    assert len(network_rows(result)) == len(result.networks)
    assert len(cluster_rows(result)) == sum(n.architecture != "linear" for n in result.networks)
    classes = class_rows(result)
    assert len(classes) == 9 * 10 * 3 + 9 * 10 * 1 + 9 * 3 * 3
    of_pairs = pair_rows(result)
    assert len(of_pairs) == 45 * 3 + 45 + 3 * 3
    for row in of_pairs:
        assert row.confusions >= 0
        assert max(map(abs, (row.cosine, row.centred, row.likeness))) <= 1
    between = architecture_rows(result)
    assert [(r.dataset, r.kind, r.a, r.b) for r in between] == [
        ("digits", kind, *nets) for nets in (("24-16", "linear"), ("linear", "24-16"))
        for kind in ("trained", "untrained", "shuffled")
    ]  # fmt: skip


def test_the_same_again(result):
    config = dataclasses.replace(TINY, datasets=("digits",), architectures=("24-16",), seeds=(0,))
    again = run_mnist(config, both_parts("digits"), progress=False)
    first = [
        n for n in result.networks if (n.dataset, n.architecture, n.seed) == ("digits", "24-16", 0)
    ]
    for a, b in zip(first, again.networks, strict=True):
        assert (a.accuracy, a.clusters, a.clouds) == (b.accuracy, b.clusters, b.clouds)
        for site, at in a.sites.items():
            assert torch.equal(at.maps.cosines, b.sites[site].maps.cosines)


def test_one_seed_has_no_errors():
    config = dataclasses.replace(
        TINY, datasets=("iris",), architectures=("8",), seeds=(4,), steps=5
    )
    found = run_mnist(config, both_parts("iris"), progress=False)
    for one in comparisons(found):
        assert (one.trained_error, one.from_untrained, one.from_shuffled) == (None,) * 3


def test_two_seeds_have_errors_and_no_differences_in_errors():
    """Which would be large by chance."""
    values = {"trained": [1.0, 1.1], "untrained": [0.0, 0.1001], "shuffled": [0.0, 0.1]}
    found = compare("d", "8", 0, "modes", values)
    assert found.trained_error == pytest.approx(0.05)
    assert (found.from_untrained, found.from_shuffled) == (None, None)


def test_a_convolutional_network():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.rand(60, 100, generator=generator) + torch.eye(3, 100)[y]
    parts = [Dataset(x[i::2], y[i::2], ("a", "b", "c"), (10, 10), "here") for i in range(2)]
    config = MnistConfig(("made",), ("conv",), (0,), conv_examples=9, steps=3)
    found = run_mnist(config, {"made": tuple(parts)}, progress=False)
    for n in found.networks:
        assert n.examples == 9
        assert len(n.sites) == 6
        # Windows of pooling do not overlap: each hands its gradient to one place.
        pooled, before = n.sites[2].maps, n.sites[1].maps
        torch.testing.assert_close(pooled.cosines, before.cosines, rtol=0, atol=1e-6)
    assert found.training == []
    assert found.shown == {}
    assert set(figures(found)) == {"maps-made-conv", "pairs-made-conv"}


@pytest.fixture(scope="module")
def drawn(result):
    found = figures(result)
    for figure in found.values():
        figure.canvas.draw()
    return found


def test_figures_are_drawn(result, drawn):
    settings = [("digits", "24-16"), ("digits", "linear"), ("iris", "24-16")]
    assert set(drawn) == {
        "clusters-digits",
        *(
            f"{kind}-{name}-{net}"
            for kind in ("maps", "pairs", "training")
            for name, net in settings
        ),
    }
    sites = len(result.networks[0].sites)
    assert len(drawn["maps-digits-24-16"].axes) == 3 * (sites + 1) + 1


def test_a_cluster_is_drawn_with_examples_of_it():
    x = torch.arange(6.0).unsqueeze(1).expand(6, 4) / 5
    ones = torch.ones(4)
    kinds = [Kind(0, ones, ones / 2, torch.tensor([1, 3, 4, 5]), 0.6)]
    kinds.append(Kind(0, ones, ones / 3, torch.tensor([2]), 0.2))
    of_one = data.Dataset(x, torch.zeros(6, dtype=torch.int64), ("a",), (2, 2), "here")
    shown = SimpleNamespace(kinds=kinds)
    drawn = clusters(SimpleNamespace(sets={"d": (of_one, of_one)}, shown={"d": shown}), "d")
    pictures = [[float(i.get_array()[0, 0]) for i in ax.images] for ax in drawn.axes]
    first, second = pictures[1:7], pictures[7:13]
    assert [len(ax) for ax in (*first, *second)] == [1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0]
    assert [value for ax in first for value in ax] == pytest.approx([1, 0.5, 0.2, 0.6, 0.8])
    assert [value for ax in second for value in ax] == pytest.approx([1, 1 / 3, 0.4])


def test_names_of_pairs_are_not_on_each_other_nor_the_legend_on_dots(drawn):
    figure = drawn["pairs-digits-24-16"]
    legend = figure.legends[0].get_window_extent()
    for ax in figure.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        assert 2 <= len(boxes) <= 4
        for i, box in enumerate(boxes):
            assert not box.count_overlaps(boxes[:i])
            assert ax.bbox.x0 <= box.x0
            assert box.x1 <= ax.bbox.x1 + 1
        assert legend.y1 <= ax.bbox.y0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ()}, "^datasets must hold at least one value, got none"),
        ({"seeds": (1, 1)}, "^seeds must be different, got 1, 1"),
        ({"seeds": (-1,)}, "^seeds must be at least 0, got -1"),
        ({"architectures": ("64-x",)}, "^architecture must be widths of hidden layers"),
        ({"checkpoints": 1}, "^checkpoints must be at least 2, got 1"),
        ({"steps": 0}, "^steps must be at least 1, got 0"),
        ({"angles": (91.0,)}, r"^angles must be in \(0, 90\], got 91"),
        ({"learning_rate": 0.0}, "^learning_rate must be positive, got 0"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def test_bad_data():
    digits = both_parts("digits")
    config = dataclasses.replace(TINY, datasets=("digits",))
    with pytest.raises(ValueError, match=r"^sets must hold digits, got none"):
        run_mnist(config, {}, progress=False)
    with pytest.raises(
        ValueError, match=r"^architectures must have one that fits digits, got conv"
    ):
        run_mnist(dataclasses.replace(config, architectures=("conv",)), digits, progress=False)
    with pytest.raises(ValueError, match=r"^data must have examples of every class, got none of"):
        run_mnist(dataclasses.replace(config, training_examples=5), digits, progress=False)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gradsplinter", "mnist", *arguments])
    cli.main()


SHORT = [
    *("--datasets", "digits", "iris", "--architectures", "12", "conv", "--seeds", "0", "1"),
    *(
        "--steps",
        "20",
        "--checkpoints",
        "2",
        "--examples",
        "60",
        "--page-examples",
        "20",
        "--out",
        "m",
    ),
]


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(  # the others are drawn in `drawn`
        "gradsplinter.plot.mnist.figures",
        lambda result: {n: figure for n, figure in figures(result).items() if "digits-12" not in n},
    )
    run(monkeypatch, *SHORT)
    tables = ("networks", "sites", "classes", "pairs", "clusters", "training")
    drawn = [f"{kind}-iris-12" for kind in ("maps", "pairs", "training")]
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "config.json", "graph-digits.html", "graph-iris.html",
        *(f"{name}.csv" for name in (*tables, "comparisons")),
        *(f"{name}.{end}" for name in (*drawn, "clusters-digits") for end in ("png", "pdf")),
    }  # fmt: skip
    with (tmp_path / "m" / "sites.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 3 * 2 * 2
    about = json.loads((tmp_path / "m" / "config.json").read_text())
    assert about["config"]["architectures"] == ["12", "conv"]
    assert about["sources"] == {"digits": "scikit-learn", "iris": "scikit-learn"}
    page = (tmp_path / "m" / "graph-digits.html").read_text("utf-8")
    assert '"image":[8,8]' in page
    printed = " ".join(capsys.readouterr().out.split())
    assert "conv does not fit digits, and was left out" in printed
    assert "of 4 trained" in printed
    assert "Written to m/ in" in printed
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *SHORT)
    assert stopped.value.code == 2
    assert "--out must be a new folder" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--datasets letters", "--datasets must be one of mnist, fashion-mnist, digits, iris"),
        ("--datasets digits --architectures 0", "--architectures must be widths of hidden layers"),
        (
            "--datasets digits --architectures conv",
            "--architectures must have one that fits digits",
        ),
        (
            "--datasets digits --training-examples 4",
            "--training-examples must have examples of every",
        ),
        ("--datasets mnist", "mnist must be provided, in a folder"),
    ],
)
def test_bad_commands_are_one_line_and_leave_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(data.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(
        data, "_downloaded", lambda *_: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments.split(), "--out", "m")
    assert stopped.value.code == 2
    assert f"error: {message}" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_said(tmp_path, monkeypatch, capsys):
    def missing(*_):
        raise ImportError("the extra `data` is missing")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load", missing)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "--datasets", "digits", "--out", "m")
    assert stopped.value.code == 2
    assert "--datasets must be ones that can be read, got digits: the extra" in " ".join(
        capsys.readouterr().err.split()
    )
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradsplinter.cli.mnist.run_mnist", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *SHORT)
    assert stopped.value.code == 130
    assert "interrupted; the results are as they were before" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
