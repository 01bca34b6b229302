"""Relevance: by hand, connection by connection, against Captum and Zennit; what ties it to gradients."""

import importlib
import os
import sys
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from networks import random_inputs, random_network
from torch import nn

from gradsplinter import ReluNetwork, SplinterTable, TracedNetwork, splinter
from gradsplinter.relevance import gradient_times_input, lrp_alpha_beta, lrp_epsilon

F64 = torch.float64
WIDTHS = (7, 12, 9, 3)


def unbiased(net):
    return ReluNetwork(net.weights, [torch.zeros_like(b) for b in net.biases])


NET = random_network(WIDTHS, dtype=F64)
X = random_inputs(40, 7, dtype=F64)


def peer(name):
    """A module that is compared with where it is installed; in CI it has to be."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI"):
            raise
        return pytest.skip(f"{name} is not installed")


@pytest.fixture
def zennit(monkeypatch):
    """Of torchvision it takes two classes when it is imported; PyPI's does not run with torch for CPUs."""
    resnet = ModuleType("torchvision.models.resnet")
    resnet.BasicBlock = resnet.Bottleneck = nn.Identity
    for stand_in in (ModuleType("torchvision"), ModuleType("torchvision.models"), resnet):
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return peer("zennit")


@pytest.fixture
def captum():
    return peer("captum.attr")


def by_autograd(net, x):
    """Gradient × input without splinters, [N, D, h]."""
    module = net.to_module()
    return torch.stack([torch.func.jacrev(module)(one) for one in x]).detach() * x.unsqueeze(1)


def connection_by_connection(net, x, message):
    """One output of one example after the other, in plain Python: Σ_j message(i, j) · R_j."""
    found = torch.zeros(len(x), net.widths[-1], net.widths[0], dtype=F64)
    for n, one in enumerate(x):
        values = [one.tolist()]
        for weight, bias in zip(net.weights, net.biases, strict=True):
            z = (torch.tensor(values[-1], dtype=F64) @ weight.T + bias).tolist()
            values.append([max(value, 0.0) for value in z])
        for output in range(net.widths[-1]):
            relevance = [value if d == output else 0.0 for d, value in enumerate(z)]
            for layer in reversed(range(net.depth)):
                weight, bias = net.weights[layer].tolist(), net.biases[layer].tolist()
                products = [
                    [a * w for a, w in zip(values[layer], row, strict=True)] for row in weight
                ]
                relevance = [
                    sum(message(products[j], bias[j], i) * r for j, r in enumerate(relevance) if r)
                    for i in range(len(values[layer]))
                ]
            found[n, output] = torch.tensor(relevance, dtype=F64)
    return found


def epsilon_message(epsilon):
    def message(products, bias, i):
        z = sum(products) + bias
        return products[i] / (z + (epsilon if z >= 0 else -epsilon))

    return message


def alpha_beta_message(alpha, beta):
    def message(products, bias, i):
        up = sum(max(p, 0) for p in products) + max(bias, 0)
        down = sum(min(p, 0) for p in products) + min(bias, 0)
        found = alpha * max(products[i], 0) / up if up else 0
        return found - (beta * min(products[i], 0) / down if down else 0)

    return message


def test_epsilon_connection_by_connection():
    for epsilon in (0.0, 0.3):
        expected = connection_by_connection(NET, X[:8], epsilon_message(epsilon))
        found = lrp_epsilon(NET, X[:8], epsilon)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (2.0, 1.0), (1.5, 0.5)])
def test_alpha_beta_connection_by_connection(alpha, beta):
    expected = connection_by_connection(NET, X[:8], alpha_beta_message(alpha, beta))
    found = lrp_alpha_beta(NET, X[:8], alpha, beta)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("net", [NET, unbiased(NET)], ids=["biases", "no biases"])
def test_lrp_without_epsilon_is_gradient_times_input(net):
    """Whether there are biases or not, as long as z holds its own."""
    expected = by_autograd(net, X)
    torch.testing.assert_close(lrp_epsilon(net, X), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradient_times_input(splinter(net, X), X), expected, rtol=1e-12, atol=1e-12
    )


def test_what_biases_add_is_in_no_inputs_relevance():
    x = random_inputs(200, 7, dtype=F64)
    kept = lrp_epsilon(unbiased(NET), x).sum(dim=2)
    torch.testing.assert_close(kept, unbiased(NET)(x), rtol=1e-11, atol=1e-12)
    # y is affine in the mode: y(x) = G x + b, so at t x with small t it changes by G x as long as the mode stays.
    s = splinter(NET, x)
    inside = x * (1 - 1e-4)
    stays = splinter(NET, torch.cat([x, inside])).ids.view(2, -1)
    same = stays[0] == stays[1]
    assert same.sum() > 150
    change = (NET(x) - NET(inside)) / 1e-4
    found = gradient_times_input(s, x).sum(dim=2)
    torch.testing.assert_close(found[same], change[same], rtol=1e-8, atol=1e-9)
    assert (NET(x) - found).abs().mean() > 0.1  # the share of the biases


def test_in_one_mode_lrp_without_epsilon_is_linear():
    """With the splinter as its matrix; with ε it is not, nor by the αβ rule."""
    x = X[:1] * (1 + 1e-3 * random_inputs(30, 7, dtype=F64))
    s = splinter(NET, x)
    assert s.n_modes == 1
    matrix = s.jacobian()[0]
    torch.testing.assert_close(lrp_epsilon(NET, x), matrix * x.unsqueeze(1), rtol=1e-11, atol=1e-12)
    weights = torch.softmax(random_inputs(1, 30, dtype=F64), dim=1)
    for rule, linear in (
        (lrp_epsilon, True),
        (lambda net, x: lrp_epsilon(net, x, 0.1), False),
        (lrp_alpha_beta, False),
    ):
        mixed = rule(NET, weights @ x)[0]
        mean = torch.einsum("n,ndh->dh", weights[0], rule(NET, x))
        assert (float((mixed - mean).abs().max()) < 1e-12) is linear


def test_the_error_is_of_first_order_in_epsilon():
    exact = by_autograd(NET, X)
    errors = [
        float((lrp_epsilon(NET, X, epsilon) - exact).norm()) for epsilon in (1e-6, 1e-7, 1e-8)
    ]
    for larger, smaller in pairwise(errors):
        assert larger / smaller == pytest.approx(10, rel=0.01)


def test_epsilon_lowers_the_slopes_of_units():
    """z / (z + ε) for those that are on, abs(y) / (abs(y) + ε) for the output."""
    epsilon, a, product = 0.7, X, torch.eye(7, dtype=F64).expand(40, 7, 7)
    for layer, (weight, bias) in enumerate(zip(NET.weights, NET.biases, strict=True)):
        z = a @ weight.T + bias
        slopes = z.abs() / (z.abs() + epsilon)
        if layer < NET.depth - 1:
            slopes = slopes * (z > 0)
        product, a = slopes.unsqueeze(2) * (weight @ product), z.clamp_min(0)
    torch.testing.assert_close(lrp_epsilon(NET, X, epsilon), product * X.unsqueeze(1))


def test_alpha_beta_is_no_gradient_times_input():
    exact = by_autograd(unbiased(NET), X)
    for alpha in (1.0, 2.0):
        found = lrp_alpha_beta(unbiased(NET), X, alpha, alpha - 1)
        assert (found - exact).norm() > 0.3 * exact.norm()


def test_relevance_of_an_inner_site():
    """Two layers of a network are a network: its relevance for the activations that it starts from."""
    s = splinter(NET, X, source=1)
    a = (X @ NET.weights[0].T + NET.biases[0]).clamp_min(0)
    upper = ReluNetwork(NET.weights[1:], NET.biases[1:])
    torch.testing.assert_close(
        gradient_times_input(s, a), lrp_epsilon(upper, a), rtol=1e-11, atol=1e-12
    )


def test_an_output_of_zero_has_no_relevance():
    net = ReluNetwork([torch.tensor([[1.0, -1.0]])], [torch.zeros(1)])
    assert lrp_epsilon(net, torch.tensor([[2.0, 2.0]])).tolist() == [[[0, 0]]]
    dead = ReluNetwork([-torch.ones(2, 2), torch.ones(1, 2)], [torch.zeros(2), torch.ones(1)])
    x = torch.tensor([[2.0, 2.0]])
    for found in (lrp_epsilon(dead, x), lrp_epsilon(dead, x, 0.1), lrp_alpha_beta(dead, x)):
        assert found.tolist() == [[[0, 0]]]


def test_any_number_of_examples():
    for found in (lrp_epsilon(NET, X[:0]), lrp_alpha_beta(NET, X[:0])):
        assert found.shape == (0, 3, 7)
    torch.testing.assert_close(lrp_epsilon(NET, X)[:1], lrp_epsilon(NET, X[:1]))
    module = NET.to_module()
    assert torch.equal(lrp_epsilon(module, X), lrp_epsilon(NET, X))
    found = lrp_alpha_beta(module.float(), X.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), lrp_alpha_beta(NET, X), rtol=1e-3, atol=1e-3)


def by_zennit(zennit, module, x, layers):
    """Relevance of each output, [N, D, ...]; `layers` is the rule by kind of layer."""
    found = []
    composite = zennit.composites.LayerMapComposite(layers)
    with zennit.attribution.Gradient(module, composite) as attributor:
        for output in torch.eye(module(x).shape[1], dtype=x.dtype):
            found.append(attributor(x.clone().requires_grad_(), lambda y, only=output: y * only)[1])
    return torch.stack(found, dim=1)


def by_captum(captum, module, x, rule):
    found = []
    for output in range(module(x).shape[1]):
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.Conv2d | nn.MaxPool2d | nn.Flatten):
                part.rule = rule()
        relevance = captum.LRP(module).attribute(x.clone().requires_grad_(), target=output)
        found.append(relevance.detach())
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("epsilon", [1e-9, 0.25])
def test_epsilon_of_others(epsilon, zennit, captum):
    expected = lrp_epsilon(NET, X, epsilon)
    rule = zennit.rules.Epsilon(epsilon)
    found = by_zennit(zennit, NET.to_module(), X, [(nn.Linear, rule)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    rules = peer("captum.attr._utils.lrp_rules")
    found = by_captum(captum, NET.to_module(), X, lambda: rules.EpsilonRule(epsilon))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (2.0, 1.0)])
def test_alpha_beta_of_zennit(alpha, beta, zennit):
    rule = zennit.rules.AlphaBeta(alpha, beta, stabilizer=1e-14)
    found = by_zennit(zennit, NET.to_module(), X, [(nn.Linear, rule)])
    torch.testing.assert_close(found, lrp_alpha_beta(NET, X, alpha, beta), rtol=1e-9, atol=1e-11)


def test_alpha_beta_of_captum(captum, monkeypatch):
    """Its rule leaves out weights below 0 and keeps biases and inputs as they are: here none is below 0."""
    rules = peer("captum.attr._utils.lrp_rules")
    monkeypatch.setattr(rules.Alpha1_Beta0_Rule, "STABILITY_FACTOR", 1e-15)
    net, x = unbiased(NET), X.abs()
    found = by_captum(captum, net.to_module(), x, rules.Alpha1_Beta0_Rule)
    expected = lrp_alpha_beta(net, x, 1.0, 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_convolutions_and_pooling(zennit, captum):
    """LRP of others with ε → 0 is gradient × input of our splinters."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(16, 3),
    ).double().eval()  # fmt: skip
    x = torch.randn(10, 1, 8, 8, dtype=F64)
    net = TracedNetwork.from_module(module, (1, 8, 8))
    expected = gradient_times_input(splinter(net, x.flatten(1)), x.flatten(1))
    layers = (zennit.types.Convolution, zennit.types.Linear)
    found = by_zennit(zennit, module, x, [(layers, zennit.rules.Epsilon(1e-12))])
    torch.testing.assert_close(found.flatten(2), expected, rtol=1e-7, atol=1e-9)
    rules = peer("captum.attr._utils.lrp_rules")
    found = by_captum(captum, module, x, lambda: rules.EpsilonRule(1e-12))
    torch.testing.assert_close(found.flatten(2), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lrp_epsilon(NET, X, -0.1), ValueError, "^epsilon must be at least 0 and finite, got -0.1"),
        (lambda: lrp_epsilon(NET, X, float("nan")), ValueError, "^epsilon must be at least 0"),
        (lambda: lrp_epsilon(NET, X, "1"), TypeError, "^epsilon must be a number, got str"),
        (lambda: lrp_epsilon(NET, X.float()), TypeError, "^x must be float64 like the network"),
        (lambda: lrp_epsilon(NET, X[:, 1:]), ValueError, r"^x must have shape \[N, 7\]"),
        (lambda: lrp_epsilon(nn.Sequential(nn.Conv2d(1, 1, 1)), X), NotImplementedError, "^Conv2d at '0'"),
        (lambda: lrp_epsilon(TracedNetwork.from_module(nn.Linear(7, 2)), X), NotImplementedError, "^net must be a ReluNetwork or .*, got TracedNetwork"),
        (lambda: lrp_alpha_beta(NET, X, 2.0, 0.5), ValueError, r"^alpha must be beta \+ 1, got alpha 2.0 and beta 0.5"),
        (lambda: lrp_alpha_beta(NET, X, 0.5, -0.5), ValueError, "^beta must be at least 0"),
        (lambda: gradient_times_input(splinter(NET, X, ids=False), X), ValueError, "^splinters must have the mode of each"),
        (lambda: gradient_times_input(splinter(NET, X), X[1:]), ValueError, r"^x must have shape \[40, 7\], that of the examples, got \[39, 7\]"),
        (lambda: gradient_times_input(splinter(NET, X), X.float()), TypeError, "^x must be float64 like the network"),
        (lambda: gradient_times_input(splinter(NET, X, source=1), X), ValueError, r"^x must have shape \[40, 12\]"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_of_a_table_that_merged():
    table = SplinterTable(NET, ids=True)
    for part in X.split(7):
        table.update(part)
    found = gradient_times_input(table.splinters(), X)
    torch.testing.assert_close(found, lrp_epsilon(NET, X), rtol=1e-12, atol=1e-12)
