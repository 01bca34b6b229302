"""`gradsplinter field`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro
from rich import box
from rich.table import Table
from torch import Tensor

import gradsplinter
from gradsplinter import io
from gradsplinter.cli.command import Study, console, options_of, results_folder
from gradsplinter.regions import TooManyRegionsError
from gradsplinter.studies.field import (
    MOST_DRAWN,
    SAMPLES,
    FieldConfig,
    FieldResult,
    run_field,
)


@dataclass(frozen=True)
class FieldStudy(Study):
    """How well does the gradient field of a network follow the exact one of its task?

    Trains networks on tasks whose gradients are known, finds every linear region on planes through
    their inputs, and compares the gradient in each with the exact one. Minutes on two cores.
    """

    typed: ClassVar = options_of(FieldConfig) | {"out": "--out"}

    config: Annotated[FieldConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=FieldConfig
    )
    out: Path = Path("results/field")
    """Folder to write."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import field_study as plot_field  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        with results_folder(self.out, self.overwrite, "field") as folder:
            try:
                result = run_field(self.config, progress=self.shows_bar)
            except TooManyRegionsError as error:
                raise ValueError(f"{str(error).split(';')[0]}; nothing is kept") from error
            _write(result, folder)
            for name, figure in plot_field.figures(result).items():
                save(figure, folder, name)
            plot_field.write_animations(result, folder)
        _report(result)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")


def _write(result: FieldResult, folder: Path) -> None:
    tables = {
        "fields": [seen.columns() for seen in result.seen],
        "interference": [vars(row) for row in result.interference],
        "sizes": [size.columns() for size in result.sizes],
        "mixing": [vars(row) for row in result.mixing],
        "switching": [vars(row) for row in result.switching],
        "counts": [
            {"task": task, "step": at.step, "regions": at.regions}
            for task, film in result.frames.items()
            for at in film
        ],
        "sampled": [
            {"task": task, "points": points, "found": int(found)}
            for task, numbers in result.sampled.items()
            for points, found in zip(SAMPLES, numbers, strict=True)
        ],
    }
    for name, rows in tables.items():
        if rows:
            io.write_csv(folder / f"{name}.csv", rows)
    (folder / "networks").mkdir()
    for task in result.config.tasks:
        for seen in result.seen:
            if seen.case.name == task and seen.slice == seen.case.slices[0]:
                seen.found.net.save(folder / "networks" / f"{task}-seed-{seen.seed}.safetensors")
    versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
    io.write_json(
        folder / "config.json",
        {"config": dataclasses.asdict(result.config), "versions": versions},
    )


def _report(result: FieldResult) -> None:
    console.print("The field of the first output against the exact one, mean±deviation over seeds")
    table = Table(box=box.SIMPLE)
    columns = ("plane", "regions", "angle (°)", "difference\nrms", "best\nrms", "exact\nrms")
    for column in columns:
        table.add_column(column, justify="left" if column == "plane" else "right", no_wrap=True)
    for task in result.config.tasks:
        for seen in result.first(task):
            some = [at for at in result.seen if (at.case, at.slice) == (seen.case, seen.slice)]
            table.add_row(
                task if task == "formula" else f"{task}, {seen.slice.name}",
                _spread([len(at.found) for at in some], 0),
                _spread([at.errors.angle for at in some], 1),
                _spread([at.errors.rms for at in some], 3),
                f"{sum(at.best_rms for at in some) / len(some):.3f}",
                f"{seen.errors.exact_rms:.3f}",
            )
    console.print(table)
    if result.interference:
        changes = _spread([row.change for row in result.interference], 3)
        errors = _spread([row.error for row in result.interference], 3)
        console.print(
            "As the other product's inputs move, the field of one product changes by "
            f"{changes} of its size; its error is {errors}"
        )
    if result.sizes:
        slope, error = result.exponent
        console.print(f"rms against regions, over all sizes: regions^({slope:.3f} ± {error:.3f})")
    for task, film in result.frames.items():
        if any(at.found is None for at in film):
            console.print(
                f"No film of {task}: more than {MOST_DRAWN:,} regions at a moment of its training"
            )
    for task in dict.fromkeys(row.task for row in result.mixing):
        _report_mixing(result, task)


def _report_mixing(result: FieldResult, task: str) -> None:
    console.print(f"\n{task}: layers that two inputs run apart")
    _compare(result.mixing_depths(task), result.mixing_depths(task, trained=False))
    console.print(f"{task}: mean layer in which an input switches the others")
    _compare(result.switching_depths(task), result.switching_depths(task, trained=False))


def _compare(trained: dict[str, Tensor], untrained: dict[str, Tensor]) -> None:
    """Depths by name, and in how many networks one is less than another."""
    for name, depths in trained.items():
        null = _spread(untrained[name].tolist(), 2)
        console.print(f"  {name}: {_spread(depths.tolist(), 2)}, untrained {null}")
    for one, other in combinations(trained, 2):
        n = len(trained[one])
        less, null_less = (int((of[one] < of[other]).sum()) for of in (trained, untrained))
        console.print(
            f"  {one} less than {other} in {less} of {n} networks (p = {_sign_test(less, n):.2g}), "
            f"untrained {null_less}"
        )


def _sign_test(less: int, n: int) -> float:
    """Two-sided, against even chances; not corrected for the number of comparisons.

    Examples:
        >>> round(_sign_test(18, 20), 6)
        0.000402
    """
    tail = sum(math.comb(n, k) for k in range(min(less, n - less) + 1))
    return min(1.0, 2 * tail * 0.5**n)


def _spread(values: Sequence[float], digits: int) -> str:
    numbers = torch.tensor(values, dtype=torch.float64)
    if numbers.isnan().any():
        return "-"
    if len(numbers) == 1:
        return f"{float(numbers):.{digits}f}"
    return f"{float(numbers.mean()):.{digits}f}±{float(numbers.std()):.{digits}f}"
