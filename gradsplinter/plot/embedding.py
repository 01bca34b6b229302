"""Figures of the study of the embedder."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from gradsplinter.plot.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SIGNED, label, style
from gradsplinter.studies.embedding import EmbeddingResult
from gradsplinter.studies.embedding_ablation import AblationRow
from gradsplinter.studies.statistics import mean_and_error

COLORS = (BLUE, GREY, ORANGE, GREEN, PURPLE, INK)
MOST_DRAWN = 10
"""Tasks whose fields are drawn."""
GRID = 40
ARROWS = 7
"""Along each input."""


MEASURES = {
    "all_labels": "all labels",
    "one_label": "one label a class",
    "few_modes": "few modes",
    "cloze_r2": "R² of hidden values",
}


def figures(result: EmbeddingResult, ablations: Sequence[AblationRow] = ()) -> dict[str, Figure]:
    """Every figure of the study, by file name."""
    found = {"probes": probes(result), "cloze": cloze(result), "map": map_of(result)}
    return found | ({"ablations": ablation(ablations)} if ablations else {})


def probes(result: EmbeddingResult) -> Figure:
    """Accuracy of the probe by question and method; bars are standard errors over seeds."""
    questions = list(dict.fromkeys(row.question for row in result.probes))
    methods = list(dict.fromkeys(row.method for row in result.probes))
    with style():
        figure = Figure(
            figsize=(1.25 * len(questions) + 1.6, 0.28 * len(methods) + 1.3), layout="constrained"
        )
        axes = figure.subplots(1, len(questions), sharey=True, squeeze=False)[0]
        for ax, question in zip(axes, questions, strict=True):
            for place, method in enumerate(methods[::-1]):
                found = [
                    row.accuracy
                    for row in result.probes
                    if (row.question, row.method) == (question, method)
                ]
                mean, error = mean_and_error(found)
                if mean is None:
                    continue
                color = BLUE if method == "embedder" else GREY
                ax.errorbar(mean, place, xerr=error or 0, fmt="o", ms=4, color=color, lw=1.2)
            tasks = result.zoo.config.tasks
            chance = 1 / (tasks - tasks // 2 if question.startswith("unseen") else tasks)
            ax.axvline(chance, color=INK, lw=0.8, ls=":")
            ax.set_xlim(0, 1.04)
            ax.set_xticks([0, 0.5, 1])
            ax.set_title(textwrap.fill(question, 13), fontsize=8)
        axes[0].set_yticks(range(len(methods)), [textwrap.fill(name, 26) for name in methods[::-1]])
        figure.supxlabel("accuracy on held-out networks (dotted: chance)", fontsize=9)
    return figure


def cloze(result: EmbeddingResult) -> Figure:
    """How well hidden gradients are filled in, by the share that is hidden."""
    methods = list(dict.fromkeys(row.method for row in result.cloze))
    groups = list(dict.fromkeys(row.networks for row in result.cloze))
    with style():
        figure = Figure(figsize=(3.1 * len(groups) + 0.5, 3.2), layout="constrained")
        axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for ax, group in zip(axes, groups, strict=True):
            for method, color in zip(methods, COLORS, strict=False):
                rows = [
                    row for row in result.cloze if (row.method, row.networks) == (method, group)
                ]
                shares = sorted({row.hidden for row in rows})
                found = [
                    mean_and_error([r.r2 for r in rows if r.hidden == share]) for share in shares
                ]
                ax.errorbar(
                    shares, [mean or 0 for mean, _ in found], yerr=[error or 0 for _, error in found],
                    color=color, marker="o", ms=3, lw=1.4, label=method,
                )  # fmt: skip
            ax.axhline(0, color=INK, lw=0.8, ls=":")
            ax.set_title(f"held-out networks of {group}")
            ax.set_xlabel("share of modes hidden")
        axes[0].set_ylim(top=1.03)
        axes[0].set_ylabel("R² of hidden gradients")
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods)
        )
    return figure


def ablation(rows: Sequence[AblationRow]) -> Figure:
    """What changes if one thing is changed; bars are standard errors, dotted lines the embedder as it is."""
    variants = list(dict.fromkeys((row.question, row.variant) for row in rows))[::-1]
    names = [f"{question}: {variant}" if question else variant for question, variant in variants]
    with style():
        figure = Figure(figsize=(7.8, 0.24 * len(variants) + 0.9), layout="constrained")
        axes = figure.subplots(1, len(MEASURES), sharey=True)
        for ax, (column, title) in zip(axes, MEASURES.items(), strict=True):
            for place, key in enumerate(variants):
                some = [row for row in rows if (row.question, row.variant) == key]
                mean, error = mean_and_error([getattr(row, column) for row in some])
                color = GREY if key[0] else BLUE
                ax.errorbar(mean or 0, place, xerr=error or 0, fmt="o", ms=4, color=color, lw=1.2)
                if not key[0]:
                    ax.axvline(mean or 0, color=INK, lw=0.8, ls=":")
            ax.set_xlim(right=1.02)
            ax.set_title(textwrap.fill(title, 13), fontsize=9)
        axes[0].set_yticks(range(len(names)), names)
    return figure


def map_of(result: EmbeddingResult) -> Figure:
    """The two principal components of the embeddings, and what the tasks are: exact values and gradients.

    Of two inputs, arrows are gradients, the longest of each task as long as those of others; of one, the blue line is the
    gradient.
    """
    tasks = result.zoo.tasks
    (places,) = principal(result.embeddings)
    colors = colormaps["tab20" if len(tasks) > 10 else "tab10"].colors  # type: ignore[attr-defined]
    drawn = tasks[:MOST_DRAWN] if tasks[0].n_inputs <= 2 else ()
    rows = -(-len(drawn) // 2)
    with style():
        figure = Figure(figsize=(7.8 if drawn else 5.0, 4.6), layout="constrained")
        left, *right = figure.subfigures(
            1, 2 if drawn else 1, width_ratios=[5, 2.6][: 1 + bool(drawn)], squeeze=False
        )[0]
        ax = left.subplots()
        for task, name in enumerate(tasks):
            some = places[result.zoo.labels == task]
            ax.scatter(
                *some.T, s=9, color=colors[task % len(colors)], lw=0, label=label(name.name, 34)
            )
        ax.set_xlabel("first principal component of the embedding")
        ax.set_ylabel("second")
        if not drawn:
            ax.legend(fontsize=6, loc="best")
            return figure
        panels = right[0].subplots(rows, 2, squeeze=False).flatten()
        for i, panel in enumerate(panels):
            panel.set_axis_off()
            if i < len(drawn):
                _draw(panel, result, i)
                panel.set_title(label(drawn[i].name, 22), fontsize=6, color=colors[i % len(colors)])
    return figure


def _draw(ax: Axes, result: EmbeddingResult, task: int) -> None:
    """The task's values and gradients over its inputs."""
    generator = torch.Generator().manual_seed(0)
    own = result.zoo.tasks[task]
    x = own.sample(4096, generator=generator)
    low, high = x.amin(0), x.amax(0)
    steps = torch.linspace(0, 1, GRID)
    if x.shape[1] == 1:
        points = (low + (high - low) * steps).unsqueeze(1)
        for of, color in ((own.target, INK), (own.gradient, BLUE)):
            values = of(points).flatten()
            ax.plot(
                points.flatten().numpy(), (values / values.abs().max()).numpy(), color=color, lw=1
            )
        return
    grid = torch.cartesian_prod(steps, steps).flip(1)
    values = own.target(low + (high - low) * grid).view(GRID, GRID)
    middle = float(values.mean())
    reach = float((values - middle).abs().max())
    ax.imshow(values.numpy(), origin="lower", cmap=SIGNED, vmin=middle - reach, vmax=middle + reach)
    places = (torch.arange(ARROWS) + 0.5) / ARROWS
    at = torch.cartesian_prod(places, places)
    gradients = own.gradient(low + (high - low) * at).flatten(1) * (high - low)
    longest = float(gradients.norm(dim=1).max()) or 1.0
    ax.quiver(
        *(at * (GRID - 1)).T.numpy(), *gradients.T.numpy(), color=INK, pivot="mid", angles="xy", scale_units="xy",
        scale=longest * ARROWS / (1.2 * GRID), width=0.008, headwidth=4,
    )  # fmt: skip


def principal(embeddings: Tensor, *others: Tensor) -> list[NDArray[Any]]:
    """Embeddings, and others, by the first two principal components of the former; no sign is left to chance."""
    mean = embeddings.double().mean(0)
    _, _, directions = torch.linalg.svd(embeddings.double() - mean, full_matrices=False)
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    axes = (signs * directions)[:2].T
    return [((found.double() - mean) @ axes).numpy() for found in (embeddings, *others)]
