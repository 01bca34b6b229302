"""Toy tasks whose exact gradients are known, so that theory says what a network should show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from gradsplinter.checks import DTYPES, check_finite, check_integer, check_tensor
from gradsplinter.scores import orthogonality


class Task(ABC):
    """Inputs, targets and the exact gradient of every target; equal parameters make equal tasks.

    Every argument is checked: TypeError for another type or dtype, ValueError for a number out of
    range and for an x of another shape or with values that are not finite.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for tables and file names."""

    @property
    @abstractmethod
    def n_inputs(self) -> int: ...

    @property
    @abstractmethod
    def n_outputs(self) -> int: ...

    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Random inputs `[n, n_inputs]`; float32 and float64 give the same up to rounding."""
        n = check_integer(n, "n", 1)
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
        if dtype not in DTYPES:
            raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        return self._sample(n, generator, dtype)

    def target(self, x: Tensor) -> Tensor:
        """Targets `[n, n_outputs]` of inputs x `[n, n_inputs]`, in x's dtype."""
        self._check(x)
        return self._target(x)

    def gradient(self, x: Tensor) -> Tensor:
        """∂target / ∂x, `[n, n_outputs, n_inputs]`, in x's dtype."""
        self._check(x)
        return self._gradient(x.detach())

    def _check(self, x: Tensor) -> None:
        check_tensor(x, "x", 2, DTYPES)
        if x.shape[1] != self.n_inputs:
            shape = f"[n, {self.n_inputs}]"
            raise ValueError(f"x must have shape {shape} for {self.name}, got {list(x.shape)}")
        check_finite(x, "x")

    @abstractmethod
    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor: ...

    @abstractmethod
    def _target(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _gradient(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class ParallelProducts(Task):
    """n independent products side by side: x1·x2, x3·x4, ...

    Args:
        n: the number of products, at least 1.
        epsilon: ε in (0, 1) of the sampling, see `sample_product_pairs`.

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
        object.__setattr__(self, "n", check_integer(self.n, "n", 1))
        _check_unit(self.epsilon, "epsilon")

    @property
    def name(self) -> str:
        return f"{self.n} product{'s' * (self.n != 1)}"

    @property
    def n_inputs(self) -> int:
        return 2 * self.n

    @property
    def n_outputs(self) -> int:
        return self.n

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return sample_product_pairs(n, self.n, self.epsilon, generator, dtype).flatten(1)

    def _target(self, x: Tensor) -> Tensor:
        return x[:, 0::2] * x[:, 1::2]

    def _gradient(self, x: Tensor) -> Tensor:
        result = x.new_zeros(len(x), self.n, self.n, 2)
        for i in range(self.n):
            result[:, i, i] = x[:, 2 * i : 2 * i + 2].flip(1)
        return result.flatten(2)


@dataclass(frozen=True)
class Product(Task):
    """One product of n factors, x1·x2·…·xn, each uniform on (0, 1.5): a task that cannot be divided.

    Args:
        n: the number of factors, at least 2.

    Examples:
        >>> Product(3).target(torch.tensor([[2.0, 3.0, 4.0]]))
        tensor([[24.]])
    """

    n: int = 4
    n_outputs = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", check_integer(self.n, "n", 2))

    @property
    def name(self) -> str:
        return f"product of {self.n}"

    @property
    def n_inputs(self) -> int:
        return self.n

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return 1.5 * torch.rand(n, self.n, generator=generator, dtype=torch.float64).to(dtype)

    def _target(self, x: Tensor) -> Tensor:
        return x.prod(dim=1, keepdim=True)

    def _gradient(self, x: Tensor) -> Tensor:
        others = [x[:, [j for j in range(self.n) if j != i]] for i in range(self.n)]
        return torch.stack([of.prod(dim=1) for of in others], dim=1).unsqueeze(1)


@dataclass(frozen=True)
class ChainedProducts(Task):
    """n products that share inputs: x1·x2, x2·x3, ..., each input uniform on (0, 1.5).

    Args:
        n: the number of products, at least 2.

    Examples:
        >>> ChainedProducts(2).target(torch.tensor([[2.0, 3.0, 4.0]]))
        tensor([[ 6., 12.]])
    """

    n: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", check_integer(self.n, "n", 2))

    @property
    def name(self) -> str:
        return f"{self.n} chained products"

    @property
    def n_inputs(self) -> int:
        return self.n + 1

    @property
    def n_outputs(self) -> int:
        return self.n

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return 1.5 * torch.rand(n, self.n + 1, generator=generator, dtype=torch.float64).to(dtype)

    def _target(self, x: Tensor) -> Tensor:
        return x[:, :-1] * x[:, 1:]

    def _gradient(self, x: Tensor) -> Tensor:
        result = x.new_zeros(len(x), self.n, self.n + 1)
        for i in range(self.n):
            result[:, i, i], result[:, i, i + 1] = x[:, i + 1], x[:, i]
        return result


@dataclass(frozen=True)
class CorrelatedInputs(Task):
    """Products side by side whose inputs depend on each other: in a share of the examples all pairs
    of inputs are the same.

    Args:
        task: the products.
        share: of examples, in [0, 1]; also the correlation between inputs of different pairs.

    Examples:
        >>> task = CorrelatedInputs(ParallelProducts(2), 1.0)
        >>> x = task.sample(5, generator=torch.Generator())
        >>> torch.equal(x[:, :2], x[:, 2:])
        True
    """

    task: ParallelProducts
    share: float

    def __post_init__(self) -> None:
        if not isinstance(self.task, ParallelProducts):
            raise TypeError(f"task must be ParallelProducts, got {type(self.task).__name__}")
        _check_unit(self.share, "share", closed=True)

    @property
    def name(self) -> str:
        return f"{self.task.name}, correlation {self.share:g}"

    @property
    def n_inputs(self) -> int:
        return self.task.n_inputs

    @property
    def n_outputs(self) -> int:
        return self.task.n_outputs

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        x = self.task._sample(n, generator, dtype)
        same = torch.rand(n, 1, generator=generator) < self.share
        return torch.where(same, x[:, :2].repeat(1, self.task.n), x)

    def _target(self, x: Tensor) -> Tensor:
        return self.task._target(x)

    def _gradient(self, x: Tensor) -> Tensor:
        return self.task._gradient(x)


@dataclass(frozen=True)
class GatedProduct(Task):
    """x1·x2 where the gate g is 1, and 0 where it is 0; inputs x1, x2, g.

    The gate is 0 or 1 with probability 1/2 each. The gradient with respect to it, x1·x2, is that of
    the extension x1·x2·g to real g.

    Examples:
        >>> GatedProduct().target(torch.tensor([[0.5, 3.0, 1.0], [0.5, 3.0, 0.0]])).flatten()
        tensor([1.5000, 0.0000])
    """

    epsilon: float = 0.5
    name = "gated product"
    n_inputs = 3
    n_outputs = 1

    def __post_init__(self) -> None:
        _check_unit(self.epsilon, "epsilon")

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        pair = sample_product_pairs(n, 1, self.epsilon, generator, dtype).flatten(1)
        gate = torch.randint(2, (n, 1), generator=generator).to(dtype)
        return torch.cat([pair, gate], dim=1)

    def _target(self, x: Tensor) -> Tensor:
        return x.prod(dim=1, keepdim=True)

    def _gradient(self, x: Tensor) -> Tensor:
        a, b, gate = x.unbind(1)
        return torch.stack([b * gate, a * gate, a * b], dim=1).unsqueeze(1)


@dataclass(frozen=True)
class QuotientOfDifference(Task):
    """(x - y) / z, with x and y uniform on (0, 1) and z uniform on (lowest, 1), lowest > 0.

    Examples:
        >>> QuotientOfDifference().target(torch.tensor([[3.0, 1.0, 4.0]]))
        tensor([[0.5000]])
    """

    lowest: float = 0.5
    name = "quotient of a difference"
    n_inputs = 3
    n_outputs = 1

    def __post_init__(self) -> None:
        _check_unit(self.lowest, "lowest")

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        x = torch.rand(n, 3, generator=generator, dtype=torch.float64)
        x[:, 2] = self.lowest + (1 - self.lowest) * x[:, 2]
        return x.to(dtype)

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
        _check_pairs(self.task)
        _check_unit(self.strength, "strength (λ)", closed=True)

    @property
    def name(self) -> str:
        return f"{self.task.name}, λ = {self.strength:g}"

    @property
    def n_inputs(self) -> int:
        return self.task.n_inputs

    @property
    def n_outputs(self) -> int:
        return self.task.n_outputs

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return self.task._sample(n, generator, dtype)

    def _target(self, x: Tensor) -> Tensor:
        return self.task._target(x) @ self._weights(x)

    def _gradient(self, x: Tensor) -> Tensor:
        return self._weights(x) @ self.task._gradient(x)

    def _weights(self, x: Tensor) -> Tensor:
        """The symmetric matrix `[n_outputs, n_outputs]` of the mixture."""
        n = self.n_outputs
        weights = torch.full((n, n), self.strength / (n - 1), dtype=x.dtype, device=x.device)
        return weights.fill_diagonal_(1 - self.strength)


def sample_product_pairs(
    n: int, pairs: int, epsilon: float, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Pairs `[n, pairs, 2]` whose product is uniform on (0, 1).

    Y is uniform on (0, 1), x1 = Y / (u (1 - ε) + ε) with u uniform, x2 = Y / x1, and the two are
    swapped with probability 1/2.
    """
    product, u, side = torch.rand(3, n, pairs, generator=generator, dtype=torch.float64)
    # torch.rand can give 0, and rounded factors of a number next to 1 can have the product 1.
    eps = torch.finfo(dtype).eps
    product = product.clamp(eps, 1 - 2 * eps).to(dtype)
    second = (u * (1 - epsilon) + epsilon).to(dtype)
    pair = torch.stack([product / second, second], dim=2)
    return torch.where((side < 0.5).unsqueeze(2), pair.flip(2), pair)


def exact_orthogonality(task: Task, x: Tensor) -> float:
    """What the paired score at the input site is for the exact gradients of the targets.

    1 - mean over x of mean_(i<j) abs(cos(∂y_i/∂x, ∂y_j/∂x)), in [0, 1], computed in float64 over
    inputs x `[n, n_inputs]`, n at least 1, of a task of at least two outputs; the cosine with a
    zero gradient is 0.

    Examples:
        >>> exact_orthogonality(ParallelProducts(2), torch.rand(100, 4))
        1.0
    """
    _check_pairs(task)
    task._check(x)
    if len(x) == 0:
        raise ValueError(f"x must hold at least one example, got shape {list(x.shape)}")
    return orthogonality(task.gradient(x.double()))


def _check_unit(value: object, name: str, *, closed: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    number = float(value)
    if not (0 <= number <= 1 if closed else 0 < number < 1):  # also refuses NaN
        raise ValueError(f"{name} must be in {'[0, 1]' if closed else '(0, 1)'}, got {value}")


def _check_pairs(task: object) -> None:
    if not isinstance(task, Task):
        raise TypeError(f"task must be a Task, got {type(task).__name__}")
    if task.n_outputs < 2:
        raise ValueError(f"task must have at least 2 outputs, got {task.n_outputs} ({task.name})")
