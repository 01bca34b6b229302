"""What the embedder that comes with the package does on fresh networks: a part of its card, measured.

    python bench/pretrained.py [FILE] [--networks 3] [--steps 1000]

Trains networks with other seeds than those that it learned from, and prints the table and the sentences of
gradsplinter/pretrained/README.md that are about them. FILE is another embedder of functions of two inputs on the unit
square, as `gradsplinter embed train` writes it. With the defaults it takes minutes; less training says nothing about
the embedder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.draws import generator_of
from gradsplinter.embedder import Embedder
from gradsplinter.embedding import embed
from gradsplinter.families import Waves
from gradsplinter.network import ReluNetwork
from gradsplinter.studies.embedding_baselines import GaussianProcess, cloze_r2, nearest_visible
from gradsplinter.tasks import Task
from gradsplinter.tokens import Tokens, hide, tokens_of
from gradsplinter.train import train
from gradsplinter.zoo import Zoo, ZooConfig
from gradsplinter.zoo_training import make_zoo

TASKS, UNSEEN = 40, 20
SEED = 100  # of the first zoo; those of the zoos that it learned from are 1 to 4
SHAPES = ((16, 16), (32, 32), (64, 64, 64), (128,), (48, 24), (24, 24, 24, 24))
LEARNED_FROM = SHAPES[:4]
SMALL, MIDDLE = SHAPES[:2]
"""By whose networks kernels of Gaussian processes are chosen; of which more is asked."""
EXAMPLES, FEWER = 500, (50, 200)
HIDDEN = (0.3, 0.6, 0.9)


@dataclass(frozen=True)
class Found:
    """Shares of networks."""

    right: float
    """Whose nearest known task is their own."""
    unlike: float
    """That are called like none of the known tasks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("embedder", nargs="?", type=Path, metavar="FILE")
    parser.add_argument("--networks", type=int, default=3, help="of each task and shape")
    parser.add_argument("--steps", type=int, default=1000, help="of the training of networks")
    options = parser.parse_args()
    file = options.embedder
    embedder = Embedder.pretrained() if file is None else Embedder.load(file).requires_grad_(False)
    configs = [
        ZooConfig("formulae", TASKS, options.networks, hidden, steps=options.steps, seed=SEED + i)
        for i, hidden in enumerate(SHAPES)
    ]
    zoos = {config.hidden: make_zoo(config) for config in tqdm(configs, desc="shapes")}
    failed = sum(len(zoo.failed) for zoo in zoos.values())
    print(
        f"{failed} of {sum(len(zoo.networks) for zoo in zoos.values())} networks failed to learn."
    )
    print(table(embedder, zoos))
    print(sentences(embedder, zoos[MIDDLE], zoos[SMALL], *unseen(zoos[MIDDLE].config)))


def table(embedder: Embedder, zoos: dict[tuple[int, ...], Zoo]) -> str:
    count = len(zoos[MIDDLE].networks)
    lines = [
        f"\nOn {count} fresh networks of each shape ({count // TASKS} of each task; other seeds), {EXAMPLES} fresh "
        "examples each:\n",
        "| shape | nearest task is right | called like none |",
        "|---|---|---|",
    ]
    for hidden, zoo in zoos.items():
        found = recognised(embedder, zoo.networks, named(zoo), EXAMPLES)
        more = "" if hidden in LEARNED_FROM else ", not learned from"
        lines.append(f"| {shape(zoo)}{more} | {found.right:.2f} | {found.unlike:.2f} |")
    return "\n".join(lines)


def sentences(
    embedder: Embedder, zoo: Zoo, small: Zoo, others: Sequence[ReluNetwork], tasks: Sequence[Task]
) -> str:
    few = [recognised(embedder, zoo.networks, named(zoo), n) for n in FEWER]
    unlike = recognised(embedder, others, tasks, EXAMPLES).unlike
    lines = [
        "hidden | " + " | ".join(f"{share:.0%}" for share in HIDDEN),
        "---" + "|---" * len(HIDDEN),
    ]
    for what, nets, of in (("known", zoo.networks, named(zoo)), ("unseen", others, tasks)):
        found = filled(embedder, looked_at(nets, of), looked_at(small.networks, named(small)))
        lines += [f"{way} | {r2}" for way, r2 in found.items()]
        lines[-len(found)] = f"{what} tasks: {lines[-len(found)]}"
    cloze = "\n".join(f"| {line} |" for line in lines)
    return (
        f"\nWith {FEWER[0]} examples instead of {EXAMPLES} ({shape(zoo)}) {few[0].right:.2f} are right and "
        f"{few[0].unlike:.2f} called like none; with {FEWER[1]}, {few[1].right:.2f} and {few[1].unlike:.2f}. "
        f"{round(unlike * len(others))} of {len(others)} networks of {UNSEEN} tasks that it never saw (other random "
        f"sums of sines) were called like none of the known.\n\nR² of gradients that are hidden, "
        f"filled in from the visible modes alone ({len(zoo.networks)} fresh networks {shape(zoo)}; {len(others)} of the "
        f"{UNSEEN} tasks that it never saw):\n\n{cloze}"
    )


def filled(embedder: Embedder, tokens: Tokens, small: Tokens) -> dict[str, str]:
    """R² for each of `HIDDEN`, also of what needs no other networks."""
    r2: dict[str, list[float]] = {}
    for share in HIDDEN:
        generator = generator_of(SEED, f"hidden {share}")
        process = GaussianProcess(small, hide(small, (share,), generator))
        hidden = hide(tokens, (share,), generator)
        ways = {"this embedder": embedder.fill, "nearest visible mode": nearest_mode}
        for name, fill in (ways | {"Gaussian process of the network alone": process}).items():
            found = cloze_r2(tokens, hidden, fill, embedder.value_mean)
            r2.setdefault(name, []).append(found)
    return {way: " | ".join(f"{value:.2f}" for value in values) for way, values in r2.items()}


def unseen(config: ZooConfig) -> tuple[list[ReluNetwork], list[Task]]:
    """Networks, and their tasks: sums of sines of which none is in a family, trained as a zoo is."""
    waves = [Waves(seed, 2) for seed in range(TASKS, TASKS + UNSEEN)]
    tasks = [task for task in waves for _ in range(config.networks)]
    generator = generator_of(SEED, "training examples of unseen tasks")
    x = torch.stack([task.sample(config.examples, generator=generator) for task in tasks])
    y = torch.stack([task.target(own) for task, own in zip(tasks, x, strict=True)])
    first = (SEED + len(SHAPES)) * TASKS * config.networks
    return train(config.training, x, y, range(first, first + len(tasks))).networks, tasks


def recognised(
    embedder: Embedder, nets: Sequence[ReluNetwork], tasks: Sequence[Task], examples: int
) -> Found:
    right = unlike = 0
    for net, task, x in zip(nets, tasks, fresh(tasks, examples), strict=True):
        (embedding,) = embed(net, x, embedder)
        right += embedder.known.nearest(embedding, 1)[0].name == task.name
        unlike += not embedder.known.has_alike(embedding)
    return Found(right / len(nets), unlike / len(nets))


def looked_at(nets: Sequence[ReluNetwork], tasks: Sequence[Task]) -> Tokens:
    return tokens_of(nets, torch.stack(fresh(tasks, EXAMPLES)))


def fresh(tasks: Sequence[Task], examples: int) -> list[Tensor]:
    """Of each network its own."""
    generator = generator_of(SEED, f"{examples} fresh examples")
    return [task.sample(examples, generator=generator) for task in tasks]


def nearest_mode(tokens: Tokens, visible: Tensor) -> Tensor:
    return nearest_visible(tokens, visible, tokens.points)


def named(zoo: Zoo) -> list[Task]:
    return [zoo.tasks[label] for label in zoo.labels.tolist()]


def shape(zoo: Zoo) -> str:
    return "-".join(map(str, zoo.config.widths))


if __name__ == "__main__":
    main()
