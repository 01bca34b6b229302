"""What "right" means: the kernels' results in plain Python, by the numeric contract, one by one.

Slow on purpose. Every function here is tested by cases worked out by hand, and every kernel on every
instruction set is compared with it for exact equality. A fused multiply-add is done in exact rational
arithmetic and rounded once, which needs no hardware.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from gradsplinter.network import ReluNetwork, pattern_sites
from gradsplinter.patterns import pack_bits, unpack_bits, words_of


def fma(a: float, b: float, c: float, dtype: torch.dtype) -> float:
    """a · b + c, rounded once to `dtype` (float32 or float64), for values of that dtype.

    Examples:
        >>> fma(1 + 2.0**-52, 1 - 2.0**-52, -1.0, torch.float64) == -(2.0**-104)
        True
    """
    if not (math.isfinite(a) and math.isfinite(b)):
        with np.errstate(all="ignore"):
            return float(np.float64(a) * np.float64(b) + np.float64(c))
    if not math.isfinite(c):
        return c  # the product is finite, however large
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        # A sum of zeros is -0 where both are; x - x is +0.
        product_sign = math.copysign(1.0, a) * math.copysign(1.0, b)
        return -0.0 if c == 0 and product_sign < 0 and math.copysign(1.0, c) < 0 else 0.0
    return _round(exact, dtype)


def _round(value: Fraction, dtype: torch.dtype) -> float:
    """To the nearest number of the dtype, ties to even, with gradual underflow and overflow."""
    digits, lowest, largest = (24, -149, 128) if dtype == torch.float32 else (53, -1074, 1024)
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - digits + 1, lowest)
    rounded = round(magnitude / unit) * unit  # Fraction rounds ties to even
    result = math.inf if rounded >= Fraction(2) ** largest else float(rounded)
    return -result if value < 0 else result


def chain(a: Sequence[float], b: Sequence[float], start: float, dtype: torch.dtype) -> float:
    """acc = start; acc = fma(a_k, b_k, acc) for k = 0, 1, ..., in that order."""
    acc = start
    for left, right in zip(a, b, strict=True):
        acc = fma(left, right, acc, dtype)
    return acc


def signatures(
    net: ReluNetwork, x: Tensor, sites: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Signatures int64 `[N, words]` and outputs `[N, h_L]` of inputs `[N, h_0]`."""
    wanted = range(1, net.depth) if sites is None else sites
    activations: list[list[float]] = x.tolist()
    bits: dict[int, Tensor] = {}
    for site, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True), 1):
        rows, offsets = weight.tolist(), bias.tolist()
        z = [
            [chain(a, row, b, net.dtype) for row, b in zip(rows, offsets, strict=True)]
            for a in activations
        ]
        if site < net.depth:
            on = [[v > 0 for v in row] for row in z]
            bits[site] = torch.tensor(on, dtype=torch.bool).view(-1, len(rows))
            z = [[v if v > 0 else 0.0 for v in row] for row in z]
        activations = z
    y = torch.tensor(activations, dtype=net.dtype).view(len(x), net.widths[-1])
    packed = [pack_bits(bits[site]) for site in wanted]
    words = torch.cat(packed, dim=1) if packed else torch.empty(len(x), 0, dtype=torch.int64)
    return words, y


def unique_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`first` [U], `counts` [U] and `ids` [N]; unique rows are numbered by first appearance."""
    seen: dict[tuple[float, ...], int] = {}
    first: list[int] = []
    ids: list[int] = []
    for index, row in enumerate(map(tuple, rows.tolist())):  # -0.0 == 0.0, and they hash alike
        if row not in seen:
            seen[row] = len(seen)
            first.append(index)
        ids.append(seen[row])
    counts = [0] * len(seen)
    for mode in ids:
        counts[mode] += 1
    int64 = torch.int64
    return (
        torch.tensor(first, dtype=int64),
        torch.tensor(counts, dtype=int64),
        torch.tensor(ids, dtype=int64),
    )


def nearest_signatures(
    queries: Tensor, references: Tensor, groups: Sequence[int], n_groups: int
) -> tuple[Tensor, Tensor]:
    """`distance` int32 [N, groups] and `index` int64 [N, groups]; -1 for a group without references."""
    found = []
    for query in queries.tolist():
        nearest = [(-1, -1)] * n_groups
        for i, (reference, group) in enumerate(zip(references.tolist(), groups, strict=True)):
            # A word read as signed has the same bits after the modulo.
            bits = sum(((a ^ b) % 2**64).bit_count() for a, b in zip(query, reference, strict=True))
            if nearest[group][1] < 0 or bits < nearest[group][0]:
                nearest[group] = (bits, i)
        found.append(nearest)
    table = torch.tensor(found, dtype=torch.int64).view(len(queries), n_groups, 2)
    return table[:, :, 0].to(torch.int32), table[:, :, 1]


SECRET = (0x2D358DCCAA6C78A5, 0x8BB84B93962EACC9, 0x4B33A62ED433D4A3, 0x4D5A2DA51DE1AA47)
"""The default secret of wyhash."""


def hash_rows(rows: Tensor) -> Tensor:
    """`[N]`: wyhash (final version 4.3, seed 0) of the words of each row."""
    hashes = [_wyhash([word % 2**64 for word in row]) for row in rows.tolist()]
    return torch.tensor([h - 2**64 if h >= 2**63 else h for h in hashes], dtype=torch.int64)


def _wyhash(words: list[int]) -> int:
    low = 2**32 - 1
    rest, seed = words, _mix(SECRET[0], SECRET[1])
    if len(words) >= 6:
        lanes = [seed] * 3
        while len(rest) >= 6:
            lanes = [
                _mix(rest[2 * i] ^ SECRET[i + 1], rest[2 * i + 1] ^ lanes[i]) for i in range(3)
            ]
            rest = rest[6:]
        seed = lanes[0] ^ lanes[1] ^ lanes[2]
    while len(rest) > 2:
        seed, rest = _mix(rest[0] ^ SECRET[1], rest[1] ^ seed), rest[2:]
    match words:
        case []:
            a, b = 0, 0
        case [word]:
            a, b = (word & low) << 32 | word >> 32, word
        case [first, second]:
            a, b = (first & low) << 32 | second & low, second >> 32 << 32 | first >> 32
        case [*_, a, b]:
            pass
    product = (a ^ SECRET[1]) * (b ^ seed)
    return _mix(product % 2**64 ^ SECRET[0] ^ 8 * len(words), product >> 64 ^ SECRET[1])


def _mix(a: int, b: int) -> int:
    """Both halves of a product of 128 bits."""
    return a * b % 2**64 ^ a * b >> 64


def jacobian(
    net: ReluNetwork,
    patterns: Tensor,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
) -> Tensor:
    """`[U, D, h_source]`: for each mode and direction, the chains over the units that are on."""
    target = target % (net.depth + 1)
    sites = pattern_sites(net, source, target)
    bits = dict(
        zip(sites, unpack_bits(patterns, [net.widths[site] for site in sites]), strict=True)
    )
    if directions is None:
        directions = torch.eye(net.widths[target], dtype=net.dtype)
    result = torch.empty(len(patterns), len(directions), net.widths[source], dtype=net.dtype)
    for mode in range(len(patterns)):
        for direction, vector in enumerate(directions.tolist()):
            gradient = vector
            for site in range(target, source, -1):
                on = (
                    range(net.widths[site])
                    if site == net.depth
                    else bits[site][mode].nonzero().flatten().tolist()
                )
                coefficients = [gradient[unit] for unit in on]
                columns = net.weights[site - 1].t().tolist()
                gradient = [
                    chain(coefficients, [column[unit] for unit in on], 0.0, net.dtype)
                    for column in columns
                ]
            result[mode, direction] = torch.tensor(gradient, dtype=net.dtype)
    return result


def cross(jacobian: Tensor, normalize: bool = True) -> Tensor:
    """`[U, D, D]`: chains in float64 over the entries, then cosines, rounded to the dtype."""
    modes, directions, _ = jacobian.shape
    result = torch.zeros(modes, directions, directions, dtype=torch.float64)
    for mode, gradients in enumerate(jacobian.tolist()):
        dots = [[chain(g, h, 0.0, torch.float64) for h in gradients] for g in gradients]
        for i in range(directions):
            for j in range(directions):
                value = dots[i][j]
                if normalize:
                    value = _cosine(value, dots[i][i], dots[j][j], i == j)
                result[mode, i, j] = value
    return result.to(jacobian.dtype)


def gram(
    net: ReluNetwork,
    patterns: Tensor,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """`[U, D, D]`, by `cross` of the Jacobian, or where the source is much wider than the next site,
    from A K Aᵀ by chains in float64 over the units that are on, for A the gradients at the
    pre-activations of site source+1 and K = W Wᵀ. A mode is left to `cross` in which the terms of a
    gradient cancel to less than 2^-10 of the sum of their lengths, or in which this sum is not zero
    but outside of 2^-100..2^120, where float32 gradients may underflow or overflow."""
    site, words = source + 1, words_of(net.widths[source + 1])
    if net.dtype == torch.float64 or net.widths[source] < 2 * net.widths[site]:
        return cross(jacobian(net, patterns, source, target, directions), normalize)
    target = target % (net.depth + 1)
    if directions is None:
        directions = torch.eye(net.widths[target], dtype=net.dtype)
    rows = net.weights[source].tolist()
    k = [[chain(a, b, 0.0, torch.float64) for b in rows] for a in rows]
    if site < target:
        above = jacobian(net, patterns[:, words:], site, target, directions).tolist()
    else:
        above = [directions.tolist()] * len(patterns)
    result = torch.zeros(len(patterns), len(directions), len(directions), dtype=torch.float64)
    for mode, gradients in enumerate(above):
        if site == net.depth:
            on = list(range(net.widths[site]))
        else:
            bits = unpack_bits(patterns[mode : mode + 1, :words], [net.widths[site]])[0][0]
            on = bits.nonzero().flatten().tolist()
        a = [[gradient[unit] for unit in on] for gradient in gradients]
        a_k = [[chain(row, [k[i][j] for i in on], 0.0, torch.float64) for j in on] for row in a]
        dots = [[chain(left, right, 0.0, torch.float64) for right in a] for left in a_k]
        lengths = [math.sqrt(k[i][i]) for i in on]
        most = [sum((abs(c) * n for c, n in zip(row, lengths, strict=True)), 0.0) for row in a]
        sure = (
            m == 0 or (2**-100 < m < 2**120 and dots[i][i] > 2**-20 * m * m)
            for i, m in enumerate(most)
        )
        if not all(sure):
            direct = jacobian(net, patterns[mode : mode + 1], source, target, directions)
            result[mode] = cross(direct, normalize)[0]
            continue
        for i in range(len(a)):
            for j in range(i, len(a)):
                value = dots[i][j]
                if normalize:
                    value = _cosine(value, dots[i][i], dots[j][j], i == j)
                result[mode, i, j] = result[mode, j, i] = value
    return result.to(net.dtype)


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """float64: entry k is added to partial sum k mod 16, a chain; then s_i + s_(i+8), s_i + s_(i+4), ..."""
    sums = [chain(a[i::16], b[i::16], 0.0, torch.float64) for i in range(16)]
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [left + right for left, right in zip(sums[:half], sums[half:], strict=True)]
    return sums[0]


def lengths(rows: Tensor) -> Tensor:
    """float64 `[N]`."""
    return torch.tensor([math.sqrt(dot(row, row)) for row in rows.tolist()], dtype=torch.float64)


def neighbour_sets(rows: Tensor, angle: float) -> list[int]:
    """Of each row, the first row that it hangs together with by pairs within an angle."""
    values, of = rows.tolist(), lengths(rows).tolist()
    sets = list(range(len(values)))
    for i in range(len(values)):
        for j in range(i):
            if sets[i] != sets[j] and dot(values[i], values[j]) / (of[i] * of[j]) >= math.cos(
                angle
            ):
                low, high = sorted((sets[i], sets[j]))
                sets = [low if s == high else s for s in sets]
    return sets


def leaders(rows: Tensor, angle: float, cluster_of: Sequence[int]) -> list[int]:
    """Of each row, the first leader of its cluster within an angle; without one it becomes a leader.

    The angle of two vectors is measured as Kahan does, which is exact for small ones too. A row of
    cluster -1 has the leader -1.

    Examples:
        >>> degrees = torch.tensor([0.0, 3.0, 4.0, 6.0]).deg2rad()
        >>> rows = torch.stack([degrees.cos(), degrees.sin()], dim=1)
        >>> leaders(rows, math.radians(3.5), [0, 0, 0, 0])
        [0, 0, 2, 2]
    """
    of = lengths(rows).tolist()
    units = [
        [v / length for v in row] for row, length in zip(rows.double().tolist(), of, strict=True)
    ]
    found: list[int] = []
    for i, cluster in enumerate(cluster_of):
        known = [j for j in range(i) if found[j] == j and cluster_of[j] == cluster]
        near = (j for j in known if _angle(units[i], units[j]) <= angle)
        found.append(-1 if cluster < 0 else next(near, i))
    return found


def _angle(a: Sequence[float], b: Sequence[float]) -> float:
    apart = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    together = sum((x + y) ** 2 for x, y in zip(a, b, strict=True))
    return 2 * math.atan2(math.sqrt(apart), math.sqrt(together))


def plane_regions(
    net: ReluNetwork, domain: Sequence[Sequence[float]]
) -> list[tuple[list[int], Fraction]]:
    """Signature and area of every linear region of a network of two inputs in a convex polygon, exactly.

    Every region is cut by one unit after the other, in rational arithmetic.

    Examples:
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> plane_regions(net, [[-1.0, 0.0], [3.0, 0.0], [3.0, 2.0], [-1.0, 2.0]])
        [([3], Fraction(6, 1)), ([2], Fraction(2, 1))]
    """
    corners = [tuple(map(Fraction, corner)) for corner in domain]
    inputs = [[Fraction(1), Fraction(0), Fraction(0)], [Fraction(0), Fraction(1), Fraction(0)]]
    # A region: its signature, its corners, and each a_k as coefficients of s, t and 1.
    regions: list[tuple[list[int], _Polygon, list[list[Fraction]]]] = [([], corners, inputs)]
    for weight, bias in zip(net.weights[:-1], net.biases[:-1], strict=True):
        rows = [list(map(Fraction, row)) for row in weight.tolist()]
        offsets = list(map(Fraction, bias.tolist()))
        following = []
        for signature, polygon, below in regions:
            z = [
                [
                    sum(w * a[i] for w, a in zip(row, below, strict=True)) + b * (i == 2)
                    for i in range(3)
                ]
                for row, b in zip(rows, offsets, strict=True)
            ]
            pieces = [polygon]
            for unit in z:
                pieces = [part for piece in pieces for part in _cut(piece, unit)]
            for piece in pieces:
                on = [any(_value(unit, corner) > 0 for corner in piece) for unit in z]
                bits = pack_bits(torch.tensor([on])).tolist()[0]
                above = [
                    unit if is_on else [Fraction(0)] * 3 for unit, is_on in zip(z, on, strict=True)
                ]
                following.append((signature + bits, piece, above))
        regions = following
    return [(signature, _area(polygon)) for signature, polygon, _ in regions]


_Polygon = list[tuple[Fraction, ...]]


def _value(affine: Sequence[Fraction], point: Sequence[Fraction]) -> Fraction:
    return affine[0] * point[0] + affine[1] * point[1] + affine[2]


def _area(polygon: _Polygon) -> Fraction:
    following = polygon[1:] + polygon[:1]
    twice = sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(polygon, following, strict=True))
    return Fraction(twice) / 2


def _cut(polygon: _Polygon, affine: Sequence[Fraction]) -> list[_Polygon]:
    """The parts of a convex polygon where an affine function is above and below 0."""
    values = [_value(affine, corner) for corner in polygon]
    if min(values) >= 0 or max(values) <= 0:
        return [polygon]
    above: _Polygon = []
    below: _Polygon = []
    ends = zip(polygon, polygon[1:] + polygon[:1], values, values[1:] + values[:1], strict=True)
    for a, b, left, right in ends:
        if left >= 0:
            above.append(a)
        if left <= 0:
            below.append(a)
        if left * right < 0:
            t = left / (left - right)
            middle = tuple(p + t * (q - p) for p, q in zip(a, b, strict=True))
            above.append(middle)
            below.append(middle)
    return [above, below]


def _cosine(dot: float, square: float, other: float, same: bool) -> float:
    if square == 0 or other == 0:
        return 0.0
    if same:
        return 1.0
    cosine = dot / (math.sqrt(square) * math.sqrt(other))
    return math.copysign(1.0, cosine) if abs(cosine) > 1 else cosine  # NaN where a norm is infinite
