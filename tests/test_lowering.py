"""Traced chains as dense layers: the same function, and exact regions against patterns of samples."""

import pytest
import torch
from networks import random_inputs
from test_traced import LeNet, Skips, Wasteful, made
from torch import nn
from torch.nn import functional as F

from gradsplinter import ReluNetwork, TracedNetwork, ops, regions, splinter
from gradsplinter.lowering import lowered
from gradsplinter.operations import SlopeLevels
from gradsplinter.region_statistics import border_distances

F64 = torch.float64


class Functions(nn.Module):
    """Bounds that are weights and broader than what they bound, and functions of every kind."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(5, 6)
        self.low = nn.Parameter(torch.linspace(-0.2, 0.4, 5))
        self.slopes = nn.Parameter(torch.linspace(-0.5, 1.5, 6))

    def forward(self, x):
        x = F.relu6(4 * self.a(x) + 1)
        x = 1 - self.b(x)
        x = torch.clamp(x.sum(dim=1, keepdim=True), self.low)
        x = F.prelu(self.c(torch.cat([x, x.flip(1)], dim=1)[:, 2:7]), self.slopes)
        x = F.hardtanh(x, -1, 0.5).abs() - 0.1
        return F.hardsigmoid(8 * x)


CHAINS = {
    "relu": (lambda: nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2)), (2,)),
    "convolutions": (lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(2, 3, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(12, 2)), (1, 6, 6)),
    "leaky": (lambda: nn.Sequential(nn.Linear(2, 6), nn.LeakyReLU(0.2), nn.Linear(6, 6), nn.LeakyReLU(0.1), nn.Linear(6, 2)), (2,)),
    "prelu": (lambda: nn.Sequential(nn.Conv1d(1, 2, 2), nn.PReLU(2, 0.3), nn.Flatten(), nn.Linear(8, 2)), (1, 5)),
    "functions": (Functions, (2,)),
    "ends": (lambda: nn.Sequential(nn.ReLU(), nn.Linear(3, 4), nn.ReLU()), (3,)),
    "affine": (lambda: nn.Sequential(nn.Conv1d(1, 2, 2), nn.Flatten()), (1, 3)),
}  # fmt: skip


@pytest.fixture(scope="module", params=CHAINS)
def case(request):
    torch.manual_seed(3)
    make, shape = CHAINS[request.param]
    module = make().double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return TracedNetwork.from_module(module, shape)


def test_the_same_function(case):
    x = 3 * random_inputs(500, case.widths[0], dtype=F64)
    torch.testing.assert_close(lowered(case)(x), case(x), rtol=1e-12, atol=1e-12)


def test_regions_are_those_of_the_patterns(case):
    """One pattern in each region, another in each; gradients too; and samples lie in the region they should."""
    generator = torch.Generator().manual_seed(0)
    origin, u, v = torch.randn(3, case.widths[0], generator=generator, dtype=F64)
    found = regions.plane(case, origin, 2 * u, 2 * v, [[-1, -1], [1, -1], [1, 1], [-1, 1]])
    axes = torch.stack([2 * u, 2 * v])
    assert abs(float(found.areas.sum()) - 4) < 1e-10
    if case.depth > 1:
        assert len(found) > 3
    large = found.areas > 1e-9
    at = splinter(case, origin + found.centroids[large] @ axes)
    assert at.n_modes == int(large.sum())
    gradients = at.jacobian()[at.ids] @ axes.T
    torch.testing.assert_close(found.gradients[large], gradients, rtol=1e-9, atol=1e-10)
    points = 2 * torch.rand(3000, 2, generator=generator, dtype=F64) - 1
    inside = found.locate(points)
    known = torch.full((len(found),), -1)
    known[large] = at.ids
    patterns, _ = case.forward(origin + points @ axes, range(1, case.depth))
    checked = (inside >= 0) & large[inside.clamp(min=0)]
    assert float(checked.double().mean()) > 0.99
    expected = at.signatures[known[inside[checked]]]
    agree = (patterns[checked] == expected).all(dim=1)
    assert bool(agree.all())


def test_pieces_of_a_segment(case):
    a, b = 2 * random_inputs(2, case.widths[0], seed=5, dtype=F64)
    found = regions.line(case, a, b)
    middles = (found.breakpoints[:-1] + found.breakpoints[1:]) / 2
    s = splinter(case, a + middles.unsqueeze(1) * (b - a))
    assert s.n_modes == len(middles)
    torch.testing.assert_close(
        found.affine().gradients.flatten(1), s.jacobian()[s.ids] @ (b - a), rtol=1e-9, atol=1e-10
    )
    dense = torch.linspace(0, 1, 2001, dtype=F64)[1:-1]
    patterns, _ = case.forward(a + dense.unsqueeze(1) * (b - a), range(1, case.depth))
    changes = (patterns[1:] != patterns[:-1]).any(dim=1).nonzero().squeeze(1)
    between = torch.searchsorted(found.breakpoints, dense)
    assert torch.equal(changes, (between[1:] != between[:-1]).nonzero().squeeze(1))


def test_a_chain_of_relus_has_the_units_of_the_network():
    module, shape = (
        nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)),
        (1, 5),
    )
    net = TracedNetwork.from_module(module.double(), shape)
    chain = lowered(net)
    assert (chain.widths, chain.bits) == (net.widths, net.bits)
    x = random_inputs(300, 5, dtype=F64)
    assert torch.equal(splinter(chain, x).signatures, splinter(net, x).signatures)


def test_matrices_are_exact():
    """No rounding where each entry is one weight: a bias much larger than the weights takes no bits of these."""
    layer = nn.Conv1d(1, 1, 2).double().requires_grad_(False)
    layer.weight.copy_(torch.tensor([[[0.1, 1 / 3]]], dtype=F64))
    layer.bias.fill_(1e9)
    net = TracedNetwork.from_module(nn.Sequential(layer, nn.ReLU(), nn.Flatten()), (1, 3))
    (weight, _), (bias, _) = lowered(net).weights, lowered(net).biases
    expected = torch.tensor([[0.1, 1 / 3, 0], [0, 0.1, 1 / 3]], dtype=F64)
    assert torch.equal(weight, expected)
    assert bias.tolist() == [1e9, 1e9]


def test_the_absolute_value_by_hand():
    """|x1| + |x2| on the square around 0: four regions, by two units of each."""

    class Sum(nn.Module):
        def forward(self, x):
            return x.abs().sum(dim=1, keepdim=True)

    net = TracedNetwork.from_module(nn.Sequential(Sum()), (2,))
    found = regions.plane(net, domain=[[-1, -1], [1, -1], [1, 1], [-1, 1]])
    assert len(found) == 4
    assert found.areas.tolist() == [1, 1, 1, 1]
    assert sorted(map(tuple, found.gradients[:, 0].tolist())) == [
        (-1, -1),
        (-1, 1),
        (1, -1),
        (1, 1),
    ]
    assert repr(found.net) == "ReluNetwork(2-4-1, float64)"


def test_a_module_in_float32_and_distances():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 6), nn.LeakyReLU(), nn.Linear(6, 3))
    found = regions.plane(module)
    exact = regions.plane(TracedNetwork.from_module(module.double()))
    assert len(found) == len(exact)
    torch.testing.assert_close(found.areas, exact.areas, rtol=1e-6, atol=1e-9)
    z = module[0](torch.tensor([[0.3, 0.4]], dtype=F64))
    expected = (z.abs() / module[0].weight.norm(dim=1)).min()
    distance = border_distances(module, torch.tensor([[0.3, 0.4]], dtype=F64)).distance
    torch.testing.assert_close(distance, expected.detach().reshape(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (LeNet(), (1, 12, 12), r"^net must have functions of one number .*, got max_pool2d"),
        (Skips(), (5,), r"^net must be a chain to have exact regions: .* takes what comes from before"),
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh()), (2,), r"^Tanh at '1' is smooth"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), (2,), r"^Softmax at '1' is not piecewise linear"),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_named(module, shape, message):
    net = TracedNetwork.from_module(module.eval(), shape)
    with pytest.raises(NotImplementedError, match=message):
        regions.plane(net, *torch.eye(3, net.widths[0]))


def test_levels_of_slopes_are_not_pieces():
    net = nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 1))
    grouped = TracedNetwork.from_module(net, levels=SlopeLevels(2), calibration=torch.randn(50, 2))
    with pytest.raises(NotImplementedError, match=r"^GELU at '1' is smooth"):
        regions.plane(grouped)


def test_too_large_a_chain(monkeypatch):
    net = TracedNetwork.from_module(*made("average pools"))
    monkeypatch.setattr("gradsplinter.lowering.MOST_ENTRIES", 1000)
    with pytest.raises(
        NotImplementedError, match=r"^net must have dense layers of at most 1,000 numbers"
    ):
        lowered(net)


def test_what_nobody_uses_is_no_part_of_a_chain():
    module = Wasteful().double()
    net = TracedNetwork.from_module(module, (3,))
    x = random_inputs(50, 3, dtype=F64)
    with torch.no_grad():
        torch.testing.assert_close(lowered(net)(x), module(x))
    assert isinstance(lowered(net), ReluNetwork)
    assert ops.signatures(lowered(net), x).shape == (50, 1)
