"""One embedded part of a network: what the embedder was shown, what it makes of it, and what is near."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradsplinter.embedder import Embedder
from gradsplinter.embedding import encoded
from gradsplinter.known_tasks import NearTask
from gradsplinter.studies.embedding_trial import grid
from gradsplinter.tokens import Tokens

GRID = 12
"""Points along each input at which the decoded gradients are drawn."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """A part of a network.

    Attributes:
        name: of its direction.
        tokens: one set, that the embedder was shown.
        embedding: `[size]`.
        nearest: known tasks, nearest first.
        like_none: whether all known tasks are far.
        points, decoded: `[Q, d]`: points of a grid over the tokens' points, and the gradients there that the
            embedder decodes from the embedding; empty for more than two inputs.
    """

    name: str
    tokens: Tokens
    embedding: Tensor
    nearest: list[NearTask]
    like_none: bool
    points: Tensor
    decoded: Tensor


def embedded(name: str, tokens: Tokens, embedder: Embedder, most: int = 5) -> Embedded:
    """One set of tokens, embedded; `most` known tasks are kept."""
    points = _grid(tokens.points[0])
    embedding = encoded(embedder, tokens)
    with torch.no_grad():
        decoded = embedder.decode(embedding, points[None])[0]
    known = embedder.known
    nearest = known.nearest(embedding[0], most) if len(known) else []
    like_none = len(known) > 0 and not known.has_alike(embedding[0])
    return Embedded(name, tokens, embedding[0], nearest, like_none, points, decoded)


def _grid(points: Tensor) -> Tensor:
    """`[Q, d]`, over the range of points `[T, d]`; none where d > 2."""
    d = points.shape[1]
    if d > 2:
        return points[:0]
    return grid(points.amin(0), points.amax(0), GRID**2 if d == 2 else 8 * GRID)
