"""Inside networks of several tasks: do parts that do the same lie together, and are their tasks known from elsewhere?

Networks learn several formulae side by side, three of which are the same. An embedder is taught with networks that
learned one formula each. Then parts of the first are embedded: from a task's inputs to what its output reads at a
hidden site, from a hidden site to an output, from inputs to an output. Which inputs and which output belong to a task
is not found, but taken as planted; only the units of principal directions are found without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.checks import check_device
from gradsplinter.communities import Communities, neuron_communities
from gradsplinter.embedding import activations
from gradsplinter.families import SideBySide
from gradsplinter.network import ReluNetwork
from gradsplinter.studies.ablation import truth
from gradsplinter.studies.neuron_groups import ari
from gradsplinter.studies.part_tokens import (
    COORDINATES,
    Part,
    mean_gradients,
    parts_by_inputs,
    parts_by_principal_directions,
)
from gradsplinter.studies.parts_judge import Judge, check_probe
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
    device: torch.device | str | None = None,
    progress: bool = True,
) -> PartsResult:
    """Everything that is measured.

    Args:
        config: what to train and ask.
        zoo: networks of tasks of two inputs, more tasks than `config.others`.
        device: where embedders are taught; by default on the CPU.
        progress: show bars on stderr.

    Raises:
        ValueError: a zoo that does not fit, a device that is not there.
        ImportError: scikit-learn is missing.
    """
    check_probe()
    check_zoo(config, zoo.config)
    device = check_device(device)
    labels = [tasks_of(config, zoo, i) for i in range(len(config.seeds))]
    tasks = [SideBySide(tuple(zoo.tasks[i] for i in of.tolist())) for of in labels]
    nets = _networks(config, tasks, progress)
    outputs: list[OutputRow] = []
    directions: list[DirectionRow] = []
    groups: list[CommunityRow] = []
    sets: dict[str, list[tuple[Part, Tokens]]] = {name: [] for name in COORDINATES}
    for seed, task, net in tqdm(
        list(zip(config.seeds, tasks, nets, strict=True)), disable=not progress, desc="parts"
    ):
        x = task.sample(config.examples, generator=torch.Generator().manual_seed(seed + 2**33))
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
    kept: list[tuple[list[Part], Tensor, Tensor, Tensor]] = []
    for coordinates, some in sets.items():
        if not some:
            continue
        parts, tokens = [part for part, _ in some], joined([own for _, own in some])
        own_labels = torch.stack([of_seed[part.seed][part.output] for part in parts])
        for seed in config.seeds:
            judge = Judge(config, zoo, coordinates, seed, device, progress)
            for method in METHODS:
                of_zoo, of_parts = (judge.features(method, own) for own in (judge.tokens, tokens))
                of_whole, own_rows = judge.rows(method, of_zoo, of_parts, parts, own_labels)
                whole.append(of_whole)
                rows += own_rows
                if not kept:
                    kept.append((parts, own_labels, of_parts, of_zoo))
    return PartsResult(config, zoo, outputs, directions, groups, rows, whole, *kept[0])


def _networks(
    config: PartsConfig, tasks: Sequence[SideBySide], progress: bool
) -> list[ReluNetwork]:
    generators = [torch.Generator().manual_seed(seed + 2**32) for seed in config.seeds]
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
    x = task.sample(FRESH, generator=torch.Generator().manual_seed(seed + 2**34))
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
