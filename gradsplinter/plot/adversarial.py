"""Figures of the study of adversarial examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from gradsplinter.plot.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, style
from gradsplinter.studies.adversarial_result import AdversarialResult
from gradsplinter.studies.detectors import BASELINES

LINES = {
    "max-softmax": (GREY, "o"),
    "Mahalanobis, all sites": (PURPLE, "D"),
    "NAP monitor": (INK, "v"),
    "bits of all sites": (BLUE, "s"),
    "bits, own less other": (GREEN, "^"),
    "angle of the gradient": (ORANGE, "P"),
}
"""Scores that are followed along ε."""
PANELS = {
    "FGSM": "FGSM", "PGD L∞": "PGD, L∞", "mode-seeking L∞": "mode-seeking, L∞", "sign noise": "sign noise",
    "PGD L2": "PGD, L2", "mode-seeking L2": "mode-seeking, L2", "Gaussian noise": "Gaussian noise",
}  # fmt: skip
SHOWN = {
    "clean": (GREY, "clean test examples"),
    "clean, wrong": (PURPLE, "of these, wrong"),
    "Gaussian noise": (GREEN, "Gaussian noise"),
    "PGD L2": (BLUE, "PGD"),
    "mode-seeking L2": (ORANGE, "mode-seeking attack"),
}


def figures(result: AdversarialResult) -> dict[str, Figure]:
    """Every figure of the study, by file name."""
    return {
        "auroc": heat_map(result, "auroc", "AUROC against clean test examples"),
        "matched": heat_map(
            result, "matched", "AUROC between examples of about the same max-softmax"
        ),
        "errors": heat_map(result, "auroc_wrong", "AUROC against clean examples that are wrong"),
        "epsilon": along_epsilon(result),
        "scores": histograms(result),
    }


def heat_map(result: AdversarialResult, measure: str, title: str) -> Figure:
    """One measure of every score in every set of examples: means over seeds."""
    means = result.means()
    sets = list(dict.fromkeys((row["kind"], row["epsilon"]) for row in means))
    sets.sort(key=lambda of: (*PANELS, of[0]).index(of[0]))
    scores = list(dict.fromkeys(row["score"] for row in means))
    values = {(row["kind"], row["epsilon"], row["score"]): row[measure] for row in means}
    table = np.array([[values[*of, score] for of in sets] for score in scores])
    with style():
        figure = Figure(
            figsize=(2.6 + 0.38 * len(sets), 1.6 + 0.24 * len(scores)), layout="constrained"
        )
        ax = figure.subplots()
        image = ax.imshow(table, cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            if not np.isnan(value):
                ax.text(
                    column, row, f"{value:.2f}".removeprefix("0"), ha="center", va="center",
                    fontsize=7, color="white" if abs(value - 0.5) > 0.33 else INK,
                )  # fmt: skip
        names = [
            f"{kind} {epsilon:g}" if epsilon is not None else str(kind) for kind, epsilon in sets
        ]
        ax.set_xticks(range(len(sets)), names, rotation=90, fontsize=8)
        ax.set_yticks(
            range(len(scores)), [f"{s} *" if s in BASELINES else s for s in scores], fontsize=8
        )
        for i in range(1, len(sets)):
            if sets[i][0] != sets[i - 1][0]:
                ax.axvline(i - 0.5, color="white", lw=2)
        ax.axhline(sum(s in BASELINES for s in scores) - 0.5, color="white", lw=2)
        ax.grid(visible=False)
        ax.tick_params(length=0)
        ax.set_title(f"{title}; * not ours")
        figure.colorbar(image, ax=ax, pad=0.01, aspect=30)
    return figure


def along_epsilon(result: AdversarialResult) -> Figure:
    """AUROC of some scores along ε: each attack and noise by itself."""
    means = result.means()
    kinds = [kind for kind in PANELS if any(row["kind"] == kind for row in means)]
    columns = 4
    with style():
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        grid = figure.subplots(2, columns, sharey=True).flatten()
        for ax, kind in zip(grid, kinds, strict=False):
            _lines(ax, [row for row in means if row["kind"] == kind])
            ax.set_title(PANELS[kind])
            ax.set_xlabel("ε")
        for ax in grid[len(kinds) :]:
            ax.set_axis_off()
        for ax in grid[::columns]:
            ax.set_ylabel("AUROC")
        handles, names = grid[0].get_legend_handles_labels()
        grid[-1].legend(handles, names, loc="center", fontsize=8)
    return figure


def _lines(ax: Axes, rows: Sequence[dict[str, Any]]) -> None:
    ax.axhline(0.5, color=INK, lw=0.6, ls=":")
    for score, (color, marker) in LINES.items():
        of = [row for row in rows if row["score"] == score]
        if not of:
            continue
        x, y, error = ([row[key] for row in of] for key in ("epsilon", "auroc", "auroc_error"))
        ax.set_xticks(x, [f"{epsilon:g}" for epsilon in x])
        ax.errorbar(
            x, y, np.nan_to_num(error), color=color, marker=marker, ms=4, lw=0.9, label=score
        )
    ax.set_ylim(0, 1.02)
    ax.set_xlim(left=0)


def histograms(result: AdversarialResult) -> Figure:
    """How two scores are distributed, in the first network, at the middle ε."""
    chosen = ("bits of all sites", "max-softmax")
    with style():
        figure = Figure(figsize=(8.4, 3.2), layout="constrained")
        for ax, score in zip(figure.subplots(1, 2), chosen, strict=True):
            _histogram(ax, {kind: of[score] for kind, of in result.scores.items() if kind in SHOWN})
            ax.set_title(score)
            ax.set_ylabel("share of examples")
        left, right = figure.axes
        left.set_xlabel("bits to the nearest training mode of the predicted class")
        right.set_xlabel("-log of the predicted class's probability")
        right.legend(fontsize=8)
    return figure


def _histogram(ax: Axes, scores: dict[str, Tensor]) -> None:
    values = {kind: of.numpy() for kind, of in scores.items() if len(of)}
    pooled = np.concatenate(list(values.values()))
    if (pooled == pooled.round()).all():
        edges = np.arange(pooled.min() - 0.5, pooled.max() + 1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:  # of several orders of magnitude
        edges = np.geomspace(max(pooled.min(), 1e-6), max(pooled.max(), 1e-5), 26)
        ax.set_xscale("log")
    values = {kind: np.clip(of, edges[0], edges[-1]) for kind, of in values.items()}
    for kind, of in values.items():
        color, name = SHOWN[kind]
        shares = np.histogram(of, edges)[0] / len(of)
        ax.stairs(shares, edges, color=color, lw=1.4, label=name, fill=kind == "clean", alpha=0.8)
    ax.set_ylim(bottom=0)
