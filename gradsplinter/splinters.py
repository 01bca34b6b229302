"""Splinters: the modes that data visits, the gradients in each, and how these compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape

import torch
from torch import Tensor

from gradsplinter import ops, scores
from gradsplinter.checks import check_integer
from gradsplinter.outline import Outline
from gradsplinter.traced import Network

NO_COMPRESSION = 0.5
"""From this share of modes among examples on, the summary says that deduplication saves little."""

AT_ONCE = 2**24
"""Entries of gradients or cosines, from which on they are computed piece by piece for a score."""

IN_SUMMARY = 2**27
"""Entries of gradients or cosines, from which on the summary does without what needs them."""

ROOM = 60
"""Characters in a line of the summary, after its name, so that 80 columns hold it."""


ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Gradients:
    """The unique gradients (splinters) of one direction, in order of first appearance.

    Attributes:
        values: [G, h_source]: the gradients.
        index: int64 [U]: which of them each mode has.
        counts: int64 [G]: the number of examples that have each.
    """

    values: Tensor
    index: Tensor
    counts: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Splinters:
    """The modes of a network between two sites over a data set, and the gradients in each mode.

    A *mode* is one joint activation pattern of the sites between source and target; every direction
    has exactly one gradient (*splinter*) in a mode. N examples fall into U modes.

    Where only the heaviest modes were kept (`undercount` > 0), scores and all else are of these modes
    alone, each weighted by its count.

    Attributes:
        net: the network.
        source: the site to differentiate by.
        target: the site to differentiate.
        directions: [D, h_target]
        signatures: int64 [U, words]: the bits of the sites `pattern_sites(net, source, target)`.
        counts: int64 [U]: examples in each mode.
        first: int64 [U]: index of each mode's first example; ascending. Of a mode that was dropped
            as a light one and came again it is the first example since then.
        ids: int64 [N]: the mode of each example, or None where it was not kept.
        n_examples: N.
        undercount: examples that may be missing from each count, where only the heaviest modes were
            kept: a count is never too large, and a mode that is not here has at most so many.
    """

    net: Network
    source: int
    target: int
    directions: Tensor
    signatures: Tensor
    counts: Tensor
    first: Tensor
    ids: Tensor | None
    n_examples: int
    undercount: int = 0

    @property
    def n_modes(self) -> int:
        return len(self.counts)

    @property
    def n_directions(self) -> int:
        return len(self.directions)

    @property
    def compression(self) -> float:
        """N / U: how many examples share a mode on average; at most, where light modes were dropped."""
        return self.n_examples / self.n_modes

    def jacobian(self) -> Tensor:
        """The gradient of each direction in each mode, `[U, D, h_source]`.

        Computed once, and not to be changed in place.
        """
        return self._jacobian

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Some modes at a time, and their part of the Jacobian, `[u, D, h_source]`, which is not kept.

        Examples:
            >>> from gradsplinter import ReluNetwork, splinter
            >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
            >>> s = splinter(net, torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
            >>> [(modes, part.shape) for modes, part in s.pieces()]
            [(slice(0, 2, None), torch.Size([2, 1, 2]))]
        """
        step = max(1, scores.AT_ONCE // (self.n_directions * self.net.widths[self.source]))
        for begin in range(0, self.n_modes, step):
            modes = slice(begin, min(begin + step, self.n_modes))
            if "_jacobian" in vars(self):
                yield modes, self._jacobian[modes]
            else:
                yield (
                    modes,
                    ops.jacobian(
                        self.net, self.signatures[modes], self.source, self.target, self.directions
                    ),
                )

    def gradients(self, direction: int) -> Gradients:
        """The unique gradients of one direction: different modes can share one.

        Raises:
            TypeError: not an integer.
            IndexError: no such direction.
        """
        direction = check_integer(direction, "direction")
        if not -self.n_directions <= direction < self.n_directions:
            raise IndexError(f"direction must be in 0..{self.n_directions - 1}, got {direction}")
        direction %= self.n_directions
        if self._entries <= AT_ONCE:
            return self._gradients[direction]
        return self._gradients_of(self._jacobian_of(slice(direction, direction + 1))[:, 0])

    def co_appearance(self) -> Tensor:
        """Unique splinters / modes of each direction, float64 `[D]`.

        It is 1 for all where the splinters of all directions always appear together.
        """
        return torch.tensor(self._unique_gradients, dtype=torch.float64) / self.n_modes

    def cross(self) -> Tensor:
        """Cosines between the gradients of every two directions in each mode, `[U, D, D]`."""
        return self._cross

    @property
    def zero_gradients(self) -> Tensor:
        """int64 [D]: modes in which the gradient of a direction is exactly zero.

        The cosine of a zero gradient with another is taken as 0.
        """
        return self._paired[1]

    def orthogonality(self) -> float:
        """1 - Σ_u count_u · mean_(i<j) abs(cos(g_u,i, g_u,j)) / Σ_u count_u, over modes u.

        1 where the gradients of different directions are orthogonal in every mode, 0 where they
        are parallel. A zero gradient counts as orthogonal, so a network whose units are all off
        has 1, too: `zero_gradients` says in how many modes there is one.

        Raises:
            ValueError: fewer than two directions.
        """
        return scores.mean_of_pairs(self.orthogonality_matrix())

    def orthogonality_matrix(self) -> Tensor:
        """The orthogonality of every pair of directions, float64 `[D, D]`; the diagonal is 0.

        A zero gradient counts as orthogonal, as in `orthogonality`.
        """
        self._check_pairs()
        return self._paired[0]

    def all_pairs_orthogonality(self) -> float:
        """The older score: 1 - mean abs(cos) over all pairs of unique gradients of two directions.

        It compares gradients whether or not they ever occur together, each counting once, and is
        kept for comparison: unlike `orthogonality`, it does not measure the function. A zero
        gradient counts as orthogonal here, too.

        Raises:
            ValueError: fewer than two directions.
        """
        self._check_pairs()
        return scores.mean_of_pairs(scores.all_pairs([g.values for g in self._gradients]))

    @cached_property
    def _jacobian(self) -> Tensor:
        return ops.jacobian(self.net, self.signatures, self.source, self.target, self.directions)

    @cached_property
    def _cross(self) -> Tensor:
        return self._cross_of(ALL)

    @cached_property
    def _gradients(self) -> list[Gradients]:
        return [self._gradients_of(self._jacobian[:, d]) for d in range(self.n_directions)]

    def _gradients_of(self, of_modes: Tensor) -> Gradients:
        first, _, index = ops.unique_rows(of_modes)
        counts = torch.zeros(len(first), dtype=torch.int64, device=index.device)
        counts.index_add_(0, index, self.counts)
        return Gradients(of_modes[first], index, counts)

    @property
    def _entries(self) -> int:
        """Of all gradients, or of all cosines if these are more."""
        return (
            self.n_modes * self.n_directions * max(self.n_directions, self.net.widths[self.source])
        )

    @cached_property
    def _unique_gradients(self) -> list[int]:
        """How many there are of each direction."""
        if self._entries <= AT_ONCE:
            return [len(g.values) for g in self._gradients]
        step = max(1, AT_ONCE // (self.n_modes * self.net.widths[self.source]))
        found = []
        for begin in range(0, self.n_directions, step):
            part = self._jacobian_of(slice(begin, begin + step))
            found += [len(ops.unique_rows(part[:, d]).first) for d in range(part.shape[1])]
        return found

    @cached_property
    def _paired(self) -> tuple[Tensor, Tensor]:
        """Orthogonality `[D, D]` and zero gradients `[D]`, a bounded number of modes at a time."""
        step = max(1, AT_ONCE // self.n_directions**2)
        matrix = torch.zeros(self.n_directions, self.n_directions, dtype=torch.float64)
        zeros = torch.zeros(self.n_directions, dtype=torch.int64)
        for begin in range(0, self.n_modes, step):
            modes = slice(begin, begin + step)
            cosines = self._cross_of(modes)
            counts = self.counts[modes]
            share = int(counts.sum()) / int(self.counts.sum())
            matrix += share * scores.paired(cosines, counts).cpu()
            zeros += (cosines.diagonal(dim1=1, dim2=2) == 0).sum(dim=0).cpu()
        return matrix, zeros

    def _cross_of(self, modes: slice) -> Tensor:
        return ops.gram(self.net, self.signatures[modes], self.source, self.target, self.directions)

    def _jacobian_of(self, directions: slice) -> Tensor:
        """Some of the Jacobian; all of it is kept where it is small."""
        if self._entries <= AT_ONCE or "_jacobian" in vars(self):
            return self._jacobian[:, directions]
        return ops.jacobian(
            self.net, self.signatures, self.source, self.target, self.directions[directions]
        )

    def _check_pairs(self) -> None:
        if self.n_directions < 2:
            raise ValueError(
                f"directions must be at least 2 to compare them, got {self.n_directions}"
            )

    def overview(self) -> dict[str, str]:
        """The part of the summary for which nothing has to be computed."""
        rows = {
            "network": _some(repr(self.net).split("-"), "-"),
            "sites": f"{self.source} ← {self.target}",
            "examples": f"{self.n_examples:,}",
            "modes": f"{self.n_modes:,}",
            "compression": f"{self.compression:.1f} examples a mode",
        }
        if self.n_modes > NO_COMPRESSION * self.n_examples:
            rows["compression"] += ": deduplication saves little"
        if self.undercount:
            rows["compression"] = f"at most {rows['compression']}"
            rows["modes"] += f", the heaviest (counts up to {self.undercount:,} too small)"
        return rows

    def summary(self) -> dict[str, str]:
        """What `repr` and the notebook view show."""
        rows = self.overview()
        if isinstance(self.net, Outline):
            rows["gradients"] = "the network is not kept with its table: Store(path, net)"
            return rows
        if self._entries > IN_SUMMARY:
            rows["gradients"] = f"{self.n_modes * self.n_directions:,}, too many for this summary"
            rows["not computed"] = "call orthogonality() or co_appearance(), which take time"
            return rows
        if not bool(torch.isfinite(self._jacobian).all()):
            rows["gradients"] = "not all finite: their products leave the range of the dtype"
            return rows
        directions = f" of {self.n_directions:,} directions"
        unique = [f"{count:,}" for count in self._unique_gradients]
        rows["unique gradients"] = _some(unique, room=ROOM - len(directions)) + directions
        rows["co-appearance"] = _some([f"{c:.3g}" for c in self.co_appearance().tolist()])
        if self.n_directions >= 2:
            rows["orthogonality"] = f"{self.orthogonality():.4f}"
        zeros = int(self.zero_gradients.sum())
        if zeros:
            rows["zero gradients"] = f"{zeros:,} of {self.n_modes * self.n_directions:,}"
        return rows

    def __repr__(self) -> str:
        rows = self.summary()
        width = max(map(len, rows))
        return "\n".join(["Splinters", *(f"  {k:<{width}}  {v}" for k, v in rows.items())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(k)}</th>"
            f"<td style='text-align:left'>{escape(v)}</td></tr>"
            for k, v in self.summary().items()
        )
        return f"<table><caption>Splinters</caption>{rows}</table>"


def _some(values: list[str], separator: str = ", ", room: int = ROOM) -> str:
    """Values on one line, the middle left out where they do not fit."""
    line = separator.join(values)
    keep = len(values) // 2
    while len(line) > room and keep > 1:
        keep -= 1
        line = separator.join([*values[:keep], "...", *values[-keep:]])
    return line
