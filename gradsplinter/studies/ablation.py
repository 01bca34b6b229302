"""What hidden neurons are for, by what goes wrong without them.

A neuron is taken away by holding it at its mean over the examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradsplinter.network import ReluNetwork
from gradsplinter.tasks import Task

INERT = 0.01
"""Growth of the error, as a share of the target's variance, below which a neuron is inert."""
SHARED = 0.25
"""Second growth as a share of the first, above which a neuron is shared."""
ALWAYS_ON = 0.99
"""Share of the examples from which on a neuron is always on: it hands on a sum, whatever is in it."""

KINDS = ("task", "shared", "carrier", "inert", "dead")


@dataclass(frozen=True, eq=False)
class Truth:
    """What the hidden neurons of a network are for, by what their absence does."""

    growth: dict[int, Tensor]
    """By site, [h, outputs]: growth of the squared error, as a share of the target's variance, without
    the neuron."""
    on: dict[int, Tensor]
    """By site, float64 [h]: share of the examples in which the neuron is on."""

    def kinds(self, always_on: float = ALWAYS_ON) -> dict[int, list[str]]:
        """By site: "dead" (never on), "inert", "carrier" (always on), "shared" or "task".

        Args:
            always_on: share of the examples from which on a neuron that is not inert is a carrier.
        """
        return {
            site: [
                _kind(g, p, always_on) for g, p in zip(growth, self.on[site].tolist(), strict=True)
            ]
            for site, growth in self.growth.items()
        }

    def tasks(self, always_on: float = ALWAYS_ON) -> tuple[list[tuple[int, int]], list[int]]:
        """Neurons (site, unit) of one task, and the output that each is for."""
        neurons = [
            (site, unit)
            for site, kinds in self.kinds(always_on).items()
            for unit, kind in enumerate(kinds)
            if kind == "task"
        ]
        return neurons, [int(self.growth[site][unit].argmax()) for site, unit in neurons]


def truth(net: ReluNetwork, task: Task, x: Tensor) -> Truth:
    """What each hidden neuron is for.

    Args:
        net: a network that was trained on the task.
        task: whose targets the outputs are compared with.
        x: inputs `[N, h_0]`.

    Examples:
        Inputs of products are positive, so neurons that hand them on are always on:

        >>> from gradsplinter.tasks import ParallelProducts
        >>> task = ParallelProducts(2)
        >>> x = task.sample(500, generator=torch.Generator().manual_seed(0))
        >>> net = ReluNetwork([torch.eye(4), torch.tensor([[0.3, 0.3, 0, 0], [0, 0, 0.3, 0.3]])],
        ...                   [torch.zeros(4), torch.zeros(2)])
        >>> truth(net, task, x).kinds()
        {1: ['carrier', 'carrier', 'carrier', 'carrier']}
    """
    activations = _activations(net, x)
    growth, on = {}, {}
    for site in range(1, net.depth):
        of_site = []
        for unit in range(net.widths[site]):
            of_site.append(_growth(net, task, x, activations, {site: torch.tensor([unit])}))
        growth[site] = torch.stack(of_site)
        on[site] = (activations[site] > 0).double().mean(dim=0)
    return Truth(growth, on)


def selectivity(net: ReluNetwork, task: Task, x: Tensor, units: Mapping[int, Tensor]) -> float:
    """Mean over groups of neurons: the share of the errors' growth without it that falls on one output.

    It is 1 where no group serves more than one output, and 1 / outputs where each serves all alike.

    Args:
        net, task, x: as in `truth`.
        units: by hidden site, int64 `[h]`: the group of each neuron, -1 for none.

    Examples:
        >>> from gradsplinter.tasks import ParallelProducts
        >>> task = ParallelProducts(2)
        >>> x = task.sample(500, generator=torch.Generator().manual_seed(0))
        >>> net = ReluNetwork([torch.eye(4), torch.tensor([[0.3, 0.3, 0, 0], [0, 0, 0.3, 0.3]])],
        ...                   [torch.zeros(4), torch.zeros(2)])
        >>> selectivity(net, task, x, {1: torch.tensor([0, 0, 1, 1])})
        1.0
    """
    activations = _activations(net, x)
    hidden = {site: units[site] for site in activations if site > 0}
    shares = []
    for group in torch.cat(list(hidden.values())).unique().tolist():
        if group < 0:
            continue
        without = {
            site: (of == group).nonzero().squeeze(1)
            for site, of in hidden.items()
            if bool((of == group).any())
        }
        growth = _growth(net, task, x, activations, without).clamp(min=0)
        shares.append(float(growth.max() / growth.sum().clamp(min=1e-12)))
    return sum(shares) / max(1, len(shares))


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
