"""How bits are packed, unpacked and selected."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradsplinter
from gradsplinter.patterns import words_of


@pytest.mark.parametrize(("width", "words"), [(0, 0), (1, 1), (63, 1), (64, 1), (65, 2), (130, 3)])
def test_words_of(width, words):
    assert words_of(width) == words
    assert gradsplinter.pack_bits(torch.ones(5, width, dtype=torch.bool)).shape == (5, words)


@pytest.mark.parametrize(
    ("unit", "words"),
    [(0, [1, 0]), (1, [2, 0]), (62, [2**62, 0]), (63, [-(2**63), 0]), (64, [0, 1]), (69, [0, 32])],
)
def test_unit_is_bit_of_a_word(unit, words):
    bits = torch.zeros(1, 70, dtype=torch.bool)
    bits[0, unit] = True
    assert gradsplinter.pack_bits(bits).tolist() == [words]


@given(st.lists(st.integers(1, 200), max_size=4), st.integers(0, 3), st.integers(0, 2**32))
def test_unpack_inverts_pack(widths, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    sites = [torch.rand(rows, width, generator=generator) < 0.5 for width in widths]
    packed = [gradsplinter.pack_bits(bits) for bits in sites]
    words = torch.cat(packed, dim=1) if packed else torch.empty(rows, 0, dtype=torch.int64)
    for got, bits in zip(gradsplinter.unpack_bits(words, widths), sites, strict=True):
        assert torch.equal(got, bits)
    for first in range(len(widths)):
        for last in range(first, len(widths)):
            selected = gradsplinter.select_sites(words, widths, first, last)
            assert torch.equal(selected, torch.cat(packed[first : last + 1], dim=1))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("units", [1, 7, 8, 63, 64, 65, 130])
@pytest.mark.usefixtures("poisoned", "restore_threads")
def test_pack_many_rows(units, threads):
    torch.set_num_threads(threads)
    bits = torch.rand(5000, units, generator=torch.Generator().manual_seed(0)) < 0.5
    words = gradsplinter.pack_bits(bits)
    assert torch.equal(gradsplinter.unpack_bits(words, [units])[0], bits)


def test_pack_takes_views():
    bits = torch.rand(70, 9) < 0.5
    assert torch.equal(gradsplinter.pack_bits(bits.t()), gradsplinter.pack_bits(bits.t().clone()))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: gradsplinter.pack_bits(torch.ones(2, 3)),
            TypeError,
            "bits must be bool, got float32",
        ),
        (
            lambda: gradsplinter.pack_bits(torch.ones(3, dtype=torch.bool)),
            ValueError,
            "bits must have 2 dimensions, got 1 (shape [3])",
        ),
        (
            lambda: gradsplinter.pack_bits([[True]]),
            TypeError,
            "bits must be a torch.Tensor, got list",
        ),
        (
            lambda: gradsplinter.unpack_bits(torch.ones(2, 1), [3]),
            TypeError,
            "words must be int64, got float32",
        ),
        (
            lambda: gradsplinter.unpack_bits(torch.zeros(2, 1, dtype=torch.int64), [3, 64]),
            ValueError,
            "words must have shape [rows, 2] to hold sites of widths [3, 64], got [2, 1]",
        ),
        (
            lambda: gradsplinter.select_sites(torch.zeros(2, 1, dtype=torch.int64), [3, 4], 0, 0),
            ValueError,
            "words must have shape [rows, 2] to hold sites of widths [3, 4], got [2, 1]",
        ),
        (
            lambda: gradsplinter.select_sites(torch.zeros(2, 2, dtype=torch.int64), [3, 4], 1, 0),
            ValueError,
            "first and last must be sites in ascending order in 0..1, got 1 and 0",
        ),
        (
            lambda: gradsplinter.select_sites(torch.zeros(2, 2, dtype=torch.int64), [3, 4], 0, 2),
            ValueError,
            "first and last must be sites in ascending order in 0..1, got 0 and 2",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
