"""`gradsplinter mnist`: the study, its folder and its report."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro
from rich import box
from rich.table import Table

import gradsplinter
from gradsplinter import data, io
from gradsplinter.cli.command import Study, console, options_of, results_folder
from gradsplinter.communities import communities
from gradsplinter.graph_choice import view
from gradsplinter.page import Examples, chosen_examples, graph_page
from gradsplinter.studies import mnist_rows, mnist_tables
from gradsplinter.studies.mnist import KINDS, MnistResult, run_mnist
from gradsplinter.studies.mnist_config import MnistConfig
from gradsplinter.studies.mnist_tables import Comparison

PAGE_NODES = 600
"""Of a page; more make it large, since each has an image."""
PAGE_ANGLE = 20
"""Components of a node on a page are no farther apart, in degrees."""
MOST_UNITS = 1000
"""Inputs and hidden units up to which a page has communities, which take their time."""
PRINTED = (
    *("orthogonality", "cosine", "spread", "agreement", "likeness", "confusions", "beyond"),
    *("groups", "group_agreement", "median_angle", "in_dense", "in_second", "cloud_in_dense"),
)
"""Of the measures."""


@dataclass(frozen=True)
class MnistStudy(Study):
    """What structure do the gradients of networks have that classify MNIST, and what is only chance?

    Trains networks on real images, on the same with their classes in random order, and compares them with
    each other and with untrained ones: modes, unique gradients, which classes share their gradients, clusters, how
    it forms during training. MNIST must be there, or is downloaded (docs/mnist.md); digits come with scikit-learn.
    """

    typed: ClassVar = {
        "out": "--out", "name": "--datasets", "architecture": "--architectures",
        "data": "--training-examples",
    } | options_of(MnistConfig)  # fmt: skip

    config: Annotated[MnistConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=MnistConfig
    )
    out: Path = Path("results/mnist")
    """Folder to write."""

    def run(self) -> None:
        # Only here, since matplotlib takes its time.
        from gradsplinter.plot import mnist as plot_mnist  # noqa: PLC0415
        from gradsplinter.plot.style import save  # noqa: PLC0415

        begin = time.perf_counter()
        with results_folder(self.out, self.overwrite, "mnist") as folder:
            sets = {name: _load(name) for name in self.config.datasets}
            result = run_mnist(self.config, sets, progress=self.shows_bar)
            compared = mnist_tables.comparisons(result)
            console.print("Writing tables, pages and figures ...")
            _write(folder, result, compared)
            for name, figure in plot_mnist.figures(result).items():
                save(figure, folder, name)
        _report(result, compared)
        console.print(f"Written to {self.out}/ in {time.perf_counter() - begin:.0f} s")


def _load(name: str) -> tuple[data.Dataset, data.Dataset]:
    try:
        return data.load(name, "train"), data.load(name, "test")
    except ImportError as error:
        raise ValueError(f"datasets must be ones that can be read, got {name}: {error}") from error


def _write(folder: Path, result: MnistResult, compared: list[Comparison]) -> None:
    tables = {
        "networks": mnist_rows.network_rows(result),
        "sites": [vars(row) for row in mnist_tables.site_rows(result)],
        "classes": mnist_rows.class_rows(result),
        "architectures": [vars(row) for row in mnist_rows.architecture_rows(result)],
        "pairs": [vars(row) for row in mnist_rows.pair_rows(result)],
        "clusters": mnist_tables.cluster_rows(result),
        "training": [vars(row) for row in mnist_rows.training_rows(result)],
        "comparisons": [vars(row) for row in compared],
    }
    for name, rows in tables.items():
        if rows:  # a single architecture is compared with no other one
            io.write_csv(folder / f"{name}.csv", rows)
    for name in result.shown:
        (folder / f"graph-{name}.html").write_text(_page(result, name), encoding="utf-8")
    about = {
        "config": dataclasses.asdict(result.config),
        "sources": {name: train.source for name, (train, _) in result.sets.items()},
        "versions": {"gradsplinter": gradsplinter.__version__, "torch": torch.__version__},
    }
    io.write_json(folder / "config.json", about)


def _page(result: MnistResult, name: str) -> str:
    """The graph of one network to explore, coloured by communities."""
    graph = result.shown[name].graph
    test = result.sets[name][1]
    index = chosen_examples(graph)
    shown = Examples(
        index, test.x[index], [f"{test.classes[int(test.y[i])]}" for i in index.tolist()]
    )
    few = sum(graph.net.widths[:-1]) <= MOST_UNITS
    found = view(
        graph, PAGE_NODES, 3 * PAGE_NODES, angle=math.radians(PAGE_ANGLE),
        communities=communities(graph) if few else None,
        directions=list(test.classes), examples=chosen_examples(graph, 10).tolist(),
    )  # fmt: skip
    return graph_page(
        found, title=f"{name}, {graph.net!r}", examples=shown, image_shape=test.image_shape
    )


def _report(result: MnistResult, compared: list[Comparison]) -> None:
    for name, architecture in result.left_out:
        console.print(f"{architecture} does not fit {name}, and was left out", style="yellow")
    _report_networks(result)
    _report_communities(result)
    _report_sites(result)
    _report_measures(result, compared)


def _report_networks(result: MnistResult) -> None:
    console.print("Accuracy on the test part, and on what was trained on; means over seeds")
    columns = ("test", "training", "shuffled:\ntest", "shuffled:\ntraining")
    table = _table("data", "network", *columns)
    for name, architecture in mnist_tables.settings(result):
        cells = []
        for kind in ("trained", "shuffled"):
            some = mnist_tables.networks_of(result, name, architecture, kind)
            cells += [
                f"{sum(getattr(n, which) for n in some) / len(some):.3f}"
                for which in ("accuracy", "training_accuracy")
            ]
        table.add_row(name, architecture, *cells)
    console.print(table)


def _report_communities(result: MnistResult) -> None:
    found = []
    for kind in KINDS:
        some = [n.communities for n in result.networks if n.kind == kind and n.communities]
        found.append(f"{sum(count > 1 for count in some)} of {len(some)} {kind}")
    console.print(f"Networks whose hidden units fall into several communities: {', '.join(found)}")


def _report_sites(result: MnistResult) -> None:
    console.print(
        "Trained networks at each site: modes, examples a mode, unique gradients of a class; means over seeds"
    )
    table = _table("data", "network", "site", "examples", "modes", "examples\na mode", "unique")
    rows = [row for row in mnist_tables.site_rows(result) if row.kind == "trained"]
    for key in dict.fromkeys((row.dataset, row.architecture, row.site) for row in rows):
        some = [row for row in rows if (row.dataset, row.architecture, row.site) == key]
        modes = sum(row.modes for row in some) / len(some)
        unique = sum(row.unique for row in some) / len(some)
        table.add_row(
            *key[:2], str(key[2]), f"{some[0].examples:,}", f"{modes:,.1f}",
            f"{some[0].examples / modes:,.2f}", f"{unique:,.1f}",
        )  # fmt: skip
    console.print(table)


def _report_measures(result: MnistResult, compared: list[Comparison]) -> None:
    console.print(
        "Means over seeds, and how many standard errors trained networks are from each null (of at "
        f"least {mnist_tables.LEAST_SEEDS} seeds); docs/mnist.md says what the measures are, comparisons.csv has the errors"
    )
    columns = ("trained", "un-\ntrained", "shuffled", "from un-\ntrained", "from\nshuffled")
    for name, architecture in mnist_tables.settings(result):
        table = _table(f"{name} {architecture}", "site", *columns)
        for measure in PRINTED:
            for row in compared:
                key = (row.dataset, row.architecture, row.measure)
                if key == (name, architecture, measure) and row.trained is not None:
                    table.add_row(measure, str(row.site), *_cells(row))
        console.print(table)


def _cells(row: Comparison) -> list[str]:
    means = (row.trained, row.untrained, row.shuffled)
    far = (row.from_untrained, row.from_shuffled)
    return [
        *("-" if one is None else f"{one:.2f}" for one in means),
        *("-" if one is None else f"{one:+.1f}" for one in far),
    ]


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < 2 else "right", no_wrap=i == 0)
    return table
