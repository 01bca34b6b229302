"""Embedded parts of a network: the gradients that were shown, those that are decoded, the nearest tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gradsplinter.known_tasks import FAR
from gradsplinter.plot.style import BLUE, GREY, INK, ORANGE, label, style
from gradsplinter.studies.embedded import GRID, Embedded
from gradsplinter.wording import counted

MOST_DRAWN = 4
"""Parts."""


def parts(found: Sequence[Embedded]) -> Figure:
    """A row for each of the first few parts of one or two inputs.

    Left: the gradient in each mode, at the mean of its examples; the area of a dot is the share of the examples.
    Middle: gradients that the embedder decodes from the embedding alone. Each panel of arrows has a scale of its own,
    and says how long the longest one is. Right: the nearest known tasks.
    """
    shown = found[:MOST_DRAWN]
    inputs = shown[0].tokens.points.shape[2]
    with style():
        figure = Figure(figsize=(9.0, 2.6 * len(shown) + 0.4), layout="constrained")
        rows = figure.subplots(len(shown), 3, squeeze=False)
        for (left, middle, right), part in zip(rows, shown, strict=True):
            modes = counted(part.tokens.shares.shape[1], "mode")
            shares = part.tokens.shares[0]
            draw = _arrows if inputs == 2 else _curve
            _dots(left, part.tokens.points[0], part.tokens.values[0], shares)
            draw(left, part.tokens.points[0], part.tokens.values[0], INK)
            draw(middle, part.points, part.decoded, BLUE)
            _title(left, f"{label(part.name)}: {modes}", part.tokens.values[0])
            _title(middle, "decoded from the embedding", part.decoded)
            _nearest(right, part)
            for ax in (left, middle, right):
                ax.set_box_aspect(1)
        if len(found) > len(shown):
            figure.supxlabel(f"the first {len(shown)} of {len(found):,} parts", fontsize=8)
    return figure


def _title(ax: Axes, text: str, gradients: Tensor) -> None:
    ax.set_title(f"{text}\nlongest gradient {float(gradients.norm(dim=1).max()):.3g}", fontsize=8)


def _dots(ax: Axes, at: Tensor, gradients: Tensor, shares: Tensor) -> None:
    x, y = at.T if at.shape[1] == 2 else (at[:, 0], gradients[:, 0])
    ax.scatter(x.numpy(), y.numpy(), s=900 * shares.numpy(), color=GREY, alpha=0.35, lw=0)


def _arrows(ax: Axes, at: Tensor, gradients: Tensor, color: str) -> None:
    low, high = at.amin(0), at.amax(0)
    longest = float(gradients.norm(dim=1).max()) or 1.0
    step = float((high - low).max()) / (GRID - 1)
    settings: Any = {
        "angles": "xy", "scale_units": "xy", "scale": longest / (1.3 * step), "pivot": "mid",
        "width": 0.0075, "headwidth": 3.6, "headlength": 4.2, "headaxislength": 3.8, "minlength": 0.3,
    }  # fmt: skip
    ax.quiver(*at.T.numpy(), *gradients.T.numpy(), color=color, zorder=3, **settings)
    ax.set_xlim(float(low[0]) - step, float(high[0]) + step)
    ax.set_ylim(float(low[1]) - step, float(high[1]) + step)
    ax.set_xlabel("x1")
    ax.set_ylabel("x2")


def _curve(ax: Axes, at: Tensor, gradients: Tensor, color: str) -> None:
    order = at[:, 0].argsort()
    ax.plot(at[order, 0].numpy(), gradients[order, 0].numpy(), lw=1.2, color=color)
    ax.set_xlabel("x")
    ax.set_ylabel("gradient")


def _nearest(ax: Axes, part: Embedded) -> None:
    """Bars: distances of the embedding; ticks: where the task's own networks are, and how far is far."""
    if not part.nearest:
        ax.set_axis_off()
        ax.text(0, 0.5, "the embedder knows no tasks", transform=ax.transAxes)
        return
    tasks = part.nearest[::-1]
    places = range(len(tasks))
    ax.barh(
        places, [task.distance for task in tasks], height=0.55,
        color=[GREY if task.is_far else BLUE for task in tasks], alpha=0.7,
    )  # fmt: skip
    ax.plot([task.usual for task in tasks], places, "|", color=ORANGE, ms=14, mew=2)
    ax.set_yticks(places, [label(task.name, 32) for task in tasks], fontsize=7)
    ax.set_ylim(-0.6, len(tasks) - 0.4)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("distance (orange: usual of its own networks)", fontsize=7)
    none = f"like none of the known tasks:\nall further than {FAR:g} × usual"
    ax.set_title(none if part.like_none else "nearest known tasks", fontsize=8)
