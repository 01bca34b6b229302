"""On a GPU everything has the bits that it has on the CPU.

pytest tests/test_cuda.py                  on the GPU; skipped where there is none
pytest tests/test_cuda.py --device cpu     runs the tests themselves, where there is none
pytest tests/test_cuda.py --large          also rows of more than 2^31 entries
"""

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch
from networks import random_inputs, random_network, same_bits

import gradsplinter
from gradsplinter import (
    _C,
    ReluNetwork,
    SplinterTable,
    Store,
    extract,
    ops,
    reference,
    splinter,
    unpack_bits,
)

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
MODES = ("signatures", "counts", "first")
# Marked `sanitized`: small enough for a tool that makes a kernel up to a hundred times slower.


@pytest.fixture(scope="module")
def device(request):
    name = request.config.getoption("--device")
    if name == "cuda" and not (_C.cuda and torch.cuda.is_available()):
        pytest.skip("there is no GPU, or this build has no kernels for one")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


@pytest.fixture
def gpu(device):
    """For what there is on a GPU only."""
    if device.type != "cuda":
        pytest.skip("a GPU is needed")
    return device


def moved(net, device):
    return ReluNetwork([w.to(device) for w in net.weights], [b.to(device) for b in net.biases])


def same(found, expected):
    """Bits, for a tensor that may be on the GPU and one that is on the CPU."""
    return same_bits(found.cpu(), expected)


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
        pytest.param((5, 20, 30, 3), F32, id="small_network<float, 32, 2>"),
        pytest.param((5, 40, 64, 3), F32, id="small_network<float, 64, 1>"),
        pytest.param((5, 20, 30, 3), F64, id="small_network<double, 32, 1>"),
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


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=pytest.mark.sanitized) if seed in {3, 5, 23} else seed
        for seed in range(40)
    ],
)
def test_networks_by_chance(device, seed, soak):
    slow = {0, 4, 10} | ({20, 22, 26, 28, 32, 38} if device.type == "cpu" else set())
    if seed in slow and not soak:
        pytest.skip("hundreds of directions, whose products take the CPU long: --soak")
    generator = torch.Generator().manual_seed(seed)

    def integer(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    most = 40 if seed % 2 else 300
    widths = [integer(1, most) for _ in range(integer(2, 7))]
    dtype = F64 if seed % 5 == 0 else F32
    net, x = (
        random_network(widths, seed, dtype),
        random_inputs(integer(1, 700), widths[0], seed, dtype),
    )
    source = integer(0, net.depth - 1)
    target = integer(source + 1, net.depth)
    expected = splinter(net, x, source, target)
    found = splinter(moved(net, device), x.to(device), source, target)
    for name in (*MODES, "ids"):
        assert same(getattr(found, name), getattr(expected, name)), name
    assert same(found.jacobian(), expected.jacobian())
    assert same(found.cross(), expected.cross())
    if found.n_directions > 1:
        # The cosines are the same bits; torch adds them up, in another order.
        for score in ("orthogonality", "all_pairs_orthogonality"):
            value = getattr(expected, score)()
            assert getattr(found, score)() == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert repr(found) == repr(expected)


NET = random_network((4, 30, 70, 3))
X = random_inputs(3000, 4)
EXPECTED = splinter(NET, X)


def same_table(table, expected=EXPECTED):
    modes = table.modes()
    assert modes.signatures.device.type == "cpu"
    for name in MODES:
        assert torch.equal(getattr(modes, name), getattr(expected, name)), name
    assert table.n_examples == expected.n_examples


@pytest.mark.parametrize("sizes", [[3000], [1, 2999], [700, 1, 0, 1500, 799]])
def test_a_table_of_pieces(device, sizes):
    table = SplinterTable(moved(NET, device), ids=True)
    for x in X.split(sizes):
        table.update(x.to(device))
    same_table(table)
    assert same(table.splinters().ids, EXPECTED.ids)
    assert same(table.splinters().jacobian(), EXPECTED.jacobian())


def test_data_from_the_cpu_is_moved(device, tmp_path):
    np.save(tmp_path / "x.npy", X.numpy())
    table = SplinterTable(moved(NET, device), ids=tmp_path / "ids.npy")
    table.update([X[:500], tmp_path / "x.npy"])
    same_table(table, splinter(NET, [X[:500], X]))
    assert np.array_equal(np.load(tmp_path / "ids.npy"), splinter(NET, [X[:500], X]).ids.numpy())


def test_begun_on_one_device_and_continued_on_the_other(device):
    first, second = SplinterTable(NET), SplinterTable(moved(NET, device))
    first.update(X[:1000])
    second.update(X[1000:])
    whole = SplinterTable(moved(NET, device))
    whole.merge(first)
    whole.update(X[1000:])
    same_table(whole)
    first.merge(second)
    same_table(first)
    third = SplinterTable(moved(NET, device))
    third.update(X[:1000])
    third.add(second.modes())
    same_table(third)


@pytest.mark.parametrize("heaviest", [1, 40, 10_000])
def test_the_heaviest_modes(device, heaviest):
    tables = [SplinterTable(net, heaviest=heaviest) for net in (NET, moved(NET, device))]
    for table in tables:
        table.update(X.split(100))
    cpu, gpu = (table.modes() for table in tables)
    assert cpu.undercount == gpu.undercount
    for name in MODES:
        assert torch.equal(getattr(cpu, name), getattr(gpu, name)), name


def test_a_cap_on_modes(device):
    table = SplinterTable(moved(NET, device), max_modes=EXPECTED.n_modes - 1)
    table.update(X[:10])
    before = table.modes()
    with pytest.raises(ValueError, match="x must have at most max_modes"):
        table.update(X[10:])
    assert torch.equal(table.modes().counts, before.counts)


@pytest.mark.sanitized
def test_tables_on_disk(device, tmp_path):
    extract(moved(NET, device), X[:1000], tmp_path / "s", progress=False)
    extract(NET, X[:2000], tmp_path / "s", progress=False)
    extract(moved(NET, device), X.to(device), tmp_path / "s", progress=False)
    same_table(Store(tmp_path / "s").table())


def test_bad_input(device):
    net = moved(NET, device)
    x = X[:100].clone()
    x[7, 2] = torch.inf
    with pytest.raises(ValueError, match=r"^x must be finite, .* \(the first at \[7, 2\]: inf\)"):
        splinter(net, x.to(device))
    with pytest.raises(TypeError, match="x must be float32 like the network"):
        splinter(net, x.double().to(device))


def test_tensors_on_different_devices(gpu):
    net = moved(NET, gpu)
    words = EXPECTED.signatures
    with pytest.raises(ValueError, match=r"^x must be on the network's device cuda:0, got cpu$"):
        ops.signatures(net, X)
    with pytest.raises(ValueError, match=r"cuda:0.*cpu|cpu.*cuda:0"):
        ops.jacobian(net, words)
    with pytest.raises(ValueError, match=r"cuda:0.*cpu|cpu.*cuda:0"):
        ops.jacobian(net, words.to(gpu), directions=torch.eye(3))
    with pytest.raises((ValueError, RuntimeError, NotImplementedError)):
        torch.ops.gradsplinter.signatures(X.to(gpu), NET.weights, NET.biases, [1], True)


def test_on_another_stream(gpu):
    """Work is queued on torch's current stream, behind what makes its input."""
    net, stream = moved(NET, gpu), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # which makes the weights
    big = random_inputs(200_000, 4)
    expected = splinter(NET, big)
    expected_y = NET(big)
    for _ in range(3):
        with torch.cuda.stream(stream):
            x = torch.full((200_000, 4), torch.nan, device=gpu)
            torch.cuda._sleep(50_000_000)
            x.copy_(big.pin_memory(), non_blocking=True)
            y = torch.ops.gradsplinter.signatures(x, net.weights, net.biases, [1, 2], True)[1]
            found = ops.unique_signatures(net, x, check_finite=False)
            jacobian = ops.jacobian(net, found.signatures)
            gram = ops.gram(net, found.signatures)
        stream.synchronize()
        assert same(y, expected_y)
        assert all(
            map(same, found, (expected.signatures, expected.first, expected.counts, expected.ids))
        )
        assert same(jacobian, expected.jacobian())
        assert same(gram, ops.gram(NET, expected.signatures))


def test_a_table_updated_on_several_streams(gpu):
    """Each piece and each look waits for what the stream before still has to do."""
    net, streams = moved(NET, gpu), [torch.cuda.Stream() for _ in range(3)]
    pieces = [x.to(gpu) for x in X.split([5, 1000, 1995])]
    torch.cuda.synchronize()
    for pieces_before in (1, 2, 3):  # a first piece is held as it came, later ones in a hash table
        table = SplinterTable(net, ids=True)
        for stream, x in zip(streams, pieces[:pieces_before], strict=False):
            with torch.cuda.stream(stream):
                torch.cuda._sleep(50_000_000)
                table.update(x)
        with torch.cuda.stream(streams[-1]):
            found = table.splinters()
            modes = table.modes()
        torch.cuda.synchronize()
        expected = splinter(NET, torch.cat([x.cpu() for x in pieces[:pieces_before]]))
        assert torch.equal(modes.counts, expected.counts)
        for name in (*MODES, "ids"):
            assert same(getattr(found, name), getattr(expected, name)), name


def test_replayed_from_a_graph(gpu):
    """What has static shapes can be captured."""
    net = moved(random_network((784, 64, 64, 10)), gpu)
    cpu = random_network((784, 64, 64, 10))
    x = torch.zeros(300, 784, device=gpu)

    def work():
        words = ops.signatures(net, x)
        jacobian = ops.jacobian(net, words)
        return words, net(x), jacobian, ops.cross(jacobian), ops.gram(net, words)

    warm = torch.cuda.Stream()
    with torch.cuda.stream(warm):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()
    for seed in range(3):
        inputs = random_inputs(300, 784, seed=seed)
        x.copy_(inputs)
        graph.replay()
        torch.cuda.synchronize()
        words = ops.signatures(cpu, inputs)
        jacobian = ops.jacobian(cpu, words)
        expected = words, cpu(inputs), jacobian, ops.cross(jacobian), ops.gram(cpu, words)
        assert all(map(same, found, expected))


def test_nothing_waits_that_need_not(gpu):
    """torch's own waits only; those of the kernels would fail a capture."""
    net, x = moved(NET, gpu), X.to(gpu)
    words = EXPECTED.signatures.to(gpu)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a beta feature
        torch.cuda.set_sync_debug_mode("error")
    try:
        ops.signatures(net, x, check_finite=False)
        ops.gram(net, words)
        ops.cross(ops.jacobian(net, words))
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode("default")


def test_python_goes_on_while_a_call_waits(gpu):
    rows = torch.randint(9, (1000, 2), device=gpu)
    ops.unique_rows(rows)
    begun = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        torch.cuda._sleep(2_000_000_000)  # a second or so
        call = pool.submit(ops.unique_rows, rows)
        turns = 0
        while not call.done():
            time.sleep(0.001)
            turns += 1
    assert time.perf_counter() - begun > 0.2
    assert turns > 50


def test_out_of_memory(gpu):
    """torch's own error where work cannot be split, and smaller pieces where it can."""
    net = moved(random_network((4, 300, 64, 3)), gpu)
    words = torch.zeros(2_000_000, 6, dtype=torch.int64, device=gpu)
    x = random_inputs(3_000, 4).repeat(1_000, 1)  # 144 MB of signatures, of few modes
    expected = splinter(random_network((4, 300, 64, 3)), x)
    there = x.to(gpu)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**27) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
            ops.jacobian(moved(random_network((400, 300, 64, 3)), gpu), words)
        table = SplinterTable(net)
        table.update(there)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    same_table(table, expected)


@pytest.mark.usefixtures("gpu")
def test_on_each_of_several_devices():
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    for index in range(torch.cuda.device_count()):  # cuda:0 stays the current one
        there = torch.device("cuda", index)
        found = splinter(moved(NET, there), X.to(there))
        assert found.signatures.device == there
        assert same(found.jacobian(), EXPECTED.jacobian())


def test_threads_may_share_a_table(device):
    table = SplinterTable(moved(NET, device))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda x: table.update(x.to(device)), X.split(100)))
    modes = table.modes()
    assert modes.examples == 3000
    assert sorted(modes.counts.tolist()) == sorted(EXPECTED.counts.tolist())


@pytest.mark.large
def test_more_than_two_to_the_31_entries(gpu):
    n, batch = 2**28 + 1000, 2**24
    net = random_network((9, 20, 30, 2))
    there = moved(net, gpu)
    x = torch.empty(n, 9, device=gpu).normal_()
    assert x.numel() > 2**31
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
    assert jacobian.numel() > 2**31
    expected = ops.jacobian(net, torch.tensor([[5, 5]]))
    assert same(jacobian[-1:], expected)
    assert bool((jacobian == jacobian[-1]).all())
    cosines = ops.cross(jacobian)
    assert same(cosines[-1:], ops.cross(expected))
    assert bool((cosines == cosines[-1]).all())
    del jacobian, cosines
    cosines = ops.gram(there, torch.zeros(2**29 + 1000, 2, dtype=torch.int64, device=gpu) + 5)
    assert cosines.numel() > 2**31
    assert same(cosines[-1:], ops.gram(net, torch.tensor([[5, 5]])))
    assert bool((cosines == cosines[-1]).all())
