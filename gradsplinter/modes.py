"""The modes of some examples: what tables hold, add and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradsplinter import _C, ops
from gradsplinter._C import ModeTable
from gradsplinter.checks import check_integer, check_tensor
from gradsplinter.patterns import check_unused_bits, words_of


@dataclass(frozen=True, eq=False)
class Modes:
    """The modes of some examples, in order of first appearance."""

    signatures: Tensor
    """int64 [U, words]"""
    counts: Tensor
    """int64 [U]: examples in each."""
    first: Tensor
    """int64 [U]: the first example of each, as in `Splinters`."""
    examples: int
    """How many examples there were."""
    undercount: int = 0
    """Examples that may be missing from a count, where only the heaviest modes were kept."""

    def __len__(self) -> int:
        """U, the number of modes."""
        return len(self.counts)

    def copy(self, device: torch.device) -> Modes:
        """The same in memory of its own."""
        copies = {
            name: getattr(self, name).to(device, copy=True).contiguous()
            for name in ("signatures", "counts", "first")
        }
        return replace(self, **copies)

    def check(self, widths: Sequence[int]) -> None:
        """Raise TypeError or ValueError unless these can be modes of sites with these widths."""
        check_tensor(self.signatures, "modes.signatures", 2, (torch.int64,))
        count, words = len(self.signatures), sum(map(words_of, widths))
        for name, tensor, shape in (
            ("signatures", self.signatures, [count, words]),
            ("counts", self.counts, [count]),
            ("first", self.first, [count]),
        ):
            check_tensor(tensor, f"modes.{name}", len(shape), (torch.int64,))
            if list(tensor.shape) != shape:
                raise ValueError(f"modes.{name} must have shape {shape}, got {list(tensor.shape)}")
            if tensor.device.type != "cpu":
                raise ValueError(f"modes.{name} must be on the CPU, got {tensor.device}")
        check_integer(self.examples, "modes.examples", 0)
        check_integer(self.undercount, "modes.undercount", 0)
        check_unused_bits(self.signatures, list(widths), "modes.signatures")
        if len(ops.unique_rows(self.signatures).first) != count:
            raise ValueError("modes.signatures must all be different, got some twice")
        self._check_counts()

    def _check_counts(self) -> None:
        # By halves, since what came may be so large that int64 wraps.
        total = (int((self.counts >> 32).sum()) << 32) + int((self.counts & 0xFFFFFFFF).sum())
        if bool((self.counts < 1).any()) or total > self.examples:
            raise ValueError(
                f"modes.counts must be at least 1 and add up to at most {self.examples:,} "
                f"examples, got {total:,}"
            )
        if self.undercount == 0 and total != self.examples:
            raise ValueError(
                f"modes.counts must add up to {self.examples:,} examples, got {total:,}"
            )
        ascending = bool((self.first.diff() > 0).all())
        inside = len(self.first) == 0 or (
            self.first.min() >= 0 and self.first.max() < self.examples
        )
        if not (ascending and inside):
            raise ValueError(
                f"modes.first must be ascending examples in 0..{self.examples - 1:,}, "
                f"got {int(self.first.min())}..{int(self.first.max())}"
                + ("" if ascending else ", not ascending")
            )


def no_modes(words: int, device: torch.device) -> Modes:
    """The modes of no examples."""
    return Modes(*_empty(0, words, device), 0)


def table_of(modes: Modes) -> ModeTable:
    """A hash table of these modes, on their device, that others can be inserted into."""
    kind = _C.GpuModeTable if modes.signatures.is_cuda else ModeTable
    table = kind(modes.signatures.shape[1])
    insert(table, modes, torch.empty_like(modes.counts))
    return table


def insert(table: ModeTable, modes: Modes, numbers: Tensor) -> None:
    """Add the modes of examples that follow the table's; `numbers` `[U]` will say where they are in it."""
    table.insert(
        modes.signatures, modes.counts, modes.first, modes.examples, modes.undercount, numbers
    )


def modes_in(table: ModeTable, words: int, device: torch.device) -> Modes:
    """A copy of all modes in a table."""
    tensors = _empty(len(table), words, device)
    table.copy(*tensors)
    return Modes(*tensors, table.examples, table.undercount)


def _empty(count: int, words: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    one = torch.empty(count, dtype=torch.int64, device=device)
    return torch.empty(count, words, dtype=torch.int64, device=device), one, torch.empty_like(one)
