"""SplinterTable: any way of cutting the data gives the table of one run."""

import itertools
import re
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import random_inputs, random_network

import gradsplinter.table
from gradsplinter import SplinterTable, splinter

NET = random_network((4, 30, 70, 3))
X = random_inputs(3000, 4)


def same(a, b):
    for name in ("signatures", "counts", "first", "ids"):
        one, other = getattr(a, name), getattr(b, name)
        assert one is other is None or torch.equal(one, other), name
    assert a.n_examples == b.n_examples


def table_of(*pieces, **options):
    table = SplinterTable(NET, **options)
    for x in pieces:
        table.update(x)
    return table


@pytest.mark.parametrize(
    "sizes", [(3000,), (1, 2999), (1500, 1500), (7,) * 428 + (4,), (0, 3000, 0)]
)
@pytest.mark.parametrize(("source", "target"), [(0, -1), (0, 2), (1, 3), (2, 3)])
def test_updates_give_the_table_of_one_run(sizes, source, target):
    pieces = X.split(list(sizes))
    table = table_of(*pieces, source=source, target=target, ids=True)
    expected = splinter(NET, X, source, target)
    same(table.splinters(), expected)
    assert (table.n_examples, table.n_modes) == (3000, expected.n_modes)
    assert torch.equal(table.splinters().jacobian(), expected.jacobian())
    assert table.splinters().orthogonality() == expected.orthogonality()


@pytest.mark.parametrize("cuts", [(0, 3000), (1000, 1001), (10, 2000), (3000, 3000)])
def test_merged_parts_give_the_table_of_one_run(cuts):
    a, b, c = (table_of(x, ids=True) for x in X.tensor_split(cuts))
    expected = table_of(X, ids=True).splinters()
    left = table_of(ids=True)
    for part in (a, b, c):
        left.merge(part)
    same(left.splinters(), expected)
    b.merge(c)  # associative
    a.merge(b)
    same(a.splinters(), expected)


def test_merging_in_another_order_changes_the_numbering_only():
    halves = X.split(1500)
    tables = []
    for order in itertools.permutations(halves):
        first, second = (table_of(x) for x in order)
        first.merge(second)
        tables.append(first.modes())
    one, other = (
        dict(zip(map(tuple, modes.signatures.tolist()), modes.counts.tolist(), strict=True))
        for modes in tables
    )
    assert one == other


def test_a_table_merged_with_itself():
    table = table_of(X, ids=True)
    table.merge(table)
    same(table.splinters(), splinter(NET, torch.cat([X, X])))


def test_what_was_returned_does_not_change():
    table = table_of(X[:1000], ids=True)
    before = table.splinters()
    table.update(X[1000:])
    same(before, splinter(NET, X[:1000]))


def test_ids_are_optional():
    s = table_of(X).splinters()
    assert s.ids is None
    assert s.n_examples == 3000
    assert s.orthogonality() == splinter(NET, X).orthogonality()
    assert "3,000" in repr(s)
    assert splinter(NET, X, ids=False).ids is None


def test_threads_may_share_a_table():
    table = SplinterTable(NET)
    threads = [threading.Thread(target=table.update, args=(X,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = splinter(NET, X)
    assert table.n_examples == 8 * 3000
    assert torch.equal(table.modes().signatures, expected.signatures)
    assert torch.equal(table.modes().counts, 8 * expected.counts)


@pytest.mark.parametrize("disk", [False, True])
def test_interrupted_between_pieces(disk, tmp_path, monkeypatch):
    """Stopped at any point of a piece, the table holds whole pieces, and goes on from there."""

    class Stop(Exception):
        pass

    pieces = X.split(500)
    expected = table_of(X, ids=True).splinters()
    for name, target in (
        ("unique_signatures", gradsplinter.table.ops),
        ("_keep_ids", SplinterTable),
        ("empty_like", torch),
    ):
        original = getattr(target, name)
        for call in (1, 3):
            calls = itertools.count()

            def stopping(*args, original=original, calls=calls, call=call, **kwargs):
                result = original(*args, **kwargs)
                if next(calls) == call:
                    raise Stop
                return result

            path = tmp_path / f"{name}{call}.npy"
            table = SplinterTable(NET, ids=path if disk else True)
            with monkeypatch.context() as patch:
                patch.setattr(target, name, stopping)
                with pytest.raises(Stop):
                    table.update(pieces)
            done = table.n_examples
            assert done % 500 == 0
            assert 0 < done < 3000
            same(table.splinters(), splinter(NET, X[:done]))
            table.update(pieces, skip=done)
            same(table.splinters(), expected)
            assert not disk or torch.equal(torch.from_numpy(np.load(path)), expected.ids)


def test_a_cap_on_modes():
    modes = splinter(NET, X).n_modes
    half = splinter(NET, X[:1500]).n_modes
    assert table_of(X, max_modes=modes).n_modes == modes
    table = table_of(*X.split(500), max_modes=modes)  # though a piece alone might bring more
    assert table.n_modes == modes
    table = table_of(X[:1500], max_modes=modes - 1)
    with pytest.raises(
        ValueError,
        match=f"^x must have at most max_modes = {modes - 1:,} modes with what came before, got {modes:,}; ",
    ):
        table.update(X[1500:])
    assert (table.n_examples, table.n_modes) == (1500, half)
    with pytest.raises(ValueError, match="at most max_modes = 3"):
        table_of(X, max_modes=3)


def test_what_a_table_gives_is_a_copy():
    table = table_of(X, ids=True)
    expected = table.modes()
    given = expected.copy(torch.device("cpu"))
    table.splinters().ids.fill_(1)
    assert torch.equal(table.splinters().ids, splinter(NET, X).ids)
    for modes in (table.modes(), table.splinters()):
        for tensor in (modes.signatures, modes.counts, modes.first):
            tensor.fill_(1)
    other = SplinterTable(NET)
    other.add(given)
    given.counts.fill_(7)
    for found in (table.modes(), other.modes()):
        for name in ("signatures", "counts", "first"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name


def with_entry(tensor, index, value):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {"signatures": with_entry(m.signatures, (3, 0), 1 << 30)},
         "modes.signatures must have no bits after the last unit of a site, got some in word 0"),
        (lambda m: {"signatures": with_entry(m.signatures, 3, m.signatures[0])},
         "modes.signatures must all be different, got some twice"),
        (lambda m: {"counts": with_entry(m.counts, 3, 0)}, "modes.counts must be at least 1"),
        (lambda m: {"counts": with_entry(m.counts, 3, 5000)}, "at most 3,000 examples, got "),
        (lambda _: {"examples": 3001}, "modes.counts must add up to 3,001 examples, got 3,000"),
        (lambda m: {"first": m.first.flip(0)}, "modes.first must be ascending examples in 0..2,999"),
        (lambda m: {"first": m.first - 1}, "modes.first must be ascending examples in 0..2,999"),
        (lambda m: {"first": m.first + 3000}, "modes.first must be ascending examples in 0..2,999"),
        (lambda m: {"first": m.first[1:]}, "modes.first must have shape"),
        (lambda _: {"undercount": -1}, "modes.undercount must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_modes_that_cannot_be(change, message):
    modes = table_of(X).modes()
    table = table_of(X)
    with pytest.raises(ValueError, match=message):
        table.add(replace(modes, **change(modes)))
    assert table.n_examples == 3000
    table.add(modes)
    assert table.n_examples == 6000


@pytest.mark.parametrize("heaviest", [1, 5, 40, 10_000])
@pytest.mark.parametrize("piece", [1, 100, 3000])
def test_the_heaviest_modes(heaviest, piece):
    x = torch.cat([X, X[:500], X[:100], X[:20].repeat(20, 1)])  # so that some modes are heavy
    exact = splinter(NET, x)
    truth = dict(zip(map(tuple, exact.signatures.tolist()), exact.counts.tolist(), strict=True))
    table = table_of(*x[:1000].split(piece), heaviest=heaviest)
    table.merge(table_of(*x[1000:].split(piece), heaviest=heaviest))
    modes = table.modes()
    assert len(modes.counts) <= 2 * heaviest
    assert modes.examples == len(x)
    assert table.undercount <= len(x) // (heaviest + 1)
    found = dict(zip(map(tuple, modes.signatures.tolist()), modes.counts.tolist(), strict=True))
    for mode, count in truth.items():
        assert count - table.undercount <= found.get(mode, 0) <= count
    words = gradsplinter.signatures(NET, x)
    assert torch.equal(words[modes.first], modes.signatures)
    if heaviest == 10_000:
        assert found == truth
        assert table.undercount == 0
    if heaviest == 40:
        found = table.splinters()
        assert f"counts up to {table.undercount:,} too small" in repr(found)
        assert f"at most {found.compression:.1f} examples a mode" in repr(found)
        assert found.compression >= splinter(NET, x).compression


def test_bounds_of_two_kinds_do_not_mix():
    with pytest.raises(ValueError, match="other must have the same heaviest, got 5 for 50"):
        SplinterTable(NET, heaviest=50).merge(SplinterTable(NET, heaviest=5))
    heavy = table_of(*X.split(100), heaviest=50)
    table = SplinterTable(NET)
    table.add(heavy.modes())
    assert table.undercount == heavy.undercount > 0  # it goes with the modes
    finer = SplinterTable(NET, heaviest=5000)  # N / 5001 says nothing of what others dropped
    finer.add(heavy.modes())
    finer.update(X)
    assert finer.undercount == heavy.undercount


def test_no_mode_is_heavy():
    table = table_of(X[splinter(NET, X).first[:100]], heaviest=10)  # each example its own mode
    with pytest.raises(
        ValueError, match=r"heaviest must be larger than 10 .* more than 1 of the 100"
    ):
        table.splinters()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SplinterTable("net"), TypeError, "net must be a ReluNetwork, a TracedNetwork or an nn.Module, got str"),
        (lambda: SplinterTable(NET, 3), ValueError, "source must be a site in 0..2, got 3"),
        (lambda: SplinterTable(NET, max_modes=0), ValueError, "max_modes must be at least 1, got 0"),
        (lambda: SplinterTable(NET, heaviest=0), ValueError, "heaviest must be at least 1, got 0"),
        (lambda: SplinterTable(NET, heaviest=2.5), TypeError, "heaviest must be an integer, got float"),
        (
            lambda: SplinterTable(NET, heaviest=3, ids=True),
            ValueError,
            "ids must be False where only the heaviest modes are kept",
        ),
        (lambda: SplinterTable(NET).splinters(), ValueError, "the table must hold at least one example, got none"),
        (lambda: SplinterTable(NET).merge(3), TypeError, "other must be a SplinterTable, got int"),
        (
            lambda: SplinterTable(NET).merge(SplinterTable(NET, 1)),
            ValueError,
            "other must have the same sites, got (1, 3) for (0, 3)",
        ),
        (
            lambda: SplinterTable(NET, ids=True).merge(SplinterTable(NET)),
            ValueError,
            "other must have ids, since this table has",
        ),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value) == message


def test_tables_of_other_networks_or_directions_do_not_merge():
    other = random_network((4, 30, 70, 3), seed=1)
    with pytest.raises(
        ValueError,
        match=r"^other must have the same network, got (ReluNetwork\(4-30-70-3, float32\)) for \1, "
        r"with other weights \(fingerprints [0-9a-f]{8}… and [0-9a-f]{8}…\)$",
    ):
        SplinterTable(NET).merge(SplinterTable(other))
    wider = random_network((5, 2, 3))
    with pytest.raises(
        ValueError, match=r"got ReluNetwork\(5-2-3, float32\) for .*70-3, float32\) \(fingerprints "
    ):
        SplinterTable(NET).merge(SplinterTable(wider))
    with pytest.raises(ValueError, match="other must have the same directions, got different ones"):
        SplinterTable(NET).merge(SplinterTable(NET, directions=torch.ones(1, 3)))


STREAM = """
import resource, sys, torch
from torch import nn
from gradsplinter import SplinterTable, splinter
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
batch = torch.rand(100_000, 4)
splinter(net, batch)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = SplinterTable(net)
table.update(torch.rand(100_000, 4) for _ in range(int(sys.argv[1]) // 100_000))
print(table.n_examples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_data(soak):
    """Of 10^8 examples (10^7 in the short form); their inputs alone would take 1.6 GB."""
    examples = 10**8 if soak else 10**7
    printed = subprocess.run(
        [sys.executable, "-c", STREAM, str(examples)], capture_output=True, text=True, check=True
    ).stdout
    done, kilobytes = map(int, printed.splitlines()[-1].split())
    assert done == examples
    assert kilobytes < 100_000


def test_modes_of_another_kind_are_refused():
    modes = table_of(X).modes()
    count = len(modes.counts)
    for change, error, message in (
        (
            {"counts": modes.counts[1:]},
            ValueError,
            f"modes.counts must have shape [{count}], got [{count - 1}]",
        ),
        ({"first": modes.first.float()}, TypeError, "modes.first must be int64, got float32"),
        (
            {"signatures": modes.signatures[:, 1:]},
            ValueError,
            f"modes.signatures must have shape [{count}, 3], got [{count}, 2]",
        ),
        (
            {"signatures": modes.signatures.double()},
            TypeError,
            "modes.signatures must be int64, got float64",
        ),
        ({"examples": -1}, ValueError, "modes.examples must be at least 0, got -1"),
    ):
        with pytest.raises(error, match="^" + re.escape(message)):
            SplinterTable(NET).add(replace(modes, **change))
    table = SplinterTable(NET)
    table.add(replace(modes, signatures=modes.signatures.t().contiguous().t()))
    assert torch.equal(table.modes().signatures, modes.signatures)


def test_a_refused_merge_changes_nothing():
    table = table_of(X[:30], max_modes=40, heaviest=50)
    heavy = table_of(*X.split(100), heaviest=50)
    assert heavy.undercount > 0
    with pytest.raises(ValueError, match="max_modes"):
        table.merge(heavy)
    assert (table.undercount, table.n_examples) == (0, 30)


@pytest.mark.parametrize(("skip", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_bad_skip(skip, error):
    with pytest.raises(error, match="skip must be "):
        SplinterTable(NET).update(X, skip=skip)
