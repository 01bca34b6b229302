"""The study of smooth activations: what is measured, by hand; rows, figures, bad configurations."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from gradsplinter import splinter
from gradsplinter.draws import generator_of
from gradsplinter.plot.smooth import figures
from gradsplinter.scores import orthogonality
from gradsplinter.studies.smooth import (
    ACTIVATIONS,
    SmoothConfig,
    _errors,
    _of_clusters,
    _trained,
    gradients,
    run_smooth,
)
from gradsplinter.tasks import ParallelProducts, SoftMixing, exact_orthogonality
from gradsplinter.train import initialise

TINY = SmoothConfig(
    activations=("relu", "gelu"), lambdas=(0.0, 0.5), seeds=(0, 3), bits=(1, 3), angles=(5.0, 30.0),
    hidden=(8,), training_examples=400, examples=200, steps=300,
)  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return run_smooth(TINY, progress=False)


def test_gradients_and_their_orthogonality():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(20, 3)
    found = gradients(net, x)
    expected = torch.stack([torch.func.jacrev(net)(one) for one in x]).detach()
    torch.testing.assert_close(found, expected)
    made = torch.tensor([[[1.0, 0], [0, 2]], [[1, 0], [3, 0]], [[1, 0], [1, 1]], [[0, 0], [0, 1]]])
    assert orthogonality(made) == pytest.approx(1 - (0 + 1 + 0.5**0.5 + 0) / 4)


def test_errors_by_hand():
    exact = torch.tensor([[[3.0, 4]], [[0, 5]]])
    found = torch.tensor([[[3.0, 4]], [[5, 0]]])
    error, angle = _errors(found, exact)
    assert error == pytest.approx(1)  # 50 of 50 squares
    assert angle == pytest.approx(45)


def test_clusters_stand_for_their_gradients():
    degrees = torch.tensor([0.0, 1, 40, 41, 0]).deg2rad()
    vectors = torch.stack([degrees.cos(), degrees.sin()], dim=1)
    vectors[4] = 0
    count, error, angle = _of_clusters(vectors.unsqueeze(1), math.radians(3))
    assert count == 3  # the zero gradient by itself
    assert error == pytest.approx(math.radians(0.5), rel=1e-3)
    assert angle == pytest.approx(0.5, rel=1e-3)
    assert _of_clusters(vectors.unsqueeze(1), math.radians(90))[0] == 2


def test_all_activations_start_from_the_same_weights_and_learn():
    task = SoftMixing(ParallelProducts(2), 0.0)
    for activation, (kind, _) in ACTIVATIONS.items():
        config = dataclasses.replace(TINY, steps=1, learning_rate=1e-12)
        (_, module, before), _ = _trained(config, activation, task)
        assert torch.allclose(module[0].weight, initialise((4, 8, 2), 0).weights[0])
        assert type(module[1]) is kind
        (_, _, after), _ = _trained(TINY, activation, task)
        assert after < 0.7 * before


def test_rows(result):
    assert len(result.scores) == 2 * 2 * 2
    for score in result.scores:
        assert score.theory == pytest.approx(1 if score.strength == 0 else 0, abs=1e-6)
        assert list(score.levels) == [1, 3]
        if score.activation == "relu":  # whose two slopes are all levels
            assert score.levels[1] == pytest.approx(score.exact, abs=1e-5)
    ways = {(g.activation, g.way, g.parameter) for g in result.groupings}
    clusters = [("clusters", 5.0), ("clusters", 30.0)]
    levels = [(way, bits) for way in ("quantiles", "equal widths") for bits in (1.0, 3.0)]
    assert ways == {
        *(("relu", *row) for row in [("modes", 0.0), *clusters]),
        *(("gelu", *row) for row in [*levels, *clusters]),
    }
    for g in result.groupings:
        assert 1 <= g.groups <= TINY.examples
        if g.way == "modes":
            assert g.error < 1e-6
        if g.way == "clusters":
            assert g.angle <= g.parameter
    again = run_smooth(dataclasses.replace(TINY, activations=("gelu",)), progress=False)
    assert again.groupings == [g for g in result.groupings if g.activation == "gelu"]
    assert again.scores == [s for s in result.scores if s.activation == "gelu"]


def test_groups_of_relu_are_its_splinters(result):
    task = SoftMixing(ParallelProducts(2), 0.0)
    (seed, module, _), _ = _trained(TINY, "relu", task)
    x = task.sample(TINY.examples, generator=generator_of(seed, "fresh examples"))
    s = splinter(module, x)
    expected = sum(len(s.gradients(d).values) for d in range(2)) / 2
    (found,) = [g for g in result.groupings if (g.way, g.seed) == ("modes", seed)]
    assert found.groups == expected


def test_the_curve_of_theory_is_dense(result):
    strengths, values = zip(*result.theory, strict=True)
    assert (len(strengths), strengths[0], strengths[-1]) == (101, 0, 0.5)
    assert list(values) == sorted(values, reverse=True)
    for i, strength in ((0, 0.0), (-1, 0.5)):
        own = [score.theory for score in result.scores if score.strength == strength]
        assert values[i] == pytest.approx(sum(own) / len(own))
    middle = SoftMixing(ParallelProducts(2), 0.25)
    x = [middle.sample(200, generator=generator_of(s, "fresh examples")) for s in TINY.seeds]
    expected = sum(exact_orthogonality(middle, one) for one in x) / 2
    assert (strengths[50], values[50]) == (0.25, pytest.approx(expected))
    (line,) = [
        line
        for line in figures(result)["orthogonality"].axes[0].lines
        if line.get_label() == "theory"
    ]
    assert line.get_ydata().tolist() == list(values)
    few = dataclasses.replace(TINY, activations=("relu",), lambdas=(0.2,), seeds=(0,), steps=2)
    (point,) = run_smooth(few, progress=False).theory
    assert point[0] == 0.2


def test_figures_are_drawn(result):
    drawn = figures(result)
    assert set(drawn) == {"groups", "orthogonality"}
    for figure in drawn.values():
        figure.canvas.draw()
    for ax in drawn["groups"].axes:
        low, high = ax.get_ylim()
        for line in ax.lines:
            assert (low <= line.get_ydata()).all()
            assert (line.get_ydata() <= high).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activations": ("step",)}, "^activations must be of relu, gelu, silu, softplus, tanh, got step"),
        ({"seeds": ()}, "^seeds must hold at least one value"),
        ({"lambdas": (0.5, 0.5)}, "^lambdas must be different, got 0.5, 0.5"),
        ({"lambdas": (2.0,)}, r"^lambdas must be in \[0, 1\], got 2"),
        ({"bits": (9,)}, "^bits must be at most 8, got 9"),
        ({"angles": (0.0,)}, r"^angles must be in \(0, 90\], got 0"),
        ({"steps": 0}, "^steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "^learning_rate must be positive, got 0"),
    ],
)  # fmt: skip
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)
