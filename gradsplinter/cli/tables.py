"""Tables of splinters on disk: `extract`, `merge` and `info`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro

import gradsplinter
from gradsplinter import _C, ops
from gradsplinter.cli.command import Command, console
from gradsplinter.cli.network import NetworkCommand, load_network
from gradsplinter.extraction import extract
from gradsplinter.outline import Outline
from gradsplinter.store import Store, merge


@dataclass(frozen=True)
class Extract(NetworkCommand):
    """Collect the splinters of a network over data of any size into a folder.

    Stopped by Ctrl-C and started again, it goes on where it was; killed, from at most a minute before.
    """

    typed: ClassVar = {"x": "DATA", "path": "--out", "divisor": "--divisor", "source": "--source",
             "target": "--target", "module": "--module", "shape": "--shape",
             "input_shape": "--shape"}  # fmt: skip

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """A .npy or .safetensors file of inputs [N, h_0], or a folder of them in the order of names."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write, or to go on with."""
    source: int = 0
    """Site to differentiate by: 0 is the input."""
    target: int = -1
    """Site to differentiate: -1 is the output."""
    divisor: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Divide integer data by this (255 for images of bytes)."""
    progress: bool = True
    """Show a bar, if this is a terminal."""

    def run(self) -> None:
        net = self.network(self.data)
        progress = self.progress and sys.stderr.isatty()
        extract(
            net, self.data, self.out, self.source, self.target,
            divisor=self.divisor, progress=progress,
        )  # fmt: skip
        _describe(Store(self.out, net))

    def after_interrupt(self) -> str:
        done = Store(self.out).n_examples if Store.exists(self.out) else 0
        return f"{done:,} examples are in {self.out}; the same command goes on from there"


@dataclass(frozen=True)
class Merge(Command):
    """Make one folder of the splinters of several, whose examples follow each other."""

    typed: ClassVar = {"paths": "FOLDER", "path": "FOLDER", "out": "--out"}

    folders: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="FOLDER [FOLDER ...]", help_behavior_hint="(required)"),
    ]
    """Folders that `gradsplinter extract` wrote for one network."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """New folder to write."""

    def run(self) -> None:
        _describe(merge(self.folders, self.out))


@dataclass(frozen=True)
class Info(Command):
    """What a folder of splinters holds; without one, what was built in and this machine can use."""

    typed: ClassVar = {
        "path": "FOLDER", "net": "--model", "model": "--model", "module": "--module", "shape": "--shape",
        "input_shape": "--shape", "MODEL": "--model",
    }  # fmt: skip

    folder: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[FOLDER]")] = None
    """A folder that `gradsplinter extract` wrote."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="MODEL")] = None
    """The weights of --module, for scores of a table whose network is not kept with it."""
    module: Annotated[str | None, tyro.conf.arg(metavar="PACKAGE.FILE:FUNCTION")] = None
    """As for `gradsplinter extract`."""
    shape: Annotated[str | None, tyro.conf.arg(metavar="CxHxW")] = None
    """As for `gradsplinter extract`."""

    def run(self) -> None:
        if self.model is None and (self.module or self.shape):
            raise ValueError("model must be given together with --module, got none")
        if self.folder is not None:
            net = None if self.model is None else load_network(self.model, self.module, self.shape)
            _describe(Store(self.folder, net))
            return
        console.print(f"gradsplinter {gradsplinter.__version__}, torch {torch.__version__}")
        console.print(f"instruction sets: {', '.join(ops.instruction_sets())} (best first)")
        console.print(f"CUDA kernels: {f'built in, for {_C.cuda}' if _C.cuda else 'not built in'}")
        for i in range(torch.cuda.device_count()):
            console.print(f"cuda:{i}: {_usable(i)}", highlight=False)
        if torch.cuda.device_count() == 0:
            why = "" if torch.version.cuda else ": this torch is built without CUDA"
            console.print(f"CUDA devices that torch sees: none{why}")


def _usable(device: int) -> str:
    """Its name, and whether the kernels can run there.

    torch counts the devices of a driver that is too old for it, and fails at the first question.
    """
    try:
        number = ".".join(map(str, torch.cuda.get_device_capability(device)))
        name = f"{torch.cuda.get_device_name(device)} ({number}), "
        why_not = _C.why_not_on_gpu(device) if _C.cuda else "no kernels were built in"
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        reason, *_ = str(error).splitlines() or [type(error).__name__]
        return f"not usable: {reason}"
    return name + (f"not usable: {why_not}" if why_not else "usable")


def _describe(store: Store) -> None:
    table = store.table()
    console.print(
        f"{store.path}: {len(store.parts)} part{'s' * (len(store.parts) != 1)}", highlight=False
    )
    if table.n_examples == 0:
        console.print("  no examples yet", highlight=False)
        return
    rows = table.splinters().summary()
    for name, value in rows.items():
        console.print(f"  {name:<18}{value}", highlight=False)
    if isinstance(table.net, Outline):
        console.print(
            "  for its scores: --model FILE --module PACKAGE.FILE:FUNCTION", highlight=False
        )
    if "not computed" in rows:
        console.print(
            f"  in Python: gradsplinter.Store({str(store.path)!r}).table().splinters().orthogonality()",
            highlight=False, markup=False,
        )  # fmt: skip
