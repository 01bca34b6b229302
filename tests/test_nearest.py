"""Nearest signatures by Hamming distance: equal to the reference for every size, set and thread count."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradsplinter
from gradsplinter import nearest_signatures, ops, reference

pytestmark = pytest.mark.usefixtures("restore_threads")

INT64 = torch.int64


def words(n, width, seed=0, kinds=None):
    """Any words; of few kinds, so that there are ties."""
    generator = torch.Generator().manual_seed(seed)
    any_words = torch.randint(-(2**63), 2**63 - 1, (n, width), generator=generator)
    if kinds is None:
        return any_words
    return any_words.flatten()[torch.randint(kinds, (n, width), generator=generator)]


def equal(got, want):
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("width", [1, 2, 3, 16, 31, 32, 63])
@pytest.mark.parametrize(("n", "m", "groups"), [(1, 1, 1), (5, 9, 1), (4, 17, 3), (17, 8, 40)])
@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_equals_the_reference(width, n, m, groups):
    queries, references = words(n, width), words(m, width, seed=1)
    group_of = torch.randint(groups, (m,), generator=torch.Generator().manual_seed(2))
    got = nearest_signatures(queries, references, group_of, groups)
    assert equal(got, reference.nearest_signatures(queries, references, group_of.tolist(), groups))


@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_signatures_of_a_site_of_63_64_and_65_units():
    for units in (63, 64, 65):
        bits = torch.rand(30, units, generator=torch.Generator().manual_seed(units)) > 0.5
        packed = gradsplinter.pack_bits(bits)
        got = nearest_signatures(packed[:10], packed[10:])
        distances = (bits[:10, None] != bits[None, 10:]).sum(2)
        assert torch.equal(got.distance, distances.amin(1, keepdim=True).int())
        assert torch.equal(got.nearest, distances.argmin(1, keepdim=True))


@pytest.mark.usefixtures("instruction_set")
def test_of_several_the_first_one():
    """Also where they are far apart, in other panels and chunks."""
    references = words(5000, 2, seed=3)
    queries = references[[4999, 77, 2500]].clone()
    references[[9, 4998]] = queries[0]
    references[[78, 3000]] = queries[1]
    found = nearest_signatures(queries, references)
    assert found.distance.tolist() == [[0], [0], [0]]
    assert found.nearest.tolist() == [[9], [77], [2500]]
    groups = torch.ones(5000, dtype=INT64)
    groups[4998] = 0
    assert nearest_signatures(queries, references, groups, 2).nearest[0].tolist() == [4998, 9]


@pytest.mark.usefixtures("instruction_set")
def test_all_bits_differ():
    """The largest distances: bytes of counts are summed before they are full."""
    for width in (1, 31, 32, 64, 400):
        zeros = torch.zeros(9, width, dtype=INT64)
        assert (nearest_signatures(zeros, ~zeros).distance == 64 * width).all()


@pytest.mark.usefixtures("poisoned")
def test_same_for_any_batch_threads_and_instruction_set():
    queries, references = words(90, 4, kinds=5), words(300, 4, kinds=5)
    groups = torch.arange(300) % 7
    expected = nearest_signatures(queries, references, groups, 8)
    assert (expected.nearest[:, 7] == -1).all()
    for name in ops.instruction_sets():
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for batch in (1, 7, 16, 90):
                with ops.instruction_set(name):
                    parts = [
                        nearest_signatures(some, references, groups, 8)
                        for some in queries.split(batch)
                    ]
                got = [torch.cat(column) for column in zip(*parts, strict=True)]
                assert equal(got, expected), (name, threads, batch)


@given(st.data())
def test_any_words(data):
    n, m, width, groups = (data.draw(st.integers(0, most)) for most in (4, 12, 3, 3))
    m = m if groups else 0
    word = st.one_of(st.sampled_from([0, -1, 1]), st.integers(-(2**63), 2**63 - 1))
    draw = [data.draw(st.lists(word, min_size=k, max_size=k)) for k in (n * width, m * width)]
    queries = torch.tensor(draw[0], dtype=INT64).view(n, width)
    references = torch.tensor(draw[1], dtype=INT64).view(m, width)
    group = st.integers(0, max(groups - 1, 0))
    group_of = data.draw(st.lists(group, min_size=m, max_size=m))
    expected = reference.nearest_signatures(queries, references, group_of, groups)
    for name in ops.instruction_sets():
        with ops.instruction_set(name):
            got = nearest_signatures(
                queries, references, torch.tensor(group_of, dtype=INT64), groups
            )
            assert equal(got, expected), name


@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_sizes_of_zero():
    some, none = words(3, 2), words(0, 2)
    assert nearest_signatures(none, some).distance.shape == (0, 1)
    found = nearest_signatures(some, none)
    assert found.distance.tolist() == found.nearest.tolist() == [[-1]] * 3
    assert nearest_signatures(some, none, none[:, 0], 0).nearest.shape == (3, 0)
    no_bits = torch.empty(4, 0, dtype=INT64)
    found = nearest_signatures(no_bits, no_bits, torch.tensor([1, 0, 1, 1]), 2)
    assert found.distance.tolist() == [[0, 0]] * 4
    assert found.nearest.tolist() == [[1, 0]] * 4


def test_views():
    base = words(20, 9)
    groups = torch.arange(40)[::4] % 3
    for queries, references in (
        (base[::2, ::3], base[10:, 6:]),
        (base.t(), words(10, 20, seed=1).flip(0)),
        (base[:1].expand(4, 9), base[5:6].expand(10, 9)),
    ):
        got = nearest_signatures(queries, references, groups, 3)
        copies = [t.clone().contiguous() for t in (queries, references, groups)]
        assert equal(got, nearest_signatures(*copies, 3))


ONE = torch.zeros(2, 3, dtype=INT64)
GROUPS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nearest_signatures([[1]], ONE), TypeError, "^queries must be a torch.Tensor, got list"),
        (lambda: nearest_signatures(ONE, ONE.int()), TypeError, "^references must be int64, got int32"),
        (lambda: nearest_signatures(ONE[0], ONE), ValueError, "^queries must have 2 dimensions"),
        (lambda: nearest_signatures(ONE, ONE[:, :2]), ValueError,
         r"^references must have shape \[M, 3\] to match queries, got \[2, 2\]"),
        (lambda: nearest_signatures(ONE, ONE, GROUPS), ValueError, "^groups and n_groups must be given together"),
        (lambda: nearest_signatures(ONE, ONE, n_groups=2), ValueError, "^groups and n_groups must be given"),
        (lambda: nearest_signatures(ONE, ONE, GROUPS.int(), 2), TypeError, "^groups must be int64, got int32"),
        (lambda: nearest_signatures(ONE, ONE, GROUPS[:1], 2), ValueError,
         r"^groups must have shape \[2\], one for each reference, got \[1\]"),
        (lambda: nearest_signatures(ONE, ONE, GROUPS, 1), ValueError, r"^groups must be in 0\.\.0, got 1"),
        (lambda: nearest_signatures(ONE, ONE, GROUPS - 1, 2), ValueError, r"^groups must be in 0\.\.1, got -1"),
        (lambda: nearest_signatures(ONE, ONE, GROUPS, 1.0), TypeError, "^n_groups must be an integer"),
        (lambda: nearest_signatures(ONE, ONE, GROUPS, -1), ValueError, "^n_groups must be at least 0, got -1"),
        (lambda: nearest_signatures(ONE, ONE.to("meta")), ValueError,
         "^references must be on the device of queries, cpu, got meta"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
