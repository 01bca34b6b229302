"""ReluNetwork from modules and from tensors."""

import copy

import pytest
import torch
from networks import random_inputs, random_network, same_bits
from torch import nn

from gradsplinter import ReluNetwork


def linear(n, m, **options):
    generator = torch.Generator().manual_seed(n * 10 + m)
    layer = nn.utils.skip_init(nn.Linear, n, m, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.5 * values)
    return layer


def shared_relu():
    relu = nn.ReLU()
    return nn.Sequential(linear(4, 5), relu, linear(5, 6), relu, linear(6, 2))


MODULES = {
    "plain": lambda: nn.Sequential(linear(4, 5), nn.ReLU(), linear(5, 2)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(linear(4, 5), nn.ReLU()), nn.Sequential(nn.Sequential(linear(5, 2)))
    ),
    "one ReLU used twice": shared_relu,
    "dropout in eval mode": lambda: nn.Sequential(
        linear(4, 5), nn.ReLU(), nn.Dropout(0.5), linear(5, 2)
    ).eval(),
    "dropout of nothing": lambda: nn.Sequential(
        linear(4, 5), nn.ReLU(), nn.Dropout(0), linear(5, 2)
    ),
    "identity": lambda: nn.Sequential(
        nn.Identity(), linear(4, 5), nn.Identity(), nn.ReLU(), linear(5, 2)
    ),
    "no bias": lambda: nn.Sequential(linear(4, 5, bias=False), nn.ReLU(), linear(5, 2, bias=False)),
    "linear alone": lambda: linear(4, 2),
    "two linear": lambda: nn.Sequential(linear(4, 5), linear(5, 2)),
    "three linear": lambda: nn.Sequential(linear(4, 5), linear(5, 3), nn.Identity(), linear(3, 2)),
    "leading ReLU": lambda: nn.Sequential(nn.ReLU(), linear(4, 5), nn.ReLU(), linear(5, 2)),
    "trailing ReLU": lambda: nn.Sequential(linear(4, 5), nn.ReLU(), linear(5, 2), nn.ReLU()),
    "two ReLU": lambda: nn.Sequential(linear(4, 5), nn.ReLU(), nn.ReLU(inplace=True), linear(5, 2)),
    "ReLU around a linear": lambda: nn.Sequential(nn.ReLU(), linear(4, 2), nn.ReLU()),
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(linear(4, 5)), nn.ReLU(), linear(5, 2)
    ).eval(),
    "a lazy layer that has run": lambda: _run(
        nn.Sequential(nn.LazyLinear(5), nn.ReLU(), linear(5, 2))
    ),
}


def _run(module):
    torch.manual_seed(0)
    module(torch.ones(1, 4))
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("build", MODULES.values(), ids=MODULES.keys())
def test_computes_what_the_module_computes(build, dtype):
    module = build().to(dtype)
    x = random_inputs(200, 4, dtype=dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-15  # values near 1, sums of at most 6
    net = ReluNetwork.from_module(module)
    assert net.dtype == dtype
    expected = module(x.clone()).detach()
    assert torch.allclose(net(x), expected, rtol=20 * tolerance, atol=20 * tolerance)
    again = net.to_module()
    assert torch.allclose(again(x), expected, rtol=20 * tolerance, atol=20 * tolerance)
    assert ReluNetwork.from_module(again).fingerprint == net.fingerprint


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("plain", (4, 5, 2)),
        ("one ReLU used twice", (4, 5, 6, 2)),
        ("two linear", (4, 2)),
        ("three linear", (4, 2)),
        ("leading ReLU", (4, 4, 5, 2)),
        ("trailing ReLU", (4, 5, 2, 2)),
        ("two ReLU", (4, 5, 2)),
        ("ReLU around a linear", (4, 4, 2, 2)),
    ],
)
def test_widths(name, widths):
    net = ReluNetwork.from_module(MODULES[name]())
    assert net.widths == widths
    assert net.depth == len(widths) - 1
    assert repr(net) == f"ReluNetwork({'-'.join(map(str, widths))}, float32)"


def test_two_linear_layers_are_multiplied_in_float64():
    """By hand: (1 + e)(1 - e) + (-1)(1) = -e², which float32 sums would lose (e = 2^-20)."""
    e = 2.0**-20
    first, second = linear(1, 2), linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1 - e], [1.0]]))
        first.bias.copy_(torch.tensor([3.0, 5.0]))
        second.weight.copy_(torch.tensor([[1 + e, -1.0]]))
        second.bias.copy_(torch.tensor([7.0]))
    net = ReluNetwork.from_module(nn.Sequential(first, second))
    assert net.weights[0].item() == -(2.0**-40)
    assert net.biases[0].item() == 3 * (1 + e) - 5 + 7


def test_the_module_and_the_generator_are_left_alone():
    module = MODULES["dropout in eval mode"]()
    module.train()
    module[2].eval()
    before, modes = copy.deepcopy(module.state_dict()), [m.training for m in module.modules()]
    state = torch.get_rng_state()
    ReluNetwork.from_module(module).to_module()
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in module.modules()] == modes
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


def test_weights_are_a_snapshot():
    module = MODULES["plain"]()
    net = ReluNetwork.from_module(module)
    mine = [torch.ones(2, 3)], [torch.zeros(2)]
    other = ReluNetwork(*mine)
    fingerprints = net.fingerprint, other.fingerprint
    x = random_inputs(10, 4)
    before = net(x)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    mine[0][0].add_(1)
    assert same_bits(net(x), before)
    assert ReluNetwork(net.weights, net.biases).fingerprint == fingerprints[0]
    assert ReluNetwork(other.weights, other.biases).fingerprint == fingerprints[1]
    assert not any(tensor.requires_grad for tensor in (*net.weights, *net.biases))


def test_float64_is_the_same_network_made_once():
    net = ReluNetwork([torch.tensor([[0.1, -2.0]])], [torch.tensor([0.3])])
    assert net.float64 is net.float64
    assert net.float64.dtype == torch.float64
    assert net.float64.weights[0].equal(net.weights[0].double())  # 0.1 as float32 has it
    assert net.float64.biases[0].equal(net.biases[0].double())
    assert net.float64.float64 is net.float64


def test_weights_of_any_layout():
    base = random_inputs(6, 8)
    negative = torch.randn(4, 6, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    net = ReluNetwork([base[:, ::2], negative[:, :]], [base[:, 1], base[0, :4]])
    plain = ReluNetwork([base[:, ::2].clone().contiguous(), negative.resolve_neg()], net.biases)
    assert net.fingerprint == plain.fingerprint
    x = random_inputs(20, 4)
    assert same_bits(net(x), plain(x))


class Doubled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(linear(4, 2))

    def forward(self, x):
        return self.layers(x)


def hooked(register):
    module = nn.Sequential(linear(4, 5), nn.ReLU())
    getattr(module[0], register)(lambda *_: None)
    return module


def patched():
    module = nn.Sequential(linear(4, 5), nn.ReLU())
    module[0].forward = lambda x: x
    return module


LISTED = "nn.Sequential (nested or not) of nn.Linear and nn.ReLU, with nn.Dropout and nn.Identity"
HOOKS = f"Linear at '0' has forward hooks, which may change what it computes; supported: {LISTED}"
FORWARD = (
    "Linear at '0' has a forward function of its own, which may compute anything; "
    f"supported: {LISTED}"
)
SUPPORTED = (
    " is not supported; supported: nn.Sequential (nested or not) of nn.Linear and nn.ReLU, "
    "with nn.Dropout and nn.Identity. "
    "ReluNetwork(weights, biases) takes the layers of any other network"
)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(linear(4, 5), nn.GELU()), "GELU at '1'" + SUPPORTED),
        (lambda: nn.Sequential(linear(4, 5), nn.ReLU6()), "ReLU6 at '1'" + SUPPORTED),
        (
            lambda: nn.Sequential(nn.Sequential(linear(4, 5), nn.Conv2d(1, 1, 1))),
            "Conv2d at '0.1'" + SUPPORTED,
        ),
        (lambda: Doubled(linear(4, 5)), "Doubled" + SUPPORTED),
        (lambda: nn.Sequential(Doubled(linear(4, 5))), "Doubled at '0'" + SUPPORTED),
        (Chain, "Chain" + SUPPORTED),
        (lambda: nn.LSTM(4, 5), "LSTM" + SUPPORTED),
        (
            lambda: hooked("register_forward_hook"),
            HOOKS,
        ),
        (
            lambda: hooked("register_forward_pre_hook"),
            HOOKS,
        ),
        (
            patched,
            FORWARD,
        ),
    ],
)
def test_unsupported_modules_are_named_with_their_path(build, message):
    with pytest.raises(NotImplementedError) as raised:
        ReluNetwork.from_module(build())
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nn.Sequential(linear(4, 5), nn.Sequential(nn.Dropout(0.1))),
            "Dropout at '1.0' is in training mode; call .eval() on the network first",
        ),
        (
            lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(linear(4, 5))),
            "ParametrizedLinear at '0' is in training mode; call .eval() on the network first",
        ),
        (
            lambda: nn.Sequential(nn.LazyLinear(3)),
            "LazyLinear at '0' has no weights yet; run the network once to initialise it",
        ),
        (lambda: nn.Sequential(nn.ReLU()), "module must hold at least one nn.Linear, got none"),
        (nn.Sequential, "module must hold at least one nn.Linear, got none"),
        (
            lambda: nn.Sequential(linear(4, 5), nn.ReLU(), linear(6, 2)),
            "weights: layer 2 must have shape [*, 5] to follow layer 1, got [2, 6]",
        ),
        (
            lambda: nn.Sequential(linear(4, 5), linear(6, 2)),
            "weights: layer 2 must have shape [*, 5] to follow layer 1, got [2, 6]",
        ),
    ],
)
def test_modules_that_cannot_be_read_as_they_are(build, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (compared below)
        ReluNetwork.from_module(build())
    assert str(raised.value) == message


def test_frozen():
    with pytest.raises(AttributeError):
        random_network((3, 2)).weights = ()
