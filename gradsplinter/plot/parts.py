"""Figures of the study of parts of networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from gradsplinter.plot.embedding import principal
from gradsplinter.plot.style import BLUE, GREEN, GREY, INK, ORANGE, label, style
from gradsplinter.studies.class_parts_result import ClassPartsResult
from gradsplinter.studies.parts_result import METHODS, PartsResult

COLORS = (BLUE, GREY, ORANGE, GREEN)
MARKERS = ("o", "s", "^", "D", "v", "P")
QUESTIONS = (
    ("probe", "probe of the zoo names its task"),
    ("neighbours", "nearest part elsewhere is of its task"),
    ("products", "nearest beside a product is one"),
)


def figures(result: PartsResult, classified: Sequence[ClassPartsResult]) -> dict[str, Figure]:
    """Every figure of the study, by file name."""
    found = {"parts-map": map_of(result), "parts": accuracies(result)}
    return found | {f"classes-{one.dataset}": classes(one) for one in classified}


def map_of(result: PartsResult) -> Figure:
    """The first two principal components of the zoo's embeddings, and where the parts lie there; by the embedder of the
    first seed."""
    zoo, parts = principal(result.zoo_embeddings, result.embeddings)
    depth = len(result.config.hidden) + 1
    names = [part.name(depth) for part in result.parts]
    kinds = sorted(dict.fromkeys(names), key=lambda name: (name.startswith("site"), name))
    colors = _colors(result)
    with style():
        figure = Figure(figsize=(7.6, 5.0), layout="constrained")
        ax = figure.subplots()
        for task in range(result.zoo.config.tasks):
            color = colors[task % len(colors)]
            own = (result.zoo.labels == task).numpy()
            ax.scatter(zoo[own, 0], zoo[own, 1], s=6, color=color, alpha=0.25, lw=0)
            for kind, marker in zip(kinds, MARKERS, strict=False):
                some = [
                    i for i, name in enumerate(names) if name == kind and result.labels[i] == task
                ]
                ax.scatter(
                    parts[some, 0],
                    parts[some, 1],
                    s=26,
                    color=color,
                    marker=marker,
                    lw=0.6,
                    edgecolor=INK,
                )
        ax.set_xlabel("first principal component of the zoo's embeddings")
        ax.set_ylabel("second")
        figure.legend(handles=_key(result, kinds), loc="outside right upper", fontsize=7)
    return figure


def _colors(result: PartsResult) -> Sequence[tuple[float, float, float]]:
    """Of tasks; they repeat from 21 tasks on."""
    name = "tab10" if result.zoo.config.tasks <= 10 else "tab20"
    found: Sequence[tuple[float, float, float]] = colormaps[name].colors  # type: ignore[attr-defined]
    return found


def _key(result: PartsResult, kinds: Sequence[str]) -> list[Line2D]:
    colors = _colors(result)
    key = [
        Line2D([], [], ls="", marker=marker, color="white", mec=INK, ms=5, label=kind)
        for kind, marker in zip(kinds, MARKERS, strict=False)
    ]
    key.append(Line2D([], [], ls="", marker=".", color=GREY, ms=4, label="networks of the zoo"))
    return key + [
        Line2D(
            [],
            [],
            ls="",
            marker="o",
            color=colors[i % len(colors)],
            ms=5,
            label=label(task.name, 32),
        )
        for i, task in enumerate(result.zoo.tasks)
    ]


def accuracies(result: PartsResult) -> Figure:
    """The three questions by kind of part and method; bars are standard errors over networks."""
    means = result.means()
    groups = list(dict.fromkeys((row["coordinates"], row["part"]) for row in means))
    with style():
        figure = Figure(figsize=(8.4, 0.42 * len(groups) + 1.5), layout="constrained")
        axes = figure.subplots(1, len(QUESTIONS), sharey=True)
        for ax, (question, title) in zip(axes, QUESTIONS, strict=True):
            for i, method in enumerate(METHODS):
                rows = [row for row in means if row["method"] == method]
                places = [
                    groups.index((row["coordinates"], row["part"])) + 0.17 * (i - 1.5)
                    for row in rows
                ]
                ax.errorbar(
                    [row[question] for row in rows], places,
                    xerr=[row[f"{question}_error"] for row in rows],
                    fmt="o", ms=4, lw=1.2, color=COLORS[i], label=method,
                )  # fmt: skip
            ax.axvline(result.chance[question], color=INK, lw=0.8, ls=":")
            ax.set_xlim(-0.04, 1.04)
            ax.set_xticks([0, 0.5, 1])
            ax.set_title(title, fontsize=9)
        axes[0].set_yticks(
            range(len(groups)),
            [
                part + (",\nprincipal directions" if coordinates == "principal" else "")
                for coordinates, part in groups
            ],
        )
        axes[0].set_ylim(len(groups) - 0.5, -0.5)
        axes[1].set_xlabel("share of parts (dotted: chance)")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(METHODS))
    return figure


def classes(result: ClassPartsResult) -> Figure:
    """How far the pathways of classes are from each other, as a tree and as a table, beside how often they are
    confused."""
    merges, order = average_linkage(result.distances)
    names = [label(result.classes[i], 14) for i in order]
    n = len(order)
    distances, confusion = (
        found[order][:, order].double().fill_diagonal_(torch.nan)
        for found in (result.distances, result.confusion + result.confusion.T)
    )
    with style():
        figure = Figure(figsize=(9.2, 3.6), layout="constrained")
        tree, left, right = figure.subplots(1, 3, width_ratios=[0.7, 1, 1])
        _draw_tree(tree, merges, order)
        tree.set_yticks([])
        tree.set_xlabel("mean distance")
        tree.set_title("tree of the pathways")
        for ax, table, cmap, title in (
            (left, distances, "magma", "distance of pathways"),
            (right, confusion, "magma_r", "images confused"),
        ):
            drawn = ax.imshow(table.numpy(), cmap=cmap, aspect="auto")
            figure.colorbar(drawn, ax=ax)
            ax.set_xticks(range(n), names, rotation=90 if max(map(len, names)) > 2 else 0)
            ax.set_yticks(range(n), names)
            ax.set_title(title)
            ax.grid(visible=False)
        nets = len(result.config.seeds)
        figure.supxlabel(
            f"{result.dataset}, {nets} networks {result.config.architecture}", fontsize=9
        )
    return figure


def average_linkage(distances: Tensor) -> tuple[list[tuple[int, int, float]], list[int]]:
    """Clusters of mean distances (UPGMA): which are joined at what distance, and an order of leaves without crossings.

    Args:
        distances: `[n, n]`. Leaves are 0 .. n - 1, and the cluster of merge i is n + i.

    Examples:
        >>> average_linkage(torch.tensor([[0.0, 5.0, 1.0], [5.0, 0.0, 3.0], [1.0, 3.0, 0.0]]))
        ([(0, 2, 1.0), (1, 3, 4.0)], [1, 0, 2])
    """
    clusters = {i: [i] for i in range(len(distances))}
    merges: list[tuple[int, int, float]] = []
    while len(clusters) > 1:
        pairs = [(i, j) for i in clusters for j in clusters if i < j]
        means = [float(distances[clusters[i]][:, clusters[j]].mean()) for i, j in pairs]
        i, j = pairs[means.index(min(means))]
        clusters[len(distances) + len(merges)] = clusters.pop(i) + clusters.pop(j)
        merges.append((i, j, min(means)))
    return merges, next(iter(clusters.values()))


def _draw_tree(ax: Axes, merges: Sequence[tuple[int, int, float]], order: Sequence[int]) -> None:
    """Leaves on the right, as high as their rows in a table."""
    at = {leaf: (0.0, float(row)) for row, leaf in enumerate(order)}
    for i, (left, right, distance) in enumerate(merges):
        (x1, y1), (x2, y2) = at[left], at[right]
        ax.plot([x1, distance, distance, x2], [y1, y1, y2, y2], color=INK, lw=1)
        at[len(order) + i] = (distance, (y1 + y2) / 2)
    ax.set_xlim(left=0)
    ax.invert_xaxis()
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
