"""Clusters of vectors within an angle: connected components of what hashing finds, and nothing else."""

import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import random_inputs

from gradsplinter import clusters, ops, reference
from gradsplinter.clusters import Clusters, agglomerative, hdbscan

DEGREE = math.pi / 180


def on_circle(*degrees, dtype=torch.float64):
    angles = torch.tensor(degrees, dtype=torch.float64) * DEGREE
    return torch.stack([angles.cos(), angles.sin()], dim=1).to(dtype)


def spread(n, width, centers, size, seed=0, dtype=torch.float32):
    """Vectors of any length around some directions."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.randn(centers, width, generator=generator)
    middle = middle / middle.norm(dim=1, keepdim=True)
    which = torch.randint(centers, (n,), generator=generator)
    noise = torch.randn(n, width, generator=generator) * size / math.sqrt(width)
    return ((middle[which] + noise) * (0.1 + torch.rand(n, 1, generator=generator))).to(dtype)


def partition(ids):
    """The same groups, numbered by their first members."""
    return ops.unique_rows(torch.as_tensor(ids).long().unsqueeze(1)).ids


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chains_and_gaps_on_a_circle(dtype):
    vectors = on_circle(0, 90, 1.5, 3.0, 180, 4.6, 91, dtype=dtype)
    found = clusters(vectors, 1.55 * DEGREE, recall=0.9999)
    assert found.ids.tolist() == [0, 1, 0, 0, 2, 3, 1]
    assert found.counts.tolist() == [3, 2, 1, 1]
    assert found.first.tolist() == [0, 1, 4, 5]
    chained = clusters(vectors, 1.65 * DEGREE, recall=0.9999)
    assert chained.ids.tolist() == [0, 1, 0, 0, 2, 0, 1]
    torch.testing.assert_close(chained.diameters / DEGREE, torch.tensor([4.6, 1.0, 0.0]).double(),
                               atol=1e-3, rtol=0)  # fmt: skip
    torch.testing.assert_close(
        chained.centers[1:], on_circle(90.5, 180, dtype=dtype), atol=1e-6, rtol=0
    )
    assert repr(chained) == "Clusters: 3 of 7 vectors"


def test_an_opposite_vector_is_another_direction_and_a_multiple_is_not():
    found = clusters(torch.tensor([[1.0, 2.0], [-1, -2], [0, 0], [3, 6], [1, 2]]), 0.01)
    assert found.ids.tolist() == [0, 1, -1, 0, 0]
    assert found.counts.tolist() == [3, 1]
    assert found.first.tolist() == [0, 1]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_vectors(n):
    found = clusters(torch.ones(n, 3), 0.1)
    assert found.ids.tolist() == [0] * n
    assert found.counts.tolist() == [n] * (n > 0)
    zeros = clusters(torch.zeros(n, 3), 0.1)
    assert zeros.ids.tolist() == [-1] * n
    assert len(zeros) == 0
    assert zeros.centers.shape == (0, 3)
    assert zeros.diameters.shape == (0,)


def joined_in_one_bucket(vectors, angle):
    parents = torch.arange(len(vectors))
    torch.ops.gradsplinter.join_neighbours(
        vectors, torch.ops.gradsplinter.lengths(vectors), angle,
        torch.zeros(len(vectors), dtype=torch.int64), 1, parents,
    )  # fmt: skip
    return partition(roots(parents))


def roots(parents):
    while not torch.equal(parents, parents[parents]):
        parents = parents[parents]
    return parents


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 2, 3, 15, 16, 17, 31, 33, 100])
@pytest.mark.usefixtures("instruction_set")
def test_dot_products_are_those_of_the_reference(width, dtype):
    rows = random_inputs(9, width, dtype=dtype)
    assert torch.equal(torch.ops.gradsplinter.lengths(rows), reference.lengths(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "width", "centers", "size", "angle"),
    [
        (50, 5, 8, 0.3, 0.2),
        (40, 17, 3, 0.5, 0.4),
        (30, 40, 10, 0.05, 0.1),
        (40, 2, 5, 3.0, 0.02),
        (30, 33, 1, 0.01, 0.5),
    ],
)
@pytest.mark.usefixtures("libm_in_reference")
def test_one_bucket_joins_what_all_pairs_join(n, width, centers, size, angle, dtype):
    vectors = spread(n, width, centers, size, dtype=dtype)
    expected = partition(reference.neighbour_sets(vectors, angle))
    for name in ops.instruction_sets():
        with ops.instruction_set(name):
            assert torch.equal(joined_in_one_bucket(vectors, angle), expected), name


def by_all_pairs(vectors, angle):
    """The same by torch, where no pair lies at the border within rounding."""
    units = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    cosines = units @ units.T
    assert float((cosines - math.cos(angle)).abs().min()) > 1e-12
    near, ids = cosines >= math.cos(angle), torch.arange(len(vectors))
    while True:
        lowest = torch.where(near, ids, len(ids)).amin(dim=1)
        if torch.equal(lowest, ids):
            return partition(ids)
        ids = lowest


@given(
    st.lists(st.integers(0, 3599), min_size=1, max_size=120),
    st.integers(0, 800),
    st.integers(1, 3),
)
def test_tenths_of_degrees(tenths, angle, times):
    """Dense arcs, chains and gaps, with an angle that no two of the vectors have."""
    vectors = on_circle(*(t / 10 for t in tenths * times))
    angle = (angle / 10 + 0.05) * DEGREE
    assert torch.equal(joined_in_one_bucket(vectors, angle), by_all_pairs(vectors, angle))


@pytest.mark.parametrize(("width", "centers", "size"), [(3, 40, 0.2), (20, 300, 0.2), (60, 4, 0.4)])
@pytest.mark.parametrize("angle", [0.05, 0.12, 0.3])
def test_many_vectors_against_all_pairs(width, centers, size, angle):
    vectors = spread(1200, width, centers, size)
    expected = by_all_pairs(vectors, angle)
    assert torch.equal(joined_in_one_bucket(vectors, angle), expected)
    found = clusters(vectors, angle)
    assert len(found) >= len(expected.unique())
    for ids in expected.unique():  # what is joined is right
        others = found.ids[expected != ids]
        assert not bool(torch.isin(found.ids[expected == ids], others).any())


@pytest.mark.usefixtures("restore_threads")
def test_threads_and_order_do_not_matter():
    vectors = spread(3000, 20, 200, 0.2)
    expected = clusters(vectors, 0.15)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        assert torch.equal(clusters(vectors, 0.15).ids, expected.ids)
    shuffled = clusters(vectors[order], 0.15, recall=0.999999)
    full = clusters(vectors, 0.15, recall=0.999999)
    assert torch.equal(partition(full.ids[order]), shuffled.ids)


@pytest.mark.parametrize("angle", [0.02, 0.1, 0.3])
def test_the_recall_of_pairs_at_the_border(angle):
    """Pairs at just the angle are found as often as asked for, at least."""
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(4000, 30, generator=generator, dtype=torch.float64)
    b = torch.randn(4000, 30, generator=generator, dtype=torch.float64)
    a = a / a.norm(dim=1, keepdim=True)
    b = b - (a * b).sum(dim=1, keepdim=True) * a
    b = b / b.norm(dim=1, keepdim=True)
    near = a * math.cos(angle * 0.9999) + b * math.sin(angle * 0.9999)
    found = clusters(torch.cat([a, near]), angle, recall=0.9)
    share = (found.ids[:4000] == found.ids[4000:]).double().mean()
    assert share > 0.88  # 0.9, and 4 standard deviations of 4,000 pairs below


def test_a_chain_is_cut_where_it_is_too_wide():
    vectors = on_circle(*range(0, 50, 2), 120, 121)
    whole = clusters(vectors, 2.1 * DEGREE, recall=0.9999)
    assert len(whole) == 2
    assert float(whole.diameters[0]) == pytest.approx(48 * DEGREE)
    cut = clusters(vectors, 2.1 * DEGREE, recall=0.9999, max_diameter=20 * DEGREE)
    assert bool((cut.diameters <= 20 * DEGREE + 1e-12).all())
    assert cut.ids[-2:].tolist() == [len(cut) - 1] * 2
    assert torch.equal(partition(cut.ids), cut.ids)
    for ids in cut.ids.unique():
        assert len(whole.ids[cut.ids == ids].unique()) == 1


def cut_by_torch(found, most):
    """Cluster by cluster, leader by leader: what is near the first vector left goes with it."""
    ids, n = found.ids.clone(), len(found)
    units = found.vectors.double()
    units = units / units.norm(dim=1, keepdim=True).clamp(min=1e-300)

    def angles(some, one):
        a, b = units[some], units[one]
        return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))

    for cluster in range(len(found)):
        left = (found.ids == cluster).nonzero().squeeze(1)
        if not bool((2 * angles(left, left[0]) > most).any()):
            continue
        while len(left):
            far = angles(left, left[0])
            assert float((far - most / 2).abs().min()) > 1e-9  # or rounding decides
            ids[left[far <= most / 2]] = n
            left, n = left[far > most / 2], n + 1
    ids[ids >= 0] = partition(ids[ids >= 0])
    return ids


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "width", "centers", "size", "angle", "most"),
    [
        (300, 3, 4, 0.5, 0.3, 0.2),
        (800, 20, 30, 0.5, 0.6, 0.5),
        (500, 2, 5, 3.0, 0.05, 0.5),
        (500, 6, 1, 2.0, 0.5, 1.0),
        (300, 40, 3, 1e-4, 0.001, 3e-5),
        (6000, 3, 1, 1.0, 0.2, 0.3),  # one cluster, which all threads cut
    ],
)
def test_wide_clusters_are_cut_as_leader_by_leader(n, width, centers, size, angle, most, dtype):
    vectors = torch.cat([spread(n, width, centers, size), torch.zeros(2, width)]).to(dtype)
    vectors = torch.cat([vectors, vectors[:20] * 2])
    whole = clusters(vectors, angle)
    cut = clusters(vectors, angle, max_diameter=most)
    assert torch.equal(cut.ids, cut_by_torch(whole, most))
    assert len(cut) > len(whole)
    assert float(cut.diameters.max()) <= most + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [1e-6, 0.01, 0.3, 1.5])
@pytest.mark.usefixtures("instruction_set", "libm_in_reference")
def test_leaders_are_those_of_the_reference(angle, dtype):
    rows = spread(70, 17, 3, 0.5, dtype=dtype)
    rows = torch.cat([rows, rows * 3])
    of = torch.arange(len(rows)) % 3 - 1
    lengths = torch.ops.gradsplinter.lengths(rows)
    found = torch.ops.gradsplinter.leaders(rows, lengths, angle, of, 2)
    assert found.tolist() == reference.leaders(rows, angle, of.tolist())


@pytest.mark.usefixtures("restore_threads")
def test_leaders_do_not_depend_on_threads():
    vectors = spread(9000, 5, 1, 2.0)
    lengths, one = torch.ops.gradsplinter.lengths(vectors), torch.zeros(9000, dtype=torch.int64)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(torch.ops.gradsplinter.leaders(vectors, lengths, 0.2, one, 1))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_centers_piece_by_piece(monkeypatch):
    vectors = torch.cat([spread(300, 7, 20, 0.2), torch.zeros(3, 7)])
    found = clusters(vectors, 0.3)
    units = vectors.double() / vectors.double().norm(dim=1, keepdim=True).clamp(min=1e-300)
    means = torch.stack([units[found.ids == c].sum(dim=0) for c in range(len(found))])
    expected = (means / means.norm(dim=1, keepdim=True)).float()
    torch.testing.assert_close(found.centers, expected, atol=1e-7, rtol=0)
    monkeypatch.setattr(sys.modules[clusters.__module__], "AT_ONCE", 30)
    again = clusters(vectors, 0.3)
    assert torch.equal(again.centers, found.centers)
    assert torch.equal(again.diameters, found.diameters)


def test_diameters_are_at_least_half_of_the_largest_angle():
    vectors = spread(400, 6, 8, 0.8, dtype=torch.float64)
    found = clusters(vectors, 0.35)
    units = vectors / vectors.norm(dim=1, keepdim=True)
    angles = (units @ units.T).clamp(-1, 1).acos()
    for c in range(len(found)):
        members = (found.ids == c).nonzero().squeeze(1)
        widest = float(angles[members][:, members].max())
        assert widest / 2 - 1e-6 <= float(found.diameters[c]) <= widest + 1e-6


def test_small_sets_by_scikit_learn():
    vectors = torch.cat([spread(200, 8, 6, 0.05), torch.zeros(2, 8)])
    expected = clusters(vectors, 0.3)
    assert len(expected) == 6
    complete = agglomerative(vectors, 0.3)
    assert torch.equal(complete.ids, expected.ids)
    assert isinstance(complete, Clusters)
    dense = hdbscan(vectors, 5)
    assert torch.equal(dense.ids, expected.ids)
    with pytest.raises(ValueError, match=r"^vectors must be at most 20,000 .* got 20,001$"):
        agglomerative(torch.ones(20_001, 1), 0.3)


def test_bad_input():
    good = torch.ones(3, 2)
    with pytest.raises(TypeError, match=r"^vectors must be a torch\.Tensor"):
        clusters([[1.0]], 0.1)
    with pytest.raises(TypeError, match=r"^vectors must be float32 or float64, got int64$"):
        clusters(torch.ones(3, 2).long(), 0.1)
    with pytest.raises(ValueError, match="vectors must have 2 dimensions"):
        clusters(torch.ones(3), 0.1)
    with pytest.raises(ValueError, match=r"^vectors must be finite.*\[1, 0\]"):
        clusters(torch.tensor([[1.0], [torch.nan]]), 0.1)
    with pytest.raises(ValueError, match=r"^angle must be in 1e-06\.\.1\.5708, got 2$"):
        clusters(good, 2)
    with pytest.raises(ValueError, match="recall must be in"):
        clusters(good, 0.1, recall=1.0)
    with pytest.raises(ValueError, match="max_diameter must be in"):
        clusters(good, 0.1, max_diameter=-1)
    with pytest.raises(ValueError, match="squared lengths"):
        clusters(torch.tensor([[1e200, 1.0]], dtype=torch.float64), 0.1)
    with pytest.raises(ValueError, match=r"^vectors must be zero or at least 1e-150 long, got"):
        clusters(torch.tensor([[1e-160, 0.0]], dtype=torch.float64), 0.1)
    with pytest.raises(
        ValueError,
        match=r"^vectors must hold at least `smallest` = 5 that are not zero, got 3$",
    ):
        hdbscan(torch.cat([good, torch.zeros(9, 2)]))
    with pytest.raises(ValueError, match="seed must be at least 0"):
        clusters(good, 0.1, seed=-1)
