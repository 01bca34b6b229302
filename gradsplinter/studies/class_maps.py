"""Maps of classes: how the gradients of every two classes compare, and what such a map goes with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradsplinter.checks import check_tensor
from gradsplinter.data import Dataset
from gradsplinter.modularity import louvain
from gradsplinter.scores import unit_rows
from gradsplinter.splinters import Splinters
from gradsplinter.studies.classifiers import predict
from gradsplinter.studies.statistics import rank_correlation

LEAST_PAIRS = 10
"""Pairs of classes that a rank correlation needs: five classes have as many."""


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Cosines of the gradients of every two classes in the same mode, means over examples."""

    cosines: Tensor
    """float64 `[C, C]`, from -1 to 1: a positive one says that both classes rise together."""
    centred: Tensor
    """float64 `[C, C]`: the same of gradients from which their mean over classes was taken in each mode.

    One vector added to the gradients of all classes changes no probability, so this is what the
    probabilities depend on. Its mean over pairs is about -1 / (C - 1) by construction: the centred gradients
    add up to 0."""
    orthogonality: float
    """1 - mean abs(cos), as `Splinters.orthogonality`."""


def class_maps(splinters: Splinters) -> ClassMaps:
    """The maps of a site, of directions that are classes.

    Raises:
        ValueError: fewer than two directions.

    Examples:
        >>> from gradsplinter import ReluNetwork, splinter
        >>> weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> found = class_maps(splinter(ReluNetwork([weights], [torch.zeros(3)]), torch.ones(4, 2)))
        >>> found.cosines[0, 1].item(), found.cosines[1, 2].item(), round(found.orthogonality, 4)
        (0.0, -1.0, 0.6667)
    """
    classes = splinters.n_directions
    if classes < 2:
        raise ValueError(f"splinters must have at least two directions, got {classes}")
    weights = splinters.counts.double() / splinters.counts.sum()
    plain, centred, absolute = (torch.zeros(classes, classes, dtype=torch.float64) for _ in "123")
    for modes, part in splinters.pieces():
        gradients = part.double()
        cosines = _cosines(gradients)
        plain += torch.einsum("u,uij->ij", weights[modes], cosines)
        absolute += torch.einsum("u,uij->ij", weights[modes], cosines.abs())
        less = _cosines(gradients - gradients.mean(dim=1, keepdim=True))
        centred += torch.einsum("u,uij->ij", weights[modes], less)
    return ClassMaps(plain, centred, 1 - float(pairs(absolute).mean()))


def _cosines(gradients: Tensor) -> Tensor:
    """`[u, C, C]` of `[u, C, h]`; 0 where a gradient is zero."""
    units = unit_rows(gradients.flatten(0, 1)).view_as(gradients)
    return (units @ units.mT).clamp(-1, 1)


def pairs(matrix: Tensor) -> Tensor:
    """The entries above the diagonal of `[C, C]`, row by row: one for every two classes.

    Examples:
        >>> pairs(torch.arange(9).reshape(3, 3))
        tensor([1, 2, 5])
    """
    i, j = torch.triu_indices(len(matrix), len(matrix), offset=1)
    return matrix[i, j]


def spearman(a: Tensor, b: Tensor) -> float | None:
    """Rank correlation of two maps over pairs of classes (Spearman 1904), equal values sharing their mean rank.

    None where the maps have fewer than 10 pairs, or one of them is the same everywhere.

    Args:
        a, b: `[C, C]`.

    Raises:
        TypeError, ValueError: not two square maps of the same classes.

    Examples:
        >>> map = torch.rand(5, 5)
        >>> spearman(map, map**3), spearman(map, -map)
        (1.0, -1.0)
    """
    check_tensor(a, "a", 2, (torch.float32, torch.float64, torch.int64))
    check_tensor(b, "b", 2, (torch.float32, torch.float64, torch.int64))
    if a.shape != b.shape or a.shape[0] != a.shape[1]:
        raise ValueError(
            f"a and b must be square and alike, got {list(a.shape)} and {list(b.shape)}"
        )
    left, right = pairs(a), pairs(b)
    if len(left) < LEAST_PAIRS:
        return None
    found = rank_correlation(left, right)
    return None if math.isnan(found) else found


def partial(a: Tensor, b: Tensor, given: Tensor) -> float | None:
    """Rank correlation of two maps beyond what a third one explains of both; None as in `spearman`.

    It is also None where the third one is either of them in other numbers.

    Args:
        a, b, given: `[C, C]`.

    Examples:
        >>> given = torch.arange(25.0).reshape(5, 5)
        >>> noise = torch.rand(5, 5, generator=torch.Generator().manual_seed(0))
        >>> a, b = given + 10 * noise, given - 10 * noise  # alike by what is given, and else opposed
        >>> spearman(a, b) > 0 > partial(a, b, given)
        True
    """
    ab, ac, bc = spearman(a, b), spearman(a, given), spearman(b, given)
    if ab is None or ac is None or bc is None or max(abs(ac), abs(bc)) > 1 - 1e-9:
        return None
    return (ab - ac * bc) / math.sqrt((1 - ac**2) * (1 - bc**2))


def confusions(net: nn.Module, data: Dataset) -> Tensor:
    """int64 `[C, C]`, symmetric: examples of one class that were taken for the other, either way.

    Examples:
        >>> x, y = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 1, 1])
        >>> confusions(nn.Identity(), Dataset(x, y, ("flat", "tall"), None, "here"))
        tensor([[0, 1],
                [1, 0]])
    """
    classes = len(data.classes)
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    found = predict(net, data.x).argmax(dim=1)
    counts.index_put_((data.y, found), torch.ones_like(data.y), accumulate=True)
    return (counts + counts.T).fill_diagonal_(0)


def image_similarity(data: Dataset) -> Tensor:
    """float64 `[C, C]`: cosines of the classes' mean examples, from which the mean of these was taken.

    Raises:
        ValueError: a class without examples.

    Examples:
        >>> x, y = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 0, 1])
        >>> round(image_similarity(Dataset(x, y, ("flat", "tall"), None, "here"))[0, 1].item(), 6)
        -1.0
    """
    means = torch.zeros(len(data.classes), data.x.shape[1], dtype=torch.float64)
    counts = data.y.bincount(minlength=len(data.classes))
    if bool((counts == 0).any()):
        missing = data.classes[int((counts == 0).nonzero()[0])]
        raise ValueError(f"data must have examples of every class, got none of {missing}")
    means.index_add_(0, data.y, data.x.double())
    means /= counts.unsqueeze(1)
    units = unit_rows(means - means.mean(dim=0))
    return units @ units.T


def class_groups(map_: Tensor, seed: int = 0) -> list[int]:
    """Of each class its group: Louvain's method on the positive entries of a map `[C, C]`.

    Raises:
        ImportError: networkx is missing.

    Examples:
        >>> class_groups(torch.tensor([[1.0, 0.5, -0.5], [0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]))
        [0, 0, 1]
    """
    return louvain(map_.double().clamp(min=0).fill_diagonal_(0), seed).tolist()
