"""The communities study: what neurons are for, by hand; the older ways; rows and figures."""

import dataclasses
import re
from itertools import pairwise

import pytest
import torch

from gradsplinter import (
    Communities,
    ReluNetwork,
    communities,
    computation_graph,
    neuron_communities,
)
from gradsplinter.draws import generator_of
from gradsplinter.plot.communities import figures
from gradsplinter.studies.ablation import selectivity, truth
from gradsplinter.studies.communities import (
    METHODS,
    Agreement,
    CommunitiesConfig,
    _from_outputs,
    run_communities,
)
from gradsplinter.studies.neuron_groups import BASELINES, ari
from gradsplinter.studies.node_groups import louvain_of_nodes
from gradsplinter.tasks import ParallelProducts, Task
from gradsplinter.train import initialise

TINY = CommunitiesConfig(
    products=(2,), lambdas=(0.0, 0.5), seeds=(0, 4), hidden=(8, 8), correlations=(0.5,), steps=300,
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
    assert of.kinds() == {1: ["task", "task", "shared", "inert", "carrier", "dead"]}
    assert of.on[1].tolist()[4:] == [1, 0]
    # The third is on in half of the examples.
    assert of.kinds(0.4)[1] == ["carrier", "carrier", "carrier", "inert", "carrier", "dead"]
    assert of.tasks(0.4) == ([], [])
    neurons, tasks = of.tasks()
    assert neurons == [(1, 0), (1, 1)]
    assert tasks == [0, 1]
    # Only the share of the variance that the mean of a neuron leaves counts.
    y, hidden = Halves().target(x), (x @ WEIGHTS.T + BIASES).relu()
    without = hidden.clone()
    without[:, 1] = hidden[:, 1].mean()
    errors = [(h @ OUT.T - y).square().mean(0) for h in (hidden, without)]
    torch.testing.assert_close(of.growth[1][1], (errors[1] - errors[0]) / y.var(0))


def test_selectivity_of_groups_of_neurons():
    """Groups of one output each, one group of both, and the mean of groups."""
    net = ReluNetwork([WEIGHTS, OUT], [BIASES, torch.zeros(2)])
    x = Halves().sample(5000, generator=torch.Generator().manual_seed(0))

    def of(*groups):
        return selectivity(net, Halves(), x, {0: torch.tensor([7, 7]), 1: torch.tensor(groups)})

    assert of(0, 1, -1, -1, -1, -1) == pytest.approx(1)
    # The first two work on one output each, so without both each output misses what it misses alone.
    growth = truth(net, Halves(), x).growth[1]
    both = torch.stack([growth[0, 0], growth[1, 1]])
    share = float(both.max() / both.sum())
    assert of(3, 3, -1, -1, -1, -1) == pytest.approx(share, rel=1e-4)
    assert of(3, 3, -1, 0, -1, -1) == pytest.approx((share + 1) / 2, rel=1e-4)
    assert of(-1, -1, -1, -1, -1, -1) == 0


def test_a_group_is_taken_away_at_all_sites_at_once():
    """y = (relu(x1), relu(x2)) through two layers; a unit of the second hides what the first did."""
    eye, zero = torch.eye(2), torch.zeros(2)
    net = ReluNetwork([eye, eye, eye], [zero, zero, zero])

    class Through(Halves):
        def _target(self, x):
            return x.relu()

    x = Through().sample(2000, generator=torch.Generator().manual_seed(0))
    one, two = torch.tensor([0, 1]), torch.tensor([0, 0])
    assert selectivity(net, Through(), x, {1: one, 2: one}) == pytest.approx(1)
    assert selectivity(net, Through(), x, {1: one, 2: 1 - one}) == pytest.approx(0.5, abs=0.05)
    assert selectivity(net, Through(), x, {1: two, 2: two}) == pytest.approx(0.5, abs=0.05)


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
        assert list(row.agreement) == [0.99, 0.999, 1.0]
        compared = row.kind in ("mixing", "correlation")
        for of in row.agreement.values():
            assert sum(of.kinds.values()) == (16 if compared else 0)
        assert (row.selectivity is not None) == compared
        assert list(row.columns()) == list(rows[0].columns())
        assert all(not isinstance(value, dict) for value in row.columns().values())
    assert [row.found for row in rows if row.kind == "untrained"] == [1, 1]


def test_a_row_is_what_the_parts_say_of_its_network(rows):
    """Of an untrained network, which can be made again; this one has two communities by chance."""
    row = next(row for row in rows if (row.kind, row.seed) == ("untrained", 4))
    net = initialise((4, 8, 8, 2), 4)
    x = ParallelProducts(2).sample(256, generator=generator_of(4, "fresh examples"))
    assert row.found == neuron_communities(net, x).n == 1
    assert row.found_from_outputs == communities(computation_graph(net, x)).n == 2


def test_groups_of_components_from_the_outputs(rows):
    for row in rows:
        unmixed = row.strength == 0 and row.kind in ("mixing", "shared inputs")
        assert (row.from_outputs is not None) == unmixed


def test_components_that_touch_several_groups_are_counted():
    """One mode; the second output has 1/10 of its squares in the first group, the third 1/5."""
    rows = torch.tensor([[1.0, 2, 0], [1, 0, 3], [1, 0, 2]])
    net = ReluNetwork([torch.eye(3), rows], [torch.zeros(3), torch.zeros(3)])
    graph = computation_graph(net, torch.ones(5, 3))
    found = Communities({0: torch.tensor([0, 0, 1])}, torch.zeros(3, 3), 0, 0, 0)
    of = _from_outputs(graph, found, [0, 0, 1])
    assert of.touch_several == pytest.approx(1 / 3)
    assert of.ari == 1
    assert of.ari_by_output == 0  # two of three in one group, and each an output of its own
    assert _from_outputs(graph, found, [0, 1, 1]).ari < 1


def test_louvain_of_nodes():
    one = ReluNetwork([torch.eye(2), torch.eye(2)], [torch.zeros(2), torch.zeros(2)])
    labels = louvain_of_nodes(computation_graph(one, torch.ones(3, 2)))
    assert labels[1].unique().numel() == 2  # nothing ties the two outputs
    assert torch.equal(labels[0], labels[1])
    alike = ReluNetwork([torch.eye(2), torch.tensor([[1.0, 1], [1, 2]])], one.biases)
    labels = louvain_of_nodes(computation_graph(alike, torch.ones(3, 2), end=1))
    assert labels[1].tolist() == [[0, 0]]
    x = torch.tensor([[1.0, 1], [1, 1], [-1, -1]])
    labels = louvain_of_nodes(computation_graph(one, x))  # the last example has no gradient
    assert labels[0][-1].tolist() == [-1, -1]


def test_carriers_become_neurons_that_are_compared_as_the_definition_is_stricter(rows):
    compared = [row for row in rows if row.kind in ("mixing", "correlation")]
    for row in compared:
        kinds = [of.kinds for of in row.agreement.values()]
        for looser, stricter in pairwise(kinds):
            assert stricter["carrier"] <= looser["carrier"]
            assert stricter["task"] >= looser["task"]
            assert (stricter["inert"], stricter["dead"]) == (looser["inert"], looser["dead"])
    assert any(of.kinds["carrier"] for row in compared for of in row.agreement.values())
    always_on = {"always_on": (0.0, 0.99)}
    again = run_communities(dataclasses.replace(TINY, **always_on), progress=False)
    for row, before in zip(again, rows, strict=True):
        assert row.agreement[0.99] == before.agreement[0.99]
        assert row.neurons == {}  # all that are not inert or dead are carriers
        assert row.agreement[0.0].kinds.get("task", 0) == 0


def test_the_same_configuration_gives_the_same_rows(rows):
    assert [dataclasses.asdict(row) for row in run_communities(TINY, progress=False)] == [
        dataclasses.asdict(row) for row in rows
    ]


def test_figures_are_drawn(rows):
    drawn = figures(rows)
    assert set(drawn) == {"communities", "controls"}
    for figure in drawn.values():
        figure.canvas.draw()
    for ax, way in zip(drawn["controls"].axes, ("found", "found_from_outputs"), strict=True):
        ones = [bar.get_width() for bar in ax.containers[0]]
        names = [label.get_text() for label in drawn["controls"].axes[0].get_yticklabels()]
        assert names[-1] == "2 chained products, tasks that share inputs"
        assert "1 product" in names
        of = [getattr(row, way) for row in rows if row.kind == "shared inputs"]
        assert ones[-1] == of.count(1) / len(of)


def test_means_are_drawn_of_few_networks(rows):
    """Of one seed too; where no network has neurons of two tasks, the panel says so."""
    one = [dataclasses.replace(row, agreement=one_task_each(row)) for row in rows if row.seed == 0]
    panels = figures(one)["communities"].axes
    assert [ax.lines[0].get_ydata(orig=False).tolist() for ax in panels] == [[0.5, 0.5], [0.5]]
    assert not any("no means" in text.get_text() for ax in panels for text in ax.texts)
    none = [dataclasses.replace(row, agreement={1.0: Agreement({}, {})}) for row in rows]
    for ax in figures(none)["communities"].axes:
        assert any("no means" in text.get_text() for text in ax.texts)


def one_task_each(row):
    compared = row.kind in ("mixing", "correlation")
    return {1.0: Agreement(dict.fromkeys(METHODS, 0.5) if compared else {}, {})}


@pytest.mark.parametrize(
    ("without", "titles"),
    [
        (("correlation",), ["mixing λ"]),
        (("mixing",), ["correlation of inputs (λ = 0)"]),
        (("mixing", "correlation"), None),
    ],
)
def test_without_strengths_there_are_fewer_panels(rows, without, titles):
    drawn = figures([row for row in rows if row.kind not in without])
    assert ("communities" in drawn) == (titles is not None)
    if titles is not None:
        assert [ax.get_xlabel() for ax in drawn["communities"].axes] == titles
    for figure in drawn.values():
        figure.canvas.draw()


def test_columns_are_plain_names(rows):
    columns = rows[0].columns()
    assert all(re.fullmatch(r"[a-z0-9_.]+", name) for name in columns)
    assert {"from_outputs_ari", "ari_0.99_principal_components_k_given", "neurons_1_task"} < set(
        columns
    )


def test_bad_configurations():
    with pytest.raises(ValueError, match=r"^correlations must be in \[0, 1\], got 2$"):
        CommunitiesConfig(correlations=(0.3, 2))
    with pytest.raises(ValueError, match=r"^hidden must be at least 1, got 0$"):
        CommunitiesConfig(hidden=(0,))
    with pytest.raises(ValueError, match=r"^seeds must hold at least one value, got none$"):
        CommunitiesConfig(seeds=())
    with pytest.raises(ValueError, match=r"^products must be at least 2, got 1$"):
        CommunitiesConfig(products=(1,))
    with pytest.raises(ValueError, match=r"^always_on must hold at least one value, got none$"):
        CommunitiesConfig(always_on=())
    for values in ({"lambdas": (2.0,)}, {"always_on": (0.99, 2.0)}):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 2"):
            CommunitiesConfig(**values)
