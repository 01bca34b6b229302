"""Network and data → Splinters, for data that comes in pieces of any number and size."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import torch
from torch import Tensor, nn

from gradsplinter import ops
from gradsplinter._C import ModeTable
from gradsplinter.batches import Data, batches, rows_at_once, shape_of
from gradsplinter.checks import check_bool, check_integer, check_span
from gradsplinter.ids import Ids
from gradsplinter.io import NpyColumn
from gradsplinter.modes import Modes, insert, modes_in, no_modes, table_of
from gradsplinter.network import pattern_sites
from gradsplinter.patterns import words_of
from gradsplinter.splinters import Splinters
from gradsplinter.traced import Network, TracedNetwork, network_of
from gradsplinter.wording import counted

SIGNATURE_BYTES = {"cpu": 2**26, "cuda": 2**30}
"""Most bytes of signatures that are added at once: Python cannot be interrupted meanwhile."""


def splinter(
    net: Network | nn.Module,
    x: Data,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    *,
    divisor: float | None = None,
    ids: bool | str | Path = True,
    check_finite: bool = True,
) -> Splinters:
    """Collect the splinters of a network over a data set.

    Args:
        net: a `ReluNetwork`, a `TracedNetwork`, or a module of which one of them can be made.
        x: inputs `[N, h_0]` of the network's dtype, N at least 1: a tensor, an array, a memory map, a
            file or a folder, or an iterable of batches, as `gradsplinter.batches` says. What does not
            lie in memory is read piece by piece.
        source: the site to differentiate by, 0..L-1.
        target: the site to differentiate, source+1..L; negative ones count from the end, -1 is the
            output.
        directions: vectors `[D, h_target]` at the target; its own nodes by default.
        divisor: integer data is divided by it (255 for images of bytes).
        ids: remember the mode of each example, 8 bytes an example. The path of a new `.npy` file
            (int64 `[N]`) keeps them on disk and not in memory.
        check_finite: refuse inputs that are NaN or infinite.

    Returns:
        The modes; gradients and their comparisons are computed when they are asked for.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: no examples, a shape, device or site that does not fit, values not finite.
        NotImplementedError: a module that is not supported.

    Examples:
        Two inputs that are added, each after its own ReLU, have four linear regions:

        >>> from gradsplinter import ReluNetwork
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [2.0, 3.0]])
        >>> s = splinter(net, x)
        >>> s.n_modes, s.counts.tolist(), s.ids.tolist()
        (3, [2, 1, 1], [0, 1, 2, 0])
        >>> s.jacobian()[:, 0]
        tensor([[1., 1.],
                [0., 1.],
                [1., 0.]])
    """
    net = network_of(net, shape_of(x))
    table = SplinterTable(net, source, target, directions, ids=ids, check_finite=check_finite)
    table.update(x, divisor=divisor)
    if table.n_examples == 0:
        raise ValueError("x must hold at least one example, got none")
    return table._splinters(table._modes(), table._all_ids(copy=False))  # without copies


class SplinterTable:
    """The modes of a network between two sites, over data that comes in pieces.

    It holds the modes and no data, so its memory grows with the regions that the data visits. Several
    threads may update one table. Where the network is on a GPU, the table is there too; data from
    the CPU's memory is moved piece by piece.

    Args:
        net, source, target, directions, check_finite: as in `splinter`.
        ids: remember the mode of each example, 8 bytes an example; or the path of a new `.npy` file
            (int64 `[N]`), where they are written as they come. After each update the file can be
            read, e.g. by `np.load(path, mmap_mode="r")`.
        max_modes: refuse data with more modes, before memory runs out.
        heaviest: keep only about so many modes, those with the most examples, where nearly every
            example has a mode of its own (Misra and Gries 1982). `undercount` says how many examples
            of a mode may be missing from its count, at most N / (heaviest + 1). A mode with more
            examples than that is never missing. Which lighter ones are kept, and the undercount,
            depend on the sizes of the pieces that the data come in; nothing else here does.

    Examples:
        >>> from gradsplinter import ReluNetwork
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> table = SplinterTable(net)
        >>> for _ in range(3):
        ...     table.update(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
        >>> table.n_examples, table.splinters().counts.tolist()
        (6, [3, 3])
    """

    def __init__(
        self,
        net: Network | nn.Module,
        source: int = 0,
        target: int = -1,
        directions: Tensor | None = None,
        *,
        ids: bool | str | Path = False,
        max_modes: int | None = None,
        heaviest: int | None = None,
        check_finite: bool = True,
    ) -> None:
        net = network_of(net)
        self.net = net
        self.source, self.target = check_span(net.depth, source, target)
        if isinstance(net, TracedNetwork):
            net.check_linear(self.source, self.target)
        if directions is None:
            directions = torch.eye(net.widths[self.target], dtype=net.dtype, device=net.device)
        else:
            directions = ops.check_directions(net, directions, self.target)
            if len(directions) == 0:
                raise ValueError("directions must hold at least one direction, got none")
        self.directions = directions
        self.max_modes = None if max_modes is None else check_integer(max_modes, "max_modes", 1)
        self.heaviest = None if heaviest is None else check_integer(heaviest, "heaviest", 1)
        if not isinstance(ids, bool | str | Path):
            raise TypeError(f"ids must be True, False or a path, got {type(ids).__name__}")
        if ids is not False and heaviest is not None:
            raise ValueError("ids must be False where only the heaviest modes are kept")
        self.check_finite = check_bool(check_finite, "check_finite")
        self._sites = list(pattern_sites(net, self.source, self.target))
        self._ids: Ids | None = None
        if ids is not False:
            self._ids = Ids(None if ids is True else NpyColumn(ids, "ids"))
        self._lock = Lock()
        # A first piece is kept as it is: the hash table is built only where a second one comes.
        self._held: Modes | ModeTable = no_modes(self._words(), net.device)
        self._stream: torch.cuda.Stream | None = None

    def __repr__(self) -> str:
        return (
            f"SplinterTable({self.net!r}, {self.source} to {self.target}: "
            f"{counted(self.n_modes, 'mode')}, {counted(self.n_examples, 'example')})"
        )

    def __reduce__(self) -> str:
        raise TypeError(
            "a SplinterTable cannot be pickled; send its modes() and add() them to another"
        )

    @property
    def n_examples(self) -> int:
        """N, the number of examples so far."""
        return self._held.examples

    @property
    def n_modes(self) -> int:
        """U, the number of modes so far."""
        return len(self._held)

    @property
    def undercount(self) -> int:
        """Examples that may be missing from the count of a mode; 0 without `heaviest`."""
        return self._held.undercount

    def update(self, x: Data, *, divisor: float | None = None, skip: int = 0) -> None:
        """Add the examples of `x`, piece by piece.

        An error or Ctrl-C leaves the table as it was after the last whole piece.

        Args:
            x, divisor: as in `splinter`.
            skip: leave out so many examples from the start, e.g. those of an earlier, interrupted
                call: `table.update(x, skip=table.n_examples)`.

        Raises:
            TypeError, ValueError: as `splinter`; more modes than `max_modes`.
        """
        begin = check_integer(skip, "skip", 0)
        for batch in batches(x, self.net.dtype, divisor, skip=skip, width=self.net.widths[0]):
            self.add_batch(batch, begin)
            begin += len(batch)

    def add_batch(self, x: Tensor, begin: int) -> None:
        """Add the examples of one batch; errors say that it begins at example `begin` of the data.

        Raises:
            TypeError, ValueError: as `update`.
        """
        device = self.net.device
        most = SIGNATURE_BYTES.get(device.type, SIGNATURE_BYTES["cpu"])
        rows = max(1, min(rows_at_once(device), most // (8 * max(1, self._words()))))
        for piece in x.split(rows) if len(x) > rows else (x,):
            try:
                found = self._unique_signatures(piece)
            except torch.OutOfMemoryError:
                if len(piece) == 1:
                    raise
                found = None
            except ValueError as error:
                error.add_note(f"(in a piece of x that begins at example {begin:,})")
                raise
            if found is None:  # here, where the error does not hold memory any more
                half = -(-len(piece) // 2)
                self.add_batch(piece[:half], begin)
                self.add_batch(piece[half:], begin + half)
            else:
                signatures, first, counts, ids = found
                self._add(Modes(signatures, counts, first, len(ids)), ids)
            begin += len(piece)

    def _unique_signatures(self, x: Tensor) -> ops.UniqueSignatures:
        if x.device.type == "cpu" and self.net.device.type != "cpu":
            x = x.to(self.net.device)
        return ops.unique_signatures(self.net, x, self._sites, check_finite=self.check_finite)

    def merge(self, other: SplinterTable) -> None:
        """Add the modes of `other`, whose examples follow this table's.

        Two tables of two halves of the data, merged, are the table of all of it.

        Raises:
            TypeError: not a SplinterTable.
            ValueError: another network, other sites or directions; ids in this table, not in `other`.
        """
        if not isinstance(other, SplinterTable):
            raise TypeError(f"other must be a SplinterTable, got {type(other).__name__}")
        self.check_alike(other)
        if self._ids is not None and other._ids is None:
            raise ValueError("other must have ids, since this table has")
        if self.heaviest != other.heaviest:
            raise ValueError(
                f"other must have the same heaviest, got {other.heaviest} for {self.heaviest}"
            )
        with other._lock:
            other._follow_stream()
            modes, ids = other._modes(), other._all_ids(copy=False)
        device = self.net.device
        if other.net.device != device:
            modes = modes.copy(device)
        self._add(modes, None if ids is None else ids.to(device))

    def add(self, modes: Modes) -> None:
        """Add the modes of examples that follow this table's: what `modes()` of another one gave.

        Raises:
            TypeError: tensors that are not int64.
            ValueError: what cannot be the modes of this network and these sites; this table has ids;
                more modes than `max_modes`.
        """
        self.check_modes(modes)
        if self._ids is not None:
            raise ValueError("modes have no ids, but this table has")
        self._add(modes.copy(self.net.device), None)

    def check_modes(self, modes: Modes) -> None:
        """Raise TypeError or ValueError unless these can be modes of this network and these sites."""
        modes.check([self.net.bits[site] for site in self._sites])

    def modes(self) -> Modes:
        """The modes so far, in the CPU's memory; later updates do not change them."""
        with self._lock:
            self._follow_stream()
            return self._modes().copy(torch.device("cpu"))

    def _modes(self) -> Modes:
        if isinstance(self._held, Modes):
            return self._held
        return modes_in(self._held, self._words(), self.net.device)

    def splinters(self) -> Splinters:
        """What has been collected so far.

        Raises:
            ValueError: no examples yet, or no mode heavy enough for `heaviest`.
        """
        with self._lock:
            self._follow_stream()
            modes = self._modes().copy(self.net.device)
            return self._splinters(modes, self._all_ids(copy=True))

    def _splinters(self, modes: Modes, ids: Tensor | None) -> Splinters:
        if modes.examples == 0:
            raise ValueError("the table must hold at least one example, got none")
        if len(modes.counts) == 0:
            raise ValueError(
                f"heaviest must be larger than {self.heaviest} to find a mode: none has more than "
                f"{modes.undercount:,} of the {modes.examples:,} examples"
            )
        return Splinters(
            self.net, self.source, self.target, self.directions, modes.signatures, modes.counts,
            modes.first, ids, modes.examples, modes.undercount,
        )  # fmt: skip

    def _follow_stream(self) -> None:
        """On a GPU, let the current stream wait for the one that worked on this table before."""
        if self.net.device.type != "cuda":
            return
        current = torch.cuda.current_stream(self.net.device)
        if self._stream is not None and self._stream != current:
            current.wait_stream(self._stream)
            held = [] if self._ids is None else self._ids.tensors()
            if isinstance(self._held, Modes):
                held += [self._held.signatures, self._held.counts, self._held.first]
            for tensor in held:
                tensor.record_stream(current)
        self._stream = current

    def _words(self) -> int:
        return sum(words_of(self.net.bits[site]) for site in self._sites)

    def _add(self, modes: Modes, ids: Tensor | None) -> None:
        """Add a piece. One assignment or call into C++ decides, so that Ctrl-C cannot halve it."""
        if modes.examples == 0:
            return
        with self._lock:
            self._follow_stream()
            if isinstance(self._held, Modes) and self.n_examples == 0:
                self._check_cap(len(modes))
                self._keep_ids(None, ids)
                self._held = modes
            else:
                if isinstance(self._held, Modes):
                    self._held = table_of(self._held)
                if self.max_modes is not None and self.n_modes + len(modes) > self.max_modes:
                    self._check_cap(self.n_modes + self._held.missing(modes.signatures))
                numbers = torch.empty_like(modes.counts)
                self._keep_ids(numbers, ids)
                insert(self._held, modes, numbers)
            if self._ids is not None:
                self._ids.settle(self.n_examples)
            if self.heaviest is not None and self.n_modes > 2 * self.heaviest:
                self._drop_light_modes(self.heaviest)

    def _check_cap(self, modes: int) -> None:
        if self.max_modes is not None and modes > self.max_modes:
            raise ValueError(
                f"x must have at most max_modes = {self.max_modes:,} modes with what came before, "
                f"got {modes:,}; raise max_modes, or keep the heaviest ones only"
            )

    def _keep_ids(self, numbers: Tensor | None, ids: Tensor | None) -> None:
        """Remember the next piece: `ids` within it, and the `numbers` that its modes will get."""
        if self._ids is not None and ids is not None:
            self._ids.put(self.n_examples, ids, numbers)

    def _all_ids(self, *, copy: bool) -> Tensor | None:
        return None if self._ids is None else self._ids.read(self.n_examples, copy=copy)

    def _drop_light_modes(self, keep: int) -> None:
        """Misra and Gries (1982), as merged by Agarwal et al. (2012): subtract a count from all."""
        modes = self._modes()
        by = int(modes.counts.topk(keep + 1).values[-1])
        heavy = (modes.counts > by).nonzero().squeeze(1)
        left = modes.signatures[heavy], modes.counts[heavy] - by, modes.first[heavy]
        self._held = table_of(Modes(*left, modes.examples, modes.undercount + by))

    def check_alike(self, other: SplinterTable, name: str = "other") -> None:
        """Raise ValueError unless both are of the same network, sites and directions."""
        ours, theirs = self.net.fingerprint, other.net.fingerprint
        if ours != theirs:
            alike = repr(self.net) == repr(other.net)
            raise ValueError(
                f"{name} must have the same network, got {other.net!r} for {self.net!r}"
                f"{', with other weights' if alike else ''} (fingerprints {theirs[:8]}… and {ours[:8]}…)"
            )
        sites = self.source, self.target
        if sites != (other.source, other.target):
            raise ValueError(
                f"{name} must have the same sites, got {(other.source, other.target)} for {sites}"
            )
        if not torch.equal(self.directions.cpu(), other.directions.cpu()):
            raise ValueError(f"{name} must have the same directions, got different ones")

    def empty(self) -> SplinterTable:
        """A table of the same network, sites and directions, without examples, ids or bounds."""
        return SplinterTable(self.net, self.source, self.target, self.directions)
