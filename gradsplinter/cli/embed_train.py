"""`gradsplinter embed train`: an embedder taught with zoos, its folder and its report."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro

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
from gradsplinter.studies.teaching import Taught, teach
from gradsplinter.wording import counted
from gradsplinter.zoo import Zoo


@dataclass(frozen=True)
class EmbedTrain(Study):
    """Teach an embedder, without labels, with the networks of zoos: what does a network compute?

    It learns to fill in gradients that it is not shown. Writes embedder.safetensors, which `gradsplinter embed`
    takes, its losses, and how well it does on networks that were held out. Stopped by Ctrl-C and started again,
    it goes on where it was: its state lies beside the folder, as OUT.checkpoint.safetensors, until it has finished.
    """

    typed: ClassVar = (
        {
            "folder": "ZOO",
            "zoos": "ZOO",
            "out": "--out",
            "held_out": "--held-out",
            "device": "--device",
        }
        | options_of(EmbedderConfig)
        | options_of(EmbedderTrainingConfig)
    )

    zoos: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="ZOO [ZOO ...]", help_behavior_hint="(required)"),
    ]
    """Folders that `gradsplinter zoo` wrote, of the same tasks: several ones for networks of several shapes."""
    config: Annotated[EmbedderTrainingConfig, tyro.conf.arg(name="")] = field(
        default_factory=EmbedderTrainingConfig
    )
    size: int = EmbedderConfig.size
    """Of the embedding."""
    width: int = EmbedderConfig.width
    """Of the embedder's hidden layers."""
    depth: int = EmbedderConfig.depth
    """Hidden layers before, and after the tokens are pooled."""
    frequencies: int = EmbedderConfig.frequencies
    """Of sines and cosines of each coordinate of a point."""
    pooling: str = EmbedderConfig.pooling
    """Over tokens, weighted by their shares: mean or attention."""
    values: str = EmbedderConfig.values
    """What is filled in: gradients or outputs; `gradsplinter embed` takes embedders of gradients."""
    held_out: int = 10
    """Networks of each task and zoo that it is not taught with, but tested on."""
    device: str | None = None
    """cpu, cuda or cuda:INDEX; by default cuda where there is one."""
    out: Path = Path("results/embedder")
    """Folder to write."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import teaching as plot_teaching  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        zoos = [Zoo.load(folder) for folder in self.zoos]
        shape = EmbedderConfig(
            size=self.size, width=self.width, depth=self.depth, frequencies=self.frequencies,
            pooling=self.pooling, values=self.values,
        )  # fmt: skip
        with results_folder(self.out, self.overwrite, "embed train") as folder:
            with may_begin_anew():
                taught = teach(
                    zoos, shape, self.config, held_out=self.held_out, checkpoint=self._checkpoint,
                    device=device_of(self.device), progress=self.shows_bar,
                )  # fmt: skip
            _write(taught, zoos, self.config, folder)
            for name, figure in plot_teaching.figures(taught).items():
                save(figure, folder, name)
        self._checkpoint.unlink(missing_ok=True)
        _report(taught, zoos)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")

    def after_interrupt(self) -> str:
        if not self._checkpoint.exists():
            return super().after_interrupt()
        return f"its state is in {self._checkpoint}; the same command goes on from there"

    @property
    def _checkpoint(self) -> Path:
        return checkpoint_of(self.out, ".safetensors")


def _write(taught: Taught, zoos: list[Zoo], config: EmbedderTrainingConfig, folder: Path) -> None:
    trained = taught.trained
    trained.embedder.save(folder / "embedder.safetensors")
    losses = enumerate(trained.losses.tolist(), 1)
    io.write_csv(folder / "training.csv", [{"step": step, "loss": loss} for step, loss in losses])
    validations = [{"step": step, "loss": loss} for step, loss in trained.validations]
    io.write_csv(folder / "validations.csv", validations)
    io.write_csv(folder / "cloze.csv", [asdict(row) for row in taught.cloze])
    versions = {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__}
    shape = asdict(trained.embedder.config)
    about: dict[str, Any] = {
        "config": {"shape": shape, "training": dataclasses.asdict(config)},
        "zoos": [{"fingerprint": zoo.fingerprint, "config": asdict(zoo.config)} for zoo in zoos],
        "networks": {"training": taught.training, "held_out": taught.held_out},
        "held_out": {
            name: getattr(taught, name) for name in ("probe", "recognised", "unlike")
        },
        "versions": versions,
    }  # fmt: skip
    io.write_json(folder / "config.json", about)


def _report(taught: Taught, zoos: list[Zoo]) -> None:
    trained, tasks = taught.trained, zoos[0].config.tasks
    step, best = min(trained.validations, key=lambda pair: pair[1])
    console.print(
        "\n".join(map(repr, zoos)) + "\n"
        f"Taught with {counted(taught.training, 'network')} in {len(trained.losses):,} steps; "
        f"the best validation, {best:.4f}, was after {step:,}",
        highlight=False, markup=False,
    )  # fmt: skip
    console.print(f"On the {taught.held_out:,} networks that were held out:", highlight=False)
    for row in taught.cloze:
        console.print(
            f"  R² of gradients, {row.hidden:.0%} of modes hidden  {row.r2:.3f}", highlight=False
        )
    probe = (
        "not measured: scikit-learn is missing" if taught.probe is None else f"{taught.probe:.3f}"
    )
    for name, value in (
        ("accuracy of a linear probe", probe),
        ("nearest known task is their own", f"{taught.recognised:.3f}"),
        ("chance", f"{1 / tasks:.3f}"),
        ("called like none of the tasks", f"{taught.unlike:.3f}"),
    ):
        console.print(f"  {name:<37} {value}", highlight=False)
