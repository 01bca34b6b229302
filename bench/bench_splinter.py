"""From data to the orthogonality score, against the naive way and what one would write by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from bench_jacobian import autograd_per_output, masked_matmul, vmap_jacrev
from workloads import bits, name, network

import gradsplinter
from gradsplinter import unpack_bits


def cosines(gradients):
    """The mean over pairs of directions, for each mode [U]."""
    units = torch.nn.functional.normalize(gradients.double(), dim=2)
    i, j = torch.triu_indices(gradients.shape[1], gradients.shape[1], offset=1)
    return (units @ units.mT).abs()[:, i, j].mean(dim=1)


def naive(gradients):
    """Sort the gradients, one for each example, to find the unique ones."""
    unique, counts = torch.unique(gradients.flatten(1), dim=0, return_counts=True)
    mean = (cosines(unique.view(-1, *gradients.shape[1:])) * counts).sum() / len(gradients)
    return float(1 - mean)


def keys(rows):
    """Bools [N, units] -> int64 [N, words], 64 bits a word."""
    packed = np.packbits(rows.numpy(), axis=1)
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))) if packed.shape[1] % 8 else packed
    return torch.from_numpy(padded.view(np.int64))


def by_sorting(key):
    """-> ids and the number of kinds."""
    unique, ids = torch.unique(key, return_inverse=True)
    return ids, len(unique)


def by_hashing(key):
    """The same by pandas, exact since whole keys are compared."""
    ids, unique = pd.factorize(key.numpy())
    return torch.from_numpy(ids), len(unique)


def unique_patterns(rows, factorize):
    """Bools [N, units] -> a row of each kind and how many there are, one word after the other."""
    first, *others = keys(rows).unbind(1)
    ids, kinds = factorize(first)
    for key in others:
        if kinds == len(rows):  # all differ already
            break
        more, most = factorize(key)
        ids, kinds = factorize(ids * most + more)  # less than N^2
    some = torch.empty(kinds, dtype=torch.int64).scatter_(0, ids, torch.arange(len(ids)))
    return rows[some], torch.bincount(ids)


def sorted_keys(rows):
    return unique_patterns(rows, by_sorting)


def hashed_keys(rows):
    return unique_patterns(rows, by_hashing)


def torch_unique(rows):
    return torch.unique(rows, dim=0, return_counts=True)


def check_unique(unique, words, widths):
    """The same patterns with the same counts as ours, exactly, from the same bits."""
    found = gradsplinter.unique_rows(words)
    patterns, counts = unique(torch.cat(unpack_bits(words, widths), dim=1))
    expected = torch.cat(unpack_bits(words[found.first], widths), dim=1)
    both = torch.cat([expected, patterns])
    _, kinds = torch.unique(both, dim=0, return_inverse=True)
    ours, theirs = kinds.split([len(expected), len(patterns)])
    assert len(ours) == len(theirs) == len(kinds.unique())
    assert torch.equal(found.counts[ours.argsort()], counts[theirs.argsort()])


def by_jacobian(weights, masks):
    gradients = masked_matmul(weights, masks)
    return gradients @ gradients.mT


def by_first_weights(weights, masks):
    """A K Aᵀ, without the Jacobian."""
    gradients = masked_matmul(weights[1:], masks[1:]) * masks[0].unsqueeze(1)
    return gradients @ (weights[0] @ weights[0].T) @ gradients.mT


def by_hand(module, net, x, unique, gram):
    """Unique patterns first, then a Gram matrix for each, for 10,000 of them at a time."""
    patterns, counts = unique(bits(module, x))
    i, j = torch.triu_indices(net.widths[-1], net.widths[-1], offset=1)
    total = 0.0
    for some, times in zip(patterns.split(10_000), counts.split(10_000), strict=True):
        dots = gram(net.weights, some.float().split(net.widths[1:-1], dim=1))
        units = dots.diagonal(dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
        pairs = (dots[:, i, j] * units[:, i] * units[:, j]).abs().mean(dim=1)
        total += float(pairs.double() @ times.double())
    return 1 - total / len(x)


HANDS = {
    "patterns as integer keys, pandas factorize, A K Aᵀ": (hashed_keys, by_first_weights),
    "patterns as integer keys, torch.unique, A K Aᵀ": (sorted_keys, by_first_weights),
    "patterns as integer keys, torch.unique, masked matmul, bmm": (sorted_keys, by_jacobian),
    "patterns by torch.unique(dim=0), A K Aᵀ": (torch_unique, by_first_weights),
}


@pytest.mark.parametrize(("widths", "n"), [((4, 32, 32, 2), 10**6), ((784, 128, 128, 10), 60_000)])
def bench_orthogonality(race, widths, n):
    n = race.size(n, 2_000)
    module, net = network(*widths)
    x = torch.rand(n, widths[0])
    ours = gradsplinter.splinter(net, x).orthogonality()
    part = x if widths[0] < 100 else x[:20_000]  # the naive ways, in memory and time one has
    scaled = f" (extrapolated from {len(part):,})" if len(part) < n else ""
    naive_ways = {
        f"{way}, torch.unique on gradients{scaled}": gradients
        for way, gradients in (
            ("autograd per output", autograd_per_output),
            ("vmap(jacrev)", vmap_jacrev),
        )
    }
    expected = gradsplinter.splinter(net, part).orthogonality()
    for gradients in naive_ways.values():
        assert abs(expected - naive(gradients(module, part))) < 1e-5
    words = gradsplinter.signatures(net, x)
    for unique in (hashed_keys, sorted_keys, torch_unique):
        check_unique(unique, words, widths[1:-1])
    for unique, gram in HANDS.values():
        assert abs(ours - by_hand(module, net, x, unique, gram)) < 1e-5
    race(
        f"data to orthogonality, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.splinter(net, x).orthogonality(),
            **{
                way: lambda hands=hands: by_hand(module, net, x, *hands)
                for way, hands in HANDS.items()
            },
            **{
                way: lambda gradients=gradients: naive(gradients(module, part))
                for way, gradients in naive_ways.items()
            },
        },
        rounds=3,
        pieces=dict.fromkeys(naive_ways, len(part) / len(x)),
    )


def bench_stream(race):
    """Time and memory of a stream: nanoseconds an example do not depend on how many there are."""
    module, net = network(4, 32, 32, 2)
    batch = torch.rand(race.size(10**5, 2_000), 4)

    def stream(batches):
        table = gradsplinter.SplinterTable(net)
        table.update(batch for _ in range(batches))
        return table

    found = stream(3).modes()
    assert found.examples == 3 * len(batch)
    assert torch.equal(found.counts, 3 * gradsplinter.splinter(net, batch).counts)
    race(
        f"a stream of batches into a table, for each {name(net, len(batch))}",
        {
            "ours, 10 batches": lambda: stream(10),
            "ours, 100 batches": lambda: stream(100),
            "ours, 1,000 batches": lambda: stream(1_000),
            "torch forward alone": lambda: module(batch),
        },
        rounds=3,
        pieces={"ours, 10 batches": 10, "ours, 100 batches": 100, "ours, 1,000 batches": 1_000},
    )
