"""What needs no learned embedder: features of networks, and ways to fill in hidden gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradsplinter import ops
from gradsplinter.network import ReluNetwork
from gradsplinter.tasks import Task
from gradsplinter.tokens import Tokens

_MOST_PAIRS = 2**23
"""Of points, whose kernel is computed at once."""
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


# --- features of networks ---------------------------------------------------------------------------


def flat_weights(nets: Sequence[ReluNetwork]) -> Tensor:
    """All weights and biases, `[M, P]`."""
    return torch.stack(
        [torch.cat([part.flatten() for layer in _layers(net) for part in layer]) for net in nets]
    )


def sorted_weights(nets: Sequence[ReluNetwork]) -> Tensor:
    """The same, with the neurons of each layer in the order of the lengths of their weights in and out.

    A network and one with its neurons in another order are the same.

    Examples:
        >>> net = ReluNetwork([torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, 1.0]])], [torch.zeros(2), torch.zeros(1)])
        >>> other = ReluNetwork([torch.tensor([[2.0], [1.0]]), torch.tensor([[1.0, 1.0]])], [torch.zeros(2), torch.zeros(1)])
        >>> torch.equal(sorted_weights([net]), sorted_weights([other]))
        True
    """
    return flat_weights([_in_order(net) for net in nets])


def weight_statistics(nets: Sequence[ReluNetwork]) -> Tensor:
    """Of each layer: mean, standard deviation and quantiles of weights and of biases, singular values."""
    found = []
    for net in nets:
        parts = []
        for weight, bias in _layers(net):
            for values in (weight, bias):
                spread = values.std(correction=0)
                parts += [values.mean()[None], spread[None], _quantiles(values.flatten())]
            parts.append(torch.linalg.svdvals(weight))
        found.append(torch.cat(parts))
    return torch.stack(found)


def outputs_at(nets: Sequence[ReluNetwork], x: Tensor) -> Tensor:
    """`[M, N]`."""
    return torch.stack([net(x).flatten() for net in nets])


def gradients_at(nets: Sequence[ReluNetwork], x: Tensor) -> Tensor:
    """`[M, N · d]`."""
    return torch.stack([ops.jacobian(net, ops.signatures(net, x)).flatten() for net in nets])


def mode_statistics(tokens: Tokens) -> Tensor:
    """Number of modes, entropy of their shares; mean, deviation and quantiles of gradients and lengths."""
    found = []
    for values, shares in zip(tokens.values, tokens.shares, strict=True):
        there = shares > 0
        own, weights = values[there], shares[there]
        mean = weights @ own
        entropy = -(weights * weights.log()).sum()
        lengths = own.norm(dim=1)
        parts = [
            torch.stack([there.sum().to(entropy), entropy]),
            mean,
            (weights @ (own - mean) ** 2).sqrt(),
            *(_quantiles(column) for column in (*own.T, lengths)),
        ]
        found.append(torch.cat(parts))
    return torch.stack(found)


def nearest_at(tokens: Tokens, visible: Tensor, x: Tensor) -> Tensor:
    """At each of the points x `[N, d]` the gradient of the nearest visible token, `[M, N · d]`."""
    points = x.expand(len(tokens), *x.shape)
    return nearest_visible(tokens, visible, points).flatten(1)


def nearest_task(tokens: Tokens, tasks: Sequence[Task], *, by_share: bool = True) -> Tensor:
    """int64 `[M]`: the task whose exact gradients at the tokens are nearest, weighted by shares or all alike.

    Not a baseline but a yardstick: it needs the tasks themselves. Where all gradients are equally wrong, as by noise, they
    should weigh alike.
    """
    places = tokens.points.flatten(0, 1)
    errors = [
        (task.gradient(places).view_as(tokens.values) - tokens.values).square().sum(2)
        for task in tasks
    ]
    weights = tokens.shares if by_share else tokens.shares > 0
    return torch.stack([(weights * error).sum(1) for error in errors]).argmin(0)


# --- filling in gradients ---------------------------------------------------------------------------


def nearest_visible(tokens: Tokens, visible: Tensor, points: Tensor) -> Tensor:
    """`[B, Q, v]` at points `[B, Q, d]`: the value of the nearest visible token."""
    distances = torch.cdist(points, tokens.points)
    distances = distances.masked_fill(~(visible & (tokens.shares > 0)).unsqueeze(1), torch.inf)
    index = distances.argmin(2, keepdim=True).expand(-1, -1, tokens.values.shape[2])
    return tokens.values.gather(1, index)


class GaussianProcess:
    """A regression for each network by itself, with a Gaussian kernel, from its visible tokens.

    Length and noise of the kernel are those, of a few, that fill in best in networks that are given.
    (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equation 2.23.)

    Args:
        tokens, hidden: of these networks.
    """

    LENGTHS = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
    NOISES = (0.03, 0.1, 0.3, 1.0)

    def __init__(self, tokens: Tokens, hidden: Tensor) -> None:
        weights = (tokens.shares / len(tokens)).unsqueeze(2)
        self.point_scale = _spread(tokens.points, weights)
        self.mean = (weights * tokens.values).sum((0, 1))
        self.scale = _spread(tokens.values, weights)
        self.length, self.noise = min(
            ((length, noise) for length in self.LENGTHS for noise in self.NOISES),
            key=lambda pair: self._error(tokens, hidden, *pair),
        )

    def __call__(self, tokens: Tokens, visible: Tensor, points: Tensor | None = None) -> Tensor:
        """The value at points `[B, Q, d]`, by default those of the tokens, `[B, Q, v]`."""
        points = tokens.points if points is None else points
        return self._fill(tokens, visible, points, self.length, self.noise)

    def _error(self, tokens: Tokens, hidden: Tensor, length: float, noise: float) -> float:
        found = self._fill(tokens, ~hidden, tokens.points, length, noise)
        squares = ((found - tokens.values) / self.scale).square().sum(2)
        return float((squares * tokens.shares * hidden).sum())

    def _fill(
        self, tokens: Tokens, visible: Tensor, points: Tensor, length: float, noise: float
    ) -> Tensor:
        shown = visible & (tokens.shares > 0)
        most = int(shown.sum(1).max())
        first = shown.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
        shown = shown.gather(1, first)
        at, values = (
            data.gather(1, first.unsqueeze(2).expand(-1, -1, data.shape[2]))
            for data in (tokens.points, tokens.values)
        )
        parts = max(1, most * points.shape[1] * len(points) // _MOST_PAIRS)
        found = [
            self._regression(a, v, s, p, length, noise)
            for a, v, s, p in zip(
                *(data.tensor_split(parts) for data in (at, values, shown, points)), strict=True
            )
        ]
        return torch.cat(found)

    def _regression(
        self, at: Tensor, values: Tensor, shown: Tensor, points: Tensor, length: float, noise: float
    ) -> Tensor:
        """At points `[B, Q, d]`, from the values at points `[B, T, d]` that are shown."""
        own, asked = ((data / self.point_scale / length).double() for data in (at, points))
        there = shown.double()
        # A token that is not shown is one of infinite noise: its row and column are those of 1.
        between = _gaussian(own, own) * there.unsqueeze(1) * there.unsqueeze(2)
        noises = torch.diag_embed(noise**2 * there + (1 - there))
        wanted = ((values - self.mean) / self.scale).double() * there.unsqueeze(2)
        weights = torch.cholesky_solve(wanted, torch.linalg.cholesky(between + noises))
        found = (_gaussian(asked, own) * there.unsqueeze(1)) @ weights
        filled: Tensor = found.to(values.dtype) * self.scale + self.mean
        return filled


Fill = Callable[[Tokens, Tensor], Tensor]
"""Tokens and which are visible → the value at all of them."""


def cloze_r2(tokens: Tokens, hidden: Tensor, fill: Fill, mean: Tensor) -> float:
    """1 - squared error / squared distance from `mean`, of hidden values, weighted by shares; all networks together."""
    weights = (tokens.shares * hidden).unsqueeze(2).double()
    error = (weights * (fill(tokens, ~hidden) - tokens.values).square()).sum()
    return float(1 - error / (weights * (mean - tokens.values).square()).sum())


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    return torch.exp(-torch.cdist(a, b).square() / 2)


def _layers(net: ReluNetwork) -> list[tuple[Tensor, Tensor]]:
    return list(zip(net.weights, net.biases, strict=True))


def _in_order(net: ReluNetwork) -> ReluNetwork:
    weights, biases = list(net.weights), list(net.biases)
    for layer in range(net.depth - 1):
        sizes = weights[layer].norm(dim=1) * weights[layer + 1].norm(dim=0)
        order = sizes.argsort(descending=True)
        weights[layer], biases[layer] = weights[layer][order], biases[layer][order]
        weights[layer + 1] = weights[layer + 1][:, order]
    return ReluNetwork(tuple(weights), tuple(biases))


def _quantiles(values: Tensor) -> Tensor:
    return torch.quantile(values, torch.tensor(QUANTILES, dtype=values.dtype))


def _spread(data: Tensor, weights: Tensor) -> Tensor:
    mean = (weights * data).sum((0, 1))
    return (weights * (data - mean).square()).sum((0, 1)).sqrt().clamp_min(1e-12)
