"""`gradsplinter embed`: what does a network of the user's, or a part of it, compute?"""

from __future__ import annotations

import textwrap
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro

import gradsplinter
from gradsplinter import io
from gradsplinter.batches import batches
from gradsplinter.checks import check_span
from gradsplinter.cli.command import console, results_folder
from gradsplinter.cli.network import NetworkCommand, load_vectors
from gradsplinter.embedder import Embedder
from gradsplinter.embedding import tokens_of_part
from gradsplinter.known_tasks import FAR, KnownTasks, NearTask
from gradsplinter.studies.embedded import Embedded, embedded
from gradsplinter.traced import Network
from gradsplinter.wording import counted

MOST_NEAREST = 5
"""Known tasks that are drawn."""
MOST_SAID = 10
"""Parts that are spoken of."""
_HARD = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Embed(NetworkCommand):
    """What does a network, or a part of it, compute? Its embedding, and the known tasks that are nearest to it.

    An embedder of your own is taught by `gradsplinter embed train`, and judged by `gradsplinter embed study`.
    """

    typed: ClassVar = {
        "x": "DATA", "out": "--out", "divisor": "--divisor", "source": "--source", "target": "--target",
        "directions": "--directions", "basis": "--basis", "embedder": "--embedder", "module": "--module",
        "shape": "--shape", "input_shape": "--shape", "net": "MODEL",
    }  # fmt: skip

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """A .npy or .safetensors file of inputs [N, h_0], or a folder of them; a few hundred examples are enough."""
    embedder: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """An embedder.safetensors of `gradsplinter embed train`, of as many inputs as the source has units; by default
    the one that comes with the package, for two inputs in 0..1."""
    source: int = 0
    """Site where the part begins: 0 is the input."""
    target: int = -1
    """Site where it ends: -1 is the output."""
    directions: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A .npy file of directions [D, h] at the target, each a part; its nodes by default."""
    basis: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A .npy file of coordinates [d, h] of the source, which take the place of its units: rows of the identity choose
    some of them."""
    divisor: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Divide integer data by this."""
    out: Path = Path("results/embed")
    """Folder to write."""
    overwrite: bool = field(default=False, kw_only=True)
    """Replace the results that are there; other files beside them stay."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import embedded as plot_embedded  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        embedder = _embedder(self.embedder)
        net = self.network(self.data)
        with results_folder(self.out, self.overwrite, "embed") as folder:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always", UserWarning)
                found = self._parts(net, embedder)
            parts = [part for part in found if isinstance(part, Embedded)]
            constant = [part for part in found if isinstance(part, str)]
            if not parts:
                raise ValueError(
                    "net must not be constant at these examples, got only gradients that are zero"
                )
            _write(parts, embedder.known, folder)
            notes = [str(warning.message) for warning in warned]
            io.write_json(folder / "config.json", self._about(net, parts, notes))
            coordinate = "x" if self.basis is None and self.source == 0 else "coordinate "
            save(plot_embedded.parts(parts, coordinate), folder, "parts")
        for note in notes:
            own = note.replace("x should", "DATA should", 1)
            text = textwrap.fill(f"warning: {own}", 80, subsequent_indent="  ")
            console.print(text, style="yellow", highlight=False, markup=False)
        _report(parts, embedder.known)
        if constant:
            text = f"constant at these examples, and left out: {', '.join(constant)}"
            console.print(textwrap.fill(text, 80, subsequent_indent="  "), highlight=False)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.1f} s")

    def _parts(self, net: Network, embedder: Embedder) -> list[Embedded | str]:
        """Of a part that is constant, only its name."""
        directions = None if self.directions is None else load_vectors(self.directions, net)
        x = torch.cat(list(batches(self.data, net.dtype, self.divisor, width=net.widths[0])))
        basis = None if self.basis is None else load_vectors(self.basis, net, "basis")
        sets = tokens_of_part(
            net, x, embedder,
            source=self.source, target=self.target, directions=directions, basis=basis,
        )  # fmt: skip
        _, target = check_span(net.depth, self.source, self.target)
        kind = "output" if target == net.depth else "unit"
        place = "" if target == net.depth else f" of site {target}"
        if directions is not None:
            kind = "direction"
        names = [f"{kind} {i}{place}" for i in range(len(sets))]
        return [
            name if tokens is None else embedded(name, tokens, embedder, MOST_NEAREST)
            for name, tokens in zip(names, sets, strict=True)
        ]

    def _about(
        self, net: Network, parts: Sequence[Embedded], notes: list[str]
    ) -> dict[str, object]:
        config = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(self).items()
            if name not in ("out", "overwrite")
        }
        return {
            "config": config,
            "network": {"widths": net.widths, "fingerprint": net.fingerprint},
            "modes": len(parts[0].tokens.shares[0]),
            "warnings": notes,
            "versions": {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__},
        }


def _embedder(path: Path | None) -> Embedder:
    if path is None:
        return Embedder.pretrained()
    if path.is_dir():
        raise ValueError(
            f"embedder must be a file, got the folder {path}: {path / 'embedder.safetensors'} may be meant"
        )
    try:
        return Embedder.load(path)
    except OSError as error:
        raise ValueError(
            f"embedder must be a file of `gradsplinter embed train`, got {path}: {error}"
        ) from error
    except ValueError as error:
        error.args = (str(error).replace("path", "embedder", 1),)
        raise


def _write(parts: Sequence[Embedded], known: KnownTasks, folder: Path) -> None:
    io.write_csv(
        folder / "embedding.csv",
        [
            {"part": part.name} | {f"e{i}": v for i, v in enumerate(part.embedding.tolist(), 1)}
            for part in parts
        ],
    )
    if len(known):
        rows = [
            {"part": part.name, "rank": rank, "task": task.name, "distance": task.distance,
             "usual": task.usual, "far": task.is_far}
            for part in parts
            for rank, task in enumerate(known.nearest(part.embedding, len(known)), 1)
        ]  # fmt: skip
        io.write_csv(folder / "nearest.csv", rows)


def _report(parts: Sequence[Embedded], known: KnownTasks) -> None:
    if not len(known):
        console.print("The embedder knows no tasks, so there is none to compare with")
        return
    for part in parts[:MOST_SAID]:
        text = textwrap.fill(f"{part.name}: {_in_words(part, known)}", 80, subsequent_indent="  ")
        console.print(text.replace(_HARD, " "), highlight=False, markup=False)
    if len(parts) > MOST_SAID:
        console.print(f"and {len(parts) - MOST_SAID:,} more, in nearest.csv", highlight=False)


def _in_words(part: Embedded, known: KnownTasks) -> str:
    first, *others = part.nearest
    begin = f"nearest {_name(first)}"
    if part.like_none:
        begin = (
            f"like none of the {counted(len(known), 'known task')} (each further than {FAR:g} times its "
            f"usual distance); the nearest is {_name(first)}"
        )
    text = f"{begin} ({first.distance:.3g}; networks of it are {first.usual:.3g} from their middle on average)"
    if first.is_far and not part.like_none:
        within = [task for task in known.nearest(part.embedding, len(known)) if not task.is_far]
        return (
            f"{text}, which is far; within {FAR:g} times the usual distance only "
            f"{', '.join(f'{_name(task)} ({task.distance:.3g}, usual {task.usual:.3g})' for task in within)}"
        )
    rest = [f"{_name(task)} ({task.distance:.3g})" for task in others[:2]]
    return ", then ".join([text, *([", ".join(rest)] if rest else [])])


def _name(task: NearTask) -> str:
    """Kept in one line."""
    return task.name.replace(" ", _HARD)
