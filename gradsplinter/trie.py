"""Modes of every site of a network, and how they nest: who is in which, and which are rare.

A mode of a site is a joint pattern of the sites above it. Each belongs to one mode of the site above it, so
that the modes form a trie, which has as many leaves as there are patterns in the data, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradsplinter import ops
from gradsplinter.batches import Data
from gradsplinter.checks import check_integer
from gradsplinter.network import pattern_sites
from gradsplinter.patterns import select_sites, words_of
from gradsplinter.splinters import Splinters
from gradsplinter.table import splinter
from gradsplinter.traced import Network

Node = tuple[int, int]
"""(mode, direction): a component of a site."""


@dataclass(frozen=True, eq=False, repr=False)
class ModeTrie:
    """The modes of each site between a start site and another, over a data set."""

    splinters: dict[int, Splinters]
    """By site, from the one before the start site back to the last one."""
    parents: dict[int, Tensor]
    """By site, int64 [U]: the mode of the site above that each mode belongs to."""
    ids: Tensor
    """int64 [N]: the mode of each example at the last site."""

    @property
    def net(self) -> Network:
        return self.splinters[self.end].net

    @property
    def start(self) -> int:
        return self.splinters[self.end].target

    @property
    def end(self) -> int:
        return min(self.splinters)

    @property
    def sites(self) -> tuple[int, ...]:
        """From the one before the start site back."""
        return tuple(self.splinters)

    @property
    def directions(self) -> Tensor:
        """[D, h_start]: where the graph starts."""
        return self.splinters[self.end].directions

    @property
    def n_examples(self) -> int:
        return len(self.ids)

    def modes(self, site: int) -> Tensor:
        """int64 `[N]`: the mode of each example at a site."""
        self._check_site(site)
        return self._along_the_trie(self.ids)[site]

    def children(self, site: int, mode: int) -> Tensor:
        """int64: the modes of the site before that belong to this mode; not of the last site."""
        self._check_not_last(site)
        self._check_node(site, (mode, 0))
        return (self.parents[site - 1] == mode).nonzero().squeeze(1)

    def example(self, i: int) -> dict[int, int]:
        """By site, the mode of one example: its subgraph has the components of these modes.

        Raises:
            IndexError: no such example.
        """
        along = self._along_the_trie(self.ids[self._check_example(i)].reshape(1))
        return {site: int(modes) for site, modes in along.items()}

    def activated(self, x: Data, *, divisor: float | None = None) -> dict[int, Tensor]:
        """The mode of examples that need not be those of the graph.

        Returns:
            By site, int64 `[n]`; -1 for a mode that the graph has not seen.

        Raises:
            TypeError, ValueError: as `splinter`.
        """
        new = splinter(self.net, x, self.end, self.start, self.directions, divisor=divisor)
        assert new.ids is not None
        modes, begin = {}, 0
        for site in reversed(self.sites):  # a mode that is new at one site can be known above it
            known = self.splinters[site].signatures
            words = torch.cat([known, new.signatures[:, begin:]])
            ids = ops.unique_rows(words).ids[len(known) :]
            modes[site] = torch.where(ids < len(known), ids, -1)[new.ids]
            begin += words_of(self.net.bits[site + 1])
        return {site: modes[site] for site in self.sites}

    def rarity(self) -> Tensor:
        """float64 `[S, N]`: -log of the share of examples in each example's mode, site by site."""
        along = self._along_the_trie(self.ids)
        frequencies = [self.splinters[s].counts.double()[along[s]] for s in self.sites]
        return -(torch.stack(frequencies) / self.n_examples).log()

    def rarest(self, count: int = 10, among: Tensor | None = None) -> Tensor:
        """int64: the examples whose rarity, summed over sites, is highest, the rarest first.

        Where not all that are equally rare fit in, those that do are spread over them. Fewer are always
        among more.

        Args:
            count: of examples; all, if there are fewer.
            among: int64, ascending: examples to choose from; by default all.

        Raises:
            ValueError: a count below 1.
        """
        count = check_integer(count, "count", 1)
        rarity, order = self._by_rarity
        if among is not None:
            wanted = torch.zeros(self.n_examples, dtype=torch.bool)
            wanted[among] = True
            order = order[wanted[order]]
        chosen = order[:count].sort().values
        return chosen[rarity[chosen].sort(descending=True, stable=True).indices]

    def equally_rare(self, i: int) -> Tensor:
        """int64: the examples that are as rare as example i, with itself, ascending.

        Raises:
            IndexError: no such example.
        """
        rarity, _ = self._by_rarity
        return (rarity == rarity[self._check_example(i)]).nonzero().squeeze(1)

    @cached_property
    def _by_rarity(self) -> tuple[Tensor, Tensor]:
        """float64 [N]: the rarity of each example, summed over sites; int64 [N]: the rarest first.

        Equal ones follow each other in van der Corput's order, so that the first of them, however many,
        are spread over all.
        """
        # Products of shares that are equal differ in the last bits of the sums of their logarithms.
        rarity = self.rarity().sum(0).round(decimals=9)
        order = rarity.sort(descending=True, stable=True).indices
        _, times = rarity[order].unique_consecutive(return_counts=True)
        first = (times.cumsum(0) - times).repeat_interleave(times)
        place = torch.arange(self.n_examples) - first
        mirrored = torch.zeros_like(place)
        for _ in range(self.n_examples.bit_length()):
            mirrored = 2 * mirrored + place % 2
            place //= 2
        order = order[mirrored.sort(stable=True).indices]
        return rarity, order[rarity[order].sort(descending=True, stable=True).indices]

    def silent_sites(self) -> list[int]:
        """Hidden sites, of those whose bits count, at which no unit is on in any example."""
        s, silent, begin = self.splinters[self.end], [], 0
        for site in pattern_sites(self.net, self.end, self.start):
            words = words_of(self.net.bits[site])
            if not bool(s.signatures[:, begin : begin + words].any()):
                silent.append(site)
            begin += words
        return silent

    def _along_the_trie(self, modes: Tensor) -> dict[int, Tensor]:
        found = {self.end: modes}
        for site in self.sites[-2::-1]:
            found[site] = self.parents[site - 1][found[site - 1]]
        return {site: found[site] for site in self.sites}

    def _patterns_of(self, site: int) -> int:
        """How many different patterns a site has by itself."""
        s = self.splinters[self.end]
        sites = pattern_sites(self.net, self.end, self.start)
        widths = [self.net.bits[hidden] for hidden in sites]
        at = site - sites.start
        return len(ops.unique_rows(select_sites(s.signatures, widths, at, at).contiguous()).first)

    def _check_example(self, i: int) -> int:
        i = check_integer(i, "i")
        if not -self.n_examples <= i < self.n_examples:
            raise IndexError(f"i must be an example in 0..{self.n_examples - 1}, got {i}")
        return i

    def _check_site(self, site: int) -> int:
        check_integer(site, "site")
        if site not in self.splinters:
            raise ValueError(f"site must be in {self.end}..{self.start - 1}, got {site}")
        return site

    def _check_not_last(self, site: int) -> None:
        if not self.end < check_integer(site, "site") <= self.start:
            raise ValueError(f"site must be in {self.end + 1}..{self.start}, got {site}")

    def _check_node(self, site: int, node: object) -> Node:
        modes = 1 if site == self.start else self.splinters[site].n_modes
        if not isinstance(node, Sequence) or len(node) != 2:
            raise TypeError(f"a node must be (mode, direction), got {node!r}")
        mode, direction = (check_integer(n, "a node's number") for n in node)
        if not 0 <= mode < modes:
            raise IndexError(f"mode must be in 0..{modes - 1}, got {mode}")
        if not 0 <= direction < len(self.directions):
            raise IndexError(f"direction must be in 0..{len(self.directions) - 1}, got {direction}")
        return mode, direction


def nested(finest: Splinters) -> tuple[dict[int, Splinters], dict[int, Tensor]]:
    """The splinters of every site above that of `finest`, too, and the parents of their modes."""
    end, start, net = finest.source, finest.target, finest.net
    splinters, parents = {end: finest}, {}
    for site in range(end + 1, start):
        before = splinters[site - 1]
        words = before.signatures[:, words_of(net.bits[site]) :].contiguous()
        first, _, parents[site - 1] = ops.unique_rows(words)
        counts = torch.zeros_like(first).index_add_(0, parents[site - 1], before.counts)
        splinters[site] = Splinters(
            net, site, start, finest.directions, words[first], counts, before.first[first], None,
            finest.n_examples,
        )  # fmt: skip
    parents[start - 1] = torch.zeros_like(splinters[start - 1].counts)
    order = range(start - 1, end - 1, -1)
    return {site: splinters[site] for site in order}, {site: parents[site] for site in order}
