"""On a GPU everything has the bits that it has on the CPU: splinters and tables of modes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from networks import MODES, moved, random_inputs, random_network, same, same_modes

from gradsplinter import _C, SplinterTable, Store, extract, ops, splinter

NET = random_network((4, 30, 70, 3))
X = random_inputs(3000, 4)
EXPECTED = splinter(NET, X)


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
    dtype = torch.float64 if seed % 5 == 0 else torch.float32
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


@pytest.mark.parametrize("sizes", [[3000], [1, 2999], [700, 1, 0, 1500, 799]])
def test_a_table_of_pieces(device, sizes):
    table = SplinterTable(moved(NET, device), ids=True)
    for x in X.split(sizes):
        table.update(x.to(device))
    assert same_modes(table, EXPECTED)
    assert same(table.splinters().ids, EXPECTED.ids)
    assert same(table.splinters().jacobian(), EXPECTED.jacobian())


@pytest.mark.sanitized
@pytest.mark.parametrize("hash_bits", [0, 1, 8, 64])
def test_modes_whose_hashes_collide(device, hash_bits):
    """Signatures of one hash are told apart, and none is lost between threads."""
    rows = torch.randint(40, (2000, 2), generator=torch.Generator().manual_seed(0))
    for _ in range(3):  # threads may come in any order
        tables = [
            _C.GpuModeTable(2, hash_bits) if device.type == "cuda" else _C.ModeTable(2),
            _C.ModeTable(2),
        ]
        for piece in rows.split([900, 100, 1000]):
            first, counts, _ = ops.unique_rows(piece)
            found, expected = (
                insert(table, there, piece[first], counts, first, len(piece))
                for table, there in zip(tables, (device, torch.device("cpu")), strict=True)
            )
            assert all(map(same, found, expected))


def insert(table, device, signatures, counts, first, examples):
    """The ids of signatures, how many were missing, and all that a table then holds."""
    signatures, counts, first = (t.to(device) for t in (signatures, counts, first))
    missing = torch.tensor(table.missing(signatures))
    ids = torch.empty_like(counts)
    table.insert(signatures, counts, first, examples, 0, ids)
    held = signatures.new_empty(len(table), 2), *(ids.new_empty(len(table)) for _ in range(2))
    table.copy(*held)
    return ids, missing, *held


def test_data_from_the_cpu_is_moved(device, tmp_path):
    np.save(tmp_path / "x.npy", X.numpy())
    table = SplinterTable(moved(NET, device), ids=tmp_path / "ids.npy")
    table.update([X[:500], tmp_path / "x.npy"])
    assert same_modes(table, splinter(NET, [X[:500], X]))
    assert np.array_equal(np.load(tmp_path / "ids.npy"), splinter(NET, [X[:500], X]).ids.numpy())


def test_begun_on_one_device_and_continued_on_the_other(device):
    first, second = SplinterTable(NET), SplinterTable(moved(NET, device))
    first.update(X[:1000])
    second.update(X[1000:])
    whole = SplinterTable(moved(NET, device))
    whole.merge(first)
    whole.update(X[1000:])
    assert same_modes(whole, EXPECTED)
    first.merge(second)
    assert same_modes(first, EXPECTED)
    third = SplinterTable(moved(NET, device))
    third.update(X[:1000])
    third.add(second.modes())
    assert same_modes(third, EXPECTED)


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
    assert same_modes(Store(tmp_path / "s").table(), EXPECTED)


def test_bad_input(device):
    net = moved(NET, device)
    x = X[:100].clone()
    x[7, 2] = torch.inf
    with pytest.raises(ValueError, match=r"^x must be finite, .* \(the first at \[7, 2\]: inf\)"):
        splinter(net, x.to(device))
    with pytest.raises(TypeError, match="x must be float32 like the network"):
        splinter(net, x.double().to(device))


def test_threads_may_share_a_table(device):
    table = SplinterTable(moved(NET, device))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda x: table.update(x.to(device)), X.split(100)))
    modes = table.modes()
    assert modes.examples == 3000
    assert sorted(modes.counts.tolist()) == sorted(EXPECTED.counts.tolist())
