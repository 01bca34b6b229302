"""Linear regions on a plane, and the gradient field on them beside an exact one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from gradsplinter.field import Field, field_at, field_errors, network_field
from gradsplinter.plot.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, style
from gradsplinter.regions import Regions2D

ARROWS = 17  # along the longer side of the domain
PANEL = 2.9  # inches
LAYERS = (BLUE, ORANGE, GREEN, PURPLE)
MANY = 5_000  # regions from which on their borders are drawn as pixels, in PDF too
HALF_TURN = math.pi
FRAMES_A_SECOND = 4
RIGHT_ANGLE, WHOLE_TURN = Normalize(0, 90), Normalize(-180, 180)
# Matplotlib's wheel of hues, lighter, so that borders stand out on it.
WHEEL = ListedColormap(0.3 + 0.7 * mpl.colormaps["hsv"](np.linspace(0, 1, 256)), "wheel")


def fields(
    views: Sequence[tuple[str, Regions2D]],
    exact: Field,
    output: int = 0,
    axes: tuple[str, str] = ("s", "t"),
) -> Figure:
    """A row for each plane: the network's field on its regions, the exact one, and the error.

    Arrows are gradients by (s, t) at points of a grid, of one scale in all of the figure; where no
    arrow stands a point lies on a border. In the third column a region's colour is its error,
    sqrt(mean over the region of |g - g*|²) / sqrt(mean over the domain of |g*|²), and arrows are g - g*.

    Args:
        views: a title and regions each.
        exact: as in `gradsplinter.field.field_errors`.
        output: the network's output that is shown.
        axes: what s and t are called.
    """
    points = [grid(found.domain) for _, found in views]
    ours = [network_field(found, at, output) for (_, found), at in zip(views, points, strict=True)]
    theirs = [field_at(found, exact, at) for (_, found), at in zip(views, points, strict=True)]
    longest = max(float(g.norm(dim=1).nan_to_num(0).max()) for g in [*ours, *theirs] if len(g))
    magnitudes, errors = Normalize(0, longest or 1), Normalize(0, 1)
    with style():
        figure = Figure(figsize=(3 * PANEL + 1.5, PANEL * len(views) + 0.5), layout="constrained")
        grid_of_axes = figure.subplots(len(views), 3, squeeze=False, sharex="row", sharey="row")
        for line, (title, found), at, g, g_exact in zip(
            grid_of_axes, views, points, ours, theirs, strict=True
        ):
            found_errors = field_errors(found, exact, output)
            _outlines(line[0], found, GREY)
            _arrows(line[0], at, g, magnitudes, found.domain)
            _arrows(line[1], at, g_exact, magnitudes, found.domain)
            shades = found_errors.rms_of_region / (found_errors.exact_rms or 1)
            _fill(line[2], found, shades, "Oranges", errors)
            _arrows(line[2], at, g - g_exact, magnitudes, found.domain, color=INK)
            line[0].set_title(f"{title}: network, {len(found):,} regions")
            line[1].set_title("exact")
            line[2].set_title(
                f"error: {found_errors.angle:.1f}°, {found_errors.relative:.0%} of the length"
            )
            for ax in line:
                _frame(ax, found.domain, axes)
        figure.colorbar(
            mpl.cm.ScalarMappable(magnitudes, "viridis"), ax=list(grid_of_axes[:, 1]),
            label="length of the gradient", shrink=0.8 / len(views) ** 0.5, pad=0.02,
        )  # fmt: skip
        figure.colorbar(
            mpl.cm.ScalarMappable(errors, "Oranges"), ax=list(grid_of_axes[:, 2]), extend="max",
            label="error / rms of the exact field", shrink=0.8 / len(views) ** 0.5, pad=0.02,
        )  # fmt: skip
    return figure


def region_maps(
    views: Sequence[tuple[str, Regions2D]],
    exact: Field | None = None,
    output: int = 0,
    axes: tuple[str, str] = ("s", "t"),
) -> Figure:
    """A row for each plane: regions by the direction of the gradient, and their borders by layer.

    Args:
        views: a title and regions each.
        exact: as in `fields`; then a third column has the angle between the two gradients.
        output: the network's output that is shown.
        axes: what s and t are called.
    """
    directions, scale = _directions([found for _, found in views], output)
    columns = 2 if exact is None else 3
    size = (columns * (PANEL + 0.7), PANEL * len(views) + 0.7)
    with style():
        figure = Figure(figsize=size, layout="constrained")
        grid_of_axes = figure.subplots(
            len(views), columns, squeeze=False, sharex="row", sharey="row"
        )
        for line, (title, found), angles in zip(grid_of_axes, views, directions, strict=True):
            _fill(line[0], found, angles, scale["cmap"], scale["norm"])
            layers(line[1], found)
            line[0].set_title(f"{title}: direction of the gradient")
            line[1].set_title(f"{len(found):,} regions, {found.n_edges:,} edges")
            if exact is not None:
                errors = field_errors(found, exact, output)
                _fill(line[2], found, errors.angle_of_region, "Oranges", RIGHT_ANGLE)
                line[2].set_title(f"angle to the exact one, mean {errors.angle:.1f}°")
            for ax in line:
                _frame(ax, found.domain, axes)
        figure.colorbar(
            mpl.cm.ScalarMappable(**scale), ax=list(grid_of_axes[:, 0]), pad=0.02,
            label=f"degrees from {axes[0]} towards {axes[1]}", shrink=0.8 / len(views) ** 0.5,
        )  # fmt: skip
        if exact is not None:
            figure.colorbar(
                mpl.cm.ScalarMappable(RIGHT_ANGLE, "Oranges"), ax=list(grid_of_axes[:, 2]),
                extend="max", label="degrees", pad=0.02, shrink=0.8 / len(views) ** 0.5,
            )  # fmt: skip
        layer_legend(figure, max(found.net.depth - 1 for _, found in views))
    return figure


def animation(
    frames: Sequence[tuple[str, Regions2D]],
    path: Path,
    output: int = 0,
    axes: tuple[str, str] = ("s", "t"),
) -> None:
    """Write a GIF: regions in the colour of their gradient's direction, borders by layer.

    Args:
        frames: a title and regions each, four a second; the last one stays for two seconds.
        path: ends in .gif; replaced.
        output: the network's output that is shown.
        axes: what s and t are called.
    """
    with style():
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        ax = figure.subplots()
        figure.colorbar(
            mpl.cm.ScalarMappable(WHOLE_TURN, WHEEL), ax=ax, shrink=0.8, ticks=range(-180, 181, 90),
            label=f"direction of the gradient, degrees from {axes[0]}",
        )  # fmt: skip
        layer_legend(figure, frames[-1][1].net.depth - 1)
        writer = PillowWriter(fps=FRAMES_A_SECOND)
        with mpl.rc_context({"savefig.bbox": None}), writer.saving(figure, str(path), dpi=100):
            for title, found in [*frames, *[frames[-1]] * (2 * FRAMES_A_SECOND)]:
                ax.clear()
                g = found.gradients[:, output]
                _fill(ax, found, torch.atan2(g[:, 1], g[:, 0]).rad2deg(), WHEEL, WHOLE_TURN)
                layers(ax, found)
                _frame(ax, found.domain, axes)
                ax.set_title(title)
                if figure.get_layout_engine() is not None:  # once, since it takes its time
                    figure.draw_without_rendering()
                    figure.set_layout_engine(None)
                writer.grab_frame()


def layers(ax: Axes, found: Regions2D) -> None:
    """Draw the borders between regions, in the colour of the first layer that has a unit flipping there."""
    border, site, _ = found.flips
    lowest = border.diff(prepend=border.new_tensor([-1])) != 0  # sites of a border ascend
    first = torch.zeros(len(found.vertices), dtype=torch.int64)
    first[border[lowest]] = site[lowest]
    once = found.side_region < found.neighbours  # each edge has two sides
    for layer in range(1, found.net.depth):
        pick = once & (first == layer)
        segments = torch.stack([found.vertices[pick], found.side_ends[pick]], 1)
        ax.add_collection(
            LineCollection(
                list(segments.numpy()), colors=layer_color(layer), lw=0.9 if len(found) < MANY else 0.3,
                capstyle="round", rasterized=len(found) > MANY,
            )
        )  # fmt: skip


def layer_color(layer: int) -> Any:
    """The colour of hidden layer 1, 2, ..."""
    if layer <= len(LAYERS):
        return LAYERS[layer - 1]
    return mpl.colormaps["tab20"]((layer - len(LAYERS) - 1) % 20)


def layer_legend(figure: Figure, depth: int) -> None:
    if depth == 0:
        return
    figure.legend(
        [Line2D([], [], color=layer_color(layer), lw=2) for layer in range(1, depth + 1)],
        [f"border of layer {layer}" for layer in range(1, depth + 1)],
        loc="outside lower center", ncols=min(depth, 4),
    )  # fmt: skip


def grid(domain: Tensor, most: int = ARROWS) -> Tensor:
    """Points (s, t) `[N, 2]` of a square grid in a convex polygon, off its border."""
    low, high = domain.amin(0), domain.amax(0)
    step = float((high - low).max()) / most
    counts = ((high - low) / step).round().clamp_min(1)
    # Shifted by a little, since borders like to lie on halves and thirds.
    at = [low[k] + step * (torch.arange(int(counts[k])) + 0.5003) for k in (0, 1)]
    points = torch.cartesian_prod(*at).double()
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
    settings: Any = {
        "angles": "xy", "scale_units": "xy", "scale": float(scale.vmax or 1) / step * 0.85,
        "pivot": "mid", "width": 0.0062, "headwidth": 3.6, "headlength": 4.2, "headaxislength": 3.8,
        "minlength": 0.4, "zorder": 3,
    }  # fmt: skip
    arguments = (*at.T.numpy(), *g.T.numpy())
    if color is None:
        ax.quiver(*arguments, g.norm(dim=1).numpy(), cmap="viridis", norm=scale, **settings)
    else:
        ax.quiver(*arguments, color=color, **settings)


def _outlines(ax: Axes, found: Regions2D, color: str) -> None:
    once = found.side_region < found.neighbours
    segments = torch.stack([found.vertices[once], found.side_ends[once]], 1)
    ax.add_collection(
        LineCollection(
            list(segments.numpy()), colors=color, lw=0.5 if len(found) < MANY else 0.15,
            rasterized=len(found) > MANY,
        )
    )  # fmt: skip


def _fill(ax: Axes, found: Regions2D, values: Tensor, cmap: Any, norm: Normalize) -> None:
    corners = np.split(found.vertices.numpy(), found.offsets[1:-1].numpy())
    # Edges in the colour of the face, since neighbours would show a seam.
    polygons = PolyCollection(
        corners, array=values.numpy(), cmap=cmap, norm=norm, edgecolors="face", lw=0.2,
        rasterized=len(found) > MANY,
    )  # fmt: skip
    ax.add_collection(polygons)


def _frame(ax: Axes, domain: Tensor, names: tuple[str, str]) -> None:
    low, high = domain.amin(0).tolist(), domain.amax(0).tolist()
    margin = 0.01 * max(high[0] - low[0], high[1] - low[1])
    ax.set(
        xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin),
        aspect="equal", xlabel=names[0], ylabel=names[1],
    )  # fmt: skip
    ax.label_outer()
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=2)
    closed = torch.cat([domain, domain[:1]])
    ax.plot(*closed.T.numpy(), color=INK, lw=0.8, zorder=2)


def _directions(all_found: Sequence[Regions2D], output: int) -> tuple[list[Tensor], dict[str, Any]]:
    """Degrees of each region's gradient, NaN where it is 0, and colours for them.

    Where all lie within half a turn, the colours go from the first to the last; else around.
    """
    gradients = [found.gradients[:, output] for found in all_found]
    angles = [torch.atan2(g[:, 1], g[:, 0]) for g in gradients]
    for angle, g in zip(angles, gradients, strict=True):
        angle[(g == 0).all(1)] = torch.nan
    flat = torch.cat([a[found.areas > 1e-4 * found.areas.sum()]
                      for a, found in zip(angles, all_found, strict=True)])  # fmt: skip
    flat = flat[~flat.isnan()]
    middle = torch.atan2(flat.sin().mean(), flat.cos().mean()).nan_to_num(0)
    relative = [(a - middle + HALF_TURN) % (2 * HALF_TURN) - HALF_TURN + middle for a in angles]
    apart = (flat - middle + HALF_TURN) % (2 * HALF_TURN) - HALF_TURN + middle
    if len(flat) and float(apart.max() - apart.min()) < HALF_TURN:
        bounds = (math.degrees(float(apart.min())), math.degrees(float(apart.max())))
        return [a.rad2deg() for a in relative], {"cmap": "viridis", "norm": Normalize(*bounds)}
    return [a.rad2deg() for a in angles], {"cmap": WHEEL, "norm": WHOLE_TURN}
