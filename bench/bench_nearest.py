"""The nearest signature to each of some others, by bits that differ; all pairs are compared."""

import numpy as np
import pytest
import torch
from conftest import Needs

import gradsplinter


def in_numpy(queries, references):
    """XOR and `bitwise_count`, a query at a time: all at once would take gigabytes."""
    found = [np.bitwise_count(query ^ references).sum(1, dtype=np.int32) for query in queries]
    return np.array([(row.min(), row.argmin()) for row in found])


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
    ("n", "m", "bits"), [(2_000, 8_000, 128), (2_000, 8_000, 1_024), (10_000, 60_000, 1_024)]
)
def bench_nearest(race, n, m, bits):
    n, m = race.size(n, 100), race.size(m, 500)
    torch.manual_seed(0)
    on = torch.rand(n + m, bits) > 0.5
    packed = gradsplinter.pack_bits(on)
    queries, references = packed[:n].contiguous(), packed[n:].contiguous()
    signs = on.float() * 2 - 1
    of_queries, of_references = signs[:n], signs[n:]
    found = gradsplinter.nearest_signatures(queries, references)
    expected = in_numpy(queries.numpy(), references.numpy())
    assert torch.equal(torch.cat([found.distance.long(), found.nearest], 1), torch.tensor(expected))
    assert torch.equal(as_product(of_queries, of_references)[:, 0], found.distance[:, 0].long())
    few = slice(0, 100)
    assert torch.equal(in_torch(queries[few], references)[:, 0], found.distance[few, 0].long())
    contenders = {
        "ours": lambda: gradsplinter.nearest_signatures(queries, references),
        "±1 as float32, one product": lambda: as_product(of_queries, of_references),
        "XOR and bitwise_count in NumPy": lambda: in_numpy(queries.numpy(), references.numpy()),
    }
    pieces = None
    if n * m * bits < 2**35:
        contenders["XOR and a table of bytes in torch"] = lambda: in_torch(queries[few], references)
        pieces = {"XOR and a table of bytes in torch": 100 / n}
    race(
        f"nearest of {m:,} signatures of {bits:,} bits to each of {n:,}",
        contenders,
        pieces=pieces,
        needs=Needs(bytes=8 * packed.numel() + 12 * n),
    )
