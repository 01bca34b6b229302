"""The look of every figure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with colour blindness can tell apart.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
GREY = "#8A8A8A"
INK = "#222222"
SIGNED = LinearSegmentedColormap.from_list("signed", [ORANGE, "white", BLUE])
"""Of what has a sign, with 0 in the middle: orange is negative, blue is positive."""

_SETTINGS: Any = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.dpi": 100,
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.bbox": "tight",
    "savefig.dpi": 200,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Use the project's look within a block, and leave the user's settings alone."""
    with mpl.rc_context(_SETTINGS):
        yield


def label(text: str, most: int = 24) -> str:
    """A user's name as it can be drawn: one line, not too long, and never read as mathematics."""
    line = " ".join(_printable(text).split())
    if len(line) > most:
        line = line[: (most - 1) * 2 // 3] + "…" + line[-((most + 1) // 3) :]
    line = line.replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line  # a legend leaves out those


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """A user's name as `label` draws it, in several lines of at most `width` letters where it is longer."""
    parts = textwrap.wrap(" ".join(_printable(text).split()), width)
    if len(parts) > lines:
        parts = [*parts[: lines - 1], " ".join(parts[lines - 1 :])]
    return "\n".join(label(part, width) for part in parts)


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write a figure as NAME.png and NAME.pdf, the same bytes each time; a folder that is not there is made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    png, pdf = (folder / f"{name}.{suffix}" for suffix in ("png", "pdf"))
    with style():
        figure.savefig(png)
        figure.savefig(pdf, metadata={"CreationDate": None})
    return [png, pdf]
