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
from gradsplinter.cli.command import (
    Study,
    check_new,
    checkpoint_of,
    console,
    may_begin_anew,
    options_of,
)
from gradsplinter.wording import counted
from gradsplinter.zoo import Zoo, ZooConfig
from gradsplinter.zoo_training import make_zoo


@dataclass(frozen=True)
class MakeZoo(Study):
    """Train many small networks of known tasks: what an embedding is learned from and judged by.

    Writes all weights to networks.safetensors, to manifest.json what they were trained on, and to networks.csv and a
    figure how well each has learned it. Stopped by Ctrl-C and started again, it goes on with the task that it was at:
    what is finished lies beside the folder, as OUT.checkpoint.safetensors, until all is.
    """

    typed: ClassVar = options_of(ZooConfig) | {"out": "--out", "widths": "--hidden"}

    config: Annotated[ZooConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=ZooConfig
    )
    out: Path | None = None
    """Folder to write; by default zoo/FAMILY."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import zoo as plot_zoo  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        out = self._out.resolve()
        check_new(out, self.overwrite)
        with io.only_writer(out), io.new_folder(out) as folder:
            with may_begin_anew():
                zoo = make_zoo(self.config, self._checkpoint, progress=self.shows_bar)
            zoo.save(folder)
            io.write_csv(folder / "networks.csv", zoo.rows())
            save(plot_zoo.networks(zoo), folder, "networks")
        self._checkpoint.unlink(missing_ok=True)
        _report(zoo)
        console.print(f"Written to {self._out}/ in {time.perf_counter() - begin:.0f} s")

    def after_interrupt(self) -> str:
        if not self._checkpoint.exists():
            return super().after_interrupt()
        return f"finished tasks are in {self._checkpoint}; the same command goes on from there"

    @property
    def _out(self) -> Path:
        return self.out or Path("zoo") / self.config.family

    @property
    def _checkpoint(self) -> Path:
        return checkpoint_of(self._out, ".safetensors")


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
            f"{counted(len(zoo.failed), 'network')} with an R² below {config.learned:g}, left in the zoo; "
            "networks.csv says which"
        )
