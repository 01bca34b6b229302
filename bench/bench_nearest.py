"""The nearest signature to each of some others, by bits that differ; all pairs are compared."""

import numpy as np
import pytest
import torch

import gradsplinter


def in_numpy(queries, references):
    """XOR and `bitwise_count` (of signed numbers: of their absolute value), a query at a time."""
    queries, references = (words.numpy().view(np.uint64) for words in (queries, references))
    found = [np.bitwise_count(query ^ references).sum(1, dtype=np.int64) for query in queries]
    return torch.tensor([(int(row.min()), int(row.argmin())) for row in found])


COUNTS = torch.tensor([i.bit_count() for i in range(256)], dtype=torch.uint8)


def in_torch(queries, references):
    """XOR, and the bits of each byte by a table, some queries at a time."""
    left, right = queries.view(torch.uint8), references.view(torch.uint8)
    found = []
    for some in left.split(max(1, 2**24 // right.numel())):
        different = COUNTS[(some.unsqueeze(1) ^ right).int()]
        found.append(torch.stack(different.sum(2, dtype=torch.int64).min(1), dim=1))
    return torch.cat(found)


def as_product(queries, references):
    """Signs as ±1: the product is bits minus twice the distance."""
    bits = queries.shape[1]
    found = [(bits - some @ references.T).min(1) for some in queries.split(1000)]
    return torch.cat([torch.stack([(d / 2).long(), i], dim=1) for d, i in found])


@pytest.mark.parametrize(
    ("n", "m", "bits"), [(2_000, 8_000, 128), (2_000, 8_000, 1_024), (2_000, 60_000, 1_024)]
)
def bench_nearest(race, n, m, bits):
    n, m = race.size(n, 100), race.size(m, 500)
    torch.manual_seed(0)
    on = torch.rand(n + m, bits) > 0.5
    packed = gradsplinter.pack_bits(on)
    queries, references = packed[:n].contiguous(), packed[n:].contiguous()
    signs = on.float() * 2 - 1
    of_queries, of_references = signs[:n], signs[n:]
    found = torch.cat(list(gradsplinter.nearest_signatures(queries, references)), dim=1)
    some = queries[:100]  # for those that take long
    assert torch.equal(in_numpy(some, references), found[:100])
    assert torch.equal(in_torch(some, references)[:, 0], found[:100, 0])
    assert torch.equal(as_product(of_queries, of_references)[:, 0], found[:, 0])
    contenders = {
        "ours": lambda: gradsplinter.nearest_signatures(queries, references),
        "±1 as float32, one product": lambda: as_product(of_queries, of_references),
        "XOR and bitwise_count in NumPy": lambda: in_numpy(some, references),
        "XOR and a table of bytes in torch": lambda: in_torch(some, references),
    }
    race(
        f"nearest of {m:,} signatures of {bits:,} bits to each of {n:,}",
        contenders,
        pieces=dict.fromkeys(list(contenders)[2:], len(some) / n),
    )
