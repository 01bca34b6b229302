"""The command line: `gradsplinter mixing`, `extract`, `merge` and `info`."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch

import gradsplinter
from gradsplinter import _C, io, ops
from gradsplinter._library import runs_on
from gradsplinter.extraction import extract
from gradsplinter.network import ReluNetwork
from gradsplinter.store import Store, merge
from gradsplinter.studies.mixing import MixingConfig, MixingResult, run_mixing
from gradsplinter.train import Trained

try:
    import tyro
    from rich import box
    from rich.console import Console
    from rich.table import Table
except ImportError as error:  # pragma: no cover
    raise SystemExit(
        f"the command line needs the packages of the extra `cli`: {error}; in the source folder, "
        "`pip install '.[cli]'` installs them"
    ) from error

USAGE_ERROR = 2
INTERRUPTED = 130

_console = Console(soft_wrap=True)


class Command:
    """What `main` runs."""

    typed: ClassVar[dict[str, str]] = {}
    """Arguments of Python by what they are called on the command line, for messages."""

    def run(self) -> None:
        raise NotImplementedError

    def after_interrupt(self) -> str:
        """What Ctrl-C has left."""
        return "the results are as they were before"


@dataclass(frozen=True)
class Extract(Command):
    """Collect the splinters of a network over data of any size into a folder.

    Stopped by Ctrl-C and started again, it goes on where it was; killed, from at most a minute before.
    """

    typed: ClassVar = {"x": "DATA", "path": "--out", "divisor": "--divisor", "source": "--source",
             "target": "--target"}  # fmt: skip

    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")]
    """A network, as `ReluNetwork.save` writes it (.safetensors; a state_dict does not say enough)."""
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
        try:
            net = ReluNetwork.load(self.model)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"MODEL must be a network that ReluNetwork.save wrote: {error}"
            ) from error
        progress = self.progress and sys.stderr.isatty()
        extract(
            net, self.data, self.out, self.source, self.target,
            divisor=self.divisor, progress=progress,
        )  # fmt: skip
        _describe(Store(self.out))

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

    typed: ClassVar = {"path": "FOLDER"}

    folder: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[FOLDER]")] = None
    """A folder that `gradsplinter extract` wrote."""

    def run(self) -> None:
        if self.folder is not None:
            _describe(Store(self.folder))
            return
        _console.print(f"gradsplinter {gradsplinter.__version__}, torch {torch.__version__}")
        _console.print(f"instruction sets: {', '.join(ops.instruction_sets())} (best first)")
        _console.print(f"CUDA kernels: {f'built in, for {_C.cuda}' if _C.cuda else 'not built in'}")
        for i in range(torch.cuda.device_count()):
            capability = torch.cuda.get_device_capability(i)
            usable = "usable" if runs_on(capability, _C.cuda) else "not usable with these kernels"
            number = ".".join(map(str, capability))
            _console.print(f"cuda:{i}: {torch.cuda.get_device_name(i)} ({number}), {usable}")
        if torch.cuda.device_count() == 0:
            _console.print("CUDA devices that torch sees: none")


@dataclass(frozen=True)
class Mixing(Command):
    """How does task orthogonality inside a network fall as two tasks are mixed?

    Trains networks on two products whose targets are mixed by λ, compares the gradients of the two
    outputs at every site, and writes tables, networks and figures. A second run with the same
    configuration uses the networks of the first.
    """

    typed: ClassVar = {"out": "--out", "path": "--out"}

    config: Annotated[MixingConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=MixingConfig
    )
    out: Path = Path("results/mixing")
    """Folder to write."""
    overwrite: bool = False
    """Replace the results of another configuration; other files beside them stay."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import mixing as plot_mixing  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        out = self.out.resolve()  # which stays the same where "." becomes another folder
        with io.only_writer(out):
            trained = _earlier(out, self.config, self.overwrite)
            with io.new_folder(out) as folder:
                if trained is not None:
                    _console.print(f"using the {len(trained)} trained networks in {self.out}")
                result = run_mixing(self.config, trained=trained)
                _write(result, folder)
                for name, figure in plot_mixing.figures(result).items():
                    save(figure, folder, name)
        _report(result)
        seconds = time.perf_counter() - begin
        _console.print(f"Written to {self.out}/ in {seconds:.0f} s:")
        for path in sorted(out.iterdir()):
            _console.print(f"  {path.name}{'/' if path.is_dir() else ''}")


def main() -> None:
    """Entry point of `gradsplinter`."""
    if sys.argv[1:] == ["--version"]:
        print(f"gradsplinter {gradsplinter.__version__}")  # noqa: T201
        return
    error_console = Console(stderr=True, soft_wrap=True)
    command = Command()
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            {"mixing": Mixing, "extract": Extract, "merge": Merge, "info": Info},
            prog="gradsplinter",
            description="How a ReLU network does its work, by the gradients that it has. "
            "`gradsplinter --version` prints the version.",
        )
        command.run()
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        word, *rest = str(error).split(" ", 1)
        notes = getattr(error, "__notes__", [])
        message = " ".join(["error:", command.typed.get(word, word), *rest, *notes])
        error_console.print(message, style="red", markup=False)
        raise SystemExit(USAGE_ERROR) from None
    except KeyboardInterrupt:
        error_console.print(f"interrupted; {command.after_interrupt()}", markup=False)
        raise SystemExit(INTERRUPTED) from None


def _describe(store: Store) -> None:
    table = store.table()
    _console.print(
        f"{store.path}: {len(store.parts)} part{'s' * (len(store.parts) != 1)}", highlight=False
    )
    if table.n_examples == 0:
        _console.print("  no examples yet", highlight=False)
        return
    for name, value in table.splinters().summary().items():
        _console.print(f"  {name:<18}{value}", highlight=False)


def _earlier(folder: Path, config: MixingConfig, overwrite: bool) -> Trained | None:
    """The networks in `folder`, if it is of this configuration.

    Raises:
        ValueError: it is something else, and must not be overwritten.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"out must be a new folder or one of an earlier run, got {folder}, which holds other "
            "files; choose another --out"
        )
    if overwrite:
        return None
    try:
        return _trained_in(folder, config)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{error}; choose another --out or replace the results with --overwrite"
        ) from error


def _trained_in(folder: Path, config: MixingConfig) -> Trained:
    found_file = io.read_json(folder / "config.json")
    found = found_file.get("config")
    if not isinstance(found, dict):
        raise ValueError(f"{folder} holds a damaged run: its config.json has no configuration")  # noqa: TRY004
    wanted = config.to_dict()
    different = [key for key in wanted if found.get(key) != wanted[key]]
    if different:
        changes = "; ".join(f"{key} {found.get(key)} there, {wanted[key]} now" for key in different)
        raise ValueError(f"{folder} holds a run of another configuration ({changes})")
    paths = _network_paths(folder, config)
    checksums = found_file.get("sha256")
    try:
        for path in [*paths, folder / "losses.npy"]:
            if not isinstance(checksums, dict) or checksums.get(path.name) != _sha256(path):
                raise ValueError(f"{path} is not as it was written")
        losses = torch.from_numpy(np.load(folder / "losses.npy", allow_pickle=False))
        return Trained([ReluNetwork.load(path) for path in paths], losses)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds a damaged run: {error}") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _network_paths(folder: Path, config: MixingConfig) -> list[Path]:
    return [
        folder / "networks" / f"lambda-{repr(strength).removesuffix('.0')}-seed-{seed}.safetensors"
        for strength in config.lambdas
        for seed in config.seeds
    ]


def _write(result: MixingResult, folder: Path) -> None:
    io.write_csv(folder / "results.csv", map(dataclasses.asdict, result.rows))
    (folder / "networks").mkdir()
    paths = _network_paths(folder, result.config)
    for path, net in zip(paths, result.trained.networks, strict=True):
        net.save(path)
    np.save(folder / "losses.npy", result.trained.losses.numpy())
    versions = {
        "gradsplinter": gradsplinter.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    checksums = {path.name: _sha256(path) for path in [*paths, folder / "losses.npy"]}
    about = {"config": result.config.to_dict(), "versions": versions, "sha256": checksums}
    io.write_json(folder / "config.json", about)


def _report(result: MixingResult) -> None:
    _console.print("Orthogonality of the two outputs, mean over seeds")
    table = Table(box=box.SIMPLE)
    for column in ("\nλ", "input\ntheory", "input\npaired", "input\nall pairs"):
        table.add_column(column, justify="right")
    for site in result.config.sites[1:]:
        table.add_column(f"site {site}\npaired", justify="right")
    columns = [
        result.mean(0, "theory"),
        result.mean(0, "paired"),
        result.mean(0, "all_pairs"),
        *(result.mean(site, "paired") for site in result.config.sites[1:]),
    ]
    for row, strength in enumerate(result.config.lambdas):
        table.add_row(f"{strength:g}", *(f"{column[row]:.3f}" for column in columns))
    _console.print(table)
    dead = sum(1 for row in result.rows if row.trained and row.zero_gradients)
    if dead:
        _console.print(
            f"In {dead} of {len(result.config.sites) * result.config.networks} measurements some "
            "gradients are zero, which counts as orthogonal: see zero_gradients in results.csv"
        )
    _console.print(
        "Mean distance from theory at the input: "
        f"paired {result.deviation('paired'):.4f}, all pairs {result.deviation('all_pairs'):.4f}"
    )


if __name__ == "__main__":
    main()
