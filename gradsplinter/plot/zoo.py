"""Figure of a zoo: how well its networks have learned their tasks."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from gradsplinter.plot.style import BLUE, INK, ORANGE, label, style
from gradsplinter.zoo import Zoo

LEAST = 1e-6
"""Of 1 - R² that is drawn."""


def networks(zoo: Zoo) -> Figure:
    """The R² of each network, on a scale of log(1 - R²), a row for each task; a bar at the median.

    Left of the dotted line are those that count as not having learned their task.
    """
    config = zoo.config
    missing = (1 - zoo.r2).clamp_min(LEAST).view(config.tasks, config.networks)
    limit = 1 - config.learned
    with style():
        figure = Figure(figsize=(6.4, 0.24 * config.tasks + 1.2), layout="constrained")
        ax = figure.subplots()
        for row, found in enumerate(missing):
            for some, color in ((found[found <= limit], BLUE), (found[found > limit], ORANGE)):
                ax.plot(some.numpy(), [row] * len(some), "o", color=color, ms=3.5, mew=0, alpha=0.5)
            ax.plot(float(found.median()), row, "|", color=INK, ms=11, mew=1.6)
        ax.axvline(limit, color=INK, lw=0.8, ls=":")
        low, high = (
            turn(math.log10(value))
            for turn, value in (
                (math.floor, min(float(missing.min()), limit)),
                (math.ceil, max(float(missing.max()), limit)),
            )
        )
        decades = [10.0**power for power in range(low, high + 1)]
        ax.set_xscale("log")
        ax.set_xticks(decades, [f"{1 - value:.{max(0, -low)}g}" for value in decades])
        ax.set_xlim(1.2 * decades[-1], decades[0] / 1.2)
        ax.set_yticks(range(config.tasks), [label(task.name, 44) for task in zoo.tasks])
        ax.set_ylim(config.tasks - 0.5, -0.5)
        ax.set_xlabel("R² on fresh examples")
    return figure
