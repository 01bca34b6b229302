"""Figures of the study of relevance."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

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
from gradsplinter.studies.heat_maps import (
    INPUT,
    PRODUCT,
    Explained,
    Pairs,
    alpha_rule,
    epsilon_rule,
    pairs_of,
)
from gradsplinter.studies.relevance import RelevanceResult

SHOWN = 5
"""Examples in the figure of heat maps."""


def figures(result: RelevanceResult) -> dict[str, Figure]:
    """Every figure of the study, by file name; heat maps where examples are images."""
    found = {"rules": rules(result), "groups": groups(result), "pairs": pairs(result)}
    if result.image_shape is not None:
        found |= {"maps": maps(result), "alike": alike(result)}
    return found


def rules(result: RelevanceResult) -> Figure:
    """How far each rule is from gradient × input: direction and length."""
    config = result.config
    epsilons = [epsilon for epsilon in config.epsilons if epsilon > 0]
    with style():
        figure = Figure(figsize=(7.6, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        for ax, measure in ((left, "cosine"), (right, "difference")):
            of_rules = [_of_seeds(result, epsilon_rule(e), measure) for e in epsilons]
            ax.plot(epsilons, of_rules, color=BLUE, marker="o", ms=3, lw=0, alpha=0.4)
            means = [np.mean(values) for values in of_rules]
            ax.plot(epsilons, means, color=BLUE, lw=1.4, label="ε rule")
            for alpha, color in zip(config.alphas, (ORANGE, GREEN, PURPLE, GREY), strict=False):
                mean = np.mean(_of_seeds(result, alpha_rule(alpha), measure))
                ax.axhline(float(mean), color=color, lw=1.4, ls="--", label=alpha_rule(alpha))
            ax.set_xscale("log")
            ax.set_xlabel("ε")
        left.set_ylim(0, 1.03)
        left.set_ylabel("cosine with gradient × input")
        right.set_yscale("log")
        right.set_ylabel("relative difference")
        left.legend(loc="lower left")
    return figure


def _of_seeds(result: RelevanceResult, rule: str, measure: str) -> list[float]:
    return [getattr(row, measure) for row in result.rules if row.rule == rule]


def groups(result: RelevanceResult) -> Figure:
    """What is explained of the heat maps of a class against the number of groups of gradients."""
    lines = {
        "by_gradient": (BLUE, "o", "group's mean gradient × own input"),
        "by_map": (ORANGE, "s", "group's mean heat map"),
    }
    ways = [("class", 0.0), *(("clusters", a) for a in sorted(result.config.angles)[::-1])]
    rows = [[row for row in result.groups if (row.way, row.angle) == way] for way in ways]
    counts = [np.mean([row.groups for row in some]) for some in rows]
    with style():
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        ax = figure.subplots()
        for measure, (color, marker, name) in lines.items():
            for prefix, dashes, what in (("", "-", name), ("chance_", ":", "groups at random")):
                means = [np.mean([getattr(r, prefix + measure) for r in some]) for some in rows]
                ax.plot(counts, means, color=color, ls=dashes, marker=marker, ms=4, label=what)
        ax.set_xscale("log")
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlabel("groups of gradients, all classes")
        ax.set_ylabel("share of the variance within classes")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def pairs(result: RelevanceResult) -> Figure:
    """Alike heat maps against alike gradients and alike inputs; what nearest neighbours share."""
    found = pairs_of(result.explained[0], PRODUCT)
    with style():
        figure = Figure(figsize=(10.4, 3.4), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
        for ax, values, name in (
            (left, found.gradients, "gradients"),
            (middle, found.inputs, "inputs"),
        ):
            ax.hist2d(values.numpy(), found.maps.numpy(), 40, norm=LogNorm(), cmap="Blues", cmin=1)
            ax.set_xlabel(f"cosine of two {name}")
        left.set_ylabel("cosine of two heat maps")
        _neighbours(right, result)
    return figure


def _neighbours(ax: Axes, result: RelevanceResult) -> None:
    names = list(dict.fromkeys(row.rule for row in result.pairs))
    for offset, measure, color in (
        (-0.2, "neighbours_by_gradients", BLUE), (0.2, "neighbours_by_inputs", ORANGE),
    ):  # fmt: skip
        for y, name in enumerate(names):
            if name == INPUT and measure == "neighbours_by_inputs":
                continue
            values = [getattr(row, measure) for row in result.pairs if row.rule == name]
            ax.barh(
                y + offset, np.mean(values), 0.38, color=color, alpha=0.75,
                label=measure.removeprefix("neighbours_by_") if y == 0 else None,
            )  # fmt: skip
            ax.plot(values, [y + offset] * len(values), color=INK, marker="|", ms=5, lw=0)
    ax.axvline(result.pairs[0].neighbours_by_chance, color=INK, lw=1, ls=":", label="by chance")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("of the 10 nearest heat maps, share nearest by")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right", fontsize=7)


def maps(result: RelevanceResult) -> Figure:
    """Some examples with their gradients and heat maps by several rules."""
    seen, config = result.explained[0], result.config
    names = [PRODUCT, epsilon_rule(max(config.epsilons)), *map(alpha_rule, config.alphas)]
    firsts = [int((seen.chosen == c).nonzero()[0]) for c in seen.chosen.unique()[:SHOWN]]
    columns = {INPUT: seen.x, "gradient": seen.gradients} | {n: seen.maps[n] for n in names}
    with style():
        size = (1.25 * len(columns), 1.25 * len(firsts) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(firsts), len(columns), squeeze=False)
        for ax, name in zip(axes[0], columns, strict=True):
            ax.set_title(name, fontsize=8)
        for row, example in zip(axes, firsts, strict=True):
            for ax, (name, values) in zip(row, columns.items(), strict=True):
                _image(ax, values[example], result, signed=name != INPUT)
            row[0].set_ylabel(label(result.classes[int(seen.chosen[example])]))
        _key(figure, axes)
    return figure


def _image(ax: Axes, values: Tensor, result: RelevanceResult, *, signed: bool) -> None:
    """Dark where larger; what has a sign is blue where it is positive and orange where it is negative."""
    assert result.image_shape is not None
    most = float(values.abs().max()) or 1.0
    ax.imshow(
        values.reshape(result.image_shape).numpy(), cmap=SIGNED if signed else "gray_r",
        vmin=-most if signed else 0, vmax=most, interpolation="nearest",
    )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def _key(figure: Figure, axes: NDArray[Any]) -> None:
    """What the colours of gradients and heat maps say: each picture has a scale of its own."""
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), SIGNED), ax=axes, location="bottom", shrink=0.4, aspect=30,
        label="gradients and heat maps: entry / largest of its picture",
    )  # fmt: skip
    bar.set_ticks([-1, 0, 1])


def alike(result: RelevanceResult) -> Figure:
    """The two examples whose heat maps are alike though their gradients are not, and the reverse."""
    seen = result.explained[0]
    found = pairs_of(seen, PRODUCT)
    by_map, by_gradient = found.alike(found.maps), found.alike(found.gradients)
    chosen = {
        "alike heat maps": int(by_map[found.gradients[by_map].argmin()]),
        "alike gradients": int(by_gradient[found.maps[by_gradient].argmin()]),
    }
    with style():
        figure = Figure(figsize=(7.6, 4.1), layout="constrained")
        axes = figure.subplots(2, 6, squeeze=False)
        for row, (name, pair) in zip(axes, chosen.items(), strict=True):
            _pair(row, seen, found, pair, result)
            row[0].set_ylabel(name)
        _key(figure, axes)
    return figure


def _pair(
    row: NDArray[Any], seen: Explained, found: Pairs, pair: int, result: RelevanceResult
) -> None:
    columns = {"inputs": (seen.x, found.inputs), "gradients": (seen.gradients, found.gradients)}
    columns |= {"heat maps": (seen.maps[PRODUCT], found.maps)}
    for i, (name, (values, cosine)) in enumerate(columns.items()):
        for ax, example in zip(row[2 * i : 2 * i + 2], found.index[pair], strict=True):
            _image(ax, values[example], result, signed=name != "inputs")
        title = row[2 * i].set_title(f"{name}: cosine {float(cosine[pair]):.2f}", fontsize=8)
        title.set_in_layout(False)  # it stands over two pictures
