"""The computation graph: the invariants that make it one, against the long way round."""

import math

import numpy as np
import pytest
import torch
from networks import on_meta, random_inputs, random_network

from gradsplinter import ReluNetwork, clusters, computation_graph, splinter, unpack_bits, view
from gradsplinter.network import pattern_sites

WIDTHS = (4, 9, 7, 6, 3)
NET = random_network(WIDTHS)
X = random_inputs(500, 4)
GRAPH = computation_graph(NET, X)
SPANS = [(0, -1), (0, 3), (1, -1), (1, 3), (2, 3), (3, -1), (0, 1)]


@pytest.fixture(params=SPANS, ids=str, scope="module")
def graph(request):
    end, start = request.param
    return computation_graph(NET, X, start=start, end=end)


def test_the_modes_of_each_site_are_those_of_splinter(graph):
    for site in graph.sites:
        found, expected = graph.splinters[site], splinter(NET, X, site, graph.start)
        for name in ("signatures", "counts", "first"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), (site, name)
        assert torch.equal(graph.modes(site), expected.ids)
        assert int(found.counts.sum()) == graph.n_examples == 500


def test_modes_of_a_site_are_unions_of_those_before_it(graph):
    for site in graph.sites[1:]:
        counts = torch.zeros(graph.splinters[site + 1].n_modes, dtype=torch.int64)
        counts.index_add_(0, graph.parents[site], graph.splinters[site].counts)
        assert torch.equal(counts, graph.splinters[site + 1].counts)
        for mode in range(len(counts)):
            children = graph.children(site + 1, mode)
            assert bool((graph.parents[site][children] == mode).all())
            assert sum(len(graph.children(site + 1, m)) for m in range(len(counts))) == len(
                graph.parents[site]
            )


def test_weights_multiply_along_a_path_to_the_full_gradient(graph):
    for i in (0, 17, 499):
        along = graph.example(i)
        assert list(along) == list(graph.sites)
        product = graph.directions.double().norm(dim=1)
        for site, mode in along.items():
            product = product * graph.weights(site)[mode]
            full = graph.splinters[site].jacobian()[mode].double().norm(dim=1)
            torch.testing.assert_close(product, full)
            torch.testing.assert_close(graph.lengths(site)[mode], full)


def test_a_component_is_the_gradient_of_the_one_above(graph):
    """(c ∘ s) W of the normalised component, by torch: its length is the weight."""
    for i in (3, 250):
        pattern = unpacked(i)
        for direction in range(len(graph.directions)):
            above = graph.directions[direction].double()
            above = above / above.norm()
            for site in graph.sites:
                bits = pattern[site].double() if site + 1 < NET.depth else 1
                gradient = (above * bits) @ NET.weights[site].double()
                mode = graph.example(i)[site]
                weight = graph.weights(site)[mode, direction]
                torch.testing.assert_close(weight, gradient.norm(), rtol=1e-5, atol=1e-6)
                component = graph.component(site, mode, direction).double()
                assert torch.equal(component.float(), graph.components(site)[mode, direction])
                torch.testing.assert_close(component * weight, gradient, rtol=1e-4, atol=1e-5)
                above = component


def signature(i):
    s = splinter(NET, X)
    return s.signatures[s.ids[i] : s.ids[i] + 1], list(WIDTHS[1:-1])


def unpacked(i):
    return [site[0] for site in unpack_bits(*signature(i))]


def test_sizes():
    """A tree has a node for each pattern of each site above, combined with each other."""
    bits = unpack_bits(splinter(NET, X).signatures, WIDTHS[1:-1])
    patterns = [len(site.unique(dim=0)) for site in bits]
    naive = [3, 3 * patterns[2], 3 * patterns[2] * patterns[1], 3 * math.prod(patterns)]
    sizes = GRAPH.sizes()
    assert [size.naive_nodes for size in sizes] == naive
    assert [size.site for size in sizes] == [3, 2, 1, 0]
    for size in sizes:
        gradients = splinter(NET, X, size.site).jacobian()
        lengths = gradients.double().norm(dim=2)
        assert size.modes == len(gradients)
        assert size.components == int((lengths > 0).sum()) <= size.naive_nodes
        unique = [gradients[:, d].unique(dim=0).any(dim=1).sum() for d in range(3)]
        assert size.unique_components == sum(unique)
        assert size.ratio == size.naive_nodes / size.components


def test_the_same_components_are_merged(graph):
    for site in graph.sites:
        merged = graph.merged(site)
        components = graph.components(site)
        zero = graph.lengths(site) == 0
        assert bool((merged.index[zero] == -1).all())
        assert torch.equal(merged.values[merged.index[~zero]], components[~zero])
        assert len(merged.values) == len(merged.values.unique(dim=0)) == int(merged.index.max()) + 1
        assert int(merged.counts.sum()) == int(graph.usage(site).sum())
        for c in range(len(merged.counts)):
            assert int(graph.usage(site)[merged.index == c].sum()) == int(merged.counts[c])


def test_outputs_that_are_the_same_are_merged():
    net = ReluNetwork([*NET.weights[:-1], NET.weights[-1][[0, 0, 1]]], NET.biases)
    merged = computation_graph(net, X).merged(0)
    assert torch.equal(merged.index[:, 0], merged.index[:, 1])
    assert not torch.equal(merged.index[:, 0], merged.index[:, 2])


def test_usage_and_rarity():
    for site in GRAPH.sites:
        used = torch.zeros(GRAPH.splinters[site].n_modes, 3, dtype=torch.int64)
        for i in range(500):
            used[GRAPH.modes(site)[i]] += 1
        used[GRAPH.lengths(site) == 0] = 0
        assert torch.equal(GRAPH.usage(site), used)
        share = float((used.sum() / 500) / (GRAPH.lengths(site) != 0).sum())
        assert GRAPH.share_used()[site] == pytest.approx(share)
        there = GRAPH.lengths(site) != 0
        by_example = GRAPH.share_used_by_example()[GRAPH.sites.index(site)]
        assert by_example.dtype == torch.float64
        assert by_example.tolist() == pytest.approx(
            [int(there[mode].sum()) / int(there.sum()) for mode in GRAPH.modes(site)]
        )
    rarity = GRAPH.rarity()
    assert rarity.shape == (4, 500)
    assert not rarity[0].any()  # site 3 has one mode
    counts = splinter(NET, X).counts[splinter(NET, X).ids].double()
    torch.testing.assert_close(rarity[3], -(counts / 500).log())
    rarest = GRAPH.rarest(5)
    total = rarity.sum(0)
    assert bool((total[rarest[:-1]] >= total[rarest[1:]]).all())
    assert float(total[rarest[0]]) == float(total.max())
    assert len(GRAPH.rarest(10_000)) == 500


def test_of_equally_rare_examples_some_spread_over_all_are_the_rarest():
    """Two modes of one example, and one of 100 whose examples come one after the other."""
    x = torch.cat([torch.tensor([[-1.0, 1], [1, -1]]), torch.ones(98, 2), -torch.ones(98, 2)])
    net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
    graph = computation_graph(net, x)
    assert graph.rarest(2).tolist() == [0, 1]
    assert graph.equally_rare(1).tolist() == [0, 1]
    equal = graph.equally_rare(150)
    assert equal.tolist() == list(range(2, 198))
    for count in (1, 3, 10, 50):
        some = graph.rarest(2 + count)[2:]
        assert len(some) == count
        assert torch.equal(some, some.sort().values)
        assert set(some.tolist()) <= set(equal.tolist())
        ends = torch.cat([some, torch.tensor([198])])
        assert int(ends.diff().max()) <= 2 * 196 // count + 1  # evenly
        assert set(some.tolist()) <= set(graph.rarest(3 + count).tolist())
    assert graph.rarest(198).tolist() == list(range(198))
    assert graph.rarest(2, torch.tensor([1, 60, 61])).tolist()[0] == 1
    with pytest.raises(IndexError, match=r"^i must be an example in 0..197, got 198$"):
        graph.equally_rare(198)


def test_rarities_that_differ_by_rounding_only_are_equal():
    """Shares of 1/2 and 1/6, and of 1/3 and 1/4, in that order of the sites."""
    shares = torch.tensor([[2.0, 6, 3, 4], [6, 2, 4, 3]]).log()
    graph = computation_graph(NET, X[:4])
    graph.__dict__["rarity"] = lambda: shares
    assert len(graph.equally_rare(0)) == 4


def test_sites_at_which_no_unit_is_on():
    weights, off = [torch.eye(2)] * 3, torch.full((2,), -9.0)
    on = torch.ones(2)
    for biases, end, start, silent in (
        ((off, on, on), 0, 3, [1]),
        ((on, off, on), 0, 3, [2]),
        ((on, off, on), 0, 2, [2]),
        ((on, off, on), 2, 3, []),
        ((on, on, on), 0, 3, []),
    ):
        graph = computation_graph(ReluNetwork(weights, biases), X[:, :2] / 9, None, start, end)
        assert graph.silent_sites() == silent


def test_other_examples():
    new = random_inputs(300, 4, seed=9)
    found = GRAPH.activated(torch.cat([X[:50], new]))
    for site in GRAPH.sites:
        assert torch.equal(found[site][:50], GRAPH.modes(site)[:50])
        known = {
            tuple(row): mode for mode, row in enumerate(GRAPH.splinters[site].signatures.tolist())
        }
        s = splinter(NET, new, site)
        rows = s.signatures[s.ids].tolist()
        assert found[site][50:].tolist() == [known.get(tuple(row), -1) for row in rows]
    assert bool((found[0] == -1).any())
    assert bool(((found[0] == -1) & (found[2] >= 0)).any())


def brute_force(site, a, b):
    """Over the examples, one by one: nodes are compared by the components below them."""
    total = same = 0.0
    below = splinter(NET, X, site - 1)
    cosines = below.cross().double()
    for i in range(500):
        mode_above = int(GRAPH.modes(site)[i]) if site < 4 else 0
        for mode_a, i_a in a:
            for mode_b, i_b in b:
                if mode_a == mode_b == mode_above:
                    total += 1
                    same += abs(float(cosines[below.ids[i], i_a, i_b]))
    return 1 - same / total


@pytest.mark.parametrize(
    ("site", "a", "b"),
    [
        (4, [(0, 0)], [(0, 1)]),
        (4, [(0, 0), (0, 2)], [(0, 1)]),
        (2, [(0, 0)], [(0, 1)]),
        (2, [(0, 0), (1, 1), (2, 2)], [(0, 1), (1, 2), (3, 0)]),
        (1, [(5, 0)], [(5, 0)]),
    ],
)
def test_orthogonality_of_groups(site, a, b):
    assert GRAPH.orthogonality(site, a, b) == pytest.approx(brute_force(site, a, b), abs=1e-6)


def test_orthogonality_of_directions():
    """From the start site, it is that of the splinters before it."""
    matrix = splinter(NET, X, 3).orthogonality_matrix()
    assert GRAPH.orthogonality(4, 0, 2) == pytest.approx(float(matrix[0, 2]))
    modes = range(GRAPH.splinters[1].n_modes)
    one = GRAPH.orthogonality(1, 0, 1)
    assert one == pytest.approx(
        GRAPH.orthogonality(1, [(m, 0) for m in modes], [(m, 1) for m in modes])
    )
    assert one == pytest.approx(float(splinter(NET, X).orthogonality_matrix()[0, 1]))
    assert torch.equal(GRAPH.orthogonality_matrix(0), splinter(NET, X).orthogonality_matrix())


def test_zero_gradients_are_no_components():
    """Two of three examples: both outputs read x0; in the third the second output reads nothing."""
    net = ReluNetwork([torch.eye(2), torch.tensor([[1.0, 1.0], [0.0, 1.0]])], [torch.zeros(2)] * 2)
    x = torch.tensor([[-1.0, 1.0], [-2.0, 1.0], [1.0, -1.0]])
    graph = computation_graph(net, x)
    assert graph.lengths(0).tolist() == [[1, 1], [1, 0]]
    assert graph.orthogonality(2, 0, 1) == pytest.approx(1 - 0.5**0.5)  # site 1 has no zero
    assert graph.orthogonality(1, 0, 1) == 0
    assert float(graph.orthogonality_matrix(0)[0, 1]) == pytest.approx(1 / 3)
    message = "a and b must have components at site 0 in a common mode, got zero gradients only"
    with pytest.raises(ValueError, match=f"^{message}$"):
        computation_graph(net, x[2:]).orthogonality(1, 0, 1)
    dead = ReluNetwork([-torch.ones(3, 2), torch.ones(2, 3)], [torch.zeros(3), torch.zeros(2)])
    with pytest.raises(ValueError, match=f"^{message}$"):
        computation_graph(dead, torch.ones(10, 2)).orthogonality(1, 0, 1)


def test_given_directions():
    directions = torch.tensor([[1.0, -1.0, 0.0], [0.0, 2.0, 2.0]])
    graph = computation_graph(NET, X, directions)
    assert torch.equal(
        graph.splinters[0].jacobian(), splinter(NET, X, directions=directions).jacobian()
    )
    torch.testing.assert_close(
        graph.weights(3)[0].float(),
        (directions @ NET.weights[3]).norm(dim=1) / directions.norm(dim=1),
    )


def test_what_a_later_relu_masks_is_seen_from_an_inner_site():
    """Site 1 has a neuron that no output depends on."""
    net = ReluNetwork(
        [torch.eye(2), torch.tensor([[1.0, 0.0]])], [torch.ones(2) * 9, torch.zeros(1)]
    )
    x = random_inputs(20, 2)
    assert computation_graph(net, x).components(0).tolist() == [[[1.0, 0.0]]]
    inner = computation_graph(net, x, start=1, end=0)
    assert inner.components(0).tolist() == [[[1.0, 0.0], [0.0, 1.0]]]


def test_a_dead_network():
    net = ReluNetwork([-torch.ones(3, 2), torch.ones(2, 3)], [torch.zeros(3), torch.zeros(2)])
    graph = computation_graph(net, torch.ones(10, 2))
    assert [size.components for size in graph.sizes()] == [2, 0]
    assert graph.sizes()[1].ratio == math.inf
    assert graph.share_used() == {1: 1.0, 0: 0.0}
    assert graph.share_used_by_example().tolist() == [[1.0] * 10, [0.0] * 10]
    assert not graph.weights(0).any()
    assert not graph.components(0).any()
    assert "0 components" in repr(graph)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: GRAPH.modes(4), ValueError, r"site must be in 0\.\.3, got 4"),
        (lambda: GRAPH.weights(-1), ValueError, r"site must be in 0\.\.3, got -1"),
        (lambda: GRAPH.components(1.0), TypeError, "site must be an integer, got float"),
        (lambda: GRAPH.component(0, 10**6, 0), IndexError, r"mode must be in 0\.\."),
        (lambda: GRAPH.component(0, 0, 3), IndexError, r"direction must be in 0\.\.2, got 3"),
        (lambda: GRAPH.example(500), IndexError, r"i must be an example in 0\.\.499, got 500"),
        (lambda: GRAPH.example("a"), TypeError, "i must be an integer, got str"),
        (lambda: GRAPH.rarest(0), ValueError, "count must be at least 1, got 0"),
        (lambda: GRAPH.orthogonality(0, 0, 1), ValueError, r"site must be in 1\.\.4, got 0"),
        (lambda: GRAPH.orthogonality(2, [(0, 0)], [(1, 1)]), ValueError, "a and b must have nodes in a common mode"),
        (lambda: GRAPH.orthogonality(2, [3], 1), TypeError, r"a node must be \(mode, direction\), got 3"),
        (lambda: GRAPH.orthogonality(2, [], 1), ValueError, "a and b must have nodes in a common mode"),
        (lambda: GRAPH.orthogonality(2, [], []), ValueError, "a and b must have nodes in a common mode"),
        (lambda: GRAPH.children(0, 0), ValueError, r"site must be in 1\.\.4, got 0"),
        (lambda: GRAPH.children(5, 0), ValueError, r"site must be in 1\.\.4, got 5"),
        (lambda: computation_graph(NET, X, start=1, end=1), ValueError, r"start must be a site after the end, in 2\.\.4, got 1"),
        (lambda: computation_graph(NET, X, start=0), ValueError, r"start must be a site after the end, in 1\.\.4, got 0"),
        (lambda: computation_graph(NET, X, end=4), ValueError, r"end must be a site in 0\.\.3, got 4"),
        (lambda: computation_graph("net", X), TypeError, "net must be a ReluNetwork, a TracedNetwork or an nn.Module, got str"),
        (lambda: computation_graph(on_meta(NET), X), NotImplementedError, "net must be on the CPU, got meta"),
        (lambda: computation_graph(NET, X, torch.empty(0, 3)), ValueError, "directions must hold at least one"),
        (lambda: computation_graph(NET, X[:0]), ValueError, "x must hold at least one example"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_sites_and_patterns():
    assert GRAPH.sites == (3, 2, 1, 0)
    assert GRAPH.start == 4
    assert GRAPH.end == 0
    assert list(pattern_sites(NET, 0, -1)) == [1, 2, 3]
    assert repr(GRAPH).splitlines()[0].startswith("ComputationGraph of ReluNetwork(4-9-7-6-3")


def test_components_within_an_angle_become_one():
    for site in GRAPH.sites:
        components, exact = GRAPH.components(site), GRAPH.merged(site)
        near = GRAPH.merged(site, angle=0.3)
        assert len(near.values) < len(exact.values) or site == 3
        assert torch.equal(near.index < 0, exact.index < 0)
        assert int(near.counts.sum()) == int(exact.counts.sum())
        assert near.n_components == exact.n_components == GRAPH.sizes()[3 - site].components
        assert exact.widest == 0
        for c in range(len(near.values)):
            members = components[near.index == c].double()
            mean = members.sum(0)
            torch.testing.assert_close(
                near.values[c].double(), mean / mean.norm(), atol=1e-6, rtol=0
            )
            largest = float(angles(members, members).max())
            assert largest / 2 - 1e-6 <= float(near.diameters[c]) <= largest + 1e-6
            assert largest <= 0.3 + 1e-6
            assert float(angles(members, near.values[c : c + 1].double()).max()) <= 0.3 + 1e-6
    tiny = GRAPH.merged(0, angle=1e-6)
    assert len(tiny.values) <= len(GRAPH.merged(0).values)
    with pytest.raises(ValueError, match="angle must be in"):
        GRAPH.merged(0, angle=4.0)


def angles(a, b):
    a, b = (v / v.norm(dim=1, keepdim=True) for v in (a, b))
    return (a @ b.T).clamp(-1, 1).acos()


def test_a_chain_of_components_is_not_one_node():
    """Neurons that look 2 degrees apart from each other, all around a quarter of a circle."""
    degrees = torch.arange(0, 91, 2).deg2rad()
    rows = torch.stack([degrees.cos(), degrees.sin()], dim=1)
    net = ReluNetwork([rows, torch.ones(1, 46)], [torch.ones(46), torch.zeros(1)])
    graph = computation_graph(net, torch.rand(20, 2), start=1, end=0)
    angle = math.radians(7)
    assert len(clusters(rows, angle)) == 1
    merged = graph.merged(0, angle)
    assert 13 <= len(merged.values) <= 23
    assert bool((merged.diameters <= angle).all())
    for c in range(len(merged.values)):
        members = graph.components(0)[merged.index == c].double()
        assert float(angles(members, members).max()) <= angle
    assert repr(merged) == (
        f"Merged: 46 components became {len(merged.values)}; widest angle found in one: "
        f"{float(merged.diameters.max()):.2g} rad"
    )
    assert merged.widest == float(merged.diameters.max()) > math.radians(1.9)


def test_all_at_once_and_piece_by_piece(monkeypatch):
    def everything(graph):
        found = [size.unique_components for size in graph.sizes()]
        for site in graph.sites:
            merged = graph.merged(site), graph.merged(site, 0.2)
            found += [t for m in merged for t in (m.values, m.index, m.counts)]
            found += [graph.lengths(site), graph.weights(site), graph.components(site)]
        assert not any("_jacobian" in vars(s) for s in graph.splinters.values())
        return found

    expected = everything(computation_graph(NET, X))
    monkeypatch.setattr("gradsplinter.scores.AT_ONCE", 100)
    found = everything(computation_graph(NET, X))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    for site in GRAPH.sites:
        gradients = splinter(NET, X, site).jacobian()
        lengths = gradients.double().norm(dim=2)
        units = (gradients / torch.where(lengths == 0, 1, lengths).unsqueeze(2)).float()
        assert torch.equal(GRAPH.lengths(site), lengths)
        assert torch.equal(GRAPH.components(site), units)


def test_gradients_too_short_to_be_measured():
    def graph(scale):
        net = ReluNetwork([scale * torch.eye(2).double()] * 2, [torch.zeros(2).double()] * 2)
        return computation_graph(net, torch.full((3, 2), 1 / scale, dtype=torch.float64))

    assert graph(1e-70).sizes()[-1].components == 2
    message = (
        "net must have gradients that are zero or at least 1e-150 long, got shorter ones at site 0"
    )
    with pytest.raises(ValueError, match=f"^{message}"):
        graph(1e-90).sizes()


def test_a_direction_of_any_integer_type():
    expected = GRAPH.orthogonality(1, 1, 0)
    for one in (torch.tensor(1), np.int64(1)):
        assert GRAPH.orthogonality(1, one, 0) == expected
    with pytest.raises(TypeError, match=r"^a and b must be a direction or nodes .*, got NoneType$"):
        GRAPH.orthogonality(1, None, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_beyond_the_range_of_the_dtype(dtype):
    steep = 1e30 if dtype == torch.float32 else 1e100
    weights = [steep * torch.eye(2, dtype=dtype), steep * torch.eye(2, dtype=dtype)]
    net = ReluNetwork(weights, [torch.zeros(2, dtype=dtype)] * 2)
    graph = computation_graph(net, torch.full((3, 2), 1 / steep, dtype=dtype))
    message = (
        "net must have finite gradients, with squared lengths below 1.8e308, got others at site 0"
    )
    for call in (
        lambda: graph.lengths(0),
        lambda: graph.components(0),
        lambda: graph.component(0, 0, 1),
        lambda: graph.merged(0),
        graph.sizes,
        lambda: graph.orthogonality(1, 0, 1),
        lambda: view(graph),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
    assert message in repr(graph)
