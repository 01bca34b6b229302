"""`gradsplinter communities`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import math
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
from gradsplinter.cli.command import Command, console, results_folder
from gradsplinter.studies.communities import METHODS, CommunitiesConfig, Row, run_communities


@dataclass(frozen=True)
class CommunitiesStudy(Command):
    """Are independent tasks found in the neurons alone, and when are they not?

    Trains networks on products side by side, fixes what each neuron is for by what goes wrong without it,
    and compares that with the groups that are found without the outputs; and looks for groups where
    there are none. Ten minutes on two cores.
    """

    typed: ClassVar = {"out": "--out"}

    config: Annotated[CommunitiesConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=CommunitiesConfig
    )
    out: Path = Path("results/communities")
    """Folder to write."""
    overwrite: bool = False
    """Replace the results that are there; other files beside them stay."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import communities as plot_communities  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        with results_folder(self.out, self.overwrite) as folder:
            rows = run_communities(self.config)
            io.write_csv(folder / "results.csv", (row.columns() for row in rows))
            versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
            about = {"config": dataclasses.asdict(self.config), "versions": versions}
            io.write_json(folder / "config.json", about)
            for name, figure in plot_communities.figures(rows).items():
                save(figure, folder, name)
        _report(rows)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")


def _report(rows: list[Row]) -> None:
    console.print("Agreement of neurons with what they are for (adjusted Rand index, mean)")
    table = Table(box=box.SIMPLE)
    columns = "inputs\nright", "from the\noutputs", *(m.replace(" ", "\n", 1) for m in METHODS)
    for column in ("task", *columns):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task in dict.fromkeys(row.task for row in rows if row.neurons):
        some = [row for row in rows if row.task == task]
        table.add_row(
            task, f"{sum(row.inputs_right for row in some)}/{len(some)}",
            _mean([row.from_outputs_ari for row in some]),
            *(_mean([row.neurons.get(method) for row in some]) for method in METHODS),
        )  # fmt: skip
    console.print(table)
    nulls = [row for row in rows if row.kind in ("untrained", "one task")]
    false = sum(row.found > 1 for row in nulls)
    console.print(
        f"Networks without independent tasks in which some were found: {false} of {len(nulls)}"
    )


def _mean(values: list[float | None]) -> str:
    there = [value for value in values if value is not None and not math.isnan(value)]
    return f"{sum(there) / len(there):.2f}" if there else "-"
