"""On a GPU everything has the bits that it has on the CPU: the kernels.

pytest tests/test_cuda*.py                  on the GPU; skipped where there is none
pytest tests/test_cuda*.py --device cpu     runs the tests themselves, where there is none
pytest tests/test_cuda*.py --large          also rows of more than 2^31 entries
"""

from itertools import product

import pytest
import torch
from networks import moved, random_inputs, random_network, same

import gradsplinter
from gradsplinter import _C, ReluNetwork, ops, reference, unpack_bits

F32, F64 = torch.float32, torch.float64
SIZES = [0, 1, 31, 32, 33, 127, 1000]
WIDTHS = [
    (4, 32, 32, 2),
    (1, 1, 1),
    (3, 5),
    (2, 64, 64, 64, 3),
    (7, 33, 31, 65, 5),
    (130, 128, 129, 10),
    (300, 7, 257, 1),
    (20, *[9] * 12, 4),
]
# Marked `sanitized`: small enough for a tool that makes a kernel up to a hundred times slower.


LAYOUTS = {
    "contiguous": lambda x: x,
    "offset by one entry": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
    "every second row": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "columns first": lambda x: x.t().contiguous().t(),
}


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.usefixtures("poisoned")
def test_signatures_and_outputs(device, widths, dtype):
    net = random_network(widths, dtype=dtype)
    sites = list(range(1, net.depth))
    for n, layout in product(SIZES, LAYOUTS.values()):
        x = random_inputs(n, widths[0], seed=n, dtype=dtype)
        there = layout(x.to(device))
        for wanted in {(), tuple(sites), tuple(sites[::2]), tuple(sites[:1])}:
            found = torch.ops.gradsplinter.signatures(
                there, [w.to(device) for w in net.weights], [b.to(device) for b in net.biases],
                list(wanted), True,
            )  # fmt: skip
            expected = torch.ops.gradsplinter.signatures(
                x, net.weights, net.biases, list(wanted), True
            )
            assert all(map(same, found, expected)), (n, wanted)


@pytest.mark.sanitized
@pytest.mark.parametrize(
    ("widths", "dtype"),
    [
        pytest.param((5, 9, 16, 3), F32, id="small_network<float>, 16 units"),
        pytest.param((5, 20, 30, 3), F32, id="small_network<float>, 32 units"),
        pytest.param((5, 40, 64, 3), F32, id="small_network<float>, 64 units"),
        pytest.param((5, 20, 30, 3), F64, id="small_network<double>, 32 units"),
        pytest.param((70, 130, 65, 3), F32, id="wide_layer<float>"),
        pytest.param((33, 70, 65, 3), F64, id="wide_layer<double>"),
    ],
)
@pytest.mark.usefixtures("poisoned")
def test_each_kernel_of_signatures(device, widths, dtype):
    net, x = random_network(widths, dtype=dtype), random_inputs(300, widths[0], dtype=dtype)
    found = ops.signatures(moved(net, device), x.to(device), outputs=True)
    assert all(map(same, found, ops.signatures(net, x, outputs=True)))


def test_small_networks_by_the_kernel_of_wide_ones(gpu):
    for widths, dtype in product([(5, 20, 30, 3), (5, 40, 64, 3), (1, 1, 1)], (F32, F64)):
        net, x = random_network(widths, dtype=dtype), random_inputs(300, widths[0], dtype=dtype)
        _C.use_only_wide_on_gpu(True)
        try:
            found = ops.signatures(moved(net, gpu), x.to(gpu), outputs=True)
        finally:
            _C.use_only_wide_on_gpu(False)
        assert all(map(same, found, ops.signatures(net, x, outputs=True)))


def test_every_width(device):
    for width in range(1, 140):
        net = random_network((5, width, 3, width, 2), seed=width)
        x = random_inputs(67, 5, seed=width)
        there = moved(net, device)
        assert same(ops.signatures(there, x.to(device)), ops.signatures(net, x)), width
        assert same(there(x.to(device)), net(x)), width


@pytest.mark.sanitized
def test_special_numbers(device):
    """Subnormal, huge and infinite sums, zeros of both signs."""
    values = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1e-38, 3e38, -3e38, 1.0])
    x = torch.cartesian_prod(values, values)
    net = ReluNetwork(
        [torch.tensor([[1.0, 1.0], [1.0, -1.0], [-2.0, 1e-30], [0.0, -0.0]]), torch.ones(3, 4)],
        [torch.tensor([0.0, -0.0, 1e-45, 0.0]), torch.tensor([0.0, -1.0, 1e30])],
    )
    found, there = moved(net, device), x.to(device)
    assert same(found(there), net(x))
    assert same(ops.signatures(found, there), ops.signatures(net, x))


KINDS = {
    "words": lambda values, _: values,
    "wide words": lambda values, width: values.repeat(1, width),
    "bools": lambda values, width: (values * 2654435761 >> torch.arange(width)) & 1 == 1,
    "float32": lambda values, width: (values % 1000 - 500).repeat(1, width).float(),
    "float64": lambda values, width: values.repeat(1, width).double(),
}


@pytest.mark.parametrize("width", [1, 2, 3, 7, 64, 65, 130])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("poisoned")
def test_unique_rows(device, kind, width):
    for n, unique in product([*SIZES, 20_000], (1, 10, 10**9)):
        generator = torch.Generator().manual_seed(n + unique)
        values = torch.randint(unique, (n, 1), generator=generator)
        rows = KINDS[kind](values, width)
        for layout in LAYOUTS.values():
            found = ops.unique_rows(layout(rows.to(device)))
            assert all(map(same, found, ops.unique_rows(rows))), (n, unique)


@pytest.mark.sanitized
@pytest.mark.parametrize("kind", KINDS)
def test_each_kernel_of_rows(device, kind):
    """insert_rows for each type, pack_words, hash_every_row, and the numbering."""
    values = torch.randint(60, (700, 1), generator=torch.Generator().manual_seed(0))
    rows = KINDS[kind](values, 67)
    assert all(map(same, ops.unique_rows(rows.to(device)), ops.unique_rows(rows)))
    if rows.dtype == torch.bool:
        assert same(gradsplinter.pack_bits(rows.to(device)), gradsplinter.pack_bits(rows))
    if rows.dtype == torch.int64:
        assert same(gradsplinter.hash_rows(rows.to(device)), gradsplinter.hash_rows(rows))


@pytest.mark.sanitized
@pytest.mark.parametrize("hash_bits", [0, 1, 3, 8, 20, 64])
def test_forced_collisions(device, hash_bits):
    """Rows of one hash are told apart, and first indices are the smallest."""
    rows = torch.randint(400, (3000, 2), generator=torch.Generator().manual_seed(0))
    expected = torch.ops.gradsplinter.unique_rows(rows)
    for _ in range(5):  # threads may come in any order
        found = torch.ops.gradsplinter.unique_rows(rows.to(device), hash_bits=hash_bits)
        assert all(map(same, found, expected))


@pytest.mark.sanitized
def test_a_table_that_grows(gpu):
    """From 1,024 slots to as many as it takes."""
    rows = torch.randint(2**40, (300_000, 2), generator=torch.Generator().manual_seed(0))
    rows = torch.cat([rows, rows.flip(0)])
    ids = torch.empty(len(rows), dtype=torch.int64, device=gpu)
    first, counts = _C.unique_rows_on_gpu(rows.to(gpu), 64, 1024, ids)
    expected = ops.unique_rows(rows)
    assert all(map(same, (first, counts, ids), expected))


@pytest.mark.sanitized
def test_what_is_no_row(device):
    rows = torch.ones(100, 3)
    rows[77, 2] = torch.nan
    rows[78, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^rows must not hold NaN, .* got one at \[77, 2\]$"):
        ops.unique_rows(rows.to(device))
    zeros = torch.tensor([[0.0, 1.0], [-0.0, 1.0]], device=device)
    assert ops.unique_rows(zeros).ids.tolist() == [0, 0]


@pytest.mark.parametrize("width", [1, 63, 64, 65, 200])
@pytest.mark.usefixtures("poisoned")
def test_bits_and_hashes(device, width):
    for n in SIZES:
        bits = random_inputs(n, width, seed=n) > 0
        words = gradsplinter.pack_bits(bits)
        assert same(gradsplinter.pack_bits(bits.to(device)), words)
        assert same(unpack_bits(words.to(device), [width])[0], bits)
        rows = random_inputs(n, width, dtype=F64).view(torch.int64)
        assert same(gradsplinter.hash_rows(rows.to(device)), gradsplinter.hash_rows(rows))


def patterns_of(net, source, target, n, seed=2):
    """Any bits, and rows with all and without any."""
    last = min(target, net.depth - 1)
    widths = [net.widths[site] for site in range(source + 1, last + 1)]
    bits = [random_inputs(n, width, seed=seed) > 0 for width in widths]
    for site in bits:
        site[:1], site[1:2] = False, True
    packed = [gradsplinter.pack_bits(site) for site in bits]
    return torch.cat(packed, dim=1) if packed else torch.empty(n, 0, dtype=torch.int64)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.usefixtures("poisoned")
def test_gradients(device, widths, dtype):
    net = random_network(widths, dtype=dtype)
    there = moved(net, device)
    for source, target in {(0, net.depth), (net.depth - 1, net.depth), (0, 1), (0, net.depth - 1)}:
        if source >= target:
            continue
        some = random_inputs(3, net.widths[target], dtype=dtype)
        for n, directions in product((0, 1, 16, 33), (None, some, some[:0])):
            patterns = patterns_of(net, source, target, n)
            span = (patterns, source, target, directions)
            span_there = (
                patterns.to(device), source, target,
                None if directions is None else directions.to(device),
            )  # fmt: skip
            expected = ops.jacobian(net, *span)
            found = ops.jacobian(there, *span_there)
            assert same(found, expected)
            out = torch.full_like(found, torch.nan)
            assert ops.jacobian(there, *span_there, out=out) is out
            assert same(out, expected)
            for normalize in (True, False):
                assert same(ops.cross(found, normalize), ops.cross(expected, normalize))
                expected_gram = ops.gram(net, *span, normalize=normalize)
                assert same(ops.gram(there, *span_there, normalize=normalize), expected_gram)


@pytest.mark.sanitized
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("directions", range(1, 9))
@pytest.mark.usefixtures("poisoned")
def test_each_kernel_of_gradients(device, directions, dtype):
    """step_back_kernel for so many directions; in float32, gram's way of float64 sums too."""
    net = random_network((40, 10, 33, directions), dtype=dtype)
    patterns = patterns_of(net, 0, 3, 20)
    there, patterns_there = moved(net, device), patterns.to(device)
    jacobian = ops.jacobian(net, patterns)
    assert same(ops.jacobian(there, patterns_there), jacobian)
    assert same(ops.cross(jacobian.to(device)), ops.cross(jacobian))
    assert same(ops.gram(there, patterns_there), ops.gram(net, patterns))


@pytest.mark.sanitized
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e17, 1e25])
def test_gram_beyond_the_range_of_float32(device, scale):
    net = random_network((40, 10, 7, 3))
    net = ReluNetwork([w * scale for w in net.weights[:2]] + [net.weights[2]], net.biases)
    patterns = patterns_of(net, 0, 3, 50)
    found = ops.gram(moved(net, device), patterns.to(device))
    assert same(found, ops.gram(net, patterns))
    assert same(found, reference.gram(net, patterns))


@pytest.mark.sanitized
def test_cross_of_zeros_and_numbers_that_are_not_finite(device):
    jacobian = torch.tensor([[[0.0, 0.0], [1.0, 2.0]], [[torch.inf, 1.0], [torch.nan, 0.0]]])
    assert same(ops.cross(jacobian.to(device)), ops.cross(jacobian))
