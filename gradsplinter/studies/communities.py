"""Are independent tasks found in the neurons alone, and when are they not?

Networks learn products side by side, mixed by λ. What each hidden neuron is for is fixed first, by what
goes wrong without it; then neurons are grouped, without the outputs and without the number of tasks, and
the groups are compared with that. Controls have one task, or none.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.checks import check_integer
from gradsplinter.communities import Communities, communities, neuron_communities
from gradsplinter.draws import generator_of
from gradsplinter.graph import ComputationGraph, computation_graph
from gradsplinter.network import ReluNetwork
from gradsplinter.studies import neuron_groups
from gradsplinter.studies.ablation import ALWAYS_ON, KINDS, Truth, selectivity, truth
from gradsplinter.studies.node_groups import louvain_of_nodes
from gradsplinter.tasks import (
    ChainedProducts,
    CorrelatedInputs,
    ParallelProducts,
    Product,
    QuotientOfDifference,
    SoftMixing,
    Task,
)
from gradsplinter.train import TrainConfig, initialise, train

METHODS = ("ours", *neuron_groups.BASELINES)


@dataclass(frozen=True)
class CommunitiesConfig:
    """What is trained and measured.

    Raises:
        TypeError, ValueError: a value of another type, or out of range.
    """

    products: tuple[int, ...] = (2, 3, 5)
    """Numbers of independent products."""
    lambdas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    """Mixing strengths λ."""
    seeds: tuple[int, ...] = tuple(range(100, 120))
    """One network per seed."""
    hidden: tuple[int, ...] = (32, 32)
    """Widths of the hidden layers."""
    correlations: tuple[float, ...] = (0.3, 0.6, 0.9)
    """Of inputs of different products, at λ = 0; may be none, and so may the λ."""
    training_examples: int = 8000
    """Examples that each network is trained on, at least 256."""
    examples: int = 4000
    """Examples that are looked at, at least 256."""
    steps: int = 3000
    """Steps of Adam with 256 examples each."""
    learning_rate: float = 5e-3
    """Of Adam."""
    always_on: tuple[float, ...] = (ALWAYS_ON, 0.999, 1.0)
    """Shares of the examples from which on a neuron counts as a carrier, which hands on a sum. The neurons
    that are compared depend on it, so all are tried on the same networks; the first is drawn."""

    def __post_init__(self) -> None:
        for name in ("products", "seeds", "hidden", "always_on"):
            if not getattr(self, name):
                raise ValueError(f"{name} must hold at least one value, got none")
        for n in self.products:
            check_integer(n, "products", 2)
        for name in ("training_examples", "examples"):
            check_integer(getattr(self, name), name, 256)
        for name in ("lambdas", "correlations", "always_on"):
            for value in getattr(self, name):
                if not 0 <= value <= 1:
                    raise ValueError(f"{name} must be in [0, 1], got {value}")
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        for width in self.hidden:
            check_integer(width, "hidden", 1)
        self.training(1, 1)  # checks the rest

    def training(self, inputs: int, outputs: int) -> TrainConfig:
        widths = (inputs, *self.hidden, outputs)
        return TrainConfig(widths, self.steps, self.learning_rate, 256)


@dataclass(frozen=True)
class Agreement:
    """Of groups of neurons with what these are for, by one definition of a neuron that is always on."""

    ari: dict[str, float]
    """Adjusted Rand index of the neurons of one task, by method; none with fewer than two tasks in them."""
    kinds: dict[str, int]
    """Neurons of each kind: task, shared, carrier, inert, dead."""


@dataclass(frozen=True)
class FromOutputs:
    """Groups of the components of the input site, found from the outputs by `communities`."""

    ari: float | None
    """Adjusted Rand index with the planted groups of inputs that they touch most, if there are several.
    It is 1 wherever the inputs are grouped right."""
    touch_several: float
    """Share of components with less than 90 % of their squared entries in one of these groups."""
    ari_by_output: float
    """With the outputs that they are of."""
    nodes: int
    """Groups that Louvain's method makes of the components and edges themselves."""
    nodes_ari_by_output: float
    """Of those at the input site."""


@dataclass(frozen=True)
class Row:
    """One network."""

    task: str
    kind: str
    """"mixing", "correlation", "shared inputs", "one task" or "untrained"."""
    strength: float
    """λ, or the correlation."""
    seed: int
    tasks: int
    """How many independent tasks were planted."""
    found: int
    """Communities found in the neurons alone."""
    found_from_outputs: int
    """Communities found from the outputs, by `communities`."""
    inputs_right: bool
    """Whether the groups of inputs are exactly the planted ones."""
    from_outputs: FromOutputs | None
    """Where targets are not mixed, of networks with several products."""
    selectivity: float | None
    """Of the groups of neurons, as in `ablation.selectivity`."""
    selectivity_by_chance: float | None
    """Of groups of as many neurons of each site, drawn at random."""
    agreement: dict[float, Agreement]
    """By the share of examples from which on a neuron is always on; nothing in them for controls."""
    loss: float | None
    """Mean squared error / variance of the targets."""

    @property
    def neurons(self) -> dict[str, float]:
        """Adjusted Rand index by method, by the first definition of a neuron that is always on."""
        return next(iter(self.agreement.values())).ari

    def columns(self) -> dict[str, object]:
        """One value a column, for a table."""
        flat = {k: v for k, v in vars(self).items() if k not in ("agreement", "from_outputs")}
        for of_field in dataclasses.fields(FromOutputs):
            name = of_field.name
            flat[f"from_outputs_{name}"] = getattr(self.from_outputs, name, None)
        for share, of in self.agreement.items():
            flat |= {f"ari_{share:g}_{_column(name)}": of.ari.get(name) for name in METHODS}
            flat |= {f"neurons_{share:g}_{kind}": of.kinds.get(kind) for kind in KINDS}
        return flat


def _column(method: str) -> str:
    return method.replace(",", "").replace(" ", "_")


def run_communities(config: CommunitiesConfig, *, progress: bool = True) -> list[Row]:
    """Train and measure.

    Args:
        config: what to train and measure.
        progress: show progress bars.

    Examples:
        >>> config = CommunitiesConfig((2,), (0.0,), (0,), correlations=(), steps=5, examples=256)
        >>> [(row.kind, row.found) for row in run_communities(config, progress=False)][-1]
        ('one task', 1)
    """
    plans = list(_plans(config))
    rows = []
    with tqdm(total=len(plans) * len(config.seeds), disable=not progress, unit="network") as bar:
        for kind, strength, task, groups in plans:
            for seed, net, loss in _networks(config, task, trained=kind != "untrained"):
                generator = generator_of(seed, "fresh examples")
                x = task.sample(config.examples, generator=generator)
                row = _row(net, task, x, kind, strength, seed, groups, loss, config.always_on)
                rows.append(row)
                bar.update()
    return rows


def _plans(config: CommunitiesConfig) -> Iterable[tuple[str, float, Task, list[int]]]:
    """Kind, strength, task, and the planted group of each input."""
    for n in config.products:
        pairs = [i // 2 for i in range(2 * n)]
        for strength in config.lambdas:
            yield "mixing", strength, SoftMixing(ParallelProducts(n), strength), pairs
        for share in config.correlations:
            yield "correlation", share, CorrelatedInputs(ParallelProducts(n), share), pairs
        yield "shared inputs", 0.0, ChainedProducts(n), [0] * (n + 1)
        yield "untrained", 0.0, ParallelProducts(n), [0] * (2 * n)
    for task in (ParallelProducts(1), Product(4), Product(6), QuotientOfDifference()):
        yield "one task", 0.0, task, [0] * task.n_inputs


def _networks(
    config: CommunitiesConfig, task: Task, *, trained: bool
) -> Iterable[tuple[int, ReluNetwork, float | None]]:
    training = config.training(task.n_inputs, task.n_outputs)
    if not trained:
        for seed in config.seeds:
            yield seed, initialise(training.widths, seed), None
        return
    generators = [generator_of(seed, "training examples") for seed in config.seeds]
    x = torch.stack([task.sample(config.training_examples, generator=g) for g in generators])
    y = torch.stack([task.target(of_one) for of_one in x])
    result = train(training, x, y, config.seeds, progress=False)
    losses = result.losses[:, -100:].mean(dim=1) / y.var(dim=1).mean(dim=1)
    yield from zip(config.seeds, result.networks, losses.tolist(), strict=True)


def _row(
    net: ReluNetwork, task: Task, x: Tensor, kind: str, strength: float, seed: int,
    groups: list[int], loss: float | None, always_on: tuple[float, ...],
) -> Row:  # fmt: skip
    found = neuron_communities(net, x)
    graph = computation_graph(net, x)
    from_outputs = communities(graph)
    row = Row(
        task.name, kind, strength, seed, len(set(groups)), found.n, from_outputs.n,
        neuron_groups.ari(found.units[0].tolist(), groups) == 1, None, None, None,
        {share: Agreement({}, {}) for share in always_on}, loss,
    )  # fmt: skip
    if strength == 0 and kind in ("mixing", "shared inputs"):
        components = _from_outputs(graph, from_outputs, groups)
        row = dataclasses.replace(row, from_outputs=components)
    if kind not in ("mixing", "correlation"):
        return row
    ways = {name: way(net, x, len(set(groups))) for name, way in neuron_groups.BASELINES.items()}
    of = truth(net, task, x)
    return dataclasses.replace(
        row,
        selectivity=selectivity(net, task, x, found.units),
        selectivity_by_chance=selectivity(net, task, x, _shuffled(found.units, seed)),
        agreement={
            share: _agreement({"ours": found.units, **ways}, of, share) for share in always_on
        },
    )


def _from_outputs(graph: ComputationGraph, found: Communities, groups: list[int]) -> FromOutputs:
    there = graph.lengths(0) > 0
    squares = graph.components(0).double().square()[there]
    touched = squares @ torch.nn.functional.one_hot(torch.tensor(groups)).double()
    most, planted = touched.max(dim=1)
    of = found.of(graph)[0][there].tolist()
    outputs = torch.arange(len(graph.directions)).expand_as(there)[there].tolist()
    nodes = louvain_of_nodes(graph)
    return FromOutputs(
        ari=neuron_groups.ari(of, planted.tolist()) if len(set(groups)) > 1 else None,
        touch_several=float((most < 0.9 * touched.sum(dim=1)).double().mean()),
        ari_by_output=neuron_groups.ari(of, outputs),
        nodes=1 + max(int(labels.max()) for labels in nodes.values()),
        nodes_ari_by_output=neuron_groups.ari(nodes[0][there].tolist(), outputs),
    )


def _shuffled(units: dict[int, Tensor], seed: int) -> dict[int, Tensor]:
    generator = generator_of(seed, "shuffled units")
    return {site: of[torch.randperm(len(of), generator=generator)] for site, of in units.items()}


def _agreement(ways: dict[str, dict[int, Tensor]], of: Truth, always_on: float) -> Agreement:
    neurons, tasks = of.tasks(always_on)
    count = Counter(kind for of_site in of.kinds(always_on).values() for kind in of_site)
    kinds = {kind: count[kind] for kind in KINDS}
    if len(set(tasks)) < 2:
        return Agreement({}, kinds)
    found = {name: [int(units[s][j]) for s, j in neurons] for name, units in ways.items()}
    return Agreement({name: neuron_groups.ari(of, tasks) for name, of in found.items()}, kinds)
