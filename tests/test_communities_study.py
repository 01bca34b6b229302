"""The communities study: what neurons are for, by hand; the older ways; rows and figures."""

import dataclasses

import pytest
import torch

from gradsplinter import ReluNetwork
from gradsplinter.plot.communities import figures
from gradsplinter.studies.communities import CommunitiesConfig, run_communities, truth
from gradsplinter.studies.neuron_groups import BASELINES, ari
from gradsplinter.tasks import Task

TINY = CommunitiesConfig(
    products=(2,), lambdas=(0.0, 0.5), seeds=(0, 1), hidden=(8, 8), correlations=(0.5,), steps=300,
    training_examples=512, examples=256,
)  # fmt: skip


WEIGHTS = torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5], [0.01, 0], [1, 0], [0, 1]])
BIASES = torch.tensor([0.0, 0, 0, 0, 100, -100])
OUT = torch.tensor([[1.0, 0, 0.5, 0.01, 0.3, 0], [0, 1, 0.5, 0, 0, 3]])


class Halves(Task):
    """What a network of these weights computes."""

    name = "halves"
    n_inputs = 2
    n_outputs = 2

    def _sample(self, n, generator, dtype):
        return torch.randn(n, 2, generator=generator, dtype=torch.float64).to(dtype)

    def _target(self, x):
        return (x @ WEIGHTS.T + BIASES).relu() @ OUT.T

    def _gradient(self, x):
        raise NotImplementedError


def test_what_each_neuron_is_for():
    """Of the first, of the second, of both, inert, always on, and dead."""
    net = ReluNetwork([WEIGHTS, OUT], [BIASES, torch.zeros(2)])
    x = Halves().sample(5000, generator=torch.Generator().manual_seed(0))
    of = truth(net, Halves(), x)
    assert of.kinds == {1: ["task", "task", "shared", "inert", "carrier", "dead"]}
    neurons, tasks = of.tasks()
    assert neurons == [(1, 0), (1, 1)]
    assert tasks == [0, 1]
    # Only the share of the variance that the mean of a neuron leaves counts.
    y, hidden = Halves().target(x), (x @ WEIGHTS.T + BIASES).relu()
    without = hidden.clone()
    without[:, 1] = hidden[:, 1].mean()
    errors = [(h @ OUT.T - y).square().mean(0) for h in (hidden, without)]
    torch.testing.assert_close(of.growth[1][1], (errors[1] - errors[0]) / y.var(0))


@pytest.mark.parametrize(
    ("found", "planted", "expected"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),
        ([0, 0, 0, 0], [0, 0, 1, 1], 0.0),
        ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2], (2 - 1.2) / (4.5 - 1.2)),  # Hubert and Arabie
        ([], [], 1.0),
        ([0], [7], 1.0),
    ],
)
def test_agreement_of_groups(found, planted, expected):
    assert ari(found, planted) == pytest.approx(expected)


def test_the_older_ways_find_what_is_plain():
    """Neurons of two inputs that never meet: all but the principal components must see it."""
    first = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    net = ReluNetwork([first, torch.ones(2, 4)], [torch.zeros(4), torch.zeros(2)])
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    for name, way in BASELINES.items():
        groups = way(net, x, 2)[1].tolist()
        assert len(groups) == 4
        assert "principal" in name or ari(groups, [0, 0, 1, 1]) == 1, name


@pytest.fixture(scope="module")
def rows():
    return run_communities(TINY, progress=False)


def test_every_network_has_a_row(rows):
    kinds = [row.kind for row in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "mixing": 4, "correlation": 2, "shared inputs": 2, "untrained": 2, "one task": 8,
    }  # fmt: skip
    for row in rows:
        assert row.tasks == (2 if row.kind in ("mixing", "correlation") else 1)
        assert (row.loss is None) == (row.kind == "untrained")
        assert sum(row.kinds.values()) in (0, 16)
        assert list(row.columns()) == list(rows[0].columns())
        assert all(not isinstance(value, dict) for value in row.columns().values())
    assert [row.found for row in rows if row.kind == "untrained"] == [1, 1]


def test_the_same_configuration_gives_the_same_rows(rows):
    assert [dataclasses.asdict(row) for row in run_communities(TINY, progress=False)] == [
        dataclasses.asdict(row) for row in rows
    ]


def test_figures_are_drawn(rows):
    drawn = figures(rows)
    assert set(drawn) == {"communities", "controls"}
    for figure in drawn.values():
        figure.canvas.draw()


def test_bad_configurations():
    with pytest.raises(ValueError, match=r"^seeds must hold at least one value, got none$"):
        CommunitiesConfig(seeds=())
    with pytest.raises(ValueError, match=r"^products must be at least 2, got 1$"):
        CommunitiesConfig(products=(1,))
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 2"):
        CommunitiesConfig(lambdas=(2.0,))
