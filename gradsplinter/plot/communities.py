"""Figures of the communities study."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradsplinter.plot.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, style
from gradsplinter.studies.communities import Row

METHODS = {
    "ours": (BLUE, "o", "-", "ours: no outputs, no k"),
    "input gradients": (GREEN, "^", "--", "|cos| of gradients, Louvain"),
    "weight rows": (ORANGE, "s", "--", "|cos| of weights, Louvain"),
    "bits": (PURPLE, "D", ":", "correlation of bits, Louvain"),
    "activations": (GREY, "v", ":", "correlation of activations, Louvain"),
    "principal components, k given": (INK, "x", ":", "principal components, k given"),
}
LEAST = 0.25
"""Share of networks with neurons of two tasks, below which a mean is not drawn."""
AGAINST = {"mixing": "mixing λ", "correlation": "correlation of inputs (λ = 0)"}


def figures(rows: list[Row]) -> dict[str, Figure]:
    """Every figure of the study, by file name. Without a λ and a correlation there is one only."""
    found = {"controls": controls(rows)}
    if any(row.kind in AGAINST for row in rows):
        found = {"communities": communities(rows), **found}
    return found


def communities(rows: list[Row]) -> Figure:
    """Agreement with what the neurons are for, against λ and against the correlation of inputs.

    A line of panels for each of the two that was tried.
    """
    kinds = [kind for kind in AGAINST if any(row.kind == kind for row in rows)]
    products = sorted({row.tasks for row in rows if row.kind in kinds})
    with style():
        size = 3.1 * max(2, len(products)) + 0.6, 2.8 * len(kinds) + 0.6
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(kinds), len(products), sharey=True, squeeze=False)
        for kind, line in zip(kinds, axes, strict=True):
            for n, ax in zip(products, line, strict=True):
                _agreement(ax, [r for r in rows if r.kind == kind and r.tasks == n])
                ax.set_xlabel(AGAINST[kind])
                ax.set_title(f"{n} products")
            line[0].set_ylabel("adjusted Rand index of neurons")
        figure.suptitle(
            "m/n at the foot: networks whose inputs are grouped exactly right", fontsize=9
        )
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _agreement(ax: Axes, rows: list[Row]) -> None:
    strengths = sorted({row.strength for row in rows})
    nothing = True
    for name, (color, marker, line, label) in METHODS.items():
        means, errors = [], []
        for strength in strengths:
            of = [r for r in rows if r.strength == strength]
            values = [r.neurons[name] for r in of if r.neurons]
            enough = len(values) >= max(1, LEAST * len(of))
            nothing = nothing and not enough
            means.append(float(np.mean(values)) if enough else math.nan)
            errors.append(float(np.std(values)) / math.sqrt(len(values)) if enough else math.nan)
        ax.errorbar(
            strengths, means, errors, color=color, marker=marker, ls=line, ms=4, lw=1.4, label=label
        )
    if nothing:
        ax.text(
            0.5, 0.55, "no means: too few networks\nwith neurons of two tasks", ha="center",
            va="center", fontsize=8, color=INK, transform=ax.transAxes,
        )  # fmt: skip
    ax.set_ylim(-0.3, 1.05)
    ax.set_xticks(strengths)
    margin = 0.1 * (strengths[-1] - strengths[0]) or 0.1
    ax.set_xlim(strengths[0] - margin, strengths[-1] + margin)
    for strength in strengths:
        of = [r for r in rows if r.strength == strength]
        right = sum(r.inputs_right for r in of)
        ax.annotate(f"{right}/{len(of)}", (strength, -0.27), ha="center", fontsize=7, color=INK)


def controls(rows: list[Row]) -> Figure:
    """How many communities are found where there is one task, none, or tasks that share inputs."""
    ways = {"found": "from the neurons alone", "found_from_outputs": "from the outputs"}
    names = {
        "untrained": "untrained",
        "one task": "one task that cannot be divided",
        "shared inputs": "tasks that share inputs",
    }
    groups: dict[str, list[Row]] = {}
    for kind, label in names.items():
        for row in rows:
            if row.kind == kind:
                name = row.task if kind == "one task" else f"{row.task}, {label}"
                groups.setdefault(name, []).append(row)
    with style():
        figure = Figure(figsize=(8.6, 0.32 * len(groups) + 1.3), layout="constrained")
        axes = figure.subplots(1, len(ways), sharey=True)
        most = max(getattr(row, way) for of in groups.values() for row in of for way in ways)
        for (way, title), ax in zip(ways.items(), axes, strict=True):
            counts = [[getattr(row, way) for row in of] for of in groups.values()]
            _shares(ax, counts, most)
            ax.set_title(title)
        axes[0].set_yticks(range(len(groups)), list(groups))
        axes[0].invert_yaxis()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _shares(ax: Axes, counts: list[list[int]], most: int) -> None:
    """A bar for each list: the shares of 1, 2, ... in it."""
    begins = np.zeros(len(counts))
    colors = [GREY, BLUE, GREEN, ORANGE, PURPLE]
    for found in range(1, most + 1):
        shares = np.array([of.count(found) / len(of) for of in counts])
        label = "1 community" if found == 1 else f"{found} communities"
        ax.barh(range(len(counts)), shares, left=begins, label=label, color=colors[(found - 1) % 5])
        begins += shares
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of networks")
    ax.grid(visible=False)
