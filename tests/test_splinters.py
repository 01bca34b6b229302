"""Splinters: modes, gradients and scores, by hand and by their invariants."""

import math

import numpy as np
import pytest
import torch
from networks import random_inputs, random_network, same_bits

import gradsplinter
from gradsplinter import ReluNetwork, reference, splinter

SPANS = [(0, -1), (1, -1), (2, -1), (0, 1), (0, 2), (1, 2)]  # of a network with L = 3


@pytest.fixture
def halves():
    """Two halves that share no hidden unit: y1 = relu(x1 + 99) + relu(x2), y2 = relu(x1) + relu(x2 + 99).

    So ∂y1 = (1, [x2 > 0]) and ∂y2 = ([x1 > 0], 1) within 99 of the origin.
    """
    return ReluNetwork(
        [
            torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]]),
            torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]),
        ],
        [torch.tensor([99.0, 0, 0, 99]), torch.zeros(2)],
    )


def quadrants(*counts):
    """Points with (x1, x2) in (+, +), (+, -), (-, +), (-, -), in this order, so many of each."""
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    return signs.repeat_interleave(torch.tensor(counts), dim=0)


def test_two_disjoint_halves_by_hand(halves):
    s = splinter(halves, quadrants(4, 3, 2, 1))
    # mode     ∂y1     ∂y2     |cos|
    # + +      (1, 1)  (1, 1)  1
    # + -      (1, 0)  (1, 1)  1 / √2
    # - +      (1, 1)  (0, 1)  1 / √2
    # - -      (1, 0)  (0, 1)  0
    assert s.n_modes == 4
    assert s.jacobian().tolist() == [
        [[1, 1], [1, 1]],
        [[1, 0], [1, 1]],
        [[1, 1], [0, 1]],
        [[1, 0], [0, 1]],
    ]
    # Each output has two splinters in four modes: they do not appear together.
    assert s.co_appearance().tolist() == [0.5, 0.5]
    first = s.gradients(0)
    assert first.values.tolist() == [[1, 1], [1, 0]]
    assert first.index.tolist() == [0, 1, 0, 1]
    assert first.counts.tolist() == [6, 4]
    second = s.gradients(1)
    assert second.values.tolist() == [[1, 1], [0, 1]]
    assert second.index.tolist() == [0, 0, 1, 1]
    assert second.counts.tolist() == [7, 3]
    paired = 1 - (4 * 1 + (3 + 2) / math.sqrt(2) + 1 * 0) / 10
    assert s.orthogonality() == pytest.approx(paired, abs=1e-7)
    # Every splinter of one output with every one of the other: cos 1, 1/√2, 1/√2, 0, each once.
    all_pairs = 1 - (1 + 2 / math.sqrt(2) + 0) / 4
    assert s.all_pairs_orthogonality() == pytest.approx(all_pairs, abs=1e-7)
    assert abs(paired - all_pairs) > 0.1


def test_only_the_paired_score_knows_what_occurs_together(halves):
    """Without the quadrant + + the same splinters exist, but never both (1, 1) at once."""
    s = splinter(halves, quadrants(0, 3, 2, 5))
    assert [len(s.gradients(d).values) for d in (0, 1)] == [2, 2]
    assert s.co_appearance().tolist() == [2 / 3, 2 / 3]
    assert s.orthogonality() == pytest.approx(1 - 5 / math.sqrt(2) / 10, abs=1e-7)
    assert s.all_pairs_orthogonality() == pytest.approx(1 - (1 + math.sqrt(2)) / 4, abs=1e-7)


def test_scores_of_three_directions_by_hand(halves):
    directions = torch.tensor([[1.0, 0], [0, 1], [1, -1]])
    s = splinter(halves, quadrants(1, 0, 0, 3), directions=directions)
    # + +: (1, 1), (1, 1) and their difference (0, 0), whose cosine is 0 with all
    # - -: (1, 0), (0, 1) and (1, -1), whose cosines are 1/√2 with the first, -1/√2 with the second
    assert s.zero_gradients.tolist() == [0, 0, 1]
    half = math.sqrt(0.5)
    assert torch.allclose(
        s.cross(),
        torch.tensor([
            [[1.0, 1, 0], [1, 1, 0], [0, 0, 0]],
            [[1, 0, half], [0, 1, -half], [half, -half, 1]],
        ]),
    )  # fmt: skip
    a, b = 1 - 1 / 4, 1 - 3 / 4 * half
    matrix = torch.tensor([[0, a, b], [a, 0, b], [b, b, 0]], dtype=torch.float64)
    assert torch.allclose(s.orthogonality_matrix(), matrix, atol=1e-7)
    assert s.orthogonality() == pytest.approx((a + 2 * b) / 3, abs=1e-7)
    # All pairs: (1, 1), (1, 0) with (1, 1), (0, 1): mean (1 + 2 half + 0) / 4; and with (0, 0),
    # (1, -1): 0, 0, 0, half of the first and 0, 0, 0, half of the second.
    all_pairs = 1 - ((1 + 2 * half) / 4 + half / 4 + half / 4) / 3
    assert s.all_pairs_orthogonality() == pytest.approx(all_pairs, abs=1e-7)


def test_modes_are_numbered_by_first_appearance(halves):
    x = quadrants(1, 1, 1, 1)[[3, 1, 3, 0, 1, 3]]
    s = splinter(halves, x)
    assert s.ids.tolist() == [0, 1, 0, 2, 1, 0]
    assert s.first.tolist() == [0, 1, 3]
    assert s.counts.tolist() == [3, 2, 1]
    assert s.signatures.tolist() == [[0b1001], [0b1101], [0b1111]]
    assert (s.n_examples, s.n_modes, s.n_directions, s.compression) == (6, 3, 2, 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("source", "target"), SPANS)
def test_invariants(dtype, source, target):
    net, x = random_network((4, 7, 6, 3), dtype=dtype), random_inputs(900, 4, dtype=dtype)
    s = splinter(net, x, source, target)
    sites = list(gradsplinter.pattern_sites(net, source, target))
    words = gradsplinter.signatures(net, x, sites)
    assert (s.source, s.target) == (source, target % 4)
    assert s.counts.sum() == s.n_examples == len(x)
    assert torch.equal(s.counts, s.ids.bincount())
    assert torch.equal(s.first, s.first.sort().values)
    assert torch.equal(s.ids[s.first], torch.arange(s.n_modes))
    assert torch.equal(s.signatures[s.ids], words)
    assert len(set(map(tuple, s.signatures.tolist()))) == s.n_modes
    assert torch.equal(s.directions, torch.eye(net.widths[target], dtype=dtype))
    jacobian = reference.jacobian(net, s.signatures[:4], source, target)
    assert same_bits(s.jacobian()[:4], jacobian)
    assert same_bits(s.cross(), gradsplinter.cross(s.jacobian()))
    assert s.jacobian() is s.jacobian()
    for direction in range(s.n_directions):
        g = s.gradients(direction)
        of_modes = s.jacobian()[:, direction]
        assert torch.equal(g.values[g.index], of_modes)
        assert len(g.values) == len(of_modes.unique(dim=0))
        assert torch.equal(g.counts, g.index[s.ids].bincount())
        assert s.co_appearance()[direction] == len(g.values) / s.n_modes
        assert s.zero_gradients[direction] == (of_modes == 0).all(dim=1).sum()
        assert torch.equal(s.gradients(direction - s.n_directions).values, g.values)


def test_every_example_has_its_gradient():
    module = random_network((4, 9, 8, 3), dtype=torch.float64).to_module()
    x = random_inputs(300, 4, dtype=torch.float64)
    s = splinter(module, x)
    assert s.n_modes < 300
    expected = torch.func.vmap(torch.func.jacrev(module))(x)
    assert torch.allclose(s.jacobian()[s.ids], expected, rtol=1e-12, atol=1e-14)


def test_directions_combine_the_gradients_of_units():
    net, x = random_network((4, 9, 8, 3)), random_inputs(300, 4)
    directions = random_inputs(2, 8)
    units = splinter(net, x, 0, 2)
    s = splinter(net, x, 0, 2, directions)
    assert torch.equal(s.directions, directions)
    assert torch.equal(s.ids, units.ids)
    combined = torch.einsum("dj,ujh->udh", directions, units.jacobian())
    assert torch.allclose(s.jacobian(), combined, atol=1e-5)
    assert s.co_appearance().shape == (2,)


def test_zero_gradients_by_hand():
    # y1 = relu(x), y2 = 1 - relu(-x): at x > 0 only y1 has a gradient, at x < 0 only y2, at 0 none.
    net = ReluNetwork(
        [torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])],
        [torch.zeros(2), torch.tensor([0.0, 1.0])],
    )
    s = splinter(net, torch.tensor([[1.0], [2.0], [-1.0], [0.0], [-0.0]]))
    assert s.counts.tolist() == [2, 1, 2]
    assert s.jacobian().squeeze(2).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert s.zero_gradients.tolist() == [2, 2]
    assert [len(s.gradients(d).values) for d in (0, 1)] == [2, 2]
    assert s.orthogonality() == 1
    assert "zero gradients    4 of 6" in repr(s)


def test_one_example():
    s = splinter(random_network((4, 9, 2)), random_inputs(1, 4))
    assert (s.n_examples, s.n_modes, s.compression) == (1, 1, 1.0)
    assert (s.ids.tolist(), s.counts.tolist(), s.first.tolist()) == ([0], [1], [0])
    assert s.co_appearance().tolist() == [1, 1]
    cosine = torch.nn.functional.cosine_similarity(*s.jacobian()[0].double(), dim=0)
    assert s.orthogonality() == pytest.approx(1 - abs(cosine.item()), abs=1e-7)
    assert s.all_pairs_orthogonality() == pytest.approx(s.orthogonality(), abs=1e-7)


def test_no_hidden_layer():
    layer = torch.nn.Linear(4, 3)
    s = splinter(layer, random_inputs(50, 4))
    assert (s.n_modes, s.signatures.shape) == (1, (1, 0))
    assert s.counts.tolist() == [50]
    assert same_bits(s.jacobian()[0], layer.weight.detach())
    assert s.co_appearance().tolist() == [1, 1, 1]


def test_one_direction_cannot_be_compared():
    s = splinter(random_network((4, 9, 1)), random_inputs(5, 4))
    message = "directions must be at least 2 to compare them, got 1"
    for call in (s.orthogonality, s.orthogonality_matrix, s.all_pairs_orthogonality):
        with pytest.raises(ValueError, match=message):
            call()
    assert "orthogonality" not in repr(s)
    for direction in (1, -2):
        with pytest.raises(IndexError, match=rf"direction must be in 0\.\.0, got {direction}"):
            s.gradients(direction)


def test_arrays(tmp_path):
    net, x = random_network((4, 9, 2)), random_inputs(40, 4)
    expected = splinter(net, x).ids
    array = x.numpy().copy()
    read_only = array.copy()
    read_only.flags.writeable = False
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    reversed_twice = np.ascontiguousarray(array[::-1])[::-1]
    for values in (array, read_only, mapped, np.asfortranarray(array), reversed_twice):
        assert torch.equal(splinter(net, values).ids, expected)


def test_a_module_and_its_network_give_the_same():
    net, x = random_network((4, 9, 2)), random_inputs(40, 4)
    module = net.to_module()
    a, b = splinter(net, x), splinter(module, x.requires_grad_())
    assert same_bits(a.jacobian(), b.jacobian())
    assert torch.equal(a.ids, b.ids)
    assert a.net.fingerprint == b.net.fingerprint
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("widths", [(4, 16, 16, 2), (3, 40, 5, 30)])
@pytest.mark.parametrize("directions", [None, 1, 7])
def test_large_ones_are_scored_piece_by_piece(widths, directions, monkeypatch):
    net, x = random_network(widths), random_inputs(300, widths[0])
    if directions is not None:
        directions = random_inputs(directions, widths[-1], seed=2)
    whole = splinter(net, x, directions=directions)
    expected = [whole.gradients(d) for d in range(whole.n_directions)]
    whole.summary()
    for at_once in (1, 100, 700):
        monkeypatch.setattr("gradsplinter.splinters.AT_ONCE", at_once)
        s = splinter(net, x, directions=directions)
        assert torch.equal(s.zero_gradients, whole.zero_gradients)
        assert torch.equal(s.co_appearance(), whole.co_appearance())
        for d, gradients in enumerate(expected):
            for name in ("values", "index", "counts"):
                assert torch.equal(getattr(s.gradients(d), name), getattr(gradients, name))
        if s.n_directions > 1:
            assert torch.allclose(
                s.orthogonality_matrix(), whole.orthogonality_matrix(), rtol=0, atol=1e-14
            )
        assert "_jacobian" not in vars(s)


def test_the_summary_of_a_large_one_is_quick(monkeypatch):
    net = random_network((4, 300, 300, 10))
    s = splinter(net, random_inputs(2000, 4), 0, 2)
    monkeypatch.setattr("gradsplinter.splinters.IN_SUMMARY", 10**6)
    monkeypatch.setattr("gradsplinter.ops.jacobian", lambda *_: pytest.fail("computed"))
    assert "600,000, too many for this summary" in repr(s)


def test_gradients_that_overflow_are_said_to():
    big = torch.full((2, 2), 3e30)
    net = ReluNetwork([big, big], [torch.zeros(2), torch.zeros(2)])
    s = splinter(net, torch.tensor([[1e-20, 1e-20]]))
    assert "not all finite" in repr(s)
    assert "not all finite" in s._repr_html_()


def test_directions_are_a_copy():
    net, x = random_network((4, 7, 3)), random_inputs(50, 4)
    directions = torch.eye(3)
    s = splinter(net, x, directions=directions)
    directions.zero_()
    assert torch.equal(s.directions, torch.eye(3))


def test_equal_directions_are_not_less_than_parallel():
    net, x = random_network((4, 7, 3)), random_inputs(500, 4)
    s = splinter(net, x, directions=torch.ones(2, 3))
    assert s.orthogonality() >= 0


def test_gradients_whose_terms_cancel_to_zero():
    """Three rows of W, the third the mean of the others: exactly zero, and so counted."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(-8, 8, (2, 784), generator=generator).float()
    net = ReluNetwork(
        [
            torch.stack([first, second, (first + second) / 2]),
            torch.tensor([[1.0, 1.0, -2.0], [3.0, 3.0, -6.0], [1.0, 0.0, 0.0]]),
        ],
        [torch.full((3,), 1e6), torch.zeros(3)],
    )
    s = splinter(net, torch.rand(10, 784, generator=generator))
    assert s.zero_gradients.tolist() == [1, 1, 0]
    assert s.orthogonality() == 1
