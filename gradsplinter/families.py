"""Families of tasks of one kind each, that networks of a zoo are trained on, and tasks side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from gradsplinter.checks import check_integer, check_number
from gradsplinter.formula import Formula
from gradsplinter.tasks import Task

_PLANE = (
    "x1 * x2",
    "(x1 - x2) / (x2 + 0.5)",
    "(x2 - x1) / (x1 + 0.5)",
    "x1**2 + x2**2",
    "sin(3 * x1) * x2",
    "sin(3 * x2) * x1",
    "max(x1, x2)",
    "abs(x1 - x2)",
    "sqrt((x1 - 0.5)**2 + (x2 - 0.5)**2 + 0.01)",
    "x1 / (1 + exp(10 * (0.5 - x2)))",
    "x2 / (1 + exp(10 * (0.5 - x1)))",
    "min(x1, x2)",
    "x1**2 * x2",
    "x1 * x2**2",
    "cos(4 * (x1 + x2))",
    "cos(4 * (x1 - x2))",
    "exp(-8 * ((x1 - 0.5)**2 + (x2 - 0.5)**2))",
    "sin(3 * x1) + sin(3 * x2)",
    "abs(x1 + x2 - 1)",
    "tanh(4 * (x1 - x2))",
)
_SPACE = (
    "x1 * x2 + x3 * x4",
    "4 * x1 * x2 * x3 * x4",
    "(x1 - x2) / (x3 + 0.5) + x4",
    "x1**2 + x2**2 + x3**2 + x4**2",
    "sqrt((x1 - x3)**2 + (x2 - x4)**2 + 0.01)",
    "sqrt((x1 - x2)**2 + (x3 - x4)**2 + 0.01)",
    "max(x1, x2) * max(x3, x4)",
    "min(x1, x2) + min(x3, x4)",
    "(x1 * x2 - x3 * x4) / (1 + exp(10 * (0.5 - x1)))",
    "sin(3 * x1) * x2 + cos(3 * x3) * x4",
)
_MOST = 40
_SIZE, _SIZE_OF_CURVES = 0.05, 0.2
"""Root mean square of what is added in a hard family; gradients change by some 20 to 35 %."""


@dataclass(frozen=True)
class Waves(Task):
    """A random sum of sines, Σ_k a_k sin(w_k · x + φ_k), of root mean square about 1.

    Frequencies w_k are normal with the standard deviation `frequency` in every input, amplitudes
    normal, phases uniform; inputs are uniform on (low, high).

    Args:
        seed: draws it.
        inputs: number of inputs.
        low, high: of the inputs.
        frequency: in radians.
        terms: of the sum.

    Examples:
        >>> Waves(0, 2)
        Waves(seed=0, inputs=2, low=0.0, high=1.0, frequency=4.0, terms=4)
        >>> Waves(0, 2).target(torch.zeros(1, 2)).shape
        torch.Size([1, 1])
    """

    seed: int
    inputs: int = 1
    low: float = 0.0
    high: float = 1.0
    frequency: float = 4.0
    terms: int = 4
    n_outputs = 1

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("inputs", 1), ("terms", 1)):
            object.__setattr__(self, name, check_integer(getattr(self, name), name, least))
        for name in ("low", "high", "frequency"):
            check_number(getattr(self, name), name)
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if not self.frequency > 0:
            raise ValueError(f"frequency must be positive, got {self.frequency}")

    @property
    def name(self) -> str:
        return f"waves {self.seed}"

    @property
    def n_inputs(self) -> int:
        return self.inputs

    @cached_property
    def _parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Amplitudes `[K]`, frequencies `[K, inputs]` and phases `[K]`, float64."""
        generator = torch.Generator().manual_seed(self.seed)
        waves = torch.randn(self.terms, self.inputs, generator=generator, dtype=torch.float64)
        sizes = torch.randn(self.terms, generator=generator, dtype=torch.float64)
        phases = 2 * math.pi * torch.rand(self.terms, generator=generator, dtype=torch.float64)
        return sizes * math.sqrt(2) / sizes.norm(), self.frequency * waves, phases

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        x = torch.rand(n, self.inputs, generator=generator, dtype=torch.float64)
        return (self.low + (self.high - self.low) * x).to(dtype)

    def _target(self, x: Tensor) -> Tensor:
        sizes, waves, phases = (value.to(x) for value in self._parameters)
        return (torch.sin(x @ waves.T + phases) @ sizes).unsqueeze(1)

    def _gradient(self, x: Tensor) -> Tensor:
        sizes, waves, phases = (value.to(x) for value in self._parameters)
        return ((torch.cos(x @ waves.T + phases) * sizes) @ waves).unsqueeze(1)


@dataclass(frozen=True)
class Varied(Task):
    """A task of one output plus a small part of another one: task + size · waves.

    Examples:
        >>> Varied(Formula("x1 * x2"), Waves(3, 2), 0.05).name
        'x1 * x2 + 0.05 waves 3'
    """

    task: Task
    waves: Waves
    size: float
    n_outputs = 1

    def __post_init__(self) -> None:
        if (self.task.n_inputs, self.task.n_outputs) != (self.waves.n_inputs, 1):
            raise ValueError(
                f"task must have {self.waves.n_inputs} inputs, as waves, and 1 output, got "
                f"{self.task.n_inputs} and {self.task.n_outputs}"
            )
        if not check_number(self.size, "size") > 0:
            raise ValueError(f"size must be positive, got {self.size}")

    @property
    def name(self) -> str:
        return f"{self.task.name} + {self.size:g} {self.waves.name}"

    @property
    def n_inputs(self) -> int:
        return self.task.n_inputs

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return self.task._sample(n, generator, dtype)

    def _target(self, x: Tensor) -> Tensor:
        return self.task._target(x) + self.size * self.waves._target(x)

    def _gradient(self, x: Tensor) -> Tensor:
        return self.task._gradient(x) + self.size * self.waves._gradient(x)


@dataclass(frozen=True)
class SideBySide(Task):
    """Independent tasks: their inputs one after the other, and so their targets.

    Args:
        tasks: at least one.

    Examples:
        >>> task = SideBySide((Formula("x1 * x2"), Formula("x1 - 2 * x2")))
        >>> x = torch.tensor([[0.5, 2.0, 3.0, 1.0]])
        >>> task.target(x)
        tensor([[1., 1.]])
        >>> task.gradient(x)
        tensor([[[ 2.0000,  0.5000,  0.0000,  0.0000],
                 [ 0.0000,  0.0000,  1.0000, -2.0000]]])
    """

    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if not self.tasks:
            raise ValueError("tasks must hold at least one task, got none")
        for i, task in enumerate(self.tasks):
            if not isinstance(task, Task):
                raise TypeError(f"tasks[{i}] must be a Task, got {type(task).__name__}")

    @property
    def name(self) -> str:
        return " | ".join(task.name for task in self.tasks)

    @property
    def n_inputs(self) -> int:
        return sum(task.n_inputs for task in self.tasks)

    @property
    def n_outputs(self) -> int:
        return sum(task.n_outputs for task in self.tasks)

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return torch.cat([task._sample(n, generator, dtype) for task in self.tasks], dim=1)

    def _target(self, x: Tensor) -> Tensor:
        return torch.cat([task._target(own) for task, own in self._parts(x)], dim=1)

    def _gradient(self, x: Tensor) -> Tensor:
        result = x.new_zeros(len(x), self.n_outputs, self.n_inputs)
        row = column = 0
        for task, own in self._parts(x):
            rows, columns = slice(row, row + task.n_outputs), slice(column, column + task.n_inputs)
            result[:, rows, columns] = task._gradient(own)
            row, column = rows.stop, columns.stop
        return result

    def _parts(self, x: Tensor) -> Iterator[tuple[Task, Tensor]]:
        """Each task, with its inputs."""
        parts = x.split([task.n_inputs for task in self.tasks], dim=1)
        return zip(self.tasks, parts, strict=True)


FAMILIES = ("curves", "formulae", "formulae-4d", "hard-curves", "hard-formulae", "hard-formulae-4d")


def family(name: str, tasks: int = 10) -> tuple[Task, ...]:
    """The first tasks of a family, the same everywhere.

    - "curves": random sums of sines of one input, on (-2, 2), where a network's kinks begin.
    - "formulae": of two inputs on the unit square, in pairs that only exchange them; after 20 of these
      random sums of sines.
    - "formulae-4d": of four inputs; after 10 of these random sums of sines.
    - "hard-curves", "hard-formulae", "hard-formulae-4d": one curve, x1·x2, or x1·x2 + x3·x4, plus a small
      random sum of sines that differs from task to task.

    Raises:
        ValueError: no such family, or more tasks than 40.

    Examples:
        >>> [task.name for task in family("formulae", 2)]
        ['x1 * x2', '(x1 - x2) / (x2 + 0.5)']
        >>> [task.name for task in family("hard-formulae", 2)]
        ['x1 * x2 + 0.05 waves 0', 'x1 * x2 + 0.05 waves 1']
    """
    if name not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {name!r}")
    if check_integer(tasks, "tasks", 2) > _MOST:
        raise ValueError(f"tasks must be at most {_MOST}, got {tasks}")
    kind = name.removeprefix("hard-")
    if kind == "curves":
        waves = [Waves(seed, 1, -2.0, 2.0, 2.0) for seed in range(_MOST + 1)]
        formulae: tuple[Task, ...] = ()
    else:
        inputs = 2 if kind == "formulae" else 4
        waves = [Waves(seed, inputs) for seed in range(_MOST)]
        formulae = _formulae(inputs)
    if name == kind:
        return (*formulae, *waves)[:tasks]
    base, size = (formulae[0], _SIZE) if formulae else (waves.pop(), _SIZE_OF_CURVES)
    return tuple(Varied(base, wave, size) for wave in waves[:tasks])


@cache
def _formulae(inputs: int) -> tuple[Task, ...]:
    expressions = _PLANE if inputs == 2 else _SPACE
    return tuple(Formula(expression, inputs) for expression in expressions)
