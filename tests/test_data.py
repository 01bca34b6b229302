"""Data sets: from folders, from Debian's package, from mirrors on this machine; damaged and absent ones."""

import gzip
import hashlib
import os
import struct
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread

import numpy as np
import pooch
import pytest
import torch

from gradsplinter import data, data_files

IMAGES, LABELS = data_files.IDX_FILES["train"]
GIVEN = os.environ.get(data.FOLDER_VARIABLE)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No data on this machine but what a test makes, and a cache of its own."""
    monkeypatch.delenv(data.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(data, "DEBIAN", {})
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)


def idx(values):
    return (
        bytes([0, 0, 8, values.ndim])
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.tobytes()
    )


def made(n, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    return images, random.integers(0, 10, n, dtype=np.uint8)


def write(folder, n, part="train", end=""):
    """IDX files of random images -> what they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = made(n, len(part))
    for name, values in zip(data_files.IDX_FILES[part], pair, strict=True):
        content = idx(values)
        (folder / f"{name}{end}").write_bytes(gzip.compress(content) if end == ".gz" else content)
    return pair


def check(found, images, labels):
    assert found.x.dtype == torch.float32
    assert found.x.equal(torch.from_numpy(images).flatten(1).float() / 255)
    assert found.y.tolist() == labels.tolist()
    assert found.image_shape == (28, 28)
    assert len(found.classes) == 10
    assert len(found) == len(labels)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("sub", ["", "mnist"])
def test_idx(tmp_path, monkeypatch, end, sub):
    pair = write(tmp_path / sub, 5, end=end)
    found = data.load("mnist", folder=tmp_path)
    check(found, *pair)
    assert found.source == str(tmp_path / sub)
    monkeypatch.setenv(data.FOLDER_VARIABLE, str(tmp_path))
    check(data.load("mnist"), *pair)


def test_dots_in_names(tmp_path):
    pair = write(tmp_path, 3)
    for name in data_files.IDX_FILES["train"]:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    check(data.load("fashion-mnist", folder=tmp_path), *pair)


def test_parts(tmp_path):
    train, test = write(tmp_path, 5), write(tmp_path, 3, "test", ".gz")
    check(data.load("mnist", "test", folder=tmp_path), *test)
    both = [np.concatenate(pair) for pair in zip(train, test, strict=True)]
    check(data.load("mnist", "all", folder=tmp_path), *both)


@pytest.mark.parametrize("flat", [False, True])
def test_npz(tmp_path, flat):
    images, labels = made(7)
    np.savez(
        tmp_path / "mnist.npz",
        x_train=images.reshape(7, -1) if flat else images, y_train=labels.astype(np.int64),
    )  # fmt: skip
    check(data.load("mnist", folder=tmp_path), images, labels)
    with pytest.raises(ValueError, match=r"mnist.npz must .* no array x_test"):
        data.load("mnist", "all", folder=tmp_path)


def damaged(folder, name, content):
    write(folder, 4)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", "begins with"),
        (IMAGES, idx(made(4)[1]), "3 dimensions, got one that begins with 00 00 08 01"),
        (IMAGES, idx(made(4)[0])[:-1], r"3,136 bytes after its header, as that says, got 3,135"),
        (IMAGES, idx(made(4)[0]) + b"0", "got more"),
        (IMAGES, idx(made(4)[0][:, :5]), r"images of \(28, 28\), got \(5, 28\)"),
        (IMAGES, bytes([0, 0, 8, 3]) + b"\xff" * 12, r"\(28, 28\), got \(4294967295"),
        (IMAGES, idx(made(4)[0])[:4] + struct.pack(">3I", 2**32 - 1, 28, 28), "got 0"),
        (IMAGES, idx(made(3)[0]), "label for each of 3 images"),
        (LABELS, idx(np.array([0, 1, 2, 10], np.uint8)), r"labels in 0..9, got 0..10"),
    ],
)
def test_damaged_idx(tmp_path, name, content, message):
    damaged(tmp_path, name, content)
    with pytest.raises(ValueError, match=message):
        data.load("mnist", folder=tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 200])
def test_damaged_gzip(tmp_path, keep):
    write(tmp_path, 4, end=".gz")
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=IMAGES):
        data.load("mnist", folder=tmp_path)
    path.write_bytes(b"not gzip at all")
    with pytest.raises(ValueError, match="must be a whole gzip file"):
        data.load("mnist", folder=tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": made(3)[0]}, "no array y_train"),
        ({"x_train": made(3)[0].astype(float), "y_train": made(3)[1]}, "uint8"),
        ({"x_train": made(3)[0][:, 1:], "y_train": made(3)[1]}, "uint8"),
        ({"x_train": made(3)[0], "y_train": made(2)[1]}, "label for each of 3 images"),
        ({"x_train": made(3)[0], "y_train": made(3)[1].astype(float)}, "integer label"),
        ({"x_train": made(3)[0], "y_train": np.array([0, -1, 2])}, "-1..2"),
        (
            {"x_train": made(3)[0], "y_train": np.array([None, 1, 2])},
            "y_train must hold numbers, got object",
        ),
    ],
)
def test_damaged_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.load("mnist", folder=tmp_path)


NPY = BytesIO()
np.save(NPY, np.zeros(3))
NPY = NPY.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"\x93NUMPY", NPY])
def test_npz_that_is_none(tmp_path, content):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"mnist.npz must be an archive"):
        data.load("mnist", folder=tmp_path)


def publish(monkeypatch, folder, mirrors=()):
    """As if these files were the published ones."""
    about = data.PUBLISHED["mnist"]
    archives, contents = {}, {}
    for name in data_files.IDX_FILES["train"]:
        packed = (folder / f"{name}.gz").read_bytes()
        archives[name] = hashlib.sha256(packed).hexdigest()
        contents[name] = hashlib.sha256(gzip.decompress(packed)).hexdigest()
    about = replace(about, archives=archives, contents=contents, mirrors=mirrors)
    monkeypatch.setitem(data.PUBLISHED, "mnist", about)


def test_debian(tmp_path, monkeypatch):
    pair = write(tmp_path, 4, end=".gz")
    monkeypatch.setattr(data, "DEBIAN", {"mnist": tmp_path})
    with pytest.raises(ValueError, match="must be the published file"):
        data.load("mnist")
    publish(monkeypatch, tmp_path)
    again = gzip.compress(gzip.decompress((tmp_path / f"{IMAGES}.gz").read_bytes()), 1)
    (tmp_path / f"{IMAGES}.gz").write_bytes(again)  # other bytes, the same content
    check(data.load("mnist"), *pair)


@pytest.fixture
def server(tmp_path):
    """A mirror on this machine: its address, and the paths that were asked for."""
    (tmp_path / "served").mkdir()
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = partial(Handler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/", asked
        served.shutdown()


def test_download(tmp_path, monkeypatch, server):
    address, asked = server
    pair = write(tmp_path / "served" / "second", 4, end=".gz")
    write(tmp_path / "served" / "wrong", 4, "test", ".gz")
    for file, test in zip(*(data_files.IDX_FILES[part] for part in ("train", "test")), strict=True):
        path = tmp_path / "served" / "wrong" / f"{test}.gz"
        path.rename(path.with_name(f"{file}.gz"))
    mirrors = tuple(f"{address}{name}/" for name in ("absent", "wrong", "second"))
    publish(monkeypatch, tmp_path / "served" / "second", mirrors)
    with pytest.raises(FileNotFoundError, match="Nothing was downloaded"):
        data.load("mnist", download=False)
    check(data.load("mnist"), *pair)
    asked.clear()
    check(data.load("mnist"), *pair)  # from the cache
    assert not asked
    publish(monkeypatch, tmp_path / "served" / "second", mirrors[:2])
    (tmp_path / "cache" / "gradsplinter" / "mnist" / f"{LABELS}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"absent.*404.*wrong.*hash"):
        data.load("mnist")


def test_no_pooch(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(
        FileNotFoundError,
        match=r"train-images.*extra `data` is missing .* pip install '\.\[data\]'",
    ):
        data.load("mnist")


@pytest.mark.parametrize(("name", "n"), [("digits", 1797), ("iris", 150)])
def test_scikit_learn(name, n):
    train, test, both = (data.load(name, part) for part in ("train", "test", "all"))
    assert len(both) == n
    assert both.x.equal(torch.cat([train.x, test.x]))
    assert both.y.equal(torch.cat([train.y, test.y]))
    n_classes = len(both.classes)
    whole, held_out = both.y.bincount(), test.y.bincount(minlength=n_classes)
    assert held_out.equal(whole // 5)
    if name == "digits":
        assert both.image_shape == (8, 8)
        assert both.x.min() == 0
        assert both.x.max() == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("cifar",),
            ValueError,
            "name must be one of mnist, fashion-mnist, digits, iris, got 'cifar'",
        ),
        (("mnist", "valid"), ValueError, "part must be train, test or all, got 'valid'"),
        ((None,), ValueError, "name must be one of"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        data.load(*arguments)


def test_bad_folder(tmp_path):
    with pytest.raises(ValueError, match="folder must not be given for iris"):
        data.load("iris", folder=tmp_path)
    with pytest.raises(TypeError, match="folder must be a path, got int"):
        data.load("mnist", folder=3)
    told = r"in a folder that the environment variable GRADSPLINTER_DATA names \(in Python also `folder`\): t10k-images"
    with pytest.raises(FileNotFoundError, match=told):
        data.load("mnist", "test", folder=tmp_path / "absent")
    with pytest.raises(TypeError, match="download must be True or False"):
        data.load("mnist", download=1)


@pytest.mark.parametrize(("name", "least"), [("mnist", 10_000), ("fashion-mnist", 70_000)])
def test_the_real_ones(monkeypatch, name, least):
    monkeypatch.undo()
    try:
        found = data.load(name, "all", download=False)
    except FileNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("not on this machine")
    assert len(found) >= least
    assert (found.y.bincount() > len(found) / 12).all()
    pictures = torch.stack([found.x[found.y == c].mean(0) for c in range(10)])
    nearest = torch.cdist(found.x[:2000], pictures).argmin(1)
    assert (nearest == found.y[:2000]).float().mean() > 0.65  # labels belong to their images
