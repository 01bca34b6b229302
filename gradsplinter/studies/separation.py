"""How well a score tells unusual examples from usual ones; the higher the score, the more unusual."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RECALL = 0.95
"""At which false positives are counted."""
RIDGE = 1.0
"""Of the logistic regression, on standardised columns; the losses of examples are summed."""


def auroc(positives: Tensor, negatives: Tensor) -> float:
    """The chance that a positive has a higher score than a negative, ties as half; NaN without either.

    It is the area under the ROC curve, counted over all pairs (Mann and Whitney 1947).

    Args:
        positives, negatives: scores `[P]` and `[N]`.

    Examples:
        >>> auroc(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0, 2.0]))  # (3 + 1.5) of 6 pairs
        0.75
    """
    if len(positives) == 0 or len(negatives) == 0:
        return math.nan
    return _pairs_won(positives, negatives) / (len(positives) * len(negatives))


def false_positive_rate(positives: Tensor, negatives: Tensor, recall: float = RECALL) -> float:
    """The share of negatives above the highest threshold that finds this share of the positives.

    Args:
        positives, negatives: scores `[P]` and `[N]`.
        recall: in (0, 1].

    Examples:
        >>> false_positive_rate(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 2.0, 2.5]), 0.6)
        0.5
    """
    if len(positives) == 0 or len(negatives) == 0:
        return math.nan
    found = math.ceil(recall * len(positives) - 1e-9)  # 0.95 · 20 is 19, not 19.000000000000004
    threshold = positives.sort(descending=True).values[found - 1]
    return float((negatives >= threshold).double().mean())


def matched_auroc(
    positives: Tensor,
    negatives: Tensor,
    of_positives: Tensor,
    of_negatives: Tensor,
    strata: int = 10,
) -> float:
    """`auroc` over the pairs whose other score is about the same: whether a score says more than that one.

    All examples are cut into strata, equally many in each, by the other score; only pairs within one stratum
    count. NaN where there are none.

    Args:
        positives, negatives: scores `[P]` and `[N]`.
        of_positives, of_negatives: the other score, as the maximal softmax.
        strata: how many.

    Examples:
        >>> scores, other = torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0])
        >>> matched_auroc(scores, scores, other, other, strata=2)
        0.5
    """
    if len(positives) == 0 or len(negatives) == 0:
        return math.nan
    pooled = torch.cat([of_positives, of_negatives]).sort().values
    borders = pooled[[len(pooled) * i // strata for i in range(1, strata)]]
    a, b = (torch.bucketize(of, borders, right=True) for of in (of_positives, of_negatives))
    won = pairs = 0.0
    for stratum in range(strata):
        inside, outside = positives[a == stratum], negatives[b == stratum]
        won += _pairs_won(inside, outside)
        pairs += len(inside) * len(outside)
    return won / pairs if pairs else math.nan


def logistic_scores(x: Tensor, positive: Tensor, of: Tensor) -> Tensor:
    """Scores by a logistic regression: float64 `[M]`, the logit of being positive.

    Columns are standardised by the examples that it is fitted on; constant ones count for nothing. Newton's
    method finds the one minimum.

    Args:
        x: what it is fitted on, float64 `[N, columns]`.
        positive: bool `[N]`.
        of: what to score, float64 `[M, columns]`.
    """
    mean, spread = x.mean(0), x.std(0, correction=0)
    spread = torch.where(spread > 1e-12 * (1 + mean.abs()), spread, torch.inf)
    x, of = (_with_constant((rows - mean) / spread) for rows in (x, of))
    ridge = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    ridge[-1, -1] = 1e-9  # the constant is free
    weights = x.new_zeros(x.shape[1])
    for _ in range(30):
        p = torch.sigmoid(x @ weights)
        gradient = x.T @ (p - positive.double()) + ridge @ weights
        hessian = (x.T * (p * (1 - p))) @ x + ridge
        weights = weights - torch.linalg.solve(hessian, gradient)
    return of @ weights


def _with_constant(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _pairs_won(positives: Tensor, negatives: Tensor) -> float:
    ordered = negatives.sort().values
    below = torch.searchsorted(ordered, positives, right=False).sum()
    until = torch.searchsorted(ordered, positives, right=True).sum()
    return float(below + until) / 2
