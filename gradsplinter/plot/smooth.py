"""Figures of the study of smooth activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradsplinter.plot.style import BLUE, GREEN, INK, ORANGE, PURPLE, style
from gradsplinter.studies.smooth import Grouping, SmoothResult

WAYS = {
    "modes": (INK, "*", "modes (exact)"),
    "quantiles": (BLUE, "o", "levels of slopes, equally used"),
    "equal widths": (GREEN, "D", "levels of slopes, equally wide"),
    "clusters": (ORANGE, "s", "clusters of gradients"),
}
COLORS = (INK, BLUE, ORANGE, GREEN, PURPLE)


def figures(result: SmoothResult) -> dict[str, Figure]:
    """Every figure of the study, by file name."""
    return {"groups": groups(result), "orthogonality": orthogonality(result)}


def groups(result: SmoothResult) -> Figure:
    """Groups against the error of the gradient that represents a group, and against its angle."""
    activations = result.config.activations
    with style():
        figure = Figure(figsize=(3.4 * len(activations) + 0.6, 5.6), layout="constrained")
        axes = figure.subplots(2, len(activations), sharex=True, sharey="row", squeeze=False)
        for activation, column in zip(activations, axes.T, strict=True):
            some = [g for g in result.groupings if g.activation == activation]
            _groups(column[0], some, "error")
            _groups(column[1], some, "angle")
            column[0].set_title(activation)
            column[1].set_xlabel("different gradients of an output")
        for first in axes[:, 0]:  # when all is drawn, for the row
            first.set_ylim(bottom=-0.04 * first.get_ylim()[1])
        axes[0, 0].set_ylabel("error of the gradient")
        axes[1, 0].set_ylabel("angle (degrees)")
        handles: dict[str, Artist] = {}
        for ax in axes[0]:
            drawn, names = ax.get_legend_handles_labels()
            handles |= dict(zip(names, drawn, strict=True))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
    return figure


def _groups(ax: Axes, some: Sequence[Grouping], measure: str) -> None:
    for way, (color, marker, name) in WAYS.items():
        points = [
            (np.mean([g.groups for g in of]), np.mean([getattr(g, measure) for g in of]), parameter)
            for parameter in sorted({g.parameter for g in some if g.way == way})
            if (of := [g for g in some if g.way == way and g.parameter == parameter])
        ]
        if not points:
            continue
        x, y, parameters = zip(*points, strict=True)
        ax.plot(x, y, color=color, marker=marker, ms=9 if way == "modes" else 5, lw=1, label=name)
        if way != "modes":
            place = {
                "equal widths": (-5, -3, "right"),
                "clusters": (2, 6, "center"),
            }  # lines lie close
            dx, dy, side = place.get(way, (4, 4, "left"))
            for end in (0, -1):
                unit = "°" if way == "clusters" else " bit" + "s" * (parameters[end] > 1)
                ax.annotate(
                    f"{parameters[end]:g}{unit}", (x[end], y[end]), xytext=(dx, dy),
                    textcoords="offset points", fontsize=7, color=color, ha=side,
                )  # fmt: skip
    ax.set_xscale("log")
    ax.margins(x=0.12)


def orthogonality(result: SmoothResult) -> Figure:
    """Of the two outputs along λ, by the gradients of every example and by those in levels."""
    config = result.config
    with style():
        figure = Figure(figsize=(7.6, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for ax in (left, right):
            alone = len(result.theory) == 1  # a line through one point is not seen
            ax.plot(
                *zip(*result.theory, strict=True), color=INK, lw=1.4, label="theory",
                marker="D" if alone else None, ms=9, mfc="none",
            )  # fmt: skip
            ax.set_xlabel("mixing λ")
            ax.set_ylim(-0.03, 1.03)
        for activation, color in zip(config.activations, COLORS[1:], strict=False):
            means = [_mean(result, activation, strength, "exact") for strength in config.lambdas]
            left.plot(
                config.lambdas, means, color=color, marker="o", ms=5, lw=0.8, label=activation
            )
        smooth = [name for name in config.activations if name != "relu"]
        for activation in smooth[:1]:
            for bits, color in zip(config.bits, COLORS[1:], strict=False):
                means = [_mean(result, activation, s, "levels", bits) for s in config.lambdas]
                name = f"{activation}, {bits} bit{'s' * (bits > 1)}"
                right.plot(config.lambdas, means, color=color, marker="o", ms=5, lw=0.8, label=name)
        left.set_title("gradients of every example")
        right.set_title("gradients in levels, equally used")
        left.set_ylabel("orthogonality of the two outputs")
        for ax in (left, right):
            ax.legend()
    return figure


def _mean(
    result: SmoothResult, activation: str, strength: float, what: str, bits: int = 0
) -> float:
    some = [
        score for score in result.scores
        if (score.strength, score.activation) == (strength, activation)
    ]  # fmt: skip
    values = [score.levels[bits] if what == "levels" else getattr(score, what) for score in some]
    return float(np.mean(values))
