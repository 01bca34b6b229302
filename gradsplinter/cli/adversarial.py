"""`gradsplinter adversarial`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import math
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
from gradsplinter.studies.adversarial import COLUMNS, run_adversarial
from gradsplinter.studies.adversarial_result import (
    OTHERS,
    AdversarialConfig,
    AdversarialResult,
    mean_columns,
)
from gradsplinter.studies.detectors import BASELINES


@dataclass(frozen=True)
class AdversarialStudy(Study):
    """Do adversarial examples take unusual routes through a network?

    Trains networks on images, attacks them, and measures how well scores of modes and gradients, and those that
    the field uses, tell attacks from clean examples.
    """

    typed: ClassVar = {"out": "--out"} | options_of(AdversarialConfig)

    config: Annotated[AdversarialConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=AdversarialConfig
    )
    out: Path = Path("results/adversarial")
    """Folder to write."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import adversarial as plot_adversarial  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        with results_folder(self.out, self.overwrite, "adversarial") as folder:
            train, test = (data.load(self.config.dataset, part) for part in ("train", "test"))
            name = OTHERS[self.config.dataset]
            other = None if name is None else data.load(name, "test")
            result = run_adversarial(self.config, train, test, other, progress=self.shows_bar)
            _write(result, folder)
            for name_of, figure in plot_adversarial.figures(result).items():
                save(figure, folder, name_of)
        _report(result)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")


def _write(result: AdversarialResult, folder: Path) -> None:
    tables: dict[str, Sequence[object]] = {
        "networks": result.networks,
        "attacks": result.attacks,
        "separation": result.separations,
        "combined": result.combined,
    }
    for name, rows in tables.items():
        io.write_csv(folder / f"{name}.csv", [vars(row) for row in rows])
    io.write_csv(folder / "attacks-means.csv", result.attack_means())
    io.write_csv(folder / "separation-means.csv", result.means())
    io.write_csv(folder / "combined-means.csv", result.combined_means())
    versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
    about = {"config": dataclasses.asdict(result.config), "versions": versions}
    io.write_json(folder / "config.json", about)


def _report(result: AdversarialResult) -> None:
    config = result.config
    found = mean_columns(result.networks, ("accuracy", "modes", "known"))
    console.print(
        f"{len(result.networks)} networks {config.architecture} on {config.dataset}: accuracy "
        f"{found['accuracy']:.1%}; training examples are in {found['modes']:,.0f} modes, "
        f"{found['known']:.1%} of test examples in one of them. Means over seeds from here on; the tables in the "
        "folder have their standard errors."
    )
    table = _table("", "ε", "success", "L2 distance", "mode is known")
    for row in result.attack_means():
        cells = [_cell(row[name]) for name in ("success", "length", "known")]
        table.add_row(row["kind"], _epsilon(row["epsilon"]), *cells)
    console.print(table)
    _report_scores(result)
    console.print(
        "AUROC of a logistic regression that has seen an attack on other examples; against clean ones, and "
        "against those that the network has wrong"
    )
    columns = [name.replace("baselines", "base-\nlines") for name in COLUMNS]  # for 80 columns
    table = _table("", "ε", "attack\nseen", *columns, *(f"wrong:\n{name}" for name in columns))
    areas: dict[tuple[str, float, str], list[Any]] = {}
    for row in result.combined_means():
        areas.setdefault((row["kind"], row["epsilon"], row["fitted_on"]), []).append(row)
    for (kind, epsilon, seen), rows in areas.items():
        cells = [_cell(row[name]) for name in ("auroc", "auroc_wrong") for row in rows]
        table.add_row(kind, _epsilon(epsilon), seen, *cells)
    console.print(table)


def _report_scores(result: AdversarialResult) -> None:
    means = result.means()
    sets = dict.fromkeys((row["kind"], row["epsilon"]) for row in means)
    middle = [  # what a terminal has room for; the tables in the folder have all
        of
        for of in sets
        if result.config.is_middle(*of) and of[0] != "FGSM" and not of[0].endswith(", changed")
    ]
    names = [
        f"{kind} {_epsilon(epsilon)}".replace(" ", "\n").replace("-", "-\n")
        for kind, epsilon in middle
    ]
    for measure, title in (
        ("auroc", "AUROC against clean test examples, at the middle ε"),
        ("matched", "The same, between examples of about equal max-softmax"),
        ("auroc_wrong", "AUROC against clean test examples that the network has wrong"),
        ("matched_wrong", "The same, between examples of about equal max-softmax"),
    ):
        console.print(title)
        values = {(row["kind"], row["epsilon"], row["score"]): row[measure] for row in means}
        table = _table("* not ours", *names)
        for score in dict.fromkeys(row["score"] for row in means):
            cells = [_cell(values[*of, score], 2) for of in middle]
            table.add_row(score + " *" * (score in BASELINES), *cells)
        console.print(table)


def _cell(value: float, digits: int = 3) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _epsilon(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    return table
