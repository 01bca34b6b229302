"""Archives of images that say something false of themselves, and such as other tools write."""

import random
import struct
import zipfile

import numpy as np
import pytest

from gradsplinter import data

IMAGES = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
LABELS = np.array([3, 1, 2])


def npy(header, values=b"", version=(1, 0)):
    """The bytes of an array's file."""
    text = f"{header}\n".encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + values


def header(shape, dtype="|u1", by_columns=False):
    return {"descr": dtype, "fortran_order": by_columns, "shape": shape}


NO_HEADER = "x_train must begin with the header of a NumPy array$"
OF_IMAGES = npy(header((3, 28, 28)), IMAGES.tobytes())
OF_LABELS = npy(header((3,), "<i8"), LABELS.tobytes())


def write(folder, images, labels=OF_LABELS, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(folder / "mnist.npz", "w", how) as archive:
        archive.writestr("x_train.npy", images)
        archive.writestr("y_train.npy", labels)


def check(folder):
    found = data.load("mnist", folder=folder, download=False)
    np.testing.assert_array_equal((found.x.numpy().reshape(IMAGES.shape) * 255).round(), IMAGES)
    assert found.y.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    "how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_archives(tmp_path, how):
    write(tmp_path, OF_IMAGES, how=how)
    check(tmp_path)


def test_orders_and_dtypes(tmp_path):
    write(tmp_path, npy(header((3, 28, 28), by_columns=True), IMAGES.T.tobytes()))
    check(tmp_path)
    write(tmp_path, npy(header((3, 28, 28)), IMAGES.tobytes(), (2, 0)))
    check(tmp_path)
    write(tmp_path, OF_IMAGES, npy(header((3,), ">i2"), LABELS.astype(">i2").tobytes()))
    check(tmp_path)
    np.savez(tmp_path / "mnist.npz", x_train=np.asfortranarray(IMAGES), y_train=LABELS)
    check(tmp_path)
    write(tmp_path, npy(header((0, 28, 28))), npy(header((0,))))
    assert len(data.load("mnist", folder=tmp_path, download=False)) == 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (npy(header((10**12, 28, 28)), bytes(9)), "x_train must hold 784,000,000,000,000 bytes after its header, as that says, got 9$"),
        (npy(header((2**62, 28, 28)), bytes(9)), "x_train must hold .* got 9$"),
        (npy(header((1, 28, 28)), bytes(785)), "x_train must hold 784 bytes .* got more$"),
        (npy(header((-1, 28, 28)), bytes(784)), r"x_train must have sizes of 0 or more, got \[-1, 28, 28\]$"),
        (npy(header((1, 28, 28), "|O"), bytes(784)), "x_train must hold numbers, got object$"),
        (npy(header((1, 28, 28), "|V0"), bytes(784)), "x_train must hold numbers, got [|]V0$"),
        (npy(header((1, 28, 28)), bytes(784), (3, 0)), "x_train must be of NumPy's format 1.0 or 2.0, got [(]3, 0[)]$"),
        (npy(header(())), "x_train must hold 1 bytes"),
        (npy("{" * 500), NO_HEADER),
        (npy("x(" * 500), NO_HEADER),
        (npy(" " * 60_000), NO_HEADER),
        (b"\x93NUMPY", NO_HEADER),
        (b"", NO_HEADER),
    ],
)  # fmt: skip
def test_false_headers(tmp_path, images, message):
    write(tmp_path, images)
    with pytest.raises(
        ValueError, match=f"mnist.npz must be an archive of x_train.*{message}"
    ) as e:
        data.load("mnist", folder=tmp_path, download=False)
    assert "pickle" not in str(e.value)


@pytest.mark.parametrize("content", [b"junk", OF_IMAGES, b"\x80\x04N."])
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"mnist\.npz must be an archive of .* not a zip file$"):
        data.load("mnist", folder=tmp_path, download=False)


def test_more_than_memory(tmp_path, monkeypatch):
    write(tmp_path, OF_IMAGES)

    def read(*_):
        raise MemoryError

    monkeypatch.setattr(zipfile.ZipExtFile, "read", read)
    with pytest.raises(ValueError, match=r"mnist\.npz must fit into memory"):
        data.load("mnist", folder=tmp_path, download=False)


def test_damaged_at_random(tmp_path):
    """A changed byte is found, or does not matter."""
    write(tmp_path, OF_IMAGES, how=zipfile.ZIP_STORED)
    path, chance = tmp_path / "mnist.npz", random.Random(0)
    whole = path.read_bytes()
    ends = [*range(200), *range(len(whole) - 300, len(whole))]
    outcomes = set()
    for at in chance.choices(ends, k=300):
        path.write_bytes(whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :])
        try:
            check(tmp_path)
        except ValueError as error:
            outcomes.add(str(error).startswith(f"{path} must be an archive"))
    assert outcomes == {True}
