"""Tensors of more than 2^31 entries on a GPU: some 60 GB (an estimate), with --large only."""

import pytest
import torch
from networks import moved, random_inputs, random_network, same

import gradsplinter
from gradsplinter import _C, ops

pytestmark = pytest.mark.large
MANY = 2**31
BATCH = 2**22  # examples of which the CPU checks the answers


def test_inputs_and_gradients(gpu):
    n, batch = 2**28 + 1000, 2**24
    net = random_network((9, 20, 30, 2))
    there = moved(net, gpu)
    x = torch.empty(n, 9, device=gpu).normal_()
    assert x.numel() > MANY
    words = ops.signatures(there, x, check_finite=False)
    for begin in (0, n // 2, n - batch):
        assert same(
            words[begin : begin + batch], ops.signatures(net, x[begin : begin + batch].cpu())
        )
    found = ops.unique_rows(words)
    assert int(found.counts.sum()) == n
    assert torch.equal(words[found.first], words[found.first][found.ids[found.first]])
    assert bool((found.first.diff() > 0).all())
    for begin in range(0, n, batch):
        part = slice(begin, begin + batch)
        assert torch.equal(words[found.first][found.ids[part]], words[part])
    flags = x > 0
    packed = gradsplinter.pack_bits(flags)
    assert same(packed[-batch:], gradsplinter.pack_bits(flags[-batch:].cpu()))
    found = ops.unique_rows(flags)
    assert torch.equal(packed[found.first][found.ids], packed)
    del words, x, flags, packed, found
    jacobian = ops.jacobian(there, torch.zeros(2**27, 2, dtype=torch.int64, device=gpu) + 5)
    assert jacobian.numel() > MANY
    expected = ops.jacobian(net, torch.tensor([[5, 5]]))
    assert same(jacobian[-1:], expected)
    assert bool((jacobian == jacobian[-1]).all())
    cosines = ops.cross(jacobian)
    assert same(cosines[-1:], ops.cross(expected))
    assert bool((cosines == cosines[-1]).all())
    del jacobian, cosines
    cosines = ops.gram(there, torch.zeros(2**29 + 1000, 2, dtype=torch.int64, device=gpu) + 5)
    assert cosines.numel() > MANY
    assert same(cosines[-1:], ops.gram(net, torch.tensor([[5, 5]])))
    assert bool((cosines == cosines[-1]).all())


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_rows_of_few_kinds(gpu, dtype):
    n, kinds = 2**30 + 1000, 1000

    def in_turn(values):
        return values.to(gpu).repeat(n // kinds + 1, *[1] * (values.dim() - 1))[:n]

    words = random_inputs(kinds, 2, dtype=torch.float64).view(torch.int64)
    rows = in_turn(words if dtype == torch.int64 else words.to(dtype))
    assert rows.numel() > MANY
    found = ops.unique_rows(rows)
    assert found.first.tolist() == list(range(kinds))
    assert found.counts.tolist() == [len(range(kind, n, kinds)) for kind in range(kinds)]
    assert torch.equal(found.ids, in_turn(torch.arange(kinds)))
    del found
    if dtype == torch.int64:
        assert torch.equal(gradsplinter.hash_rows(rows), in_turn(gradsplinter.hash_rows(words)))


@pytest.mark.parametrize("widths", [(1, 8, 9), (1, 520, 9)])
def test_outputs_and_signatures(gpu, widths):
    """By the kernel of small networks, and by the one of wide layers, with as many words too."""
    n = 2**28 + 1000
    net = random_network(widths)
    x = torch.empty(n, 1, device=gpu).normal_()
    words, y = ops.signatures(moved(net, gpu), x, outputs=True, check_finite=False)
    assert y.numel() > MANY
    assert (words.numel() > MANY) == (widths[1] > 64 * 8)
    for begin in (0, n // 2, n - BATCH):
        part = slice(begin, begin + BATCH)
        assert all(
            map(same, (words[part], y[part]), ops.signatures(net, x[part].cpu(), outputs=True))
        )


def test_a_table_of_modes(gpu):
    """1,030 signatures of 2^21 words: 17 GB, which the table holds once more, and its copy a third time.

    Signatures of a network that exists are narrower; the table would hold as many entries with 2^30
    modes of 2 words, in 50 GB beside what makes them.
    """
    modes, words = 1030, 2**21
    signatures = torch.zeros(modes, words, dtype=torch.int64, device=gpu)
    assert signatures.numel() > MANY
    numbers = torch.arange(modes, device=gpu)
    signatures[:, 0] = numbers % 10
    signatures[:, -1] = numbers
    table, ids = _C.GpuModeTable(words), torch.empty_like(numbers)
    for _ in range(2):
        table.insert(signatures, numbers, numbers, modes, 0, ids)
        assert torch.equal(ids, numbers)
    assert len(table) == modes
    assert table.missing(signatures) == 0
    copy, counts, first = torch.empty_like(signatures), torch.empty_like(ids), torch.empty_like(ids)
    table.copy(copy, counts, first)
    assert torch.equal(copy, signatures)
    assert torch.equal(counts, 2 * numbers)
    assert torch.equal(first, numbers)
