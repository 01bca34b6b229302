"""Vectors of nearly the same direction → clusters: near-equal gradients, where no two are the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradsplinter import ops
from gradsplinter.checks import (
    DTYPES,
    SHORTEST,
    check_finite,
    check_integer,
    check_on_cpu,
    check_tensor,
)
from gradsplinter.network import ReluNetwork
from gradsplinter.wording import counted, missing_extra

SMALLEST = 1e-6
"""Smallest angle: below, the rounding of cosines decides."""
SAMPLE = 300
"""Vectors whose angles say how many bits to hash by."""
SMALL = 20_000
"""Most vectors for the methods that compare all pairs."""
AT_ONCE = 2**20
"""Entries that are computed with at a time."""
BITS_AT_ONCE = 1024
"""Bits that are hashed at a time: a number of tables."""
MOST_BITS = 2**16
"""Bits of all tables together: a wide angle with so high a recall would take forever."""


@dataclass(frozen=True, eq=False, repr=False)
class Clusters:
    """Which vectors are of one cluster. Zero vectors are of none.

    Attributes:
        vectors: [N, h]: what was clustered.
        ids: int64 [N]: the cluster of each vector, in order of first appearance; -1 for a zero
            vector.
        first: int64 [C]: the first vector of each.
        counts: int64 [C]: how many vectors there are in each.
    """

    vectors: Tensor
    ids: Tensor
    first: Tensor
    counts: Tensor

    def __len__(self) -> int:
        """C, the number of clusters."""
        return len(self.counts)

    @cached_property
    def centers(self) -> Tensor:
        """`[C, h]`: the mean of the normalised vectors of each, normalised; zero where it is."""
        centers = self.vectors.new_empty(len(self), self.vectors.shape[1])
        order = self.ids.argsort(stable=True)[int((self.ids < 0).sum()) :]
        ends = self.counts.cumsum(0)
        step = self._step()
        for begin in range(0, len(self), step):
            some = slice(begin, begin + step)  # their sums in float64 are as large as their vectors
            sums = torch.zeros(len(self.counts[some]), self.vectors.shape[1], dtype=torch.float64)
            members = order[int(ends[begin] - self.counts[begin]) : int(ends[some][-1])]
            for part in members.split(step):
                sums.index_add_(0, self.ids[part] - begin, _unit_rows(self.vectors[part]))
            lengths = sums.norm(dim=1, keepdim=True)
            centers[some] = sums / torch.where(lengths == 0, 1, lengths)
        return centers

    @cached_property
    def diameters(self) -> Tensor:
        """float64 `[C]`: an angle between two vectors of each, at least half of the largest one.

        It is found in two sweeps: the vector farthest from the first one, and the one farthest from
        that. Chains of near neighbours can join what is far apart; here it shows.
        """
        farthest, _ = self._farthest(self.first)
        return self._farthest(farthest)[1]

    def _farthest(self, origins: Tensor) -> tuple[Tensor, Tensor]:
        """Of each cluster, the vector farthest from its origin, int64 [C], and that angle."""
        farthest = origins.clone()
        widest = torch.zeros(len(self), dtype=torch.float64)
        several = (self.ids >= 0) & (self.counts[self.ids] > 1) if len(self) else self.ids >= 0
        for some in several.nonzero().squeeze(1).split(self._step()):
            ids = self.ids[some]
            others = _unit_rows(self.vectors[origins[ids]])
            angles = _angles(_unit_rows(self.vectors[some]), others)
            before = widest.clone()
            widest.scatter_reduce_(0, ids, angles, "amax")
            reached = (angles == widest[ids]) & (angles > before[ids])
            farthest[ids[reached]] = some[reached]
        return farthest, widest

    def _step(self) -> int:
        return max(1, AT_ONCE // max(1, self.vectors.shape[1]))

    def __repr__(self) -> str:
        return f"Clusters: {len(self):,} of {counted(int(self.counts.sum()), 'vector')}"


def clusters(
    vectors: Tensor,
    angle: float,
    *,
    recall: float = 0.99,
    seed: int = 0,
    max_diameter: float | None = None,
) -> Clusters:
    """Join vectors within an angle of each other, and what hangs together by such pairs.

    Two vectors are neighbours where their dot product is at least cos(angle) times their lengths, in
    float64. Candidates are found by the
    signs of random projections (Charikar 2002), b bits a table: vectors at this angle get the same
    bits with the probability (1 - angle / π)^b, closer ones with a higher one. Then whole vectors are
    compared, so what is joined is right; what is missed are neighbours that share bits in no table. The
    numbers of bits and tables are chosen for `recall` at the least cost, from the angles of a sample. The
    same seed gives the same clusters, whatever the instruction set and the threads.

    Args:
        vectors: `[N, h]`, float32 or float64, on the CPU.
        angle: in radians, from 1e-6 to π / 2.
        recall: probability with which a pair of neighbours at just this angle is found, below 1; most
            pairs are closer, and most clusters hang together by more than one pair.
        seed: of the projections.
        max_diameter: cut clusters so that no two vectors of one are farther apart: each goes to the
            first leader within half of it. Leaders are vectors without one, in their order.

    Raises:
        TypeError: another type or dtype.
        ValueError: not two dimensions, values not finite or too large or too small to square, a number
            out of range; an angle and a recall that together take too many tables.

    Examples:
        >>> degrees = torch.tensor([0.0, 40.0, 1.0, 41.5, 2.0]).deg2rad()
        >>> clusters(torch.stack([degrees.cos(), degrees.sin()], dim=1), math.radians(2)).ids
        tensor([0, 1, 0, 1, 0])
    """
    _check_vectors(vectors)
    _check_number(angle, "angle", SMALLEST, math.pi / 2)
    _check_number(recall, "recall", 0, 1 - 1e-9)
    check_integer(seed, "seed", 0)
    if max_diameter is not None:
        _check_number(max_diameter, "max_diameter", 0, math.pi)
    vectors = vectors.detach()
    first, _, ids = ops.unique_rows(vectors)
    rows = vectors if len(first) == len(vectors) else vectors[first]
    lengths = torch.ops.gradsplinter.lengths(rows)
    if not bool(torch.isfinite(lengths).all()):
        raise ValueError("vectors must have squared lengths below 1.8e308, got larger ones")
    short = lengths < SHORTEST
    if bool(rows[short].any()):
        raise ValueError(
            f"vectors must be zero or at least {SHORTEST:g} long, got shorter ones; scale them"
        )
    there = (~short).nonzero().squeeze(1)
    if len(there) < len(rows):
        rows, lengths = rows[there], lengths[there]
    joined = _numbered(_joined(rows, lengths, float(angle), float(recall), seed))
    if max_diameter is not None:
        joined = _cut(_of_ids(rows, joined), lengths, float(max_diameter))
    group = torch.full((len(first),), -1)
    group[there] = joined
    return _of_ids(vectors, group[ids])


def agglomerative(vectors: Tensor, angle: float) -> Clusters:
    """Complete linkage by scikit-learn: no two vectors of a cluster are farther apart than the angle.

    Args:
        vectors: `[N, h]`, N at most 20,000, since the angles of all pairs are held in memory.
        angle: in radians, from 1e-6 to π.

    Raises:
        ImportError: scikit-learn is missing.
        TypeError, ValueError: as `clusters`; too many vectors.
    """
    _check_number(angle, "angle", SMALLEST, math.pi)

    def fit(units: Tensor) -> Tensor:
        from sklearn.cluster import AgglomerativeClustering  # noqa: PLC0415

        method = AgglomerativeClustering(
            n_clusters=None, metric="precomputed", linkage="complete", distance_threshold=angle
        )
        angles = (units @ units.T).clamp(-1, 1).acos().fill_diagonal_(0)
        return torch.from_numpy(method.fit_predict(angles.numpy()))

    return _by_scikit_learn(vectors, fit)


def hdbscan(vectors: Tensor, smallest: int = 5) -> Clusters:
    """Clusters of different density by scikit-learn (Campello et al. 2013); no angle is needed.

    Args:
        vectors: `[N, h]`, N at most 20,000; at least `smallest` of them not zero.
        smallest: least vectors of a cluster, at least 2. Others get the id -1, as zero vectors do.

    Raises:
        ImportError: scikit-learn is missing.
        TypeError, ValueError: as `clusters`; too many vectors, or too few.
    """
    check_integer(smallest, "smallest", 2)

    def fit(units: Tensor) -> Tensor:
        from sklearn.cluster import HDBSCAN  # noqa: PLC0415

        return torch.from_numpy(
            HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(units.numpy())
        )

    return _by_scikit_learn(vectors, fit, smallest)


def _by_scikit_learn(vectors: Tensor, fit: Callable[[Tensor], Tensor], least: int = 0) -> Clusters:
    _check_vectors(vectors)
    if len(vectors) > SMALL:
        raise ValueError(
            f"vectors must be at most {SMALL:,} for this method (`clusters` takes more), "
            f"got {len(vectors):,}"
        )
    vectors = vectors.detach()
    there = (vectors != 0).any(dim=1)
    ids = torch.full((len(vectors),), -1)
    if int(there.sum()) < least:
        raise ValueError(
            f"vectors must hold at least `smallest` = {least} that are not zero, "
            f"got {int(there.sum())}"
        )
    if int(there.sum()) < 2:
        ids[there] = 0
        return _of_ids(vectors, ids)
    try:
        ids[there] = fit(_unit_rows(vectors[there])).long()
    except ImportError as error:
        raise ImportError(missing_extra("this method", "cluster", error)) from error
    some = ids >= 0
    ids[some] = _numbered(ids[some])
    return _of_ids(vectors, ids)


def _joined(rows: Tensor, lengths: Tensor, angle: float, recall: float, seed: int) -> Tensor:
    """int64 [n]: of each row, the first row of its cluster."""
    parents = torch.arange(len(rows))
    if len(rows) < 2:
        return parents
    bits, tables = _plan(rows, angle, recall)
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, BITS_AT_ONCE // max(1, bits))
    for table in range(0, tables, at_once):
        some = min(at_once, tables - table)
        words = _signs(rows, bits * some, generator)
        for i in range(some):
            key = _some_bits(words, i * bits, bits)
            found = ops.unique_rows(key.unsqueeze(1))
            torch.ops.gradsplinter.join_neighbours(
                rows, lengths, angle, found.ids, len(found.first), parents
            )
    while not torch.equal(parents, parents[parents]):
        parents = parents[parents]
    return parents


def _signs(rows: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """int64 [n, words]: the signs of random projections, by the kernel of activation patterns."""
    if bits == 0:
        return torch.zeros(len(rows), 0, dtype=torch.int64)
    projections = torch.randn(bits, rows.shape[1], generator=generator, dtype=torch.float64)
    projections = projections.to(rows.dtype)
    last = torch.zeros(1, bits, dtype=rows.dtype)
    biases = torch.zeros(bits, dtype=rows.dtype), last[0, :1]
    net = ReluNetwork((projections, last), biases)
    return ops.signatures(net, rows, check_finite=False)


def _some_bits(words: Tensor, begin: int, count: int) -> Tensor:
    """int64 [n]: `count` bits, at most 62, from bit `begin` on."""
    if count == 0:
        return torch.zeros(len(words), dtype=torch.int64)
    word, offset = divmod(begin, 64)
    mask = (1 << count) - 1
    low = words[:, word] >> offset & ((1 << min(64 - offset, 63)) - 1)
    if offset + count > 64:
        low = low | words[:, word + 1] << (64 - offset)
    return low & mask


def _plan(rows: Tensor, angle: float, recall: float) -> tuple[int, int]:
    """The bits of a table and the number of tables with the least cost, in multiply-adds."""
    n, width = rows.shape
    sample = _unit_rows(rows[:: max(1, n // SAMPLE)][:SAMPLE])
    i, j = torch.triu_indices(len(sample), len(sample), offset=1)
    angles = (sample @ sample.T)[i, j].clamp(-1, 1).acos()
    far = angles[angles > angle]  # near ones are joined by few comparisons
    bins = 100
    share = torch.histc(far, bins, 0, math.pi) / max(1, len(angles))
    same_sign = 1 - (torch.arange(bins) + 0.5) / bins
    best, chosen = math.inf, (0, 1)
    for bits in range(63):
        found = (1 - angle / math.pi) ** bits
        tables = 1 if bits == 0 else math.ceil(math.log1p(-recall) / math.log1p(-found))
        if tables * bits > MOST_BITS:
            break
        collisions = float((same_sign**bits) @ share.float())
        # A sign costs width multiply-adds in 16 lanes, a row in a table 100 ns or so, a dot
        # product width in 4 lanes and the reading of another row.
        cost = tables * (bits * width / 16 + 500 + n * collisions / 2 * (width / 4 + 50))
        if cost < best:
            best, chosen = cost, (bits, tables)
    return chosen


def _angles(a: Tensor, b: Tensor) -> Tensor:
    """Between unit vectors, row by row; also small ones are exact to the last digits (Kahan)."""
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


def _unit_rows(rows: Tensor) -> Tensor:
    """float64; zero rows stay zero."""
    rows = rows.double()
    largest = rows.abs().amax(dim=1, keepdim=True) if rows.shape[1] else rows.sum(1, keepdim=True)
    rows = rows / torch.where(
        largest == 0, 1, largest
    )  # so that squares neither vanish nor overflow
    lengths = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(lengths == 0, 1, lengths)


def _numbered(values: Tensor) -> Tensor:
    """The same groups, numbered in order of first appearance."""
    return ops.unique_rows(values.unsqueeze(1)).ids


def _of_ids(vectors: Tensor, ids: Tensor) -> Clusters:
    """ids that are numbered in order of first appearance, and -1."""
    some = (ids >= 0).nonzero().squeeze(1)
    found = ops.unique_rows(ids[some].unsqueeze(1))
    return Clusters(vectors, ids, some[found.first], found.counts)


def _cut(found: Clusters, lengths: Tensor, most: float) -> Tensor:
    """int64 [n]: clusters of at most a diameter, by the triangle inequality."""
    _, reach = found._farthest(found.first)  # the diameter is at most twice this
    wide = torch.where(2 * reach > most, torch.arange(len(found)), -1)
    leaders = torch.ops.gradsplinter.leaders(
        found.vectors, lengths, most / 2, wide[found.ids], len(found)
    )
    return _numbered(torch.where(leaders < 0, found.first[found.ids], leaders))


def _check_vectors(vectors: Tensor) -> None:
    check_tensor(vectors, "vectors", 2, DTYPES)
    check_on_cpu(vectors.device, "vectors")
    check_finite(vectors, "vectors")


def _check_number(value: float, name: str, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not least <= value <= most:  # also refuses NaN
        raise ValueError(f"{name} must be in {least:g}..{most:g}, got {value}")
