"""hash_rows against the xxhash package: the same published function."""

import pytest
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as st

import gradsplinter

WORD = st.integers(-(2**63), 2**63 - 1)


def expected(rows):
    hashes = [xxhash.xxh64_intdigest(row.numpy().tobytes()) for row in rows]
    return torch.tensor([h - 2**64 if h >= 2**63 else h for h in hashes], dtype=torch.int64)


@given(st.lists(WORD, max_size=20))
def test_one_row(words):
    row = torch.tensor([words], dtype=torch.int64)
    assert torch.equal(gradsplinter.hash_rows(row), expected(row))


# 4 words are one round of the four lanes; what remains is hashed word by word.
@pytest.mark.parametrize("words", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33])
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
        assert torch.equal(hashes[part], expected(rows[part]))
    assert torch.equal(gradsplinter.hash_rows(rows[17:4321]), hashes[17:4321])


def test_known_answers():
    # Of the reference implementation, for the bytes of 0 and of ff ... ff, and for no bytes at all.
    assert gradsplinter.hash_rows(torch.tensor([[0]])).item() == 0x34C96ACDCADB1BBB
    assert gradsplinter.hash_rows(torch.tensor([[-1]])).item() % 2**64 == xxhash.xxh64_intdigest(
        b"\xff" * 8
    )
    empty = torch.empty(2, 0, dtype=torch.int64)
    assert gradsplinter.hash_rows(empty).tolist() == [0xEF46DB3751D8E999 - 2**64] * 2


@pytest.mark.parametrize("rows", [torch.empty(0, 3, dtype=torch.int64), torch.tensor([[1, 2]])])
def test_few_rows(rows):
    assert torch.equal(gradsplinter.hash_rows(rows), expected(rows))


def test_views():
    base = torch.arange(40).view(4, 10)
    for view in (base.t(), base[:, ::3], base[1:, 2:], base[:1].expand(5, 10)):
        assert torch.equal(gradsplinter.hash_rows(view), expected(view.contiguous()))
