"""How well does the gradient field of a network follow the exact one of its task?

Networks learn tasks whose gradients are known. On planes through the input space every linear region
is found exactly, and in each the gradient of the output is compared with the exact gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gradsplinter.checks import check_integer
from gradsplinter.draws import generator_of
from gradsplinter.field import FieldErrors, best_rms, field_errors, network_field
from gradsplinter.formula import Formula
from gradsplinter.network import ReluNetwork
from gradsplinter.region_statistics import sampled_counts
from gradsplinter.regions import Regions2D, plane
from gradsplinter.studies.field_cases import (
    LONG_FORMULA,
    TASKS,
    UNIT,
    Case,
    Slice,
    case_of,
    uniform,
)
from gradsplinter.studies.input_mixing import Mixing, Switching, measure
from gradsplinter.train import TrainConfig, initialise, train

SIZES = (
    (4,), (8,), (16,), (32,), (64,), (128,),
    (8, 8), (16, 16), (32, 32), (64, 64),
    (8, 8, 8), (16, 16, 16), (32, 32, 32),
    (8, 8, 8, 8), (16, 16, 16, 16),
)  # fmt: skip
SAMPLES = tuple(10**n for n in range(1, 7))
FRAMES = 40
MOST_DRAWN = 20_000
"""Regions of a moment of training; where there are more, only their number is kept."""
MIXING = ("gate", "quotient")
"""Tasks for which the mixing of inputs is measured."""


@dataclass(frozen=True)
class FieldConfig:
    """What is trained and measured.

    Raises:
        ValueError: a task that is not known, a number that must be positive is not.
    """

    tasks: tuple[str, ...] = TASKS
    """Of products (two tasks, the other one's inputs held at 0.5), gate (x1 x2 where the gate is 1),
    quotient ((x1 - x2) / x3) and formula (a function of x1 and x2 on the unit square)."""
    expression: str = LONG_FORMULA
    """The task "formula": x1, x2, pi, e, + - * / ** and functions such as sin, exp, max."""
    hidden: tuple[int, ...] = (32, 32)
    """Widths of the hidden layers."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """A network each; the figures show the first."""
    mixing_seeds: int = 20
    """Networks for the question which site mixes the inputs; 0 leaves it out."""
    mixing_hidden: tuple[int, ...] = (32, 32, 32, 32)
    """Widths of their hidden layers."""
    sizes: bool = True
    """Whether to measure how the error falls with width, depth and regions (15 sizes, for the product)."""
    examples: int = 8000
    """Examples that each network is trained on, uniform on the unit cube."""
    steps: int = 3000
    """Full-batch steps of Adam."""
    learning_rate: float = 5e-3
    """Of Adam."""
    max_regions: int = 1_000_000
    """Stop where a network has more regions on a plane."""

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in TASKS:
                raise ValueError(f"tasks must be of {', '.join(TASKS)}, got {task}")
        if not self.tasks and not self.sizes:
            raise ValueError(
                "tasks must hold at least one value where sizes are left out, got none"
            )
        for name in ("seeds", "hidden", "mixing_hidden"):
            if not getattr(self, name):
                raise ValueError(f"{name} must hold at least one value, got none")
        for name in ("tasks", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {', '.join(map(str, values))}")
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        for name in ("hidden", "mixing_hidden"):
            for width in getattr(self, name):
                check_integer(width, name, 1)
        check_integer(self.examples, "examples", 1)
        check_integer(self.mixing_seeds, "mixing_seeds", 0)
        check_integer(self.max_regions, "max_regions", 1)
        self.training(2, 1)  # checks the rest
        if "formula" in self.tasks:
            if Formula(self.expression).n_inputs > 2:
                raise ValueError(f"expression must be of x1 and x2 only, got {self.expression!r}")
        elif self.expression != LONG_FORMULA:
            raise ValueError(
                'expression must be left out where "formula" is not among the tasks, '
                f"got {self.expression!r}"
            )

    def training(
        self, inputs: int, outputs: int, hidden: tuple[int, ...] | None = None
    ) -> TrainConfig:
        widths = (inputs, *(self.hidden if hidden is None else hidden), outputs)
        return TrainConfig(widths, self.steps, self.learning_rate)


@dataclass(frozen=True, eq=False)
class Seen:
    """One network on one slice."""

    case: Case
    slice: Slice
    seed: int
    loss: float
    found: Regions2D
    errors: FieldErrors
    best_rms: float
    """The least that so many regions can reach, see `gradsplinter.field.best_rms`."""

    def columns(self) -> dict[str, object]:
        """A row of fields.csv."""
        return {
            "task": self.case.name,
            "slice": self.slice.name,
            "seed": self.seed,
            "loss": self.loss,
            "regions": len(self.found),
            "edges": self.found.n_edges,
            "mean_degree": float(self.found.degrees.double().mean()),
            "slivers": int(self.found.slivers.sum()),
            "angle": self.errors.angle,
            "relative": self.errors.relative,
            "rms": self.errors.rms,
            "best_rms": self.best_rms,
        }


@dataclass(frozen=True)
class Size:
    """One network of the product task, of some size."""

    hidden: tuple[int, ...]
    seed: int
    loss: float
    regions: int
    angle: float
    relative: float
    rms: float
    best_rms: float

    @property
    def parameters(self) -> int:
        return sum(n * (m + 1) for m, n in pairwise((2, *self.hidden, 1)))

    def columns(self) -> dict[str, object]:
        """A row of sizes.csv."""
        return vars(self) | {
            "hidden": "-".join(map(str, self.hidden)),
            "depth": len(self.hidden),
            "width": self.hidden[0],
            "parameters": self.parameters,
        }


@dataclass(frozen=True)
class Interference:
    """How much the field of one product changes as the inputs of the other move."""

    seed: int
    change: float
    """sqrt of the mean of ‖g - mean g‖² over that of ‖g*‖²."""
    error: float
    """The same of the field's error at 0.5."""


class Frame(NamedTuple):
    """A moment of training."""

    step: int
    regions: int
    found: Regions2D | None
    """These; none where there are more than `MOST_DRAWN`."""


@dataclass(frozen=True, eq=False)
class FieldResult:
    config: FieldConfig
    seen: list[Seen]
    interference: list[Interference]
    sizes: list[Size]
    mixing: list[Mixing]
    switching: list[Switching]
    frames: dict[str, list[Frame]]
    """By task: along the training of its first network, on its first slice."""

    def first(self, case: str) -> list[Seen]:
        """The slices of the first network."""
        seed = self.config.seeds[0]
        return [seen for seen in self.seen if seen.case.name == case and seen.seed == seed]

    @cached_property
    def sampled(self) -> dict[str, Tensor]:
        """Regions that so many random points (SAMPLES) find, for the first slice of each task."""
        firsts = {
            seen.case.name: seen
            for seen in reversed(self.seen)
            if seen.seed == self.config.seeds[0]
        }
        return {name: sampled_counts(firsts[name].found, SAMPLES) for name in self.config.tasks}

    @property
    def exponent(self) -> Fit:
        """Of the rms error against the number of regions, over all networks of all sizes."""
        return fit_exponent(
            [size.regions for size in self.sizes],
            [size.rms for size in self.sizes],
            [size.hidden for size in self.sizes],
        )

    def mixing_depths(self, task: str, *, trained: bool = True) -> dict[str, Tensor]:
        """For each pair of inputs, how many layers they run apart, float64 by seed.

        It is the sum of their orthogonality over sites 0 (where it is 1) to the last hidden one: the
        mean site at which it is lost.
        """
        rows = [row for row in self.mixing if (row.task, row.trained) == (task, trained)]
        seeds = sorted({row.seed for row in rows})
        depths = {row.pair: torch.ones(len(seeds), dtype=torch.float64) for row in rows}
        for row in rows:
            depths[row.pair][seeds.index(row.seed)] += row.orthogonality
        return depths

    def switching_depths(self, task: str, *, trained: bool = True) -> dict[str, Tensor]:
        """For each input that moves, the mean layer that switches the others, float64 by seed."""
        rows = [row for row in self.switching if (row.task, row.trained) == (task, trained)]
        seeds = sorted({row.seed for row in rows})
        depths = {row.moved: torch.zeros(len(seeds), dtype=torch.float64) for row in rows}
        for row in rows:
            depths[row.moved][seeds.index(row.seed)] += row.site * row.share
        return depths


class Fit(NamedTuple):
    """y = c · x^slope."""

    slope: float
    error: float
    """Standard error of the slope."""


def fit_exponent(x: Sequence[float], y: Sequence[float], kinds: Sequence[Hashable]) -> Fit:
    """Least squares of log y against log x.

    Args:
        x, y: positive; x not all the same.
        kinds: of each point. Those of a kind may go wrong together: the standard error takes only kinds
            as independent (Liang and Zeger 1986).

    Raises:
        ValueError: fewer than three kinds, or one x only; numbers that are not positive.

    Examples:
        >>> round(fit_exponent([1, 10, 100], [5, 0.5, 0.05], "abc").slope, 9)
        -1.0
    """
    number = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
    n = len(number)
    if n < 3 or len(set(x)) < 2:
        raise ValueError(f"x must differ and be of three kinds at least, got {n} kinds")
    if not len(x) == len(y) == len(kinds):
        raise ValueError(f"x, y and kinds must be as long, got {len(x)}, {len(y)} and {len(kinds)}")
    if min(*x, *y) <= 0:
        raise ValueError(f"x and y must be positive, got {min(*x, *y)}")
    a, b = torch.tensor([x, y], dtype=torch.float64).log()
    a, b = a - a.mean(), b - b.mean()
    slope = float((a @ b) / (a @ a))
    pulls = torch.zeros(n, dtype=torch.float64)
    pulls.index_add_(0, torch.tensor([number[kind] for kind in kinds]), a * (b - slope * a))
    spread = float(pulls.square().sum()) * n / (n - 1)
    return Fit(slope, spread**0.5 / float(a @ a))


def run_field(config: FieldConfig, *, progress: bool = True) -> FieldResult:
    """Train and measure.

    Args:
        config: what to train and measure.
        progress: show progress bars.

    Examples:
        >>> config = FieldConfig(tasks=("formula",), seeds=(0,), hidden=(8,), steps=20, examples=100,
        ...                      mixing_seeds=0, sizes=False)
        >>> result = run_field(config, progress=False)
        >>> result.seen[0].found.complete
        True
    """
    seen: list[Seen] = []
    moved: list[Interference] = []
    frames: dict[str, list[Frame]] = {}
    for name in config.tasks:
        case = case_of(name, config.expression)
        steps = sorted({round(config.steps * (i / FRAMES) ** 2) for i in range(FRAMES + 1)})
        film = frames.setdefault(name, [])
        where = case.slices[0].plane()

        def at_step(step: int, network: ReluNetwork, i: int) -> None:
            if i == 0:
                found = plane(network, *where, max_regions=config.max_regions)  # noqa: B023 (called before the next task)
                count = len(found)
                film.append(Frame(step, count, found if count <= MOST_DRAWN else None))  # noqa: B023

        networks, losses = _trained(config, case, config.seeds, progress, steps, at_step)
        for seed, network, loss in zip(config.seeds, networks, losses, strict=True):
            seen += [_see(config, case, view, seed, network, loss) for view in case.slices]
            if name == "products":
                moved.append(interference(case, seed, network, max_regions=config.max_regions))
    sizes = _sizes(config, progress) if config.sizes else []
    mixing, switches = _mixing(config, progress)
    return FieldResult(config, seen, moved, sizes, mixing, switches, frames)


def _trained(
    config: FieldConfig,
    case: Case,
    seeds: Sequence[int],
    progress: bool,
    checkpoints: Sequence[int] = (),
    callback: Callable[[int, ReluNetwork, int], None] | None = None,
    hidden: tuple[int, ...] | None = None,
) -> tuple[list[ReluNetwork], list[float]]:
    data = [_data(config, case, seed) for seed in seeds]
    trained = train(
        config.training(case.task.n_inputs, case.task.n_outputs, hidden),
        torch.stack([x for x, _ in data]),
        torch.stack([y for _, y in data]),
        seeds,
        checkpoints=checkpoints,
        callback=callback,
        progress=progress,
    )
    return trained.networks, trained.losses[:, -1].tolist()


def _data(config: FieldConfig, case: Case, seed: int) -> tuple[Tensor, Tensor]:
    x = case.sample(config.examples, generator_of(seed, "training examples"))
    return x, case.task.target(x)


def _see(
    config: FieldConfig, case: Case, view: Slice, seed: int, network: ReluNetwork, loss: float
) -> Seen:
    found = plane(network, *view.plane(), max_regions=config.max_regions)
    errors = field_errors(found, case.exact)
    return Seen(case, view, seed, loss, found, errors, best_rms(found, case.exact, len(found)))


def interference(
    case: Case, seed: int, network: ReluNetwork, steps: int = 5, max_regions: int = 1_000_000
) -> Interference:
    """Move the other product's inputs over a grid, and compare the fields at points of a grid."""
    axis = (torch.arange(48, dtype=torch.float64) + 0.5) / 48
    points = torch.cartesian_prod(axis, axis)
    others = torch.linspace(0, 1, steps, dtype=torch.float64).tolist()
    fields = []
    for a in others:
        for b in others:
            where = Slice("", (None, None, a, b)).plane()
            found = plane(network, *where, max_regions=max_regions)
            fields.append(network_field(found, points))
    moved = torch.stack(fields)
    found = plane(network, *case.slices[0].plane(), max_regions=max_regions)
    exact = points.flip(1)
    size = exact.square().sum(1).mean()
    change = (moved - moved.nanmean(0)).square().sum(2).nanmean()
    error = (network_field(found, points) - exact).square().sum(1).nanmean()
    return Interference(seed, float((change / size).sqrt()), float((error / size).sqrt()))


def _sizes(config: FieldConfig, progress: bool) -> list[Size]:
    case = Case("product", Formula("x1*x2"), uniform(2), (Slice("x1 x2", (None, None)),), UNIT * 2)
    rows = []
    for hidden in SIZES:
        networks, losses = _trained(config, case, config.seeds, progress, hidden=hidden)
        for seed, network, loss in zip(config.seeds, networks, losses, strict=True):
            at = _see(config, case, case.slices[0], seed, network, loss)
            rows.append(
                Size(hidden, seed, loss, len(at.found), at.errors.angle, at.errors.relative,
                     at.errors.rms, at.best_rms)
            )  # fmt: skip
    return rows


def _mixing(config: FieldConfig, progress: bool) -> tuple[list[Mixing], list[Switching]]:
    mixing: list[Mixing] = []
    switches: list[Switching] = []
    seeds = range(config.mixing_seeds)
    for name in [task for task in config.tasks if task in MIXING and seeds]:
        case = case_of(name, config.expression)
        networks, _ = _trained(config, case, seeds, progress, hidden=config.mixing_hidden)
        for seed, trained in zip(seeds, networks, strict=True):
            for net in (trained, initialise(trained.widths, seed)):
                rows = measure(net, case, seed, trained=net is trained)
                mixing += rows[0]
                switches += rows[1]
    return mixing, switches
