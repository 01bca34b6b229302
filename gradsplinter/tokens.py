"""Networks as sets of tokens: where they were looked at, and what their gradients are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gradsplinter.checks import check_finite, check_tensor
from gradsplinter.network import ReluNetwork
from gradsplinter.splinters import Splinters
from gradsplinter.table import splinter

KINDS = ("modes", "samples")
VALUES = ("gradients", "outputs")


@dataclass(frozen=True, eq=False)
class Tokens:
    """B sets of up to T tokens; shorter ones are filled up with tokens without a share.

    Attributes:
        points: `[B, T, d]`: where.
        values: `[B, T, v]`: what is there; by default the gradient, v = d.
        shares: `[B, T]`: of the examples of each set, which add up to 1.

    Examples:
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> tokens = tokens_of([net], torch.tensor([[1.0, 3.0], [-1.0, 1.0], [3.0, 1.0], [1.0, 2.0]]))
        >>> tokens.points, tokens.values, tokens.shares
        (tensor([[[ 1.6667,  2.0000],
                 [-1.0000,  1.0000]]]), tensor([[[1., 1.],
                 [0., 1.]]]), tensor([[0.7500, 0.2500]]))
    """

    points: Tensor
    values: Tensor
    shares: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, sets: Tensor | slice) -> Tokens:
        """Some of the sets, without what is behind the last token of all of them."""
        shares = self.shares[sets]
        longest = 1 + max((shares > 0).any(0).nonzero().flatten().tolist(), default=-1)
        return Tokens(self.points[sets, :longest], self.values[sets, :longest], shares[:, :longest])

    def to(self, like: Tensor | torch.device) -> Tokens:
        """On another device; of another dtype, too, where a tensor is given."""
        return Tokens(self.points.to(like), self.values.to(like), self.shares.to(like))

    def only(self, kept: Tensor) -> Tokens:
        """Without the tokens that are not kept, bool `[B, T]`; the shares of each set add up to 1 again."""
        shares = self.shares * kept
        return replace(self, shares=shares / shares.sum(1, keepdim=True).clamp_min(1e-12))

    def some(self, counts: Tensor | int, generator: torch.Generator) -> Tensor:
        """bool `[B, T]`: random tokens of each set, as many as `counts` (`[B, 1]`) says, or all.

        What is drawn is the same on all devices.
        """
        there = self.shares > 0
        drawn = torch.rand(there.shape, generator=generator).to(there.device)
        order = drawn.masked_fill(~there, 2.0)
        return (order.argsort(1).argsort(1) < counts) & there


def tokens_of(
    nets: Sequence[ReluNetwork], x: Tensor, *, kind: str = "modes", values: str = "gradients"
) -> Tokens:
    """Tokens of networks with one output, looked at with examples x.

    Args:
        nets: B of them, of the same numbers of inputs.
        x: `[N, d]`, the same for all, or `[B, N, d]`.
        kind: "modes", one token for each activation pattern, at the mean of its examples, its share that
            of the examples; or "samples", one for each example.
        values: "gradients" of the output, or "outputs": at the point of a mode, by its own affine function.

    Raises:
        ValueError: what `splinter` refuses; networks of several outputs; another kind.
    """
    _check_kind(kind)
    for i, net in enumerate(nets):
        if net.widths[-1] != 1:
            raise ValueError(f"nets[{i}] must have 1 output, got {net.widths[-1]}")
    if values not in VALUES:
        raise ValueError(f"values must be one of {', '.join(VALUES)}, got {values!r}")
    examples = x if x.dim() == 3 else x.expand(len(nets), *x.shape)
    return joined(
        [_of_one(net, own, kind, values) for net, own in zip(nets, examples, strict=True)]
    )


def joined(parts: Sequence[Tokens]) -> Tokens:
    """The sets of all parts, one after the other.

    Examples:
        >>> one, two = (Tokens(torch.rand(3, n, 2), torch.rand(3, n, 2), torch.ones(3, n) / n) for n in (5, 8))
        >>> len(joined([one, two])), joined([one, two]).points.shape
        (6, torch.Size([6, 8, 2]))
    """
    points, values, shares = (
        nn.utils.rnn.pad_sequence(
            [one for part in parts for one in getattr(part, name)], batch_first=True
        )
        for name in ("points", "values", "shares")
    )
    return Tokens(points, values, shares)


def of_splinters(
    s: Splinters,
    x: Tensor,
    direction: int = 0,
    basis: Tensor | None = None,
    *,
    kind: str = "modes",
) -> Tokens:
    """One set: a network or a part of it, and the gradients of one direction.

    Args:
        s: with ids.
        x: `[N, h_source]`: the examples at the source.
        direction: which.
        basis: `[d, h_source]`, of the dtype and on the device of x: coordinates in its rows, which take the
            place of the units of the source. A point a becomes basis · a, and a gradient g that by these
            coordinates, g · basis⁺, basis⁺ being the pseudoinverse (basisᵀ where rows are orthonormal).
            Rows of the identity choose units; principal directions choose where examples differ most.
        kind: as in `tokens_of`.

    Raises:
        ValueError: s without ids, or of other examples; a basis of another shape, not of full row rank, or not
            finite; another kind.
        TypeError: a basis of another dtype, or no tensor.

    Examples:
        >>> net = ReluNetwork([torch.tensor([[0.0, 3.0, 4.0]]), torch.ones(1, 1)], [torch.zeros(1)] * 2)
        >>> x = torch.tensor([[7.0, 1.0, 2.0]])
        >>> found = of_splinters(splinter(net, x), x, basis=torch.eye(3)[1:])
        >>> found.points, found.values
        (tensor([[[1., 2.]]]), tensor([[[3., 4.]]]))
    """
    _check_kind(kind)
    if s.ids is None:
        raise ValueError("s must hold the ids of the examples: splinter(..., ids=True)")
    if len(x) != len(s.ids):
        raise ValueError(f"x must be the {len(s.ids):,} examples of s, got {len(x):,}")
    gradients = s.jacobian()[:, direction]
    if basis is not None:
        _check_basis(basis, x)
        x, gradients = x @ basis.T, gradients @ torch.linalg.pinv(basis)
    if kind == "samples":
        shares = x.new_full((1, len(x)), 1 / len(x))
        return Tokens(x[None], gradients[s.ids][None], shares)
    shares = (s.counts / s.counts.sum()).to(x)
    return Tokens(_means(x, s.ids, s.counts)[None], gradients[None], shares[None])


def turned(tokens: Tokens, centre: Tensor, generator: torch.Generator) -> Tokens:
    """Each set as of the function ±f(Q(x - centre) + centre), Q a random signed permutation of the inputs.

    Examples:
        >>> tokens = Tokens(torch.tensor([[[0.2, 0.5]]]), torch.tensor([[[3.0, 1.0]]]), torch.ones(1, 1))
        >>> found = turned(tokens, torch.tensor([0.5, 0.5]), torch.Generator().manual_seed(0))
        >>> found.points, found.values
        (tensor([[[0.8000, 0.5000]]]), tensor([[[ 3., -1.]]]))
    """
    sets, d = len(tokens), tokens.points.shape[2]
    order = torch.rand(sets, d, generator=generator).argsort(1)
    signs = 1.0 - 2 * torch.randint(2, (sets, d + 1), generator=generator)
    turn = nn.functional.one_hot(order, d) * signs[:, :d, None]
    turn, sign = turn.to(tokens.points), signs[:, d:, None].to(tokens.points)
    values = tokens.values @ turn if tokens.values.shape[2] == d else tokens.values
    return replace(tokens, points=(tokens.points - centre) @ turn + centre, values=sign * values)


def hide(tokens: Tokens, shares: tuple[float, ...], generator: torch.Generator) -> Tensor:
    """bool `[B, T]`: a random share of each set's tokens, at least one, and not all where there are two."""
    rates = torch.tensor(shares)[torch.randint(len(shares), (len(tokens), 1), generator=generator)]
    rates = rates.to(tokens.shares.device)
    counts = (tokens.shares > 0).sum(1, keepdim=True)
    hidden = (rates * counts).round().clamp(min=1).minimum((counts - 1).clamp(min=1))
    return tokens.some(hidden, generator)


def _of_one(net: ReluNetwork, x: Tensor, kind: str, values: str) -> Tokens:
    s = splinter(net, x)
    tokens = of_splinters(s, x, kind=kind)
    if values == "gradients":
        return tokens
    assert s.ids is not None
    found = net(x) if kind == "samples" else _means(net(x), s.ids, s.counts)
    return replace(tokens, values=found[None])


def _means(x: Tensor, ids: Tensor, counts: Tensor) -> Tensor:
    """Of the examples of each mode, `[U, d]`; an affine function of them has its own mean there."""
    sums = torch.zeros(len(counts), x.shape[1], dtype=torch.float64, device=x.device)
    return (sums.index_add_(0, ids, x.double()) / counts.unsqueeze(1)).to(x.dtype)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")


def _check_basis(basis: Tensor, x: Tensor) -> None:
    check_tensor(basis, "basis", 2, (x.dtype,))
    d, width = basis.shape
    if width != x.shape[1] or d == 0:
        raise ValueError(
            f"basis must have shape [d, {x.shape[1]}], as wide as the source, got {list(basis.shape)}"
        )
    check_finite(basis, "basis")
    rank = int(torch.linalg.matrix_rank(basis))
    if rank < d:
        raise ValueError(
            f"basis must have rows that are linearly independent, got {d} of rank {rank}"
        )
