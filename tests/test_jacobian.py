"""Jacobians: equal to the reference bit by bit, and to autograd in float64 within rounding."""

import pytest
import torch
from networks import random_inputs, random_network, same_bits

import gradsplinter
from gradsplinter import ops, reference

pytestmark = pytest.mark.usefixtures("restore_threads")

F32, F64 = torch.float32, torch.float64
SPANS = [(s, t) for s in range(4) for t in range(s + 1, 5)]  # of a network with L = 4


def patterns_of(net, n, source, target, seed=2):
    x = random_inputs(n, net.widths[0], seed, net.dtype)
    return gradsplinter.signatures(net, x, list(gradsplinter.pattern_sites(net, source, target)))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(
    "widths",
    [(3, 1, 2), (2, 63, 1), (1, 64, 2), (65, 3, 2), (2, 65, 7), (1, 130, 1), (17, 9, 34, 3)],
)
@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_equals_the_reference(dtype, widths):
    net = random_network(widths, dtype=dtype)
    patterns = patterns_of(net, 2, 0, len(widths) - 1)
    got = gradsplinter.jacobian(net, patterns)
    assert same_bits(got, reference.jacobian(net, patterns))


@pytest.mark.parametrize(("source", "target"), SPANS)
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.usefixtures("poisoned")
def test_every_span_equals_the_reference(source, target, dtype):
    net = random_network((3, 6, 4, 5, 2), dtype=dtype)
    patterns = patterns_of(net, 3, source, target)
    directions = random_inputs(3, net.widths[target], dtype=dtype)
    directions[1] = 0
    for given_directions in (None, directions):
        expected = reference.jacobian(net, patterns, source, target, given_directions)
        for name in ops.instruction_sets():
            with ops.instruction_set(name):
                got = gradsplinter.jacobian(net, patterns, source, target, given_directions)
            assert same_bits(got, expected), name


def autograd(net, inner, directions, source, target):
    """∂⟨v, a^target⟩/∂a^source at the values `inner` of a^source, by torch."""

    def forward(a):
        for layer in range(source, target):
            a = net.weights[layer] @ a + net.biases[layer]
            a = a.relu() if layer + 1 < net.depth else a
        return directions @ a

    return torch.func.vmap(torch.func.jacrev(forward))(inner)


@pytest.mark.parametrize(("source", "target"), SPANS)
def test_equals_autograd(source, target):
    """Both are within gamma · |V| |W^target| ... |W^(source+1)| of the exact gradient.

    gamma is that of all sums together, n u / (1 - n u); twice that of one sum after the other.
    """
    net = random_network((5, 70, 12, 9, 3), dtype=F64)
    x = random_inputs(40, 5, dtype=F64)
    inner = x
    for layer in range(source):
        inner = (inner @ net.weights[layer].T + net.biases[layer]).relu()
    directions = random_inputs(4, net.widths[target], seed=3, dtype=F64)
    patterns = patterns_of(net, 40, source, target, seed=1)
    got = gradsplinter.jacobian(net, patterns, source, target, directions)
    bound = directions.abs()
    for weight in reversed(net.weights[source:target]):
        bound = bound @ weight.abs()
    bound *= 2 * 2 * sum(net.widths) * 2**-53
    difference = (got - autograd(net, inner, directions, source, target)).abs()
    assert (difference <= bound).all()
    assert bound.max() < 1e-10


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.usefixtures("poisoned")
def test_same_bits_for_any_batch_threads_and_instruction_set(dtype):
    net = random_network((33, 65, 130, 12), dtype=dtype)
    patterns = patterns_of(net, 120, 0, 3)
    expected = gradsplinter.jacobian(net, patterns)
    for name in ops.instruction_sets():
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for batch in (1, 7, 64, 120):
                with ops.instruction_set(name):
                    parts = [gradsplinter.jacobian(net, p) for p in patterns.split(batch)]
                assert same_bits(torch.cat(parts), expected), (name, threads, batch)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 10, 13, 27])
@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_a_direction_does_not_depend_on_the_others(count):
    """Directions are computed several at a time, in groups of different sizes."""
    net = random_network((19, 20, 30))
    patterns = patterns_of(net, 5, 0, 2)
    directions = random_inputs(count, 30)
    together = gradsplinter.jacobian(net, patterns, directions=directions)
    alone = [gradsplinter.jacobian(net, patterns, directions=d[None]) for d in directions]
    assert same_bits(together, torch.cat(alone, dim=1))


@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_sizes_of_zero_and_one():
    net = random_network((3, 4, 2))
    patterns = patterns_of(net, 3, 0, 2)
    assert gradsplinter.jacobian(net, patterns[:0]).shape == (0, 2, 3)
    assert gradsplinter.jacobian(net, patterns, directions=torch.empty(0, 2)).shape == (3, 0, 3)
    assert gradsplinter.jacobian(net, torch.zeros(2, 1, dtype=torch.int64)).eq(0).all()
    linear = random_network((3, 2))
    got = gradsplinter.jacobian(linear, torch.empty(4, 0, dtype=torch.int64))
    assert same_bits(got, linear.weights[0].expand(4, 2, 3))


def test_off_units_are_skipped_and_not_multiplied_by_zero():
    # The first unit's weight and direction overflow: infinity times 0 would be NaN.
    net = gradsplinter.ReluNetwork(
        [torch.tensor([[3e38], [2.0]]), torch.tensor([[3e38, 5.0]]), torch.tensor([[10.0]])],
        [torch.zeros(2), torch.zeros(1), torch.zeros(1)],
    )
    got = gradsplinter.jacobian(net, torch.tensor([[0b10, 1], [0b01, 1]]))
    assert got.flatten().tolist() == [100, torch.inf]


def test_views_and_inputs_that_require_gradients():
    net = random_network((3, 66, 5, 4))
    patterns = patterns_of(net, 12, 0, 3)
    directions = random_inputs(5, 8)
    for some, vectors in (
        (patterns[::3], directions[:, ::2]),
        (patterns.t().contiguous().t(), directions[:, 3:7]),
        (patterns[:1].expand(4, -1), directions[:4, :4].t()),
        (patterns, directions[:, :4].clone().requires_grad_()),
    ):
        got = gradsplinter.jacobian(net, some, directions=vectors)
        plain = vectors.detach().clone().contiguous()
        assert same_bits(got, gradsplinter.jacobian(net, some.contiguous(), directions=plain))
        assert not got.requires_grad


def test_into_memory_of_the_caller():
    net = random_network((4, 70, 6, 3))
    patterns = patterns_of(net, 20, 0, 3)
    expected = gradsplinter.jacobian(net, patterns)
    out = torch.full((20, 3, 4), torch.nan)
    assert gradsplinter.jacobian(net, patterns, out=out) is out
    assert same_bits(out, expected)
    inner = torch.full((20, 2, 70), torch.nan)
    directions = random_inputs(2, 6)
    words = patterns_of(net, 20, 1, 2)
    gradsplinter.jacobian(net, words, 1, 2, directions, out=inner)
    assert same_bits(inner, gradsplinter.jacobian(net, words, 1, 2, directions))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (torch.empty(5, 3, 5), ValueError, r"out must be contiguous and of shape \[5, 3, 4\], got \[5, 3, 5\]$"),
        (torch.empty(5, 4, 3).mT, ValueError, r"out must be .* got \[5, 3, 4\], not contiguous$"),
        (torch.empty(5, 12), ValueError, "out must have 3 dimensions, got 2"),
        (torch.empty(5, 3, 4, dtype=F64), TypeError, "out must be float32, got float64"),
        (torch.empty(5, 3, 4, requires_grad=True), ValueError, "out must not require gradients"),
        (torch.empty(5, 3, 4, device="meta"), ValueError, "out must be on the network's device cpu, got meta"),
        ([], TypeError, "out must be a torch.Tensor, got list"),
    ],
)  # fmt: skip
def test_bad_out(out, error, message):
    net = random_network((4, 7, 3))
    with pytest.raises(error, match=message):
        gradsplinter.jacobian(net, patterns_of(net, 5, 0, 2), out=out)
