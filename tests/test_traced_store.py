"""Tables of traced networks on disk: what is in the folder, and what takes the network."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_inputs
from torch import nn

from gradsplinter import ReluNetwork, SplinterTable, Store, TracedNetwork, extract, merge, splinter
from gradsplinter.store_index import _checksum


def made(seed, pool=nn.MaxPool2d):
    torch.manual_seed(seed)
    module = nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.ReLU(), pool(2), nn.Flatten()),
        *(nn.Linear(8, 5), nn.LeakyReLU(), nn.Linear(5, 3)),
    )
    return TracedNetwork.from_module(module, (1, 6, 6))


NET = made(0)
X = random_inputs(400, 36)


def same(found, expected):
    found = found.modes() if isinstance(found, SplinterTable) else found
    for name in ("signatures", "counts", "first"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.fixture
def store(tmp_path):
    return extract(NET, X[:250], tmp_path / "store", part_examples=100, progress=False)


def test_what_was_extracted_is_there(store):
    expected = splinter(NET, X[:250])
    names = {path.name for path in store.path.iterdir()}
    assert names == {"table.json", *(f"part-{i:05}.safetensors" for i in range(3))}
    index = json.loads((store.path / "table.json").read_text())
    assert index["fingerprint"] == NET.fingerprint
    assert index["widths"] == [36, 32, 8, 5, 3]
    assert index["bits"] == [0, 32, 16, 5, 0]
    assert index["names"] == ["input", "1", "2", "5", "output"]
    for opened in (store, Store(store.path, NET)):
        same(opened.table(), expected)
        found = opened.table().splinters()
        assert torch.equal(found.jacobian(), expected.jacobian())
        assert found.orthogonality() == expected.orthogonality()


@pytest.mark.parametrize(("source", "target"), [(0, 2), (1, -1), (2, 3)])
def test_inner_sites_and_directions(tmp_path, source, target):
    directions = random_inputs(2, NET.widths[target])
    extract(NET, X, tmp_path / "s", source, target, directions, progress=False)
    found = Store(tmp_path / "s", NET).table().splinters()
    expected = splinter(NET, X, source, target, directions)
    same(found, expected)
    assert torch.equal(found.jacobian(), expected.jacobian())


def test_without_the_network_modes_are_there_and_gradients_are_not(store):
    table = Store(store.path).table()
    same(table, splinter(NET, X[:250]))
    assert repr(table.net) == repr(NET)
    s = table.splinters()
    assert "the network is not kept with its table: Store(path, net)" in repr(s)
    for call in (s.jacobian, s.cross, s.orthogonality, lambda: table.update(X)):
        with pytest.raises(
            ValueError, match=r"^net must be given to compute with TracedNetwork\(36-"
        ):
            call()


def test_a_repeated_call_goes_on(store):
    before = {path.name: path.read_bytes() for path in store.path.glob("part-*")}
    extract(NET, X, store.path, progress=False)
    same(Store(store.path).table(), splinter(NET, X))
    for name, data in before.items():
        assert (store.path / name).read_bytes() == data
    with pytest.raises(ValueError, match=r"^x must begin with the examples that are in "):
        extract(NET, X.flip(0), store.path, progress=False)


def test_parts_merge_and_are_appended(store, tmp_path):
    """Without the network, too."""
    extract(NET, X[250:300], tmp_path / "b", progress=False)
    merged = merge([store.path, tmp_path / "b"], tmp_path / "c")
    same(merged.table(), splinter(NET, X[:300]))
    table = SplinterTable(NET)
    table.update(X[300:])
    merged.append(table.modes())
    same(Store(tmp_path / "c", NET).table(), splinter(NET, X))


def test_another_network_is_refused(store, tmp_path):
    """Of other weights, and of the same ones with other operations."""
    others = (
        made(1),
        made(0, nn.AvgPool2d),
        made(0, lambda size: nn.MaxPool2d(size, 2, ceil_mode=True)),
    )
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}
    for other in others:
        with pytest.raises(ValueError, match=r"^.*store must have the same network, got Traced"):
            extract(other, X, store.path, progress=False)
        with pytest.raises(
            ValueError, match=r"^net must be the network of .*store, of widths \[36, "
        ):
            Store(store.path, other)
    chain = nn.Sequential(nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"^net must be the network of "):
        Store(store.path, chain)
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before
    extract(made(1), X, tmp_path / "other", progress=False)
    with pytest.raises(ValueError, match="must have the same network"):
        merge([store.path, tmp_path / "other"], tmp_path / "both")
    net = ReluNetwork.from_module(chain)
    plain = extract(net, X, tmp_path / "plain", progress=False)
    assert Store(plain.path, chain).table().net.fingerprint == net.fingerprint
    with pytest.raises(ValueError, match=r"^net must be the network of "):
        Store(plain.path, NET)


@pytest.mark.parametrize("change", [{"bits": None}, {"names": ["input"]}, {"bits": [0, 32, 16, 5]}])
def test_a_damaged_description_is_found(store, change):
    index = json.loads((store.path / "table.json").read_text()) | change
    index["checksum"] = _checksum(index)
    (store.path / "table.json").write_text(json.dumps(index))
    with pytest.raises(
        ValueError, match=r"is damaged: table.json has no valid 'bits' and 'names'$"
    ):
        Store(store.path)


def test_a_network_has_the_same_fingerprint_in_every_process():
    script = "from test_traced_store import NET; print(NET.fingerprint)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == NET.fingerprint


def test_the_shape_of_an_example_is_read_off_data_of_any_kind(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    images = random_inputs(60, 36).reshape(60, 1, 6, 6)
    expected = splinter(module, images)
    path = tmp_path / "images.npy"
    np.save(path, images.numpy())
    for data in (path, str(path), tmp_path, images.split(20), [(images, None)], [path]):
        assert splinter(module, data).signatures.equal(expected.signatures)
    for i, data in enumerate((images, path)):
        store = extract(module, data, tmp_path / f"store{i}", progress=False)
        same(store.table(), expected)
    with pytest.raises(ValueError, match=r"^input_shape must be given"):
        splinter(module, iter([images]))
