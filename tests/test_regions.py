"""Exact regions against exact rational arithmetic, against samples, and by what must hold of them."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import random_network, same_bits
from torch import nn

from gradsplinter import ReluNetwork, ops, reference, regions, unpack_bits
from gradsplinter.regions import TooManyRegionsError
from gradsplinter.train import initialise

F64 = torch.float64
SQUARE = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=F64)


def network(weights, biases):
    return ReluNetwork(
        [torch.tensor(w, dtype=F64) for w in weights], [torch.tensor(b, dtype=F64) for b in biases]
    )


def hidden(*units):
    """One layer of units (w_s, w_t, b) whose output is their sum."""
    return network(
        [[list(unit[:2]) for unit in units], [[1.0] * len(units)]],
        [[unit[2] for unit in units], [0.0]],
    )


def check(found):
    """What must hold of all regions."""
    n = len(found)
    area = polygon_area(found.domain)
    assert abs(float(found.areas.sum()) - area) <= 1e-12 * area
    assert (found.areas > 0).all()
    # Corners are in order around a convex polygon; where another region ends they lie on a side.
    edges = found.side_ends - found.vertices
    following = torch.arange(1, len(edges) + 1)
    following[found.offsets[1:] - 1] = found.offsets[:-1]
    turns = edges[:, 0] * edges[following, 1] - edges[:, 1] * edges[following, 0]
    assert turns.min() >= -1e-12 * area
    assert (edges.norm(dim=1) > 0).all()
    # Patterns: each region has its own, and it is that of the centroid.
    assert len(ops.unique_rows(found.signatures).first) == n
    at = ops.signatures(found.restricted, found.centroids)
    sure = ~found.slivers.unsqueeze(1) & ~nearly_zero(found)
    different = unpack(at, found.net) ^ unpack(found.signatures, found.net)
    assert not (different & sure).any()
    known = sure.all(1)
    assert torch.equal(found.locate(found.centroids)[known], torch.arange(n)[known])
    single = found.centroids.float()
    assert torch.equal(found.locate(single), found.locate(single.double()))
    check_neighbours(found)
    # The affine functions are those of the network.
    gradients, constants = found.affine()
    value = (gradients @ found.centroids.unsqueeze(2)).squeeze(2) + constants
    torch.testing.assert_close(value, found.restricted(found.centroids), rtol=1e-12, atol=1e-12)
    check_continuous(found)


def nearly_zero(found):
    """Units whose pre-activation is 0 throughout a region, where rounding decides at a point."""
    net, a, bound = found.restricted, found.centroids, found.domain.abs().amax(0)
    result = [torch.zeros(len(a), 0, dtype=torch.bool)]
    for weight, bias in zip(net.weights[:-1], net.biases[:-1], strict=True):
        bound = bias.abs() + weight.abs() @ bound
        z = a @ weight.T + bias
        result.append(z.abs() <= 1e-14 * bound)
        a = z.relu()
    return torch.cat(result, 1)


def check_neighbours(found):
    """Sides of two regions meet at the same two points, and the named units flip there, no others."""
    sides = {}
    ends = torch.cat([found.vertices, found.side_ends], 1).tolist()
    for side, (neighbour, corners) in enumerate(zip(found.neighbours.tolist(), ends, strict=True)):
        if neighbour < 0:
            assert neighbour == -1
            continue
        sides[int(found.side_region[side]), neighbour, tuple(corners)] = side
    for a, b, corners in sides:
        assert (b, a, corners[2:] + corners[:2]) in sides
    inside = found.neighbours >= 0
    flips = torch.zeros(len(found.neighbours), sum(found.net.widths[1:-1]), dtype=torch.bool)
    first = torch.tensor([0, *found.net.widths[1:-1]]).cumsum(0)
    flips[found.flips.border, first[found.flips.site - 1] + found.flips.unit] = True
    bits = unpack(found.signatures, found.net)
    expected = bits[found.side_region[inside]] ^ bits[found.neighbours[inside]]
    assert torch.equal(flips[inside], expected)
    assert expected.any(1).all()
    assert not flips[~inside].any()
    # A side with no neighbour lies on the border of the domain.
    outside = ~inside
    middles = (found.vertices[outside] + found.side_ends[outside]) / 2
    assert distance_to_border(middles, found.domain).max() <= 1e-12 * found.domain.abs().max()


def check_continuous(found):
    """Affine functions of two regions agree on their common border."""
    gradients, constants = found.affine()
    inside = found.neighbours >= 0
    region, other = found.side_region[inside], found.neighbours[inside]
    for point in (found.vertices[inside], found.side_ends[inside]):
        step = ((gradients[region] - gradients[other]) @ point.unsqueeze(2)).squeeze(2)
        step += constants[region] - constants[other]
        scale = gradients.abs().sum() / len(gradients) + constants.abs().max() + 1
        assert (step.abs() <= 1e-10 * scale).all()


def unpack(signatures, net):
    none = torch.zeros(len(signatures), 0, dtype=torch.bool)
    return torch.cat([none, *unpack_bits(signatures, net.widths[1:-1])], 1)


def polygon_area(corners):
    following = corners.roll(-1, 0)
    return float(
        (corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum().abs() / 2
    )


def distance_to_border(points, domain):
    edges = domain.roll(-1, 0) - domain
    normals = torch.stack([edges[:, 1], -edges[:, 0]], 1) / edges.norm(dim=1, keepdim=True)
    return ((points.unsqueeze(1) - domain) * normals).sum(2).abs().amin(1)


def exactly(net, domain):
    """{signature: area} in rational arithmetic."""
    regions = reference.plane_regions(net, domain)
    found = {tuple(signature): area for signature, area in regions}
    assert len(found) == len(regions)
    return found


# --- cases by hand ----------------------------------------------------------------------------------


def test_two_units():
    found = regions.plane(hidden((1, 0, -0.5), (0, 1, -0.25)))
    by_pattern = {
        int(s): float(a) for s, a in zip(found.signatures[:, 0], found.areas, strict=True)
    }
    assert by_pattern == {0b00: 0.125, 0b01: 0.125, 0b10: 0.375, 0b11: 0.375}
    assert found.n_edges == 12
    assert found.degrees.tolist() == [2, 2, 2, 2]
    assert found.cleared == 0
    assert not found.slivers.any()
    on = int((found.signatures[:, 0] == 0b11).nonzero())
    assert found.gradients[on].tolist() == [[1.0, 1.0]]
    assert found.affine().constants[on].tolist() == [-0.75]
    assert found.centroids[on].tolist() == [0.75, 0.625]
    assert found.perimeters[on] == 2.5
    check(found)


@pytest.mark.parametrize(
    ("units", "n"),
    [
        ([(0, 0, 1)], 1),  # constant and on
        ([(0, 0, -1), (0, 0, 0)], 1),  # dead
        ([(1, 0, 0), (1, 0, 0)], 2),  # twice the same
        ([(1, 0, 0), (-2, 0, 0)], 2),  # the same border, other side
        ([(1, 0, 0), (1, 0, -0.5), (1, 0, 0.5)], 4),  # parallel
        ([(1, 0, 0), (0, 1, 0), (1, 1, 0)], 6),  # through one point
        ([(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, -1, 0)], 8),
        ([(1, 0, 1)], 1),  # along the border of the domain
        ([(1, 0, -1), (0, 1, 1), (0, -1, 1)], 1),
        ([(1, 1, 2), (1, 1, -2)], 1),  # touches a corner
        ([(1, 1, 0), (1, -1, 0)], 4),  # through all corners
        ([(1, 0, 0), (0, 1, 0), (1, 1, -1), (1, 1, 1)], 6),  # also through the middles of sides
    ],
)
def test_degenerate_units(units, n):
    found = regions.plane(hidden(*units), domain=SQUARE)
    assert len(found) == n
    check(found)


def test_coinciding_units_flip_together():
    found = regions.plane(hidden((1, 0, 0), (0, 1, 2), (-3, 0, 0)), domain=SQUARE)
    inside = found.neighbours >= 0
    assert int(inside.sum()) == 2
    side = int(inside.nonzero()[0])
    assert found.flips.unit[found.flips.border == side].tolist() == [0, 2]
    assert found.flips.site.tolist() == [1] * 4


def test_no_hidden_layer():
    net = network([[[2.0, 3.0]]], [[1.0]])
    found = regions.plane(net)
    assert len(found) == 1
    assert found.signatures.shape == (1, 0)
    assert found.gradients.tolist() == [[[2.0, 3.0]]]
    assert found.flips.unit.tolist() == []
    check(found)
    assert regions.line(net, [0.0, 0.0], [1.0, 1.0]).breakpoints.tolist() == [0.0, 1.0]


def test_a_layer_that_is_off_everywhere():
    net = network([[[1.0, 0.0]], [[-1.0], [1.0]], [[1.0, 1.0]]], [[0.0], [-1.0, -3.0], [0.5]])
    found = regions.plane(net, domain=SQUARE)
    assert sorted(found.signatures.tolist()) == [[0, 0], [1, 0]]
    check(found)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_plane_in_many_dimensions(dtype):
    net = random_network([7, 20, 20, 3], dtype=dtype)
    a, b, c = torch.randn(3, 7, dtype=dtype, generator=torch.Generator().manual_seed(1))
    found = regions.plane_through(net, a, b, c)
    check(found)
    assert found.domain.tolist() == [[0, 0], [1, 0], [0, 1]]
    x = found.inputs(found.centroids)
    assert torch.equal(ops.signatures(found.net, x), found.signatures)
    torch.testing.assert_close(
        found.inputs(found.domain), torch.stack([a, b, c]).double(), rtol=1e-15, atol=1e-15
    )
    gradients = torch.func.vmap(torch.func.jacrev(found.net.to_module()))(x)
    torch.testing.assert_close(found.input_gradients(), gradients)
    torch.testing.assert_close(found.gradients, gradients @ found.axes.T)
    assert repr(found) == f"Regions2D({len(found):,} regions of 7-20-20-3, {found.n_edges:,} edges)"


def test_directions_at_any_site():
    net = random_network([2, 12, 9, 2], dtype=F64)
    found = regions.plane(net, domain=SQUARE)
    x = found.centroids
    with torch.no_grad():
        a = net.to_module()[:4](x)
    directions = torch.randn(3, 9, dtype=F64)
    gradients, constants = found.affine(directions, site=2)
    torch.testing.assert_close(
        (gradients @ x.unsqueeze(2)).squeeze(2) + constants, a @ directions.T
    )
    every = found.affine(site=2)
    torch.testing.assert_close(directions @ every.gradients, gradients)
    outputs = found.affine(torch.tensor([[1.0, -1.0]], dtype=F64))
    torch.testing.assert_close(
        outputs.constants[:, 0], found.affine().constants @ torch.tensor([1.0, -1.0], dtype=F64)
    )
    torch.testing.assert_close(found.input_gradients(directions, 2), gradients)


def test_a_module_is_taken():
    module = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    assert len(regions.plane(module)) >= 1
    assert len(regions.line(module, [0.0, 0.0], [1.0, 1.0])) >= 1


# --- what coincides ---------------------------------------------------------------------------------


def test_units_of_the_first_layer_on_where_coordinates_are_negative():
    """Its activations are not bounded by its positive weights, and so not those of the next layer."""
    net = network(
        [[[-3.0, 0], [-1, 0], [-6, 0]], [[-2.0, 2, -1], [6, -6, 3]], [[1.0, 1]]],
        [[-9.0, 0, -18], [0.0, 0], [0.0]],
    )
    found = regions.plane(net, domain=[[-4.0, -4], [4, -4], [4, 4], [-4, 4]])
    check(found)
    assert len(found) == 4
    line = regions.line(net, [-4.0, 0], [4.0, 0])
    check_line(line)
    assert len(line) == 4


@pytest.mark.parametrize("seed", range(40))
def test_a_unit_that_is_another_one_times_minus_three(seed):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=F64)

    first, second = random(5, 2), random(4, 5)
    second[1] = -3 * second[0]
    net = ReluNetwork(
        [first, second, random(1, 4)], [-random(5).abs() / 3, torch.zeros(4, dtype=F64), random(1)]
    )
    check(regions.plane(net, domain=SQUARE))


@pytest.mark.parametrize("size", [1.0, 30.0, 1e3, 1e6])
def test_borders_that_coincide_in_the_network_coincide_on_a_plane_far_away(size):
    """Where a restricted bias is the small rest of large terms, which differ between the two units."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=F64)

    weight = (random(6, 300) * 1024).round() / 1024
    origin = random(300) * size
    bias = ((-(weight @ origin) + 0.3 * random(6)) * 2**20).round() / 2**20
    u, v = torch.linalg.qr(random(300, 2))[0].T * 2
    net = ReluNetwork(
        [torch.cat([weight, 3 * weight]), torch.ones(1, 12, dtype=F64)],
        [torch.cat([bias, 3 * bias]), torch.zeros(1, dtype=F64)],
    )
    single = ReluNetwork([weight, torch.ones(1, 6, dtype=F64)], [bias, torch.zeros(1, dtype=F64)])
    found = regions.plane(net, origin - (u + v) / 2, u, v)
    alone = regions.plane(single, origin - (u + v) / 2, u, v)
    assert len(found) == len(alone) > 10
    bits = unpack_bits(found.signatures, [12])[0]
    assert torch.equal(bits[:, :6], bits[:, 6:])
    assert torch.equal(ops.signatures(found.net, found.inputs(found.centroids)), found.signatures)
    line = regions.line(net, origin - u, origin + v)
    assert torch.equal(*(unpack_bits(line.signatures, [12])[0].split(6, dim=1)))


# --- known counts -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize(("width", "n"), [(32, 1180), (128, 20714)])
def test_counts_of_untrained_networks(width, n):
    net = initialise([2, width, width, width, 1], seed=0)
    found = regions.plane(net, domain=SQUARE)
    assert len(found) == n
    check(found)
    assert found.cleared == 0
    torch.set_num_threads(1)
    alone = regions.plane(net, domain=SQUARE)
    for name in ("vertices", "offsets", "signatures", "areas", "centroids", "neighbours"):
        assert same_bits(getattr(found, name), getattr(alone, name)), name


def test_samples_find_only_regions_that_are_there():
    found = regions.plane(initialise([2, 32, 32, 32, 1], seed=0), domain=SQUARE)
    x = 2 * torch.rand(1_000_000, 2, dtype=F64, generator=torch.Generator().manual_seed(0)) - 1
    sampled = ops.unique_signatures(found.restricted, x)
    known = ops.unique_rows(torch.cat([found.signatures, sampled.signatures]))
    assert len(known.first) == len(found) == 1180
    assert len(sampled.signatures) < 1180
    share = torch.zeros(len(found), dtype=F64)
    share[known.ids[len(found) :]] = sampled.counts.double() / len(x)
    assert (share - found.areas / 4).abs().max() < 1e-3


def test_counts_of_regioncam():
    regioncam = pytest.importorskip("regioncam")
    for widths in ([2, 16, 1], [2, 24, 24, 1], [2, 32, 32, 32, 1]):
        module = initialise(widths, seed=3).to_module()
        camera = regioncam.Regioncam(size=1)
        camera.add(module)
        assert len(regions.plane(module, domain=SQUARE)) == camera.num_faces


# --- against exact arithmetic -----------------------------------------------------------------------

SMALL = st.integers(-2, 2)
FACTORS = [1, 2, -1, 3, -3, 6]  # not all powers of two, so that products round


@st.composite
def degenerate_networks(draw):
    """Small integer weights: dead and repeated units, parallel borders and common points abound."""
    widths = [2, *draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))]
    weights, biases = [], []
    for below, width in pairwise(widths):
        row = st.lists(SMALL, min_size=below, max_size=below)
        rows = draw(st.lists(row, min_size=width, max_size=width))
        offsets = draw(st.lists(SMALL, min_size=width, max_size=width))
        for unit in range(1, width):
            if draw(st.integers(0, 3)) == 0:  # the border of the unit before, scaled or turned over
                factor = draw(st.sampled_from(FACTORS))
                rows[unit] = [factor * w for w in rows[unit - 1]]
                offsets[unit] = factor * offsets[unit - 1]
        weights.append([list(map(float, row)) for row in rows])
        biases.append(list(map(float, offsets)))
    return network([*weights, [[1.0] * widths[-1]]], [*biases, [0.0]])


DOMAINS = st.sampled_from(
    [
        [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]],
        [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]],
        [[-2.0, 0.0], [0.0, -2.0], [2.0, 0.0], [0.0, 2.0]],
        [[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]],
        [[-4.0, -4.0], [4.0, -4.0], [4.0, 4.0], [-4.0, 4.0]],
        [[-1.0, -1.0], [0.0, -1.0], [1.0, -1.0], [2.0, 0.0], [1.0, 1.0], [-1.0, 1.0]],
    ]
)


@settings(max_examples=150)
@given(degenerate_networks(), DOMAINS, st.sampled_from(ops.instruction_sets()))
@example(
    hidden((1, 0, 0), (0, 1, 0), (1, 1, 0)), [[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]], "portable"
)
def test_degenerate_networks(net, domain, instruction_set):
    with ops.instruction_set(instruction_set):
        found = regions.plane(net, domain=domain)
    expected = exactly(net, domain)
    got = dict(zip(map(tuple, found.signatures.tolist()), found.areas.tolist(), strict=True))
    assert got.keys() == expected.keys()
    for signature, area in got.items():
        assert math.isclose(area, expected[signature], rel_tol=1e-12)
    check(found)


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(0, 2**32),
    st.sampled_from([1.0, 1e-3, 1e3, 1e-8, 1e8]),
    st.sampled_from([0.0, 1.0, 1e-6, 30.0]),
    st.sampled_from(ops.instruction_sets()),
)
def test_random_networks(widths, seed, size, offset, instruction_set):
    """Whose weights and place are large or small; against exact arithmetic where they are few."""
    net = random_network([2, *widths, 2], seed, F64)
    net = ReluNetwork(net.weights, [b * size for b in net.biases])
    domain = size * (SQUARE + offset)
    with ops.instruction_set(instruction_set):
        found = regions.plane(net, domain=domain)
    check(found)
    if sum(widths) <= 14:
        expected = exactly(net, domain.tolist())
        got = dict(zip(map(tuple, found.signatures.tolist()), found.areas.tolist(), strict=True))
        area = polygon_area(found.domain)
        missing = sum((a for s, a in expected.items() if s not in got), Fraction(0))
        assert missing <= 1e-12 * area
        for signature, found_area in got.items():
            assert abs(found_area - expected.get(signature, 0)) <= 1e-12 * area


def test_every_instruction_set_gives_nearly_the_same():
    """Interpolated corners differ in their last bits by nothing: the arithmetic is fixed."""
    net = initialise([2, 40, 70, 130, 1], seed=1)
    best = regions.plane(net, domain=SQUARE)
    for name in ops.instruction_sets():
        with ops.instruction_set(name):
            found = regions.plane(net, domain=SQUARE)
        for field in ("vertices", "offsets", "signatures", "areas", "centroids", "neighbours"):
            assert same_bits(getattr(found, field), getattr(best, field)), (name, field)


def test_what_is_thinner_than_the_tolerance_is_counted():
    # Two borders 1e-17 apart, and one that crosses both.
    net = hidden((1, 0, -0.3), (1, 0, -0.3 - 1e-16), (0, 1, -0.5))
    found = regions.plane(net)
    assert len(found) == 4
    assert found.cleared > 0
    assert abs(float(found.areas.sum()) - 1) < 1e-15


def test_slivers_are_kept_and_marked():
    found = regions.plane(hidden((1, 0, -0.3), (1, 0, -0.3 - 5e-14), (0, 1, -0.5)))
    assert len(found) == 6
    assert found.slivers.sum() == 2
    assert found.areas[found.slivers].sum() == pytest.approx(5e-14, rel=0.1)
    check(found)


# --- segments ---------------------------------------------------------------------------------------


def check_line(found):
    t = found.breakpoints
    assert t[0] == 0
    assert t[-1] == 1
    assert (t.diff() > 0).all()
    at = ops.signatures(found.restricted, found.middles.unsqueeze(1))
    assert torch.equal(at, found.signatures)
    gradients, constants = found.affine()
    for side in (t[:-1], t[1:]):
        expected = found.restricted(side.unsqueeze(1))
        torch.testing.assert_close(
            gradients * side.unsqueeze(1) + constants, expected, rtol=1e-9, atol=1e-9
        )
    bits = unpack(found.signatures, found.net)
    changed = (bits[1:] ^ bits[:-1]).nonzero()
    first = torch.tensor([0, *found.net.widths[1:-1]]).cumsum(0)
    got = torch.stack([found.flips.border - 1, first[found.flips.site - 1] + found.flips.unit], 1)
    assert torch.equal(got, changed)


def test_breakpoints_by_hand():
    net = network([[[1.0], [-1.0]], [[1.0, 1.0]], [[1.0]]], [[-0.25, 0.5], [-0.375], [0.0]])
    # z1 = t - 1/4 and 1/2 - t; their ReLUs' sum is 1/2 - t, 1/4, t - 1/4; the next unit cuts at 3/8 of it.
    found = regions.line(net, [0.0], [1.0])
    assert found.breakpoints.tolist() == [0.0, 0.125, 0.25, 0.5, 0.625, 1.0]
    assert found.signatures.tolist() == [[2, 1], [2, 0], [3, 0], [1, 0], [1, 1]]
    assert [f.tolist() for f in found.flips] == [[1, 2, 3, 4], [2, 1, 1, 2], [0, 0, 1, 0]]
    assert found.affine().gradients.flatten().tolist() == [-1.0, 0.0, 0.0, 0.0, 1.0]
    check_line(found)


@pytest.mark.parametrize("widths", [[2, 5, 1], [7, 20, 20, 3], [1, 64, 1], [30, 65, 129, 2]])
def test_lines(widths):
    net = random_network(widths, dtype=F64)
    a, b = 3 * torch.randn(2, widths[0], dtype=F64, generator=torch.Generator().manual_seed(2))
    found = regions.line(net, a, b)
    check_line(found)
    assert len(found) > 3
    t = torch.rand(100_000, dtype=F64, generator=torch.Generator().manual_seed(3))
    sampled = ops.unique_signatures(found.restricted, t.unsqueeze(1)).signatures
    assert len(ops.unique_rows(torch.cat([found.signatures, sampled])).first) == len(found)
    torch.testing.assert_close(found.inputs(found.breakpoints[[0, -1]]), torch.stack([a, b]))
    assert repr(found).startswith(f"Regions1D({len(found):,} regions of {widths[0]}-")


@given(degenerate_networks(), st.sampled_from(ops.instruction_sets()))
def test_lines_through_degenerate_networks(net, instruction_set):
    with ops.instruction_set(instruction_set):
        found = regions.line(net, [-1.0, 0.5], [1.0, 1.0])
    check_line(found)


def test_a_line_and_a_plane_agree():
    net = initialise([2, 32, 32, 1], seed=4)
    found = regions.line(net, [-1.0, -0.3], [1.0, 0.4])
    plane = regions.plane(net, domain=SQUARE)
    region = plane.locate(found.inputs(found.middles))
    assert (region >= 0).all()
    assert torch.equal(plane.signatures[region], found.signatures)


# --- bad input --------------------------------------------------------------------------------------

NET = random_network([2, 4, 1])
DEEP = random_network([3, 4, 1])
HUGE = network([[[1e200, 0]], [[1e200]], [[1.0]]], [[0.0], [0.0], [0.0]])
WIDE = random_network([300, 4, 1])
A, B = torch.rand(2, 300, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: regions.plane("net"), TypeError, "net must be a ReluNetwork, a TracedNetwork or an nn.Module, got str"),
        (lambda: regions.plane(nn.Conv2d(1, 1, 1)), ValueError, r"input_shape must be given, .* TracedNetwork.from_module\(module, input_shape\)"),
        (lambda: regions.plane(nn.Linear(2, 2).half()), TypeError, "weights: layer 1 must be float32"),
        (lambda: regions.plane(DEEP), ValueError, "origin must be given, since the network has 3 inputs"),
        (lambda: regions.plane(DEEP, [0, 0]), ValueError, r"origin must have shape \[3\]"),
        (lambda: regions.plane(DEEP, [0, 0, 0], [1, 0, 0]), ValueError, "v must be given"),
        (lambda: regions.plane(NET, "a", [1, 0], [0, 1]), TypeError, "origin must be a tensor or"),
        (lambda: regions.plane(NET, [1j, 0], [1, 0], [0, 1]), TypeError, "origin must be real"),
        (lambda: regions.plane(NET, [0, math.inf], [1, 0], [0, 1]), ValueError, "origin must be finite"),
        (lambda: regions.plane(NET, [0, 0], [1, 2], [2, 4]), ValueError, "u and v must not be parallel"),
        (lambda: regions.plane(NET, [0, 0], [1, 2], [0, 0]), ValueError, "u and v must not be parallel"),
        (lambda: regions.plane_through(NET, [0, 0], [1, 1], [2, 2]), ValueError, "must not lie on a line"),
        (lambda: regions.plane_through(NET, [0, 0], [1, 1], [1, 1]), ValueError, "must not lie on a line"),
        (lambda: regions.plane(NET, domain=[[0, 0], [1, 0]]), ValueError, r"shape \[K, 2\] with at least 3"),
        (lambda: regions.plane(NET, domain=[[0, 0], [1, math.nan], [1, 1]]), ValueError, "domain must be finite"),
        (lambda: regions.plane(NET, domain=[[0, 0], [math.inf, 0], [1, 1]]), ValueError, "domain must be finite"),
        (lambda: regions.plane(NET, domain=[[0, 0], [1, 1], [1, 0], [0, 1]]), ValueError, "does not cross itself"),
        (lambda: regions.plane(NET, domain=[[0, 0], [2, 0], [1, 0.1], [0, 2]]), ValueError, "domain must be a convex"),
        (lambda: regions.plane(NET, domain=[[0, 0], [1, 0], [2, 0]]), ValueError, "domain must be a convex"),
        (lambda: regions.plane(NET, domain=[[0, 0], [1, 0], [1, 0], [0, 1]]), ValueError, "no corner twice in a row"),
        (lambda: regions.plane(NET, domain=STAR), ValueError, "does not cross itself"),
        (lambda: regions.plane(NET, domain=[[0, 0], [1e200, 0], [0, 1e200]]), ValueError, "an area below 1.8e308"),
        (lambda: regions.plane(NET, domain=[[-1e308, 0], [1e308, 0], [0, 1e308]]), ValueError, "an area below"),
        (lambda: regions.plane(NET, domain=[[0, 0], [1e-200, 0], [0, 1e-200]]), ValueError, "an area above 5e-324"),
        (lambda: regions.plane(NET, [1e308, 1e308], [1e308, 0], [0, 1e308]), ValueError, "net must be finite on the plane"),
        (lambda: regions.line(NET, [-1e308, 0], [1e308, 0]), ValueError, "b - a must be finite, got inputs too far"),
        (lambda: regions.plane_through(NET, [-1e308, 0], [1e308, 0], [0, 1]), ValueError, "b - a and c - a must be finite"),
        (lambda: regions.plane(HUGE), ValueError, "net must have activations below 1.8e308 over the domain"),
        (lambda: regions.plane_through(WIDE, A, B, (A + B) / 2), ValueError, "must not lie on a line"),
        (lambda: regions.plane_through(WIDE, 1e6 + A.double(), 1e6 + B.double(), 1e6 + (A.double() + B.double()) / 2), ValueError, "must not lie on a line"),
        (lambda: regions.plane(WIDE, A, B, 0.3 * B), ValueError, "u and v must not be parallel"),
        (lambda: regions.plane(NET, max_regions=0), ValueError, "max_regions must be at least 1, got 0"),
        (lambda: regions.plane(NET, max_regions=2.5), TypeError, "max_regions must be an integer"),
        (lambda: regions.line(NET, [0, 0], [0, 0]), ValueError, "a segment of length zero"),
        (lambda: regions.line(NET, [0, 0, 0], [0, 0]), ValueError, r"a must have shape \[2\]"),
        (lambda: regions.line(NET, [0, 0], None), ValueError, "b must be given"),
        (lambda: regions.plane(NET).affine(site=5), ValueError, "target must be a site"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


STAR = [[math.sin(4 * math.pi * i / 5), math.cos(4 * math.pi * i / 5)] for i in range(5)]


def test_numbers_of_python_keep_their_precision():
    found = regions.plane(
        hidden((1.0, 0.0, -0.3)), [0.1, 0.7], [0.3, 0], [0, 1], [[0, 0], [0.9, 0], [0.9, 1 / 3]]
    )
    assert found.domain.tolist() == [[0, 0], [0.9, 0], [0.9, 1 / 3]]
    assert found.origin.tolist() == [0.1, 0.7]
    assert found.axes.tolist() == [[0.3, 0], [0, 1]]
    segment = regions.line(hidden((1.0, 0.0, -0.3)), [0.1, 0.7], (0.2, 0.1))
    assert (segment.a.tolist(), segment.b.tolist()) == ([0.1, 0.7], [0.2, 0.1])


def test_a_clockwise_domain_is_turned_over():
    found = regions.plane(NET, domain=SQUARE.flip(0))
    check(found)
    assert polygon_area(found.domain) == 4


def test_too_many_regions():
    net = initialise([2, 128, 128, 128, 1], seed=0)
    with pytest.raises(TooManyRegionsError, match="max_regions must be at least") as caught:
        regions.plane(net, domain=SQUARE, max_regions=5000)
    partial = caught.value.partial
    assert not partial.complete
    assert 5000 < len(partial) < 20714
    assert "incomplete" in repr(partial)
    whole = regions.plane(net, domain=SQUARE)
    region = whole.locate(partial.centroids)
    assert (region >= 0).all()
    torch.testing.assert_close(whole.areas[region], partial.areas, rtol=0, atol=0)
    assert (partial.neighbours == -2).any()
    assert regions.plane(net, domain=SQUARE, max_regions=20714).complete


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        (torch.zeros(3, 3), ValueError, "points must have shape [N, 2], got [3, 3]"),
        (torch.zeros(2), ValueError, "points must have 2 dimensions, got 1 (shape [2])"),
        (torch.zeros(3, 2).half(), TypeError, "points must be float32 or float64, got float16"),
        ([[0.0, 0.0]], TypeError, "points must be a torch.Tensor, got list"),
        (
            torch.tensor([[0.0, torch.nan]]),
            ValueError,
            "points must be finite, got 1 value that is not (the first at [0, 1]: nan)",
        ),
    ],
)
def test_points_that_cannot_be_located(points, error, message):
    with pytest.raises(error) as raised:
        regions.plane(NET, domain=SQUARE).locate(points)
    assert str(raised.value) == message


def test_vectors_of_any_length_span_a_plane():
    for size in (1e-200, 1e150):
        found = regions.plane(NET, [0, 0], [size, 0], [0, size])
        assert float(found.areas.sum()) == pytest.approx(1)
    assert len(regions.plane(NET, max_regions=10**30)) >= 1


def test_what_lies_outside_of_the_domain_is_in_no_region():
    found = regions.plane(NET)
    points = torch.tensor([[1.5, 0.5], [50.0, 3.0], [-3.0, -3.0], [0.5, -1e-6], [0.31, 0.77]])
    assert found.locate(points).ge(0).tolist() == [False, False, False, False, True]
    assert torch.equal(found.locate(found.centroids), torch.arange(len(found)))
