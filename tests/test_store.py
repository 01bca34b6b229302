"""Tables on disk: appended, merged, damaged, killed at any moment."""

import json
import linecache
import random
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import random_inputs, random_network
from torch.utils.data import DataLoader

from gradsplinter import (
    SplinterTable,
    Store,
    extract,
    extraction,
    merge,
    splinter,
    store_index,
)
from gradsplinter import store as store_module
from gradsplinter.store_index import Index, _checksum

WRITE_INDEX = Index.write

NET = random_network((4, 30, 70, 3))
X = random_inputs(3000, 4)


def same(store, expected):
    found = store.table().modes()
    for name in ("signatures", "counts", "first"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.examples == store.n_examples == expected.n_examples


@pytest.fixture
def store(tmp_path):
    """X in four parts."""
    return extract(NET, X.split(100), tmp_path / "store", part_examples=800, progress=False)


def test_what_was_extracted_is_there(store):
    same(Store(store.path), splinter(NET, X))
    assert [part.examples for part in store.parts] == [800, 800, 800, 600]
    names = {path.name for path in store.path.iterdir()}
    parts = {f"part-{i:05}.safetensors" for i in range(4)}
    assert names == {"table.json", "network.safetensors", *parts}


@pytest.mark.parametrize("directions", [None, torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])])
@pytest.mark.parametrize(("source", "target"), [(0, -1), (1, -1), (0, 3)])
def test_sites_and_directions_are_kept(source, target, directions, tmp_path):
    store = extract(NET, X, tmp_path / "a", source, target, directions, progress=False)
    expected = splinter(NET, X, source, target, directions)
    same(store, expected)
    assert torch.equal(store.table().splinters().jacobian(), expected.jacobian())


def test_a_module(tmp_path):
    same(extract(NET.to_module(), X, tmp_path / "m", progress=False), splinter(NET, X))


def test_repeated_and_appended(store):
    before = {p.name: p.read_bytes() for p in store.path.iterdir()}
    same(extract(NET, X.split(100), store.path, progress=False), splinter(NET, X))
    assert {p.name: p.read_bytes() for p in store.path.iterdir()} == before
    more = random_inputs(500, 4, seed=7)
    table = SplinterTable(NET)
    table.update(more)
    store.append(table.modes())
    same(Store(store.path), splinter(NET, torch.cat([X, more])))


def test_parts_of_the_data_merge_into_the_whole(tmp_path):
    """As two processes would make them."""
    np.save(tmp_path / "a.npy", X[:1234].numpy())
    np.save(tmp_path / "b.npy", X[1234:].numpy())
    for name in ("a", "b"):
        extract(NET, tmp_path / f"{name}.npy", tmp_path / name, part_examples=500, progress=False)
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    same(merged, splinter(NET, X))
    with pytest.raises(ValueError, match=r"^out must be a new folder, got .*c, which exists$"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")


def test_opening_reads_no_part(store):
    for path in store.path.glob("part-*"):
        path.unlink()
    assert Store(store.path).n_examples == 3000


def edit(change):
    def damage(folder):
        index = json.loads((folder / "table.json").read_text())
        change(index)
        index["checksum"] = _checksum(index)
        (folder / "table.json").write_text(json.dumps(index))

    return damage


def flip(name, at):
    def damage(folder):
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 1
        (folder / name).write_bytes(data)

    return damage


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def put(value, *keys):
    def change(index):
        for key in keys[:-1]:
            index = index[key]
        index[keys[-1]] = value

    return edit(change)


DAMAGES = {
    "no part": (lambda d: (d / "part-00002.safetensors").unlink(), "cannot be read"),
    "part cut": (cut("part-00001.safetensors", 1000), "is damaged: its checksum is not"),
    "part empty": (cut("part-00001.safetensors", 0), "is damaged: its checksum is not"),
    "a bit of a part": (flip("part-00003.safetensors", -9), "is damaged: its checksum is not"),
    "a bit of its header": (flip("part-00003.safetensors", 3), "is damaged: its checksum is not"),
    "other part": (
        lambda d: (d / "part-00000.safetensors").replace(d / "part-00001.safetensors"),
        "cannot be read",
    ),
    "fewer modes": (put(5, "parts", 0, "modes"), "is damaged: it does not hold 5 modes"),
    "no table": (lambda d: (d / "table.json").unlink(), "which has no table.json"),
    "table cut": (cut("table.json", 100), "cannot be read as JSON"),
    "table empty": (cut("table.json", 0), "cannot be read as JSON"),
    "table a list": (lambda d: (d / "table.json").write_text("[]"), "must hold a JSON object"),
    "newer": (put(2, "schema"), "must be of schema 1, got 2; a newer gradsplinter may read it"),
    "no schema": (edit(lambda index: index.pop("schema")), "must be of schema 1, got None"),
    "no parts": (edit(lambda index: index.pop("parts")), "table.json has no valid 'parts'"),
    "wrong type": (put("0", "source"), "table.json has no valid 'source'"),
    "wrong site": (put(7, "source"), "source must be a site in 0..2, got 7"),
    "outside": (put("../x.safetensors", "parts", 0, "file"), "table.json lists '../x.safetensors'"),
    "absolute": (put("/etc/passwd", "parts", 0, "file"), "table.json lists '/etc/passwd'"),
    "more examples": (put(801, "parts", 0, "examples"), "its counts are not those of 801 examples"),
    "twice": (edit(lambda index: index["parts"].insert(1, index["parts"][0])), "table.json lists"),
    "gap": (edit(lambda index: index["parts"].pop(1)), "table.json lists"),
    "a bit of the table": (
        lambda d: (d / "table.json").write_text(
            (d / "table.json").read_text().replace('"examples": 800', '"examples": 801', 1)
        ),
        "table.json does not have its own checksum",
    ),
    "no examples": (put(0, "parts", 0, "examples"), "lists a part that is none"),
    "part a number": (put(3, "parts", 0), "lists a part that is none"),
    "network cut": (cut("network.safetensors", 500), "must be a safetensors file"),
    "a bit of the network": (flip("network.safetensors", -5), "must hold the network that table"),
    "no network": (lambda d: (d / "network.safetensors").unlink(), "network.safetensors cannot be"),
    "no directions": (put("0" * 64, "directions"), "directions.safetensors cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_and_nothing_changes(store, name):
    damage, message = DAMAGES[name]
    damage(store.path)
    before = {p.name: p.read_bytes() for p in store.path.iterdir()}
    with pytest.raises(ValueError, match=re.escape(message)):
        Store(store.path).table()
    assert {p.name: p.read_bytes() for p in store.path.iterdir()} == before


@given(st.data())
def test_any_damage_is_found(whole, data):
    """Whatever happens to the bytes of a file: an error that names the folder, or the right table."""
    expected, files = whole
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=2))
            case "cut":
                del content[at : at + data.draw(st.sampled_from([1, 8, 10**6]))]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=9))
    with TemporaryDirectory() as folder:
        for other, bytes_ in files.items():
            (Path(folder) / other).write_bytes(content if other == name else bytes_)
        try:
            found, message = Store(folder).table().modes(), folder
        except ValueError as error:
            found, message = expected, str(error)
    assert folder in message
    for tensor in ("signatures", "counts", "first"):
        assert torch.equal(getattr(found, tensor), getattr(expected, tensor)), tensor


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The modes of a small table with two parts, and its files."""
    path = tmp_path_factory.mktemp("whole") / "store"
    net = random_network((3, 5, 2))
    x = random_inputs(200, 3)
    store = extract(
        net, x.split(100), path, directions=torch.ones(1, 2), part_examples=100, progress=False
    )
    return store.table().modes(), {p.name: p.read_bytes() for p in path.iterdir()}


def test_a_folder_of_something_else_stays_as_it_is(store, tmp_path):
    before = {p.name: p.read_bytes() for p in store.path.iterdir()}
    for net, source, directions, what in (
        (random_network((4, 30, 70, 3), seed=1), 0, None, "network"),
        (NET, 1, None, "sites"),
        (NET, 0, torch.ones(1, 3), "directions"),
    ):
        with pytest.raises(ValueError, match=f"^.*store must have the same {what}, got "):
            extract(net, X, store.path, source, directions=directions, progress=False)
    assert {p.name: p.read_bytes() for p in store.path.iterdir()} == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("ten years of work")
    with pytest.raises(
        ValueError, match=r"^path must be a new or empty folder, got .*, which holds thesis.tex$"
    ):
        extract(NET, X, tmp_path / "thesis", progress=False)
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_a_users_network_is_not_replaced(tmp_path):
    """Unless it is the same one: what a creation that was killed has left."""
    random_network((4, 30, 70, 3), seed=1).save(tmp_path / "network.safetensors")
    before = (tmp_path / "network.safetensors").read_bytes()
    message = r"^path must be a new or empty folder, got .*, which holds network.safetensors$"
    with pytest.raises(ValueError, match=message):
        extract(NET, X, tmp_path, progress=False)
    with pytest.raises(ValueError, match=message):
        Store.create(tmp_path, SplinterTable(NET))
    assert (tmp_path / "network.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    NET.save(tmp_path / "network.safetensors")
    (tmp_path / "table.json.tmp").write_text("{")
    same(extract(NET, X, tmp_path, progress=False), splinter(NET, X))


OTHERS = {
    "rows": lambda x: x.flip(0),
    "the first row": lambda x: x.index_put((torch.tensor(0),), torch.zeros(())),
    "the last row": lambda x: x.index_put((torch.tensor(1599),), torch.zeros(())),
    "a row before": lambda x: torch.cat([x[:1], x]),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("kind", [torch.Tensor.numpy, list, lambda x: iter(x.split(70))])
def test_other_data_than_before(tmp_path, other, kind):
    extract(NET, X[:1600], tmp_path / "s", part_examples=800, progress=False)
    before = {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()}
    x = OTHERS[other](X)
    with pytest.raises(
        ValueError, match=r"^x must begin with the examples that are in .*, got oth"
    ):
        extract(
            NET, kind(x) if kind is not list else list(x.split(7)), tmp_path / "s", progress=False
        )
    assert {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()} == before
    same(extract(NET, X, tmp_path / "s", progress=False), splinter(NET, X))


def test_another_divisor_than_before(tmp_path):
    x = (X.abs() * 50).to(torch.uint8)
    extract(NET, x[:1600], tmp_path / "s", divisor=255, progress=False)
    with pytest.raises(
        ValueError, match=r"with the same divisor, got others among examples 0..1,599"
    ):
        extract(NET, x, tmp_path / "s", divisor=1, progress=False)
    same(
        extract(NET, x, tmp_path / "s", divisor=255.0, progress=False),
        splinter(NET, x, divisor=255),
    )


def test_each_so_many_rows_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SEEN_EVERY", 100)
    extract(NET, X[:1650].split(70), tmp_path / "s", part_examples=800, progress=False)
    for at in (100, 700, 910 - 70, 840 + 300):  # parts of 840 examples
        x = X.clone()
        x[at] += 1
        with pytest.raises(ValueError, match="got others among"):
            extract(NET, x, tmp_path / "s", progress=False)
    same(extract(NET, X, tmp_path / "s", progress=False), splinter(NET, X))


def test_merged_parts_know_their_data(tmp_path):
    extract(NET, X[:1000], tmp_path / "a", part_examples=300, progress=False)
    extract(NET, X[1000:2000], tmp_path / "b", part_examples=300, progress=False)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    with pytest.raises(ValueError, match=r"got others among examples 1,000..1,299"):
        extract(NET, torch.cat([X[:1000], X[:2000]]), tmp_path / "c", progress=False)
    same(extract(NET, X, tmp_path / "c", progress=False), splinter(NET, X))


def test_too_few_examples_from_an_iterable(store):
    message = "x must hold at least the 3,000 examples that are to be left out, got 2,000"
    with pytest.raises(ValueError, match=message):
        extract(NET, iter(X[:2000].split(100)), store.path, progress=False)


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b"xx"), Path.unlink])
def test_a_damaged_table_is_not_continued(store, damage):
    damage(store.path / "part-00001.safetensors")
    with pytest.raises(ValueError, match=r"part-00001.safetensors (is damaged|cannot be read)"):
        extract(NET, X, store.path, progress=False)


class Stop(BaseException):
    pass


def test_what_an_interrupted_call_has_done_is_kept(tmp_path):
    def stopped():
        yield from X[:1500].split(70)
        raise Stop

    with pytest.raises(Stop):
        extract(NET, stopped(), tmp_path / "s", progress=False)
    assert Store(tmp_path / "s").n_examples == 1500
    same(extract(NET, X, tmp_path / "s", progress=False), splinter(NET, X))


def test_interrupted_at_any_line(tmp_path, soak):
    """Whatever a call has reached, repeating it ends with the table of all examples.

    Of a line that is run many times, the first two times and the last; in the long form, all.
    """
    files = {module.__file__ for module in (extraction, store_module, store_index)}
    expected = splinter(NET, X[:30])

    def extract_until(stop_at, path):
        """The lines that were run."""
        lines = []

        def trace(frame, event, _):
            place = frame.f_code.co_filename, frame.f_lineno
            if place[0] not in files:
                return None
            if event == "line" and "with " not in linecache.getline(*place):
                lines.append(place)
                if len(lines) == stop_at:
                    raise Stop
            return trace

        sys.settrace(trace)
        try:
            extract(NET, X[:30].split(10), path, part_examples=20, progress=False)
        finally:
            sys.settrace(None)
        return lines

    lines = extract_until(0, tmp_path / "whole")
    stops = [
        i for i, line in enumerate(lines, 1)
        if soak or lines[:i].count(line) <= 2 or line not in lines[i:]
    ]  # fmt: skip
    assert len(stops) > 200
    for stop_at in stops:
        with pytest.raises(Stop):
            extract_until(stop_at, tmp_path / str(stop_at))
        same(extract(NET, X[:30], tmp_path / str(stop_at), progress=False), expected)


def test_a_part_is_written_after_some_time(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "PART_SECONDS", 0.0)
    store = extract(NET, X.split(1000), tmp_path / "s", progress=False)
    assert [part.examples for part in store.parts] == [1000, 1000, 1000]


def test_a_batch_larger_than_a_part(tmp_path):
    store = extract(NET, X, tmp_path / "s", part_examples=700, progress=False)
    assert [part.examples for part in store.parts] == [700, 700, 700, 700, 200]
    same(store, splinter(NET, X))


@pytest.mark.parametrize("folder_exists", [False, True])
def test_a_call_that_fails_leaves_nothing(tmp_path, folder_exists):
    if folder_exists:
        (tmp_path / "s").mkdir()
    for x in (tmp_path / "missing.npy", X.double(), X[:0], iter([])):
        with pytest.raises((TypeError, ValueError), match="x "):
            extract(NET, x, tmp_path / "s", progress=False)
        assert (tmp_path / "s").exists() == folder_exists
    same(
        extract(random_network((4, 9, 3)), X, tmp_path / "s", progress=False),
        splinter(random_network((4, 9, 3)), X),
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: merge([p / "a", p / "a"], p / "c"), ValueError, r"paths must be different folders, got .*a twice"),
        (lambda p: merge([p / "a", p / "b" / ".." / "a"], p / "c"), ValueError, r"paths must be different folders, got .* twice"),
        (lambda p: merge([p / "a", p / "b"], p / "a" / "c"), ValueError, r"out must not be within one of the folders, got .*"),
        (lambda p: merge("ab", p / "c"), TypeError, "paths must be a list of folders, got the one path ab"),
        (lambda p: merge([1], p / "c"), TypeError, "paths must be a path, got int"),
        (lambda p: merge([p / "a"], 3), TypeError, "out must be a path, got int"),
        (lambda _: Store(3), TypeError, "path must be a path, got int"),
        (lambda _: extract(NET, X, 5, progress=False), TypeError, "path must be a path, got int"),
        (lambda p: Store(p / "a").append(3), TypeError, "modes must be Modes, got int"),
    ],
)  # fmt: skip
def test_bad_calls(tmp_path, call, error, message):
    for name, x in (("a", X[:100]), ("b", X[100:200])):
        extract(NET, x, tmp_path / name, progress=False)
    with pytest.raises(error, match=f"^{message}$"):
        call(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}


def test_no_room_for_a_new_table(tmp_path):
    with (
        no_room(100),
        pytest.raises(ValueError, match="path must be a folder"),
    ):
        Store.create(tmp_path / "s", SplinterTable(NET))
    assert not (tmp_path / "s" / "table.json").exists()
    Store.create(tmp_path / "s", SplinterTable(NET))


@contextmanager
def no_room(size):
    """Files cannot grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_no_room_on_the_disk(store):
    """The part that does not fit is not there, and what was there is."""
    before = {p.name: p.read_bytes() for p in store.path.iterdir()}
    table = SplinterTable(NET)
    table.update(random_inputs(20_000, 4, seed=3))
    with no_room(100_000), pytest.raises(OSError, match="File too large"):
        store.append(table.modes())
    assert {p.name: p.read_bytes() for p in store.path.iterdir()} == before
    same(store, splinter(NET, X))
    store.append(table.modes())
    assert Store(store.path).n_examples == 23_000


EXTRACT = """
import sys
from pathlib import Path
from gradsplinter import ReluNetwork, batches, extract
batches.MOST_BYTES = 8 * 4 * 1000  # pieces of 1,000 examples
folder = Path(sys.argv[1])
net = ReluNetwork.load(folder / "net.safetensors")
print("begin", flush=True)
extract(net, folder / "x.npy", folder / "store", part_examples=1000, progress=False)
"""


def test_killed_at_any_moment_it_goes_on(tmp_path, soak):
    """SIGKILL at random points; at last it ends, with the table of an undisturbed run."""
    np.save(tmp_path / "x.npy", random_inputs(200_000, 4).numpy())
    NET.save(tmp_path / "net.safetensors")
    chance = random.Random(0)
    kills = 0
    for attempt in range(50 if soak else 4):
        process = subprocess.Popen(
            [sys.executable, "-c", EXTRACT, str(tmp_path)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.25) if attempt else 0.05)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert kills > 1
    done = Store(tmp_path / "store").n_examples if (tmp_path / "store/table.json").exists() else 0
    store = extract(NET, tmp_path / "x.npy", tmp_path / "store", progress=False)
    assert store.n_examples == 200_000 >= done
    same(store, splinter(NET, random_inputs(200_000, 4)))


HALF = """
import sys
from gradsplinter import ReluNetwork, extract
folder, name = sys.argv[1:]
net = ReluNetwork.load(f"{folder}/net.safetensors")
print("begin", flush=True)
sys.stdin.readline()
extract(net, f"{folder}/{name}.npy", f"{folder}/{name}", part_examples=500, progress=False)
"""


def test_two_processes_at_once_merge_into_the_table_of_one(tmp_path):
    NET.save(tmp_path / "net.safetensors")
    np.save(tmp_path / "a.npy", X[:1500].numpy())
    np.save(tmp_path / "b.npy", X[1500:].numpy())
    command = [sys.executable, "-c", HALF, str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen([*command, name], stdin=pipe, stdout=pipe) for name in "ab"]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    same(merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c"), splinter(NET, X))


LOCK = """
import sys
from gradsplinter.io import only_writer
from pathlib import Path
with only_writer(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_writer_at_a_time(store):
    """A lock that ends with its process."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        message = "^path must be a folder that nobody else writes to, got .*store$"
        with pytest.raises(ValueError, match=message):
            extract(NET, X, store.path, progress=False)
        with pytest.raises(ValueError, match=message):
            store.append(splinter_table().modes())
        same(Store(store.path), splinter(NET, X))
        other.kill()
    store.append(splinter_table().modes())
    assert Store(store.path).n_examples == 6000


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_that_live_on_do_not_hold_the_lock(tmp_path):
    loader = DataLoader(
        X, 500, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    )
    for _ in range(2):
        store = extract(NET, loader, tmp_path / "store", progress=False)
        assert loader._iterator is not None
        same(store, splinter(NET, X))


def splinter_table():
    table = SplinterTable(NET)
    table.update(X)
    return table


def test_many_parts_are_merged_with_one_list(tmp_path, monkeypatch):
    for name in ("a", "b"):
        extract(NET, X[:900].split(10), tmp_path / name, part_examples=10, progress=False)
    written = []
    monkeypatch.setattr(Index, "write", lambda *args: (written.append(args), WRITE_INDEX(*args)))
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert len(merged.parts) == 180
    assert len(written) == 2  # without parts, and with all
    same(merged, splinter(NET, torch.cat([X[:900], X[:900]])))


def test_errors_name_the_example_from_the_start(tmp_path):
    """After a resume too."""
    x = X.clone()
    x[2345, 1] = torch.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="x must be finite") as raised:
            extract(NET, x.split(100), tmp_path / "s", part_examples=800, progress=False)
        assert raised.value.__notes__ == ["(in a piece of x that begins at example 2,300)"]
        assert Store(tmp_path / "s").n_examples == 2300


def test_two_handles_do_not_lose_examples(store):
    a, b = Store(store.path), Store(store.path)
    table = SplinterTable(NET)
    table.update(random_inputs(50, 4, seed=9))
    a.append(table.modes())
    with pytest.raises(ValueError, match="was changed since it was opened"):
        b.append(table.modes())
    assert Store(store.path).n_examples == 3050
    assert Store(store.path).table().n_examples == 3050


def test_every_bit_of_the_directions_counts(tmp_path):
    store = extract(NET, X, tmp_path / "d", directions=torch.ones(2, 3), progress=False)
    size = (store.path / "directions.safetensors").stat().st_size
    for at in range(0, size, 7):
        flip("directions.safetensors", at)(store.path)
        with pytest.raises(ValueError, match=r"directions.safetensors is damaged: its checksum"):
            store.empty_table()
        flip("directions.safetensors", at)(store.path)
    store.empty_table()


def test_modes_that_do_not_fit_are_not_appended(store):
    heavy = SplinterTable(NET, heaviest=5)
    heavy.update(X.split(100))
    other = SplinterTable(random_network((4, 30, 3)))
    other.update(X)
    whole = SplinterTable(NET)
    whole.update(X)
    for modes, message in (
        (heavy.modes(), "modes must be all modes, got only the heaviest"),
        (other.modes(), "modes.signatures must have shape"),
        (
            replace(whole.modes(), examples=9),
            "modes.counts must be at least 1 and add up to at most 9 examples, got 3,000",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            store.append(modes)
    same(Store(store.path), splinter(NET, X))


def test_fewer_examples_than_there_are(store):
    with pytest.raises(ValueError, match=r"x must begin with the 3,000 examples in .* got 1,000"):
        extract(NET, X[:1000], store.path, progress=False)
