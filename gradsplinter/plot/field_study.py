"""Figures of the field study."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradsplinter.plot.field import fields
from gradsplinter.plot.regions import animation, layer_color, region_maps
from gradsplinter.plot.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, style
from gradsplinter.studies.field import SAMPLES, FieldResult, Seen
from gradsplinter.wording import counted

COLORS = (BLUE, ORANGE, GREEN, PURPLE, INK, GREY)
MARKERS = "osD^vx"
UNTRAINED: dict[str, Any] = {"ls": ":", "alpha": 0.7, "mfc": "white"}


def figures(result: FieldResult) -> dict[str, Figure]:
    """Every figure of the study, by file name."""
    found = {}
    for task in result.config.tasks:
        seen = result.first(task)
        views = [(at.slice.name, at.found) for at in seen]
        axes = _axes(seen)
        found[f"field-{task}"] = fields(views, seen[0].case.exact, axes=axes)
        found[f"regions-{task}"] = region_maps(views, seen[0].case.exact, axes=axes)
    if result.frames:
        found["counts"] = counts(result)
    if result.sizes:
        found["sizes"] = sizes(result)
    if result.mixing:
        found["mixing"] = mixing(result)
    return found


def write_animations(result: FieldResult, folder: Path) -> None:
    """The regions of each task's first network while it is trained, as GIFs; of few enough regions."""
    for task, film in result.frames.items():
        frames = [
            (f"step {at.step:,}: {counted(at.regions, 'region')}", at.found)
            for at in film
            if at.found
        ]
        if len(frames) == len(film):
            animation(frames, folder / f"training-{task}.gif", axes=_axes(result.first(task)))


def _axes(seen: Sequence[Seen]) -> tuple[str, str]:
    i, j = seen[0].slice.moving
    return f"x{i + 1}", f"x{j + 1}"


def counts(result: FieldResult) -> Figure:
    """Regions along training, and how many of them random points find."""
    with style():
        figure = Figure(figsize=(7.6, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        for task, color, marker in zip(result.config.tasks, COLORS, MARKERS, strict=False):
            steps, numbers, _ = zip(*result.frames[task], strict=True)
            left.plot(steps, numbers, color=color, marker=marker, ms=3, lw=1, label=task)
            share = result.sampled[task] / len(result.first(task)[0].found)
            right.plot(SAMPLES, share, color=color, marker=marker, ms=4, lw=1)
        left.set(xlabel="step of training", ylabel="regions", ylim=(0, None))
        left.set_xscale("symlog", linthresh=10)
        left.set_xlim(0, 1.1 * result.config.steps)
        left.set_title("exact number of regions")
        right.set(xscale="log", xlabel="random points", ylabel="share of the regions found")
        right.set_ylim(0, 1.03)
        right.set_title("what sampling finds of them")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def sizes(result: FieldResult) -> Figure:
    """How the field's error falls with regions and with width, and regions with parameters."""
    depths = sorted({len(size.hidden) for size in result.sizes})
    with style():
        figure = Figure(figsize=(9.6, 3.3), layout="constrained")
        by_regions, by_width, growth = figure.subplots(1, 3)
        for depth in depths:
            some = [size for size in result.sizes if len(size.hidden) == depth]
            look = {"color": layer_color(depth), "marker": MARKERS[depth - 1], "ms": 4}
            label = f"{depth} hidden layer{'s' * (depth > 1)}"
            regions = [size.regions for size in some]
            by_regions.plot(regions, [size.rms for size in some], lw=0, label=label, **look)
            growth.plot([size.parameters for size in some], regions, lw=0, **look)
            widths, means = _means([(size.hidden[0], size.rms) for size in some])
            by_width.plot(widths, means, lw=1, **look)
        at = np.array([min(s.regions for s in result.sizes), max(s.regions for s in result.sizes)])
        best = result.sizes[0].best_rms * result.sizes[0].regions ** 0.5
        by_regions.plot(at, best / at**0.5, color=INK, lw=1.2, label="best partition")
        middle = np.exp(np.mean([np.log([s.regions, s.rms]) for s in result.sizes], axis=0))
        fit = middle[1] * (at / middle[0]) ** result.exponent.slope
        by_regions.plot(
            at, fit, color=GREY, lw=1.2, ls="--", label=f"fit: exponent {result.exponent.slope:.2f}"
        )
        by_regions.set(xlabel="regions", ylabel="rms error of the gradient")
        by_width.set(xlabel="width", ylabel="the same, mean over seeds")
        growth.set(xlabel="parameters", ylabel="regions")
        for ax in (by_regions, by_width, growth):
            ax.set(xscale="log", yscale="log")
        figure.legend(*by_regions.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def _means(pairs: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    groups = {x: [y for _, y in some] for x, some in groupby(sorted(pairs), key=lambda p: p[0])}
    return list(groups), [float(np.mean(y)) for y in groups.values()]


def mixing(result: FieldResult) -> Figure:
    """For each task, layer by layer: where inputs mix, and where one switches what the others do.

    Points are means over seeds, bars standard deviations; hollow ones are untrained.
    """
    tasks = list(dict.fromkeys(row.task for row in result.mixing))
    inputs = 0, len(result.config.mixing_hidden) + 1  # where all is known
    with style():
        figure = Figure(figsize=(3.7 * len(tasks) + 0.6, 8.2), layout="constrained")
        grid = figure.subplots(3, len(tasks), sharex=True, sharey="row", squeeze=False)
        for column, task in zip(grid.T, tasks, strict=True):
            rows = [row for row in result.mixing if row.task == task]
            for ax, measure in zip(column[:2], ("orthogonality", "overlap"), strict=True):
                _by_site(ax, [(r.pair, r.trained, r.site, getattr(r, measure)) for r in rows])
            column[0].plot(inputs, (1, 0), "*", color=INK, ms=8, label="by definition")
            column[0].set_title(task)
            switches = [row for row in result.switching if row.task == task]
            _by_site(
                column[2], [(f"{r.moved} moves", r.trained, r.site, r.share) for r in switches]
            )
            column[2].set_xlabel("site (0: inputs)")
        grid[0, 0].set_ylabel("orthogonality of two inputs")
        grid[1, 0].set_ylabel("overlap of what the output reads")
        grid[2, 0].set_ylabel("share of the layer in switching")
        for line in grid:
            handles, names = line[-1].get_legend_handles_labels()
            line[-1].legend(
                [*handles, Line2D([], [], color=GREY, marker="o", ms=4, lw=1, **UNTRAINED)],
                [*names, "hollow: untrained"], loc="center left", bbox_to_anchor=(1, 0.5),
            )  # fmt: skip
    return figure


def _by_site(ax: Axes, values: Sequence[tuple[str, bool, int, float]]) -> None:
    """Values of (name, whether trained, site, value): a line for each name."""
    sites = sorted({site for _, _, site, _ in values})
    for k, name in enumerate(dict.fromkeys(name for name, *_ in values)):
        for trained in (True, False):
            found = torch.tensor(
                [
                    [v for n, t, s, v in values if (n, t, s) == (name, trained, site)]
                    for site in sites
                ]
            )
            look: dict[str, Any] = {"ls": "-", "label": name} if trained else UNTRAINED
            ax.errorbar(
                np.array(sites) + 0.06 * (k - 1), found.mean(1), found.std(1) if found.shape[1] > 1 else None,
                color=COLORS[k], marker=MARKERS[k], ms=4, lw=1, elinewidth=0.8, **look,
            )  # fmt: skip
    ax.set_xticks(range(max(sites) + 2))
    ax.set_ylim(-0.03, 1.05)
