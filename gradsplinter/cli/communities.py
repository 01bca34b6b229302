"""`gradsplinter communities`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
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
from gradsplinter.studies.ablation import KINDS
from gradsplinter.studies.communities import METHODS, CommunitiesConfig, Row, run_communities


@dataclass(frozen=True)
class CommunitiesStudy(Study):
    """Are independent tasks found in the neurons alone, and when are they not?

    Trains networks on products side by side, fixes what each neuron is for by what goes wrong without it,
    and compares that with the groups that are found without the outputs; and looks for groups where
    there are none. Five minutes on two cores.
    """

    typed: ClassVar = options_of(CommunitiesConfig) | {"out": "--out"}

    config: Annotated[CommunitiesConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=CommunitiesConfig
    )
    out: Path = Path("results/communities")
    """Folder to write."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import communities as plot_communities  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        with results_folder(self.out, self.overwrite, "communities") as folder:
            rows = run_communities(self.config, progress=self.shows_bar)
            io.write_csv(folder / "results.csv", (row.columns() for row in rows))
            versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
            about = {"config": dataclasses.asdict(self.config), "versions": versions}
            io.write_json(folder / "config.json", about)
            for name, figure in plot_communities.figures(rows).items():
                save(figure, folder, name)
        _report(rows)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")


def _report(rows: list[Row]) -> None:
    compared = [row for row in rows if row.kind in ("mixing", "correlation")]
    _report_agreement(compared)
    _report_groups(compared)
    _report_definitions(compared)
    _report_from_outputs(rows)
    _report_controls([row for row in rows if row not in compared])


def _report_agreement(rows: list[Row]) -> None:
    console.print("Agreement of neurons with what they are for (adjusted Rand index, mean)")
    table = _table("products", *(method.replace(" ", "\n") for method in METHODS))
    for task, some in _by_task(rows):
        means = (_mean([row.neurons.get(method) for row in some]) for method in METHODS)
        table.add_row(task.replace(" products", ""), *means)
    console.print(table)


def _report_groups(rows: list[Row]) -> None:
    console.print(
        "Networks whose inputs are grouped exactly right; and selectivity: of the errors' growth without "
        "a group of neurons, the share that falls on one output, and the same of random groups (means)"
    )
    columns = ("inputs\nright", "selectivity", "of random\ngroups")
    table = _table("products", *columns)
    for task, some in _by_task(rows):
        table.add_row(
            task.replace(" products", ""),
            f"{sum(row.inputs_right for row in some)}/{len(some)}",
            _mean([row.selectivity for row in some]),
            _mean([row.selectivity_by_chance for row in some]),
        )
    console.print(table)


def _report_definitions(rows: list[Row]) -> None:
    least = min((row.strength for row in rows if row.kind == "mixing"), default=0)
    console.print(
        f"At λ = {least:g}, by the share of examples from which on a neuron is always on: networks "
        "with neurons of two tasks; the index of ours, its least over seeds, and of input gradients; "
        "and how many neurons of each kind a network has. Only those of one task are compared"
    )
    columns = ("always\non", "net-\nworks", "ours", "least", "input\ngradients", *KINDS)
    table = _table("k", *columns)
    at_least = [row for row in rows if row.kind == "mixing" and row.strength == least]
    for _, some in _by_task(at_least):
        for share in some[0].agreement:
            of = [row.agreement[share] for row in some]
            ours = [a.ari["ours"] for a in of if a.ari]
            table.add_row(
                str(some[0].tasks), f"{share:g}", f"{len(ours)}/{len(some)}", _mean(ours),
                f"{min(ours):.2f}" if ours else "-",
                _mean([a.ari.get("input gradients") for a in of]),
                *(f"{sum(a.kinds[kind] for a in of) / len(of):.1f}" for kind in KINDS),
            )  # fmt: skip
    console.print(table)


def _report_from_outputs(rows: list[Row]) -> None:
    console.print(
        "From the outputs, targets not mixed, means: how many groups of units there are; agreement of the "
        "components of the input with the inputs that they touch, and the share of those that touch "
        "several groups; agreement with the outputs that they are of; the number of groups by Louvain's "
        "method on components and edges themselves, and its agreement with the outputs"
    )
    columns = (
        "groups",
        "inputs",
        "touch\nseveral",
        "outputs",
        "groups\nof nodes",
        "nodes,\noutputs",
    )
    table = _table("task", *columns)
    for task, of_task in _by_task(rows):
        of = [row.from_outputs for row in of_task if row.from_outputs]
        if of:
            table.add_row(
                task, _mean([row.found_from_outputs for row in of_task if row.from_outputs]),
                _mean([one.ari for one in of]), _mean([one.touch_several for one in of]),
                _mean([one.ari_by_output for one in of]), _mean([one.nodes for one in of]),
                _mean([one.nodes_ari_by_output for one in of]),
            )  # fmt: skip
    console.print(table)


def _report_controls(rows: list[Row]) -> None:
    console.print("Controls: networks with more than one community, of all")
    table = _table("task", "kind", "from the\nneurons", "from the\noutputs")
    for task, of_task in _by_task(rows):
        for kind in dict.fromkeys(row.kind for row in of_task):
            some = [row for row in of_task if row.kind == kind]
            table.add_row(
                task, kind, f"{sum(row.found > 1 for row in some)}/{len(some)}",
                f"{sum(row.found_from_outputs > 1 for row in some)}/{len(some)}",
            )  # fmt: skip
    console.print(table)
    nulls = [row for row in rows if row.kind in ("untrained", "one task")]
    false = sum(row.found > 1 for row in nulls)
    from_outputs = sum(row.found_from_outputs > 1 for row in nulls)
    console.print(
        f"Networks without independent tasks in which some were found: {false} of {len(nulls)}; "
        f"from the outputs: {from_outputs} of {len(nulls)}"
    )


def _by_task(rows: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    for task in dict.fromkeys(row.task for row in rows):
        yield task, [row for row in rows if row.task == task]


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))  # for 80 columns
    for column in (first, *columns):
        table.add_column(column, justify="left" if column == first else "right")
    return table


def _mean(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{sum(there) / len(there):.2f}" if there else "-"
