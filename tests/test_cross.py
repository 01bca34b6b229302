"""Dot products within a mode: equal to the reference bit by bit, and to torch's cosines."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import random_inputs, same_bits

import gradsplinter
from gradsplinter import ops, reference

pytestmark = pytest.mark.usefixtures("restore_threads")

F32, F64 = torch.float32, torch.float64


def gradients(*shape, dtype=F32, seed=0):
    return random_inputs(math.prod(shape[:-1]), shape[-1], seed, dtype).view(shape)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 2, 63), (9, 3, 4), (2, 4, 64), (3, 5, 2), (1, 2, 130)]
)
@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_equals_the_reference(dtype, normalize, shape):
    jacobian = gradients(*shape, dtype=dtype)
    got = gradsplinter.cross(jacobian, normalize)
    assert same_bits(got, reference.cross(jacobian, normalize))
    assert same_bits(got, got.transpose(1, 2).contiguous())


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("shape", [(70, 3, 1000), (70, 13, 33)])
@pytest.mark.usefixtures("poisoned")
def test_same_bits_for_any_batch_threads_and_instruction_set(dtype, shape):
    jacobian = gradients(*shape, dtype=dtype)
    for normalize in (True, False):
        expected = gradsplinter.cross(jacobian, normalize)
        for name in ops.instruction_sets():
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                for batch in (1, 7, 64, len(jacobian)):
                    with ops.instruction_set(name):
                        parts = [gradsplinter.cross(j, normalize) for j in jacobian.split(batch)]
                    assert same_bits(torch.cat(parts), expected), (name, threads, batch)


@pytest.mark.parametrize(("dtype", "tolerance"), [(F32, 2**-23), (F64, 1e-13)])
@pytest.mark.parametrize("width", [1, 17, 784])
def test_equals_torch(dtype, tolerance, width):
    """float32 is rounded once, from a float64 sum: half an ulp of a number up to 1, or exact 1."""
    jacobian = gradients(20, 6, width, dtype=dtype)
    units = torch.nn.functional.normalize(jacobian.double(), dim=2)
    cosines = gradsplinter.cross(jacobian)
    assert (cosines - units @ units.transpose(1, 2)).abs().max() <= tolerance
    assert (cosines.diagonal(dim1=1, dim2=2) == 1).all()
    exact = jacobian.double() @ jacobian.double().transpose(1, 2)
    dots = gradsplinter.cross(jacobian, normalize=False)
    assert torch.allclose(dots.double(), exact, rtol=tolerance, atol=width * tolerance * 10)


@pytest.mark.usefixtures("instruction_set")
def test_zero_gradients_have_cosine_zero_and_show_on_the_diagonal():
    jacobian = gradients(40, 3, 5)
    jacobian[7, 1] = 0
    jacobian[8] = -0.0
    cosines = gradsplinter.cross(jacobian)
    diagonal = torch.ones(40, 3)
    diagonal[7, 1] = 0
    diagonal[8] = 0
    assert torch.equal(cosines.diagonal(dim1=1, dim2=2), diagonal)
    assert (cosines[7, 1] == 0).all()
    assert (cosines[7, :, 1] == 0).all()
    assert cosines[7, 0, 2] != 0
    assert (cosines[8] == 0).all()


@pytest.mark.usefixtures("instruction_set")
def test_tiny_and_huge_gradients_of_float32_keep_their_cosines():
    """Their squares are beyond float32 and within float64."""
    for scale in (1e-45, 1e-30, 1e38):  # the first is the least subnormal number
        jacobian = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]]]) * scale
        cosines = gradsplinter.cross(jacobian)
        half = 0.5**0.5
        expected = torch.tensor([[[1, half, 0], [half, 1, -half], [0, -half, 1]]])
        assert torch.allclose(cosines, expected, rtol=0, atol=1e-7)


@pytest.mark.usefixtures("instruction_set")
def test_cosines_never_exceed_one():
    row = gradients(500, 1, 9, dtype=F64)
    jacobian = torch.cat([row, 3 * row, -row / 7], dim=1)
    cosines = gradsplinter.cross(jacobian)
    assert cosines.abs().max() <= 1
    assert (cosines.abs() > 1 - 1e-15).all()


@given(st.data())
def test_any_numbers(data):
    dtype = data.draw(st.sampled_from([F32, F64]))
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    size = math.prod(shape)
    number = st.floats(width=32 if dtype == F32 else 64)
    number = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 2.0]), number)
    values = data.draw(st.lists(number, min_size=size, max_size=size))
    jacobian = torch.tensor(values, dtype=dtype).view(shape)
    for normalize in (True, False):
        expected = reference.cross(jacobian, normalize)
        for name in ops.instruction_sets():
            with ops.instruction_set(name):
                assert same_bits(gradsplinter.cross(jacobian, normalize), expected), name


@pytest.mark.usefixtures("instruction_set", "poisoned")
def test_sizes_of_zero():
    assert gradsplinter.cross(torch.empty(0, 2, 3)).shape == (0, 2, 2)
    assert gradsplinter.cross(torch.empty(4, 0, 3)).shape == (4, 0, 0)
    assert torch.equal(gradsplinter.cross(torch.empty(4, 2, 0)), torch.zeros(4, 2, 2))


def test_views_and_inputs_that_require_gradients():
    base = gradients(6, 8, 10)
    for view in (base[::2], base[:, 1:4, ::3], base.transpose(0, 2), base[:1].expand(3, 8, 10)):
        assert same_bits(gradsplinter.cross(view), gradsplinter.cross(view.clone().contiguous()))
    got = gradsplinter.cross(base.clone().requires_grad_())
    assert not got.requires_grad
    assert same_bits(got, gradsplinter.cross(base))
