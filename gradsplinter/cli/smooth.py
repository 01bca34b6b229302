"""`gradsplinter smooth`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro
from rich import box
from rich.table import Table

import gradsplinter
from gradsplinter import io
from gradsplinter.cli.command import Study, console, options_of, results_folder
from gradsplinter.studies.smooth import SmoothConfig, SmoothResult, run_smooth


@dataclass(frozen=True)
class SmoothStudy(Study):
    """Do splinters say anything of networks with smooth activations, whose gradients never repeat?

    Trains the same networks with ReLU and with smooth activations, groups their gradients by the levels of
    slopes and by angle, and follows the orthogonality of two tasks as they are mixed.
    """

    typed: ClassVar = {"out": "--out"} | options_of(SmoothConfig)

    config: Annotated[SmoothConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=SmoothConfig
    )
    out: Path = Path("results/smooth")
    """Folder to write."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import smooth as plot_smooth  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        with results_folder(self.out, self.overwrite, "smooth") as folder:
            result = run_smooth(self.config, progress=self.shows_bar)
            io.write_csv(folder / "groups.csv", [vars(row) for row in result.groupings])
            io.write_csv(folder / "orthogonality.csv", [row.columns() for row in result.scores])
            versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
            about = {"config": dataclasses.asdict(self.config), "versions": versions}
            io.write_json(folder / "config.json", about)
            for name, figure in plot_smooth.figures(result).items():
                save(figure, folder, name)
        _report(result)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")


def _report(result: SmoothResult) -> None:
    config = result.config
    console.print(
        f"Gradients in groups, at λ = {config.lambdas[0]:g}, means over seeds: how many different ones an "
        "output has, their relative error and their angle"
    )
    table = _table("activation", "way", "bits or °", "groups", "error", "angle (°)")
    for activation, way, parameter in dict.fromkeys(
        (g.activation, g.way, g.parameter) for g in result.groupings
    ):
        some = [
            g for g in result.groupings
            if (g.activation, g.way, g.parameter) == (activation, way, parameter)
        ]  # fmt: skip
        means = [
            sum(getattr(g, name) for g in some) / len(some) for name in ("groups", "error", "angle")
        ]
        table.add_row(
            activation, way, f"{parameter:g}" if parameter else "",
            f"{means[0]:,.0f}", f"{means[1]:.3f}", f"{means[2]:.2f}",
        )  # fmt: skip
    console.print(table)
    console.print("Orthogonality of the two outputs at the input, means over seeds")
    levels = [f"{bits} bit{'s' * (bits > 1)}" for bits in config.bits]
    table = _table("activation", "λ", "loss", "theory", "every example", *levels)
    for activation in config.activations:
        for strength in config.lambdas:
            some_scores = [
                s for s in result.scores if (s.activation, s.strength) == (activation, strength)
            ]
            n = len(some_scores)
            columns = [
                sum(getattr(s, name) for s in some_scores) / n for name in ("theory", "exact")
            ]
            if activation != "relu":
                columns += [sum(s.levels[bits] for s in some_scores) / n for bits in config.bits]
            loss = sum(s.loss for s in some_scores) / n
            cells = [f"{value:.3f}" for value in columns]
            cells += ["" for _ in range(2 + len(levels) - len(cells))]
            table.add_row(activation, f"{strength:g}", f"{loss:.4f}", *cells)
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table
