"""The gradient field of a network on its linear regions, beside an exact one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from gradsplinter.field import Field, field_at, field_errors, network_field
from gradsplinter.plot.regions import APART, NAME, PANEL, bar, borders, check_views, fill, frame
from gradsplinter.plot.style import GREY, INK, style, wrapped
from gradsplinter.regions import Regions2D
from gradsplinter.wording import counted

ARROWS = 17  # along the longer side of the domain
SHORTEST = 0.35  # of the longest arrow
NOTHING = 0.01  # of the longest arrow: what is not longer is a dot


def fields(
    views: Sequence[tuple[str, Regions2D]],
    exact: Field,
    output: int = 0,
    axes: tuple[str, str] = ("s", "t"),
) -> Figure:
    """A row for each plane: the network's field on its regions, the exact one, and the error.

    Arrows are gradients by (s, t) at points of a grid, and g - g* in the third column, of one scale in
    all of the figure; where one is missing, its point lies on a border. Short ones are drawn longer, so
    that one sees where they point: below 0.35 of the longest it is the colour that has the length, and
    in the third column that of the region, its error sqrt(mean ‖g - g*‖²). Below 0.01 it is a dot.

    Args:
        views: a title and regions each.
        exact: as in `gradsplinter.field.field_errors`.
        output: the network's output that is shown.
        axes: what s and t are called.

    Raises:
        ValueError: no views, no such output.
    """
    check_views(views, output, "views")
    errors = [field_errors(found, exact, output) for _, found in views]
    points = [grid(found.domain) for _, found in views]
    ours = [network_field(found, at, output) for (_, found), at in zip(views, points, strict=True)]
    theirs = [field_at(found, exact, at) for (_, found), at in zip(views, points, strict=True)]
    longest = max(
        (float(g.norm(dim=1).nan_to_num(0).max()) for g in [*ours, *theirs] if len(g)), default=0.0
    )
    lengths = Normalize(0, longest or 1)
    shades = Normalize(0, max(of.exact_rms for of in errors) or 1)
    with style():
        figure = Figure(
            figsize=(3 * PANEL + 0.4, (PANEL + 0.15) * len(views) + 1.4),
            layout=ConstrainedLayoutEngine(wspace=APART),
        )
        panels = figure.subplots(len(views), 3, squeeze=False, sharex="row", sharey="row")
        for line, (title, found), at, g, g_exact, of in zip(
            panels, views, points, ours, theirs, errors, strict=True
        ):
            borders(line[0], found, torch.ones_like(found.neighbours, dtype=torch.bool), GREY, 0.5)
            _arrows(line[0], at, g, lengths, found.domain)
            _arrows(line[1], at, g_exact, lengths, found.domain)
            fill(line[2], found, of.rms_of_region, "Oranges", shades)
            _arrows(line[2], at, g - g_exact, lengths, found.domain, color=INK)
            name = wrapped(title, NAME)
            line[0].set_title(f"{name}\nnetwork, {counted(len(found), 'region')}".strip())
            line[1].set_title(f"exact, rms {of.exact_rms:.2f}")
            line[2].set_title(f"difference, rms {of.rms:.2f}")
            for ax in line:
                frame(ax, found.domain, axes)
        bar(figure, panels[:, :2], "viridis", lengths, "length of the gradient")
        bar(figure, panels[:, 2:], "Oranges", shades, "rms difference in a region", extend="max")
        figure.supxlabel(
            f"Arrows: of one scale; below {SHORTEST:g} of the longest they are drawn that long, and the colours "
            f"say how long they are; below {NOTHING:g} of it they are dots.", fontsize=8, color="#555555",
        )  # fmt: skip
    return figure


def grid(domain: Tensor, most: int = ARROWS) -> Tensor:
    """Points (s, t) `[N, 2]` of a square grid in a convex polygon, off its border."""
    low, high = domain.amin(0), domain.amax(0)
    step = float((high - low).max()) / most
    counts = ((high - low) / step).round().clamp_min(1)
    # Shifted by a little, since borders like to lie on halves and thirds.
    at = [
        low[k] + step * (torch.arange(int(counts[k]), dtype=torch.float64) + 0.5003) for k in (0, 1)
    ]
    points = torch.cartesian_prod(*at)
    edges = domain.roll(-1, 0) - domain
    away = points.unsqueeze(1) - domain
    inside = (edges[:, 0] * away[..., 1] > edges[:, 1] * away[..., 0]).all(1)
    return points[inside]


def _arrows(
    ax: Axes, at: Tensor, g: Tensor, scale: Normalize, domain: Tensor, color: str | None = None
) -> None:
    known = g.isfinite().all(1)
    at, g = at[known], g[known]
    step = float((domain.amax(0) - domain.amin(0)).max()) / ARROWS
    longest = float(scale.vmax or 1)
    length = g.norm(dim=1, keepdim=True)
    drawn = torch.where(length > NOTHING * longest, length.clamp_min(SHORTEST * longest), 0)
    arrows = g * torch.where(length > 0, drawn / length, 0)
    settings: Any = {
        "angles": "xy", "scale_units": "xy", "scale": longest / step / 1.1,
        "pivot": "mid", "width": 0.0062, "headwidth": 3.6, "headlength": 4.2, "headaxislength": 3.8,
        "minlength": 0.4, "zorder": 3,
    }  # fmt: skip
    arguments = (*at.T.numpy(), *arrows.T.numpy())
    if color is None:
        ax.quiver(*arguments, length[:, 0].numpy(), cmap="viridis", norm=scale, **settings)
    else:
        ax.quiver(*arguments, color=color, **settings)
