"""ReluNetwork in files, and its fingerprint."""

import hashlib
import pickle
import struct

import pytest
import torch
from networks import random_network, same_bits
from safetensors.torch import save_file

from gradsplinter import ReluNetwork


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", [(3, 2), (3, 65, 7, 2)])
def test_file_round_trip(tmp_path, dtype, widths):
    net = random_network(widths, dtype=dtype)
    for path in (tmp_path / "net.safetensors", str(tmp_path / "again.safetensors")):
        net.save(path)
        loaded = ReluNetwork.load(path)
        assert loaded.widths == net.widths
        assert loaded.fingerprint == net.fingerprint
        for got, want in zip(loaded.weights + loaded.biases, net.weights + net.biases, strict=True):
            assert same_bits(got, want)


METADATA = {"gradsplinter.ReluNetwork": "schema 1"}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "path must be a safetensors file, got "),
        (lambda path: path.write_bytes(b"x" * 100), "path must be a safetensors file, got "),
        (lambda path: path.write_bytes(pickle.dumps([1])), "path must be a safetensors file, got "),
        (lambda path: torch.save({"a": torch.ones(1)}, path), "path must be a safetensors file"),
        (
            lambda path: save_file({"a": torch.ones(1)}, path),
            "path must be a file written by ReluNetwork.save (schema 1), got ",
        ),
        (
            lambda path: save_file({"a": torch.ones(1)}, path, METADATA | {"schema": "2"}),
            "path must be a file written by ReluNetwork.save (schema 1), got ",
        ),
        (
            lambda path: save_file({"weight.1": torch.ones(1, 1)}, path, METADATA),
            "path must hold weight.1, bias.1, weight.2, ... and nothing else, got ['weight.1'] in ",
        ),
        (
            lambda path: save_file(
                {"weight.1": torch.ones(1, 1), "bias.1": torch.ones(1), "b": torch.ones(1)},
                path,
                METADATA,
            ),
            "path must hold weight.1, bias.1, weight.2, ... and nothing else, "
            "got ['b', 'bias.1', 'weight.1'] in ",
        ),
    ],
)
def test_wrong_files(tmp_path, write, message):
    path = tmp_path / "net.safetensors"
    write(path)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (compared below)
        ReluNetwork.load(path)
    assert str(raised.value).startswith(message)
    assert str(path) in str(raised.value)


def test_truncated_and_damaged_files(tmp_path):
    path = tmp_path / "net.safetensors"
    random_network((3, 4, 2)).save(path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:40], b"\xff" * 8 + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="path must be a safetensors file, got "):
            ReluNetwork.load(path)
    bad = bytearray(whole)
    bad[-4:] = torch.tensor([torch.nan]).numpy().tobytes()
    path.write_bytes(bad)
    with pytest.raises(ValueError, match="must be finite, got 1 value that is not"):
        ReluNetwork.load(path)


def test_files_that_are_not_there_or_cannot_be_written(tmp_path):
    net, missing = random_network((3, 2)), tmp_path / "missing" / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="missing"):
        ReluNetwork.load(missing)
    with pytest.raises(OSError, match="Is a directory"):
        ReluNetwork.load(tmp_path)
    for path in (missing, tmp_path):
        with pytest.raises(
            OSError, match="path must be a file that can be written, got "
        ) as raised:
            net.save(path)
        assert str(path) in str(raised.value)


def test_fingerprint_tells_networks_apart():
    net = random_network((3, 4, 2))
    weights, biases = list(net.weights), list(net.biases)
    different = [
        random_network((3, 4, 2), seed=1),
        random_network((3, 4, 2), dtype=torch.float64),
        ReluNetwork(weights, [biases[0], torch.nextafter(biases[1], torch.tensor(torch.inf))]),
        # The same numbers in the same order, in other shapes.
        ReluNetwork([weights[0].view(3, 4)], [torch.zeros(3)]),
        ReluNetwork([weights[0].view(2, 6)], [torch.zeros(2)]),
    ]
    assert ReluNetwork(weights, biases).fingerprint == net.fingerprint
    assert len({net.fingerprint, *(other.fingerprint for other in different)}) == 6
    # Files on disk refer to it, so it may not change silently.
    ones = ReluNetwork([torch.ones(1, 2)], [torch.zeros(1)])
    content = b"(2, 1)torch.float32" + struct.pack("<3f", 1, 1, 0)
    assert ones.fingerprint == hashlib.sha256(content).hexdigest()
