"""Embedded parts of a network: the gradients that were shown, those that are decoded, the nearest tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from gradsplinter.known_tasks import FAR
from gradsplinter.plot.style import BLUE, GREY, INK, ORANGE, label, style
from gradsplinter.studies.embedded import GRID, Embedded
from gradsplinter.wording import counted

MOST_DRAWN = 4
"""Parts."""


def parts(found: Sequence[Embedded], coordinate: str = "x") -> Figure:
    """A row for each of the first few parts.

    Left: the gradient in each mode, at the mean of its examples; the area of a dot is the share of the examples.
    Middle: gradients that the embedder decodes from the embedding alone. Arrows of a part have one scale, and each
    panel says how long the longest one is. Right: the nearest known tasks; of more than two inputs that is all.

    Args:
        found: of which the first `MOST_DRAWN` are drawn.
        coordinate: what the parts' inputs are called, before their numbers from 1 on.
    """
    shown = found[:MOST_DRAWN]
    if shown[0].tokens.points.shape[2] > 2:
        return _nearest_only(shown, len(found))
    with style():
        figure = Figure(figsize=(9.0, 2.6 * len(shown) + 0.4), layout="constrained")
        rows = figure.subplots(len(shown), 3, squeeze=False)
        for (left, middle, right), part in zip(rows, shown, strict=True):
            points, gradients = part.tokens.points[0], part.tokens.values[0]
            modes = counted(len(points), "mode")
            longest = max(_longest(gradients), _longest(part.decoded))
            _dots(left, points, gradients, part.tokens.shares[0])
            for ax, at, values, color in (
                (left, points, gradients, INK), (middle, part.points, part.decoded, BLUE),
            ):  # fmt: skip
                if at.shape[1] == 2:
                    _arrows(ax, at, values, longest, color)
                    ax.set_ylabel(f"{coordinate}2")
                else:
                    _curve(ax, at, values, color)
                ax.set_xlabel(f"{coordinate}1")
            _title(left, f"{label(part.name)}: {modes}", gradients)
            _title(middle, "decoded from the embedding", part.decoded)
            _nearest(right, part)
            for ax in (left, middle, right):
                ax.set_box_aspect(1)
        _say_how_many(figure, shown, len(found))
    return figure


def _nearest_only(shown: Sequence[Embedded], total: int) -> Figure:
    with style():
        figure = Figure(figsize=(5.0, 1.9 * len(shown) + 0.4), layout="constrained")
        for ax, part in zip(
            figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True
        ):
            _nearest(ax, part, f"{label(part.name)}: ")
        _say_how_many(figure, shown, total)
    return figure


def _say_how_many(figure: Figure, shown: Sequence[Embedded], total: int) -> None:
    if total > len(shown):
        figure.supxlabel(f"the first {len(shown)} of {total:,} parts", fontsize=8)


def _longest(gradients: Tensor) -> float:
    return float(gradients.norm(dim=1).max())


def _title(ax: Axes, text: str, gradients: Tensor) -> None:
    ax.set_title(f"{text}\nlongest gradient {_longest(gradients):.3g}", fontsize=8)


def _dots(ax: Axes, at: Tensor, gradients: Tensor, shares: Tensor) -> None:
    x, y = at.T if at.shape[1] == 2 else (at[:, 0], gradients[:, 0])
    ax.scatter(x.numpy(), y.numpy(), s=900 * shares.numpy(), color=GREY, alpha=0.35, lw=0)


def _arrows(ax: Axes, at: Tensor, gradients: Tensor, longest: float, color: str) -> None:
    low, high = at.amin(0), at.amax(0)
    step = float((high - low).max()) / (GRID - 1)
    settings: Any = {
        "angles": "xy", "scale_units": "xy", "scale": (longest or 1.0) / (1.3 * step), "pivot": "mid",
        "width": 0.0075, "headwidth": 3.6, "headlength": 4.2, "headaxislength": 3.8, "minlength": 0.3,
    }  # fmt: skip
    ax.quiver(*at.T.numpy(), *gradients.T.numpy(), color=color, zorder=3, **settings)
    ax.set_xlim(float(low[0]) - step, float(high[0]) + step)
    ax.set_ylim(float(low[1]) - step, float(high[1]) + step)


def _curve(ax: Axes, at: Tensor, gradients: Tensor, color: str) -> None:
    order = at[:, 0].argsort()
    ax.plot(at[order, 0].numpy(), gradients[order, 0].numpy(), lw=1.2, color=color)
    ax.set_ylabel("gradient")


def _nearest(ax: Axes, part: Embedded, begin: str = "") -> None:
    """Bars: distances of the embedding; ticks: where the task's own networks are, and how far is far."""
    if not part.nearest:
        ax.set_axis_off()
        ax.text(0, 0.5, f"{begin}the embedder knows no tasks", transform=ax.transAxes)
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
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel(
        f"distance (orange: usual of its own networks;\ngrey: more than {FAR:g} times that)",
        fontsize=7,
    )
    none = f"like none of the known tasks:\nall further than {FAR:g} × usual"
    ax.set_title(begin + (none if part.like_none else "nearest known tasks"), fontsize=8)
