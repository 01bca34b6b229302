"""How does task orthogonality inside a network fall as two tasks are mixed?

Networks learn two products, each target being (1 - λ) · own + λ · other. The splinters of the two
outputs are taken at every site before the output, and both scores are compared with the exact
orthogonality of the target functions at the input, with untrained networks, and with networks that mix
late by construction: those of λ = 0 whose outputs are mixed by hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradsplinter.checks import check_integer
from gradsplinter.draws import generator_of
from gradsplinter.network import ReluNetwork
from gradsplinter.scores import unit_rows
from gradsplinter.splinters import Splinters
from gradsplinter.table import splinter
from gradsplinter.tasks import ParallelProducts, SoftMixing, exact_orthogonality
from gradsplinter.train import TrainConfig, Trained, initialise, train


@dataclass(frozen=True)
class MixingConfig:
    """What is trained and measured.

    Raises:
        ValueError: a λ outside [0, 1], a repeated λ or seed, a number that must be positive is not.
        TypeError: an unknown key, in `from_dict`.

    Examples:
        >>> MixingConfig(seeds=(0,)).networks
        11
    """

    lambdas: tuple[float, ...] = tuple(i / 20 for i in range(11))
    """Mixing strengths λ in [0, 1]: 0 is two separate tasks, 0.5 one task twice."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One network per seed and λ: its data and initial weights."""
    hidden: tuple[int, ...] = (16, 16)
    """Widths of the hidden layers."""
    training_examples: int = 8000
    """Examples that each network is trained on."""
    validation_examples: int = 2000
    """Examples that splinters are taken from."""
    steps: int = 1000
    """Full-batch steps of Adam."""
    learning_rate: float = 1e-2
    """Of Adam."""

    def __post_init__(self) -> None:
        for strength in self.lambdas:
            if not 0 <= strength <= 1:
                raise ValueError(f"lambdas must be in [0, 1], got {strength}")
        for name in ("lambdas", "seeds", "hidden"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} must hold at least one value, got none")
            if name != "hidden" and len(set(values)) < len(values):
                raise ValueError(f"{name} must not repeat, got {list(values)}")
        for name in ("training_examples", "validation_examples"):
            check_integer(getattr(self, name), name, 1)
        for width in self.hidden:
            check_integer(width, "hidden", 1)
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        self.training()  # checks the rest

    @property
    def networks(self) -> int:
        """The number of networks that are trained."""
        return len(self.lambdas) * len(self.seeds)

    @property
    def sites(self) -> range:
        """The source sites: the input and every hidden site."""
        return range(len(self.hidden) + 1)

    def training(self) -> TrainConfig:
        return TrainConfig((4, *self.hidden, 2), self.steps, self.learning_rate)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MixingConfig:
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(values) - known:
            raise TypeError(
                f"config must have only the keys {sorted(known)}, got also {sorted(unknown)}"
            )
        read: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**read)


@dataclass(frozen=True)
class Row:
    """One network at one site."""

    kind: str
    """"trained", "untrained" or "mixed by hand": trained at λ = 0, then `mix_outputs` with λ."""
    strength: float | None
    """λ; None for an untrained network, which does not depend on it."""
    seed: int
    site: int
    theory: float | None
    """Of the exact gradients; only at the input site of a trained network."""
    paired: float
    all_pairs: float
    modes: int
    unique_gradients: int
    """Of both outputs together."""
    co_appearance: float
    """The least of both outputs."""
    zero_gradients: int
    """Over modes and outputs."""
    loss: float | None
    """Final training loss; only of a trained network."""


@dataclass(frozen=True, eq=False)
class MixingResult:
    """Networks are ordered by λ, then by seed."""

    config: MixingConfig
    trained: Trained
    rows: list[Row]
    similarities: dict[tuple[float, int, int], Tensor]
    """abs(cos) between the unique gradients of output 1 and then output 2, by (λ, seed, site)."""

    def mean(self, site: int, score: str, kind: str = "trained") -> Tensor:
        """Mean over seeds of a column for each λ, float64 [λ]."""
        return self.scores(site, score, kind).mean(dim=1)

    def scores(self, site: int, score: str, kind: str = "trained") -> Tensor:
        """A column for each λ and seed, float64 [λ, seeds]; one λ for untrained networks.

        Networks mixed by hand have no λ where the configuration has no λ = 0.
        """
        values = [getattr(row, score) for row in self.rows if (row.site, row.kind) == (site, kind)]
        return torch.tensor(values, dtype=torch.float64).view(-1, len(self.config.seeds))

    def deviation(self, score: str) -> float:
        """Mean over λ of abs(score - theory) at the input site, each averaged over seeds."""
        return float((self.mean(0, score) - self.mean(0, "theory")).abs().mean())


def mix_outputs(net: ReluNetwork, strength: float) -> ReluNetwork:
    """The network with outputs (1 - λ) · own + λ · other: mixed as late as can be.

    Args:
        net: a network of two outputs.
        strength: λ.

    Examples:
        >>> net = ReluNetwork([torch.eye(2)], [torch.tensor([0.0, 4.0])])
        >>> mix_outputs(net, 0.25)(torch.tensor([[8.0, 0.0]]))
        tensor([[7., 5.]])
    """
    mixture = torch.tensor(
        [[1 - strength, strength], [strength, 1 - strength]], dtype=net.dtype, device=net.device
    )
    return ReluNetwork(
        (*net.weights[:-1], mixture @ net.weights[-1]), (*net.biases[:-1], mixture @ net.biases[-1])
    )


def run_mixing(
    config: MixingConfig, *, trained: Trained | None = None, progress: bool = True
) -> MixingResult:
    """Train (unless `trained` holds the networks of this very configuration) and measure.

    Args:
        config: what to train and measure.
        trained: networks of an earlier run, ordered by λ, then by seed.
        progress: show a progress bar.

    Raises:
        ValueError: `trained` holds other networks.

    Examples:
        >>> config = MixingConfig(lambdas=(0.0, 0.5), seeds=(0,), steps=5, training_examples=50,
        ...                       validation_examples=20)
        >>> result = run_mixing(config, progress=False)
        >>> len(result.rows)  # two networks, two mixed by hand and an untrained one, at three sites
        15
    """
    data = {seed: _sample(config, seed) for seed in config.seeds}
    if trained is None:
        trained = _train(config, data, progress)
    _check_trained(trained, config)
    rows: list[Row] = []
    similarities: dict[tuple[float, int, int], Tensor] = {}
    networks = iter(zip(trained.networks, trained.losses[:, -1].tolist(), strict=True))
    for strength in config.lambdas:
        for seed in config.seeds:
            net, loss = next(networks)
            x = data[seed][1]
            theory = exact_orthogonality(SoftMixing(ParallelProducts(2), strength), x)
            for site in config.sites:
                found = splinter(net, x, source=site)
                rows.append(
                    _row(found, "trained", strength, seed, theory if site == 0 else None, loss)
                )
                similarities[strength, seed, site] = _similarity(found)
    for kind, of, seed, net in _controls(config, trained):
        for site in config.sites:
            rows.append(_row(splinter(net, data[seed][1], source=site), kind, of, seed))
    return MixingResult(config, trained, rows, similarities)


def _controls(
    config: MixingConfig, trained: Trained
) -> Iterator[tuple[str, float | None, int, ReluNetwork]]:
    """Kind, λ, seed and network."""
    if 0 in config.lambdas:
        first = config.lambdas.index(0) * len(config.seeds)
        for strength in config.lambdas:
            for i, seed in enumerate(config.seeds, first):
                yield "mixed by hand", strength, seed, mix_outputs(trained.networks[i], strength)
    for seed in config.seeds:
        yield "untrained", None, seed, initialise(config.training().widths, seed)


def _check_trained(trained: Trained, config: MixingConfig) -> None:
    widths = config.training().widths
    if len(trained) != config.networks or any(net.widths != widths for net in trained.networks):
        raise ValueError(
            f"trained must hold {config.networks} networks of widths {widths}, got {len(trained)} "
            f"of {sorted({net.widths for net in trained.networks})}"
        )
    if tuple(trained.losses.shape) != (config.networks, config.steps):
        raise ValueError(
            f"trained must have losses of shape {[config.networks, config.steps]}, "
            f"got {list(trained.losses.shape)}"
        )


def _sample(config: MixingConfig, seed: int) -> tuple[Tensor, Tensor]:
    """Training and validation inputs; they depend on the seed and not on λ."""
    task = ParallelProducts(2)
    generator = generator_of(seed, "training and validation examples")
    return (
        task.sample(config.training_examples, generator=generator),
        task.sample(config.validation_examples, generator=generator),
    )


def _train(
    config: MixingConfig, data: Mapping[int, tuple[Tensor, Tensor]], progress: bool
) -> Trained:
    x = [data[seed][0] for _ in config.lambdas for seed in config.seeds]
    y = [
        SoftMixing(ParallelProducts(2), strength).target(data[seed][0])
        for strength in config.lambdas
        for seed in config.seeds
    ]
    seeds: Sequence[int] = [seed for _ in config.lambdas for seed in config.seeds]
    return train(config.training(), torch.stack(x), torch.stack(y), seeds, progress=progress)


def _row(
    found: Splinters,
    kind: str,
    strength: float | None,
    seed: int,
    theory: float | None = None,
    loss: float | None = None,
) -> Row:
    return Row(
        kind=kind,
        strength=strength,
        seed=seed,
        site=found.source,
        theory=theory,
        paired=found.orthogonality(),
        all_pairs=found.all_pairs_orthogonality(),
        modes=found.n_modes,
        unique_gradients=sum(len(found.gradients(d).values) for d in range(found.n_directions)),
        co_appearance=float(found.co_appearance().min()),
        zero_gradients=int(found.zero_gradients.sum()),
        loss=loss,
    )


def _similarity(found: Splinters) -> Tensor:
    """abs(cos) between all unique gradients, by output and then by direction."""
    blocks = []
    for direction in range(found.n_directions):
        units = unit_rows(found.gradients(direction).values.double())
        blocks.append(units[_by_direction(units)])
    units = torch.cat(blocks)
    return (units @ units.T).abs().clamp(max=1).float()


def _by_direction(units: Tensor) -> Tensor:
    """Rows in the order of their angle in the plane of the first two principal directions."""
    if len(units) < 3:
        return torch.arange(len(units))
    _, _, axes = torch.linalg.svd(units, full_matrices=False)
    plane = units @ axes[:2].T
    return torch.atan2(plane[:, 1], plane[:, 0]).argsort()
