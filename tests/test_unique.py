"""unique_rows against the reference and torch.unique, with collisions of every kind."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradsplinter
from gradsplinter import reference

pytestmark = pytest.mark.usefixtures("restore_threads")


def rows_of_few(n, width, kinds, dtype=torch.int64, seed=0):
    """n rows out of `kinds` different ones, in random order."""
    generator = torch.Generator().manual_seed(seed)
    pool = torch.randint(-(2**62), 2**62, (kinds, width), generator=generator)
    if dtype == torch.bool:
        pool = pool % 2 == 0
    elif dtype != torch.int64:
        pool = torch.randn(kinds, width, dtype=dtype, generator=generator)
    return pool[torch.randint(kinds, (n,), generator=generator)]


def check(rows, found):
    for name, got, expected in zip(
        ("first", "counts", "ids"), found, reference.unique_rows(rows), strict=True
    ):
        assert got.dtype == torch.int64
        assert torch.equal(got, expected), name


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "kinds"), [(1, 1), (2, 1), (33, 5), (5000, 40), (5000, 4000)])
@pytest.mark.parametrize("width", [1, 2, 3, 16, 17])
@pytest.mark.usefixtures("poisoned")
def test_equals_the_reference(dtype, n, kinds, width):
    rows = rows_of_few(n, width, kinds, dtype)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        check(rows, gradsplinter.unique_rows(rows))


@pytest.mark.parametrize("hash_bits", [0, 1, 4, 64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("poisoned")
def test_collisions_cost_time_and_not_correctness(hash_bits, threads):
    torch.set_num_threads(threads)
    for dtype in (torch.int64, torch.float32):
        rows = rows_of_few(6000, 3, 700, dtype)
        check(rows, torch.ops.gradsplinter.unique_rows(rows, hash_bits))


def colliding_rows(n):
    """n rows of two words with one hash.

    wyhash multiplies (a ^ SECRET[1]) with what holds the upper halves of both words, where a is made
    of the lower ones: where that is SECRET[1], nothing else counts.
    """
    lower = torch.tensor([reference.SECRET[1] >> 32, reference.SECRET[1] & 0xFFFFFFFF])
    return lower + (torch.arange(2 * n).view(n, 2) << 32)


@pytest.mark.parametrize("threads", [1, 2])
def test_true_collisions_of_all_64_bits(threads):
    torch.set_num_threads(threads)
    kinds = colliding_rows(200)
    assert len(gradsplinter.hash_rows(kinds).unique()) == 1
    assert len(kinds.unique(dim=0)) == 200
    rows = kinds[torch.randint(200, (4000,), generator=torch.Generator().manual_seed(0))]
    check(rows, gradsplinter.unique_rows(rows))


@pytest.mark.parametrize(
    ("dtype", "width"),
    [(torch.int64, 2), (torch.float32, 2), (torch.bool, 70), (torch.bool, 4 * 64)],
)
@pytest.mark.parametrize("kinds", [300, 70_000])
def test_agrees_with_torch(dtype, width, kinds):
    rows = rows_of_few(70_000, width, kinds, dtype)
    first, counts, ids = gradsplinter.unique_rows(rows)
    values, inverse, torch_counts = rows.unique(dim=0, return_inverse=True, return_counts=True)
    ours = inverse[first]  # torch's number of each of our rows
    assert len(first) == len(values)
    assert torch.equal(rows[first], values[ours])
    assert torch.equal(counts, torch_counts[ours])
    assert torch.equal(ours[ids], inverse)
    assert torch.equal(first, first.sort().values)


@given(
    st.integers(0, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, float("inf")]),
                     min_size=width, max_size=width),
            min_size=1, max_size=30,
        )
    ),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([0, 1, 4, 64]),
)  # fmt: skip
def test_any_floats(values, dtype, hash_bits):
    rows = torch.tensor(values, dtype=dtype)
    check(rows, torch.ops.gradsplinter.unique_rows(rows, hash_bits))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32, torch.float64])
def test_no_rows_and_no_columns(dtype):
    for width in (0, 3):
        assert [len(t) for t in gradsplinter.unique_rows(torch.empty(0, width, dtype=dtype))] == [
            0,
            0,
            0,
        ]
    first, counts, ids = gradsplinter.unique_rows(torch.empty(5000, 0, dtype=dtype))
    assert (first.tolist(), counts.tolist()) == ([0], [5000])
    assert torch.equal(ids, torch.zeros(5000, dtype=torch.int64))


def test_minus_zero_equals_zero_and_neighbours_differ():
    for dtype in (torch.float32, torch.float64):
        zero = torch.zeros(1, dtype=dtype)
        least = torch.nextafter(zero, zero + 1)
        rows = torch.stack([zero, -zero, least, -least, zero])
        assert gradsplinter.unique_rows(rows).ids.tolist() == [0, 0, 1, 2, 0]


def test_words_are_not_floats():
    # As bits these are 0.0 and -0.0, and two NaNs; as words they are four rows.
    rows = torch.tensor([[0], [-(2**63)], [-1], [-2]])
    assert gradsplinter.unique_rows(rows).ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
def test_nan_is_an_error_that_says_where(dtype, threads):
    torch.set_num_threads(threads)
    rows = torch.zeros(9000, 3, dtype=dtype)
    rows[8000, 0] = rows[4567, 2] = torch.nan
    with pytest.raises(ValueError, match=r"^rows must not hold NaN, .*; got one at \[4567, 2\]$"):
        gradsplinter.unique_rows(rows)


@pytest.mark.parametrize("call", [gradsplinter.unique_rows, gradsplinter.pack_bits])
def test_bytes_that_are_no_bools(call):
    bits = torch.zeros(3000, 70, dtype=torch.uint8)
    bits[2100, 69] = 2
    with pytest.raises(ValueError, match=r"^bools must be bytes of 0 or 1, got others$"):
        call(bits.view(torch.bool))


def test_views_and_inputs_that_require_gradients():
    base = rows_of_few(50, 8, 3, torch.float32)
    for view in (base.t(), base[:, ::3], base[5:, 1:], base[:1].expand(20, 8), base[::7]):
        check(view, gradsplinter.unique_rows(view))
    found = gradsplinter.unique_rows(base.clone().requires_grad_())
    check(base, found)
    assert not any(tensor.requires_grad for tensor in found)
