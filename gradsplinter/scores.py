"""Orthogonality scores: 1 - mean abs(cos) of gradients, over what occurs together or over all pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

AT_ONCE = 2**22
"""Cosines that are turned into float64 at a time."""


def unit_rows(rows: Tensor) -> Tensor:
    """Rows `[n, h]` divided by their lengths; a zero row stays zero.

    Examples:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    norms = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norms == 0, 1, norms)


def paired(cosines: Tensor, counts: Tensor) -> Tensor:
    """1 - Σ_u count_u abs(cos_u) / Σ_u count_u for every pair of directions.

    Args:
        cosines: `[U, D, D]`, of the gradients of every two directions within each mode.
        counts: int64 `[U]`: examples in each mode.

    Returns:
        float64 `[D, D]`; the diagonal is 0.

    Examples:
        >>> cosines = torch.tensor([[[1.0, -0.5], [-0.5, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
        >>> paired(cosines, torch.tensor([3, 1]))[0, 1]
        tensor(0.6250, dtype=torch.float64)
    """
    modes, directions, _ = cosines.shape
    weights = counts.double() / counts.sum()
    mean = cosines.new_zeros(directions, directions, dtype=torch.float64)
    step = max(1, AT_ONCE // directions**2)
    for begin in range(0, modes, step):
        part = slice(begin, begin + step)
        mean += torch.einsum("u,uij->ij", weights[part], cosines[part].double().abs())
    return (1 - mean).clamp(min=0).fill_diagonal_(0)


def all_pairs(gradients: Sequence[Tensor]) -> Tensor:
    """1 - mean abs(cos) over all pairs of rows of two directions, each row counting once.

    Args:
        gradients: for each direction its unique gradients, `[G, h]`.

    Returns:
        float64 `[D, D]`; the diagonal is 0.

    Examples:
        >>> all_pairs([torch.eye(2), torch.tensor([[1.0, 0.0]])])[0, 1]
        tensor(0.5000, dtype=torch.float64)
    """
    units = [unit_rows(values.double()) for values in gradients]
    result = torch.zeros(len(units), len(units), dtype=torch.float64)
    for i, left in enumerate(units):
        for j in range(i + 1, len(units)):
            result[i, j] = result[j, i] = 1 - _mean_abs_products(left, units[j])
    return result


def orthogonality(gradients: Tensor) -> float:
    """1 - mean over examples of the mean abs(cos) of every two directions' gradients, in [0, 1].

    Args:
        gradients: `[N, D, h]`, D at least 2; the cosine with a zero gradient is 0.

    Examples:
        >>> orthogonality(torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [3.0, 0.0]]]))
        0.5
    """
    gradients = gradients.double()
    norms = gradients.norm(dim=2, keepdim=True)
    units = gradients / norms.where(norms > 0, 1.0)
    cosines = (units @ units.mT).abs().clamp_max(1)  # equal gradients reach 1 + 2e-16
    i, j = torch.triu_indices(units.shape[1], units.shape[1], offset=1)
    return float(1 - cosines[:, i, j].mean())


def mean_of_pairs(matrix: Tensor) -> float:
    """The mean of a symmetric matrix above its diagonal.

    Examples:
        >>> mean_of_pairs(torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 6.0], [2.0, 6.0, 0.0]]))
        3.0
    """
    i, j = torch.triu_indices(len(matrix), len(matrix), offset=1, device=matrix.device)
    return float(matrix[i, j].mean())


def _mean_abs_products(left: Tensor, right: Tensor) -> float:
    step = max(1, AT_ONCE // len(right))
    total = sum(float((part @ right.T).abs().sum()) for part in torch.split(left, step))
    return total / (len(left) * len(right))
