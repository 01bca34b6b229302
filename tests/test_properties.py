"""Every kernel against the reference, on random networks of awkward numbers."""

import math
from itertools import pairwise, product
from typing import NamedTuple

import pytest
import torch
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from networks import libm_fma, same_bits

import gradsplinter
from gradsplinter import ReluNetwork, ops, reference

pytestmark = pytest.mark.usefixtures("restore_threads", "poisoned", "libm_in_reference")

F32, F64 = torch.float32, torch.float64
exact_fma = reference.fma


@pytest.mark.parametrize("dtype", [F32, F64])
def test_fma_of_the_c_library_is_that_of_the_reference(dtype):
    bits = 32 if dtype == F32 else 64
    number = st.one_of(st.floats(width=bits), st.floats(-2, 2, width=bits))

    @given(number, number, number)
    def equal(a, b, c):
        expected, got = exact_fma(a, b, c, dtype), libm_fma[dtype](a, b, c)
        assert same_bits(torch.tensor(expected, dtype=F64), torch.tensor(got, dtype=F64))

    equal()


KINDS = ("normal", "integers", "sparse", "subnormal", "huge")


def numbers(kind, shape, dtype, generator):
    values = torch.randn(shape, dtype=dtype, generator=generator)
    if kind == "integers":  # sums are exact, and many of them 0
        return values.round()
    if kind == "sparse":  # zeros of both signs
        return values * (torch.rand(shape, generator=generator) < 0.3)
    if kind == "subnormal":
        return values * (torch.finfo(dtype).tiny / 16)
    if kind == "huge":  # some products overflow
        return values * torch.finfo(dtype).max ** 0.5
    return values / math.sqrt(shape[-1] or 1)


class Case(NamedTuple):
    """A network and n inputs, made of a seed."""

    dtype: torch.dtype
    widths: list[int]
    kinds: list[str]  # of the inputs and of each layer
    repeats: bool  # units of equal weights, units that are never on, inputs that occur twice
    n: int
    seed: int

    def generator(self):
        return torch.Generator().manual_seed(self.seed)

    def build(self):
        generator = self.generator()

        def matrix(kind, rows, columns):
            values = numbers(kind, (rows, columns), self.dtype, generator)
            if self.repeats:
                values = values[torch.randint(rows, (rows,), generator=generator)]
            return values

        weights, biases = [], []
        for kind, (inputs, units) in zip(self.kinds[1:], pairwise(self.widths), strict=True):
            both = matrix(kind, units, inputs + 1)
            if self.repeats:
                both[torch.rand(units, generator=generator) < 0.1] = 0
            weights.append(both[:, :-1])
            biases.append(both[:, -1])
        return ReluNetwork(weights, biases), matrix(self.kinds[0], self.n, self.widths[0])


dtypes, seeds = st.sampled_from([F32, F64]), st.integers(0, 2**32 - 1)
widths_around_words = st.one_of(
    st.integers(1, 9), st.integers(1, 130), st.sampled_from([15, 16, 17, 63, 64, 65, 127, 128, 129])
)


@st.composite
def cases(draw, most_weights=12_000, most_inputs=1):
    """Depths 1 to 8; a layer is as wide as drawn unless there would be too many weights."""
    widths, left = [draw(widths_around_words)], most_weights
    for _ in range(draw(st.integers(1, 8))):
        widths.append(max(1, min(draw(widths_around_words), left // widths[-1])))
        left -= widths[-1] * widths[-2]
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=len(widths), max_size=len(widths)))
    if draw(st.booleans()):
        kinds = [kinds[0]] * len(widths)
    n = draw(st.integers(1, most_inputs))
    return Case(draw(dtypes), widths, kinds, draw(st.booleans()), n, draw(seeds))


def check(data, rows, compute, compute_by_reference):
    """The reference's bits for some rows, and the same bits for all of them however computed."""
    expected = compute(rows)
    index = st.integers(0, len(rows) - 1)
    some = data.draw(st.lists(index, min_size=1, max_size=2), label="rows")
    for got, want in zip(expected, compute_by_reference(rows[some]), strict=True):
        assert same_bits(got[some], want)
    for name, threads in product(ops.instruction_sets(), (1, 2, 3)):
        batch = data.draw(st.sampled_from([1, 7, 64, len(rows)]), label="batch")
        torch.set_num_threads(threads)
        with ops.instruction_set(name):
            parts = [compute(part) for part in rows.split(batch)]
        for got, want in zip(zip(*parts, strict=True), expected, strict=True):
            assert same_bits(torch.cat(got), want), (name, threads, batch)


@settings(max_examples=settings().max_examples * 3 // 5)
@given(cases(most_weights=30_000, most_inputs=150), st.data())
def test_signatures(case, data):
    net, x = case.build()
    sites = [s for s in range(1, net.depth) if data.draw(st.booleans(), label="site")]
    check(
        data,
        x,
        lambda x: gradsplinter.signatures(net, x, sites, outputs=True),
        lambda x: reference.signatures(net, x, sites),
    )
    words, _ = gradsplinter.signatures(net, x, sites, outputs=True)
    assert same_bits(gradsplinter.signatures(net, x, sites), words)
    expected = gradsplinter.unique_rows(words)
    found = gradsplinter.unique_signatures(net, x, sites)
    assert same_bits(found.signatures, words[expected.first])
    for name in ("first", "counts", "ids"):
        assert same_bits(getattr(found, name), getattr(expected, name))


def gamma(n, unit):
    """Higham (Accuracy and Stability, 3.1): the relative error of a sum of n terms, in any order."""
    return n * unit / (1 - n * unit)


def with_boundaries_through_inputs(net, x):
    """The same weights, and biases for which each unit is within rounding of 0 at one input."""
    a, biases = x.double(), []
    for weight in net.weights:
        z = a @ weight.double().T
        unit = torch.arange(len(weight))
        biases.append(-z[unit % len(x), unit].to(net.dtype))
        a = (z + biases[-1]).relu()
    return ReluNetwork(net.weights, biases)


@given(
    st.lists(widths_around_words, min_size=3, max_size=9),
    dtypes,
    st.sampled_from(["normal", "integers", "sparse"]),
    seeds,
)
@example([4, 32, 32, 2], F32, "normal", 0)
@example([64, 130, 65, 65, 10], F32, "normal", 0)
def test_bits_differ_from_torchs_only_within_rounding(widths, dtype, kind, seed):
    """Ours and torch's z are within e of z64, computed in float64.

    Each is W a + b of its own a: a sum of h + 1 terms with at most h + 1 roundings of each, which
    are gamma (|W| |a| + |b|) in all. And |a| <= |a64| + |a - a64|, where a ReLU does not make
    |a - a64| larger than the e of its layer. So, from layer to layer,
    e' = (gamma + gamma64) (|W| (|a64| + e) + |b|) + |W| e.
    """
    torch.set_num_threads(1)
    net, x = Case(dtype, widths, [kind] * len(widths), False, 500, seed).build()
    net = with_boundaries_through_inputs(net, x)
    words, y = gradsplinter.signatures(net, x, outputs=True)
    ours = gradsplinter.unpack_bits(words, widths[1:-1])
    a, a64 = x, x.double()
    error = torch.zeros_like(a64)
    differences = 0
    for site, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True), 1):
        w, b = weight.double(), bias.double()
        terms = w.shape[1] + 1
        relative = gamma(terms, torch.finfo(dtype).eps / 2) + gamma(terms, 2**-53)
        error = relative * ((a64 + error).abs() @ w.abs().T + b.abs()) + error @ w.abs().T
        error *= 1 + 1e-9  # this is computed in float64 too
        z = torch.nn.functional.linear(a, weight, bias)
        z64 = torch.nn.functional.linear(a64, w, b)
        assert ((z - z64).abs() <= error).all()
        if site == net.depth:
            assert ((y - z64).abs() <= error).all()
            break
        unclear = z64.abs() <= error
        for bits in (ours[site - 1], z > 0):
            assert torch.equal(bits | unclear, (z64 > 0) | unclear)
        differences += int((ours[site - 1] != (z > 0)).sum())
        a, a64 = z.relu(), z64.relu()
    units = sum(widths[1:-1])
    event(f"fewer than {10 ** len(str(differences))} bits differ from torch's")
    if min(widths[1:-1]) >= 30:  # else a layer may be off as a whole for many inputs
        assert differences <= units * (1 + 1e-4 * len(x))  # hardly any but at the boundaries


def draw_chain(data, case, modes):
    """A span of the network, patterns that inputs have or that none has, directions or None."""
    net, x = case.build()
    target = data.draw(st.integers(1, net.depth), label="target")
    source = data.draw(st.integers(0, target - 1), label="source")
    sites = gradsplinter.pattern_sites(net, source, target)
    generator = case.generator()
    if data.draw(st.booleans(), label="patterns of inputs"):
        x = x[torch.randint(case.n, (modes,), generator=generator)]
        patterns = gradsplinter.signatures(net, x, list(sites))
    else:
        on = [torch.rand(modes, net.widths[site], generator=generator) < 0.5 for site in sites]
        packed = [gradsplinter.pack_bits(bits) for bits in on]
        patterns = torch.cat([torch.empty(modes, 0, dtype=torch.int64), *packed], dim=1)
    directions = None
    if net.widths[target] > 6 or data.draw(st.booleans(), label="directions"):
        count = data.draw(st.sampled_from([1, 2, 3, 5, 6, 7, 11, 13]), label="directions")
        kind = data.draw(st.sampled_from(KINDS), label="kind")
        directions = numbers(kind, (count, net.widths[target]), net.dtype, generator)
    return net, patterns, source, target, directions


@given(cases(most_weights=4000, most_inputs=20), st.integers(1, 40), st.data())
def test_jacobian(case, modes, data):
    net, patterns, *span = draw_chain(data, case, modes)
    check(
        data,
        patterns,
        lambda some: (gradsplinter.jacobian(net, some, *span),),
        lambda some: (reference.jacobian(net, some, *span),),
    )


@given(cases(most_weights=6000, most_inputs=20), st.integers(1, 40), st.booleans(), st.data())
def test_gram(case, modes, normalize, data):
    net, patterns, *span = draw_chain(data, case, modes)
    check(
        data,
        patterns,
        lambda some: (ops.gram(net, some, *span, normalize),),
        lambda some: (reference.gram(net, some, *span, normalize),),
    )


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 13), st.integers(1, 300)),
    dtypes,
    st.sampled_from(KINDS),
    st.booleans(),
    seeds,
    st.data(),
)
def test_cross(shape, dtype, kind, normalize, seed, data):
    generator = torch.Generator().manual_seed(seed)
    jacobian = numbers(kind, shape, dtype, generator)
    jacobian[torch.rand(shape[:2], generator=generator) < 0.2] *= -0.0
    check(
        data,
        jacobian,
        lambda some: (gradsplinter.cross(some, normalize),),
        lambda some: (reference.cross(some, normalize),),
    )


@settings(max_examples=settings().max_examples * 2 // 5)
@given(
    st.sampled_from([torch.int64, F32, F64]),
    st.sampled_from(KINDS),
    st.one_of(st.integers(0, 40), st.integers(1000, 5000), st.integers(65_000, 80_000)),
    st.integers(0, 20),
    st.integers(1, 100),
    st.sampled_from([0, 1, 4, 10, 33, 63, 64]),
    seeds,
)
def test_unique_rows(dtype, kind, n, width, percent, hash_bits, seed):
    """n rows out of so many percent of n, for each number of threads."""
    generator = torch.Generator().manual_seed(seed)
    choices = 1 + n * percent // 100
    pool = numbers(kind, (choices, width), F32 if dtype == F32 else F64, generator)
    rows = pool.view(dtype)[torch.randint(choices, (n,), generator=generator)]
    if choices > 5000:
        hash_bits = max(hash_bits, 20)  # or collisions take minutes
    expected = reference.unique_rows(rows)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found = torch.ops.gradsplinter.unique_rows(rows, hash_bits)
        for got, want in zip(found, expected, strict=True):
            assert same_bits(got, want), threads
