"""What the CUDA kernels are meant to reach on an H200, beside what was measured. Nothing is asserted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class Row(Protocol):
    """Of bench/conftest.py."""

    work: str
    ours: float
    peer: str | None
    peer_time: float | None
    of_the_limit: float | None


@dataclass(frozen=True)
class Goal:
    what: str
    work: str  # of the rows it is about, with their size: smaller ones do not count
    least: float
    peer: str | None = None  # those raced against; None: the share of the limit is meant

    def measured(self, rows: Iterable[Row]) -> float | None:
        """The least that any row of it shows: against the best peer. None where there is no such row."""
        found = []
        for row in rows:
            if not re.fullmatch(self.work, row.work):
                continue
            if self.peer is None:
                found += [row.of_the_limit]
            elif row.peer is not None and row.peer_time and re.fullmatch(self.peer, row.peer):
                found += [row.peer_time / row.ours]
        return min((value for value in found if value is not None), default=None)

    def __str__(self) -> str:
        return f"{self.what}: at least {self._text(self.least)}"

    def _text(self, value: float) -> str:
        return f"{value:.0%}" if self.peer is None else f"{value:.3g} ×"

    def line(self, rows: Iterable[Row]) -> str:
        value = self.measured(rows)
        if value is None:
            return f"| {self} | not measured | |"
        return f"| {self} | {self._text(value)} | {'yes' if value >= self.least else 'NO'} |"


SMALL = r"unique_signatures \(.* modes\), 100,000,000 × 4-32-32-2"
GOALS = [
    Goal("signatures + unique of 100M × 4-32-32-2, torch's forward alone", SMALL, 10,
         "torch forward alone.*"),
    Goal("the same, of the limit by bytes or by float32", SMALL, 0.5),
    *(
        Goal(f"unique rows, 100M × 128 bits, {unique} unique, torch.unique(dim=0)",
             f"unique_rows, 100,000,000 × 128 bits, {unique} unique", 20, r"torch\.unique\(dim=0\)")
        for unique in ("1,000", "100,000", "10,000,000")
    ),
    Goal("Jacobians of 784-512-512-10, the best peer", "jacobian, U = N, 16,000 × 784-512-512-10", 3, ".*"),
    Goal("4,096 wide layers, of the float32 rate",
         "signatures, 32,768 × 4096-4096-4096-10", 0.7),
]  # fmt: skip


def table(rows: list[Row]) -> str:
    lines = ["| goal on an H200 | measured here | met |", "|---|---:|---|"]
    return "\n".join(lines + [goal.line(rows) for goal in GOALS])
