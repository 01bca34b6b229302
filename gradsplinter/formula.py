"""A task from a formula: f(x1, ..., xn) on the unit cube, its gradient by autograd."""

from __future__ import annotations

import ast
import math
import operator
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor

from gradsplinter.checks import check_integer
from gradsplinter.tasks import Task

_OPERATORS: dict[type[ast.operator | ast.unaryop], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "atan": torch.atan,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "exp": torch.exp,
    "log": torch.log,
    "max": torch.maximum,
    "min": torch.minimum,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_TWO_ARGUMENTS = ("max", "min")
_CONSTANTS = {"pi": math.pi, "e": math.e}
_LONGEST = 1000  # characters
_DEEPEST = 100  # parts within parts
_LARGEST = int(sys.float_info.max)
_GRID = 2**14  # points of the unit cube at which a formula must be finite


@dataclass(frozen=True)
class Formula(Task):
    """A formula in x1, ..., xn, each uniform on (0, 1).

    Args:
        expression: numbers, x1, x2, ..., pi and e with + - * / ** and parentheses, and the functions
            abs atan cos cosh exp log max min sin sinh sqrt tan tanh.
        inputs: n, at least the highest number that occurs; that by default.

    Raises:
        TypeError: expression is not a string, inputs not an integer.
        ValueError: what is no such formula; one whose value or gradient is not finite on the unit cube.

    Examples:
        >>> task = Formula("x1 * x2 + 1")
        >>> x = torch.tensor([[2.0, 3.0]])
        >>> task.target(x), task.gradient(x)
        (tensor([[7.]]), tensor([[[3., 2.]]]))
    """

    expression: str
    inputs: int | None = None
    n_outputs = 1

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise TypeError(f"expression must be a string, got {type(self.expression).__name__}")
        highest = max([0, *(_number(node.id) for node in self._names)])
        if self.inputs is None:
            object.__setattr__(self, "inputs", max(1, highest))
        elif check_integer(self.inputs, "inputs", 1) < highest:
            raise ValueError(f"inputs must be at least {highest}, since x{highest} occurs")
        self._check_finite()

    @property
    def name(self) -> str:
        return self.expression

    @property
    def n_inputs(self) -> int:
        assert self.inputs is not None
        return self.inputs

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        x = torch.rand(n, self.n_inputs, generator=generator, dtype=torch.float64)
        return x.to(dtype)

    def _target(self, x: Tensor) -> Tensor:
        value = _evaluate(self._tree, x)
        if not isinstance(value, Tensor):  # a constant
            value = x.new_tensor(value)
        return value.expand(len(x)).unsqueeze(1)

    def _gradient(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            value = self._target(x)
            if not value.requires_grad:
                return torch.zeros_like(x).unsqueeze(1)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return gradient.detach().unsqueeze(1)

    @cached_property
    def _tree(self) -> ast.expr:
        if len(self.expression) > _LONGEST:
            raise ValueError(f"expression must have at most {_LONGEST} characters")
        try:
            tree = ast.parse(self.expression.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"expression must be a formula, got {self.expression!r}") from error
        _check(tree, self.expression, _DEEPEST)
        return tree

    @property
    def _names(self) -> list[ast.Name]:
        called = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        names = (node for node in ast.walk(self._tree) if isinstance(node, ast.Name))
        return [node for node in names if id(node) not in called]

    def _check_finite(self) -> None:
        """On a grid that includes the corners of the cube, and at random points.

        Between them a divisor must not change its sign, nor a tangent its branch.
        """
        steps = max(2, int(_GRID ** (1 / self.n_inputs)))
        if steps**self.n_inputs <= 2 * _GRID:
            axis = torch.linspace(0, 1, steps, dtype=torch.float64).tolist()
            grid = torch.tensor(list(product(axis, repeat=self.n_inputs)), dtype=torch.float64)
        else:
            grid = torch.zeros(0, self.n_inputs, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        x = torch.cat([grid, self._sample(_GRID, generator, torch.float64)])
        for what, found in (("value", self._target(x)), ("gradient", self._gradient(x))):
            bad = ~found.flatten(1).isfinite().all(1)
            if bad.any():
                point = [round(value, 6) for value in x[bad][0].tolist()]
                raise ValueError(
                    f"expression must be finite on the unit cube, got a {what} that is not, "
                    f"at x = {point}"
                )
        for node in ast.walk(self._tree):
            for part, branch in _branches(node):
                branches = torch.as_tensor(branch(_evaluate(part, x))).flatten()
                there = branches[branches != 0]  # where it is 0, the formula itself is finite
                if not torch.equal(there, there[:1].expand_as(there)):
                    where = ast.get_source_segment(self.expression.strip(), node)
                    raise ValueError(
                        f"expression must be finite on the unit cube, got a pole of {where!r}"
                    )


def _number(name: str) -> int:
    """Which input a name is; 0 for a constant."""
    return 0 if name in _CONSTANTS else int(name[1:])


def _check(node: ast.AST, expression: str, deepest: int) -> None:
    if deepest == 0:
        raise ValueError(f"expression must be nested at most {_DEEPEST} deep")
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        if abs(node.value) > _LARGEST:  # type: ignore[arg-type]
            raise ValueError("expression must have only numbers that float64 can hold")
        return
    if isinstance(node, ast.Name) and (
        node.id in _CONSTANTS or (node.id[0] == "x" and node.id[1:].isascii() and node.id[1:].isdigit()
                                  and 1 <= int(node.id[1:]) <= 1000)
    ):  # fmt: skip
        return
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        parts = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in _FUNCTIONS:
            raise ValueError(
                f"expression must use only the functions {', '.join(_FUNCTIONS)}, got {node.func.id}"
            )
        wanted = 2 if node.func.id in _TWO_ARGUMENTS else 1
        if len(node.args) != wanted:
            raise ValueError(
                f"expression must call {node.func.id} with {wanted} "
                f"argument{'s' * (wanted > 1)}, got {len(node.args)}"
            )
        parts = list(node.args)
    else:
        found = ast.get_source_segment(expression.strip(), node) or type(node).__name__
        raise ValueError(
            "expression must be made of numbers, x1, x2, ..., pi, e, + - * / ** and functions, "
            f"got {found!r}"
        )
    for part in parts:
        _check(part, expression, deepest - 1)


def _branches(node: ast.AST) -> Iterator[tuple[ast.AST, Callable[[Any], Any]]]:
    """Parts of a node, and what must be the same at all points if it has no pole between them."""

    def sign(value: Any) -> Any:
        return torch.as_tensor(value).sign()

    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        singular: ast.AST | None = node.right
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        exponent = _constant(node.right)
        singular = node.left if exponent is not None and exponent < 1 and exponent != 0 else None
    elif isinstance(node, ast.Call) and _name(node) in ("log", "sqrt"):
        singular = node.args[0]
    else:
        singular = None
    for factor in () if singular is None else _factors(singular):
        yield factor, sign
    if isinstance(node, ast.Call) and _name(node) == "tan":
        yield node.args[0], lambda value: torch.as_tensor(value / math.pi + 0.5).floor() + 0.5


def _factors(node: ast.AST) -> Iterator[ast.AST]:
    """What a node is zero with: abs(f), f ** 2 and f · g change no sign where f does."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        yield from _factors(node.left)
        yield from _factors(node.right)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Pow):
        yield from _factors(node.left)
    elif isinstance(node, ast.Call) and _name(node) in ("abs", "sqrt"):
        yield from _factors(node.args[0])
    elif isinstance(node, ast.UnaryOp):
        yield from _factors(node.operand)
    else:
        yield node


def _name(node: ast.Call) -> str:
    assert isinstance(node.func, ast.Name)
    return node.func.id


def _constant(node: ast.AST) -> float | None:
    """The value of a part without inputs."""
    names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
    if any(name not in _CONSTANTS and name not in _FUNCTIONS for name in names):
        return None
    return float(_evaluate(node, torch.zeros(1, 1, dtype=torch.float64)))


def _evaluate(node: ast.AST, x: Tensor) -> Any:
    """A number, or a value `[n]` for each input x `[n, n_inputs]`."""
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return _CONSTANTS[node.id] if node.id in _CONSTANTS else x[:, _number(node.id) - 1]
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, x), _evaluate(node.right, x)
        if not isinstance(left, Tensor) and not isinstance(right, Tensor):
            left = x.new_tensor(left)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_evaluate(node.operand, x))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    values = [_evaluate(part, x) for part in node.args]
    return _FUNCTIONS[node.func.id](*(torch.as_tensor(v, dtype=x.dtype) for v in values))
