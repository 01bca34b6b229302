"""Near-equal vectors joined, against the same idea in NumPy, and the recall against all pairs."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import gradsplinter
from gradsplinter.clusters import _plan

SMALL_BUCKET = 48


def vectors_around(n, width, centers, size):
    """Directions as gradients have them: many next to each other, any length."""
    middle = torch.nn.functional.normalize(torch.randn(centers, width), dim=1)
    noise = torch.randn(n, width) * size / math.sqrt(width)
    return (middle[torch.randint(centers, (n,))] + noise) * (0.1 + torch.rand(n, 1))


def in_numpy(x, angle, bits, tables):
    """Signs of projections as integers, sorted into buckets; all pairs of a bucket by products of
    matrices, or by one shift after the other where buckets are small; SciPy's components of them."""
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    generator = np.random.default_rng(0)
    left, right = [], []
    for _ in range(tables):
        signs = units @ generator.standard_normal((x.shape[1], bits), dtype=x.dtype) > 0
        keys = signs @ (1 << np.arange(bits))
        order = np.argsort(keys)
        ordered = keys[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sizes = np.diff(np.r_[begins, len(x)])
        for begin, size in zip(
            begins[sizes > SMALL_BUCKET], sizes[sizes > SMALL_BUCKET], strict=True
        ):
            some = order[begin : begin + size]
            i, j = np.nonzero(units[some] @ units[some].T >= math.cos(angle))
            left.append(some[i[i < j]])
            right.append(some[j[i < j]])
        small = np.repeat(sizes <= SMALL_BUCKET, sizes)
        for shift in range(1, min(SMALL_BUCKET, sizes.max())):
            same = np.flatnonzero((ordered[shift:] == ordered[:-shift]) & small[shift:])
            a, b = order[same], order[same + shift]
            near = np.einsum("ij,ij->i", units[a], units[b]) >= math.cos(angle)
            left.append(a[near])
            right.append(b[near])
    left, right = np.concatenate(left), np.concatenate(right)
    edges = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(x), len(x)))
    return connected_components(edges, directed=False)[1]


def all_pairs(x, angle):
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    left, right = [], []
    for begin in range(0, len(x), 2000):
        i, j = np.nonzero(units[begin : begin + 2000] @ units.T >= math.cos(angle))
        left.append(i + begin)
        right.append(j)
    left, right = np.concatenate(left), np.concatenate(right)
    edges = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(x), len(x)))
    return connected_components(edges, directed=False)[1], left, right


@pytest.mark.parametrize(
    ("n", "width", "centers", "size", "angle"),
    [
        (20_000, 64, 500, 0.03, 0.05),
        (20_000, 64, 2_000, 0.07, 0.1),
        (200_000, 64, 5_000, 0.05, 0.08),
        (100_000, 784, 2_000, 0.05, 0.08),
        (1_000_000, 32, 20_000, 0.05, 0.08),
    ],
)
def bench_clusters(race, n, width, centers, size, angle):
    n = race.size(n, 1000)
    torch.manual_seed(0)
    vectors = vectors_around(n, width, min(centers, n // 4), size)
    x = vectors.numpy()
    found = gradsplinter.clusters(vectors, angle)
    plan = _plan(vectors, angle, 0.99)
    peer = in_numpy(x, angle, *plan)
    # Hashed otherwise, both miss a few of the pairs at the border.
    assert abs(len(found) - (1 + peer.max())) <= 1 + 0.01 * len(found)
    contenders = {
        "ours": lambda: gradsplinter.clusters(vectors, angle),
        "the same idea in NumPy": lambda: in_numpy(x, angle, *plan),
    }
    recall = ""
    if n <= 20_000:
        components, left, right = all_pairs(x, angle)
        together = (found.ids[left] == found.ids[right]).double().mean()
        assert together > 0.99
        assert len(found) >= 1 + components.max()
        recall = f"; recall of pairs {float(together):.5f}"
        contenders["all pairs in NumPy"] = lambda: all_pairs(x, angle)
    bits, tables = plan
    race(
        f"clusters within {angle} rad: {len(found):,} of {n:,} × {width}, {tables} tables of "
        f"{bits} bits{recall}",
        contenders,
    )
