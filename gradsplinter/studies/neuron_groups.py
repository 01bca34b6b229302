"""Other ways to group the hidden neurons of a network, and how well two groupings agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

import torch
from torch import Tensor

from gradsplinter.modularity import louvain
from gradsplinter.network import ReluNetwork
from gradsplinter.table import splinter


def ari(found: Sequence[int], truth: Sequence[int]) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985): 1 for the same groups, about 0 for chance.

    Examples:
        >>> ari([0, 0, 1, 1], [5, 5, 3, 3]), ari([0, 1, 0, 1], [5, 5, 3, 3])
        (1.0, -0.5)
    """
    pairs = sum(comb(count, 2) for count in Counter(zip(found, truth, strict=True)).values())
    left, right = (sum(comb(n, 2) for n in Counter(of).values()) for of in (found, truth))
    total = comb(len(truth), 2)
    most = (left + right) * total / 2
    by_chance = left * right
    return 1.0 if most == by_chance else (pairs * total - by_chance) / (most - by_chance)


def weight_rows(net: ReluNetwork, x: Tensor, n: int) -> dict[int, Tensor]:  # noqa: ARG001
    """Louvain on |cos| of the rows of abs(W^l) ··· abs(W^1)."""
    rows, product = {}, None
    for site in range(1, net.depth):
        weight = net.weights[site - 1].double().abs()
        product = weight if product is None else weight @ product
        rows[site] = product
    return _by_cosine(rows)


def input_gradients(net: ReluNetwork, x: Tensor, n: int) -> dict[int, Tensor]:  # noqa: ARG001
    """Louvain on |cos| of the mean normalised gradients, element by element absolute."""
    rows = {}
    for site in range(1, net.depth):
        s = splinter(net, x, 0, site)
        gradients = s.jacobian().double()
        lengths = gradients.norm(dim=2, keepdim=True)
        units = gradients.abs() / torch.where(lengths == 0, 1, lengths)
        rows[site] = torch.einsum("u,udh->dh", s.counts.double(), units)
    return _by_cosine(rows)


def activation_correlation(net: ReluNetwork, x: Tensor, n: int) -> dict[int, Tensor]:  # noqa: ARG001
    """Louvain on |correlation| of activations."""
    return _by_cosine({s: (a - a.mean(dim=0)).T for s, a in _activations(net, x).items()})


def bit_correlation(net: ReluNetwork, x: Tensor, n: int) -> dict[int, Tensor]:  # noqa: ARG001
    """Louvain on |correlation| of which examples a neuron is on for."""
    bits = {site: (a > 0).double() for site, a in _activations(net, x).items()}
    return _by_cosine({site: (b - b.mean(dim=0)).T for site, b in bits.items()})


def principal_components(net: ReluNetwork, x: Tensor, n: int) -> dict[int, Tensor]:
    """The one of the first n principal components on which a neuron loads most; n is given."""
    activations = _activations(net, x)
    values = torch.cat(list(activations.values()), dim=1)
    centred = values - values.mean(dim=0)
    deviations = centred.norm(dim=0)
    _, _, axes = torch.linalg.svd(
        centred / torch.where(deviations == 0, 1, deviations), full_matrices=False
    )
    groups = axes[:n].abs().argmax(dim=0)
    return _by_site(groups, {site: a.T for site, a in activations.items()})


BASELINES: dict[str, Callable[[ReluNetwork, Tensor, int], dict[int, Tensor]]] = {
    "weight rows": weight_rows,
    "input gradients": input_gradients,
    "activations": activation_correlation,
    "bits": bit_correlation,
    "principal components, k given": principal_components,
}


def _activations(net: ReluNetwork, x: Tensor) -> dict[int, Tensor]:
    found, a = {}, x
    for site in range(1, net.depth):
        a = (a @ net.weights[site - 1].T + net.biases[site - 1]).relu()
        found[site] = a.double()
    return found


def _by_cosine(rows: dict[int, Tensor]) -> dict[int, Tensor]:
    """Louvain on the |cos| of all neurons' rows; a row of zeros is a group of its own."""
    every = torch.cat(list(rows.values()))
    lengths = every.norm(dim=1, keepdim=True)
    units = every / torch.where(lengths == 0, 1, lengths)
    return _by_site(louvain((units @ units.T).abs().fill_diagonal_(0), seed=0), rows)


def _by_site(groups: Tensor, rows: dict[int, Tensor]) -> dict[int, Tensor]:
    return dict(zip(rows, groups.split([len(r) for r in rows.values()]), strict=True))
