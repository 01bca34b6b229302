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
from gradsplinter.graph import computation_graph
from gradsplinter.network import ReluNetwork
from gradsplinter.studies import neuron_groups
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

INERT = 0.01
"""Growth of the error, as a share of the target's variance, below which a neuron is inert."""
SHARED = 0.25
"""Second growth as a share of the first, above which a neuron is shared."""

KINDS = ("task", "shared", "carrier", "inert", "dead")
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
    """Of inputs of different products, at λ = 0."""
    training_examples: int = 8000
    """Examples that each network is trained on."""
    examples: int = 4000
    """Examples that are looked at."""
    steps: int = 3000
    """Steps of Adam with 256 examples each."""
    learning_rate: float = 5e-3
    """Of Adam."""
    always_on: float = 0.99
    """Share of examples from which on a neuron counts as a carrier, which hands on a sum."""

    def __post_init__(self) -> None:
        for name in ("products", "seeds", "hidden"):
            if not getattr(self, name):
                raise ValueError(f"{name} must hold at least one value, got none")
        for n in self.products:
            check_integer(n, "products", 2)
        for name in ("training_examples", "examples"):
            check_integer(getattr(self, name), name, 256)
        for strength in (*self.lambdas, *self.correlations, self.always_on):
            if not 0 <= strength <= 1:
                raise ValueError(
                    f"lambdas, correlations and always_on must be in [0, 1], got {strength}"
                )


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
    inputs_right: bool
    """Whether the groups of inputs are exactly the planted ones."""
    from_outputs_ari: float | None
    """Of the components of the input site, found from the outputs, and the inputs they touch."""
    neurons: dict[str, float]
    """Adjusted Rand index of the neurons of one task, by method; none with fewer than two tasks in them."""
    selectivity: float | None
    """Mean over groups: the share of the error growth without a group that falls on one output."""
    kinds: dict[str, int]
    """Neurons of each kind: task, shared, carrier, inert, dead."""
    loss: float | None
    """Mean squared error / variance of the targets."""

    def columns(self) -> dict[str, object]:
        """One value a column, for a table."""
        flat = {k: v for k, v in vars(self).items() if k not in ("neurons", "kinds")}
        flat |= {f"ari: {name}": self.neurons.get(name) for name in METHODS}
        return flat | {f"neurons: {kind}": self.kinds.get(kind, 0) for kind in KINDS}


@dataclass(frozen=True, eq=False)
class Truth:
    """What the hidden neurons of a network are for, by what their absence does."""

    growth: dict[int, Tensor]
    """By site, [h, outputs]: growth of the squared error, as a share of the target's variance, with the
    neuron at its mean."""
    kinds: dict[int, list[str]]
    """By site: "dead" (never on), "inert", "carrier" (always on), "shared" or "task"."""

    def tasks(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Neurons (site, unit) of one task, and the output that each is for."""
        neurons = [
            (s, j) for s, kinds in self.kinds.items() for j, k in enumerate(kinds) if k == "task"
        ]
        return neurons, [int(self.growth[s][j].argmax()) for s, j in neurons]


def truth(net: ReluNetwork, task: Task, x: Tensor, always_on: float = 0.99) -> Truth:
    """What each hidden neuron is for.

    Args:
        net: a network that was trained on the task.
        task: whose targets the outputs are compared with.
        x: inputs `[N, h_0]`.
        always_on: share of examples from which on a neuron counts as a carrier.
    """
    activations = _activations(net, x)
    growth, kinds = {}, {}
    for site in range(1, net.depth):
        of_site = []
        for unit in range(net.widths[site]):
            of_site.append(_growth(net, task, x, activations, {site: torch.tensor([unit])}))
        growth[site] = torch.stack(of_site)
        on = (activations[site] > 0).double().mean(dim=0)
        kinds[site] = [
            _kind(g, p, always_on) for g, p in zip(growth[site], on.tolist(), strict=True)
        ]
    return Truth(growth, kinds)


def _kind(growth: Tensor, on: float, always_on: float) -> str:
    first, *others = growth.sort(descending=True).values.tolist()
    if on == 0:
        return "dead"
    if first < INERT:
        return "inert"
    if on >= always_on:
        return "carrier"
    return "shared" if others and others[0] > SHARED * first else "task"


def _activations(net: ReluNetwork, x: Tensor) -> dict[int, Tensor]:
    """By site, the input's too, [N, h]."""
    found = {0: x}
    for site in range(1, net.depth):
        found[site] = (found[site - 1] @ net.weights[site - 1].T + net.biases[site - 1]).relu()
    return found


def _growth(
    net: ReluNetwork,
    task: Task,
    x: Tensor,
    activations: dict[int, Tensor],
    without: dict[int, Tensor],
) -> Tensor:
    """Growth of the error of each output, as a share of its variance, with some units at their means."""
    y = task.target(x)
    errors = []
    for units in (without, {}):
        site = min(units, default=net.depth - 1)
        a = activations[site]
        while True:
            if site in units:
                a = a.clone()
                a[:, units[site]] = activations[site][:, units[site]].mean(dim=0)
            a = a @ net.weights[site].T + net.biases[site]
            site += 1
            if site == net.depth:
                break
            a = a.relu()
        errors.append((a - y).square().mean(dim=0))
    return (errors[0] - errors[1]) / y.var(dim=0)


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
                generator = torch.Generator().manual_seed(seed + 2**33)
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
    widths = (task.n_inputs, *config.hidden, task.n_outputs)
    if not trained:
        for seed in config.seeds:
            yield seed, initialise(widths, seed), None
        return
    generators = [torch.Generator().manual_seed(seed + 2**32) for seed in config.seeds]
    x = torch.stack([task.sample(config.training_examples, generator=g) for g in generators])
    y = torch.stack([task.target(of_one) for of_one in x])
    training = TrainConfig(widths, config.steps, config.learning_rate, 256)
    result = train(training, x, y, config.seeds, progress=False)
    losses = result.losses[:, -100:].mean(dim=1) / y.var(dim=1).mean(dim=1)
    yield from zip(config.seeds, result.networks, losses.tolist(), strict=True)


def _row(
    net: ReluNetwork, task: Task, x: Tensor, kind: str, strength: float, seed: int,
    groups: list[int], loss: float | None, always_on: float,
) -> Row:  # fmt: skip
    found = neuron_communities(net, x)
    row = Row(
        task.name, kind, strength, seed, len(set(groups)), found.n,
        neuron_groups.ari(found.units[0].tolist(), groups) == 1, None, {}, None, {}, loss,
    )  # fmt: skip
    if kind not in ("mixing", "correlation"):
        return row
    of = truth(net, task, x, always_on)
    neurons, tasks = of.tasks()
    scores = {}
    if len(set(tasks)) > 1:
        ways = {
            name: way(net, x, len(set(groups))) for name, way in neuron_groups.BASELINES.items()
        }
        for name, units in {"ours": found.units, **ways}.items():
            scores[name] = neuron_groups.ari([int(units[s][j]) for s, j in neurons], tasks)
    return dataclasses.replace(
        row,
        neurons=scores,
        from_outputs_ari=_from_outputs(net, x, groups),
        selectivity=_selectivity(net, task, x, found),
        kinds=dict(Counter(k for kinds in of.kinds.values() for k in kinds)),
    )


def _from_outputs(net: ReluNetwork, x: Tensor, groups: list[int]) -> float:
    """Communities of the components of the input site against the inputs that these touch most."""
    graph = computation_graph(net, x)
    squares = graph.components(0).double().square()
    touched = squares @ torch.nn.functional.one_hot(torch.tensor(groups)).double()
    there = graph.lengths(0) > 0
    of = communities(graph).of(graph)[0][there]
    return neuron_groups.ari(of.tolist(), touched.argmax(dim=2)[there].tolist())


def _selectivity(net: ReluNetwork, task: Task, x: Tensor, found: Communities) -> float:
    activations = _activations(net, x)
    shares = []
    for group in range(found.n):
        without = {
            site: (of == group).nonzero().squeeze(1)
            for site, of in found.units.items()
            if site > 0 and bool((of == group).any())
        }
        if without:
            growth = _growth(net, task, x, activations, without).clamp(min=0)
            shares.append(float(growth.max() / growth.sum().clamp(min=1e-12)))
    return sum(shares) / max(1, len(shares))
