"""`gradsplinter zoo`: many small networks of known tasks, into a folder."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from rich import box
from rich.table import Table

from gradsplinter import io
from gradsplinter.cli.command import Study, check_new, console, options_of
from gradsplinter.wording import counted
from gradsplinter.zoo import Zoo, ZooConfig, make_zoo


@dataclass(frozen=True)
class MakeZoo(Study):
    """Train many small networks of known tasks: what an embedding is learned from and judged by.

    Writes all weights to networks.safetensors, and to manifest.json what they were trained on and how well each
    has learned it.
    """

    typed: ClassVar = options_of(ZooConfig) | {"out": "--out", "widths": "--hidden"}

    config: Annotated[ZooConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=ZooConfig
    )
    out: Path | None = None
    """Folder to write; by default zoo/FAMILY."""

    def run(self) -> None:
        begin = time.perf_counter()
        out = (self.out or Path("zoo") / self.config.family).resolve()
        check_new(out, self.overwrite)
        with io.only_writer(out):
            zoo = make_zoo(self.config, progress=self.shows_bar)
            zoo.save(out)
        _report(zoo)
        console.print(f"Written to {self.out or out}/ in {time.perf_counter() - begin:.0f} s")


def _report(zoo: Zoo) -> None:
    config, count = zoo.config, zoo.config.networks
    console.print(f"R² on fresh examples, {count} networks of each task:")
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("task")
    for heading in ("lowest", "median", "not learned"):
        table.add_column(heading, justify="right")
    for task, r2 in zip(zoo.tasks, zoo.r2.view(config.tasks, count), strict=True):
        failed = int((r2 < config.learned).sum())
        table.add_row(
            task.name, f"{r2.min():.3f}", f"{r2.median():.3f}", str(failed) if failed else ""
        )
    console.print(table)
    if len(zoo.failed):
        console.print(
            f"{counted(len(zoo.failed), 'network')} with an R² below {config.learned:g} stay in the zoo; "
            "manifest.json lists them under `failed`"
        )
