"""`gradsplinter graph`: a page to explore the computation graph of a network."""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro
from rich import box
from rich.table import Table
from torch import Tensor

from gradsplinter import graph_export, io
from gradsplinter.batches import batches
from gradsplinter.checks import check_integer, check_span
from gradsplinter.cli.command import console
from gradsplinter.cli.network import NetworkCommand, load_vectors
from gradsplinter.communities import Communities, communities
from gradsplinter.graph import ComputationGraph, computation_graph
from gradsplinter.graph_choice import view
from gradsplinter.graph_layout import groups
from gradsplinter.graph_view import GraphView, zero_note
from gradsplinter.page import (
    Examples,
    check_image_shape,
    chosen_examples,
    graph_page,
    ties_note,
    whole_paths,
)
from gradsplinter.traced import Network
from gradsplinter.wording import counted

LEAST_ANGLE = 1e-4
"""In degrees."""


@dataclass(frozen=True)
class Graph(NetworkCommand):
    """Make a page that shows how a network does its work: one HTML file, which works offline.

    It shows the components of each site, how they hang together, and which of them an example uses.
    """

    typed: ClassVar = {
        "x": "DATA", "out": "--out", "divisor": "--divisor",
        "directions": "--directions", "names": "--names", "example_names": "--example-names",
        "most_nodes": "--nodes", "image_shape": "--image", "angle": "--angle", "path": "--export",
        "examples": "--examples", "module": "--module", "shape": "--shape", "input_shape": "--shape",
    }  # fmt: skip

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """A .npy or .safetensors file of inputs [N, h_0], or a folder of them in the order of names."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The .html file to write."""
    start: int = -1
    """Site to start from: -1 is the output."""
    end: int = 0
    """Site to go back to: 0 is the input."""
    directions: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A .npy file of the directions [D, h] to start from; the nodes of the start site by default."""
    names: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A text file of the directions' names, one a line."""
    example_names: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A text file of the examples' names or labels, one a line."""
    divisor: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Divide integer data by this (255 for images of bytes)."""
    image: Annotated[str | None, tyro.conf.arg(metavar="HxW")] = None
    """Height and width, if the input is an image: 28x28."""
    nodes: int = 2000
    """Most nodes that the page holds: those of the examples that are kept whole, then those with the
    most flow. Up to 1,000 are visible at a time."""
    examples: int = 20
    """Keep all nodes of so many examples, the rarest and others spread over the data, as far as they fit
    into --nodes. Of the paths of other examples the page may hold a part, and says how much. So that the
    file stays small, it holds 2,000 examples at most, fewer with more than 524 inputs."""
    angle: Annotated[float | None, tyro.conf.arg(metavar="DEGREES")] = None
    """Merge components within this angle of each other; by default only those that are equal. Where
    nearly every example has components of its own, as with images, try 10 to 20."""
    communities: bool = False
    """Colour the nodes by communities: units that work together, found from the directions. Where the
    network has not learned its targets, two of them can be chance (docs/graph.md: in 2 of 20 untrained
    networks with two outputs)."""
    export: Annotated[
        tuple[tuple[Path, ...], ...],
        tyro.conf.arg(metavar="FILE [FILE ...]"),
        tyro.conf.UseAppendAction,
    ] = ()
    """Also write files, one or several: .graphml, .dot, or .json for circuit-tracer. All are written or none."""
    title: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Of the page; the name of MODEL by default."""
    overwrite: bool = False
    """Replace existing files: --out, and those of --export."""

    written: list[Path] = field(default_factory=list, init=False, repr=False, compare=False)

    def run(self) -> None:
        begin = time.perf_counter()
        self._check_files()
        most_nodes = check_integer(self.nodes, "most_nodes", 1)
        most_whole = check_integer(self.examples, "examples", 0)
        angle = None if self.angle is None else _radians(self.angle)
        net = self.network(self.data)
        _, start = check_span(net.depth, self.end, self.start, ("--end", "--start"))
        shape = None if self.image is None else _image_shape(self.image, net)
        directions = None if self.directions is None else load_vectors(self.directions, net)
        count = net.widths[start] if directions is None else len(directions)
        names = None if self.names is None else _lines(self.names, "names")
        if names is not None and len(names) != count:
            raise ValueError(f"names must hold {count} names, one a line, got {len(names)}")
        labels = None if self.example_names is None else _lines(self.example_names, "example_names")
        graph = computation_graph(
            net, self.data, directions, self.start, self.end, divisor=self.divisor
        )
        shown = _examples(graph, self.data, self.divisor, labels)
        split = communities(graph) if self.communities else None
        found = view(
            graph, most_nodes, 3 * most_nodes, angle=angle, directions=names,
            communities=split,
            examples=_kept_whole(graph, shown.index, most_whole, most_nodes),
        )  # fmt: skip
        page = graph_page(
            found, title=self.title or self.model.name, examples=shown, image_shape=shape
        )
        files = {self.out: page.encode()} | {
            path: graph_export.text(found, path).encode() for path in self._exports
        }
        self._check_files()  # others may have written some since
        io.write_files(files)
        self.written.extend(files)
        seconds = time.perf_counter() - begin
        _report(graph)
        _report_view(found, split, shown.index, most_whole)
        for path in self._exports:
            console.print(f"Written to {path}", highlight=False, markup=False)
        console.print(
            f"Written to {self.out} ({len(files[self.out]) / 2**20:.1f} MiB) in {seconds:.2f} s",
            highlight=False, markup=False,
        )  # fmt: skip

    def after_interrupt(self) -> str:
        return "all files are written" if self.written else "nothing was written"

    @property
    def _exports(self) -> list[Path]:
        return [path for paths in self.export for path in paths]

    def _check_files(self) -> None:
        self._check_out()
        seen = {_place(self.out)}
        for path in self._exports:
            graph_export.check_place(path, overwrite=True)
            if os.path.lexists(path) and not self.overwrite:
                raise ValueError(
                    f"path must be a new file, got {path}, which exists; --overwrite replaces it"
                )
            if _place(path) in seen:
                raise ValueError(f"path must be a file of its own, got {path} twice")
            seen.add(_place(path))

    def _check_out(self) -> None:
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"out must be the path of a .html file, got {self.out}")
        if self.out.is_dir():
            raise ValueError(f"out must be a file, got the folder {self.out}")
        if os.path.lexists(self.out) and not self.overwrite:
            raise ValueError(
                f"out must be a new file, got {self.out}, which exists; --overwrite replaces it"
            )
        if not os.access(self.out.absolute().parent, os.W_OK | os.X_OK):
            raise ValueError(f"out must be in a folder that can be written, got {self.out}")


def _place(path: Path) -> Path:
    """The same for two names of a file that is not there yet."""
    return path.absolute().parent.resolve() / path.name


def _radians(degrees: float) -> float:
    if not LEAST_ANGLE <= degrees <= 90:
        raise ValueError(f"angle must be in {LEAST_ANGLE:g}..90 degrees, got {degrees:g}")
    return math.radians(degrees)


def _image_shape(text: str, net: Network) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if found is None:
        raise ValueError(f"image_shape must be height x width as in 28x28, got {text}")
    shape = int(found[1]), int(found[2])
    check_image_shape(shape, net.widths[0])
    return shape


def _lines(path: Path, name: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name} must be a text file in UTF-8, one name a line, got {path}: {error}"
        ) from error
    return lines[:-1] if lines[-1] == "" else lines


def _examples(
    graph: ComputationGraph, data: Path, divisor: float | None, names: list[str] | None
) -> Examples:
    """Those of the page, read in a second pass over the data."""
    if names is not None and len(names) != graph.n_examples:
        raise ValueError(
            f"example_names must hold {graph.n_examples:,} names, one a line, got {len(names):,}"
        )
    index = chosen_examples(graph)
    rows, begin = [], 0
    for batch in batches(data, graph.net.dtype, divisor):
        inside = index[(index >= begin) & (index < begin + len(batch))]
        rows.append(batch[inside - begin])
        begin += len(batch)
    return Examples(
        index, torch.cat(rows), None if names is None else [names[i] for i in index.tolist()]
    )


def _kept_whole(graph: ComputationGraph, shown: Tensor, most: int, most_nodes: int) -> list[int]:
    """Examples of the page whose paths fit into the nodes, even if no two of them share one."""
    directions = len(graph.directions)
    room = (most_nodes - directions) // len(graph.sites) // directions
    most = min(most, max(1, room))
    return [] if most == 0 else chosen_examples(graph, most, shown).tolist()


def _report(graph: ComputationGraph) -> None:
    console.print(
        f"Components of {graph.net}, {counted(graph.n_examples, 'example')}, "
        f"{counted(len(graph.directions), 'direction')} at site {graph.start}",
        highlight=False,
    )
    table = Table(box=box.SIMPLE)
    columns = (
        *("\nsite", "\nmodes", "\ncomponents", "\ndifferent"),
        *("an example\nuses", "nodes of\na tree", "for each\ncomponent"),
    )
    for column in columns:
        table.add_column(column, justify="right")
    used = graph.share_used()
    for size in graph.sizes():
        table.add_row(
            str(size.site), f"{size.modes:,}", f"{size.components:,}",
            f"{size.unique_components:,}", f"{used[size.site]:.2%}", f"{size.naive_nodes:,}",
            f"{size.ratio:,.1f}" if size.components else "-",
        )  # fmt: skip
    console.print(table)
    rarest = graph.rarest()
    listed = ", ".join(f"{i:,}" for i in rarest.tolist())
    ties = ties_note(graph, rarest)
    console.print(f"rarest examples: {listed}{ties and f' ({ties})'}", highlight=False)
    if note := zero_note(graph):
        console.print(
            f"warning: {note}; the graph has no nodes there", style="yellow", highlight=False
        )


def _report_view(found: GraphView, split: Communities | None, shown: Tensor, asked: int) -> None:
    """What the page holds of the graph."""
    console.print(repr(found), highlight=False, markup=False)
    if split is not None:
        one = "; so colours are by direction" if groups(found).names is found.directions else ""
        console.print(f"{split!r}{one}", highlight=False, markup=False)
    whole = int(whole_paths(found, shown).sum())
    console.print(
        f"paths: whole of {whole:,} of the {len(shown):,} examples in the page", highlight=False
    )
    if whole < min(asked, len(shown)):
        console.print(
            f"warning: the paths of {asked:,} examples do not fit into --nodes", style="yellow",
            highlight=False,
        )  # fmt: skip
    most_out = [left.site for left in found.left_out if left.nodes > len(found.of_site(left.site))]
    if found.angle is None and most_out:
        console.print(
            f"most nodes of site{'s' * (len(most_out) > 1)} {' and '.join(map(str, most_out))} are "
            "left out: --nodes puts in more, --angle makes one of those that are near",
            highlight=False,
        )
