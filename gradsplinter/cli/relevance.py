"""`gradsplinter relevance`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from rich import box
from rich.table import Table

import gradsplinter
from gradsplinter import data, io
from gradsplinter.cli.command import Study, console, options_of, results_folder
from gradsplinter.studies.relevance import RelevanceConfig, RelevanceResult, run_relevance
from gradsplinter.wording import counted


@dataclass(frozen=True)
class RelevanceStudy(Study):
    """What do splinters say that a heat map of relevance does not?

    Trains networks that classify images, explains their outputs by gradient × input and by layer-wise relevance
    propagation, and compares heat maps, gradients and inputs over many examples.
    """

    typed: ClassVar = {"out": "--out", "name": "--dataset"} | options_of(RelevanceConfig)

    config: Annotated[RelevanceConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=RelevanceConfig
    )
    out: Path = Path("results/relevance")
    """Folder to write."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import relevance as plot_relevance  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        train, test = (data.load(self.config.dataset, part) for part in ("train", "test"))
        with results_folder(self.out, self.overwrite, "relevance") as folder:
            result = run_relevance(self.config, train, test, progress=self.shows_bar)
            for name in ("networks", "rules", "groups", "pairs", "sites"):
                io.write_csv(folder / f"{name}.csv", [vars(row) for row in getattr(result, name)])
            versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
            examples = {"source": train.source, "train": len(train), "test": len(test)}
            about = {"config": dataclasses.asdict(self.config), "data": examples}
            io.write_json(folder / "config.json", about | {"versions": versions})
            for name, figure in plot_relevance.figures(result).items():
                save(figure, folder, name)
        _report(result)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")


TABLES = [
    ("networks", "Networks; inputs that are 0, and the squared gradient there", (), {
        "accuracy": "accuracy", "modes": "modes", "zeros": "inputs", "unseen": "gradient",
    }),
    ("networks", "The two largest outputs of an example", (), {
        "cosine": "cosine of gradients", "maps_cosine": "of heat maps", "agreement": "rank correlation",
    }),
    ("sites", "The gradients of these two by site", ("site",), {"cosine": "cosine", "opposed": "below 0"}),
    ("rules", "Heat maps beside gradient × input", ("rule",), {
        "cosine": "cosine", "difference": "difference", "kept": "sum / output",
    }),
    ("groups", "Heat maps within classes, explained by groups' gradients × input", ("way", "angle"), {
        "groups": "groups", "by_gradient": "explained", "chance_by_gradient": "groups at random",
    }),
    ("groups", "... by groups' mean heat maps", ("way", "angle"), {
        "groups": "groups", "by_map": "explained", "chance_by_map": "groups at random",
    }),
    ("pairs", "Rank correlations of heat maps over pairs of examples", ("rule",), {
        "with_gradients": "with gradients", "with_inputs": "with inputs",
    }),
    ("pairs", "The one pair in a hundred with most alike heat maps, and all pairs", ("rule",), {
        "gradients_alike": "gradients", "gradients": "all", "units_alike": "units apart", "units": "all",
    }),
    ("pairs", "Of the 10 nearest heat maps, how many are nearest by", ("rule",), {
        "neighbours_by_gradients": "gradient", "neighbours_by_inputs": "input", "neighbours_by_chance": "chance",
    }),
]  # fmt: skip
"""What is printed: rows, a title, columns that tell rows apart, and columns of means with their headings."""


def _report(result: RelevanceResult) -> None:
    console.print(f"Means ± standard deviations over {counted(len(result.networks), 'network')}")
    for name, title, keys, measures in TABLES:
        console.print(f"{title}:")
        table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
        for column in keys:
            table.add_column(column)
        for heading in measures.values():
            table.add_column(heading, justify="right")
        for some in _together(getattr(result, name), keys):
            cells = [f"{getattr(some[0], k):g}" if k in ("angle", "site") else getattr(some[0], k)
                     for k in keys]  # fmt: skip
            table.add_row(*cells, *(_mean([getattr(row, m) for row in some]) for m in measures))
        console.print(table)


def _together(rows: Sequence[Any], keys: Sequence[str]) -> list[list[Any]]:
    """Rows that agree in the keys."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, key) for key in keys), []).append(row)
    return list(found.values())


def _mean(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    digits = 0 if all(isinstance(value, int) for value in values) else 3
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:,.{digits}f}{spread}"
