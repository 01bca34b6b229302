"""The reference against cases worked out by hand, and its fma against the C library's."""

import ctypes
import ctypes.util
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gradsplinter import ReluNetwork, reference

F32, F64 = torch.float32, torch.float64
MAX32 = (2 - 2**-23) * 2.0**127
INF = math.inf


def same_number(a, b):
    return (math.isnan(a) and math.isnan(b)) or (
        a == b and math.copysign(1, a) == math.copysign(1, b)
    )


@pytest.mark.parametrize(
    ("a", "b", "c", "dtype", "expected"),
    [
        # (1 + e)(1 - e) - 1 = -e²; a product rounded on its own would be 1, and the result 0.
        (1 + 2**-52, 1 - 2**-52, -1, F64, -(2**-104)),
        (1 + 2**-23, 1 - 2**-23, -1, F32, -(2**-46)),
        # Ties go to even: 1 + ulp / 2 to 1, (1 + ulp) + ulp / 2 to 1 + 2 ulp; above the tie, up.
        (1, 1, 2**-24, F32, 1),
        (1 + 2**-23, 1, 2**-24, F32, 1 + 2**-22),
        (1, 1, 2**-24 + 2**-47, F32, 1 + 2**-23),
        (1, 1, 2**-53, F64, 1),
        (1 + 2**-52, 1, 2**-53, F64, 1 + 2**-51),
        # 1 + 2^-24 + 2^-60 is above the tie of float32. Rounded to float64 first it would be the tie
        # itself, and then 1. The product is 2^-60 (2^36 + 1) = 2^-60 · 4097 · 16773121.
        (4097 * 2**-30, 16773121 * 2**-30, 1, F32, 1 + 2**-23),
        # Subnormal: half of the least number is a tie, to even, which is 0; 3/4 of it is not.
        (2**-75, 2**-75, 0, F32, 0.0),
        (2**-75, -(2**-75), 0, F32, -0.0),
        (1.5 * 2**-75, 2**-75, 0, F32, 2**-149),
        (2**-149, 1, 2**-149, F32, 2**-148),
        (2**-600, 2**-475, 0, F64, 0.0),
        (1.5 * 2**-600, -(2**-475), 0, F64, -(2**-1074)),
        # Zeros: -0 only where product and summand both are; x - x is +0.
        (0.0, -1, -0.0, F32, -0.0),
        (-0.0, 5, -0.0, F64, -0.0),
        (0.0, -1, 0.0, F32, 0.0),
        (0.0, 5, -0.0, F32, 0.0),
        (1, 1, -1, F32, 0.0),
        (1, -1, 1, F32, 0.0),
        # Overflow: from half an ulp above the largest number, which is a tie to the even 2^128.
        (MAX32, 2, 0, F32, INF),
        (MAX32, -2, 0, F32, -INF),
        (MAX32, 1, 2.0**103, F32, INF),
        (MAX32, 1, 2.0**103 * (1 - 2**-24), F32, MAX32),
        (1e300, 1e300, 0, F64, INF),
        (1e300, -1e300, 0, F64, -INF),
        # A product too large for float64 is still finite before the sum with an infinity ...
        (1e300, 1e300, -INF, F64, -INF),
        # ... or with a number that brings it back.
        (2.0**1000, 2.0**24, -(2.0**1023), F64, 2.0**1023),
        (INF, 1, 1, F32, INF),
        (INF, 0, 1, F32, math.nan),
        (INF, 1, -INF, F32, math.nan),
        (math.nan, 0, 0, F64, math.nan),
    ],
)
def test_fma_by_hand(a, b, c, dtype, expected):
    for left, right in ((a, b), (b, a)):
        got = reference.fma(float(left), float(right), float(c), dtype)
        assert same_number(got, float(expected))


@pytest.fixture(scope="module")
def libm():
    path = ctypes.util.find_library("m")
    if path is None:
        pytest.skip("no C mathematics library to compare with")
    library = ctypes.CDLL(path)
    library.fma.argtypes, library.fma.restype = [ctypes.c_double] * 3, ctypes.c_double
    library.fmaf.argtypes, library.fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
    return library


@given(*[st.floats(width=32)] * 3)
@example(4097 * 2**-30, 16773121 * 2**-30, 1.0)
@settings(max_examples=400)
def test_fma_float32_is_the_c_librarys(libm, a, b, c):
    assert same_number(reference.fma(a, b, c, F32), libm.fmaf(a, b, c))


@given(*[st.floats()] * 3)
@example(1e300, 1e300, -INF)
@settings(max_examples=400)
def test_fma_float64_is_the_c_librarys(libm, a, b, c):
    assert same_number(reference.fma(a, b, c, F64), libm.fma(a, b, c))


@given(st.integers(1, 2**24 - 1), st.integers(1, 2**24 - 1), st.integers(-60, 60), st.booleans())
@settings(max_examples=400)
def test_fma_rounds_sums_of_like_size_as_the_c_library(libm, a, b, shift, minus):
    """Arbitrary floats seldom meet; here the product and the summand overlap."""
    left, right = a * 2.0**-24, b * 2.0**-24
    c = (a ^ b | 1) % 2**24 * 2.0 ** (shift - 24) * (-1 if minus else 1)
    assert same_number(reference.fma(left, right, c, F32), libm.fmaf(left, right, c))
    assert same_number(reference.fma(left, right, c, F64), libm.fma(left, right, c))


def test_chain_adds_in_the_stated_order():
    # The ulp of 1e8 in float32 is 8: 1 is lost when it meets 1e8, and kept when it comes last.
    assert reference.chain([1e8, 1.0, -1e8], [1.0] * 3, 0.0, F32) == 0
    assert reference.chain([1e8, -1e8, 1.0], [1.0] * 3, 0.0, F32) == 1
    assert reference.chain([2.0, 3.0], [5.0, 7.0], 1.0, F64) == 1 + 10 + 21
    assert reference.chain([], [], -0.0, F32) == 0


@pytest.fixture
def two_layers():
    """z^1 = (x1 - x2, x1 + x2 - 3), z^2 = (a1 - a2, a2, -a1), y = a1 + 2 a2 + 4 a3 + 1."""
    return ReluNetwork(
        [
            torch.tensor([[1.0, -1.0], [1.0, 1.0]]),
            torch.tensor([[1.0, -1.0], [0.0, 1.0], [-1.0, 0.0]]),
            torch.tensor([[1.0, 2.0, 4.0]]),
        ],
        [torch.tensor([0.0, -3.0]), torch.zeros(3), torch.ones(1)],
    )


def test_signatures_by_hand(two_layers):
    x = torch.tensor([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0], [0.0, 0.0]])
    # x = (3, 1): z^1 = (2, 1), a^1 = (2, 1), z^2 = (1, 1, -2), y = 1 + 2 + 1 = 4; bits 11, 011
    # x = (1, 3): z^1 = (-2, 1), a^1 = (0, 1), z^2 = (-1, 1, 0), y = 2 + 1 = 3; bits 10, 010
    # x = (2, 2): z^1 = (0, 1): the bit of 0 is off, so as (1, 3)
    # x = (0, 0): z^1 = (0, -3), a^1 = 0, z^2 = 0, y = 1; nothing is on
    words, y = reference.signatures(two_layers, x)
    assert words.tolist() == [[0b11, 0b011], [0b10, 0b010], [0b10, 0b010], [0, 0]]
    assert y.tolist() == [[4], [3], [3], [1]]
    assert reference.signatures(two_layers, x, [2])[0].tolist() == [[3], [2], [2], [0]]
    assert reference.signatures(two_layers, x, [])[0].shape == (4, 0)


def test_signatures_use_a_second_word_from_unit_64():
    weight = torch.zeros(65, 1)
    weight[0], weight[63], weight[64] = 1, 1, 1
    net = ReluNetwork([weight, torch.ones(1, 65)], [torch.zeros(65), torch.zeros(1)])
    words, y = reference.signatures(net, torch.tensor([[1.0], [-1.0]]))
    assert words.tolist() == [[1 - 2**63, 1], [0, 0]]  # bit 63 is the sign of an int64
    assert y.tolist() == [[3], [0]]


def test_unique_rows_by_hand():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [2.0, 1.0], [2.0, 0.0]])
    first, counts, ids = reference.unique_rows(rows)
    assert first.tolist() == [0, 1, 3]
    assert counts.tolist() == [2, 2, 1]
    assert ids.tolist() == [0, 1, 0, 2, 1]


def test_jacobian_by_hand(two_layers):
    patterns = torch.tensor([[0b11, 0b011], [0b10, 0b010], [0b01, 0b111], [0, 0b111]])
    # all of y: W^3 = (1, 2, 4), masked by site 2, times W^2, masked by site 1, times W^1
    # 11, 011: (1, 2, 0) W^2 = (1, 1);  (1, 1) W^1 = (2, 0)
    # 10, 010: (0, 2, 0) W^2 = (0, 2);  2 · second row = (2, 2)
    # 01, 111: (1, 2, 4) W^2 = (-3, 1); -3 · first row = (-3, 3)
    # 00, 111: nothing is on at site 1, so 0
    jacobian = reference.jacobian(two_layers, patterns)
    assert jacobian.squeeze(1).tolist() == [[2, 0], [2, 2], [-3, 3], [0, 0]]
    # From site 1 only the bits of site 2 count.
    jacobian = reference.jacobian(two_layers, patterns[:, 1:], source=1)
    assert jacobian.squeeze(1).tolist() == [[1, 1], [0, 2], [-3, 1], [-3, 1]]
    # Target 1 is after its ReLU; its directions (1, 1) and (2, -1), pattern 11 and 10.
    directions = torch.tensor([[1.0, 1.0], [2.0, -1.0]])
    jacobian = reference.jacobian(two_layers, patterns[:2, :1], 0, 1, directions)
    assert jacobian.tolist() == [[[2, 0], [1, -3]], [[1, 1], [-1, -1]]]


def test_nearest_signatures_by_hand():
    queries = torch.tensor([[0b1011, 0], [-1, 0]])
    references = torch.tensor([[0b0011, 0b11], [0b1011, 0b11], [0, -1], [0b1000, 0b00], [0, -1]])
    # Query 0: 1 + 2, 0 + 2, 3 + 64, 2 + 0, 3 + 64. Query 1: 62 + 2, 61 + 2, 64 + 64, 63 + 0, 128.
    distance, index = reference.nearest_signatures(queries, references, [0] * 5, 1)
    assert distance.tolist() == [[2], [63]]
    assert index.tolist() == [[1], [1]]  # the first of two
    distance, index = reference.nearest_signatures(queries, references, [2, 0, 0, 2, 3], 4)
    assert distance.tolist() == [[2, -1, 2, 67], [63, -1, 63, 128]]
    assert index.tolist() == [[1, -1, 3, 4], [1, -1, 3, 4]]


def test_cross_by_hand():
    jacobian = torch.tensor([[[3.0, 4.0], [0.0, 2.0]], [[0.0, 0.0], [1.0, 0.0]]])
    dots = reference.cross(jacobian, normalize=False)
    assert dots.tolist() == [[[25, 8], [8, 4]], [[0, 0], [0, 1]]]
    # 8 / (5 · 2), rounded to float32; a zero gradient has cosine 0 even with itself.
    cosines = reference.cross(jacobian)
    assert torch.equal(cosines, torch.tensor([[[1.0, 0.8], [0.8, 1.0]], [[0.0, 0.0], [0.0, 1.0]]]))


def test_cross_of_large_and_infinite_gradients():
    # 1e30² overflows float32 but not the sums, which are float64.
    large = torch.tensor([[[1e30, 0.0], [1e30, 1e30]]])
    assert torch.allclose(reference.cross(large)[0, 0, 1], torch.tensor(0.5**0.5))
    assert reference.cross(large, normalize=False).flatten().tolist() == [INF] * 4
    infinite = torch.tensor([[[INF, 0.0], [1.0, 1.0]]])
    assert reference.cross(infinite)[0, 0, 1].isnan()
