"""hash_rows: wyhash, against known answers and the reference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradsplinter
from gradsplinter import reference

WORD = st.integers(-(2**63), 2**63 - 1)

# Of the authors' implementation, for the words i * 0x9E3779B97F4A7C15 + 1.
KNOWN_ANSWERS = {
    0: 0x93228A4DE0EEC5A2,
    1: 0x32AE2B35890811D6,
    2: 0xEC57FC6D76AE3F38,
    3: 0xBEC534F86C1A932B,
    4: 0x235333AFAB192919,
    5: 0x47B3D439B70F1500,
    6: 0xF314F477D94DF026,
    7: 0x20ED0CF71A94B5D8,
    8: 0x8DE6725C52DF8D6D,
    9: 0xB9D6536D0B79BFC9,
    12: 0x0EB1B62C8D5C3499,
    13: 0x0F5299DCC57936C9,
    16: 0xFEBB5CF4DAC90A64,
    17: 0x1043141C5DF3BE61,
    33: 0xCDE556BDA62EBA87,
    392: 0x0DA2AB93E9BBC8F1,
}


@pytest.mark.parametrize("words", KNOWN_ANSWERS)
@pytest.mark.parametrize("hash_rows", [gradsplinter.hash_rows, reference.hash_rows])
def test_known_answers(words, hash_rows):
    row = torch.arange(words) * (0x9E3779B97F4A7C15 - 2**64) + 1
    assert hash_rows(row.unsqueeze(0)).item() % 2**64 == KNOWN_ANSWERS[words]


@given(st.lists(WORD, max_size=20))
def test_one_row(words):
    row = torch.tensor([words], dtype=torch.int64)
    assert torch.equal(gradsplinter.hash_rows(row), reference.hash_rows(row))


# Up to 2 words have a form of their own; 6 are one round of the three lanes.
@pytest.mark.parametrize("words", [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 31, 32, 33])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.usefixtures("poisoned", "restore_threads")
def test_many_rows(words, threads):
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(words)
    rows = torch.randint(-(2**63), 2**63 - 1, (9000, words), generator=generator)
    hashes = gradsplinter.hash_rows(rows)
    # 4096 rows are one block of work; look at both sides of each border and at the end.
    for begin in (0, 4090, 8186, 8990):
        part = slice(begin, begin + 10)
        assert torch.equal(hashes[part], reference.hash_rows(rows[part]))
    assert torch.equal(gradsplinter.hash_rows(rows[17:4321]), hashes[17:4321])


@pytest.mark.parametrize("rows", [torch.empty(0, 3, dtype=torch.int64), torch.tensor([[1, 2]])])
def test_few_rows(rows):
    assert torch.equal(gradsplinter.hash_rows(rows), reference.hash_rows(rows))


def test_views():
    base = torch.arange(40).view(4, 10)
    for view in (base.t(), base[:, ::3], base[1:, 2:], base[:1].expand(5, 10)):
        assert torch.equal(gradsplinter.hash_rows(view), reference.hash_rows(view.contiguous()))
