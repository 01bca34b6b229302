"""Signatures: equal to the reference bit by bit, in every way of computing them."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import random_inputs, random_network, same_bits

import gradsplinter
from gradsplinter import ReluNetwork, ops, reference

pytestmark = pytest.mark.usefixtures("restore_threads")

F32, F64 = torch.float32, torch.float64
WIDTHS = [
    (3, 1, 2),
    (2, 63, 1),
    (1, 64, 2),
    (2, 65, 3),
    (1, 130, 1),
    (4, 9, 7, 5, 3),
    (2, 33, 66, 2),
]


@cache
def case(widths, dtype, n=3):
    net = random_network(widths, dtype=dtype)
    x = random_inputs(n, widths[0], dtype=dtype)
    return net, x, *reference.signatures(net, x)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.usefixtures("poisoned")
def test_equals_the_reference(instruction_set, dtype, widths):
    assert instruction_set == ops._C.instruction_set()
    net, x, expected_words, expected_y = case(widths, dtype)
    words, y = gradsplinter.signatures(net, x, outputs=True)
    assert same_bits(words, expected_words)
    assert same_bits(y, expected_y)
    assert same_bits(gradsplinter.signatures(net, x), expected_words)
    assert same_bits(net(x), expected_y)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.usefixtures("poisoned")
def test_same_bits_for_any_batch_threads_and_instruction_set(dtype):
    """More rows than a block of work holds, and rows at every position in a block."""
    net = random_network((7, 65, 130, 40, 5), dtype=dtype)
    x = random_inputs(701, 7, dtype=dtype)
    expected = gradsplinter.signatures(net, x, outputs=True)
    assert len(expected[0].unique(dim=0)) > 600
    for name in ops.instruction_sets():
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for batch in (1, 7, 64, 701):
                with ops.instruction_set(name):
                    parts = [gradsplinter.signatures(net, b, outputs=True) for b in x.split(batch)]
                for got, want in zip(zip(*parts, strict=True), expected, strict=True):
                    assert same_bits(torch.cat(got), want), (name, threads, batch)


@given(st.data())
def test_small_networks_of_any_numbers(data):
    """Numbers of any size: sums overflow, cancel and underflow."""
    dtype = data.draw(st.sampled_from([F32, F64]))
    widths = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    number = st.floats(width=32 if dtype == F32 else 64, allow_nan=False, allow_infinity=False)
    number = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), number)

    def tensor(*shape):
        size = torch.Size(shape).numel()
        values = data.draw(st.lists(number, min_size=size, max_size=size))
        return torch.tensor(values, dtype=dtype).view(shape)

    net = ReluNetwork([tensor(m, n) for n, m in pairwise(widths)], [tensor(m) for m in widths[1:]])
    x = tensor(data.draw(st.integers(1, 3)), widths[0])
    expected = reference.signatures(net, x)
    for name in ops.instruction_sets():
        with ops.instruction_set(name):
            got = gradsplinter.signatures(net, x, outputs=True)
        assert same_bits(got[0], expected[0])
        assert same_bits(got[1], expected[1])


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(
    ("widths", "n"), [((3, 5, 4, 2), 3000), ((2, 70, 130, 1), 3000), ((4, 130, 1), 70_000)]
)
@pytest.mark.usefixtures("poisoned")
def test_unique_signatures_are_those_of_the_two_steps(dtype, widths, n):
    """Few unique ones, many, and so many that all threads fill one table."""
    net, x = random_network(widths, dtype=dtype), random_inputs(n, widths[0], dtype=dtype)
    for sites in ([], [1], None):
        words = gradsplinter.signatures(net, x, sites)
        expected = gradsplinter.unique_rows(words)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found = gradsplinter.unique_signatures(net, x, sites)
            assert torch.equal(found.signatures, words[expected.first])
            for name in ("first", "counts", "ids"):
                assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("sites", [[], [1], [2], [3], [1, 3], [2, 3], [1, 2, 3], (1, 2)])
@pytest.mark.usefixtures("poisoned")
def test_chosen_sites(instruction_set, sites):  # noqa: ARG001
    net, x = random_network((3, 66, 5, 64, 2)), random_inputs(100, 3)
    every, y = gradsplinter.signatures(net, x, outputs=True)
    parts = [gradsplinter.select_sites(every, net.widths[1:-1], s - 1, s - 1) for s in sites]
    expected = torch.cat([every[:, :0], *parts], dim=1)
    assert same_bits(gradsplinter.signatures(net, x, sites), expected)
    words, same_y = gradsplinter.signatures(net, x, sites, outputs=True)
    assert same_bits(words, expected)
    assert same_bits(same_y, y)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("widths", [(3, 2), (3, 65, 2)])
@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_none_and_one(n, widths):
    net, x = random_network(widths), random_inputs(n, 3)
    words, y = gradsplinter.signatures(net, x, outputs=True)
    assert words.shape == (n, 2 * (len(widths) - 2))
    assert y.shape == (n, 2)
    expected = reference.signatures(net, x)
    assert same_bits(words, expected[0])
    assert same_bits(y, expected[1])


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.usefixtures("instruction_set")
def test_signs_of_zero_and_subnormal_numbers(dtype):
    least = torch.nextafter(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)).item()
    net = ReluNetwork(
        [torch.tensor([[1.0], [-1.0], [0.0]], dtype=dtype), torch.ones(2, 3, dtype=dtype)],
        [torch.tensor([0.0, 0.0, -0.0], dtype=dtype), torch.tensor([-0.0, 0.0], dtype=dtype)],
    )
    x = torch.tensor([[0.0], [-0.0], [least], [-least]], dtype=dtype)
    words, y = gradsplinter.signatures(net, x, outputs=True)
    assert words.tolist() == [[0], [0], [0b01], [0b10]]
    # -0 + 0 · 1 = 0, since a^1 is +0 where a unit is off.
    assert same_bits(y, torch.tensor([[0, 0], [0, 0], [least] * 2, [least] * 2], dtype=dtype))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.usefixtures("instruction_set")
def test_unchecked_nan_and_infinity(dtype):
    net = random_network((3, 20, 5, 2), dtype=dtype)
    x = random_inputs(8, 3, dtype=dtype)
    x[1, 0], x[2, 1], x[3, 2] = torch.nan, torch.inf, -torch.inf
    x[4, 0], x[4, 1] = torch.inf, -torch.inf
    words, y = gradsplinter.signatures(net, x, outputs=True, check_finite=False)
    expected = reference.signatures(net, x)
    assert same_bits(words, expected[0])
    assert same_bits(y, expected[1])
    assert words[1, 0] == 0  # every unit of site 1 sees the NaN, and NaN is off
    assert words[2, 0] != 0


def test_views():
    net = random_network((4, 30, 2))
    base = random_inputs(12, 9)
    for view in (base[:, 1:5], base[3:, ::2][:, :4], base[:4].t(), base[:1, :4].expand(6, 4)):
        assert not view.is_contiguous() or view.storage_offset()
        assert same_bits(
            gradsplinter.signatures(net, view),
            gradsplinter.signatures(net, view.clone().contiguous()),
        )
    storage = torch.cat([torch.zeros(1), random_inputs(6, 4).flatten()])
    unaligned = storage[1:].view(6, 4)  # contiguous, and not at a multiple of a vector
    assert same_bits(net(unaligned), net(unaligned.clone()))


def test_inputs_that_require_gradients():
    net, x = random_network((4, 30, 2)), random_inputs(6, 4)
    words, y = gradsplinter.signatures(net, x.clone().requires_grad_(), outputs=True)
    assert not y.requires_grad
    assert same_bits(y, net(x))
    assert same_bits(words, gradsplinter.signatures(net, x))
