"""Modules at the border of what can be recorded: right, or refused in words that help."""

import copy

import pytest
import torch
from networks import random_inputs
from torch import nn
from torch.nn import functional as F

from gradsplinter import SlopeLevels, TracedNetwork, splinter, units

F64 = torch.float64


class Does(nn.Module):
    """A function of the input, and of layers."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


def check(module, shape, n=40):
    """Results and gradients are the module's."""
    module = module.double().eval()
    net = TracedNetwork.from_module(module, shape)
    x = random_inputs(n, net.widths[0], dtype=F64)
    torch.testing.assert_close(net(x), module(x.reshape(n, *shape).clone()).reshape(n, -1))
    s = splinter(net, x)
    expected = torch.stack([
        torch.autograd.functional.jacobian(
            lambda z: module(z.reshape(1, *shape).clone()).flatten(), one
        )
        for one in x
    ])  # fmt: skip
    torch.testing.assert_close(s.jacobian()[s.ids], expected, rtol=1e-11, atol=1e-13)


# --- examples in another axis than the first ---------------------------------------------------------

FIRST = (
    "is not supported where examples are not its first axis; between the sites 0 and 2 all must be"
)


@pytest.mark.parametrize(
    ("module", "shape", "where"),
    [
        (Does(lambda x, l: F.relu(l(x.permute(1, 0, 2))).permute(1, 0, 2), nn.Linear(3, 5)), (4, 3), "relu"),
        (Does(lambda x, l: l(F.leaky_relu(x.t()).t()), nn.Linear(4, 3)), (4,), "leaky_relu"),
        (Does(lambda x, l: l(F.relu(torch.stack([x, -x])).sum(0)), nn.Linear(4, 2)), (4,), "relu"),
        (Does(lambda x, r: r(x.t()).t(), nn.ReLU()), (4,), "ReLU at 'layers.0'"),
        (Does(lambda x, l: torch.maximum(x.t(), l(x).t()).t(), nn.Linear(4, 4)), (4,), "maximum"),
        (Does(lambda x, l: l(F.relu(x.view(-1, 2))).view(-1, 6), nn.Linear(2, 3)), (4,), "relu"),
    ],
)  # fmt: skip
def test_examples_in_another_axis(module, shape, where):
    net = TracedNetwork.from_module(module, shape)
    x = torch.randn(5, net.widths[0])
    torch.testing.assert_close(net(x), module(x.reshape(5, *shape)).reshape(5, -1))
    with pytest.raises(NotImplementedError, match=f"^{where} {FIRST}"):
        splinter(net, x)


def test_only_linear_operations_in_another_axis():
    check(Does(lambda x, l: l(x.permute(1, 0, 2)).permute(1, 0, 2).relu(), nn.Linear(3, 5)), (4, 3))


# --- changes in place, and other shapes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3)), (5,)),
        (nn.Sequential(nn.Flatten(), nn.LeakyReLU(0.2, inplace=True), nn.Linear(12, 3)), (3, 4)),
        (Does(lambda x, l: F.relu(l(x.view(-1, 2)).view(-1, 6)), nn.Linear(2, 3)), (4,)),
        (Does(lambda x, l: l(x.mul_(2)).relu(), nn.Linear(4, 3)), (4,)),
    ],
)
def test_what_changes_or_views_its_input(module, shape):
    check(module, shape)


@pytest.mark.parametrize("module", [nn.SiLU(inplace=True), nn.Threshold(0.1, 0.5, inplace=True)])
def test_refused_operations_that_change_the_input(module):
    module = nn.Sequential(module, nn.Linear(4, 6), nn.LeakyReLU(), nn.Linear(6, 2)).double()
    net = TracedNetwork.from_module(module, (4,))
    x = random_inputs(20, 4, dtype=F64)
    torch.testing.assert_close(net(x), module(x.clone()))
    assert splinter(net, x, source=1).n_modes > 1


@pytest.mark.parametrize("kind", [nn.SiLU, nn.ELU, nn.Mish, nn.SELU, nn.CELU, nn.Hardswish])
@pytest.mark.parametrize("quantiles", [True, False])
def test_smooth_activations_in_place(kind, quantiles):
    torch.manual_seed(0)
    first, last = nn.Linear(4, 6).double(), nn.Linear(6, 2).double()
    calibration, x = (random_inputs(50, 4, dtype=F64, seed=seed) for seed in (1, 2))
    found = []
    for inplace in (False, True):
        modules = [
            nn.Sequential(first, kind(inplace=inplace), last),
            nn.Sequential(kind(inplace=inplace), first),
            Does(lambda x, l, a: F.leaky_relu(a(l(x))), first, kind(inplace=inplace)),
        ]
        for module in modules:
            net = TracedNetwork.from_module(
                module, levels=SlopeLevels(2, quantiles), calibration=calibration
            )
            torch.testing.assert_close(net(x), module(x.clone()))
            s = splinter(net, x)
            found.append((s.ids, s.jacobian()))
    for ours, theirs in zip(found[:3], found[3:], strict=True):
        assert ours[0].equal(theirs[0])
        torch.testing.assert_close(ours[1], theirs[1])
    assert calibration.equal(random_inputs(50, 4, dtype=F64, seed=1))


def test_smooth_functions_in_place():
    module = Does(
        lambda x, l: F.silu(l(x), inplace=True) + F.elu(l(-x), inplace=True), nn.Linear(4, 4)
    ).double()
    x = random_inputs(50, 4, dtype=F64)
    net = TracedNetwork.from_module(module, levels=SlopeLevels(2), calibration=x)
    torch.testing.assert_close(net(x), module(x))
    assert splinter(net, x).n_modes > 1


# --- training mode -----------------------------------------------------------------------------------


class DoublesInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        h = F.leaky_relu(self.linear(x))
        return h * 2 if self.training else h


@pytest.mark.parametrize(
    ("module", "where"),
    [
        (DoublesInTraining(), "DoublesInTraining"),
        (nn.Sequential(DoublesInTraining()), "Sequential"),
        (
            nn.Sequential(DoublesInTraining()).eval().append(DoublesInTraining()),
            "DoublesInTraining at '1'",
        ),
    ],
)
@pytest.mark.parametrize(
    "levels", [{}, {"levels": SlopeLevels(1), "calibration": torch.ones(2, 3)}]
)
def test_what_does_otherwise_in_training(module, where, levels):
    module = copy.deepcopy(module)
    message = (
        r"is in training mode, where it does something else; call \.eval\(\) on the network first$"
    )
    with pytest.raises(ValueError, match=f"^{where} {message}"):
        TracedNetwork.from_module(module, **levels)
    x = torch.randn(5, 3)
    net = TracedNetwork.from_module(module.eval(), **levels)
    torch.testing.assert_close(net(x), module(x))


def test_training_mode_that_changes_nothing():
    module = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(), nn.Dropout(0.0))
    x = torch.randn(5, 3)
    torch.testing.assert_close(TracedNetwork.from_module(module)(x), module(x))
    assert module.training


# --- clamps, and patterns that do not say what is computed -------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x, l: l(torch.clamp(x, 1.0, -1.0)),
        lambda x, l: l(x.clamp(min=1.0, max=-1.0)),
        lambda x, l: l(torch.clamp(x, torch.tensor([0.0, 1.0]), torch.tensor([1.0, -1.0]))),
    ],
)
def test_clamp_without_a_range(function):
    message = r"^clamp must have a minimum <= its maximum, got .*1.* and .*-1"
    with pytest.raises(ValueError, match=message):
        TracedNetwork.from_module(Does(function, nn.Linear(2, 2)), (2,))


def test_clamp_to_a_point_and_by_tensors():
    check(Does(lambda x, l: l(torch.clamp(x, 0.5, 0.5)) + l(x).relu(), nn.Linear(3, 2)), (3,))
    low, high = torch.tensor([-0.5, 0.1], dtype=F64), torch.tensor([0.5, 0.1], dtype=F64)
    check(Does(lambda x, l: l(torch.clamp(x, low, high)), nn.Linear(2, 2)), (2,))


def test_a_pattern_that_does_not_say_what_is_computed(monkeypatch):
    monkeypatch.setattr(
        units, "relu", lambda: units.Pointwise([0.0], [0.5, 1.0], [0.0, 0.0], F.relu)
    )
    module = nn.Sequential(
        nn.Linear(4, 3), nn.LeakyReLU(), nn.Sequential(nn.ReLU()), nn.Linear(3, 2)
    )
    message = "^ReLU at '2.0' gives other results than its pattern says"
    with pytest.raises(NotImplementedError, match=message):
        TracedNetwork.from_module(module)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, l: l(
            torch.where(F.leaky_relu(x).log() > 0, 1.0, 0.0) + x
        ).relu(),  # NaN in between
        lambda x, l: l(F.leaky_relu(F.leaky_relu(x.half())).to(x.dtype)),
        lambda x, l: l((F.leaky_relu(x) > 0).to(x.dtype)),
    ],
)
def test_sites_that_hold_other_things(function):
    module = Does(function, nn.Linear(4, 3))
    x = torch.randn(20, 4)
    torch.testing.assert_close(TracedNetwork.from_module(module, (4,))(x), module(x))


# --- what is refused is called what it is -------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "layers", "where"),
    [
        (lambda x: x.amax(1, keepdim=True), (), "amax"),
        (lambda x: x.max(1, keepdim=True).values, (), "max"),
        (lambda x: torch.where(x > 0, x, 2 * x), (), "gt"),
        (lambda x: x.clamp_min(0.1), (), "clamp_min"),
        (lambda x: torch.fft.fft(x).real, (), "fft_fft"),
        (lambda x: x.sort(1).values, (), "sort"),
        (lambda x, l: l(x), (nn.Threshold(0.1, 0.5),), "Threshold at 'layers.0'"),
        (lambda x, l: l(x), (nn.Softshrink(),), "Softshrink at 'layers.0'"),
        (lambda x, l: l(x[:, None]), (nn.Upsample(scale_factor=2),), "Upsample at 'layers.0'"),
        (lambda x, l: l(x[:, None]), (nn.AdaptiveMaxPool1d(1),), "AdaptiveMaxPool1d at 'layers.0'"),
        (lambda x, l: l(x[:, None, None]), (nn.Unfold((1, 2)),), "Unfold at 'layers.0'"),
    ],
)
def test_piecewise_linear_but_not_supported(function, layers, where):
    check_refused(Does(function, *layers), f"^{where} is not supported; between the sites 0 and")


@pytest.mark.parametrize(
    ("function", "layers", "where"),
    [
        (lambda x: x.softmax(1), (), "softmax"),
        (torch.exp, (), "exp"),
        (lambda x: x**2, (), "pow"),
        (lambda x: x.exp_(), (), "exp_"),
        (lambda x: 1 / (x * x + 1), (), "mul"),
        (lambda x: F.layer_norm(x, (4,)), (), "layer_norm"),
        (lambda x, l: l(x), (nn.LayerNorm(4),), "LayerNorm at 'layers.0'"),
        (lambda x, l: l(x), (nn.GroupNorm(2, 4),), "GroupNorm at 'layers.0'"),
        (lambda x, l: l(x[:, None])[0], (nn.GRU(4, 3, batch_first=True),), "GRU at 'layers.0'"),
        (lambda x: 1 / (x.abs() + 1), (), "truediv"),
    ],
)
def test_not_piecewise_linear(function, layers, where):
    why = "multiplies data with data" if where == "mul" else "is not piecewise linear"
    check_refused(Does(function, *layers), f"^{where} {why}; between the sites 0 and")


def check_refused(module, message):
    net = TracedNetwork.from_module(module.eval(), (4,))
    with pytest.raises(NotImplementedError, match=message):
        splinter(net, torch.randn(8, 4))


def test_random_slopes_in_eval_mode():
    check(nn.Sequential(nn.Linear(4, 5), nn.RReLU(0.1, 0.4), nn.Linear(5, 2)), (4,))
    check(Does(lambda x, l: F.rrelu(l(x), 0.1, 0.2), nn.Linear(4, 3)), (4,))
