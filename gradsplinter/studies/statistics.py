"""Statistics that several studies use: means with standard errors, standardised features, rank correlations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def mean_and_error(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard error; None where a value is missing, or of one value an error.

    Examples:
        >>> mean_and_error([1.0, 3.0]), mean_and_error([1.0]), mean_and_error([None])
        ((2.0, 1.0), (1.0, None), (None, None))
    """
    there = [float(value) for value in values if value is not None]
    if not there or len(there) < len(values):
        return None, None
    n, mean = len(there), sum(there) / len(there)
    if n == 1:
        return mean, None
    return mean, math.sqrt(sum((value - mean) ** 2 for value in there) / (n - 1) / n)


def standardised(features: Tensor, like: Tensor) -> Tensor:
    """Columns of features `[M, F]` by mean and standard deviation of those of other rows; what is constant there is centred.

    Examples:
        >>> standardised(torch.tensor([[5.0, 1.0]]), torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
        tensor([[ 3., -1.]])
    """
    spread = like.std(0, correction=0)
    return (features - like.mean(0)) / spread.where(spread > 0, 1.0)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's (1904): the correlation of ranks; equal values share their mean rank. NaN where all are equal.

    Args:
        a, b: `[n]`.

    Examples:
        >>> round(rank_correlation(torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 4.0, 9.0])), 6)
        1.0
    """
    left, right = ranks(a), ranks(b)
    left, right = left - left.mean(), right - right.mean()
    spread = float(left.norm() * right.norm())
    return float(left @ right) / spread if spread else math.nan


def ranks(values: Tensor) -> Tensor:
    """float64 `[n]`, from 1; equal values have the mean of their ranks.

    Examples:
        >>> ranks(torch.tensor([5, 7, 5, 0]))
        tensor([2.5000, 4.0000, 2.5000, 1.0000], dtype=torch.float64)
    """
    _, index, counts = torch.unique(values, return_inverse=True, return_counts=True)
    found: Tensor = (counts.cumsum(0).double() - (counts.double() - 1) / 2)[index]
    return found
