"""The study of adversarial examples: every score by loops over examples, rows, figures, the command, bad input."""

import csv
import dataclasses
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gradsplinter import cli, data, splinter
from gradsplinter.network import ReluNetwork
from gradsplinter.plot.adversarial import figures
from gradsplinter.region_statistics import border_distances
from gradsplinter.studies.adversarial import run_adversarial
from gradsplinter.studies.adversarial_result import AdversarialConfig, mean_columns
from gradsplinter.studies.classifiers import ClassifierConfig, predict, train_classifier
from gradsplinter.studies.detectors import BASELINES, Detectors

TINY = AdversarialConfig(
    "digits", "12-9", seeds=(0, 2), epochs=100, training_examples=600, examples=80,
    linf=(0.05, 0.2), l2=(1.0,), steps=6, weights=(10.0,),
)  # fmt: skip
TRAIN, TEST = data.load("digits"), data.load("digits", "test")


@pytest.fixture(scope="module")
def result():
    other = dataclasses.replace(TEST, x=TEST.x[:50].flip(1))
    return run_adversarial(TINY, TRAIN, TEST, other, progress=False)


@pytest.fixture(scope="module")
def net():
    some = dataclasses.replace(TRAIN, x=TRAIN.x[:400], y=TRAIN.y[:400])
    return train_classifier(ClassifierConfig("12-9", 150), some, 1)


@pytest.fixture(scope="module")
def detectors(net):
    return Detectors(net, TRAIN.x[:400], TRAIN.y[:400], cluster_angle=math.radians(20))


def patterns(net, x):
    """bool [N, 12] and [N, 9], by torch."""
    first = net[0](x)
    return first > 0, net[2](first.relu()) > 0


def test_scores_of_bits_by_loops(net, detectors):
    x = TEST.x[:30]
    found, predicted = detectors.scores(x), predict(net, x).argmax(1).tolist()
    right = (predict(net, TRAIN.x[:400]).argmax(1) == TRAIN.y[:400]).nonzero().squeeze(1)
    assert len(right) < 400
    known, classes = patterns(net, TRAIN.x[right]), TRAIN.y[right].tolist()
    n = len(classes)
    for i, (c, *sites) in enumerate(zip(predicted, *patterns(net, x), strict=True)):
        apart = [
            (site != of_all).sum(1).tolist() for site, of_all in zip(sites, known, strict=True)
        ]
        both = [a + b for a, b in zip(*apart, strict=True)]
        own = [k for k in range(n) if classes[k] == c]
        other = [k for k in range(n) if classes[k] != c]
        nearest = min(both[k] for k in own)
        assert found["bits of site 1"][i] == min(apart[0][k] for k in own)
        assert found["NAP monitor"][i] == min(apart[1][k] for k in own)
        assert found["bits of all sites"][i] == nearest
        assert found["bits, own less other"][i] == nearest - min(both[k] for k in other)
        same = [sum(d == 0 for d in both), sum(d == 0 for d in apart[1])]
        rarity = [-math.log((count + 1) / (n + 1)) for count in same]
        assert found["rarity at site 0"][i] == pytest.approx(rarity[0])
        assert found["rarity at site 1"][i] == pytest.approx(rarity[1])
        assert found["rarity of the path"][i] == pytest.approx(sum(rarity))
        assert bool(detectors.known(x[i : i + 1])) == (same[0] > 0)
        sum_of_both, signs = detectors.nearest_mode(x[i : i + 1], torch.tensor([c]))
        assert sum_of_both == found["bits of all sites"][i] + found["bits, own less other"][i]
        k = next(k for k in own if both[k] == nearest)
        assert torch.equal(signs[0] > 0, torch.cat([of_all[k] for of_all in known]))


def test_scores_of_outputs_and_activations_by_hand(net, detectors):
    x = TEST.x[:20]
    found, logits = detectors.scores(x), net(x).double()
    torch.testing.assert_close(found["max-softmax"], -logits.softmax(1).max(1).values.log())
    torch.testing.assert_close(found["energy"], -logits.exp().sum(1).log())
    right = predict(net, TRAIN.x[:400]).argmax(1) == TRAIN.y[:400]
    a, y = net[:4](TRAIN.x[:400][right]).double(), TRAIN.y[:400][right]
    means = torch.stack([a[y == c].mean(0) for c in range(10)])
    within = sum(torch.cov(a[y == c].T, correction=0) * (y == c).sum() for c in range(10)) / len(a)
    within += 1e-3 * within.diagonal().mean() * torch.eye(9)
    inverse, of = torch.linalg.inv(within), net[:4](x).double()
    for i in range(20):
        distances = [(of[i] - mean) @ inverse @ (of[i] - mean) for mean in means]
        assert found["Mahalanobis, last site"][i] == pytest.approx(float(min(distances)), rel=1e-6)
    assert (found["Mahalanobis, all sites"] >= found["Mahalanobis, last site"]).all()


def test_scores_of_gradients_by_autograd(net, detectors):
    x = TEST.x[:20]
    found, predicted = detectors.scores(x), predict(net, x).argmax(1)
    relu = ReluNetwork.from_module(net)
    torch.testing.assert_close(found["nearness of a border"], -border_distances(relu, x).distance)

    def directions(x, c):
        gradients = torch.stack([torch.func.grad(lambda one: net(one)[c])(one) for one in x])
        return torch.nn.functional.normalize(gradients.double(), dim=1)

    right = predict(net, TRAIN.x[:400]).argmax(1) == TRAIN.y[:400]
    for c in predicted.unique().tolist():
        known = directions(TRAIN.x[:400][right & (TRAIN.y[:400] == c)], c)
        cosines = (directions(x[predicted == c], c) @ known.T).max(1).values
        angles = found["angle of the gradient"][predicted == c]
        # An angle near 0 has half of the digits of its cosine, which is of float32 gradients.
        torch.testing.assert_close(angles.deg2rad().cos(), cosines, atol=1e-6, rtol=0)
        sizes = detectors.rarity[c].neg().exp()
        assert float(sizes.sum()) == pytest.approx(1)
        rarity = found["rarity of its cluster"][predicted == c]
        assert (rarity[:, None] == detectors.rarity[c]).any(1).all()


def test_training_examples_are_usual(detectors):
    found = detectors.scores(detectors.x)
    assert detectors.known(detectors.x).all()
    for name in ("NAP monitor", "bits of site 1", "bits of all sites"):
        assert (found[name] == 0).all()
    assert (found["bits, own less other"] <= 0).all()
    assert found["angle of the gradient"].max() < 1e-3
    assert found["rarity at site 0"].max() <= math.log((len(detectors.x) + 1) / 2) + 1e-9
    # The count of every mode is that of the splinters.
    s = splinter(detectors.relu, detectors.x)
    shares = (s.counts[s.ids] + 1).double() / (len(detectors.x) + 1)
    torch.testing.assert_close(found["rarity at site 0"], -shares.log())


def test_rows(result):
    kinds = ["FGSM", "PGD L∞", "mode-seeking L∞", "sign noise"]
    sets = [(kind, epsilon) for epsilon in (0.05, 0.2) for kind in kinds]
    sets += [(kind, 1.0) for kind in ("PGD L2", "mode-seeking L2", "Gaussian noise")]
    sets += [("other data", None)]
    controls = [("clean, wrong", None), ("Gaussian noise, changed", 1.0)]
    controls += [("sign noise, changed", epsilon) for epsilon in (0.05, 0.2)]
    assert [(a.seed, a.kind, a.epsilon) for a in result.attacks] == [
        (seed, *of) for seed in (0, 2) for of in sets
    ]
    scores = list(dict.fromkeys(row.score for row in result.separations))
    assert tuple(scores[: len(BASELINES)]) == BASELINES
    assert len(scores) == len(BASELINES) + 9
    assert len(result.means()) == (len(sets) + len(controls)) * len(scores)
    assert len(result.separations) == 2 * len(result.means())
    assert {(row.kind, row.epsilon) for row in result.separations} == {*sets, *controls}
    for row in result.separations:
        assert row.examples <= TINY.examples
        assert 0 <= row.matched_wrong <= 1 or math.isnan(row.matched_wrong)
        for value in (row.auroc, row.fpr, row.matched, row.auroc_all, row.auroc_wrong):
            assert 0 <= value <= 1 or (math.isnan(value) and row.examples == 0)
    of = {(a.seed, a.kind, a.epsilon): a for a in result.attacks}
    for seed in (0, 2):
        for norm, epsilon in (("L∞", 0.05), ("L∞", 0.2), ("L2", 1.0)):
            first, seeking = (
                of[seed, f"{kind} {norm}", epsilon] for kind in ("PGD", "mode-seeking")
            )
            assert seeking.success >= first.success
            assert seeking.known >= first.known or math.isnan(first.known)
        assert of[seed, "PGD L∞", 0.2].success > of[seed, "sign noise", 0.2].success
        assert of[seed, "Gaussian noise", 1.0].length == pytest.approx(1, abs=1e-3)
        assert of[seed, "other data", None].success is None
    fitted = {(row.kind, row.fitted_on) for row in result.combined}
    assert fitted == {
        *((kind, "the same") for kind, _ in sets[:3] + sets[8:10]),
        ("mode-seeking L∞", "PGD"), ("mode-seeking L2", "PGD"),
    }  # fmt: skip


def test_rows_are_the_same_again(result):
    other = dataclasses.replace(TEST, x=TEST.x[:50].flip(1))
    again = run_adversarial(
        dataclasses.replace(TINY, seeds=(2,)), TRAIN, TEST, other, progress=False
    )
    for name in ("networks", "attacks", "separations", "combined"):
        expected = [row for row in getattr(result, name) if row.seed == 2]
        assert repr(getattr(again, name)) == repr(expected)  # a NaN equals none


def test_separations_are_those_of_the_scores(result):
    """Of the first network, counted over all pairs."""
    clean = result.scores["clean"]
    assert len(clean["energy"]) == TINY.examples
    for kind in ("PGD L∞", "other data", "Gaussian noise"):
        for name in ("energy", "bits of all sites"):
            (row,) = [
                row for row in result.separations
                if (row.seed, row.kind, row.score) == (0, kind, name)
                and row.epsilon in (0.2, 1.0, None)
            ]  # fmt: skip
            positive = result.scores[kind][name]
            assert row.examples == len(positive)
            won = (positive[:, None] > clean[name]).double() + 0.5 * (
                positive[:, None] == clean[name]
            )
            assert row.auroc == pytest.approx(float(won.mean()))


def test_natural_errors_and_noise_that_fools(result):
    """Of the first network, counted over all pairs: errors against what is right, attacks against errors."""
    net = train_classifier(ClassifierConfig("12-9", 100), first(TRAIN, 600), 0)
    wrong = predict(net, TEST.x[:80]).argmax(1) != TEST.y[:80]
    assert 0 < wrong.sum() < 80
    rows = {(row.kind, row.epsilon, row.score): row for row in result.separations if row.seed == 0}

    def area(positive, negative):
        won = (positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative)
        return pytest.approx(float(won.mean()))

    for name, clean in result.scores["clean"].items():
        errors = rows["clean, wrong", None, name]
        assert errors.examples == wrong.sum()
        assert torch.equal(result.scores["clean, wrong"][name], clean[wrong])
        assert errors.auroc == area(clean[wrong], clean[~wrong])
        assert errors.auroc_wrong == 0.5
        attack = rows["PGD L∞", 0.2, name]
        assert attack.auroc_wrong == area(result.scores["PGD L∞"][name], clean[wrong])
        fooled = rows["sign noise, changed", 0.2, name]
        (noise,) = [
            a for a in result.attacks if (a.seed, a.kind, a.epsilon) == (0, "sign noise", 0.2)
        ]
        assert fooled.examples == round(noise.success * int((~wrong).sum())) > 0


def test_regressions_against_natural_errors(monkeypatch):
    """With the first score in place of a regression."""
    shown = []

    def first_score(*tables):
        shown.append(tables[-1][:, 0].contiguous())
        return shown[-1]

    monkeypatch.setattr("gradsplinter.studies.adversarial.logistic_scores", first_score)
    config = dataclasses.replace(TINY, seeds=(0,), linf=(0.1,), steps=2)
    rows = run_adversarial(config, TRAIN, TEST, progress=False).combined
    net = train_classifier(ClassifierConfig("12-9", 100), first(TRAIN, 600), 0)
    wrong = (predict(net, TEST.x[:80]).argmax(1) != TEST.y[:80])[1::2]
    assert 0 < wrong.sum() < 40
    assert len(shown) == 2 * len(rows) > 0
    for row, attacked, clean in zip(rows, shown[::2], shown[1::2], strict=True):
        for found, usual in ((row.auroc, clean), (row.auroc_wrong, clean[wrong])):
            won = (attacked[:, None] > usual).double() + 0.5 * (attacked[:, None] == usual)
            assert found == pytest.approx(float(won.mean()))


def first(of, count):
    return dataclasses.replace(of, x=of.x[:count], y=of.y[:count])


def test_means_by_hand():
    class Row:
        def __init__(self, value):
            self.value = value

    found = mean_columns([Row(v) for v in (1.0, 2.0, 6.0, math.nan, None)], ["value"])
    assert found == {
        "value": 3,
        "value_error": pytest.approx((14 / 2 / 3) ** 0.5, abs=1e-6),
        "value_seeds": 3,
    }
    alone = mean_columns([Row(2.0)], ["value"])
    assert alone["value"] == 2
    assert math.isnan(alone["value_error"])
    assert mean_columns([Row(math.nan)], ["value"])["value_seeds"] == 0


def test_each_mean_says_of_how_many_it_is():
    rows = [SimpleNamespace(a=1.0, b=math.nan), SimpleNamespace(a=2.0, b=5.0)]
    found = mean_columns(rows, ["a", "b"])
    assert (found["a_seeds"], found["b_seeds"], found["b"]) == (2, 1, 5)
    assert math.isnan(found["b_error"])


def test_figures_are_drawn(result):
    drawn = figures(result)
    assert set(drawn) == {"auroc", "matched", "errors", "epsilon", "scores"}
    for figure in drawn.values():
        figure.canvas.draw()
    shown = [text.get_text() for text in drawn["auroc"].axes[0].texts]
    means = result.means()
    expected = [
        f"{row['auroc']:.2f}".removeprefix("0") for row in means if row["auroc"] == row["auroc"]
    ]
    assert sorted(shown) == sorted(expected)


LINE = (
    "adversarial --dataset digits --architecture 8 --seeds 0 --epochs 150 --training-examples 400 "
    "--examples 40 --linf 0.1 --l2 1 --steps 3 --weights 10 --out a"
)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gradsplinter", *LINE.split(), "--no-borders"])
    cli.main()
    tables = ("networks", "attacks", "separation", "combined")
    means = ("attacks-means", "separation-means", "combined-means")
    assert {path.name for path in Path("a").iterdir()} == {
        "config.json", *(f"{name}.csv" for name in (*tables, *means)),
        *(f"{name}.{end}" for name in ("auroc", "matched", "errors", "epsilon", "scores") for end in ("png", "pdf")),
    }  # fmt: skip
    with Path("a/separation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 * (len(BASELINES) + 6)  # one site less, and no borders
    assert json.loads(Path("a/config.json").read_text())["config"]["borders"] is False
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 networks 8 on digits: accuracy" in printed
    assert "Mahalanobis, last site *" in printed
    assert "Written to a/ in" in printed
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "--out must be a new folder" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dataset iris", "--dataset must be one of mnist, fashion-mnist, digits, got 'iris'"),
        ("--architecture conv", "--architecture must be widths of hidden layers"),
        ("--architecture linear", "--architecture must be widths of hidden layers"),
        ("--linf 0", "--linf must be positive, got 0"),
        ("--seeds", "--seeds must hold at least one value, got none"),
        (
            "--epochs 1 --training-examples 10",
            "--epochs must be enough for the network to classify",
        ),
    ],
)
def test_bad_lines_leave_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gradsplinter", *LINE.split(), *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert f"error: {message}" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_learn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr(sys, "argv", ["gradsplinter", *LINE.split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert "error: the extra `data` is missing for the data set digits" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "cifar"}, "^dataset must be one of mnist, fashion-mnist, digits, got 'cifar'"),
        (
            {"architecture": "64-x"},
            '^architecture must be widths of hidden layers, as "64-64", or',
        ),
        ({"seeds": (-1,)}, "^seeds must be at least 0, got -1"),
        ({"seeds": (0, 0)}, "^seeds must be different, got 0, 0"),
        ({"linf": (0.05, 0.05)}, "^linf must be different, got 0.05, 0.05"),
        ({"l2": ()}, "^l2 must hold at least one value, got none"),
        ({"l2": (math.inf,)}, "^l2 must be positive, got inf"),
        ({"weights": (-1.0,)}, "^weights must be positive, got -1"),
        ({"examples": 3}, "^examples must be at least 4, got 3"),
        ({"steps": 0}, "^steps must be at least 1, got 0"),
        ({"cluster_angle": 91.0}, r"^cluster_angle must be in \(0, 90\], got 91"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def test_data_that_does_not_fit():
    iris = data.load("iris")
    with pytest.raises(
        ValueError, match=r"^train must have values in \[0, 1\], got some in \[0.1, 7.9\]"
    ):
        run_adversarial(TINY, iris, iris, progress=False)
    narrow = dataclasses.replace(TEST, x=TEST.x[:, :8])
    with pytest.raises(
        ValueError, match=r"^test must have 64 numbers an example, like train, got 8"
    ):
        run_adversarial(TINY, TRAIN, narrow, progress=False)
    empty = dataclasses.replace(TEST, x=TEST.x[:0], y=TEST.y[:0])
    with pytest.raises(ValueError, match=r"^other must hold at least one example, got none"):
        run_adversarial(TINY, TRAIN, TEST, empty, progress=False)
