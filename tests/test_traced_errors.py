"""Modules, checkpoints and files that users meet and that do not work: refused in words that help, or right."""

import gzip
import pickle
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from networks import random_inputs, random_network
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from gradsplinter import ReluNetwork, TracedNetwork, cli, data, splinter

F64 = torch.float64


class Does(nn.Module):
    """A linear layer, and a function of it and of the input."""

    def __init__(self, function, **parts):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 4), function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def by_autograd(module, shape, x):
    """[N, D, h]"""
    jacobian = torch.func.jacrev(lambda one: module(one.reshape(1, *shape)).flatten())
    return torch.stack([jacobian(one) for one in x]).detach()


# --- modules that are used twice, which are supported -----------------------------------------------


def two_layers(layer, *between):
    return nn.Sequential(layer, *between, nn.ReLU(), layer, *between, nn.LeakyReLU(0.2))


class Optional(nn.Module):
    """Arguments that a call with one tensor leaves at their defaults."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, mask=None, negative=False, *, times=2):
        for _ in range(times):
            x = self.linear(x).relu() if not negative else -x
        return x if mask is None else x * mask


class OneNumber(nn.Module):
    """An example's result, and what comes before it, without an axis of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 1)

    def forward(self, x):
        return -F.leaky_relu(self.last(self.first(x).relu()).squeeze(1), 0.3)


SUPPORTED = {
    "a linear layer twice": (lambda: two_layers(nn.Linear(4, 4)), (4,)),
    "a normalisation twice": (lambda: two_layers(nn.Linear(4, 4), nn.BatchNorm1d(4)), (4,)),
    "a convolution and a pooling twice": (
        lambda: nn.Sequential(
            two_layers(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(4, 2)
        ),
        (1, 8, 8),
    ),
    "weights that are tied": (
        lambda: Does(lambda m, x: F.linear(m.linear(x).relu(), m.linear.weight.t())), (4,)
    ),
    "a network twice": (lambda: nn.Sequential(*[two_layers(nn.Linear(4, 4))] * 2), (4,)),
    "a spectral norm": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 3)), nn.LeakyReLU()), (4,)),
    "optional arguments": (Optional, (4,)),
    "one number an example": (OneNumber, (4,)),
    "casts to its own dtype": (lambda: Does(lambda m, x: m.linear(x.double()).relu().to(x.dtype).type_as(x)), (4,)),
}  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), SUPPORTED.values(), ids=SUPPORTED)
def test_supported(make, shape):
    torch.manual_seed(0)
    module = make().double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    net = TracedNetwork.from_module(module, shape)
    x = random_inputs(40, net.widths[0], dtype=F64)
    with torch.no_grad():
        expected = module(x.reshape(40, *shape)).reshape(40, -1)
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-13)
    s = splinter(net, x)
    assert s.n_modes > 1
    torch.testing.assert_close(
        s.jacobian()[s.ids], by_autograd(module, shape, x), rtol=1e-11, atol=1e-13
    )


def test_one_number_as_an_inner_site():
    torch.manual_seed(0)
    module = nn.Sequential(OneNumber(), nn.Unflatten(0, (-1, 1)), nn.Linear(1, 2)).double()
    net = TracedNetwork.from_module(module)
    assert net.widths == (4, 6, 1, 2)
    s = splinter(net, random_inputs(40, 4, dtype=F64), source=2)
    torch.testing.assert_close(s.jacobian(), -module[2].weight.detach().expand(s.n_modes, 2, 1))


def test_a_chain_with_a_layer_twice_is_a_relu_network():
    layer = nn.Linear(4, 4)
    assert ReluNetwork.from_module(nn.Sequential(layer, nn.ReLU(), layer)).widths == (4, 4, 4)


# --- modules that are refused -----------------------------------------------------------------------


def with_forward(module, function):
    module.forward = function
    return module


def with_hook(kind):
    module = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU())
    getattr(module[0], kind)(lambda *_: None)
    return module


def with_value(value):
    module = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU())
    module[0].weight.data[1, 2] = value
    return module


def with_buffer(buffer):
    module = Does(lambda m, x: m.linear(x) + m.extra)
    module.register_buffer("extra", buffer)
    return module


def counting(module, x):
    module.calls += 1
    return module.linear(x) * module.calls


def by_torch(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit grows old, which torch.compile still loads
        return make(nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU()))


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, *inputs):
        return self.linear(inputs[0])


CONTROL_FLOW = "^module must do the same with all data: its control flow cannot be recorded"
OTHER_RESULTS = "^module must not change tensors in place .* on chance or on the type of its input"
ALONE = "^module must give each example a result of its own"
CALL_EVAL = r"is in training mode; call \.eval\(\) on the network first"
NO_WEIGHTS = "has no weights yet; run the network once to initialise it"

REFUSED = {
    # in training mode
    "normalisation of images": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), (1, 5, 5), ValueError, f"^BatchNorm2d at '1' {CALL_EVAL}"),
    "one part that was forgotten": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4)).eval(), nn.Sequential(nn.BatchNorm1d(4))).train(True), (4,), ValueError, f"^BatchNorm1d at '1.0' {CALL_EVAL}"),
    "random slopes": (lambda: nn.Sequential(nn.Linear(4, 4), nn.RReLU()), (4,), ValueError, f"^RReLU at '1' {CALL_EVAL}"),
    "alpha dropout": (lambda: nn.Sequential(nn.Linear(4, 4), nn.AlphaDropout()), (4,), ValueError, f"^AlphaDropout at '1' {CALL_EVAL}"),
    "spectral norm": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4)), nn.LeakyReLU()), (4,), ValueError, f"^ParametrizedLinear at '0' {CALL_EVAL}"),
    "dropout as a function": (lambda: Does(lambda m, x: F.dropout(m.linear(x), 0.5, m.training)), (4,), NotImplementedError, r"^dropout must be called with training=False; where that is self\.training, call \.eval\(\)"),
    "normalisation as a function": (lambda: Does(lambda m, x: F.batch_norm(m.linear(x), m.norm.running_mean, m.norm.running_var, training=m.training), norm=nn.BatchNorm1d(4).eval()), (4,), NotImplementedError, "^batch_norm must be called with training=False"),
    # without weights
    "lazy convolution": (lambda: nn.Sequential(nn.LazyConv2d(2, 3), nn.ReLU()), (1, 8, 8), ValueError, f"^LazyConv2d at '0' {NO_WEIGHTS}"),
    "lazy normalisation": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LazyBatchNorm1d()).eval(), (4,), ValueError, f"^LazyBatchNorm1d at '1' {NO_WEIGHTS}"),
    "lazy part of a part": (lambda: Does(lambda m, x: m.head(m.linear(x)), head=nn.Sequential(nn.ReLU(), nn.LazyLinear(2))), (4,), ValueError, f"^LazyLinear at 'head.1' {NO_WEIGHTS}"),
    "parameter": (lambda: Does(lambda m, x: m.linear(x) + m.extra, extra=nn.parameter.UninitializedParameter()), (4,), ValueError, f"^Does {NO_WEIGHTS}"),
    "buffer": (lambda: with_buffer(nn.parameter.UninitializedBuffer()), (4,), ValueError, f"^Does {NO_WEIGHTS}"),
    "on meta": (lambda: nn.Sequential(nn.Linear(4, 4, device="meta"), nn.Tanh()), (4,), ValueError, "^Linear at '0' is on the device meta, without values; load its weights"),
    "NaN": (lambda: with_value(torch.nan), (4,), ValueError, r"^'weight' of Linear at '0' must be finite, got 1 value that is not \(the first at \[1, 2\]: nan\)"),
    "infinity": (lambda: with_value(-torch.inf), (4,), ValueError, r"^'weight' of Linear at '0' must be finite, .*: -inf\)"),
    "NaN in a buffer": (lambda: with_buffer(torch.tensor(torch.nan)), (4,), ValueError, "^module's results for random examples must be finite, got 256 values"),
    # code that recording does not see
    "forward of an instance": (lambda: nn.Sequential(with_forward(nn.Linear(4, 4), torch.exp), nn.LeakyReLU()), (4,), NotImplementedError, "^Linear at '0' has a forward function of its own, which may compute anything"),
    "forward of the network": (lambda: with_forward(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.exp), (4,), NotImplementedError, "^Sequential has a forward function of its own"),
    "backward hook": (lambda: with_hook("register_full_backward_hook"), (4,), NotImplementedError, "^Linear at '0' has backward hooks, which may change gradients"),
    "backward pre-hook": (lambda: with_hook("register_full_backward_pre_hook"), (4,), NotImplementedError, "^Linear at '0' has backward hooks"),
    "asks for the type": (lambda: Does(lambda m, x: m.linear(x) if isinstance(x, torch.Tensor) else x), (4,), NotImplementedError, OTHER_RESULTS),
    "random numbers": (lambda: Does(lambda m, x: m.linear(x) + torch.rand(4)), (4,), NotImplementedError, OTHER_RESULTS),
    "random numbers by shape": (lambda: Does(lambda m, x: m.linear(x) + torch.rand_like(x)), (4,), NotImplementedError, OTHER_RESULTS),
    "counts its calls": (lambda: Does(counting, calls=0), (4,), NotImplementedError, OTHER_RESULTS),
    "looks at a value": (lambda: Does(lambda m, x: m.linear(x) if float(x.sum()) > 0 else x), (4,), NotImplementedError, CONTROL_FLOW),
    "takes a value": (lambda: Does(lambda m, x: m.linear(x) * x.sum().item()), (4,), NotImplementedError, ALONE),
    "by NumPy": (lambda: Does(lambda m, x: m.linear(torch.from_numpy(x.numpy()))), (4,), NotImplementedError, CONTROL_FLOW),
    "chooses by where": (lambda: Does(lambda m, x: torch.where(m.linear(x) > 0, x, -x)), (4,), NotImplementedError, "^gt is not supported; between the sites 0 and"),
    "rounds": (lambda: Does(lambda m, x: torch.div(m.linear(x), 2, rounding_mode="floor")), (4,), NotImplementedError, "^div rounds, which is not supported"),
    "rounds by a method": (lambda: Does(lambda m, x: m.linear(x).div(2, rounding_mode="trunc")), (4,), NotImplementedError, "^div rounds"),
    "many arguments": (Several, (4,), NotImplementedError, r"^module must take one tensor, got 1 input \(\*inputs\)"),
    "no forward": (lambda: nn.ModuleList([nn.Linear(4, 4)]), (4,), NotImplementedError, CONTROL_FLOW),
    "scripted": (lambda: by_torch(torch.jit.script), (4,), NotImplementedError, "^RecursiveScriptModule cannot be recorded; give the network that torch.jit was given"),
    "scripted part": (lambda: nn.Sequential(by_torch(torch.jit.script), nn.Tanh()), (4,), NotImplementedError, "^RecursiveScriptModule at '0' cannot be recorded"),
    "traced by torch": (lambda: by_torch(lambda m: torch.jit.trace(m, torch.ones(1, 4))), (4,), NotImplementedError, "^TopLevelTracedModule cannot be recorded"),
    "compiled": (lambda: by_torch(torch.compile), (4,), NotImplementedError, r"^OptimizedModule cannot be recorded; give the network that torch.compile was given \(\._orig_mod\)"),
    "data parallel": (lambda: nn.DataParallel(nn.Sequential(nn.Linear(4, 4), nn.Tanh())), (4,), NotImplementedError, r"^DataParallel cannot be recorded; give the network in it \(\.module\)"),
    # shapes that are not known before
    "acts by the number of examples": (lambda: Does(lambda m, x: m.linear(x) if x.shape[0] > 10 else x), (4,), NotImplementedError, CONTROL_FLOW),
    "loops over examples": (lambda: Does(lambda m, x: torch.stack([m.linear(one) for one in x])), (4,), NotImplementedError, CONTROL_FLOW),
    "loops over features": (lambda: Does(lambda m, x: sum(m.linear(x) for _ in range(x.shape[1]))), (4,), NotImplementedError, CONTROL_FLOW),
    "divides by the number of examples": (lambda: Does(lambda m, x: m.linear(x) / x.shape[0]), (4,), NotImplementedError, ALONE),
    "multiplies by half of it": (lambda: Does(lambda m, x: m.linear(x) * (x.shape[0] // 2)), (4,), NotImplementedError, OTHER_RESULTS),
    "a token for each example": (lambda: Does(lambda m, x: torch.cat([m.linear.bias.expand(x.shape[0], -1), x], 1)), (4,), NotImplementedError, "^expand makes a tensor by the number of examples"),
    "leaves some examples out": (lambda: Does(lambda m, x: m.linear(x)[x[:, 0] > 0]), (4,), NotImplementedError, "^module must return a row for each example"),
    "two rows for each example": (lambda: Does(lambda m, x: m.linear(x).view(-1, 2)), (4,), NotImplementedError, r"^module must return a row for each example, got shape \[4, 2\] for two"),
    "one number for all": (lambda: Does(lambda m, x: m.linear(x).sum()), (4,), NotImplementedError, r"^module must return a row for each example, got shape \[\] for two"),
    "nothing": (lambda: Does(lambda m, x: m.linear(x)[:, :0]), (4,), NotImplementedError, r"^module must return a row for each example, got shape \[2, 0\] for two"),
    # dtypes
    "complex weights": (lambda: nn.Linear(4, 4, dtype=torch.complex128), (4,), TypeError, "^module must be float32 or float64 throughout, got torch.complex128 in 'weight'"),
    "complex buffer": (lambda: with_buffer(torch.zeros(1, dtype=torch.complex64)), (4,), TypeError, "got torch.complex64 in 'extra'"),
    "complex result": (lambda: Does(lambda m, x: m.linear(x).to(torch.complex64)), (4,), NotImplementedError, "^module must return torch.float32 as it takes, got torch.complex64"),
    "complex in between": (lambda: Does(lambda m, x: torch.fft.fft(m.linear(x)).real), (4,), NotImplementedError, "^fft_fft is not supported"),
    "half precision": (lambda: nn.Linear(4, 4).half(), (4,), TypeError, "got torch.float16 in 'weight'"),
    "other precision in between": (lambda: Does(lambda m, x: m.linear(x).to(torch.float16).relu().float()), (4,), NotImplementedError, "^to changes the dtype from torch.float32 to torch.float16"),
    "half precision of the result": (lambda: Does(lambda m, x: m.linear(x).half()), (4,), NotImplementedError, "^module must return torch.float32 as it takes, got torch.float16"),
    "classes": (lambda: Does(lambda m, x: m.linear(x).argmax(1)), (4,), NotImplementedError, "^module must return torch.float32 as it takes, got torch.int64"),
    "yes or no": (lambda: Does(lambda m, x: m.linear(x) > 0), (4,), NotImplementedError, "^module must return torch.float32 as it takes, got torch.bool"),
    "words": (lambda: nn.Sequential(nn.Embedding(4, 4), nn.LeakyReLU()), (4,), ValueError, r"^module must take examples of shape \[4\]: RuntimeError: .*indices"),
    # shapes of inputs
    "a number for a shape": (lambda: nn.Linear(4, 4), 4, TypeError, r"^input_shape must be the sizes of one example, as \(1, 28, 28\), got int"),
    "text for a shape": (lambda: nn.Linear(4, 4), "4", TypeError, r"^input_shape must be the sizes .* got str"),
    "half a pixel": (lambda: nn.Linear(4, 4), (3.5,), TypeError, r"^input_shape\[0\] must be an integer, got float"),
    "no pixel": (lambda: nn.Linear(4, 4), (1, 0), ValueError, r"^input_shape\[1\] must be at least 1, got 0"),
    "any number of pixels": (lambda: nn.Linear(4, 4), (-1,), ValueError, r"^input_shape\[0\] must be at least 1, got -1"),
    "too few channels": (lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), (1, 8, 8), ValueError, r"^module must take examples of shape \[1, 8, 8\]: RuntimeError"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(make, shape, error, message):
    torch.manual_seed(0)
    with pytest.raises(error, match=message):
        splinter(TracedNetwork.from_module(make(), shape), torch.randn(8, 4))


def test_images_of_another_size():
    """What a module could take, too, but not what was recorded."""
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 3), nn.LeakyReLU())
    net = TracedNetwork.from_module(module, (1, 6, 6))
    with pytest.raises(ValueError, match=r"^x must have shape \[N, 36\] .*, got \[5, 1, 8, 8\]"):
        splinter(net, torch.ones(5, 1, 8, 8))


@pytest.mark.parametrize("module", [nn.LeakyReLU, nn.Linear(4, 4).state_dict(), "model.pt", None])
def test_what_is_no_network(module):
    kind = type(module).__name__
    with pytest.raises(
        TypeError, match=f"^net must be a ReluNetwork, .* or an nn.Module, got {kind}"
    ):
        splinter(module, torch.ones(3, 4))


@pytest.mark.parametrize("net", [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU())])
def test_complex_data(net):
    x = torch.ones(3, 4, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"^x must be float32 like the network, got complex64$"):
        splinter(net, x)
    with pytest.raises(TypeError, match=r"^x must hold numbers of at most 64 bits"):
        splinter(net, x.numpy())


# --- images that are damaged in ways that tests/test_data.py does not have ---------------------------

IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(28 * 28)
PACKED = gzip.compress(IMAGES, mtime=0)  # for names of tests that do not change
PACKED_TWICE = gzip.compress(PACKED, mtime=0)
LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 1, 7])


@pytest.mark.parametrize(
    ("end", "images", "message"),
    [
        ("", PACKED, r"must be an IDX file of bytes .* begins with 1f 8b 08 00; it is gzipped, name it train-images-idx3-ubyte\.gz$"),
        ("", bytes([0, 0, 13]) + IMAGES[3:], "must be an IDX file of bytes .* begins with 00 00 0d 03$"),
        ("", IMAGES[3::-1] + IMAGES[4:], "must be an IDX file of bytes .* begins with 03 08 00 00$"),
        ("", b"version https://git-lfs.github.com/spec/v1\n", "begins with 76 65 72 73$"),
        (".gz", PACKED + b"more", "must be a whole gzip file"),
        (".gz", PACKED_TWICE, "begins with 1f 8b 08 00; it is gzipped"),
    ],
)  # fmt: skip
def test_damaged_images(end, images, message, tmp_path):
    (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(images)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(LABELS)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path)) + ".*" + message):
        data.load("mnist", folder=tmp_path)
    (tmp_path / f"train-images-idx3-ubyte{end}").unlink()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(IMAGES)
    assert data.load("mnist", folder=tmp_path).y.tolist() == [7]


# --- checkpoints ------------------------------------------------------------------------------------


class Dangerous:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


CHECKPOINTS = {
    "pickle": lambda value, path: path.write_bytes(pickle.dumps(value)),
    "old pickle": lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2)),
    "torch.save": torch.save,
    "old torch.save": lambda value, path: torch.save(
        value, path, _use_new_zipfile_serialization=False
    ),
}


@pytest.mark.parametrize("write", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoints_are_never_unpickled(write, tmp_path, monkeypatch, capsys):
    path, made = tmp_path / "model.pt", tmp_path / "made"
    write({"state": nn.Linear(2, 2).state_dict(), "extra": Dangerous(made)}, path)
    with pytest.raises(ValueError, match=r"^path must be a safetensors file") as raised:
        ReluNetwork.load(path)
    assert "These are never opened, since they can run any code. Convert it once: " in str(
        raised.value
    )
    assert "torch.load(path, weights_only=True)" in str(raised.value)
    out = tmp_path / "page.html"
    arguments = ["graph", str(path), str(tmp_path / "x.npy"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["gradsplinter", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    assert "weights_only=True" in capsys.readouterr().err
    assert not made.exists()
    pickle.loads(pickle.dumps(Dangerous(made)))  # the file would have been made
    assert made.exists()


def test_a_checkpoint_is_converted_as_the_message_says(tmp_path):
    module = random_network((3, 4, 2)).to_module()
    path = tmp_path / "model.pt"
    torch.save(module.state_dict(), path)
    other = random_network((3, 4, 2), seed=1).to_module()
    other.load_state_dict(torch.load(path, weights_only=True))
    ReluNetwork.from_module(other).save(tmp_path / "model.safetensors")
    found = ReluNetwork.load(tmp_path / "model.safetensors")
    assert found.fingerprint == ReluNetwork.from_module(module).fingerprint
