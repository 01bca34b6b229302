"""Tasks whose gradient field is known, how their inputs are drawn, and where the field is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradsplinter.formula import Formula
from gradsplinter.tasks import GatedProduct, ParallelProducts, QuotientOfDifference, Task

TASKS = ("products", "gate", "quotient", "formula")
LONG_FORMULA = "sin(3*x1)*x2 + x1**2*exp(-x2)"


@dataclass(frozen=True)
class Slice:
    """A plane through the inputs: two of them move over the unit square, the others are held."""

    name: str
    held: tuple[float | None, ...]
    """The value of each input; None for the two that move."""

    @property
    def moving(self) -> list[int]:
        return [i for i, value in enumerate(self.held) if value is None]

    def plane(self) -> tuple[Tensor, Tensor, Tensor]:
        """origin, u and v."""
        n = len(self.held)
        origin = torch.tensor([value or 0.0 for value in self.held], dtype=torch.float64)
        u, v = torch.eye(n, dtype=torch.float64)[self.moving]
        return origin, u, v


@dataclass(frozen=True)
class Case:
    """A task, how its inputs are drawn, and where its field is looked at."""

    name: str
    task: Task
    sample: Callable[[int, torch.Generator], Tensor]
    slices: tuple[Slice, ...]
    ranges: tuple[tuple[float, float], ...]
    """Of each input."""
    parts: Callable[[Tensor], dict[str, Tensor]] | None = None
    """Kinds of examples that are looked at apart: x -> a bool `[n]` for each."""

    def exact(self, x: Tensor) -> Tensor:
        """The gradient of the first target."""
        return self.task.gradient(x)[:, 0]


UNIT = ((0.0, 1.0),)


def uniform(inputs: int) -> Callable[[int, torch.Generator], Tensor]:
    return lambda n, generator: torch.rand(n, inputs, generator=generator)


def _gated(n: int, generator: torch.Generator) -> Tensor:
    x = torch.rand(n, 3, generator=generator)
    x[:, 2] = torch.randint(2, (n,), generator=generator).float()
    return x


def _by_gate(x: Tensor) -> dict[str, Tensor]:
    return {f"gate = {gate}": x[:, 2] == gate for gate in (0, 1)}


def case_of(name: str, expression: str) -> Case:
    """One of TASKS; `expression` is that of the formula."""
    if name == "products":
        held = Slice("x3 = x4 = 0.5", (None, None, 0.5, 0.5))
        return Case(name, ParallelProducts(2), uniform(4), (held,), UNIT * 4)
    if name == "gate":
        gates = tuple(Slice(f"gate = {gate:g}", (None, None, gate)) for gate in (0.0, 0.5, 1.0))
        return Case(name, GatedProduct(), _gated, gates, UNIT * 3, _by_gate)
    if name == "quotient":
        task = QuotientOfDifference()
        divisors = tuple(Slice(f"x3 = {z:g}", (None, None, z)) for z in (0.5, 0.75, 1.0))
        return Case(
            name, task, lambda n, g: task.sample(n, generator=g), divisors,
            (*UNIT * 2, (task.lowest, 1.0)),
        )  # fmt: skip
    formula = Formula(expression, 2)
    return Case(name, formula, uniform(2), (Slice(expression, (None, None)),), UNIT * 2)
