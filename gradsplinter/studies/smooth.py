"""Do splinters say anything of networks with smooth activations, whose gradients never repeat?

The same networks learn two products, mixed by λ, with ReLU and with a smooth activation. Their gradients are
grouped in two ways: by the levels of their slopes, and by the angle between them. The more groups, the
nearer is the gradient of a group to those of its examples; how near is compared with ReLU, whose groups are
exact. And the orthogonality of the two outputs is followed along λ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from gradsplinter.checks import check_integer, check_values
from gradsplinter.clusters import clusters
from gradsplinter.draws import generator_of
from gradsplinter.operations import SlopeLevels
from gradsplinter.ops import unique_rows
from gradsplinter.scores import orthogonality
from gradsplinter.splinters import Splinters
from gradsplinter.table import splinter
from gradsplinter.tasks import ParallelProducts, SoftMixing, exact_orthogonality
from gradsplinter.traced import TracedNetwork
from gradsplinter.train import initialise

ACTIVATIONS: dict[str, tuple[type[nn.Module], Callable[[Tensor], Tensor]]] = {
    "relu": (nn.ReLU, F.relu),
    "gelu": (nn.GELU, F.gelu),
    "silu": (nn.SiLU, F.silu),
    "softplus": (nn.Softplus, F.softplus),
    "tanh": (nn.Tanh, torch.tanh),
}

CURVE = 101
"""Points at which the curve of theory is drawn."""


@dataclass(frozen=True)
class SmoothConfig:
    """What is trained and measured.

    Raises:
        ValueError: an unknown activation, a number out of range, a list without values.
    """

    activations: tuple[str, ...] = ("relu", "gelu")
    """Of relu, gelu, silu, softplus, tanh."""
    lambdas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    """Mixing strengths λ; gradients are grouped at the first."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """A network for each, and λ and activation."""
    hidden: tuple[int, ...] = (16, 16)
    """Widths of the hidden layers."""
    bits: tuple[int, ...] = (1, 2, 3, 4)
    """Of each unit's slope."""
    angles: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0)
    """Diameters of clusters of gradients, in degrees."""
    training_examples: int = 4000
    """Examples that each network is trained on."""
    examples: int = 2000
    """Examples whose gradients are grouped; other ones choose the levels."""
    steps: int = 1500
    """Full-batch steps of Adam."""
    learning_rate: float = 1e-2
    """Of Adam."""

    def __post_init__(self) -> None:
        for name in ("activations", "lambdas", "seeds", "bits", "angles"):
            check_values(getattr(self, name), name)
        if not self.hidden:
            raise ValueError("hidden must hold at least one value, got none")
        for activation in self.activations:
            if activation not in ACTIVATIONS:
                raise ValueError(
                    f"activations must be of {', '.join(ACTIVATIONS)}, got {activation}"
                )
        for strength in self.lambdas:
            if not 0 <= strength <= 1:
                raise ValueError(f"lambdas must be in [0, 1], got {strength}")
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        for width in self.hidden:
            check_integer(width, "hidden", 1)
        for count in self.bits:
            SlopeLevels(count)
        for angle in self.angles:
            if not 0 < angle <= 90:
                raise ValueError(f"angles must be in (0, 90], got {angle}")
        for name in ("training_examples", "examples", "steps"):
            check_integer(getattr(self, name), name, 1)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True)
class Grouping:
    """One way to group the gradients of one network."""

    activation: str
    seed: int
    way: str
    """"modes" (of ReLU), "quantiles" and "equal widths" (levels of slopes), or "clusters"."""
    parameter: float
    """Bits of a slope, or degrees; 0 for modes."""
    groups: float
    """Different gradients that stand for others, mean of the two outputs."""
    error: float
    """sqrt of the mean of ‖g - group's‖² over that of ‖g‖², over examples and outputs."""
    angle: float
    """Between g and its group's, in degrees: mean over examples and outputs, each as much as its ‖g‖."""


@dataclass(frozen=True)
class Score:
    """The orthogonality of the outputs of one network."""

    activation: str
    strength: float
    seed: int
    loss: float
    """Mean squared error / variance of the targets."""
    theory: float
    """Of the exact gradients of the targets."""
    exact: float
    """Of the gradients of every example."""
    levels: dict[int, float]
    """Of the gradients in levels (quantiles), by bits."""

    def columns(self) -> dict[str, object]:
        """One value a column."""
        flat = {k: v for k, v in vars(self).items() if k != "levels"}
        return flat | {f"levels_{bits}": value for bits, value in self.levels.items()}


@dataclass(frozen=True, eq=False)
class SmoothResult:
    config: SmoothConfig
    groupings: list[Grouping]
    scores: list[Score]
    theory: list[tuple[float, float]]
    """λ, densely from the least to the greatest, and the orthogonality of the exact gradients: means over seeds."""


def run_smooth(config: SmoothConfig, *, progress: bool = True) -> SmoothResult:
    """Train and measure.

    Examples:
        >>> config = SmoothConfig(lambdas=(0.0,), seeds=(0,), steps=5, training_examples=100, examples=50)
        >>> found = run_smooth(config, progress=False)
        >>> [g.error < 1e-6 for g in found.groupings if g.way == "modes"]
        [True]
    """
    groupings, scores = [], []
    total = len(config.activations) * len(config.lambdas) * len(config.seeds)
    with tqdm(total=total, disable=not progress, unit="network") as bar:
        for activation in config.activations:
            for strength in config.lambdas:
                task = SoftMixing(ParallelProducts(2), strength)
                for seed, module, loss in _trained(config, activation, task):
                    x, other = _examples(config, task, seed)
                    exact = gradients(module, x)
                    levels = {
                        bits: _by_levels(module, SlopeLevels(bits), other, x).orthogonality()
                        for bits in config.bits
                    }
                    theory = exact_orthogonality(task, x)
                    of_net = orthogonality(exact)
                    scores.append(Score(activation, strength, seed, loss, theory, of_net, levels))
                    if strength == config.lambdas[0]:
                        groupings += _groupings(config, activation, seed, module, x, other, exact)
                    bar.update()
    return SmoothResult(config, groupings, scores, _theory(config))


def _examples(config: SmoothConfig, task: SoftMixing, seed: int) -> tuple[Tensor, Tensor]:
    """Those that are measured, and those that choose the levels; the same for any λ."""
    generator = generator_of(seed, "fresh examples")
    x = task.sample(config.examples, generator=generator)
    return x, task.sample(config.examples, generator=generator)


def _theory(config: SmoothConfig) -> list[tuple[float, float]]:
    found = []
    least, most = min(config.lambdas), max(config.lambdas)
    points = CURVE if most > least else 1
    for strength in torch.linspace(least, most, points, dtype=torch.float64).tolist():
        task = SoftMixing(ParallelProducts(2), strength)
        values = [
            exact_orthogonality(task, _examples(config, task, seed)[0]) for seed in config.seeds
        ]
        found.append((strength, sum(values) / len(values)))
    return found


def _trained(
    config: SmoothConfig, activation: str, task: SoftMixing
) -> list[tuple[int, nn.Sequential, float]]:
    """Seed, network and loss; all seeds are trained together, from the same weights for any activation."""
    generators = [generator_of(seed, "training examples") for seed in config.seeds]
    x = torch.stack([task.sample(config.training_examples, generator=g) for g in generators])
    y = torch.stack([task.target(of_one) for of_one in x])
    widths = (task.n_inputs, *config.hidden, task.n_outputs)
    starts = [initialise(widths, seed) for seed in config.seeds]
    weights = [torch.stack(w) for w in zip(*(net.weights for net in starts), strict=True)]
    biases = [
        torch.stack(b).unsqueeze(1) for b in zip(*(net.biases for net in starts), strict=True)
    ]
    parameters = [p.requires_grad_() for p in (*weights, *biases)]
    optimiser = torch.optim.Adam(parameters, config.learning_rate)
    kind, function = ACTIVATIONS[activation]
    losses = torch.zeros(len(config.seeds))
    for _ in range(config.steps):
        a = x
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            a = torch.baddbmm(bias, function(a) if layer else a, weight.mT)
        losses = (a - y).square().mean(dim=(1, 2))
        optimiser.zero_grad()
        losses.sum().backward()
        optimiser.step()
    relative = (losses.detach() / y.var(dim=1).mean(dim=1)).tolist()
    found = []
    for i, seed in enumerate(config.seeds):
        layers: list[nn.Module] = []
        for weight, bias in zip(weights, biases, strict=True):
            linear = nn.Linear(weight.shape[2], weight.shape[1])
            linear.weight.data, linear.bias.data = weight[i].detach(), bias[i, 0].detach()
            layers += [linear, kind()]
        found.append((seed, nn.Sequential(*layers[:-1]).requires_grad_(False), relative[i]))
    return found


def gradients(module: nn.Module, x: Tensor) -> Tensor:
    """Of every output in every example, exactly: `[N, D, h_0]`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = module(x)
        found = [
            torch.autograd.grad(y[:, d].sum(), x, retain_graph=True)[0] for d in range(y.shape[1])
        ]
    return torch.stack(found, dim=1)


def _by_levels(module: nn.Module, levels: SlopeLevels, other: Tensor, x: Tensor) -> Splinters:
    """Of ReLU its modes, which have two slopes whatever the levels."""
    net = TracedNetwork.from_module(module, levels=levels, calibration=other)
    return splinter(net, x)


def _groupings(
    config: SmoothConfig, activation: str, seed: int, module: nn.Module, x: Tensor, other: Tensor,
    exact: Tensor,
) -> list[Grouping]:  # fmt: skip
    found = []
    if activation == "relu":
        found.append(("modes", 0.0, *_of_splinters(splinter(module, x), exact)))
    else:
        for quantiles, way in ((True, "quantiles"), (False, "equal widths")):
            for bits in config.bits:
                grouped = _by_levels(module, SlopeLevels(bits, quantiles), other, x)
                found.append((way, float(bits), *_of_splinters(grouped, exact)))
    for angle in config.angles:
        found.append(("clusters", angle, *_of_clusters(exact, math.radians(angle))))
    return [Grouping(activation, seed, *row) for row in found]


def _of_splinters(grouped: Splinters, exact: Tensor) -> tuple[float, float, float]:
    """Groups, error and angle."""
    assert grouped.ids is not None
    groups = [len(grouped.gradients(d).values) for d in range(grouped.n_directions)]
    return sum(groups) / len(groups), *_errors(grouped.jacobian()[grouped.ids], exact)


def _of_clusters(exact: Tensor, diameter: float) -> tuple[float, float, float]:
    """Each cluster's mean stands for its gradients; clusters are cut at the diameter."""
    stand, counts = torch.empty_like(exact), []
    for d in range(exact.shape[1]):
        of_one = exact[:, d].contiguous()
        ids = clusters(of_one, min(diameter, math.pi / 2), max_diameter=diameter).ids
        ids = unique_rows(ids.unsqueeze(1)).ids  # zero gradients are a group of their own
        sums = torch.zeros(int(ids.max()) + 1, of_one.shape[1]).index_add_(0, ids, of_one)
        counts.append(len(sums))
        stand[:, d] = (sums / ids.bincount().unsqueeze(1))[ids]
    return sum(counts) / len(counts), *_errors(stand, exact)


def _errors(found: Tensor, exact: Tensor) -> tuple[float, float]:
    """Relative error, and angle in degrees."""
    found, exact = found.double().flatten(0, 1), exact.double().flatten(0, 1)
    lengths = exact.norm(dim=1)
    a, b = F.normalize(found, dim=1), F.normalize(exact, dim=1)
    angles = 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))
    angle = math.degrees(float((angles * lengths).sum() / lengths.sum()))
    return float((found - exact).norm() / exact.norm()), angle
