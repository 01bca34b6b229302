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
    vectors = torch.randn(n, width).mul_(size / math.sqrt(width))
    which = torch.randint(centers, (n,))
    for part, own in zip(vectors.split(10_000), which.split(10_000), strict=True):
        part.add_(middle[own])
    return vectors.mul_(0.1 + torch.rand(n, 1))


def unit_rows(x):
    """In no more memory than their own: 150,000 vectors of 1,000 numbers are 0.6 GB."""
    return x / np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]


def dots(units, a, b):
    """Of pairs of vectors, in pieces that stay in the cache."""
    pieces = range(0, len(a), 1000)
    found = [np.einsum("ij,ij->i", units[a[i : i + 1000]], units[b[i : i + 1000]]) for i in pieces]
    return np.concatenate([np.empty(0, units.dtype), *found])


def in_numpy(x, angle, bits, tables):
    """Signs of projections as integers, sorted into buckets; all pairs of a bucket by products of
    matrices, or by one shift after the other where buckets are small; SciPy's components of them."""
    units = unit_rows(x)
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
            near = dots(units, a, b) >= math.cos(angle)
            left.append(a[near])
            right.append(b[near])
    left, right = np.concatenate(left), np.concatenate(right)
    edges = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(x), len(x)))
    return connected_components(edges, directed=False)[1]


def all_pairs(x, angle):
    units = unit_rows(x)
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
        (20_000, 1_000, 1_000, 0.05, 0.08),
        (200_000, 64, 5_000, 0.05, 0.08),
        (100_000, 784, 2_000, 0.05, 0.08),
        (1_000_000, 32, 20_000, 0.05, 0.08),
        (150_000, 1_000, 4_000, 0.05, 0.08),
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


def cut_in_numpy(x, ids, most):
    """Each vector of a cluster goes to its first leader within half of the diameter. -> leaders."""
    units = unit_rows(x.astype(np.float64))
    order = np.argsort(ids, kind="stable")
    leaders = np.empty(len(x), dtype=np.int64)
    for members in np.split(order, np.flatnonzero(np.diff(ids[order])) + 1):
        left = members
        while len(left):
            near = units[left] @ units[left[0]] >= math.cos(most / 2)
            near[0] = True
            leaders[left[near]] = left[0]
            left = left[~near]
    return leaders


@pytest.mark.parametrize(("n", "width", "centers", "size", "angle"), [(100_000, 16, 100, 0.2, 0.4)])
def bench_max_diameter(race, n, width, centers, size, angle):
    """Clusters that are all wider than allowed, each cut into some tens."""
    n = race.size(n, 1000)
    torch.manual_seed(0)
    vectors = vectors_around(n, width, min(centers, n // 50), size)
    whole = gradsplinter.clusters(vectors, angle)
    found = gradsplinter.clusters(vectors, angle, max_diameter=angle)
    assert float(found.diameters.max()) <= angle + 1e-12
    assert len(found) > len(whole)
    leaders = cut_in_numpy(vectors.numpy(), whole.ids.numpy(), angle)
    expected = gradsplinter.unique_rows(torch.from_numpy(leaders)[:, None]).ids
    assert torch.equal(found.ids, expected)
    race(
        f"clusters within {angle} rad, no wider: {len(found):,} from {len(whole):,} of "
        f"{n:,} × {width}",
        {
            "ours": lambda: gradsplinter.clusters(vectors, angle, max_diameter=angle),
            "ours, as wide as they come": lambda: gradsplinter.clusters(vectors, angle),
            "cut in NumPy, clusters given": lambda: cut_in_numpy(
                vectors.numpy(), whole.ids.numpy(), angle
            ),
        },
    )
