"""`gradsplinter embed parts`: the study of parts of networks, its folder and its report."""

from __future__ import annotations

import dataclasses
import math
import shutil
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
from gradsplinter.checks import check_device, check_integer
from gradsplinter.cli.command import (
    Study,
    checkpoint_of,
    console,
    device_of,
    may_begin_anew,
    options_of,
    results_folder,
)
from gradsplinter.studies.class_parts import run_class_parts
from gradsplinter.studies.class_parts_result import (
    SHUFFLED,
    TRUE,
    ClassPartsConfig,
    ClassPartsResult,
)
from gradsplinter.studies.parts import run_parts
from gradsplinter.studies.parts_result import PartsConfig, PartsResult, check_zoo
from gradsplinter.studies.probe import check_probe
from gradsplinter.wording import counted
from gradsplinter.zoo import Zoo, ZooConfig
from gradsplinter.zoo_training import make_zoo


@dataclass(frozen=True)
class EmbedParts(Study):
    """Embed parts of networks: do those that do the same lie together, and are their tasks known from elsewhere?

    Trains networks of several tasks side by side, and classifiers of images, and embeds the parts that lead from the
    inputs to a hidden site, from there to an output, and from the inputs to an output. Which inputs and which output
    belong to a task is taken as planted. Stopped by Ctrl-C and started again, it goes on with the networks and
    embedders that it had finished, which lie beside the folder in OUT.checkpoint until all is.
    """

    typed: ClassVar = options_of(PartsConfig) | {
        "out": "--out", "zoo": "--zoo", "folder": "--zoo", "zoo_networks": "--zoo-networks",
        "datasets": "--datasets", "name": "--datasets", "device": "--device",
        "teaching.seed": "--teaching.seed", "shape.inputs": "--shape.inputs",
    }  # fmt: skip

    config: Annotated[PartsConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=PartsConfig
    )
    classes: ClassPartsConfig = dataclasses.field(default_factory=ClassPartsConfig)
    """Of the classifiers."""
    datasets: tuple[str, ...] = ("mnist",)
    """Images whose classifiers are looked at, as `data.load` knows them; may be none."""
    zoo: Path | None = None
    """Networks of single tasks that the embedder is taught with: a folder that `gradsplinter zoo` wrote; by default
    they are trained first."""
    zoo_networks: int = 20
    """Networks of each task, where there is no such folder."""
    device: str | None = None
    """Where embedders are taught: cpu, cuda or cuda:INDEX; by default cuda where there is one."""
    out: Path = Path("results/embed-parts")
    """Folder to write."""

    def __post_init__(self) -> None:
        check_integer(self.zoo_networks, "zoo_networks", 2)

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import parts as plot_parts  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        bar = self.shows_bar
        kept = self._checkpoint
        with results_folder(self.out, self.overwrite, "embed parts") as folder, may_begin_anew():
            # What may be missing is looked for before anything is trained.
            check_probe()
            device = check_device(device_of(self.device))
            zoo = None if self.zoo is None else Zoo.load(self.zoo)
            of_zoo = ZooConfig(networks=self.zoo_networks) if zoo is None else zoo.config
            check_zoo(self.config, of_zoo)
            images = {
                name: (data.load(name, "train"), data.load(name, "test")) for name in self.datasets
            }
            kept.mkdir(exist_ok=True)
            zoo = zoo or make_zoo(of_zoo, kept / "zoo.safetensors", progress=bar)
            result = run_parts(self.config, zoo, checkpoint=kept, device=device, progress=bar)
            classified = [
                run_class_parts(
                    self.classes, name, train, test, checkpoint=kept, device=device, progress=bar
                )
                for name, (train, test) in images.items()
            ]
            self._write(result, classified, folder)
            for name, figure in plot_parts.figures(result, classified).items():
                save(figure, folder, name)
        shutil.rmtree(kept)
        _report(result)
        for one in classified:
            _report_classes(one)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")

    def after_interrupt(self) -> str:
        kept = self._checkpoint
        if kept.is_dir() and not any(kept.iterdir()):
            kept.rmdir()
        if not kept.exists():
            return super().after_interrupt()
        return f"networks and embedders that were finished are in {kept}/; the same command goes on from there"

    @property
    def _checkpoint(self) -> Path:
        return checkpoint_of(self.out, "")

    def _write(
        self, result: PartsResult, classified: Sequence[ClassPartsResult], folder: Path
    ) -> None:
        tables: dict[str, Sequence[object]] = {
            "outputs": result.outputs,
            "directions": result.directions,
            "communities": result.communities,
            "parts": result.rows,
            "zoo": result.whole,
        }
        if classified:
            tables["classifiers"] = [row for one in classified for row in one.networks]
            tables["classes"] = [row for one in classified for row in one.rows]
        for name, rows in tables.items():
            io.write_csv(folder / f"{name}.csv", [vars(row) for row in rows])
        io.write_csv(folder / "parts-means.csv", result.means())
        io.write_csv(folder / "zoo-means.csv", result.whole_means())
        if classified:
            io.write_csv(
                folder / "classes-means.csv", [row for one in classified for row in one.means()]
            )
            pairs = [row for one in classified for row in one.pairs()]
            io.write_csv(folder / "classes-pairs.csv", pairs)
        versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
        about = {
            "config": dataclasses.asdict(self.config),
            "classes": dataclasses.asdict(self.classes),
            "zoo": dataclasses.asdict(result.zoo.config) | {"fingerprint": result.zoo.fingerprint},
            "versions": versions,
        }
        io.write_json(folder / "config.json", about)


def _report(result: PartsResult) -> None:
    _report_networks(result)
    for coordinates, title in (
        ("inputs", "Parts by the inputs of their tasks"),
        ("principal", "Parts by principal directions of their units"),
    ):
        means = [row for row in result.means() if row["coordinates"] == coordinates]
        if means:
            console.print(f"{title}; means over networks, each with an embedder of its own")
            console.print(_table_of_parts(means))
    known = ", ".join(
        f"{row['method']} {row['probe']:.2f} ± {row['probe_error']:.2f}"
        for row in result.whole_means()
        if row["coordinates"] == "inputs"
    )
    chance = result.chance
    console.print(
        "probe: share whose task is named by a linear probe trained on the zoo's networks of one task only "
        f"(chance {chance['probe']:.2f}; held-out networks of the zoo: {known}). nearest, others: share "
        f"whose nearest part in the other networks has the same task (chance {chance['neighbours']:.2f}). nearest, "
        f"products: share of products whose nearest part of another output of the network is one (chance "
        f"{chance['products']:.2f}). distance ratio: mean distance to the same task in other networks / to others"
    )


def _report_networks(result: PartsResult) -> None:
    config = result.config
    lost = [row for row in result.outputs if not row.learned]
    lowest = min(result.outputs, key=lambda row: row.r2)
    console.print(
        f"{len(config.seeds)} networks of {config.outputs} tasks each: lowest R² {lowest.r2:.3f} "
        f"({lowest.task}); {counted(len(lost), 'output')} below {config.learned:g}"
    )
    mean = {
        name: sum(getattr(row, name) for row in result.communities) / len(result.communities)
        for name in ("found", "inputs_ari", "neurons_ari")
    }
    console.print(
        f"Communities, found without outputs: {mean['found']:.1f} of {config.outputs}; adjusted Rand index with "
        f"the tasks {mean['inputs_ari']:.2f} for inputs, {mean['neurons_ari']:.2f} for neurons"
    )
    for site in range(1, len(config.hidden)):
        rows = [row for row in result.directions if row.site == site]
        rows.sort(key=lambda row: row.r2)
        console.print(
            f"What outputs read at site {site} (mean gradients) has an R² with them of "
            f"{rows[len(rows) // 2].r2:.2f} in the middle, lowest {rows[0].r2:.2f} ({rows[0].task})"
        )


def _table_of_parts(means: Sequence[dict[str, Any]]) -> Table:
    headings = ("method", "probe", "nearest:\nothers", "nearest:\nproducts", "distance\nratio")
    table = _table("part", *headings)
    before = ""
    for row in means:
        if before and row["part"] != before:
            table.add_section()
        name = row["part"] if row["part"] != before else ""
        before = row["part"]
        cells = (row[key] for key in ("probe", "neighbours", "products", "ratio"))
        table.add_row(name, row["method"], *map(_cell, cells))
    return table


def _report_classes(result: ClassPartsResult) -> None:
    for labels in (TRUE, SHUFFLED):
        accuracies = [row.accuracy for row in result.networks if row.labels == labels]
        console.print(
            f"{result.dataset}, {len(accuracies)} networks {result.config.architecture} of {labels} labels, "
            f"accuracy {sum(accuracies) / len(accuracies):.1%}"
        )
        table = _table("pathways by", "nearest is\nthe class", "agree", "confused", "cosine")
        for row in result.means():
            if row["labels"] == labels:
                cells = (row[key] for key in ("neighbours", "agreement", "confusion", "cosine"))
                table.add_row(row["method"], *map(_cell, cells))
        console.print(table)
    alike = ", ".join(f"{row['class']} and {row['other']}" for row in result.pairs()[:5])
    console.print(
        f"Chance is {1 / len(result.classes):.2f} for the nearest. Rank correlations over pairs of classes: of "
        "distances between networks (agree), of nearness with how often classes are confused, and with the cosine "
        f"of mean gradients. Most alike by the embedder: {alike}"
    )


def _cell(value: Any) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        left = i == 0 or column == "method"
        table.add_column(column, justify="left" if left else "right", no_wrap=left)
    return table
