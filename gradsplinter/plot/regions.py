"""Linear regions on a plane: by the direction of their gradient, with the layers that cut them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.colorbar
import numpy as np
import torch
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from gradsplinter.checks import check_integer
from gradsplinter.field import Field, field_errors
from gradsplinter.plot.style import BLUE, GREEN, INK, ORANGE, PURPLE, label, style, wrapped
from gradsplinter.regions import Regions2D
from gradsplinter.wording import counted

PANEL = 2.9  # inches
LAYERS = (BLUE, ORANGE, GREEN, PURPLE)
MANY = 5_000  # regions from which on they are drawn as pixels, in PDF too
FRAMES_A_SECOND = 4
NAME = 28  # letters of a title that a panel has room for in a line
APART = 0.03  # of a panel between two of them
WHOLE_TURN, RIGHT_ANGLE = Normalize(-180, 180), Normalize(0, 90)


def _wheel() -> ListedColormap:
    """Hues of one lightness and strength: OKLCH with L = 0.77, C = 0.12 (Ottosson 2020)."""
    hue = np.linspace(0, 2 * np.pi, 256)
    lab = np.stack([np.full(256, 0.77), 0.12 * np.cos(hue), 0.12 * np.sin(hue)])
    to_cones = [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                [1, -0.0894841775, -1.2914855480]]  # fmt: skip
    to_rgb = [[4.0767416621, -3.3077115913, 0.2309699292],
              [-1.2684380046, 2.6097574011, -0.3413193965],
              [-0.0041960863, -0.7034186147, 1.7076147010]]  # fmt: skip
    linear = np.clip(np.array(to_rgb) @ (np.array(to_cones) @ lab) ** 3, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return ListedColormap(srgb.T, "wheel")


WHEEL = _wheel()


def region_maps(
    views: Sequence[tuple[str, Regions2D]],
    exact: Field | None = None,
    output: int = 0,
    axes: tuple[str, str] = ("s", "t"),
) -> Figure:
    """A row for each plane: regions by the direction of the gradient, and their borders by layer.

    Colours fade to white where gradients are short, and in the wheel below them towards its middle.

    Args:
        views: a title and regions each.
        exact: as in `gradsplinter.field.field_errors`; then a third column has the angle between the
            two gradients, white where there is none.
        output: the network's output that is shown.
        axes: what s and t are called.

    Raises:
        ValueError: no views, no such output.
    """
    check_views(views, output, "views")
    columns = 2 if exact is None else 3
    longest = max(_longest(found, output) for _, found in views)
    with style():
        figure = Figure(
            figsize=(columns * PANEL + 0.4, PANEL * len(views) + 1.9),
            layout=ConstrainedLayoutEngine(wspace=APART),
        )
        grid = figure.subplots(len(views), columns, squeeze=False, sharex="row", sharey="row")
        for line, (title, found) in zip(grid, views, strict=True):
            fill(line[0], found, direction_colors(found, output, longest))
            layer_borders(line[1], found)
            line[0].set_title(wrapped(title, NAME))
            line[1].set_title(f"{counted(len(found), 'region')}, {counted(found.n_edges, 'edge')}")
            if exact is not None:
                errors = field_errors(found, exact, output)
                fill(line[2], found, errors.angle_of_region, "Oranges", RIGHT_ANGLE)
                line[2].set_title(
                    "the exact gradient is 0" if math.isnan(errors.angle)
                    else f"angle to the exact gradient: {errors.angle:.1f}°"
                )  # fmt: skip
            for ax in line:
                frame(ax, found.domain, axes)
        wheel(grid[:, 0], axes, location="bottom", fraction=0.2 / len(views), pad=0.06 / len(views))
        if exact is not None:
            bar(figure, grid[:, 2:], "Oranges", RIGHT_ANGLE, "angle to the exact gradient, degrees",
                ticks=range(0, 91, 30), extend="max")  # fmt: skip
        _layer_legend(figure, max(found.net.depth - 1 for _, found in views))
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

    Raises:
        ValueError: no frames, no such output.
    """
    check_views(frames, output, "frames")
    longest = _longest(frames[-1][1], output)
    with style():
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        ax = figure.subplots()
        wheel([ax], axes, location="right", fraction=0.2, pad=0.08)
        _layer_legend(figure, frames[-1][1].net.depth - 1)
        writer = PillowWriter(fps=FRAMES_A_SECOND)
        with mpl.rc_context({"savefig.bbox": None}), writer.saving(figure, str(path), dpi=100):
            for title, found in [*frames, *[frames[-1]] * (2 * FRAMES_A_SECOND)]:
                ax.clear()
                fill(ax, found, direction_colors(found, output, longest))
                layer_borders(ax, found)
                frame(ax, found.domain, axes)
                ax.set_title(title)
                if figure.get_layout_engine() is not None:  # once, since it takes its time
                    figure.draw_without_rendering()
                    figure.set_layout_engine(None)
                writer.grab_frame()


def check_views(views: Sequence[tuple[str, Regions2D]], output: int, name: str) -> None:
    """Raise ValueError unless there is something to show."""
    if len(views) == 0:
        raise ValueError(f"{name} must hold at least one title and its regions, got none")
    outputs = min(found.net.widths[-1] for _, found in views)
    if not 0 <= check_integer(output, "output") < outputs:
        raise ValueError(f"output must be in 0..{outputs - 1}, got {output}")


def layer_borders(ax: Axes, found: Regions2D) -> None:
    """Draw the borders between regions in the colour of the layer that cuts there, the first of several."""
    border, site, _ = found.flips
    lowest = border.diff(prepend=border.new_tensor([-1])) != 0  # sites of a border ascend
    first = torch.zeros(len(found.vertices), dtype=torch.int64)
    first[border[lowest]] = site[lowest]
    for layer in range(1, found.net.depth):
        borders(ax, found, first == layer, layer_color(layer), 0.9)


def borders(ax: Axes, found: Regions2D, sides: Tensor, color: Any, width: float) -> None:
    """Draw some of the sides between two regions, each edge once."""
    sides = sides & (found.side_region < found.neighbours)
    segments = torch.stack([found.vertices[sides], found.side_ends[sides]], 1)
    many = len(found) > MANY
    ax.add_collection(
        LineCollection(
            list(segments.numpy()), colors=color, lw=width / 3 if many else width,
            capstyle="round", rasterized=many,
        )
    )  # fmt: skip


def fill(
    ax: Axes, found: Regions2D, values: Tensor | NDArray[Any], cmap: Any = None,
    norm: Normalize | None = None,
) -> None:  # fmt: skip
    """Draw every region in a colour of its own `[R, 3]`, or by a value `[R]`."""
    corners = np.split(found.vertices.numpy(), found.offsets[1:-1].numpy())
    values = np.asarray(values)
    colors: Any = {"facecolors": values} if values.ndim == 2 else {
        "array": values, "cmap": cmap, "norm": norm
    }  # fmt: skip
    # Edges in the colour of the face, since neighbours would show a seam.
    ax.add_collection(
        PolyCollection(corners, edgecolors="face", lw=0.2, rasterized=len(found) > MANY, **colors)
    )


def direction_colors(found: Regions2D, output: int, longest: float) -> NDArray[Any]:
    """`[R, 3]`: the hue by the direction of the gradient, fading to white as its length goes to 0."""
    g = found.gradients[:, output]
    hues = WHEEL(WHOLE_TURN(torch.atan2(g[:, 1], g[:, 0]).rad2deg().numpy()))[:, :3]
    strength = (g.norm(dim=1) / longest).clamp(0, 1).sqrt().numpy()
    return _faded(hues, strength)


def _faded(hues: NDArray[Any], strength: NDArray[Any]) -> NDArray[Any]:
    """Colours `[..., 3]`, white where the strength `[...]` is 0."""
    return np.asarray(1 - strength[..., None] * (1 - hues))


def layer_color(layer: int) -> Any:
    """The colour of hidden layer 1, 2, ..."""
    if layer <= len(LAYERS):
        return LAYERS[layer - 1]
    return mpl.colormaps["tab20"]((layer - len(LAYERS) - 1) % 20)


def frame(ax: Axes, domain: Tensor, names: tuple[str, str]) -> None:
    """Show the domain and its border."""
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
    ax.plot(*torch.cat([domain, domain[:1]]).T.numpy(), color=INK, lw=0.8, zorder=2)


def bar(
    figure: Figure, panels: NDArray[Any], cmap: Any, norm: Normalize, label: str, **more: Any
) -> None:
    """A bar of colours below some columns of panels."""
    rows, columns = panels.shape
    figure.colorbar(
        mpl.cm.ScalarMappable(norm, cmap), ax=list(panels.flat), label=label, location="bottom",
        pad=0.04 / rows, fraction=0.05 / rows, aspect=20, shrink=0.9 / columns, **more,
    )  # fmt: skip


def wheel(panels: Any, names: tuple[str, str], **place: Any) -> None:
    """What the hues mean, and the white, as a disc beside some panels: a direction has no first and no last."""
    ax, _ = mpl.colorbar.make_axes(list(panels), shrink=1.0, aspect=1, **place)
    y, x = np.mgrid[1:-1:301j, -1:1:301j]
    length = np.hypot(x, y)
    hues = WHEEL(WHOLE_TURN(np.degrees(np.arctan2(y, x))))[..., :3]
    picture = np.dstack([_faded(hues, length.clip(0, 1)), length <= 1])
    ax.imshow(picture, extent=(-1, 1, -1, 1))
    ax.set_axis_off()
    s, t = (label(name, 10) for name in names)
    words: Any = {"xycoords": "data", "textcoords": "offset points", "fontsize": 8}
    ax.annotate(f"+{s}", (1, 0), (3, 0), ha="left", va="center", **words)
    ax.annotate(f"-{s}", (-1, 0), (-3, 0), ha="right", va="center", **words)
    ax.annotate(f"+{t}", (0, 1), (0, 3), ha="center", va="bottom", **words)
    ax.annotate(f"-{t}", (0, -1), (0, -3), ha="center", va="top", **words)
    words["fontsize"] = 9
    ax.annotate("direction of\nthe gradient", (0, -1), (0, -15), ha="center", va="top", **words)


def _longest(found: Regions2D, output: int) -> float:
    """The length of gradient that has its full colour: twice the mean over the area."""
    lengths = found.gradients[:, output].norm(dim=1)
    return 2 * float((lengths * found.areas).sum() / found.areas.sum()) or 1.0


def _layer_legend(figure: Figure, depth: int) -> None:
    if depth == 0:
        return
    figure.legend(
        [Line2D([], [], color=layer_color(layer), lw=2) for layer in range(1, depth + 1)],
        [f"border of layer {layer}" for layer in range(1, depth + 1)],
        loc="outside lower center", ncols=min(depth, 4),
    )  # fmt: skip
