"""One split of a zoo, and the embedders that are taught with its training networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations, product

import torch
from torch import Tensor

from gradsplinter.checks import (
    check_bool,
    check_device,
    check_integer,
    check_integers,
    check_number,
    check_values,
)
from gradsplinter.embedder import Embedder, EmbedderConfig
from gradsplinter.embedder_training import (
    EmbedderTrainingConfig,
    TrainedEmbedder,
    train_embedder,
)
from gradsplinter.network import ReluNetwork
from gradsplinter.studies.supervised import teach_supervised
from gradsplinter.tasks import Task
from gradsplinter.tokens import Tokens, hide, tokens_of
from gradsplinter.zoo import Zoo

FIXED_POINTS = 64
AT_FIXED_POINTS = f"gradients at {FIXED_POINTS} points"
"""The name of this baseline, also of parts of networks."""
RANGE_POINTS = 4096
"""Examples over whose range the grid is."""
COMPARED_AT = 64
"""Points at which gradients of tasks are compared."""
LABEL_DRAWS = 5
"""Of one label a class; the accuracy is their mean."""


@dataclass(frozen=True)
class EmbeddingConfig:
    """What is taught and asked.

    Raises:
        TypeError, ValueError: a value of another type or out of range.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of splits and trainings, one of each."""
    held_out: int = 10
    """Networks of each task that are only tested."""
    points: int = 1024
    """Examples at which a network is looked at to be embedded."""
    visible: int = 8
    """Modes that are seen where evidence is sparse."""
    noise: float = 0.5
    """Of noisy gradients, by their standard deviation over the training set."""
    grid: bool = False
    """Look at all networks at the points of one regular grid, and not at points drawn at random."""
    shape: EmbedderConfig = field(default_factory=EmbedderConfig)
    """Of the embedder, but for the number of inputs, which is the zoo's."""
    training: EmbedderTrainingConfig = field(default_factory=EmbedderTrainingConfig)
    """Of the embedder, but for the seed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", check_integers(self.seeds, "seeds", 0))
        check_values(self.seeds, "seeds")
        for name, least in (("held_out", 1), ("points", 2), ("visible", 1)):
            check_integer(getattr(self, name), name, least)
        if not check_number(self.noise, "noise") >= 0:
            raise ValueError(f"noise must be at least 0, got {self.noise}")
        check_bool(self.grid, "grid")


class Trial:
    """A split, and what is taught with it.

    Attributes:
        config: with the zoo's number of inputs.
        zoo: whose networks are split.
        seed: of the split, of the training and of all that is drawn.
        device: where embedders are taught.
        training, test: indices of networks.
        tokens: of all networks, each at its own examples.
        fixed: `[FIXED_POINTS, d]`: points where outputs and gradients are features.
    """

    def __init__(
        self,
        config: EmbeddingConfig,
        zoo: Zoo,
        seed: int,
        *,
        device: torch.device | str | None = None,
        progress: bool = False,
    ) -> None:
        shape = replace(config.shape, inputs=zoo.config.widths[0])
        self.config, self.zoo, self.seed = replace(config, shape=shape), zoo, seed
        self.device, self.progress = check_device(device), progress
        self.training, self.test = zoo.split(config.held_out, seed)
        self.generator = torch.Generator().manual_seed(1_000_000 + seed)
        count = len(zoo.networks)
        some = zoo.tasks[0].sample(RANGE_POINTS, generator=self.generator)
        self.low, self.high = some.amin(0), some.amax(0)
        x = [self.sample(config.points, self.generator) for _ in range(count)]
        self.tokens = self.look(torch.arange(count), torch.stack(x))
        self.fixed = zoo.tasks[0].sample(FIXED_POINTS, generator=self.generator)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, d]`, or on a grid at most so many."""
        if self.config.grid:
            return grid(self.low, self.high, n)
        return self.zoo.tasks[0].sample(n, generator=generator)

    def nets(self, index: Tensor) -> list[ReluNetwork]:
        return [self.zoo.networks[i] for i in index.tolist()]

    def look(self, index: Tensor, x: Tensor) -> Tokens:
        config = self.config
        return tokens_of(
            self.nets(index), x, kind=config.training.tokens, values=config.shape.values
        )

    def teach(self, index: Tensor) -> TrainedEmbedder:
        config = replace(self.config.training, seed=self.seed)
        return train_embedder(
            self.nets(index), self.sample, self.config.shape, config,
            device=self.device, progress=self.progress,
        )  # fmt: skip

    @cached_property
    def trained(self) -> TrainedEmbedder:
        """Taught with the training networks."""
        return self.teach(self.training)

    @cached_property
    def half(self) -> TrainedEmbedder:
        """Taught with those of half of the tasks."""
        known, _ = self.halves
        return self.teach(self.training[torch.isin(self.zoo.labels[self.training], known)])

    @cached_property
    def halves(self) -> tuple[Tensor, Tensor]:
        """Tasks that `half` knows, and the others, of which none is a known one that teaching has turned or mirrored."""
        tasks = self.zoo.config.tasks
        order = torch.randperm(tasks, generator=torch.Generator().manual_seed(self.seed)).tolist()
        orbit = list(range(tasks))
        if self.config.training.symmetries:
            orbit = orbits(self.zoo.tasks, self.low, self.high)
        known: list[int] = []
        others: list[int] = []
        for of in dict.fromkeys(orbit[task] for task in order):
            some = [task for task in order if orbit[task] == of]
            (known if len(known) + len(some) <= tasks // 2 else others).extend(some)
        return torch.tensor(known), torch.tensor(others)

    @cached_property
    def untrained(self) -> Embedder:
        embedder = Embedder(self.config.shape, seed=self.seed)
        embedder.standardise(self.tokens[self.training])
        return embedder.eval().requires_grad_(False)

    @cached_property
    def supervised(self) -> Embedder:
        """The same architecture, taught with the labels of the training networks, at as many examples as it is tested."""
        config = replace(self.config.training, seed=self.seed)

        def look(index: Tensor, generator: torch.Generator) -> Tokens:
            return self.look(self.training[index], self.sample(config.points, generator))

        labels = self.zoo.labels[self.training]
        return teach_supervised(look, labels, self.config.shape, config, self.device)

    @cached_property
    def few(self) -> Tensor:
        """bool `[M, T]`: some modes of each network."""
        return self.tokens.some(self.config.visible, self.generator)

    @cached_property
    def labelled(self) -> list[Tensor]:
        """The training networks in several orders, of which the first of each class has a label."""
        count = len(self.training)
        return [
            self.training[torch.randperm(count, generator=self.generator)]
            for _ in range(LABEL_DRAWS)
        ]

    def noisy(self) -> Tokens:
        noise = torch.randn(self.tokens.values.shape, generator=self.generator)
        scale = self.config.noise * self.untrained.value_scale
        return replace(self.tokens, values=self.tokens.values + scale * noise)

    def hide(self, tokens: Tokens, share: float) -> Tensor:
        """bool `[B, T]`: this share of the tokens of each set."""
        return hide(tokens, (share,), self.generator)


def orbits(tasks: Sequence[Task], low: Tensor, high: Tensor) -> list[int]:
    """Of each task the first one that is the same but for the order, directions and sign that `tokens.turned` changes.

    Two are the same where their exact gradients differ by less than 3 %, root mean square, between `low` and `high`.

    Examples:
        >>> from gradsplinter.formula import Formula
        >>> tasks = [Formula(f) for f in ("sin(3 * x1) * x2", "x1 * x2", "-x1 * sin(3 * x2)", "max(x1, x2)", "min(x1, x2)")]
        >>> orbits(tasks, torch.zeros(2), torch.ones(2))
        [0, 1, 0, 3, 3]
    """
    d, half = len(low), (high - low) / 2
    u = 2 * torch.rand(COMPARED_AT, d, generator=torch.Generator().manual_seed(0)) - 1
    turns = torch.stack(
        [
            torch.eye(d)[list(order)] * torch.tensor(signs)
            for order in permutations(range(d))
            for signs in product((1.0, -1.0), repeat=d)
        ]
    )
    places = low + half * (1 + u @ turns)  # [Q, N, d]; the first turn is none
    first: list[int] = []
    fields: list[Tensor] = []
    for i, task in enumerate(tasks):
        images = task.gradient(places.flatten(0, 1)).view_as(places) @ turns.mT
        same = (
            j for j in dict.fromkeys(first)
            if _nearest(images, fields[j]) < 0.03**2 * fields[j].square().sum()
        )  # fmt: skip
        first.append(next(same, i))
        fields.append(images[0])
    return first


def _nearest(images: Tensor, field: Tensor) -> Tensor:
    """The squared distance of the nearest of the images `[Q, N, d]`, with either sign, from a field `[N, d]`."""
    return torch.stack([(s * images - field).square().sum((1, 2)).min() for s in (1, -1)]).min()


def grid(low: Tensor, high: Tensor, n: int) -> Tensor:
    """At most n points of a regular grid from `low` to `high`, `[d]` each.

    Examples:
        >>> grid(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0]), 5)
        tensor([[0., 1.],
                [0., 3.],
                [2., 1.],
                [2., 3.]])
    """
    d = len(low)
    along = next(k for k in range(n, 0, -1) if k**d <= n)
    steps = [torch.linspace(0, 1, along)] * d
    return low + (high - low) * torch.cartesian_prod(*steps).view(-1, d)
