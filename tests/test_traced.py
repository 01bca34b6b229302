"""Any piecewise-linear module: every kind of layer against autograd in float64; what is refused."""

import pytest
import torch
from networks import random_inputs
from torch import nn
from torch.nn import functional as F

from gradsplinter import (
    ReluNetwork,
    SplinterTable,
    TracedNetwork,
    backward,
    computation_graph,
    neuron_communities,
    ops,
    pattern_sites,
    splinter,
    unpack_bits,
    view,
)
from gradsplinter.operations import SlopeLevels
from gradsplinter.page import graph_page
from gradsplinter.plot.graph import layers
from gradsplinter.transposes import linear
from gradsplinter.units import Smooth

F64 = torch.float64


class Block(nn.Module):
    """Of a residual network."""

    def __init__(self, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(2 * channels)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, 1, 1, groups=2, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * channels)
        self.short = nn.Conv2d(channels, 2 * channels, 1, stride)
        self.relu = nn.ReLU(inplace=True)  # used twice

    def forward(self, x):
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        y += self.short(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())
        self.block1 = Block(2)
        self.block2 = Block(4, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.block2(self.block1(self.stem(x)))
        x = F.adaptive_avg_pool2d(x, 1)
        return self.head(x.view(x.size(0), -1))


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 5, padding=2)
        self.conv2 = nn.Conv2d(3, 4, 3)
        self.fc1 = nn.Linear(16, 10)
        self.fc2 = nn.Linear(10, 3)
        self.dropout = nn.Dropout()

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(self.conv2(x), kernel_size=2, stride=2).relu()
        x = self.dropout(torch.flatten(x, 1))
        return self.fc2(F.dropout(torch.relu(self.fc1(x)), 0.5, self.training))


class Skips(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(19, 3)

    def forward(self, x):
        h = torch.relu(self.a(x))
        g = h - 0.5 * F.relu(self.b(h))
        return self.c(torch.cat([x, h, g], dim=1))


class TransformerBlock(nn.Module):
    """Attention is not piecewise linear; what comes after it is."""

    def __init__(self, width=6):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x):
        x = x + self.norm(self.attention(x, x, x, need_weights=False)[0])
        return self.mlp(x)


class Mlp(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


class Pieces(nn.Module):
    """Two and three pieces, in functions."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 8)
        self.slopes = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        x = F.prelu(self.a(x), self.slopes)
        x = F.relu6(4 * self.b(x)) - F.hardtanh(x, -0.2, 0.3)
        x = x.abs() / 2 + torch.clamp(x, min=-0.1) + x.clamp(max=0.2) - abs(x - 1)
        a, b = x.chunk(2, dim=1)
        return torch.maximum(a, b) + torch.min(a, 2 * b) @ self.b.weight[:4, :4].t()


class Signal(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, stride=2, groups=2, dilation=2)
        self.pool = nn.MaxPool1d(3, 2, padding=1, ceil_mode=True)
        self.mean = nn.AvgPool1d(2)
        self.head = nn.LazyLinear(2)

    def forward(self, x):
        return self.head(self.mean(self.pool(F.leaky_relu(self.conv(x), 0.2))).flatten(1))


class Shapes(nn.Module):
    """What is broadcast, a part that nobody uses, and examples that are rows of a larger batch for a while."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(4, 5), nn.Linear(5, 3)
        self.low = nn.Parameter(torch.linspace(-1, 1, 5))

    def forward(self, x):
        a, b, _ = self.a(x).reshape(x.shape[0], 3, 4).unbind(1)
        a = self.b(torch.stack([a, b], dim=1).reshape(-1, 4)).reshape(-1, 2, 5).relu()
        a = torch.maximum(a, b[:, None, :1])
        return self.c(torch.clamp(a.sum(dim=2, keepdim=True), self.low) + a)


def wide(module):
    """A pooling that overlaps, with padding and dilation."""
    return nn.Sequential(nn.Conv2d(1, 2, 3), module, nn.Flatten(), nn.LazyLinear(2))


ARCHITECTURES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), (4,)),
    "lenet": (LeNet, (1, 12, 12)),
    "resnet": (ResNet, (1, 8, 8)),
    "skips": (Skips, (5,)),
    "transformer's mlp": (Mlp, (3, 6)),
    "pieces": (Pieces, (5,)),
    "signal": (Signal, (2, 25)),
    "prelu by channel": (lambda: wide(nn.PReLU(2, 0.1)), (1, 6, 6)),
    "leaky relu": (lambda: wide(nn.LeakyReLU(0.3)), (1, 6, 6)),
    "relu6": (lambda: wide(nn.ReLU6()), (1, 6, 6)),
    "hardtanh": (lambda: wide(nn.Hardtanh(-0.2, 0.1)), (1, 6, 6)),
    "overlapping pools": (lambda: wide(nn.MaxPool2d((3, 2), (1, 2), (1, 0), (2, 1))), (1, 9, 8)),
    "average pools": (lambda: wide(nn.Sequential(nn.ReLU(), nn.AvgPool2d(2, 1, 1))), (1, 6, 6)),
    "shapes": (Shapes, (6,)),
    "strides and paddings": (lambda: nn.Sequential(
        nn.Conv2d(1, 2, (3, 2), padding=(1, 2), dilation=(2, 1)), nn.ReLU(),
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.LeakyReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(),
        nn.Conv2d(6, 2, 2, padding="same", padding_mode="circular"), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2),
    ), (1, 9, 9)),
    "volumes": (lambda: nn.Sequential(
        nn.Unflatten(1, (2, 5, 4, 4)), nn.Conv3d(2, 3, 2), nn.ReLU(), nn.ConvTranspose3d(3, 2, 2),
        nn.MaxPool3d((3, 2, 2), (1, 2, 1), (1, 0, 1), (1, 1, 2)), nn.Flatten(), nn.LazyLinear(2),
    ), (160,)),
    "ends with relu": (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()), (4,)),
    "begins with relu": (lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 3)), (4,)),
    "linear": (lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()), (1, 3, 3)),
}  # fmt: skip


def made(name):
    """A module with normalisation that does something, in float64, and the shape of an example."""
    torch.manual_seed(0)
    make, shape = ARCHITECTURES[name]
    module = make().double()
    module.eval()(torch.zeros(1, *shape, dtype=F64))  # lazy ones
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module, shape


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request):
    module, shape = made(request.param)
    net = TracedNetwork.from_module(module, shape)
    return module, net, random_inputs(40, net.widths[0], dtype=F64)


def by_autograd(module, shape, x):
    def of_one(one):
        return module(one.reshape(1, *shape)).flatten()

    return torch.stack([torch.func.jacrev(of_one)(one) for one in x])


def test_outputs_are_the_modules(case):
    module, net, x = case
    with torch.no_grad():
        expected = module(x.reshape(len(x), *net.shapes[0])).flatten(1)
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)
    assert net.widths[0] == x.shape[1]
    assert net.widths[-1] == expected.shape[1]


def test_gradients_are_those_of_autograd(case):
    module, net, x = case
    s = splinter(net, x)
    expected = by_autograd(module, net.shapes[0], x)
    torch.testing.assert_close(s.jacobian()[s.ids], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(s.cross(), ops.cross(s.jacobian()), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("inputs", [1, 3, 5, 6, 8, 9, 13, 33])
@pytest.mark.parametrize("outputs", [1, 2, 3, 7, 8, 10, 17])
def test_rows_of_a_linear_layer_do_not_depend_on_their_place(inputs, outputs, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, inputs, dtype=dtype, generator=generator)
    weight = torch.randn(outputs, inputs, dtype=dtype, generator=generator)
    order = torch.randperm(256, generator=generator)
    for own in (weight, torch.randn(inputs, outputs, dtype=dtype, generator=generator).T):
        assert torch.equal(linear(x[order], own), linear(x, own)[order])
        torch.testing.assert_close(linear(x, own), x @ own.T)


def test_results_do_not_depend_on_what_else_is_computed(case):
    """In every bit: a pattern and an output are of one example, a gradient of a pattern and a direction."""
    _, net, x = case
    sites = range(1, net.depth)
    patterns, outputs = net.forward(x, sites)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for part in (order, order[:13], order[:1]):
        found = net.forward(x[part], sites)
        assert torch.equal(found[0], patterns[part])
        assert torch.equal(found[1], outputs[part])
    gradients = ops.jacobian(net, patterns)
    for part in (order, order[:13], order[:1]):
        assert torch.equal(ops.jacobian(net, patterns[part]), gradients[part])
    own = torch.eye(net.widths[-1], dtype=F64)
    for d in range(len(own)):
        one = ops.jacobian(net, patterns, directions=own[d : d + 1])
        assert torch.equal(one[:, 0], gradients[:, d])


def test_results_do_not_depend_on_the_number_of_threads(case, monkeypatch):
    _, net, x = case
    monkeypatch.setattr(backward, "MOST_ROWS", 4)
    s = splinter(net, x)
    expected = net(x), s.signatures, s.jacobian()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            s = splinter(net, x)
            for a, b in zip((net(x), s.signatures, s.jacobian()), expected, strict=True):
                assert torch.equal(a, b)
    finally:
        torch.set_num_threads(before)


def test_blocks_that_are_not_full(case, monkeypatch):
    """Small ones, so that there are several, of modes and of directions."""
    _, net, x = case
    s = splinter(net, x)
    expected = s.jacobian()
    for rows, directions in ((1, 1), (2, 16), (7, 2)):
        monkeypatch.setattr(backward, "MOST_ROWS", rows)
        monkeypatch.setattr(backward, "DIRECTIONS", directions)
        found = splinter(net, x)
        assert torch.equal(found.ids, s.ids)
        torch.testing.assert_close(found.jacobian(), expected, rtol=1e-12, atol=1e-13)


def test_gradients_of_all_sites_chain(case):
    """From any site to any later one; and through a site between, by the chain rule."""
    _, net, x = case
    patterns, _ = net.forward(x, range(1, net.depth))
    words = [(net.bits[site] + 63) // 64 for site in range(1, net.depth)]

    def between(source, target):
        sites = pattern_sites(net, source, target)
        part = patterns[:, sum(words[:source]) : sum(words[: sites.stop - 1])]
        return ops.jacobian(net, part.contiguous(), source, target)

    whole = between(0, net.depth)
    for site in range(1, net.depth):
        product = between(site, net.depth) @ between(0, site)
        torch.testing.assert_close(product, whole, rtol=1e-9, atol=1e-12)


def test_bits_say_which_piece(case):
    """As many as pieces need, and all of them of use: more than one pattern."""
    _, net, x = case
    found = splinter(net, x)
    assert found.signatures.shape[1] == sum((b + 63) // 64 for b in net.bits)
    if net.depth > 1:
        assert found.n_modes > 1
    unpack = unpack_bits(found.signatures, [b for b in net.bits if b])
    assert [bits.shape[1] for bits in unpack] == [b for b in net.bits if b]


def test_graphs_and_tables(case):
    """Weights multiply to the full gradient; pieces merge to the whole."""
    _, net, x = case
    graph = computation_graph(net, x)
    for site in graph.sites:
        assert int(graph.splinters[site].counts.sum()) == len(x)
    product = torch.ones(1, len(graph.directions), dtype=F64)
    for site in graph.sites:
        product = product[graph.parents[site]] * graph.weights(site)
        torch.testing.assert_close(product, graph.lengths(site), rtol=1e-9, atol=1e-12)
    table = SplinterTable(net, ids=True)
    for part in x.split(7):
        table.update(part)
    whole, pieces = splinter(net, x), table.splinters()
    assert torch.equal(whole.ids, pieces.ids)
    assert torch.equal(whole.signatures, pieces.signatures)


def test_a_chain_is_the_same_network_both_ways():
    module = nn.Sequential(
        nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 70), nn.ReLU(), nn.Linear(70, 3)
    ).double()
    traced, chain = TracedNetwork.from_module(module), ReluNetwork.from_module(module)
    assert (traced.widths, traced.bits) == (chain.widths, chain.bits)
    x = random_inputs(200, 4, dtype=F64)
    a, b = splinter(traced, x), splinter(chain, x)
    assert torch.equal(a.signatures, b.signatures)
    assert torch.equal(a.counts, b.counts)
    torch.testing.assert_close(a.jacobian(), b.jacobian(), rtol=1e-12, atol=1e-14)


def test_hardsigmoid():
    """Whose slope of 1/6 is a float32 in torch's own backward pass."""
    net = TracedNetwork.from_module(nn.Sequential(nn.Hardsigmoid()), (1,))
    s = splinter(net, torch.tensor([[-4.0], [0.0], [5.0], [1.0]]))
    assert s.ids.tolist() == [0, 1, 2, 1]
    torch.testing.assert_close(s.jacobian().flatten(), torch.tensor([0, 1 / 6, 0]))


def test_images_need_not_be_flattened():
    module, shape = made("lenet")
    x = random_inputs(10, 144, dtype=F64)
    by_shape = splinter(module, x.reshape(10, *shape))
    assert torch.equal(
        by_shape.signatures, splinter(TracedNetwork.from_module(module, shape), x).signatures
    )
    with pytest.raises(ValueError, match=r"^input_shape must be given"):
        splinter(module, x)
    with pytest.raises(ValueError, match=r"^x must have shape \[N, 144\] to match"):
        splinter(TracedNetwork.from_module(module, shape), x[:, :100])


def test_names_and_sites():
    net = TracedNetwork.from_module(*made("resnet"))
    assert net.names == (
        "input", "stem.2", "add", "block1.relu", "add_1", "block2.relu", "output",
    )  # fmt: skip
    assert repr(net) == "TracedNetwork(64-128-256-256-128-128-3, float64)"
    module, _ = made("resnet")
    assert TracedNetwork.from_module(module, (1, 8, 8)).fingerprint == net.fingerprint
    module.head.bias.data += 1
    assert TracedNetwork.from_module(module, (1, 8, 8)).fingerprint != net.fingerprint
    before = net(torch.ones(1, 64, dtype=F64))
    module.head.bias.data += 1
    assert torch.equal(net(torch.ones(1, 64, dtype=F64)), before)


def test_what_lies_before_a_source_need_not_be_piecewise_linear():
    torch.manual_seed(0)
    module = TransformerBlock().double().eval()
    net = TracedNetwork.from_module(module, (3, 6))
    x = random_inputs(20, 18, dtype=F64)
    with pytest.raises(
        NotImplementedError,
        match=r"^MultiheadAttention at 'attention' is not piecewise linear; .* a source from 1 \('add'\)",
    ):
        splinter(net, x)
    assert net.names == ("input", "add", "add_1", "output")
    s = splinter(net, x, source=1)
    with torch.no_grad():
        middle = x.reshape(20, 3, 6)
        middle = middle + module.norm(
            module.attention(middle, middle, middle, need_weights=False)[0]
        )
    expected = by_autograd(module.mlp, (3, 6), middle.flatten(1))
    torch.testing.assert_close(s.jacobian()[s.ids], expected, rtol=1e-10, atol=1e-12)


def test_networks_that_differ_in_anything_have_fingerprints_of_their_own():
    """So that tables of different networks are never merged: also where weights are the same."""
    torch.manual_seed(0)
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    x = random_inputs(50, 3)
    found = [
        TracedNetwork.from_module(nn.Sequential(first, activation, last))
        for activation in (
            nn.LeakyReLU(0.1),
            nn.LeakyReLU(0.2),
            nn.Hardtanh(-1, 1),
            nn.Hardtanh(-1, 2),
        )
    ]
    smooth = nn.Sequential(first, nn.GELU(), last)
    for bits, quantiles, some in ((1, True, x), (2, True, x), (2, False, x), (2, True, x[:20])):
        levels = SlopeLevels(bits, quantiles)
        found.append(TracedNetwork.from_module(smooth, levels=levels, calibration=some))
    pools = [nn.MaxPool2d(2, 2), nn.MaxPool2d(2, 2, dilation=2), nn.AvgPool2d(2, 2)]
    found += [
        TracedNetwork.from_module(nn.Sequential(pool, nn.Flatten()), (1, 5, 5)) for pool in pools
    ]
    assert len({net.fingerprint for net in found}) == len(found)
    tables = [SplinterTable(net) for net in found[4:6]]
    with pytest.raises(ValueError, match="network"):
        tables[0].merge(tables[1])


class Parameters(nn.Module):
    """Bounds and slopes that are weights of the module."""

    def __init__(self):
        super().__init__()
        self.linear, self.low = nn.Linear(3, 4), nn.Parameter(torch.linspace(-1, 0, 4))
        self.slope = nn.Parameter(torch.linspace(0.1, 0.4, 4))

    def forward(self, x):
        return F.prelu(torch.clamp(self.linear(x), self.low), self.slope)


def test_bounds_that_are_weights():
    torch.manual_seed(0)
    module = Parameters().double()
    x = random_inputs(30, 3, dtype=F64)
    s = splinter(module, x)
    torch.testing.assert_close(s.jacobian()[s.ids], by_autograd(module, (3,), x).detach())


def test_images_for_graphs_and_communities():
    module, shape = made("lenet")
    x = random_inputs(30, 144, dtype=F64).reshape(30, *shape)
    net = TracedNetwork.from_module(module, shape)
    assert computation_graph(module, x, end=4).net.fingerprint == net.fingerprint
    assert neuron_communities(module, x, source=4).n >= 1


class Wasteful(nn.Module):
    """Computes what nobody uses, before and after its result."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x):
        x.exp()
        h = self.linear(x).relu()
        result = h * 2
        (h + 1).sigmoid()
        return result


def test_what_nobody_uses_does_not_matter():
    torch.manual_seed(0)
    module = Wasteful().double()
    net = TracedNetwork.from_module(module, (3,))
    assert net.widths == (3, 4, 4)
    x = random_inputs(30, 3, dtype=F64)
    s = splinter(net, x)
    torch.testing.assert_close(s.jacobian()[s.ids], by_autograd(module, (3,), x).detach())


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(3, 2))

    def forward(self, x):
        return self.value[: x.shape[0]] * 2


class Products(nn.Module):
    def forward(self, x):
        return x[:, :1] * x[:, 1:]


class Ends(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.linear, self.end = nn.Linear(2, 2), end

    def forward(self, x):
        return self.end(self.linear(x).relu())


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Mixes(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=0)


class InPlace(nn.Module):
    def forward(self, x):
        y = x + 1
        z = y.relu_()
        return y + z


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_what_is_before_and_after_a_softmax():
    torch.manual_seed(0)
    chain = [nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4)]
    last = nn.Linear(4, 2)
    net = TracedNetwork.from_module(nn.Sequential(*chain, nn.Softmax(1), last), (3,))
    assert net.names == ("input", "1", "2", "3", "output")
    both = r"; a target up to 2 \('2'\) works, and a source from 3 \('3'\) on works$"
    x = random_inputs(50, 3)
    with pytest.raises(NotImplementedError, match=both):
        splinter(net, x)
    logits, expected = splinter(net, x, target=2), splinter(nn.Sequential(*chain), x)
    assert logits.n_modes == expected.n_modes
    torch.testing.assert_close(logits.jacobian()[logits.ids], expected.jacobian()[expected.ids])
    torch.testing.assert_close(splinter(net, x, source=3).jacobian()[0], last.weight.data)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), "^Sigmoid at '1' is smooth, not piecewise linear"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), "^Softmax at '1' is not piecewise linear; .* a target up to 1 \\('0'\\) works$"),
        (nn.Sequential(nn.Softmax(1), nn.ReLU()), "^Softmax at '0' is .* a source from 1 \\('0'\\) on works$"),
        (nn.Softmax(1), "^softmax is not piecewise linear; .* so that a pattern has one gradient$"),
        (Products(), "^mul multiplies data with data"),
        (Ends(torch.exp), "^exp is not piecewise linear; .* a target up to 1 \\('relu'\\) works$"),
        (Ends(lambda x: F.dropout(x, 0.5)), "^dropout must be called with training=False"),
        (Branches(), "^module must do the same with all data: its control flow"),
        (Mixes(), "^module must give each example a result of its own"),
        (InPlace(), "^module must not change tensors in place that are used elsewhere"),
        (Two(), "^module must take one tensor, got 2 inputs"),
        (Pair(), "^module must return one tensor"),
        (Constant(), "^module must depend on its input"),
        (Ends(lambda x: x.detach()), "^detach is not supported"),
        (nn.Sequential(nn.Linear(2, 2), nn.MaxPool1d(2, return_indices=True)), "^module must return"),
        (nn.BatchNorm1d(2, track_running_stats=False).eval(), "^BatchNorm1d keeps no running statistics"),
    ],
)  # fmt: skip
def test_what_is_refused(module, message):
    with pytest.raises(NotImplementedError, match=message):
        splinter(TracedNetwork.from_module(module, (2,)), torch.randn(8, 2))


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), ValueError, "^BatchNorm1d at '1' is in training mode; call .eval"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), ValueError, "^Dropout at '1' is in training mode"),
        (nn.Sequential(nn.LazyLinear(2), nn.Tanh()), ValueError, "^LazyLinear at '0' has no weights yet"),
        (nn.Linear(2, 2, dtype=torch.complex64), TypeError, "^module must be float32 or float64 throughout, got torch.complex64 in 'weight'"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), TypeError, "got torch.float64 in '1.weight'"),
        (nn.Linear(3, 2), ValueError, r"^module must take examples of shape \[2\]: RuntimeError"),
    ],
)  # fmt: skip
def test_modules_that_are_not_ready(module, error, message):
    with pytest.raises(error, match=message):
        TracedNetwork.from_module(module, (2,))


def test_hooks_are_refused():
    module = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    module[0].register_forward_hook(lambda *_: None)
    with pytest.raises(NotImplementedError, match=r"^Linear at '0' has forward hooks"):
        TracedNetwork.from_module(module)


def test_sites_are_named_in_graphs_figures_and_pages():
    net = TracedNetwork.from_module(*made("lenet"))
    graph = computation_graph(net, random_inputs(20, 144, dtype=F64), start=3, end=1)
    assert "  site 2 (max_pool2d): " in repr(graph)
    figure = layers(view(graph, most_nodes=8))
    figure.canvas.draw()
    assert "site 2: max_pool2d" in [text.get_text() for text in figure.axes[0].texts]
    assert "max_pool2d" in graph_page(view(graph, most_nodes=8))


def test_silent_sites_after_a_site_of_several_bits_a_unit():
    """Whose words are not as many as its units would take."""
    torch.manual_seed(0)
    layers = [
        nn.Conv1d(1, 4, 2),
        nn.MaxPool1d(3),
        nn.Flatten(),
        nn.Linear(64, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    ]
    layers[3].bias.data.fill_(-99)
    net = TracedNetwork.from_module(nn.Sequential(*layers), (1, 49))
    assert net.bits == (0, 128, 5, 0)
    assert computation_graph(net, random_inputs(30, 49)).silent_sites() == [2]


SMOOTH = {
    "gelu": (nn.GELU(), F.gelu),
    "gelu, tanh": (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "silu": (nn.SiLU(), F.silu),
    "tanh": (nn.Tanh(), torch.tanh),
    "sigmoid": (nn.Sigmoid(), torch.sigmoid),
    "softplus": (nn.Softplus(2.0), lambda x: F.softplus(x, 2.0)),
    "elu": (nn.ELU(0.5), lambda x: F.elu(x, 0.5)),
}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(3, 8), nn.Linear(8, 2), function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


@pytest.mark.parametrize(("module", "function"), SMOOTH.values(), ids=SMOOTH)
@pytest.mark.parametrize("quantiles", [True, False])
def test_slopes_of_smooth_activations_in_levels(module, function, quantiles):
    torch.manual_seed(0)
    by_function = Function(function).double()
    by_module = nn.Sequential(by_function.first, module, by_function.last)
    x = random_inputs(500, 3, dtype=F64)
    expected = by_autograd(by_module, (3,), x).detach()
    lengths = expected.norm(dim=2).mean()
    before = float("inf")
    for bits in (1, 2, 4, 8):
        levels = SlopeLevels(bits, quantiles)
        found = []
        for network in (by_module, by_function)[: 1 + (bits == 2)]:
            net = TracedNetwork.from_module(network, levels=levels, calibration=x)
            assert net.bits == (0, 8 * bits, 0)
            with torch.no_grad():
                torch.testing.assert_close(net(x), by_module(x), rtol=1e-12, atol=1e-12)
            found.append(splinter(net, x))
        s = found[0]
        assert torch.equal(s.signatures, found[-1].signatures)
        error = float((s.jacobian()[s.ids] - expected).norm(dim=2).mean() / lengths)
        assert error < 0.7 * before
        before = error
    assert before < 0.02


def test_levels_by_hand():
    """Slopes of x² at -2, -1, 1, 3, 4, 5 are -4, -2, 2, 6, 8, 10."""
    z = torch.tensor([5.0, -2, 4, 1, -1, 3])
    unit = Smooth(torch.square, 1)
    unit.calibrate(z)
    assert unit.bounds.tolist() == [6]
    torch.testing.assert_close(unit.slopes, torch.tensor([-4 / 3, 8]))
    assert unit.code(z)[0].tolist() == [True, False, True, False, False, True]
    assert unit.evaluate(z)[1].tolist() == z.square().tolist()
    torch.testing.assert_close(
        unit.apply(unit.code(z), torch.ones(6)), unit.slopes[[1, 0, 1, 0, 0, 1]]
    )
    unit = Smooth(torch.square, 2, quantiles=False)
    unit.calibrate(z)
    assert unit.bounds.tolist() == [-0.5, 3, 6.5]
    torch.testing.assert_close(unit.slopes, torch.tensor([-3.0, 2, 6, 9]))
    unit.calibrate(torch.tensor([0.0, 4]))  # an empty range has its middle
    assert unit.slopes.tolist() == [0, 3, 5, 8]


def test_bad_levels():
    net, x = nn.Sequential(nn.Linear(3, 2), nn.GELU()), torch.randn(5, 3)
    with pytest.raises(
        NotImplementedError, match=r"^GELU at '1' is smooth, .* \(levels= groups its slopes\)"
    ):
        splinter(net, x)
    with pytest.raises(ValueError, match=r"^levels and calibration must be given both or neither"):
        TracedNetwork.from_module(net, levels=SlopeLevels(2))
    with pytest.raises(ValueError, match=r"^bits must be at most 8, got 9"):
        SlopeLevels(9)
    with pytest.raises(ValueError, match=r"^bits must be at least 1"):
        SlopeLevels(0)
    with pytest.raises(TypeError, match=r"^levels must be SlopeLevels, got int"):
        TracedNetwork.from_module(net, levels=2, calibration=x)
    with pytest.raises(
        TypeError, match=r"^calibration must be float32 like the module, got float64"
    ):
        TracedNetwork.from_module(net, levels=SlopeLevels(2), calibration=x.double())
    with pytest.raises(ValueError, match=r"^calibration must hold at least one example"):
        TracedNetwork.from_module(net, levels=SlopeLevels(2), calibration=x[:0])
