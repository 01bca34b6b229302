"""Inside networks of several tasks: do parts that do the same lie together, and are their tasks known from elsewhere?

Networks learn several formulae side by side, three of which are the same. An embedder is taught with networks that
learned one formula each. Then parts of the first are embedded: from a task's inputs to what its output reads at a
hidden site, from a hidden site to an output, from inputs to an output. Which inputs and which output belong to a task
is not found, but taken as planted; only the units of principal directions are found without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.checks import check_device
from gradsplinter.communities import Communities, neuron_communities
from gradsplinter.draws import generator_of
from gradsplinter.embedding import activations
from gradsplinter.families import SideBySide
from gradsplinter.network import ReluNetwork
from gradsplinter.studies.ablation import truth
from gradsplinter.studies.kept import Kept, about
from gradsplinter.studies.neuron_groups import ari
from gradsplinter.studies.part_tokens import (
    COORDINATES,
    Part,
    mean_gradients,
    parts_by_inputs,
    parts_by_principal_directions,
)
from gradsplinter.studies.parts_judge import Judge
from gradsplinter.studies.parts_result import (
    INPUTS,
    METHODS,
    CommunityRow,
    DirectionRow,
    OutputRow,
    PartRow,
    PartsConfig,
    PartsResult,
    WholeRow,
    check_zoo,
    tasks_of,
)
from gradsplinter.studies.probe import check_probe
from gradsplinter.table import splinter
from gradsplinter.tokens import Tokens, joined
from gradsplinter.train import train
from gradsplinter.zoo import Zoo

FRESH = 4096
"""Examples that a network has not seen, on which it is judged."""


def run_parts(
    config: PartsConfig,
    zoo: Zoo,
    *,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> PartsResult:
    """Everything that is measured.

    Args:
        config: what to train and ask.
        zoo: networks of tasks of two inputs, more tasks than `config.others`.
        checkpoint: a folder that is there, in which it keeps the networks and what is found by each embedder, and from
            which it goes on where it was interrupted.
        device: where embedders are taught; by default on the CPU.
        progress: show bars on stderr.

    Raises:
        ValueError: a zoo that does not fit, a device that is not there; a checkpoint of something else.
        ImportError: scikit-learn is missing.
    """
    check_probe()
    check_zoo(config, zoo.config)
    device = check_device(device)
    folder = None if checkpoint is None else Path(checkpoint)
    kept = Kept(
        None if folder is None else folder / "parts.json",
        about(asdict(config), zoo=zoo.fingerprint),
    )
    labels = [tasks_of(config, zoo, i) for i in range(len(config.seeds))]
    tasks = [SideBySide(tuple(zoo.tasks[i] for i in of.tolist())) for of in labels]
    nets = _networks(config, tasks, progress, kept)
    outputs: list[OutputRow] = []
    directions: list[DirectionRow] = []
    groups: list[CommunityRow] = []
    sets: dict[str, list[tuple[Part, Tokens]]] = {name: [] for name in COORDINATES}
    for seed, task, net in tqdm(
        list(zip(config.seeds, tasks, nets, strict=True)), disable=not progress, desc="parts"
    ):
        x = task.sample(config.examples, generator=generator_of(seed, "examples of parts"))
        outputs += _outputs(config, task, net, seed)
        directions += _directions(task, net, x, seed)
        found = neuron_communities(net, x)
        groups.append(_agreement(found, task, net, x, seed))
        kind = config.teaching.tokens
        sets["inputs"] += parts_by_inputs(net, x, INPUTS, seed, kind)
        sets["principal"] += parts_by_principal_directions(net, x, INPUTS, found, seed, kind)
    of_seed = dict(zip(config.seeds, labels, strict=True))
    rows: list[PartRow] = []
    whole: list[WholeRow] = []
    for coordinates, some in sets.items():
        if not some:
            continue
        parts, tokens = [part for part, _ in some], joined([own for _, own in some])
        own_labels = torch.stack([of_seed[part.seed][part.output] for part in parts])
        for seed in config.seeds:
            name = f"{coordinates}, seed {seed}"
            if name not in kept:
                judge = Judge(config, zoo, coordinates, seed, device, progress)
                kept[name] = _judged(judge, tokens, parts, own_labels)
            rows += [PartRow(**values) for values in kept[name]["rows"]]
            whole += [WholeRow(**values) for values in kept[name]["whole"]]
    first = kept[f"inputs, seed {config.seeds[0]}"]
    embeddings = (torch.tensor(first[name]) for name in ("parts", "zoo"))
    inputs = [part for part, _ in sets["inputs"]]
    labels_of = torch.stack([of_seed[part.seed][part.output] for part in inputs])
    return PartsResult(
        config, zoo, outputs, directions, groups, rows, whole, inputs, labels_of, *embeddings
    )


def _judged(judge: Judge, tokens: Tokens, parts: list[Part], labels: Tensor) -> dict[str, Any]:
    """Rows, and the embeddings of the parts and of the zoo."""
    found: dict[str, Any] = {"rows": [], "whole": []}
    for method in METHODS:
        of_zoo, of_parts = (judge.features(method, own) for own in (judge.tokens, tokens))
        whole, rows = judge.rows(method, of_zoo, of_parts, parts, labels)
        found["whole"].append(asdict(whole))
        found["rows"] += map(asdict, rows)
        if method == METHODS[0]:
            found |= {"parts": of_parts.tolist(), "zoo": of_zoo.tolist()}
    return found


def _networks(
    config: PartsConfig, tasks: Sequence[SideBySide], progress: bool, kept: Kept
) -> list[ReluNetwork]:
    """Of all seeds, trained together where one is not kept."""

    together = cache(lambda: _trained(config, tasks, progress))

    def of(number: int) -> ReluNetwork:
        return together()[number]

    return [
        kept.network(f"network-{seed}", partial(of, number))
        for number, seed in enumerate(config.seeds)
    ]


def _trained(config: PartsConfig, tasks: Sequence[SideBySide], progress: bool) -> list[ReluNetwork]:
    generators = [generator_of(seed, "training examples") for seed in config.seeds]
    x = torch.stack(
        [
            task.sample(config.training_examples, generator=generator)
            for task, generator in zip(tasks, generators, strict=True)
        ]
    )
    y = torch.stack([task.target(own) for task, own in zip(tasks, x, strict=True)])
    return train(config.training, x, y, config.seeds, progress=progress).networks


def _outputs(
    config: PartsConfig, task: SideBySide, net: ReluNetwork, seed: int
) -> Iterator[OutputRow]:
    x = task.sample(FRESH, generator=generator_of(seed, "fresh examples"))
    y = task.target(x)
    r2 = 1 - (net(x) - y).square().mean(0) / y.var(0, correction=0)
    for output, (value, own) in enumerate(zip(r2.tolist(), task.tasks, strict=True)):
        yield OutputRow(seed, output, own.name, value, value >= config.learned)


def _directions(task: SideBySide, net: ReluNetwork, x: Tensor, seed: int) -> Iterator[DirectionRow]:
    y = net(x).double()
    y = y - y.mean(0)
    for site in range(1, net.depth - 1):
        directions = mean_gradients(splinter(net, x, site))
        read = (activations(net, x, site) @ directions.T).double()
        read = read - read.mean(0)
        products, squares = (read * y).sum(0), read.square().sum(0)
        slopes = products / squares
        r2 = products.square() / (squares * y.square().sum(0))
        for own, slope, share in zip(task.tasks, slopes.tolist(), r2.tolist(), strict=True):
            yield DirectionRow(seed, site, own.name, slope, share)


def _agreement(
    found: Communities, task: SideBySide, net: ReluNetwork, x: Tensor, seed: int
) -> CommunityRow:
    planted = [i // INPUTS for i in range(net.widths[0])]
    neurons, tasks = truth(net, task, x).tasks()
    groups = [int(found.units[site][unit]) for site, unit in neurons]
    return CommunityRow(
        seed, len(task.tasks), found.n, ari(found.units[0].tolist(), planted), ari(groups, tasks),
        len(neurons),
    )  # fmt: skip
