"""Network and data → a table on disk, in a call that can be repeated until all is done."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor, nn
from tqdm import tqdm

from gradsplinter.batches import Data, check_divisor, count_examples, shape_of, spans
from gradsplinter.checks import check_integer, check_path
from gradsplinter.io import only_writer
from gradsplinter.store import Store
from gradsplinter.store_index import Part
from gradsplinter.table import SplinterTable
from gradsplinter.traced import Network, network_of

PART_EXAMPLES = 2**22
PART_SECONDS = 60.0
"""`extract` writes a part after so many examples, or so much time: what is lost when it is killed."""
SEEN_EVERY = 2**16
"""So many examples, from the first of a part on, tell whether a repeated call has the same data."""


def extract(
    net: Network | nn.Module,
    x: Data,
    path: str | Path,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    *,
    divisor: float | None = None,
    part_examples: int = PART_EXAMPLES,
    progress: bool = True,
) -> Store:
    """Collect splinters into a folder. A call that was interrupted or killed goes on when repeated.

    Ctrl-C and errors keep all examples so far, a kill those up to a minute before.

    Args:
        net, source, target, directions: as in `splinter`.
        x, divisor: as in `splinter`. When the call is repeated they must give the same examples in the
            same order, of which the first, the last and each 65,536th of a part are compared.
        path: a new folder, or one of the same call.
        part_examples: write a part after so many examples, or after a minute.
        progress: show a bar on stderr.

    Raises:
        TypeError, ValueError: as `splinter`; a folder of something else or a damaged one, which stays
            as it is; other data than before.
    """
    check_integer(part_examples, "part_examples", 1)
    table = SplinterTable(network_of(net, shape_of(x)), source, target, directions)
    if divisor is not None:
        divisor = check_divisor(divisor, table.net.dtype)
    path = check_path(path, "path")
    with only_writer(path):
        parts: Sequence[Part] = ()
        if Store.exists(path):
            store = Store(path)
            table.check_alike(store.empty_table(), str(path))
            store.check()
            parts = store.parts
        else:
            Store.check_new(path, table)
        done = sum(part.examples for part in parts)
        total = count_examples(x)
        if total is not None and total < done:
            raise ValueError(
                f"x must begin with the {done:,} examples in {path}, got {total:,} in all"
            )
        wanted = [*_seen_spans(parts), (done, None)]
        batches = (
            batch
            for batch in spans(x, table.net.dtype, divisor, wanted, table.net.widths[0])
            if len(batch)
        )
        _check_same_data(parts, divisor, batches, path)
        part = _UnwrittenPart(table, divisor, done)
        with tqdm(
            total=total, initial=done, disable=not progress, unit="example", unit_scale=True
        ) as bar:
            try:
                for batch in batches:
                    for piece in batch.split(part_examples):
                        part.add(piece)
                        bar.update(len(piece))
                        if part.examples >= part_examples or part.seconds >= PART_SECONDS:
                            part = part.write(path)
            finally:
                part.write(path)
        if part.end == 0:
            raise ValueError("x must hold at least one example, got none")
    return Store(path, table.net)


class _UnwrittenPart:
    """The examples from `begin` on, which no part on the disk holds yet."""

    def __init__(self, table: SplinterTable, divisor: float | None, begin: int) -> None:
        self._table, self._divisor, self._begin = table, divisor, begin
        self._started = time.monotonic()
        self._seen, self._seen_examples, self._last = _seen(divisor), 0, b""

    @property
    def examples(self) -> int:
        return self._table.n_examples

    @property
    def end(self) -> int:
        return self._begin + self.examples

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def add(self, x: Tensor) -> None:
        at = self.examples
        try:
            self._table.add_batch(x, self.end)
        finally:  # of a batch that was interrupted, what counts
            x = x[: self.examples - at]
            for row in x[-at % SEEN_EVERY :: SEEN_EVERY]:
                self._seen.update(_bytes(row))
            if len(x):
                self._last = _bytes(x[-1])
            self._seen_examples += len(x)

    def write(self, path: Path) -> _UnwrittenPart:
        """As the next part, unless it is empty or an interrupted call has written it -> the next one."""
        if self.examples > 0:
            store = Store(path) if Store.exists(path) else Store.create(path, self._table)
            if store.n_examples == self._begin:
                seen = self._seen.copy()
                seen.update(self._last)
                known = self._seen_examples == self.examples
                store._append([(self._table.modes(), seen.hexdigest() if known else None)])
        return _UnwrittenPart(self._table.empty(), self._divisor, self.end)


def _seen(divisor: float | None) -> hashlib._Hash:
    """A SHA-256 that is fed with the examples of a part at `_seen_at`."""
    return hashlib.sha256(repr(divisor).encode())


def _seen_at(examples: int) -> list[int]:
    return [*range(0, examples, SEEN_EVERY), examples - 1]


def _bytes(row: Tensor) -> bytes:
    return row.detach().cpu().numpy().tobytes()


def _seen_spans(parts: Iterable[Part]) -> Iterator[tuple[int, int]]:
    begin = 0
    for part in parts:
        if part.data is not None:
            yield from ((begin + at, begin + at + 1) for at in _seen_at(part.examples))
        begin += part.examples


def _check_same_data(
    parts: Iterable[Part], divisor: float | None, rows: Iterator[Tensor], path: Path
) -> None:
    begin = 0
    for part in parts:
        end = begin + part.examples
        if part.data is not None:
            seen = _seen(divisor)
            for _ in _seen_at(part.examples):
                seen.update(_bytes(next(rows)))
            if seen.hexdigest() != part.data:
                raise ValueError(
                    f"x must begin with the examples that are in {path}, with the same divisor, got "
                    f"others among examples {begin:,}..{end - 1:,}"
                )
        begin = end
