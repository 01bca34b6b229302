"""Tables on disk: appended, merged, damaged, killed at any moment."""

import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
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

from gradsplinter import SplinterTable, Store, extract, splinter
from gradsplinter import store as store_module
from gradsplinter.store import _checksum, merge

WRITE_INDEX = store_module._write_index

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
        with pytest.raises(ValueError, match=f"^other must have the same {what}, got "):
            extract(net, X, store.path, source, directions=directions, progress=False)
    assert {p.name: p.read_bytes() for p in store.path.iterdir()} == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("ten years of work")
    with pytest.raises(ValueError, match=r"^path must be a new or empty folder, got .*thesis$"):
        extract(NET, X, tmp_path / "thesis", progress=False)
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_no_room_on_the_disk(store):
    """The part that does not fit is not there, and what was there is."""
    before = {p.name: p.read_bytes() for p in store.path.iterdir()}
    table = SplinterTable(NET)
    table.update(random_inputs(20_000, 4, seed=3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.append(table.modes())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert {p.name: p.read_bytes() for p in store.path.iterdir()} == before
    same(store, splinter(NET, X))
    store.append(table.modes())
    assert Store(store.path).n_examples == 23_000


EXTRACT = """
import sys
from pathlib import Path
from gradsplinter import ReluNetwork, batches, extract
batches.BYTES = 8 * 4 * 1000  # pieces of 1,000 examples
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
        extract(NET, X.split(10), tmp_path / name, part_examples=10, progress=False)
    written = []
    monkeypatch.setattr(
        store_module, "_write_index", lambda *args: (written.append(args), WRITE_INDEX(*args))
    )
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert len(merged.parts) == 600
    assert len(written) == 2  # without parts, and with all
    same(merged, splinter(NET, torch.cat([X, X])))


def test_errors_name_the_example_from_the_start(tmp_path):
    """After a resume too."""
    x = X.clone()
    x[2345, 1] = torch.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="x must be finite") as raised:
            extract(NET, x.split(100), tmp_path / "s", part_examples=800, progress=False)
        assert raised.value.__notes__ == ["(in a piece of x that begins at example 2,300)"]
        assert Store(tmp_path / "s").n_examples == 1600


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
