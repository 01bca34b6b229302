"""Figures of an embedder's training."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from gradsplinter.plot.style import BLUE, GREY, ORANGE, style
from gradsplinter.studies.teaching import Taught

OVER = 20
"""Steps over which losses are averaged."""


def figures(taught: Taught) -> dict[str, Figure]:
    """Every figure, by file name."""
    return {"training": training(taught)}


def training(taught: Taught) -> Figure:
    """Losses of the steps and of the validations; the embedder is that of the best one."""
    losses = taught.trained.losses.double()
    steps, found = zip(*taught.trained.validations, strict=True)
    best = min(range(len(found)), key=found.__getitem__)
    with style():
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        ax = figure.subplots()
        ax.plot(range(1, len(losses) + 1), losses.numpy(), color=GREY, lw=0.5, alpha=0.6)
        if len(losses) >= 2 * OVER:
            means = losses.unfold(0, OVER, 1).mean(1)
            middles = torch.arange(len(means)) + (OVER + 1) / 2
            ax.plot(
                middles.numpy(), means.numpy(), color=GREY, lw=1.6, label=f"training, {OVER} steps"
            )
        else:
            ax.lines[0].set_label("training, each step")
        ax.plot(steps, found, color=BLUE, marker="o", ms=2.5, lw=1.2, label="validation")
        ax.plot(
            steps[best], found[best], "o", color=ORANGE, ms=5, zorder=3, label="the best, which is kept"
        )  # fmt: skip
        ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel("loss of hidden gradients")
        ax.legend()
    return figure
