"""Toy tasks whose exact gradients are known, so that theory says what a network should show."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradsplinter.checks import check_tensor


class Task(ABC):
    """Inputs, targets and the exact gradient of every target."""

    n_inputs: int
    n_outputs: int

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for tables and file names."""

    @abstractmethod
    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Inputs `[n, n_inputs]`."""

    @abstractmethod
    def _target(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _gradient(self, x: Tensor) -> Tensor: ...

    def target(self, x: Tensor) -> Tensor:
        """Targets `[n, n_outputs]` of inputs `[n, n_inputs]`."""
        return self._target(self._checked(x))

    def gradient(self, x: Tensor) -> Tensor:
        """∂target / ∂x, `[n, n_outputs, n_inputs]`."""
        return self._gradient(self._checked(x))

    def _checked(self, x: Tensor) -> Tensor:
        check_tensor(x, "x", 2, (torch.float32, torch.float64))
        if x.shape[1] != self.n_inputs:
            raise ValueError(
                f"x must have shape [n, {self.n_inputs}] to match the task {self.name}, "
                f"got {list(x.shape)}"
            )
        return x


def sample_product_pair(
    n: int, *, epsilon: float, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Pairs `[n, 2]` whose product is uniform on (0, 1).

    Y is uniform on (0, 1), x1 = Y / (u (1 - ε) + ε) with u uniform, x2 = Y / x1, and the two are
    swapped with probability 1/2.
    """
    # 1 - rand is in (0, 1], so that no pair is divided by zero.
    product = 1 - torch.rand(n, generator=generator, dtype=dtype)
    second = torch.rand(n, generator=generator, dtype=dtype) * (1 - epsilon) + epsilon
    pair = torch.stack([product / second, second], dim=1)
    swap = torch.rand(n, generator=generator, dtype=dtype) < 0.5
    return torch.where(swap.unsqueeze(1), pair.flip(1), pair)


def _check_epsilon(epsilon: float) -> None:
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be between 0 and 1, both excluded, got {epsilon}")


@dataclass(frozen=True)
class ParallelProducts(Task):
    """n independent products side by side: x1·x2, x3·x4, ...

    Args:
        n: the number of products, at least 1.
        epsilon: of the sampling, see `sample_product_pair`.

    Examples:
        >>> task = ParallelProducts(2)
        >>> x = torch.tensor([[0.5, 2.0, 3.0, 1.0]])
        >>> task.target(x)
        tensor([[1., 3.]])
        >>> task.gradient(x)
        tensor([[[2.0000, 0.5000, 0.0000, 0.0000],
                 [0.0000, 0.0000, 1.0000, 3.0000]]])
    """

    n: int = 2
    epsilon: float = 0.5

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1 product, got {self.n}")
        _check_epsilon(self.epsilon)

    @property
    def name(self) -> str:
        return f"{self.n} products"

    @property
    def n_inputs(self) -> int:  # type: ignore[override]
        return 2 * self.n

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.n

    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        pairs = [
            sample_product_pair(n, epsilon=self.epsilon, generator=generator, dtype=dtype)
            for _ in range(self.n)
        ]
        return torch.cat(pairs, dim=1)

    def _target(self, x: Tensor) -> Tensor:
        return x[:, 0::2] * x[:, 1::2]

    def _gradient(self, x: Tensor) -> Tensor:
        result = x.new_zeros(len(x), self.n, 2 * self.n)
        for i in range(self.n):
            result[:, i, 2 * i] = x[:, 2 * i + 1]
            result[:, i, 2 * i + 1] = x[:, 2 * i]
        return result


@dataclass(frozen=True)
class GatedProduct(Task):
    """x1·x2 where the gate g is 1, and 0 where it is 0; inputs x1, x2, g.

    The gate is 0 or 1 with probability 1/2 each. The gradient with respect to it is that of the
    extension g·x1·x2.

    Examples:
        >>> GatedProduct().target(torch.tensor([[0.5, 3.0, 1.0], [0.5, 3.0, 0.0]])).flatten()
        tensor([1.5000, 0.0000])
    """

    epsilon: float = 0.5
    n_inputs: int = field(default=3, init=False)
    n_outputs: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)

    @property
    def name(self) -> str:
        return "gated product"

    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        pair = sample_product_pair(n, epsilon=self.epsilon, generator=generator, dtype=dtype)
        gate = torch.randint(0, 2, (n, 1), generator=generator).to(dtype)
        return torch.cat([pair, gate], dim=1)

    def _target(self, x: Tensor) -> Tensor:
        return x.prod(dim=1, keepdim=True)

    def _gradient(self, x: Tensor) -> Tensor:
        a, b, gate = x.unbind(1)
        return torch.stack([b * gate, a * gate, a * b], dim=1).unsqueeze(1)


@dataclass(frozen=True)
class QuotientOfDifference(Task):
    """(x - y) / z, with x and y uniform on (0, 1) and z uniform on (lowest, 1).

    Args:
        lowest: the least denominator, between 0 and 1.

    Examples:
        >>> QuotientOfDifference().target(torch.tensor([[3.0, 1.0, 4.0]]))
        tensor([[0.5000]])
    """

    lowest: float = 0.5
    n_inputs: int = field(default=3, init=False)
    n_outputs: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if not 0 < self.lowest < 1:
            raise ValueError(f"lowest must be between 0 and 1, both excluded, got {self.lowest}")

    @property
    def name(self) -> str:
        return "quotient of a difference"

    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        x = torch.rand(n, 3, generator=generator, dtype=dtype)
        x[:, 2] = self.lowest + (1 - self.lowest) * x[:, 2]
        return x

    def _target(self, x: Tensor) -> Tensor:
        a, b, c = x.unbind(1)
        return ((a - b) / c).unsqueeze(1)

    def _gradient(self, x: Tensor) -> Tensor:
        a, b, c = x.unbind(1)
        return torch.stack([1 / c, -1 / c, (b - a) / c**2], dim=1).unsqueeze(1)


@dataclass(frozen=True)
class SoftMixing(Task):
    """Each target of a parallel task mixed with the others: (1 - λ) own + λ mean of the others'.

    Args:
        task: a task of at least two outputs.
        strength: λ in [0, 1].

    Examples:
        >>> SoftMixing(ParallelProducts(2), 0.25).target(torch.tensor([[1.0, 4.0, 1.0, 8.0]]))
        tensor([[5., 7.]])
    """

    task: Task
    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:  # also refuses NaN
            raise ValueError(f"strength (λ) must be in [0, 1], got {self.strength}")
        if self.task.n_outputs < 2:
            raise ValueError(
                f"task must have at least two outputs to mix, got {self.task.name} with "
                f"{self.task.n_outputs}"
            )

    @property
    def name(self) -> str:
        return f"{self.task.name}, λ = {self.strength:g}"

    @property
    def n_inputs(self) -> int:  # type: ignore[override]
        return self.task.n_inputs

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.task.n_outputs

    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        return self.task.sample(n, generator=generator, dtype=dtype)

    def _target(self, x: Tensor) -> Tensor:
        return self.task.target(x) @ self._weights(x)

    def _gradient(self, x: Tensor) -> Tensor:
        return self._weights(x) @ self.task.gradient(x)

    def _weights(self, x: Tensor) -> Tensor:
        """The symmetric matrix `[n_outputs, n_outputs]` of the mixture."""
        n = self.n_outputs
        weights = torch.full((n, n), self.strength / (n - 1), dtype=x.dtype, device=x.device)
        return weights.fill_diagonal_(1 - self.strength)


def exact_orthogonality(task: Task, x: Tensor) -> float:
    """What the paired score at the input site is for the exact gradients of the targets.

    1 - mean over x of mean_(i<j) |cos(∂y_i/∂x, ∂y_j/∂x)|, in float64; the cosine with a zero
    gradient is 0.

    Args:
        task: a task of at least two outputs.
        x: inputs `[n, n_inputs]`.

    Examples:
        >>> exact_orthogonality(ParallelProducts(2), torch.rand(100, 4))
        1.0
    """
    if task.n_outputs < 2:
        raise ValueError(f"task must have at least two outputs, got {task.n_outputs}")
    gradient = task.gradient(x.double())
    norms = gradient.norm(dim=2, keepdim=True)
    units = gradient / torch.where(norms == 0, math.inf, norms)
    cosines = (units @ units.transpose(1, 2)).abs()
    i, j = torch.triu_indices(task.n_outputs, task.n_outputs, offset=1)
    return float(1 - cosines[:, i, j].mean())
