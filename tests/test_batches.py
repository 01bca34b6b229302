"""Data of every kind that `splinter` takes, and what is said about the rest."""

import re
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import random_inputs, random_network
from safetensors.torch import save_file
from torch.utils.data import DataLoader, TensorDataset

import gradsplinter.batches
from gradsplinter import extract, splinter
from gradsplinter.batches import batches, spans

NET = random_network((4, 30, 6, 3))
X = random_inputs(1000, 4)
EXPECTED = splinter(NET, X)


def files(folder):
    """X in three files, in the order of their names."""
    np.save(folder / "a.npy", X[:300].numpy())
    save_file({"x": X[300:301].contiguous()}, folder / "b.safetensors")
    np.save(folder / "c.npy", X[301:].numpy())
    (folder / "readme.txt").write_text("not data")
    return folder


def mapped(folder):
    np.save(folder / "x.npy", X.numpy())
    return np.load(folder / "x.npy", mmap_mode="r")


KINDS = {
    "tensor": lambda _: X,
    "tensor with strides": lambda _: X.repeat(1, 2)[:, ::2].copy_(X),
    "tensor that requires gradients": lambda _: X.clone().requires_grad_(),
    "array": lambda _: X.numpy(),
    "array in Fortran order": lambda _: np.asfortranarray(X.numpy()),
    "array of the other byte order": lambda _: X.numpy().astype(">f4"),
    "memory map": mapped,
    "folder": files,
    "file": lambda folder: mapped(folder).filename,
    "paths": lambda folder: sorted(files(folder).glob("*.*"))[:3],
    "tensors": lambda _: X.split(70),
    "arrays and an empty one": lambda _: [X[:7].numpy(), X[:0].numpy(), X[7:].numpy()],
    "generator": lambda _: (x for x in X.split(333)),
    "DataLoader of pairs": lambda _: DataLoader(TensorDataset(X, torch.arange(1000)), 64),
    "DataLoader of tensors": lambda _: DataLoader(X, 64),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [64, 2**20])
def test_every_kind_gives_the_same(kind, piece, tmp_path, monkeypatch):
    monkeypatch.setitem(gradsplinter.batches.MOST_ROWS, "cpu", piece)
    monkeypatch.setattr(gradsplinter.batches, "MOST_BYTES", 8 * 4 * piece)
    found = splinter(NET, KINDS[kind](tmp_path))
    for name in ("signatures", "counts", "first", "ids"):
        assert torch.equal(getattr(found, name), getattr(EXPECTED, name)), name
    assert found.n_examples == 1000


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_bounded_and_in_order(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(gradsplinter.batches.MOST_ROWS, "cpu", 100)
    monkeypatch.setattr(gradsplinter.batches, "MOST_BYTES", 8 * 4 * 90)
    pieces = list(batches(KINDS[kind](tmp_path), torch.float32))
    assert max(map(len, pieces)) <= 100
    assert torch.equal(torch.cat(pieces), X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("skip", [0, 1, 299, 300, 301, 999, 1000])
def test_skip(kind, skip, tmp_path):
    pieces = list(batches(KINDS[kind](tmp_path), torch.float32, skip=skip))
    assert torch.equal(torch.cat([X[:0], *pieces]), X[skip:])


@pytest.mark.parametrize("kind", KINDS)
def test_skip_more_than_there_are(kind, tmp_path):
    pieces = batches(KINDS[kind](tmp_path), torch.float32, skip=1001)
    message = "^x must hold at least the 1,001 examples that are to be left out, got 1,000$"
    with pytest.raises(ValueError, match=message):
        list(pieces)


@pytest.mark.parametrize("kind", KINDS)
def test_spans(kind, tmp_path):
    wanted = [(0, 1), (5, 6), (5, 6), (69, 71), (300, 301), (300, 302), (600, None)]
    found = list(spans(KINDS[kind](tmp_path), torch.float32, None, wanted))
    expected = [X[begin:end] for begin, end in wanted]
    assert torch.equal(torch.cat(found), torch.cat(expected))


def test_what_others_hold():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for frame in (pandas.DataFrame(X.numpy()), polars.DataFrame(X.numpy())):
        assert torch.equal(torch.cat(list(batches(frame, torch.float32, skip=3))), X[3:])


def test_what_else_lies_in_a_folder_is_left_out(tmp_path):
    files(tmp_path)
    (tmp_path / "a.npy").rename(tmp_path / "a.NPY")
    np.save(tmp_path / ".hidden.npy", X.numpy())
    (tmp_path / "d.npy").mkdir()
    assert torch.equal(torch.cat(list(batches(tmp_path, torch.float32))), X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("net_dtype", [torch.float32, torch.float64])
def test_half_precision_is_widened_exactly(dtype, net_dtype):
    net = random_network((4, 30, 6, 3), dtype=net_dtype)
    half = X.to(dtype)
    found = splinter(net, half)
    assert torch.equal(found.ids, splinter(net, half.to(net_dtype)).ids)
    assert torch.equal(next(batches(half, net_dtype)).to(dtype), half)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_integers_are_divided(dtype):
    images = (X.abs() * 50).to(dtype)
    (batch,) = batches(images, torch.float32, divisor=255)
    assert torch.equal(batch, images.float() / 255)  # as torchvision does
    (batch,) = batches(images.numpy(), torch.float64, divisor=1)
    assert torch.equal(batch, images.double())
    assert splinter(NET, images, divisor=255).n_examples == 1000


@pytest.mark.parametrize("divisor", [255, 255.0, Fraction(255), np.float32(255), np.uint8(255)])
def test_any_number_is_a_divisor(divisor):
    (batch,) = batches(torch.tensor([[51, 255]]), torch.float32, divisor=divisor)
    assert torch.equal(batch, torch.tensor([[51.0, 255.0]]) / 255)


def test_of_several_files_only_what_is_needed_is_read(tmp_path, monkeypatch):
    """A mapped file is read in pieces: far less of it than there is."""
    monkeypatch.setattr(gradsplinter.batches, "MOST_BYTES", 8 * 4 * 10)
    np.save(tmp_path / "x.npy", X.numpy())
    (tmp_path / "y.npy").write_bytes(b"damaged, and never reached")
    pieces = batches(tmp_path, torch.float32)
    assert torch.equal(next(pieces), X[:10])


BYTES = torch.zeros(5, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("x", "divisor", "error", "message"),
    [
        (None, None, TypeError, "x must be a tensor, an array, a path or an iterable of these, got NoneType"),
        ([X[:2], 3], None, TypeError, "x[1] must be a tensor, an array, a path or an iterable of these, got int"),
        ([(X, 1), (2, X)], None, TypeError, "x[1][0] must be a tensor, an array, a path or an iterable of these, got int"),
        (np.array([["a"] * 4]), None, TypeError, "x must hold numbers of at most 64 bits, got an array of <U1"),
        (np.array([[None] * 4]), None, TypeError, "x must hold numbers of at most 64 bits, got an array of object"),
        (BYTES, None, TypeError, "x must be float32 like the network, got uint8; for integers say what to divide them by, e.g. divisor=255 (--divisor 255)"),
        (X, 255, TypeError, "divisor must be None, since x is float32 and not integer"),
        (X.half(), 255, TypeError, "divisor must be None, since x is float16 and not integer"),
        (BYTES, 0, ValueError, "divisor must be a number from 1.18e-38 to 3.4e+38, as float32 has them, got 0"),
        (BYTES, 1e-40, ValueError, "divisor must be a number from 1.18e-38 to 3.4e+38, as float32 has them, got 1e-40"),
        (BYTES, 10**400, ValueError, f"divisor must be a number from 1.18e-38 to 3.4e+38, as float32 has them, got {10**400}"),
        (BYTES, 1e-37, ValueError, "divisor must be more than 7.49e-37, so that every uint8 stays finite as float32, got 1e-37"),
        (BYTES, float("nan"), ValueError, "divisor must be a number from 1.18e-38 to 3.4e+38, as float32 has them, got nan"),
        (np.ma.masked_array(X.numpy(), mask=X.numpy() < 0), None, TypeError, "x must be an array without a mask, got a masked array; fill it"),
        (BYTES, "255", TypeError, "divisor must be a number, got str"),
        (X.numpy().astype(np.longdouble), None, TypeError, "x must hold numbers of at most 64 bits, got an array of float128"),
        (BYTES.char() - 128, 3.75e-37, ValueError, "divisor must be more than 3.76e-37, so that every int8 stays finite as float32, got 3.75e-37"),
        ([{"x": X}], None, TypeError, "x[0] must be a tensor, an array, a path or an iterable of these, got dict"),
        (X.double(), None, TypeError, "x must be float32 like the network, got float64; x.float() converts it, or make the network of module.double()"),
        (X.to(torch.complex64), None, TypeError, "x must be float32 like the network, got complex64"),
        ([X, X[0]], None, ValueError, "x[1] must have 2 dimensions, got 1 (shape [4])"),
        ([X, X[:, :3]], None, ValueError, "x[1] must have shape [N, 4] to match the network's input, got [1000, 3]"),
        ([], None, ValueError, "x must hold at least one example, got none"),
        ("x.csv", None, ValueError, "x must be a .npy or .safetensors file, or a folder of them, got x.csv"),
    ],
)  # fmt: skip
def test_bad_data(x, divisor, error, message):
    with pytest.raises(error) as raised:
        splinter(NET, x, divisor=divisor)
    assert str(raised.value) == message


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: torch.nested.nested_tensor([X[0], X[1]]), "dense tensor, got a nested one"),
        (X.to_sparse, "dense tensor, got layout torch.sparse_coo"),
        (
            lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8),
            "tensor of numbers, got a quantized one",
        ),
    ],
)
def test_tensors_of_other_kinds(make, what):
    with pytest.raises(TypeError, match=f"^x must be a {what}$"):
        splinter(NET, make())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", b"no array", "x must be a .npy file of numbers, got "),
        ("x.npy", None, "x must be a .npy file of numbers, got "),
        ("x.npy", b"", "x must be a .npy file of numbers, got "),
        ("x.npy", b"\x93NUMPY\x01", "x must be a .npy file of numbers, got "),
        ("x.safetensors", b"no tensors", "x must be a safetensors file, got "),
        ("x.safetensors", None, "x must be a safetensors file, got "),
        ("x.txt", b"", "x must be a folder of .npy or .safetensors files, got "),
    ],
)
def test_bad_files(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="^" + re.escape(message + str(tmp_path))):
        splinter(NET, tmp_path if name == "x.txt" else path)


def test_an_archive_under_another_name(tmp_path):
    np.savez(tmp_path / "x.npz", x=X.numpy())
    path = (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=r"^x must be a .npy file .*x.npy, which holds a NpzFile$"):
        splinter(NET, path)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@given(st.data())
def test_any_damage_of_a_file_is_an_error_or_data(suffix, data):
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        if suffix == ".npy":
            np.save(path, X[:5].numpy())
        else:
            save_file({"x": X[:5]}, path)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, min(len(content), 140)))  # in the header, mostly
            del content[at : at + data.draw(st.integers(0, 3))]
            content[at:at] = data.draw(st.binary(max_size=3))
        path.write_bytes(content)
        message = "x must"
        try:
            splinter(NET, path)
        except (TypeError, ValueError) as error:
            message = str(error)
    assert re.match(r"x (in .*)?must", message)


def test_the_file_with_a_fault_is_named(tmp_path):
    files(tmp_path)
    np.save(tmp_path / "d.npy", X.numpy().astype(np.float64))
    message = (
        r"^x in .*/d.npy must be float32 like the network, got float64; convert it to float32, or make "
        r"the network of module\.double\(\)$"
    )
    with pytest.raises(TypeError, match=message):
        splinter(NET, tmp_path)
    np.save(tmp_path / "d.npy", X[:, :3].numpy())
    for run in (splinter, partial(extract, path=tmp_path / "out", progress=False)):
        with pytest.raises(
            ValueError, match=r"^x in .*/d.npy must have shape \[N, 4\] to match the "
        ):
            run(NET, tmp_path)
    np.save(tmp_path / "d.npy", X[0].numpy())
    with pytest.raises(ValueError, match=r"^x in .*/d.npy must have 2 dimensions, got 1 "):
        splinter(NET, tmp_path)


def test_a_file_of_several_tensors(tmp_path):
    save_file({"x": X, "y": X.clone()}, tmp_path / "x.safetensors")
    with pytest.raises(
        ValueError, match=r"^x must be a safetensors file of one tensor, got .* with 2$"
    ):
        splinter(NET, tmp_path / "x.safetensors")


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[object()] * 4]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"^x must be a .npy file of numbers, got "):
        splinter(NET, tmp_path / "x.npy")


def test_the_piece_with_a_fault_is_named(monkeypatch):
    monkeypatch.setitem(gradsplinter.batches.MOST_ROWS, "cpu", 100)
    x = X.clone()
    x[345, 1] = torch.nan
    with pytest.raises(ValueError, match=r"the first at \[45, 1\]: nan") as raised:
        splinter(NET, x)
    assert raised.value.__notes__ == ["(in a piece of x that begins at example 300)"]


def test_images_are_flattened(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", images)
    for x in (images, torch.from_numpy(images), tmp_path / "a.npy", [images]):
        (found,) = batches(x, torch.float32, 1)
        assert found.tolist() == images.reshape(2, 12).tolist()
