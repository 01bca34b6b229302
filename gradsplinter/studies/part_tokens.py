"""Parts of networks as sets of tokens: what is looked at, in which direction and by which coordinates.

Up to a hidden site, what an output reads there is looked at: the mean of its gradient by the site, which is a
direction. From a hidden site on, coordinates of the site are needed that mean the same in all networks: either
those along which the task's own inputs move it on average, or its first principal directions. Which inputs and which
output are a task's must be known; here it is planted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradsplinter.communities import Communities
from gradsplinter.embedding import activations
from gradsplinter.network import ReluNetwork
from gradsplinter.splinters import Splinters
from gradsplinter.table import splinter
from gradsplinter.tokens import Tokens, of_splinters

COORDINATES = ("inputs", "principal")


@dataclass(frozen=True)
class Part:
    """A part of a network that works on one task."""

    seed: int
    """Of the network."""
    output: int
    source: int
    target: int
    """Sites; the output's is the depth."""
    coordinates: str
    """"inputs" or "principal"."""

    def name(self, depth: int) -> str:
        """As "input → site 1" or "site 1 → output"."""
        source, target = (
            {0: "input", depth: "output"}.get(site, f"site {site}")
            for site in (self.source, self.target)
        )
        return f"{source} → {target}"


def parts_by_inputs(
    net: ReluNetwork, x: Tensor, inputs: int, seed: int, kind: str
) -> Iterator[tuple[Part, Tokens]]:
    """Every part whose coordinates are a task's own inputs, or stand for these at a hidden site.

    The last hidden site is left out: up to there the output is ready, and from there on it is linear.

    Args:
        net: with h_L outputs, of which each has `inputs` inputs of its own, in order.
        x: `[N, h_0]`.
        inputs: of each task.
        seed: of the network, for the name.
        kind: of tokens, as in `tokens_of`.
    """
    eye = torch.eye(net.widths[0], dtype=net.dtype)
    own = [eye[i : i + inputs] for i in range(0, net.widths[0], inputs)]
    whole = splinter(net, x)
    for output, basis in enumerate(own):
        part = Part(seed, output, 0, net.depth, "inputs")
        yield part, of_splinters(whole, x, output, basis, kind=kind)
    for site in range(1, net.depth - 1):
        later = splinter(net, x, site)
        earlier = splinter(net, x, 0, site, mean_gradients(later))
        moved = mean_gradients(splinter(net, x, 0, site))
        a = activations(net, x, site)
        for output, basis in enumerate(own):
            part = Part(seed, output, 0, site, "inputs")
            yield part, of_splinters(earlier, x, output, basis, kind=kind)
            along = torch.linalg.pinv(moved @ basis.T)
            tokens = of_splinters(later, a, output, along, kind=kind)
            part = Part(seed, output, site, net.depth, "inputs")
            yield part, centred(tokens, (x @ basis.T).mean(0))


def parts_by_principal_directions(
    net: ReluNetwork, x: Tensor, inputs: int, found: Communities, seed: int, kind: str
) -> Iterator[tuple[Part, Tokens]]:
    """Every part from a hidden site to an output, by principal directions of the units of its task.

    Left out are those of fewer units than `inputs`.

    Args:
        net, x, inputs, seed, kind: as in `parts_by_inputs`.
        found: by `neuron_communities`: an output's units are those of the communities of its inputs.
    """
    for site in range(1, net.depth - 1):
        later, a = splinter(net, x, site), activations(net, x, site)
        for output in range(net.widths[-1]):
            groups = found.units[0][output * inputs : (output + 1) * inputs]
            units = torch.isin(found.units[site], groups[groups >= 0])
            if torch.linalg.matrix_rank(a[:, units] - a[:, units].mean(0)) < inputs:
                continue
            basis = principal_directions(a * units, inputs)
            tokens = of_splinters(later, a, output, basis, kind=kind)
            yield Part(seed, output, site, net.depth, "principal"), centred(tokens)


def mean_gradients(s: Splinters) -> Tensor:
    """The mean over examples of each direction's gradient, `[D, h_source]`.

    Of an output by a hidden site a, it is the direction v that the output reads there, and v · a the output to
    first order: its length is that which sizes need to compare.

    Examples:
        >>> net = ReluNetwork([torch.eye(2), torch.tensor([[1.0, 4.0]])], [torch.zeros(2), torch.zeros(1)])
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [2.0, -2.0], [3.0, -3.0]])
        >>> mean_gradients(splinter(net, x)), mean_gradients(splinter(net, x, 1))
        (tensor([[1., 1.]]), tensor([[1., 4.]]))
    """
    shares = (s.counts / s.n_examples).to(s.directions)
    mean: Tensor = torch.einsum("u,udh->dh", shares, s.jacobian())
    return mean


def principal_directions(a: Tensor, count: int) -> Tensor:
    """The first principal directions of activations `[N, h]`, whitened, `[count, h]`.

    The coordinates a @ result.T have standard deviation 1 and no correlation; their third moment is
    not negative, which says which sign a direction has.

    Examples:
        >>> a = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
        >>> (a @ principal_directions(a, 1).T).flatten()
        tensor([0.0000, 0.0000, 2.1213])
    """
    centred = (a - a.mean(0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    directions = vectors.T.flip(0)[:count]
    scores = centred @ directions.T
    signs = torch.where((scores**3).mean(0) < 0, -1.0, 1.0)
    scaled: Tensor = (signs / scores.std(0, correction=0)).unsqueeze(1) * directions
    return scaled.to(a.dtype)


def centred(tokens: Tokens, mean: Tensor | None = None) -> Tokens:
    """The same with points whose mean is 0, or the one that is given."""
    found = (tokens.shares.unsqueeze(2) * tokens.points).sum(1, keepdim=True)
    return replace(tokens, points=tokens.points - found + (0 if mean is None else mean))


class ZooParts:
    """What an embedder of principal coordinates is taught with: site 1 → output of each network of a zoo.

    Args:
        nets: of one output.
        x: `[N, h_0]`, by which principal directions are found, once.
        kind: of tokens, as in `tokens_of`.
    """

    def __init__(self, nets: Sequence[ReluNetwork], x: Tensor, kind: str) -> None:
        self.nets, self.kind = nets, kind
        hidden = [activations(net, x, 1) for net in nets]
        self.bases = [principal_directions(a, x.shape[1]) for a in hidden]
        self.means = [(a @ basis.T).mean(0) for a, basis in zip(hidden, self.bases, strict=True)]

    def tokens(self, index: Sequence[int], x: Tensor) -> Iterator[Tokens]:
        """Of the networks of these numbers, looked at with examples x."""
        for i in index:
            net = self.nets[i]
            a = activations(net, x, 1)
            found = of_splinters(splinter(net, x, 1), a, 0, self.bases[i], kind=self.kind)
            yield replace(found, points=found.points - self.means[i])
