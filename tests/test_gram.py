"""Gram matrices without the Jacobian, by both ways: equal to the reference bit by bit, to `cross`
where gradients are made, else within rounding."""

import pytest
import torch
from networks import random_inputs, random_network, same_bits

import gradsplinter
from gradsplinter import ReluNetwork, ops, reference

pytestmark = pytest.mark.usefixtures("restore_threads", "libm_in_reference")

F32, F64 = torch.float32, torch.float64
SPANS = [(s, t) for s in range(4) for t in range(s + 1, 5)]  # of a network with L = 4


def patterns_of(net, n, source=0, target=-1):
    x = random_inputs(n, net.widths[0], 2, net.dtype)
    return gradsplinter.signatures(net, x, list(gradsplinter.pattern_sites(net, source, target)))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "widths",
    [
        (3, 1, 2),
        (9, 3, 11),
        (60, 30, 17),
        (66, 33, 2),
        (20, 9, 4, 3),
        (5, 63, 1),
        (1, 64, 2),
        (2, 65, 7),
        (3, 130, 17),
        (7, 9, 4, 3),
    ],
)
@pytest.mark.usefixtures("poisoned")
def test_equals_the_reference(dtype, normalize, widths):
    net = random_network(widths, dtype=dtype)
    patterns = patterns_of(net, 2)
    expected = reference.gram(net, patterns, normalize=normalize)
    for name in ops.instruction_sets():
        with ops.instruction_set(name):
            got = ops.gram(net, patterns, normalize=normalize)
        assert same_bits(got, expected), name


@pytest.mark.parametrize(("source", "target"), SPANS)
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.usefixtures("poisoned")
def test_every_span_equals_the_reference(source, target, dtype):
    net = random_network((12, 6, 3, 5, 2), dtype=dtype)
    patterns = patterns_of(net, 3, source, target)
    directions = random_inputs(3, net.widths[target], dtype=dtype)
    directions[1] = 0
    for given in (None, directions):
        expected = reference.gram(net, patterns, source, target, given)
        for name in ops.instruction_sets():
            with ops.instruction_set(name):
                got = ops.gram(net, patterns, source, target, given)
            assert same_bits(got, expected), name


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("modes", [0, 1, 15, 16, 17, 100, 129])
@pytest.mark.parametrize("width", [20, 600])
@pytest.mark.usefixtures("poisoned")
def test_neither_threads_nor_blocks_change_bits(threads, modes, width):
    net = random_network((width, 300, 7, 3))  # 300 columns of K are worked off in three pieces
    patterns = patterns_of(net, 129)
    torch.set_num_threads(1)
    expected = torch.cat(
        [ops.gram(net, patterns[i : i + 1]) for i in range(modes)] or [torch.empty(0, 3, 3)]
    )
    torch.set_num_threads(threads)
    assert same_bits(ops.gram(net, patterns[:modes]), expected)


@pytest.mark.parametrize("widths", [(784, 64, 64, 10), (200, 30, 5), (30, 200, 40, 12), (50, 9)])
def test_agrees_with_cross(widths):
    """G and A K Aᵀ are rounded differently: by some float32 of the lengths of the terms."""
    net = random_network(widths)
    patterns = patterns_of(net, 200)
    exact = gradsplinter.cross(gradsplinter.jacobian(
        ReluNetwork([w.double() for w in net.weights], [b.double() for b in net.biases]), patterns
    ))  # fmt: skip
    assert (ops.gram(net, patterns) - exact).abs().max() < 1e-5
    dots = ops.gram(net, patterns, normalize=False)
    cosines = ops.gram(net, patterns)
    lengths = dots.diagonal(dim1=1, dim2=2).sqrt()
    assert torch.allclose(dots, cosines * lengths[:, :, None] * lengths[:, None, :], atol=1e-5)
    assert torch.equal(cosines, cosines.mT)


def test_gradients_that_are_zero():
    """Dead modes, and units whose gradients cancel, exactly or but for a rounding."""
    row, other, far = random_inputs(3, 50)
    first = torch.stack([row, row, -row, other, -(row + 3 * other), far])
    above = torch.tensor([[1.0, -1, 0, 0, 0, 0], [2, 0, 2, 0, 0, 1], [1, 0, 0, 3, 1, 0]])
    net = ReluNetwork([first, above], [torch.ones(6), torch.zeros(3)])
    patterns = torch.arange(64).unsqueeze(1)
    jacobian = gradsplinter.jacobian(net, patterns)
    lengths = jacobian.double().norm(dim=2)
    rounding = (lengths > 0) & (lengths < 1e-5)
    assert rounding.any()
    cosines = ops.gram(net, patterns)
    expected = gradsplinter.cross(jacobian)
    assert torch.equal(cosines.diagonal(dim1=1, dim2=2) == 0, (jacobian == 0).all(dim=2))
    on = gradsplinter.unpack_bits(patterns, [6])[0]
    terms = (above.abs() * on[:, None]) @ first.norm(dim=1)
    unsure = ((lengths < 2**-10 * terms) & (terms > 0)).any(dim=1)
    assert same_bits(cosines[unsure], expected[unsure])
    assert (cosines - expected).abs().max() < 1e-6
    assert not torch.equal(cosines, expected)
    assert same_bits(cosines, reference.gram(net, patterns))


@pytest.mark.parametrize("scale", [1e-38, 1e-33, 1e-30, 1e-25, 1e-20, 1e10, 1e17, 1e19, 1e25])
def test_gradients_that_leave_the_range_of_float32(scale):
    """Zeros, subnormal and infinite gradients count as they do for cross."""
    net = random_network((40, 10, 7, 3))
    net = ReluNetwork([w * scale for w in net.weights[:2]] + [net.weights[2]], net.biases)
    patterns = patterns_of(random_network((40, 10, 7, 3)), 50)
    jacobian = gradsplinter.jacobian(net, patterns)
    expected = gradsplinter.cross(jacobian)
    cosines = ops.gram(net, patterns)
    assert same_bits(cosines, reference.gram(net, patterns))
    assert torch.equal(cosines.diagonal(dim1=1, dim2=2) == 0, (jacobian == 0).all(dim=2))
    assert (cosines - expected).abs().nan_to_num().max() < 1e-5
    assert torch.equal(cosines.isnan(), expected.isnan())


def test_weights_whose_products_vanish():
    """Where the gradients are zero, so are the cosines, and the score."""
    tiny = torch.full((1, 4), 1e-30)
    net = ReluNetwork(
        [tiny, tiny[:, :1], torch.ones(2, 1)], [torch.ones(1), torch.ones(1), torch.zeros(2)]
    )
    s = gradsplinter.splinter(net, torch.ones(1, 4))
    assert s.zero_gradients.tolist() == [1, 1]
    assert not ops.gram(net, s.signatures).any()


@pytest.mark.parametrize(("widths", "dtype"), [((19, 10, 3), F32), ((40, 10, 3), F64)])
def test_has_the_bits_of_cross_where_gradients_are_made(widths, dtype):
    net = random_network(widths, dtype=dtype)
    patterns = patterns_of(net, 100)
    for normalize in (True, False):
        expected = gradsplinter.cross(gradsplinter.jacobian(net, patterns), normalize)
        assert same_bits(ops.gram(net, patterns, normalize=normalize), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 2, dtype=torch.int64),), r"patterns must have shape \[U, 1\] to hold"),
        ((torch.tensor([[1 << 10]]),), "patterns must have no bits after the last unit"),
        ((torch.tensor([[1]]), 2), r"source must be a site in 0\.\.1, got 2"),
        ((torch.tensor([[1]]), 0, -1, torch.ones(1, 2)), r"directions must have shape \[D, 3\]"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ops.gram(random_network((4, 5, 3)), *arguments)
