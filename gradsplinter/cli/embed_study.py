"""`gradsplinter embed study`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from rich import box
from rich.table import Table

import gradsplinter
from gradsplinter import io
from gradsplinter.cli.command import (
    Study,
    checkpoint_of,
    console,
    device_of,
    may_begin_anew,
    options_of,
    results_folder,
)
from gradsplinter.embedder import EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.studies.embedding import EmbeddingResult, run_embedding
from gradsplinter.studies.embedding_ablation import AblationRow, run_ablation
from gradsplinter.studies.embedding_trial import EmbeddingConfig
from gradsplinter.studies.statistics import mean_and_error
from gradsplinter.wording import counted
from gradsplinter.zoo import Zoo

MOST_COLUMNS = 4
"""Of a table in a terminal of 80 columns, beside the first of `FIRST` characters."""
FIRST = 25
TABLES = {
    "probes": ("accuracy",),
    "cloze": ("r2",),
    "structure": ("neighbours", "correlation"),
    "ablations": ("all_labels", "one_label", "few_modes", "cloze_r2"),
}
"""Columns that are means over seeds."""


@dataclass(frozen=True)
class EmbedStudy(Study):
    """Can a linear probe tell from an embedding which task a network was trained on?

    Teaches embedders with the networks of a zoo, for several splits of it, and compares probes on held-out networks,
    filling in of hidden gradients, and which networks lie near each other, with what needs no learning. Stopped by Ctrl-C
    and started again, it goes on with the first seed that it had not finished.
    """

    typed: ClassVar = {
        "folder": "ZOO", "zoo": "ZOO", "out": "--out", "inputs": "--shape.inputs", "seed": "--training.seed",
        "device": "--device",
    } | options_of(EmbeddingConfig)  # fmt: skip

    zoo: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="ZOO")]
    """Folder that `gradsplinter zoo` wrote."""
    config: Annotated[EmbeddingConfig, tyro.conf.arg(name="")] = field(
        default_factory=EmbeddingConfig
    )
    ablations: bool = False
    """Also change one thing at a time of the embedder and of its training: 18 other trainings a seed."""
    device: str | None = None
    """cpu, cuda or cuda:INDEX; by default cuda where there is one."""
    out: Path | None = None
    """Folder to write; by default results/embedding-FAMILY."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import embedding as plot_embedding  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        zoo = Zoo.load(self.zoo)
        self._check(zoo)
        device = device_of(self.device)
        out = self._folder(zoo)
        kept = checkpoint_of(out, ".json"), checkpoint_of(out, "-ablations.json")
        with results_folder(out, self.overwrite, "embed study") as folder:
            with may_begin_anew():
                result = run_embedding(
                    self.config, zoo, checkpoint=kept[0], device=device, progress=self.shows_bar
                )
                ablations: list[AblationRow] = []
                if self.ablations:
                    ablations = run_ablation(
                        self.config, zoo, checkpoint=kept[1], device=device, progress=self.shows_bar
                    )
            _write(result, ablations, folder)
            for name, figure in plot_embedding.figures(result, ablations).items():
                save(figure, folder, name)
        used = [kept[0], kept[0].with_suffix(".embedder"), *kept[1 : 1 + self.ablations]]
        for path in used:
            path.unlink(missing_ok=True)
        _report(result)
        if ablations:
            _report_ablations(ablations)
        console.print(f"Written to {out}/ in {time.perf_counter() - begin:.0f} s")

    def after_interrupt(self) -> str:
        return "finished seeds, if any, are kept beside the folder; the same command goes on from there"

    def _folder(self, zoo: Zoo) -> Path:
        return self.out or Path("results") / f"embedding-{zoo.config.family}"

    def _check(self, zoo: Zoo) -> None:
        """Refuse what the study sets itself."""
        inputs = zoo.config.widths[0]
        if self.config.shape.inputs not in (EmbedderConfig.inputs, inputs):
            raise ValueError(
                f"inputs must be {inputs}, as of the zoo's networks, got {self.config.shape.inputs}"
            )
        if self.config.training.seed != EmbedderTrainingConfig.seed:
            raise ValueError(
                f"seed must be left out, since --seeds has them, got {self.config.training.seed}"
            )


def means(rows: Sequence[object], names: Sequence[str]) -> list[dict[str, Any]]:
    """Of rows that differ in nothing but the seed and these columns: means and standard errors over seeds.

    Examples:
        >>> from gradsplinter.studies.embedding_rows import ClozeRow
        >>> means([ClozeRow(s, "embedder", "known tasks", 0.3, r2) for s, r2 in ((0, 0.5), (1, 0.7))], ["r2"])
        [{'method': 'embedder', 'networks': 'known tasks', 'hidden': 0.3, 'seeds': 2, 'r2': 0.6, 'r2_error': 0.1}]
    """
    groups: dict[tuple[Any, ...], list[object]] = {}
    for row in rows:
        key = tuple((name, v) for name, v in vars(row).items() if name not in ("seed", *names))
        groups.setdefault(key, []).append(row)
    found = []
    for key, some in groups.items():
        columns = dict(key) | {"seeds": len(some)}
        for name in names:
            mean, error = mean_and_error([getattr(row, name) for row in some])
            columns |= {
                name: None if mean is None else round(mean, 6),
                f"{name}_error": None if error is None else round(error, 6),
            }
        found.append(columns)
    return found


def _write(result: EmbeddingResult, ablations: list[AblationRow], folder: Path) -> None:
    tables: dict[str, Sequence[object]] = {
        "probes": result.probes,
        "cloze": result.cloze,
        "structure": result.structure,
        "ablations": ablations,
    }
    for name, rows in tables.items():
        if not rows:
            continue
        columns = TABLES[name]
        io.write_csv(folder / f"{name}.csv", [vars(row) for row in rows])
        io.write_csv(folder / f"{name}-means.csv", means(rows, columns))
    zoo, config = result.zoo, result.config
    embedder = result.embedder
    embedder.save(folder / "embedder.safetensors")
    about = {
        "config": dataclasses.asdict(config) | {"shape": dataclasses.asdict(embedder.config)},
        "zoo": {"fingerprint": zoo.fingerprint, "config": dataclasses.asdict(zoo.config)},
        "versions": {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__},
    }
    io.write_json(folder / "config.json", about)


def _report(result: EmbeddingResult) -> None:
    seeds = len(result.config.seeds)
    errors = " ± standard errors" if seeds > 1 else ""
    console.print(
        f"{result.zoo}\nMeans{errors} over {counted(seeds, 'seed')}", highlight=False, markup=False
    )
    console.print("Accuracy of a linear probe on held-out networks:")
    _print(result.probes, "question", "accuracy")
    if result.cloze:
        console.print("R² of hidden gradients of held-out networks, by the share of modes hidden:")
        for networks, rows in _by(result.cloze, "networks"):
            _print(rows, "hidden", "r2", networks)
    if result.structure:
        console.print("Share of held-out networks whose nearest one has the same task:")
        _print(result.structure, "networks", "neighbours")
        console.print(
            "Rank correlation of distances of tasks: in the embedding, and of exact fields:"
        )
        _print(result.structure, "networks", "correlation")


def _report_ablations(rows: Sequence[AblationRow]) -> None:
    console.print("One thing changed at a time; accuracies of the probe, and R² of hidden values:")
    table = Table(box=box.SIMPLE, padding=0)
    table.add_column(width=FIRST)
    for name in ("all labels", "one label", "few modes", "R²"):
        table.add_column(name, justify="right", width=12)
    for question, variant in dict.fromkeys((row.question, row.variant) for row in rows):
        some = [row for row in rows if (row.question, row.variant) == (question, variant)]
        cells = [_mean([getattr(row, name) for row in some]) for name in TABLES["ablations"]]
        table.add_row(f"{question}: {variant}" if question else variant, *cells)
    console.print(table)


def _by(rows: Sequence[Any], name: str) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(getattr(row, name), []).append(row)
    return list(groups.items())


def _print(rows: Sequence[Any], column: str, value: str, heading: str = "") -> None:
    """A line for each method, a column for each of what `column` holds."""
    found: dict[tuple[str, Any], list[float]] = {}
    for row in rows:
        found.setdefault((row.method, getattr(row, column)), []).append(getattr(row, value))
    methods, every = (list(dict.fromkeys(of)) for of in zip(*found, strict=True))
    for begin in range(0, len(every), MOST_COLUMNS):
        columns = every[begin : begin + MOST_COLUMNS]
        table = Table(box=box.SIMPLE, padding=0)
        table.add_column(heading, width=FIRST)
        for key in columns:
            text = f"{key:.0%}" if isinstance(key, float) else str(key)
            table.add_column(text, justify="right", width=12)
        for method in methods:
            cells = [_mean(found.get((method, key), [])) for key in columns]
            if any(cells):
                table.add_row(method, *cells)
        console.print(table)


def _mean(values: Sequence[float]) -> str:
    mean, error = mean_and_error(values)
    if mean is None or math.isnan(mean):
        return ""
    return f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"
