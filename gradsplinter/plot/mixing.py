"""Figures of the mixing study."""

from __future__ import annotations

import textwrap

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from gradsplinter.plot.style import BLUE, GREEN, GREY, INK, ORANGE, style
from gradsplinter.studies.mixing import MixingResult
from gradsplinter.studies.statistics import mean_and_error
from gradsplinter.wording import counted

TILE = 96  # pixels of a similarity matrix in the grid
GAP = 8


def figures(result: MixingResult) -> dict[str, Figure]:
    """Every figure of the study, by file name."""
    return {
        "orthogonality": orthogonality(result),
        "similarity": similarity(result),
        "training": training(result),
    }


def site_name(site: int) -> str:
    return "input (site 0)" if site == 0 else f"hidden layer {site} (site {site})"


def orthogonality(result: MixingResult) -> Figure:
    """Both scores against λ at every site, with theory at the input and both controls."""
    sites = result.config.sites
    with style():
        figure = Figure(figsize=(3.1 * len(sites) + 0.4, 3.4), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(sites), sharex=True, sharey=True))
        for site, ax in zip(sites, axes, strict=True):
            _orthogonality_at(result, site, ax)
        axes[0].set_ylabel("orthogonality of the two outputs")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(sites))
    return figure


def _orthogonality_at(result: MixingResult, site: int, ax: Axes) -> None:
    strengths = np.array(result.config.lambdas)
    alone = len(strengths) == 1  # a line through one point is not seen
    null = result.scores(site, "paired", "untrained")
    low, high = float(null.min()), float(null.max())
    if low == high:  # of one seed
        ax.axhline(low, color=GREY, lw=1.4, label="untrained")
    else:
        ax.axhspan(low, high, color=GREY, alpha=0.22, lw=0, label="untrained (range over seeds)")
    if site == 0:
        ax.plot(
            strengths, result.mean(0, "theory"), marker="D" if alone else None, color=INK, lw=1.4,
            ms=9, mfc="none", label="theory (exact gradients)",
        )  # fmt: skip
    by_hand = result.mean(site, "paired", "mixed by hand")
    if len(by_hand):
        ax.plot(
            strengths, by_hand, marker="^" if alone else None, ls="--", color=GREEN, lw=1.4,
            ms=12, mfc="none", label="mixed at the output by hand",
        )  # fmt: skip
    if alone:
        ax.set_xticks(strengths)
    # The wider one below, since both are the same where a site has one mode.
    scores = (
        ("all_pairs", ORANGE, "s", 6.5, 2.0, "all pairs"),
        ("paired", BLUE, "o", 4, 0.9, "paired, by count"),
    )
    for score, color, marker, size, width, label in scores:
        values = result.scores(site, score)
        ax.errorbar(
            strengths,
            values.mean(dim=1),
            yerr=_standard_error(values),
            color=color,
            marker=marker,
            markersize=size,
            lw=0 if site == 0 else width,
            elinewidth=1,
            label=label,
        )
    ax.set_title(site_name(site))
    ax.set_xlabel("mixing λ")
    ax.set_ylim(-0.03, 1.03)


def _standard_error(values: Tensor) -> Tensor:
    """Of every row; 0 of one value."""
    return torch.tensor([mean_and_error(row)[1] or 0.0 for row in values.tolist()])


def similarity(result: MixingResult) -> Figure:
    """abs(cos) between unique gradients of both outputs: λ down, seeds across, a block per site."""
    config = result.config
    rows, columns = len(config.lambdas), len(config.seeds)
    # In inches; at least as much as the title above each site and the bar beside all take.
    width = max(0.62 * columns, 1.8) * len(config.sites) + 1.6
    height = max(0.62 * rows, 2.0)
    with style():
        figure = Figure(figsize=(width, height + 1.1), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(config.sites), sharey=True))
        for site, ax in zip(config.sites, axes, strict=True):
            image = ax.imshow(
                _mosaic(result, site), cmap="magma", vmin=0, vmax=1, interpolation="nearest"
            )
            step = TILE + GAP
            ax.set_xticks([i * step + TILE / 2 for i in range(columns)], map(str, config.seeds))
            ax.set_yticks(
                [i * step + TILE / 2 for i in range(rows)], [f"{v:g}" for v in config.lambdas]
            )
            name = site_name(site)
            ax.set_title(name.replace(" (", "\n(") if columns < 4 else name)
            ax.set_xlabel("seed")
            ax.tick_params(length=0)
            ax.grid(visible=False)
            for spine in ax.spines.values():
                spine.set_visible(False)
        axes[0].set_ylabel("mixing λ")
        figure.colorbar(
            image, ax=list(axes), shrink=min(1, 2 / height), label="|cos| of two gradients"
        )
        text = (
            "In each square: gradients of output 1, then of output 2. "
            "Dark off-diagonal blocks: separate tasks."
        )
        figure.suptitle(
            textwrap.fill(text, int(14 * width)),  # characters of 9 points
            x=0.01,
            ha="left",
            fontsize=9,
        )
    return figure


def _mosaic(result: MixingResult, site: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """All matrices of a site in one image, so that the figure has one artist for each site."""
    config = result.config
    step = TILE + GAP
    shape = (len(config.lambdas) * step - GAP, len(config.seeds) * step - GAP)
    image = np.full(shape, np.nan, dtype=np.float32)
    for row, strength in enumerate(config.lambdas):
        for column, seed in enumerate(config.seeds):
            matrix = result.similarities[strength, seed, site]
            pick = (torch.arange(TILE) + 0.5).mul(len(matrix) / TILE).long()
            tile = matrix[pick][:, pick].numpy()
            image[row * step : row * step + TILE, column * step : column * step + TILE] = tile
    return image


def training(result: MixingResult) -> Figure:
    """Losses of all networks, and the modes that each has at the input."""
    config = result.config
    losses = result.trained.losses
    with style():
        figure = Figure(figsize=(7.4, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        steps = np.arange(1, losses.shape[1] + 1)
        least, most = min(config.lambdas), max(config.lambdas)
        for row, strength in enumerate(config.lambdas):
            part = losses[row * len(config.seeds) : (row + 1) * len(config.seeds)]
            shade = 0.15 + 0.45 * ((strength - least) / (most - least) if most > least else 1)
            left.plot(steps, part.T, color=BLUE, alpha=shade, lw=0.5, rasterized=True)
            if strength in (least, most):
                left.plot([], [], color=BLUE, alpha=shade, lw=2, label=f"λ = {strength:g}")
        left.legend(loc="lower left")
        left.set(xscale="log", yscale="log", xlabel="step", ylabel="mean squared error")
        left.set_title(f"training loss of {counted(len(losses), 'network')}")
        strengths = np.repeat(config.lambdas, len(config.seeds))
        right.plot(
            strengths, result.scores(0, "modes").flatten(), "o", color=GREEN, ms=3.5, alpha=0.7
        )
        right.set(xlabel="mixing λ", ylabel="modes", ylim=(0, None))
        right.yaxis.set_major_locator(MaxNLocator(integer=True))
        if most == least:
            right.set_xticks([most])
        right.set_title(f"modes among {config.validation_examples:,} examples")
    return figure
