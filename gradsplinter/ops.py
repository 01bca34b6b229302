"""The kernels as functions on tensors: arguments are checked here, once, and nowhere below.

Every function goes through `torch.ops.gradsplinter`, so that it works under `torch.compile` and fake
tensors, and the compiled module never sees a tensor without data. Results are the same bits for any
batch size, number of threads and instruction set; `gradsplinter.reference` says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from gradsplinter import _C
from gradsplinter.checks import DTYPES, check_bool, check_integer, check_span, check_tensor
from gradsplinter.checks import check_finite as _check_finite
from gradsplinter.patterns import words_of
from gradsplinter.traced import Network, TracedNetwork


class UniqueRows(NamedTuple):
    """What `unique_rows` found: U unique rows, numbered in order of first appearance."""

    first: Tensor
    """int64 [U]: the index of each unique row's first occurrence."""
    counts: Tensor
    """int64 [U]: how often each occurs."""
    ids: Tensor
    """int64 [N]: which unique row each row is."""


class UniqueSignatures(NamedTuple):
    """What `unique_signatures` found: U unique signatures, numbered in order of first appearance."""

    signatures: Tensor
    """int64 [U, words]: the unique signatures."""
    first: Tensor
    """int64 [U]: the first example of each."""
    counts: Tensor
    """int64 [U]: how many examples have each."""
    ids: Tensor
    """int64 [N]: which of them each example has."""


class NearestSignatures(NamedTuple):
    """What `nearest_signatures` found, for each of N queries and each group of references."""

    distance: Tensor
    """int32 [N, groups]: in bits; -1 for a group without references."""
    nearest: Tensor
    """int64 [N, groups]: the nearest reference, the first of several; -1 for a group without any."""


@overload
def signatures(
    net: Network,
    x: Tensor,
    sites: Sequence[int] | None = None,
    *,
    outputs: Literal[False] = False,
    check_finite: bool = True,
) -> Tensor: ...
@overload
def signatures(
    net: Network,
    x: Tensor,
    sites: Sequence[int] | None = None,
    *,
    outputs: Literal[True],
    check_finite: bool = True,
) -> tuple[Tensor, Tensor]: ...
def signatures(
    net: Network,
    x: Tensor,
    sites: Sequence[int] | None = None,
    *,
    outputs: bool = False,
    check_finite: bool = True,
) -> Tensor | tuple[Tensor, Tensor]:
    """Activation patterns of examples, packed in bits.

    Unit j of a site is on where its pre-activation z_j > 0, with z_j = b_j + Σ_k a_k W_jk summed as
    a chain of fused multiply-adds in ascending k.

    Args:
        net: the network.
        x: inputs `[N, h_0]`, of the network's dtype.
        sites: hidden sites (1..L-1) in ascending order; all by default.
        outputs: also return the network's outputs.
        check_finite: refuse inputs that are NaN or infinite.

    Returns:
        int64 `[N, words]`: for each site ceil(h / 64) words, unit j being bit j mod 64 of word
        j div 64; with `outputs` also y `[N, h_L]`.

    Raises:
        TypeError: net is not a ReluNetwork, x not a tensor of its dtype, a site not an integer.
        ValueError: a shape, device or site that does not fit; x not finite.

    Examples:
        >>> from gradsplinter import ReluNetwork
        >>> net = ReluNetwork([torch.tensor([[1.0], [-1.0]]), torch.ones(1, 2)],
        ...                   [torch.zeros(2), torch.zeros(1)])
        >>> signatures(net, torch.tensor([[2.0], [-3.0], [0.0]]))
        tensor([[1],
                [2],
                [0]])
    """
    x, chosen = _check_forward(net, x, sites, check_finite)
    if isinstance(net, TracedNetwork):
        words, y = net.forward(x, chosen)
    else:
        words, y = torch.ops.gradsplinter.signatures(x, net.weights, net.biases, chosen, outputs)
    return (words, y) if outputs else words


def unique_rows(rows: Tensor) -> UniqueRows:
    """The unique rows of a matrix, exactly: a hash table that always compares whole rows.

    Args:
        rows: `[N, width]`, int64 (compared as words), bool, float32 or float64 (-0.0 equals 0.0).

    Returns:
        `first`, `counts` and `ids`; the unique rows themselves are `rows[first]`.

    Raises:
        TypeError: another dtype.
        ValueError: not two dimensions; a NaN.

    Examples:
        >>> unique_rows(torch.tensor([[5, 1], [2, 2], [5, 1]]))
        UniqueRows(first=tensor([0, 1]), counts=tensor([2, 1]), ids=tensor([0, 1, 0]))
    """
    check_tensor(rows, "rows", 2, (torch.int64, torch.bool, *DTYPES))
    return UniqueRows(*torch.ops.gradsplinter.unique_rows(rows))


def unique_signatures(
    net: Network,
    x: Tensor,
    sites: Sequence[int] | None = None,
    *,
    check_finite: bool = True,
) -> UniqueSignatures:
    """`unique_rows(signatures(net, x, sites))` and the unique rows, in one pass over the examples.

    On a CPU, where few signatures are unique, those of all examples are never written to memory; on a
    GPU they are.

    Args:
        net, x, sites, check_finite: as in `signatures`.

    Returns:
        `signatures`, `first`, `counts` and `ids`.

    Raises:
        TypeError, ValueError: as `signatures`.

    Examples:
        >>> from gradsplinter import ReluNetwork
        >>> net = ReluNetwork([torch.tensor([[1.0], [-1.0]]), torch.ones(1, 2)],
        ...                   [torch.zeros(2), torch.zeros(1)])
        >>> found = unique_signatures(net, torch.tensor([[2.0], [-3.0], [1.0]]))
        >>> found.signatures.tolist(), found.counts.tolist(), found.ids.tolist()
        ([[1], [2]], [2, 1], [0, 1, 0])
    """
    x, chosen = _check_forward(net, x, sites, check_finite)
    if isinstance(net, TracedNetwork):
        words, _ = net.forward(x, chosen)
        first, counts, ids = unique_rows(words)
        return UniqueSignatures(words[first], first, counts, ids)
    return UniqueSignatures(
        *torch.ops.gradsplinter.unique_signatures(x, net.weights, net.biases, chosen)
    )


def hash_rows(rows: Tensor) -> Tensor:
    """wyhash (final version 4.3, seed 0) of the little-endian bytes of each row of 64-bit words.

    Source: Wang Yi et al., "Modern Non-Cryptographic Hash Function and Pseudorandom Number Generator".

    Args:
        rows: int64 `[N, words]`.

    Returns:
        int64 `[N]`: the 64 bits of each hash, read as signed.

    Raises:
        TypeError: another dtype.
        ValueError: not two dimensions.

    Examples:
        >>> hash_rows(torch.tensor([[0]]))
        tensor([5394341615598708913])
    """
    check_tensor(rows, "rows", 2, (torch.int64,))
    return torch.ops.gradsplinter.hash_rows(rows)  # type: ignore[no-any-return]


def nearest_signatures(
    queries: Tensor,
    references: Tensor,
    groups: Tensor | None = None,
    n_groups: int | None = None,
) -> NearestSignatures:
    """The reference that differs from each query in the fewest bits (the Hamming distance), by group.

    Every pair is compared.

    Args:
        queries: int64 `[N, words]`, as from `signatures`.
        references: int64 `[M, words]`.
        groups: int64 `[M]`: the group of each reference, in 0..n_groups-1; by default all are in one.
        n_groups: how many groups there are; to be given with `groups`. Of one without references
            distance and nearest are -1.

    Returns:
        `distance` and `nearest` `[N, n_groups]`.

    Raises:
        TypeError: another dtype.
        ValueError: a shape that does not fit, a group out of range, tensors on different devices.
        NotImplementedError: tensors on a GPU.

    Examples:
        >>> queries, references = torch.tensor([[0b0111]]), torch.tensor([[0b0110], [0b1000], [0b0101]])
        >>> nearest_signatures(queries, references)
        NearestSignatures(distance=tensor([[1]], dtype=torch.int32), nearest=tensor([[0]]))
        >>> nearest_signatures(queries, references, torch.tensor([1, 0, 1]), 2).distance
        tensor([[4, 1]], dtype=torch.int32)
    """
    for tensor, name in ((queries, "queries"), (references, "references")):
        check_tensor(tensor, name, 2, (torch.int64,))
    _same_place(references, "references", queries, "queries")
    if references.shape[1] != queries.shape[1]:
        raise ValueError(
            f"references must have shape [M, {queries.shape[1]}] to match queries, "
            f"got {list(references.shape)}"
        )
    if (groups is None) != (n_groups is None):
        raise ValueError("groups and n_groups must be given together")
    if groups is None or n_groups is None:
        groups, n_groups = references.new_zeros(len(references)), 1
    check_tensor(groups, "groups", 1, (torch.int64,))
    _same_place(groups, "groups", queries, "queries")
    n_groups = check_integer(n_groups, "n_groups", 0)
    if len(groups) != len(references):
        raise ValueError(
            f"groups must have shape [{len(references)}], one for each reference, "
            f"got {list(groups.shape)}"
        )
    if len(groups) and not groups.is_meta:
        least, most = (int(group) for group in groups.aminmax())
        if least < 0 or most >= n_groups:
            raise ValueError(
                f"groups must be in 0..{n_groups - 1}, got {least if least < 0 else most}"
            )
    return NearestSignatures(
        *torch.ops.gradsplinter.nearest_signatures(queries, references, groups, n_groups)
    )


def jacobian(
    net: Network,
    patterns: Tensor,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """The gradient of every direction at the target with respect to the source, one per mode.

    G_u = V D^target_u W^target ... D^(source+1)_u W^(source+1), from left to right, with D_u the
    diagonal matrix of mode u's bits (none at the output). Each entry is a chain of fused
    multiply-adds from 0 over the units that are on, in ascending order.

    Args:
        net: the network.
        patterns: int64 `[U, words]`: signatures of the sites `pattern_sites(net, source, target)`,
            that is source+1..target, without the output.
        source: the site to differentiate by, 0..L-1.
        target: the site to differentiate, source+1..L; negative ones count from the end, -1 is L.
        directions: V `[D, h_target]`; the target's own nodes by default.
        out: where to write the result, contiguous. Touching fresh memory for the first time can take
            longer than the arithmetic.

    Returns:
        `[U, D, h_source]` in the network's dtype; `out` if it was given.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a shape, device or site that does not fit, bits of units that a site does not
            have, directions that are not finite.

    Examples:
        >>> from gradsplinter import ReluNetwork
        >>> net = ReluNetwork([torch.tensor([[1.0], [-1.0]]), torch.tensor([[3.0, 4.0]])],
        ...                   [torch.zeros(2), torch.zeros(1)])
        >>> jacobian(net, torch.tensor([[0b01], [0b10]])).squeeze()
        tensor([ 3., -4.])
    """
    source, target, directions = _check_chain(net, patterns, source, target, directions)
    if out is not None:
        _check_out(out, [len(patterns), len(directions), net.widths[source]], net)
    if isinstance(net, TracedNetwork):
        found = net.jacobian(patterns, source, target, directions)
        return found if out is None else out.copy_(found)
    arguments = net.weights[source:target], target == net.depth, patterns, directions
    if out is None:
        return torch.ops.gradsplinter.jacobian(*arguments)  # type: ignore[no-any-return]
    torch.ops.gradsplinter.jacobian_out(*arguments, out)
    return out


def cross(jacobian: Tensor, normalize: bool = True) -> Tensor:
    """Dot products of every pair of directions within a mode, and only within a mode.

    Sums are chains in float64, whatever the dtype. Where a gradient is exactly zero its cosines are
    0, on the diagonal too, where all others have 1: so the diagonal tells how many there are. (The
    square of a float64 gradient's length must be a float64: shorter than about 1e-162 it counts as
    zero, longer than about 1e154 its cosines are NaN.)

    Args:
        jacobian: `[U, D, h]`, float32 or float64.
        normalize: cosines instead of dot products.

    Returns:
        `[U, D, D]`, symmetric, of the same dtype.

    Raises:
        TypeError: another dtype.
        ValueError: not three dimensions.

    Examples:
        >>> cross(torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]))
        tensor([[[1.0000, 0.8000],
                 [0.8000, 1.0000]]])
    """
    check_tensor(jacobian, "jacobian", 3, DTYPES)
    check_bool(normalize, "normalize")
    return torch.ops.gradsplinter.cross(jacobian.detach(), normalize)  # type: ignore[no-any-return]


def gram(
    net: Network,
    patterns: Tensor,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """`cross(jacobian(...))` without ever forming the Jacobian.

    Gradients are made a few modes at a time and compared at once: the same bits as `cross`. Only for
    float32 networks whose source is at least twice as wide as the next site there is a shorter way.
    The last step back is a product with W = W^(source+1), so G = A W and G Gᵀ = A K Aᵀ with
    K = W Wᵀ, which is the same in every mode. Sums are chains in float64, over the units that are on
    in ascending order: first K, then A K, then (A K) Aᵀ. That is closer to the exact values than
    float32 gradients are, so results differ from those of `cross` by a rounding of the gradients. A
    mode in which a gradient is shorter than 2^-10 of the sum of the lengths of its terms, where
    nearly all cancels, is computed from its gradients all the same: a gradient that `jacobian`
    finds exactly zero counts as zero here too.

    Args:
        net, patterns, source, target, directions: as in `jacobian`.
        normalize: cosines instead of dot products.

    Returns:
        `[U, D, D]`, symmetric, in the network's dtype.

    Raises:
        TypeError, ValueError: as `jacobian`.

    Examples:
        >>> from gradsplinter import ReluNetwork
        >>> net = ReluNetwork([torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.eye(2)],
        ...                   [torch.zeros(2), torch.zeros(2)])
        >>> gram(net, torch.tensor([[0b11], [0b01]]), normalize=False)
        tensor([[[25.,  8.],
                 [ 8.,  4.]],
        <BLANKLINE>
                [[25.,  0.],
                 [ 0.,  0.]]])
    """
    check_bool(normalize, "normalize")
    source, target, directions = _check_chain(net, patterns, source, target, directions)
    if isinstance(net, TracedNetwork):
        return cross(net.jacobian(patterns, source, target, directions), normalize)
    return torch.ops.gradsplinter.gram(  # type: ignore[no-any-return]
        net.weights[source:target], target == net.depth, patterns, directions, normalize
    )


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that were compiled in and that this CPU can run, best first."""
    return tuple(_C.instruction_sets())


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Run the CPU kernels with another instruction set than the best one, for tests.

    The environment variable GRADSPLINTER_CPU does the same for a whole process. The choice is not
    per thread.

    Raises:
        ValueError: this CPU cannot run it.
    """
    before = _C.instruction_set()
    _C.use_instruction_set(name)
    try:
        yield
    finally:
        _C.use_instruction_set(before)


def _check_forward(
    net: Network, x: Tensor, sites: Sequence[int] | None, check_finite: bool
) -> tuple[Tensor, list[int]]:
    """Checked inputs and sites of the forward pass."""
    _check_network(net)
    x = net.check_inputs(x, finite=check_finite)
    return x, list(range(1, net.depth)) if sites is None else _hidden_sites(net, sites)


def _check_chain(
    net: Network, patterns: Tensor, source: int, target: int, directions: Tensor | None
) -> tuple[int, int, Tensor]:
    """Checked source, target and directions of the backward chain."""
    _check_network(net)
    source, target = check_span(net.depth, source, target)
    sites = range(source + 1, min(target, net.depth - 1) + 1)
    words = sum([words_of(net.bits[site]) for site in sites])
    check_tensor(patterns, "patterns", 2, (torch.int64,))
    _same_device(patterns, "patterns", net)
    if patterns.shape[1] != words:
        raise ValueError(
            f"patterns must have shape [U, {words}] to hold the bits of sites {list(sites)}, "
            f"got {list(patterns.shape)}"
        )
    if directions is None:
        directions = torch.eye(net.widths[target], dtype=net.dtype, device=net.device)
    else:
        directions = check_directions(net, directions, target)
    return source, target, directions


def check_directions(net: Network, directions: Tensor, target: int) -> Tensor:
    check_tensor(directions, "directions", 2, (net.dtype,))
    _same_device(directions, "directions", net)
    if directions.shape[1] != net.widths[target]:
        raise ValueError(
            f"directions must have shape [D, {net.widths[target]}] to match site {target}, "
            f"got {list(directions.shape)}"
        )
    _check_finite(directions, "directions")
    return directions.detach().clone()


def _check_network(net: object) -> None:
    if not isinstance(net, Network):
        raise TypeError(
            f"net must be a ReluNetwork (ReluNetwork.from_module makes one) or a TracedNetwork, "
            f"got {type(net).__name__}"
        )


def _check_out(out: Tensor, shape: list[int], net: Network) -> None:
    check_tensor(out, "out", len(shape), (net.dtype,))
    _same_device(out, "out", net)
    if list(out.shape) != shape or not out.is_contiguous():
        raise ValueError(
            f"out must be contiguous and of shape {shape}, got {list(out.shape)}"
            f"{'' if out.is_contiguous() else ', not contiguous'}"
        )
    if out.requires_grad:
        raise ValueError("out must not require gradients, since it is overwritten")


def _hidden_sites(net: Network, sites: Sequence[int]) -> list[int]:
    if not isinstance(sites, Iterable):
        raise TypeError(f"sites must be a sequence of sites, got {type(sites).__name__}")
    chosen = [check_integer(site, f"sites[{i}]") for i, site in enumerate(sites)]
    if any(not 1 <= site < net.depth for site in chosen):
        raise ValueError(f"sites must be hidden sites in 1..{net.depth - 1}, got {chosen}")
    if any(a >= b for a, b in pairwise(chosen)):
        raise ValueError(f"sites must be in ascending order without repeats, got {chosen}")
    return chosen


def _same_place(tensor: Tensor, name: str, other: Tensor, other_name: str) -> None:
    if tensor.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}, {other.device}, got {tensor.device}"
        )


def _same_device(tensor: Tensor, name: str, net: Network) -> None:
    if tensor.device != net.device:
        raise ValueError(
            f"{name} must be on the network's device {net.device}, got {tensor.device}"
        )
