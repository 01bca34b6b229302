"""From data to the orthogonality score, against the naive way and what one would write by hand."""

import pytest
import torch
from bench_jacobian import autograd_per_output, vmap_jacrev
from workloads import bits, name, network

import gradsplinter


def cosines(gradients):
    """The mean over pairs of directions, for each mode [U]."""
    units = torch.nn.functional.normalize(gradients.double(), dim=2)
    i, j = torch.triu_indices(gradients.shape[1], gradients.shape[1], offset=1)
    return (units @ units.mT).abs()[:, i, j].mean(dim=1)


def naive(gradients):
    """Sort the gradients of all examples to find the unique ones."""
    unique, counts = torch.unique(gradients.flatten(1), dim=0, return_counts=True)
    mean = (cosines(unique.view(-1, *gradients.shape[1:])) * counts).sum() / len(gradients)
    return float(1 - mean)


def unique_patterns(rows):
    """Bools [N, units] -> a row of each kind and how many there are, by sorts of integers only."""
    pieces = torch.nn.functional.pad(rows.float(), (0, -rows.shape[1] % 48)).view(len(rows), -1, 48)
    powers = 2.0 ** torch.arange(16)  # sums of which are exact in float32
    keys = sum((pieces[:, :, i : i + 16] @ powers).long() << i for i in (0, 16, 32))
    _, ids, counts = torch.unique(keys[:, 0], return_inverse=True, return_counts=True)
    for key in keys[:, 1:].unbind(1):
        _, more = torch.unique(key, return_inverse=True)
        both = ids * (more.max() + 1) + more  # less than N^2
        _, ids, counts = torch.unique(both, return_inverse=True, return_counts=True)
    some = torch.empty(len(counts), dtype=torch.int64).scatter_(0, ids, torch.arange(len(ids)))
    return rows[some], counts


def by_hand(module, net, x, unique):
    """Unique patterns first, then one masked product for each."""
    patterns, counts = unique(bits(module, x))
    masks = patterns.float().split(net.widths[1:-1], dim=1)
    gradient = net.weights[-1].expand(len(patterns), -1, -1)
    for weight, mask in zip(reversed(net.weights[:-1]), reversed(masks), strict=True):
        gradient = (gradient * mask.unsqueeze(1)) @ weight
    return float(1 - (cosines(gradient) * counts).sum() / len(x))


def torch_unique(rows):
    return torch.unique(rows, dim=0, return_counts=True)


@pytest.mark.parametrize(("widths", "n"), [((4, 32, 32, 2), 10**6), ((784, 128, 128, 10), 60_000)])
def bench_orthogonality(race, widths, n):
    n = race.size(n, 2_000)
    module, net = network(*widths)
    x = torch.rand(n, widths[0])
    ours = gradsplinter.splinter(net, x).orthogonality()
    part = x if widths[0] < 100 else x[:20_000]  # the naive ways, in memory and time one has
    scaled = f" (of {len(part):,}, times {n / len(part):g})" if len(part) < n else ""
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
    for unique in (unique_patterns, torch_unique):
        assert abs(ours - by_hand(module, net, x, unique)) < 1e-5
    race(
        f"data to orthogonality, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.splinter(net, x).orthogonality(),
            "patterns as integer keys, masked matmul in torch": lambda: by_hand(
                module, net, x, unique_patterns
            ),
            "patterns by torch.unique(dim=0), masked matmul": lambda: by_hand(
                module, net, x, torch_unique
            ),
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
