"""Clusters of the input gradients of a class: a few kinds of gradient, or one cloud?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gradsplinter.clusters import Clusters, clusters, hdbscan
from gradsplinter.scores import unit_rows
from gradsplinter.splinters import Splinters

SMALLEST = 5
"""Least gradients of a dense cluster."""


@dataclass(frozen=True)
class Grouped:
    """Gradients in clusters."""

    vectors: int
    median_angle: float
    """Of two of them, in degrees."""
    clusters: dict[float, int]
    """By diameter in degrees: how many there are."""
    largest: dict[float, float]
    """By diameter: the share of the gradients that is in the largest."""
    dense: int
    """Clusters by HDBSCAN, which needs no angle."""
    in_dense: float
    """The share of the gradients that is in these."""
    in_second: float
    """The share that is in the second largest of these: near 0 where there is one core."""


@dataclass(frozen=True, eq=False)
class Kind:
    """One of the largest clusters of a class."""

    label: int
    gradient: Tensor
    """`[h]`: the mean of its gradients."""
    example: Tensor
    """`[h]`: the mean of the examples that have them."""
    members: Tensor
    """int64: these examples."""
    share: float
    """Of the class's examples."""


def class_gradients(splinters: Splinters, members: Tensor, label: int) -> Tensor:
    """`[n, h_source]`: the gradient of a class less the mean of all classes' gradients, in some examples.

    Args:
        splinters: of directions that are classes, with ids.
        members: int64 `[n]`: examples.
        label: the class.

    Examples:
        >>> from gradsplinter import ReluNetwork, splinter
        >>> weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> s = splinter(ReluNetwork([weights], [torch.zeros(2)]), torch.ones(3, 2))
        >>> class_gradients(s, torch.tensor([2]), 0)
        tensor([[ 0.5000, -0.5000]])
    """
    if splinters.ids is None:
        raise ValueError("splinters must have the ids of examples, got none")
    of_members = splinters.jacobian()[splinters.ids[members]]
    return of_members[:, label] - of_members.mean(dim=1)


def cloud(gradients: Tensor, generator: torch.Generator) -> Tensor:
    """As many vectors `[n, h]` of a normal distribution with the same mean and covariance: without clusters."""
    n = len(gradients)
    mean = gradients.mean(dim=0)
    mixing = torch.randn(n, n, generator=generator, dtype=torch.float64).to(gradients.dtype)
    return mean + mixing @ (gradients - mean) / math.sqrt(n)


def grouped(gradients: Tensor, angles: tuple[float, ...]) -> Grouped:
    """
    Args:
        gradients: `[n, h]`, at least two.
        angles: diameters of clusters, in degrees, up to 90.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: fewer than two gradients; an angle out of range.

    Examples:
        >>> degrees = torch.tensor([0.0, 1.0, 40.0, 41.0]).deg2rad()
        >>> found = grouped(torch.stack([degrees.cos(), degrees.sin()], dim=1), (5.0, 90.0))
        >>> found.clusters, found.largest
        ({5.0: 2, 90.0: 1}, {5.0: 0.5, 90.0: 1.0})
    """
    n = len(gradients)
    if n < 2:
        raise ValueError(f"gradients must be at least two, got {n}")
    units = unit_rows(gradients.double())
    i, j = torch.triu_indices(n, n, offset=1)
    angles_of_pairs = (units @ units.T)[i, j].clamp(-1, 1).acos()
    by_angle = {angle: of_diameter(gradients, angle) for angle in angles}
    dense = _dense(gradients)
    return Grouped(
        n,
        math.degrees(float(angles_of_pairs.median())),
        {angle: len(found) for angle, found in by_angle.items()},
        {angle: float(found.counts.max()) / n for angle, found in by_angle.items() if len(found)},
        len(dense),
        sum(dense) / n,
        dense[1] / n if len(dense) > 1 else 0.0,
    )


def _dense(gradients: Tensor) -> list[int]:
    """Sizes of the clusters by HDBSCAN, the largest first."""
    if int((gradients != 0).any(dim=1).sum()) < SMALLEST:
        return []
    return sorted(hdbscan(gradients, SMALLEST).counts.tolist(), reverse=True)


def of_diameter(gradients: Tensor, angle: float) -> Clusters:
    """Clusters in which no two gradients are more than an angle apart, in degrees."""
    radians = math.radians(angle)
    return clusters(gradients, radians, max_diameter=radians)


def kinds(
    gradients: Tensor, examples: Tensor, members: Tensor, label: int, angle: float, most: int
) -> list[Kind]:
    """The largest clusters of a class, the largest first.

    Args:
        gradients: `[n, h]`, of its members.
        examples: `[N, h]`, all of them.
        members: int64 `[n]`.
        label: the class.
        angle: in degrees.
        most: so many at most.
    """
    found = of_diameter(gradients, angle)
    kept = []
    for cluster in found.counts.argsort(descending=True, stable=True)[:most].tolist():
        inside = found.ids == cluster
        of_cluster = members[inside]
        kept.append(
            Kind(
                label, gradients[inside].mean(dim=0), examples[of_cluster].mean(dim=0),
                of_cluster, len(of_cluster) / len(members),
            )
        )  # fmt: skip
    return kept
