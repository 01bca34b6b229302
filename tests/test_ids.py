"""The mode of each example, in memory or in a .npy file: the same numbers, and little memory."""

import itertools
import linecache
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import random_inputs, random_network

import gradsplinter.table
from gradsplinter import SplinterTable, ids, io, splinter

NET = random_network((4, 30, 70, 3))
X = random_inputs(3000, 4)
EXPECTED = splinter(NET, X).ids


def on_disk(path):
    return torch.from_numpy(np.load(path))


@pytest.mark.parametrize("sizes", [(3000,), (1, 2999), (7,) * 428 + (4,), (0, 1500, 1500)])
def test_a_file_holds_what_memory_would(sizes, tmp_path):
    table = SplinterTable(NET, ids=tmp_path / "ids.npy")
    done = 0
    for x in X.split(list(sizes)):
        table.update(x)
        done += len(x)
        if done:
            assert torch.equal(on_disk(tmp_path / "ids.npy"), EXPECTED[:done])
    assert torch.equal(table.splinters().ids, EXPECTED)
    mapped = np.load(tmp_path / "ids.npy", mmap_mode="r")
    assert (mapped.dtype, mapped.shape) == (np.int64, (3000,))


def test_splinter_writes_ids_and_maps_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = splinter(NET, X, ids="ids.npy").ids
    monkeypatch.chdir("/")
    assert torch.equal(found, EXPECTED)
    found[:] = -1  # stays with the tensor
    assert torch.equal(on_disk(tmp_path / "ids.npy"), EXPECTED)


def test_merging_appends_the_ids_of_the_other(tmp_path):
    """From memory and from disk, into memory and onto disk."""
    for i, (ours, theirs) in enumerate(itertools.product((True, False), repeat=2)):
        places = [True if memory else tmp_path / f"{i}{memory}{j}.npy"
                  for j, memory in enumerate((ours, theirs))]  # fmt: skip
        a, b = (SplinterTable(NET, ids=place) for place in places)
        a.update(X[:1000])
        b.update(X[1000:].split(300))
        a.merge(b)
        assert torch.equal(a.splinters().ids, EXPECTED)
        assert torch.equal(b.splinters().ids, splinter(NET, X[1000:]).ids)
    a.merge(a)
    assert torch.equal(on_disk(places[0]), torch.cat([EXPECTED, EXPECTED]))


def test_a_file_that_exists_is_never_written(tmp_path):
    path = tmp_path / "ids.npy"
    late = SplinterTable(NET, ids=path)
    path.write_bytes(b"ten years of work")
    for call in (lambda: splinter(NET, X, ids=path), lambda: late.update(X)):
        with pytest.raises(ValueError, match=r"^ids must be a new file, got .*ids.npy, which exi"):
            call()
    assert path.read_bytes() == b"ten years of work"
    assert late.n_examples == 0


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("ids", ValueError, "ids must be the path of a .npy file, got ids"),
        (1, TypeError, "ids must be True, False or a path, got int"),
        (None, TypeError, "ids must be True, False or a path, got NoneType"),
    ],
)
def test_bad_ids(value, error, message):
    with pytest.raises(error) as raised:
        SplinterTable(NET, ids=value)
    assert str(raised.value) == message
    with pytest.raises(ValueError, match="ids must be False where only the heaviest"):
        SplinterTable(NET, ids="ids.npy", heaviest=3)


def test_data_that_is_refused_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="x must have shape"):
        splinter(NET, X[:, 1:], ids=tmp_path / "ids.npy")
    assert list(tmp_path.iterdir()) == []


def test_no_room_on_the_disk(tmp_path):
    table = SplinterTable(NET, ids=tmp_path / "ids.npy")
    table.update(X[:1000])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            table.update(X[1000:].split(700))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert table.n_examples == 2400
    assert torch.equal(on_disk(tmp_path / "ids.npy"), EXPECTED[:2400])
    table.update(X, skip=2400)
    assert torch.equal(table.splinters().ids, EXPECTED)


@pytest.mark.parametrize("disk", [False, True])
def test_interrupted_at_any_line(disk, tmp_path):
    """Stopped before any line, the table holds whole pieces and their ids, and goes on from there."""

    class Stop(Exception):
        pass

    files = {module.__file__ for module in (gradsplinter.table, ids, io)}
    pieces = X[:40].split(10)
    expected = EXPECTED[:40]
    for stop_at in itertools.count(1):
        lines = itertools.count(1)

        def trace(frame, event, _, lines=lines, stop_at=stop_at):
            if frame.f_code.co_filename not in files:
                return None
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            # A signal cannot stop a `with` before it has released a lock; tracing could.
            if event == "line" and "with " not in line and next(lines) == stop_at:
                raise Stop
            return trace

        path = tmp_path / f"{stop_at}.npy"
        table = SplinterTable(NET, ids=path if disk else True)
        sys.settrace(trace)
        try:
            table.update(pieces)
            break
        except Stop:
            pass
        finally:
            sys.settrace(None)
        done = table.n_examples
        assert done % 10 == 0
        if disk and path.exists() and path.stat().st_size > 0:
            written = on_disk(path)
            assert len(written) in (done, done - 10)
            assert torch.equal(written, expected[: len(written)])
        assert done == 0 or torch.equal(table.splinters().ids, expected[:done])
        table.update(pieces, skip=done)
        assert torch.equal(table.splinters().ids, expected)
        assert not disk or torch.equal(on_disk(path), expected)
    assert stop_at > 100


def test_ids_of_many_small_updates_are_joined():
    table = SplinterTable(NET, ids=True)
    for _ in range(100):
        table.update(X[:10].split(1))
    pieces = table._ids._place.pieces
    assert len(pieces) <= 11
    assert sum(piece.untyped_storage().nbytes() for piece in pieces) == 8 * 1000
    assert torch.equal(table.splinters().ids, EXPECTED[:10].repeat(100))


STREAM = """
import resource, sys, torch
from gradsplinter import ReluNetwork, SplinterTable, splinter
net = ReluNetwork.load(sys.argv[1])
batch = torch.rand(100_000, 4)
splinter(net, batch)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = SplinterTable(net, ids=sys.argv[2])
table.update(torch.rand(100_000, 4) for _ in range(int(sys.argv[3]) // 100_000))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(table.splinters().ids) == table.n_examples
print(after - before)
"""


def test_memory_does_not_grow_with_the_ids(tmp_path, soak):
    """Of 10^7 examples (10^8 in the long form), whose ids take 80 MB."""
    examples = 10**8 if soak else 10**7
    NET.save(tmp_path / "net.safetensors")
    arguments = [tmp_path / "net.safetensors", tmp_path / "ids.npy", str(examples)]
    printed = subprocess.run(
        [sys.executable, "-c", STREAM, *arguments], capture_output=True, text=True, check=True
    ).stdout
    assert int(printed.splitlines()[-1]) < 40_000  # kilobytes
    assert len(np.load(tmp_path / "ids.npy", mmap_mode="r")) == examples
