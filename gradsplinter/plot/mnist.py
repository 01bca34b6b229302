"""Figures of the MNIST study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from torch import Tensor

from gradsplinter.data import Dataset
from gradsplinter.plot.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SIGNED,
    label,
    style,
)
from gradsplinter.studies.class_maps import image_similarity
from gradsplinter.studies.gradient_clusters import Kind
from gradsplinter.studies.mnist import KINDS, MnistResult, Network
from gradsplinter.studies.mnist_rows import PairRow, TrainingRow, pair_rows, training_rows
from gradsplinter.studies.mnist_tables import networks_of, settings

COLORS = (BLUE, ORANGE, GREEN, PURPLE, GREY, INK)
PLACES = ((4, 3), (-4, 3), (4, -3), (-4, -3))
"""Of a name beside its dot, in points."""
MEMBERS = 3
"""Examples that are drawn of a cluster."""
KIND_NAMES = {"trained": "trained", "untrained": "untrained", "shuffled": "shuffled labels"}


def figures(result: MnistResult) -> dict[str, Figure]:
    """Every figure of the study, by file name."""
    drawn = {f"maps-{name}-{net}": maps(result, name, net) for name, net in settings(result)}
    drawn |= {
        f"clusters-{name}": clusters(result, name)
        for name, shown in result.shown.items()
        if result.sets[name][0].image_shape is not None and shown.kinds
    }
    drawn |= {
        f"pairs-{name}-{net}": pairs(result, name, net)
        for name, net in settings(result)
        if len(result.sets[name][0].classes) > 2
    }
    followed = dict.fromkeys((c.dataset, c.architecture) for c in result.training)
    return drawn | {f"training-{name}-{net}": training(result, name, net) for name, net in followed}


def maps(result: MnistResult, name: str, architecture: str) -> Figure:
    """Centred cosines of every two classes at each site, means over seeds: trained networks and their nulls."""
    of = {kind: networks_of(result, name, architecture, kind) for kind in KINDS}
    sites = of["trained"][0].sites
    names = [label(c, 10) for c in result.sets[name][0].classes]
    with style():
        figure = Figure(figsize=(2.05 * (len(sites) + 1) + 1.3, 6.6), layout="constrained")
        axes = figure.subplots(len(KINDS), len(sites) + 1, squeeze=False)
        colors = ScalarMappable(Normalize(-0.8, 0.8), SIGNED)
        for row, kind in zip(axes, KINDS, strict=True):
            for ax, site in zip(row[:-1], sites, strict=True):
                map_ = torch.stack([n.sites[site].maps.centred for n in of[kind]]).mean(dim=0)
                _map(ax, map_, names, colors)
                if kind == KINDS[0]:
                    ax.set_title(_site(site))
            row[0].set_ylabel(KIND_NAMES[kind])
            for ax in row[1:-1]:
                ax.set_yticks([])
        for ax in axes[:-1, :-1].flat:
            ax.set_xticks([])
        _beside(list(axes[:, -1]), result.sets[name][0], of["trained"], names, colors)
        figure.colorbar(
            colors, ax=axes, shrink=0.5, extend="both",
            label="cosine of two classes' centred gradients",
        )  # fmt: skip
    return figure


def _beside(
    column: Sequence[Axes], train: Dataset, trained: Sequence[Network], names: Sequence[str],
    colors: ScalarMappable,
) -> None:  # fmt: skip
    """What the maps are compared with."""
    _map(column[0], image_similarity(train), names, colors)
    column[0].set_title("mean examples")
    confused = torch.stack([n.confusions for n in trained]).sum(dim=0)
    _map(
        column[1],
        confused,
        names,
        ScalarMappable(Normalize(0, max(1, int(confused.max()))), "gray_r"),
    )
    column[1].set_title(f"confused, up to {int(confused.max()):,}")
    for ax in column[:2]:
        ax.set_xticks([])
        ax.set_yticks([])
    column[2].set_axis_off()


def _site(site: int) -> str:
    return f"site {site}" if site else "input"


def _map(ax: Axes, map_: Tensor, names: Sequence[str], colors: ScalarMappable) -> None:
    picture = colors.to_rgba(map_.numpy())
    picture[np.arange(len(names)), np.arange(len(names))] = (0.85, 0.85, 0.85, 1)
    ax.imshow(picture, interpolation="nearest")
    ax.grid(visible=False)
    ax.tick_params(length=0, labelsize=7)
    ax.spines[:].set_visible(False)
    long = max(map(len, names)) > 2
    ax.set_xticks(range(len(names)), names, rotation=90 if long else 0)
    ax.set_yticks(range(len(names)), names)


def clusters(result: MnistResult, name: str) -> Figure:
    """Of each class, its largest clusters of input gradients: mean, mean of the examples, some of them, how many."""
    train, test = result.sets[name]
    shape = train.image_shape
    assert shape is not None
    kinds = result.shown[name].kinds
    rows = list(dict.fromkeys(kind.label for kind in kinds))
    with style():
        figure = Figure(figsize=(8.6, 0.58 * len(rows) + 0.4), layout="constrained")
        of_kind = 2 + MEMBERS + 1
        widths = [
            1.3 if max(map(len, train.classes)) > 2 else 0.3,
            *[1, 1, *[1] * MEMBERS, 0.6] * 3,
        ]
        axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
        for ax in axes.flat:
            ax.set_axis_off()
        for row, of_class in zip(axes, rows, strict=True):
            row[0].text(
                1, 0.5, label(train.classes[of_class], 12), ha="right", va="center", fontsize=9,
                transform=row[0].transAxes,
            )  # fmt: skip
            of = [kind for kind in kinds if kind.label == of_class]
            for i, kind in enumerate(of):
                _kind(row[1 + of_kind * i :][:of_kind], kind, test.x, shape)
        for i in range(3):
            for ax, text in zip(
                axes[0, 1 + of_kind * i :], ("gradient", "mean", "examples"), strict=False
            ):
                ax.text(0, 1.06, text, fontsize=7, transform=ax.transAxes)
    return figure


def _kind(row: Sequence[Axes], kind: Kind, x: Tensor, shape: tuple[int, int]) -> None:
    """Its members are spread evenly over those that there are, in the order of the data."""
    gradient, mean, *members, count = row
    most = float(kind.gradient.abs().max()) or 1.0
    picture: dict[str, Any] = {"interpolation": "nearest"}
    of_gradient, of_example = (one.reshape(shape).numpy() for one in (kind.gradient, kind.example))
    gradient.imshow(of_gradient, cmap=SIGNED, vmin=-most, vmax=most, **picture)
    mean.imshow(of_example, cmap="gray_r", vmin=0, vmax=1, **picture)
    shown = min(MEMBERS, len(kind.members))
    for ax, i in zip(members, range(shown), strict=False):
        member = x[kind.members[i * len(kind.members) // shown]]
        ax.imshow(member.reshape(shape).numpy(), cmap="gray_r", vmin=0, vmax=1, **picture)
    count.text(0, 0, f"{len(kind.members)}", transform=count.transAxes, fontsize=8)


def pairs(result: MnistResult, name: str, architecture: str) -> Figure:
    """Every two classes: how alike their mean examples are against how alike their gradients are."""
    rows = [r for r in pair_rows(result) if (r.dataset, r.architecture) == (name, architecture)]
    sites = list(dict.fromkeys(row.site for row in rows))
    most = max(1, *(row.confusions for row in rows))
    with style():
        figure = Figure(figsize=(max(2.5 * len(sites) + 0.4, 3.6), 3.2), layout="constrained")
        axes = figure.subplots(1, len(sites), sharex=True, sharey=True, squeeze=False)[0]
        for ax, site in zip(axes, sites, strict=True):
            _pairs(ax, [row for row in rows if row.site == site], most)
            ax.set_title(_site(site))
            ax.set_xlabel("likeness of mean examples")
        axes[0].set_ylabel("cosine of centred gradients")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, handletextpad=0.2)
        figure.draw_without_rendering()  # labels need to know where dots are
        for ax, site in zip(axes, sites, strict=True):
            _name_pairs(ax, [row for row in rows if row.site == site])
    return figure


def _pairs(ax: Axes, rows: list[PairRow], most: int) -> None:
    x, y = [row.likeness for row in rows], [row.centred for row in rows]
    ax.axhline(0, color=INK, lw=0.6)
    ax.scatter(x, [row.untrained for row in rows], s=7, color=GREY, label="untrained", lw=0)
    sizes = [8 + 90 * row.confusions / most for row in rows]
    ax.scatter(x, y, s=sizes, color=BLUE, alpha=0.75, label="trained", lw=0)


def _name_pairs(ax: Axes, rows: list[PairRow]) -> None:
    """Name the four pairs that are confused most, each beside its dot where no other name is."""
    taken: list[Bbox] = []
    for row in sorted(rows, key=lambda row: -row.confusions)[:4]:
        for x, y in PLACES if row.confusions else ():
            text = ax.annotate(
                f"{label(row.a, 8)}, {label(row.b, 8)}", (row.likeness, row.centred), xytext=(x, y),
                textcoords="offset points", fontsize=6, color=BLUE, ha="left" if x > 0 else "right",
                va="bottom" if y > 0 else "top",
            )  # fmt: skip
            box = text.get_window_extent()
            inside = ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1
            if inside and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def training(result: MnistResult, name: str, architecture: str) -> Figure:
    """Accuracy, orthogonality, unique gradients and likeness to the final map, step by step."""
    rows = [r for r in training_rows(result) if (r.dataset, r.architecture) == (name, architecture)]
    sites = list(dict.fromkeys(row.site for row in rows))
    with style():
        figure = Figure(figsize=(10.4, 2.7), layout="constrained")
        axes = figure.subplots(1, 4)
        _curve(axes[0], [row for row in rows if row.site == sites[0]], "accuracy", INK, "")
        for site, color in zip(sites, COLORS, strict=False):
            of = [row for row in rows if row.site == site]
            _curve(axes[1], of, "orthogonality", color, _site(site))
            _curve(axes[2], of, "unique", color, _site(site))
            if all(row.to_final is not None for row in of):
                _curve(axes[3], of, "to_final", color, _site(site))
        titles = (
            "accuracy",
            "orthogonality",
            "unique gradients of a class",
            "map against final map",
        )
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title)
            ax.set_xscale("symlog", linthresh=2)
            ax.set_xlabel("step")
        axes[2].set_yscale("log")
        axes[1].legend()
    return figure


def _curve(ax: Axes, rows: list[TrainingRow], measure: str, color: str, name: str) -> None:
    """The mean over seeds, from the least to the greatest."""
    steps = sorted({row.step for row in rows})
    values = [[getattr(r, measure) for r in rows if r.step == step] for step in steps]
    ax.fill_between(
        steps, list(map(min, values)), list(map(max, values)), color=color, alpha=0.2, lw=0
    )
    ax.plot(steps, [np.mean(v) for v in values], color=color, marker="o", ms=3, lw=1.2, label=name)
