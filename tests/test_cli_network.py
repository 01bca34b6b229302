"""Networks of the user's own on the command line: `--module`, the weights, and what is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from networks import random_inputs
from safetensors.torch import save_file
from torch import nn

from gradsplinter import Store, TracedNetwork, cli, splinter

NETS = '''
import torch
from torch import nn

def conv():
    """In training mode, as it comes."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(),
        nn.Flatten(), nn.Linear(8, 3),
    )

def chain():
    return nn.Sequential(nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 2))

class Nets:
    @staticmethod
    def softmax():
        return nn.Sequential(nn.Linear(36, 2), nn.Softmax(1))

def number():
    return 5

def fails():
    return 1 / 0

def needs(width):
    return nn.Linear(width, 1)
'''


def run(monkeypatch, *line):
    monkeypatch.setattr(sys, "argv", ["gradsplinter", *map(str, line)])
    cli.main()


@pytest.fixture
def module():
    """With weights and statistics that are not those that `conv` makes."""
    torch.manual_seed(1)
    made = nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout()),
        *(nn.Flatten(), nn.Linear(8, 3)),
    )
    made[1].running_mean.normal_()
    return made.eval()


@pytest.fixture
def here(tmp_path, monkeypatch, module):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    (tmp_path / "nets.py").write_text(NETS)
    save_file(module.state_dict(), "net.safetensors")
    np.save("rows.npy", random_inputs(60, 36).numpy())
    np.save("images.npy", random_inputs(60, 36).reshape(60, 1, 6, 6).numpy())
    yield tmp_path
    assert str(tmp_path) not in sys.path


X = random_inputs(60, 36)


@pytest.mark.usefixtures("here")
def test_extract_and_info(module, monkeypatch, capsys):
    net = TracedNetwork.from_module(module, (1, 6, 6))
    expected = splinter(net, X)
    named = ["--module", "nets:conv"]
    run(monkeypatch, "extract", "net.safetensors", "images.npy", "-o", "a", *named)
    said = capsys.readouterr().out
    assert "TracedNetwork(36-32-8-3, float32)" in said
    assert f"orthogonality     {expected.orthogonality():.4f}" in said
    run(
        monkeypatch, "extract", "net.safetensors", "rows.npy", "-o", "a", *named, "--shape", "1x6x6"
    )
    found = Store("a", net).table()
    assert torch.equal(found.modes().signatures, expected.signatures)
    assert torch.equal(found.splinters().jacobian(), expected.jacobian())
    capsys.readouterr()
    run(monkeypatch, "merge", "a", "-o", "b")
    run(monkeypatch, "info", "b")
    said = capsys.readouterr().out
    assert "the network is not kept with its table" in said
    assert "for its scores: --model FILE --module PACKAGE.FILE:FUNCTION" in said
    assert "orthogonality" not in said
    run(monkeypatch, "info", "b", "--model", "net.safetensors", *named, "--shape", "1x6x6")
    assert f"orthogonality     {expected.orthogonality():.4f}" in capsys.readouterr().out


def test_graph(here, monkeypatch, capsys):
    line = ["graph", "net.safetensors", "images.npy", "-o", "g.html", "--module", "nets:conv"]
    run(monkeypatch, *line, "--image", "6x6", "--export", "g.json")
    said = capsys.readouterr().out
    assert "Components of TracedNetwork(36-32-8-3, float32), 60 examples" in said
    assert "TracedNetwork(36-32-8-3, float32)" in (here / "g.html").read_text()
    assert json.loads((here / "g.json").read_text())["nodes"]


def test_a_chain_is_a_relu_network(here, monkeypatch, capsys):
    save_file(
        nn.Sequential(nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 2)).state_dict(), "c.safetensors"
    )
    run(monkeypatch, "extract", "c.safetensors", "rows.npy", "-o", "c", "--module", "nets:chain")
    assert "ReluNetwork(36-5-2, float32)" in capsys.readouterr().out
    assert (here / "c" / "network.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nets", "error: --module must be PACKAGE.FILE:FUNCTION as in nets.small:lenet, got nets"),
        ("nets.py:conv", "error: --module must name a function without arguments, got nets.py:conv, which raised ModuleNotFoundError: "),
        ("none:conv", "error: --module must name a function without arguments, got none:conv, which raised ModuleNotFoundError: No module named 'none'"),
        ("nets:none", "got nets:none, which raised AttributeError: module 'nets' has no attribute 'none'"),
        ("nets:fails", "got nets:fails, which raised ZeroDivisionError: division by zero"),
        ("nets:needs", "got nets:needs, which raised TypeError: needs() missing 1 required"),
        ("nets:number", "error: --module must name a function that returns an nn.Module, got nets:number, which returned int"),
        ("nets:chain", "error: MODEL must hold the weights of --module, got net.safetensors, which has no '2.weight'; has no '2.bias'; "),
    ],
)  # fmt: skip
def test_modules_that_are_refused(here, name, message, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "extract", "net.safetensors", "images.npy", "-o", "x", "--module", name)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (here / "x").exists()


def without(tensors):
    del tensors["6.bias"]


def renamed(tensors):
    tensors["head.bias"] = tensors["6.bias"].clone()


def reshaped(tensors):
    tensors["6.weight"] = tensors["6.weight"][:, :4].contiguous()


def doubled(tensors):
    tensors["6.weight"] = tensors["6.weight"].double()


def none(tensors):
    tensors.clear()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without, "which has no '6.bias'"),
        (renamed, "which has 'head.bias', which is none of the module's"),
        (reshaped, "which has '6.weight' as float32 [3, 4] instead of float32 [3, 8]"),
        (doubled, "which has '6.weight' as float64 [3, 8] instead of float32 [3, 8]"),
        (none, "which has no '0.weight'; has no '0.bias'; has no '1.weight'; and 5 more"),
    ],
)
def test_weights_that_are_refused(here, module, change, message, monkeypatch, capsys):
    tensors = dict(module.state_dict())
    change(tensors)
    save_file(tensors, "changed.safetensors")
    with pytest.raises(SystemExit):
        run(monkeypatch, "graph", "changed.safetensors", "images.npy", "-o", "x.html",
            "--module", "nets:conv")  # fmt: skip
    said = capsys.readouterr().err
    expected = (
        f"error: MODEL must hold the weights of --module, got changed.safetensors, {message}\n"
    )
    assert said == expected
    assert not (here / "x.html").exists()


def test_batches_need_not_be_counted(here, module, monkeypatch):
    """Old files do not say how many batches a normalisation has seen."""
    tensors = module.state_dict()
    del tensors["1.num_batches_tracked"]
    save_file(tensors, "old.safetensors")
    for name in ("net", "old"):
        run(monkeypatch, "extract", f"{name}.safetensors", "images.npy", "-o", name,
            "--module", "nets:conv")  # fmt: skip
    found, expected = (Store(here / name).table().modes() for name in ("old", "net"))
    assert torch.equal(found.signatures, expected.signatures)


class Dangerous:
    def __reduce__(self):
        return (print, ("it ran",))


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
@pytest.mark.parametrize(
    ("named", "advice"),
    [
        ([], "weights_only=True"),
        (["--module", "nets:conv"], "save_file(module.state_dict(), new_path)"),
    ],
)
def test_pickles_are_never_opened(here, named, advice, name, monkeypatch, capsys):
    torch.save({"0.weight": Dangerous()}, name)
    with pytest.raises(SystemExit):
        run(monkeypatch, "extract", name, "images.npy", "-o", "x", *named)
    printed = capsys.readouterr()
    assert printed.err.startswith("error: MODEL must be a ")
    assert f"got {name}, a file of torch.save or a pickle. These are never opened" in printed.err
    assert advice in printed.err
    assert "it ran" not in printed.out
    assert not (here / "x").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("net.safetensors images.npy", "error: MODEL must be a network that ReluNetwork.save wrote: path must be a file written by "),
        ("net.safetensors images.npy --shape 1x6x6", "error: --shape must be given together with --module, got it alone"),
        ("net.safetensors rows.npy --module nets:conv", "error: --shape must be given, since the module does not begin with a linear layer"),
        ("net.safetensors rows.npy --module nets:conv --shape 1x6", "error: --module must take examples of shape [1, 6]: "),
        ("net.safetensors rows.npy --module nets:conv --shape 0x6", "error: --shape must be sizes joined by x as in 1x28x28, got 0x6"),
        ("net.safetensors rows.npy --module nets:conv --shape 1x8x8", "error: --module must take examples of shape [1, 8, 8]: "),
        ("soft.safetensors rows.npy --module nets:Nets.softmax", "error: Softmax at '1' is not piecewise linear"),
        ("none.safetensors rows.npy --module nets:conv", "error: MODEL must be a .safetensors file of weights, got none.safetensors: "),
        ("net.safetensors none.npy --module nets:conv", "error: DATA must be a .npy file of numbers, got none.npy"),
    ],
)  # fmt: skip
def test_bad_lines(here, line, message, monkeypatch, capsys):
    save_file(nn.Linear(36, 2).state_dict(prefix="0."), "soft.safetensors")
    with pytest.raises(SystemExit):
        run(monkeypatch, "extract", *line.split(), "-o", "x")
    assert capsys.readouterr().err.startswith(message)
    assert not (here / "x").exists()


@pytest.mark.usefixtures("here")
def test_another_network_of_a_table_is_named(monkeypatch, capsys):
    named = ["--module", "nets:conv"]
    run(monkeypatch, "extract", "net.safetensors", "images.npy", "-o", "a", *named)
    torch.manual_seed(2)
    other = {"0.weight": torch.ones(5, 36), "0.bias": torch.ones(5),
             "2.weight": torch.ones(2, 5), "2.bias": torch.ones(2)}  # fmt: skip
    save_file(other, "other.safetensors")
    with pytest.raises(SystemExit):
        run(monkeypatch, "info", "a", "--model", "other.safetensors", "--module", "nets:chain")
    assert capsys.readouterr().err.startswith(
        "error: --model must be the network of a, of widths [36, "
    )
    with pytest.raises(SystemExit):
        run(monkeypatch, "info", "a", *named)
    assert (
        capsys.readouterr().err == "error: --model must be given together with --module, got none\n"
    )
