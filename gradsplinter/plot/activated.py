"""What share of a computation graph an example activates, and how much of it many examples share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from gradsplinter.graph import ComputationGraph
from gradsplinter.graph_layout import group_color
from gradsplinter.plot.style import label, style

PANEL, HEIGHT = 3.6, 3.2  # inches


def activated(graphs: Mapping[str, ComputationGraph]) -> Figure:
    """A panel for each graph, a curve for each site: its most used components against who needs no others.

    A dot is what one example uses of a site: the mean over examples, with a bar from the least to the most
    where those that use any differ. From there the curve adds modes, the most frequent first: across, the share of the
    site's components that they have; up, the share of the examples that are in them.

    Args:
        graphs: by the title of the panel.

    Raises:
        ValueError: no graph; gradients that are not finite.
    """
    if not graphs:
        raise ValueError("graphs must hold at least one graph, got none")
    with style():
        apart = ConstrainedLayoutEngine(wspace=0.06)  # or the labels of two axes touch
        figure = Figure(figsize=(PANEL * len(graphs), HEIGHT), layout=apart)
        axes = figure.subplots(1, len(graphs), sharey=True, squeeze=False)[0]
        for ax, (title, graph) in zip(axes, graphs.items(), strict=True):
            _panel(ax, graph)
            ax.set_title(label(title, 44))
        axes[0].set_ylabel("examples that need no others")
        figure.supxlabel("components of a site, the most used first", fontsize=9)
    return figure


def _panel(ax: Axes, graph: ComputationGraph) -> None:
    by_example = graph.share_used_by_example().numpy()
    least = 1.0
    for site, used in zip(graph.sites, by_example, strict=True):
        color = group_color(site - graph.end)
        modes = graph.splinters[site].n_modes
        text = f"site {site}, {modes:,} mode{'s' * (modes > 1)}: "
        if not used.any():
            ax.plot([], [], color=color, label=f"{text}no components")
            continue
        across, up = _curve(graph, site)
        mean, first = float(used.mean()), float(used[used > 0].min())
        least = min(least, first)
        if first < used.max():
            ax.plot([first, used.max()], [up[0], up[0]], color=color, lw=4, alpha=0.35)
        ax.plot(across, up, color=color, lw=1.5)
        ax.plot(
            [mean],
            [up[0]],
            "o",
            color=color,
            clip_on=False,
            zorder=3,
            label=f"{text}{_percent(mean)}",
        )
    ax.set(xscale="log", xlim=(least / 1.5, 1.0), ylim=(0, 1))
    ax.xaxis.set_major_formatter(_percent)
    ax.yaxis.set_major_formatter(_percent)
    ax.legend(fontsize=7.5, title="an example uses, of", title_fontsize=7.5)


def _percent(share: float, _position: float = 0) -> str:
    """Two digits of it."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def _curve(graph: ComputationGraph, site: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of the components and of the examples, with the modes added one by one."""
    counts = graph.splinters[site].counts
    order = counts.sort(descending=True, stable=True).indices
    there = (graph.lengths(site) != 0).sum(dim=1)[order].double()
    across = there.cumsum(0) / there.sum()
    up = counts[order].double().cumsum(0) / graph.n_examples
    return across.numpy(), up.numpy()
