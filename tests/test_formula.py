"""Formulas: values and gradients by hand, and what is refused."""

import math
import re

import pytest
import torch

from gradsplinter.formula import Formula

X = torch.tensor([[0.25, 0.5], [0.75, 1.0]], dtype=torch.float64)
A, B = X.unbind(1)


@pytest.mark.parametrize(
    ("expression", "value", "by_a", "by_b"),
    [
        ("x1 * x2", A * B, B, A),
        ("sin(3*x1)*x2 + x1**2*exp(-x2)", (3 * A).sin() * B + A**2 * (-B).exp(),
         3 * (3 * A).cos() * B + 2 * A * (-B).exp(), (3 * A).sin() - A**2 * (-B).exp()),
        ("max(x1, x2) - min(x1, x2)", B - A, -torch.ones(2), torch.ones(2)),
        (" -x1 / (1 + x2) ", -A / (1 + B), -1 / (1 + B), A / (1 + B) ** 2),
        ("2 ** x1 + +pi * e", 2**A + math.pi * math.e, 2**A * math.log(2), 0 * A),
        ("abs(x1 - 2) + 1e-1", 2 - A + 0.1, -torch.ones(2), 0 * A),
        ("atan(x2) + cosh(x1) + tanh(x2)", B.atan() + A.cosh() + B.tanh(), A.sinh(),
         1 / (1 + B**2) + 1 - B.tanh() ** 2),
    ],
)  # fmt: skip
def test_values_and_gradients(expression, value, by_a, by_b):
    task = Formula(expression)
    assert task.name == expression
    assert (task.n_inputs, task.n_outputs) == (2 if "x2" in expression else 1, 1)
    x = X[:, : task.n_inputs]
    torch.testing.assert_close(task.target(x), value.unsqueeze(1), rtol=1e-14, atol=0)
    gradient = torch.stack([by_a.double(), by_b.double()], 1)[:, : task.n_inputs]
    torch.testing.assert_close(task.gradient(x).squeeze(1), gradient, rtol=1e-14, atol=0)


def test_a_constant_has_no_gradient():
    task = Formula("1 / 4", inputs=2)
    assert task.target(X).tolist() == [[0.25], [0.25]]
    assert task.gradient(X).tolist() == [[[0.0, 0.0]], [[0.0, 0.0]]]


def test_inputs_that_do_not_occur_are_there():
    assert Formula("x3").n_inputs == 3
    assert Formula("x1", 4).gradient(torch.zeros(1, 4)).tolist() == [[[1, 0, 0, 0]]]


def test_the_gradient_is_there_without_grad_mode_and_leaves_no_history():
    with torch.no_grad():
        gradient = Formula("x1**2").gradient(torch.ones(1, 1))
    assert gradient.tolist() == [[[2.0]]]
    assert not gradient.requires_grad


def test_samples_are_uniform_on_the_unit_cube():
    x = Formula("x1 + x2").sample(4000, generator=torch.Generator().manual_seed(0))
    assert x.shape == (4000, 2)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    assert x.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("x1 +", "expression must be a formula, got 'x1 +'"),
        ("", "expression must be a formula, got ''"),
        ("x1; x2", "expression must be a formula, got 'x1; x2'"),
        ("y + 1", "expression must be made of numbers, x1, x2, ..., pi, e, + - * / ** and functions, got 'y'"),
        ("x0", "functions, got 'x0'"),
        ("x1 if x2 else 0", "functions, got 'x1 if x2 else 0'"),
        ("'a'", "functions, got \"'a'\""),
        ("True", "functions, got 'True'"),
        ("x1 // 2", "functions, got 'x1 // 2'"),
        ("x1.real", "functions, got 'x1.real'"),
        ("__import__('os')", "expression must use only the functions abs, atan, "),
        ("sin(x1, x2)", "expression must call sin with 1 argument, got 2"),
        ("max(x1)", "expression must call max with 2 arguments, got 1"),
        ("max(*x1)", "expression must call max with 2 arguments, got 1"),
        ("sin(x=x1)", "functions, got 'sin(x=x1)'"),
        ("1 / x1", "expression must be finite on the unit cube, got a value that is not, at x = [0.0]"),
        ("sqrt(x1)", "expression must be finite on the unit cube, got a gradient that is not, at x = [0.0]"),
        ("1 / (x1 - 0.31415926)", "got a pole of '1 / (x1 - 0.31415926)'"),
        ("x2 + (x1 - 0.31415926) ** -2", "got a pole of '(x1 - 0.31415926) ** -2'"),
        ("tan(3 * x1)", "got a pole of 'tan(3 * x1)'"),
        ("1 / (x1 - 0.31415926) ** 2", "got a pole of '1 / (x1 - 0.31415926) ** 2'"),
        ("1 / abs(x1 - 0.31415926)", "got a pole of"),
        ("(x1 - 0.31415926) ** (1 - 3)", "got a pole of"),
        ("abs(x1 - 0.31415926) ** -0.5", "got a pole of"),
        ("log(abs(x1 - 0.31415926))", "got a pole of 'log(abs(x1 - 0.31415926))'"),
        ("sqrt(abs(x2 * (x1 - 0.31415926)) + 0)", "at x = "),
        ("1 + sqrt((x2 + 1) * abs(x1 - 0.31415926))", "got a pole of"),
        ("-" * 995 + "x1", "expression must be nested at most 100 deep"),
        ("log(x1 - 2)", "got a value that is not"),
        ("1 / 0 + x1", "got a value that is not"),
        ("1" * 400 + " * x1", "expression must have only numbers that float64 can hold"),
        ("1" * 1001, "expression must have at most 1000 characters"),
        ("(" * 300 + "x1" + ")" * 300, "expression must be a formula"),
    ],
)  # fmt: skip
def test_what_is_no_formula(expression, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Formula(expression)


def test_other_bad_arguments():
    with pytest.raises(TypeError, match=r"^expression must be a string, got int"):
        Formula(3)
    with pytest.raises(ValueError, match=r"^inputs must be at least 2, since x2 occurs"):
        Formula("x2", inputs=1)
    with pytest.raises(ValueError, match=r"^inputs must be at least 1, got 0"):
        Formula("1", inputs=0)
    with pytest.raises(ValueError, match=r"^x must have shape \[n, 2\] for x2, got \[1, 3\]"):
        Formula("x2").target(torch.zeros(1, 3))


@pytest.mark.parametrize(
    "expression",
    ["x1 ** 2 / (1 + x1 ** 2)", "(x1 + 1) ** (-2)", "sqrt(x1 + 1)", "(x1 - 0.3) ** 3", "abs(x1 - 0.3)", "1 / (x1 * x2 + 1)", "2 ** x1"],
)  # fmt: skip
def test_formulas_without_poles(expression):
    assert Formula(expression).n_outputs == 1
