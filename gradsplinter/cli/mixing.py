"""`gradsplinter mixing`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import tyro
from rich import box
from rich.table import Table

import gradsplinter
from gradsplinter import io
from gradsplinter.cli.command import Study, console, options_of, replaced_folder
from gradsplinter.network import ReluNetwork
from gradsplinter.studies.mixing import MixingConfig, MixingResult, run_mixing
from gradsplinter.train import Trained


@dataclass(frozen=True)
class Mixing(Study):
    """How does task orthogonality inside a network fall as two tasks are mixed?

    Trains networks on two products whose targets are mixed by λ, compares the gradients of the two
    outputs at every site, and writes tables, networks and figures. A second run with the same
    configuration uses the networks of the first.
    """

    typed: ClassVar = options_of(MixingConfig) | {"out": "--out", "path": "--out"}

    config: Annotated[MixingConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=MixingConfig
    )
    out: Path = Path("results/mixing")
    """Folder to write."""
    overwrite: bool = dataclasses.field(default=False, kw_only=True)
    """Replace the results of another configuration; other files beside them stay."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import mixing as plot_mixing  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        out = self.out.resolve()  # which stays the same where "." becomes another folder
        with io.only_writer(out):
            trained = _earlier(out, self.config, self.overwrite)
            with replaced_folder(out, "mixing") as folder:
                if trained is not None:
                    console.print(
                        f"using the {len(trained)} trained networks in {self.out}: nothing is trained "
                        "(--overwrite trains again)"
                    )
                result = run_mixing(self.config, trained=trained, progress=self.shows_bar)
                _write(result, folder)
                for name, figure in plot_mixing.figures(result).items():
                    save(figure, folder, name)
        _report(result)
        seconds = time.perf_counter() - begin
        console.print(f"Written to {self.out}/ in {seconds:.0f} s:")
        for path in sorted(out.iterdir()):
            console.print(f"  {path.name}{'/' if path.is_dir() else ''}")


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
    console.print("Orthogonality of the two outputs, mean over seeds")
    by_hand = 0 in result.config.lambdas
    table = Table(box=box.SIMPLE)
    for column in ("\nλ", "input\ntheory", "input\npaired", "input\nall pairs"):
        table.add_column(column, justify="right")
    for site in result.config.sites[1:]:
        table.add_column(f"site {site}\npaired", justify="right")
        if by_hand:
            table.add_column(f"site {site}\nby hand", justify="right")
    columns = [
        result.mean(0, "theory"),
        result.mean(0, "paired"),
        result.mean(0, "all_pairs"),
        *(
            result.mean(site, "paired", kind)
            for site in result.config.sites[1:]
            for kind in ("trained", "mixed by hand")[: 1 + by_hand]
        ),
    ]
    for row, strength in enumerate(result.config.lambdas):
        table.add_row(f"{strength:g}", *(f"{column[row]:.3f}" for column in columns))
    console.print(table)
    dead = sum(1 for row in result.rows if row.kind == "trained" and row.zero_gradients)
    if dead:
        console.print(
            f"In {dead} of {len(result.config.sites) * result.config.networks} measurements some "
            "gradients are zero, which counts as orthogonal: see zero_gradients in results.csv"
        )
    console.print(
        "Mean distance from theory at the input: "
        f"paired {result.deviation('paired'):.4f}, all pairs {result.deviation('all_pairs'):.4f}"
    )
