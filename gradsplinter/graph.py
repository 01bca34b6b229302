"""Splinters of every site → the computation graph: components, their modes, and who uses them.

A *component* is the gradient of a direction at the start site with respect to another site, normalised; it
is a direction for the next step back, and its length over that of the component above is the weight of
the edge between the two. So weights multiply along a path to the length of the full gradient. Components
are not numbered along a tree: a component is (site, mode, direction), where a mode is a joint pattern of
the sites above, and each mode of a site belongs to one mode of the site above it. The modes form a trie,
which has as many leaves as there are patterns in the data, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from gradsplinter import ops
from gradsplinter.batches import Data, shape_of
from gradsplinter.checks import SHORTEST, check_on_cpu, check_span
from gradsplinter.distinct import count_different, hashes_of
from gradsplinter.merged import Merged, merge
from gradsplinter.network import pattern_sites
from gradsplinter.splinters import AT_ONCE
from gradsplinter.table import splinter
from gradsplinter.traced import Network, network_of
from gradsplinter.trie import ModeTrie, Node, nested
from gradsplinter.wording import counted


@dataclass(frozen=True)
class Size:
    """How large a site of the graph is, and how large a tree without modes would be there.

    Attributes:
        components: modes × directions, without those whose gradient is zero.
        unique_components: different gradients among them, of each direction.
        naive_nodes: directions × the patterns of each site above, each combined with each: the
            nodes of a tree.
    """

    site: int
    modes: int
    components: int
    unique_components: int
    naive_nodes: int

    @property
    def ratio(self) -> float:
        """Naive nodes for each component; infinite where there are only zero gradients."""
        return self.naive_nodes / self.components if self.components else float("inf")


@dataclass(frozen=True, eq=False, repr=False)
class ComputationGraph(ModeTrie):
    """The components of a network from a start site back to another, over a data set.

    Examples:
        >>> from gradsplinter import ReluNetwork
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> graph = computation_graph(net, torch.tensor([[1.0, 1.0], [-1.0, 1.0], [2.0, 3.0]]))
        >>> [(size.site, size.modes) for size in graph.sizes()]
        [(1, 1), (0, 2)]
        >>> graph.component(0, mode=1, direction=0)
        tensor([0., 1.])
    """

    def lengths(self, site: int) -> Tensor:
        """`[U, D]`: of the full gradient of each direction with respect to the site, in each mode."""
        self._check_site(site)
        return self._lengths[site]

    def weights(self, site: int) -> Tensor:
        """`[U, D]`: the edge to each component of a site from the component above it.

        It is the length of the gradient of the component above, which has length 1; 0 where the
        gradient is zero. The components above those of the first site are the directions.
        """
        self._check_site(site)
        above = self._lengths_above(site)[self.parents[site]]
        return torch.where(above == 0, 0, self._lengths[site] / above)

    def components(self, site: int) -> Tensor:
        """`[U, D, h_site]`: all components of a site, of length 1; zero where the gradient is."""
        s = self.splinters[self._check_site(site)]
        found = torch.empty(s.n_modes, s.n_directions, self.net.widths[site], dtype=self.net.dtype)
        for modes, part in self.pieces(site):
            found[modes] = part
        return found

    def pieces(self, site: int) -> Iterator[tuple[slice, Tensor]]:
        """Some modes at a time, and their `components`, where all together would take much memory."""
        lengths = self.lengths(site)
        for modes, gradients in self.splinters[site].pieces():
            yield modes, _divided(gradients, lengths[modes])

    def component(self, site: int, mode: int, direction: int) -> Tensor:
        """One component, `[h_site]`.

        Raises:
            ValueError: no such site.
            IndexError: no such mode or direction.
        """
        self._check_site(site)
        mode, direction = self._check_node(site, (mode, direction))
        s = self.splinters[site]
        one = ops.jacobian(
            s.net, s.signatures[mode : mode + 1], site, s.target,
            s.directions[direction : direction + 1],
        )  # fmt: skip
        return _divided(one, self._measured(site, one))[0, 0]

    def merged(self, site: int, angle: float | None = None) -> Merged:
        """Components that are the same direction made one: the tree of components becomes a DAG.

        A vector and its opposite are two.

        Args:
            site: of the components.
            angle: merge what is near, so that no two of a node are farther apart than this angle (in
                radians), by `clusters` with this `max_diameter`. A node is then the mean direction of
                its components, which is no farther from any of them either. Without it, only what is
                equal in every bit after each was divided by its length: gradients that are equal, and
                most that differ in length only.

        Raises:
            ValueError: no such site; an angle out of range; gradients that are not finite.
        """
        used = self.usage(site)
        rows = torch.empty(int((used > 0).sum()), self.net.widths[site], dtype=self.net.dtype)
        begin = 0
        for modes, part in self.pieces(site):
            some = part[used[modes] > 0]
            rows[begin : begin + len(some)] = some
            begin += len(some)
        return merge(rows, used, angle)

    def cosines(self, site: int) -> Tensor:
        """`[U, D, D]`: between the components of every two directions of a site in the same mode."""
        self._check_site(site)
        return self.splinters[site].cross()

    def sizes(self) -> list[Size]:
        """Of each site, from the one before the start site back. Nothing is expanded for it.

        Raises:
            ValueError: gradients that are not finite.
        """
        return list(self._sizes)

    def usage(self, site: int) -> Tensor:
        """int64 `[U, D]`: how many examples use each component of a site."""
        self._check_site(site)
        return self.splinters[site].counts.unsqueeze(1) * (self._lengths[site] != 0)

    def share_used(self) -> dict[int, float]:
        """By site, the share of its components that an example uses, on average."""
        shares = {}
        for site in self.sites:
            total = int((self._lengths[site] != 0).sum())
            used = int(self.usage(site).sum()) / self.n_examples
            shares[site] = used / total if total else 0.0
        return shares

    def share_used_by_example(self) -> Tensor:
        """float64 `[S, N]`: the share of the components of each site that each example uses."""
        along = self._along_the_trie(self.ids)
        there = {site: self._lengths[site] != 0 for site in self.sites}
        shares = {site: t.sum(dim=1) / t.sum().double().clamp(min=1) for site, t in there.items()}
        return torch.stack([shares[site][along[site]] for site in self.sites])

    def orthogonality(self, site: int, a: int | Iterable[Node], b: int | Iterable[Node]) -> float:
        """1 - Σ count · abs(cos) / Σ count of the components before two nodes or groups of nodes.

        What two nodes of a site do with the site before is in the components below them. Only those
        in the same mode occur together and are compared, so nodes of different modes have nothing in
        common. Where a gradient is zero there is no component, and so no pair: `orthogonality_matrix`
        counts these as orthogonal, and so a network whose units are all off as 1.

        Args:
            site: of the nodes, which are compared by their components at site - 1: of two directions
                it is what `orthogonality_matrix(site - 1)` has, but for zero gradients. The start
                site too, whose only mode is 0.
            a, b: a direction, in all modes, or nodes (mode, direction).

        Raises:
            ValueError: the last site; no node of `a` occurs together with one of `b`, or with zero
                gradients only; gradients that are not finite.
            IndexError: no such node.

        Examples:
            >>> from gradsplinter import ReluNetwork
            >>> net = ReluNetwork([torch.eye(2), torch.tensor([[1.0, 0], [1, 1]])], [torch.zeros(2)] * 2)
            >>> graph = computation_graph(net, torch.ones(1, 2))
            >>> round(graph.orthogonality(1, 0, 1), 4)
            0.2929
            >>> round(graph.orthogonality_matrix(0)[0, 1].item(), 4)
            0.2929
        """
        self._check_not_last(site)
        left, right = self._group(site, a), self._group(site, b)
        some = ((left + right).sum(0) > 0).nonzero().squeeze(1)
        left, right = left[:, some], right[:, some]
        s, parents = self.splinters[site - 1], self.parents[site - 1]
        there = self._lengths[site - 1][:, some] > 0
        total = paired = same = 0.0
        step = max(1, AT_ONCE // max(1, len(some)) ** 2)
        for begin in range(0, s.n_modes, step):
            part = slice(begin, begin + step)
            above = parents[part]
            pairs = (
                left[above].unsqueeze(2) * right[above].unsqueeze(1) * s.counts[part, None, None]
            )
            cosines = ops.gram(s.net, s.signatures[part], s.source, s.target, s.directions[some])
            total += float(pairs.sum())
            pairs *= there[part].unsqueeze(2) & there[part].unsqueeze(1)
            paired += float(pairs.sum())
            same += float((pairs * cosines.abs()).sum())
        if total == 0:
            raise ValueError("a and b must have nodes in a common mode, got none")
        if paired == 0:
            raise ValueError(
                f"a and b must have components at site {site - 1} in a common mode, "
                "got zero gradients only"
            )
        return 1 - same / paired

    def orthogonality_matrix(self, site: int) -> Tensor:
        """Of every two directions with respect to a site, float64 `[D, D]`, as of `Splinters`.

        The components at the site itself are compared: `orthogonality(site + 1, a, b)` has the same of
        the directions a and b. Zero gradients count as orthogonal here, so a network whose units are
        all off has 1; `splinters[site].zero_gradients` says how many there are.
        """
        self._check_site(site)
        return self.splinters[site].orthogonality_matrix()

    def __repr__(self) -> str:
        rows = [f"ComputationGraph of {self.net!r}, from site {self.start} back to {self.end}"]
        examples, directions = len(self.ids), len(self.directions)
        rows.append(f"  {counted(examples, 'example')}, {counted(directions, 'direction')}")
        try:
            sizes = self.sizes()
        except ValueError as error:
            return "\n".join([*rows, f"  {error}"])
        for size in sizes:
            rows.append(
                f"  site {size.site}{self._called(size.site)}: {counted(size.modes, 'mode')}, "
                f"{counted(size.components, 'component')} ({size.unique_components:,} different); "
                f"a tree would have {counted(size.naive_nodes, 'node')}"
            )
        return "\n".join(rows)

    def _called(self, site: int) -> str:
        return (
            f" ({self.net.names[site]})"
            if 0 < site < self.net.depth and self.net.names[site]
            else ""
        )

    @property
    def _lengths(self) -> dict[int, Tensor]:
        return {site: lengths for site, (lengths, _) in self._measures.items()}

    @cached_property
    def _measures(self) -> dict[int, tuple[Tensor, Tensor]]:
        """By site float64 [U, D], the lengths of gradients, and int64 [U, D], their hashes."""
        found = {}
        for site, s in self.splinters.items():
            parts = [(self._measured(site, part), hashes_of(part)) for _, part in s.pieces()]
            lengths, hashes = zip(*parts, strict=True)
            found[site] = torch.cat(lengths), torch.cat(hashes)
        return found

    def _measured(self, site: int, gradients: Tensor) -> Tensor:
        """float64 [u, D]: the lengths of gradients with respect to a site."""
        lengths: Tensor = torch.linalg.vector_norm(gradients, dim=2, dtype=torch.float64)
        if not bool(torch.isfinite(lengths).all()):
            raise ValueError(
                "net must have finite gradients, with squared lengths below 1.8e308, got others at "
                f"site {site}: products of its weights are too large"
            )
        if bool((gradients[lengths < SHORTEST] != 0).any()):
            raise ValueError(
                f"net must have gradients that are zero or at least {SHORTEST:g} long, got shorter ones "
                f"at site {site}: products of its weights are too small"
            )
        return lengths

    @cached_property
    def _sizes(self) -> list[Size]:
        found, naive = [], len(self.directions)
        for site in self.sites:
            s = self.splinters[site]
            if site + 1 in pattern_sites(self.net, self.end, self.start):
                naive *= self._patterns_of(site + 1)
            lengths, hashes = self._measures[site]
            components = int((lengths != 0).sum())
            unique = count_different(s, lengths != 0, hashes)
            found.append(Size(site, s.n_modes, components, unique, naive))
        return found

    def _lengths_above(self, site: int) -> Tensor:
        if site + 1 in self.splinters:
            return self._lengths[site + 1]
        lengths: Tensor = self.directions.double().norm(dim=1)
        return lengths.unsqueeze(0)

    def _group(self, site: int, nodes: int | Iterable[Node]) -> Tensor:
        """float64 [U, D]: 1 for the nodes of a group."""
        modes = 1 if site == self.start else self.splinters[site].n_modes
        chosen = torch.zeros(modes, len(self.directions), dtype=torch.float64)
        if hasattr(nodes, "__index__") and not (isinstance(nodes, Tensor) and nodes.dim()):
            chosen[:, self._check_node(site, (0, nodes))[1]] = 1
        elif isinstance(nodes, Iterable):
            for node in nodes:
                chosen[self._check_node(site, node)] = 1
        else:
            raise TypeError(
                f"a and b must be a direction or nodes (mode, direction), got {type(nodes).__name__}"
            )
        return chosen


def computation_graph(
    net: Network | nn.Module,
    x: Data,
    directions: Tensor | None = None,
    start: int = -1,
    end: int = 0,
    *,
    divisor: float | None = None,
) -> ComputationGraph:
    """The components of a network over a data set, from a start site back to another.

    Args:
        net, x, divisor: as in `splinter`.
        directions: vectors `[D, h_start]` to start from; the start site's own nodes by default, that is
            the outputs, or the neurons of an inner site.
        start: the site to start from, end+1..L; -1 is the output. An inner site's own bits count, since
            its activations come after the ReLU.
        end: the site to go back to. With end = start - 1 only two adjacent sites are looked at, and
            what a later ReLU masks is seen too.

    Raises:
        TypeError, ValueError, NotImplementedError: as `splinter`; a network that is not on the CPU.
    """
    net = network_of(net, shape_of(x))
    check_on_cpu(net.device, "net")
    end, start = check_span(net.depth, end, start, ("end", "start"))
    finest = splinter(net, x, end, start, directions, divisor=divisor)
    assert finest.ids is not None
    return ComputationGraph(*nested(finest), finest.ids)


def _divided(gradients: Tensor, lengths: Tensor) -> Tensor:
    """Vectors `[..., h]` by their lengths, in their own dtype; zero ones stay zero."""
    units = gradients / torch.where(lengths == 0, 1, lengths).unsqueeze(-1)
    return units.to(gradients.dtype)
