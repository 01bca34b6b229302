"""The mode of each example of a table, kept in memory or on disk as it comes, piece by piece."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsplinter.io import NpyColumn

SMALL = 2**20
"""Pieces in memory shorter than this are joined, so that a number takes hardly more than 8 bytes."""


class Ids:
    """The mode of each example. How many examples there are is for the table to say.

    Args:
        file: where to write the ids; None keeps them in memory.
    """

    def __init__(self, file: NpyColumn | None = None) -> None:
        self._place = _InMemory() if file is None else file
        self._latest: tuple[int, Tensor, Tensor | None] | None = None

    def put(self, begin: int, ids: Tensor, numbers: Tensor | None) -> None:
        """The next piece, from example `begin` on: `ids` within it, the `numbers` of its modes.

        The numbers are read when `settle` is called: the table fills them in while it counts the
        piece's examples. A piece that was never counted is forgotten.

        Raises:
            ValueError, OSError: there is no room for it.
        """
        self.settle(begin)
        self._place.reserve(begin, len(ids))
        self._latest = begin, ids, numbers

    def settle(self, count: int) -> None:
        """Write what is not written yet of `count` examples; after an error it can be repeated."""
        if self._latest is not None and self._latest[0] < count:
            self._place.write(*self._latest)
        self._latest = None

    def tensors(self) -> list[Tensor]:
        """All that are held in memory."""
        pieces = self._place.pieces if isinstance(self._place, _InMemory) else []
        latest = (self._latest or ())[1:]
        return [*pieces, *(tensor for tensor in latest if tensor is not None)]

    def read(self, count: int, *, copy: bool) -> Tensor:
        """int64 `[count]`; without `copy` it may be the memory that is kept here."""
        self.settle(count)
        return self._place.read(count, copy)


class _InMemory:
    def __init__(self) -> None:
        self.pieces: list[Tensor] = []

    def reserve(self, begin: int, count: int) -> None:
        pass

    def write(self, begin: int, ids: Tensor, numbers: Tensor | None) -> None:
        pieces = self.pieces
        if begin == sum(map(len, pieces)):  # not yet written before an interruption
            pieces.append(ids if numbers is None else numbers[ids])
        while len(pieces) > 1 and len(pieces[-2]) <= len(pieces[-1]) < SMALL:
            pieces[-2:] = [torch.cat(pieces[-2:])]

    def read(self, count: int, copy: bool) -> Tensor:  # noqa: ARG002 (all of them)
        if len(self.pieces) == 1:
            return self.pieces[0].clone() if copy else self.pieces[0]
        return torch.cat(self.pieces) if self.pieces else torch.empty(0, dtype=torch.int64)
