"""Teaching an `Embedder` without labels: of each network some gradients are hidden and to be filled in."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from gradsplinter import io
from gradsplinter.checks import (
    check_bool,
    check_device,
    check_integer,
    check_number,
    check_numbers,
    check_values,
)
from gradsplinter.embedder import Embedder, EmbedderConfig
from gradsplinter.network import ReluNetwork
from gradsplinter.tokens import KINDS, Tokens, hide, tokens_of, turned
from gradsplinter.wording import difference

Sample = Callable[[int, torch.Generator], Tensor]
"""Examples `[n, d]` of the networks' inputs."""
Look = Callable[[Sequence[int], torch.Generator], Tokens]
"""The sets of tokens of these numbers, at examples that it draws."""

_KEY = "gradsplinter.EmbedderTraining"


@dataclass(frozen=True)
class EmbedderTrainingConfig:
    """How an embedder is taught.

    Raises:
        TypeError, ValueError: a value of another type or out of range.
    """

    steps: int = 2000
    """Of AdamW, at most."""
    batch: int = 64
    """Networks a step."""
    learning_rate: float = 5e-3
    """Of AdamW, at first; it falls to 0 along a half cosine."""
    points: int = 512
    """Examples at which each network is looked at."""
    tokens: str = "modes"
    """"modes", one token for each, or "samples", one for each example."""
    mask: tuple[float, ...] = (0.3, 0.6, 0.8, 0.9)
    """Shares of tokens that are hidden; one is drawn for each network and step."""
    absent: float = 0.75
    """Share of the networks, in each step, of which hidden tokens are not shown at all; of the others it is shown
    where they are."""
    noise: float = 0.1
    """Standard deviation of what is added to the embedding."""
    symmetries: bool = False
    """Exchange and mirror each network's inputs at random, and its sign: other functions, which are as likely where
    inputs are alike, so that it learns of more functions than there are tasks."""
    refresh: int = 50
    """Steps after which all networks are looked at anew, at other examples; 0: never."""
    validation: float = 0.1
    """Share of the networks that only say when to stop."""
    patience: int = 20
    """Validations without a better one, after which it stops; there is one at every refresh."""
    seed: int = 0
    """Of the initial weights and all that is drawn."""

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1), ("batch", 1), ("points", 2), ("refresh", 0), ("patience", 1), ("seed", 0),
        ):  # fmt: skip
            check_integer(getattr(self, name), name, least)
        if self.tokens not in KINDS:
            raise ValueError(f"tokens must be one of {', '.join(KINDS)}, got {self.tokens!r}")
        object.__setattr__(self, "mask", check_numbers(self.mask, "mask"))
        check_values(self.mask, "mask")
        for name, shares in (("mask", self.mask), ("validation", (self.validation,))):
            for share in shares:
                if not 0 < check_number(share, name) < 1:
                    raise ValueError(f"{name} must be in (0, 1), got {share}")
        if not 0 <= check_number(self.absent, "absent") <= 1:
            raise ValueError(f"absent must be in [0, 1], got {self.absent}")
        check_bool(self.symmetries, "symmetries")
        for name in ("learning_rate", "noise"):
            check_number(getattr(self, name), name)
        if not self.learning_rate > 0 or not self.noise >= 0:
            raise ValueError(
                "learning_rate must be positive and noise at least 0, got "
                f"{self.learning_rate} and {self.noise}"
            )


@dataclass(frozen=True, eq=False)
class TrainedEmbedder:
    """The embedder of the best validation.

    Attributes:
        embedder: it.
        losses: `[steps]`: of each step's batch.
        validations: (step, loss) of each validation.
    """

    embedder: Embedder
    losses: Tensor
    validations: list[tuple[int, float]]


def train_embedder(
    networks: Sequence[ReluNetwork],
    sample: Sample,
    shape: EmbedderConfig | None = None,
    config: EmbedderTrainingConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> TrainedEmbedder:
    """Teach an embedder to fill in hidden gradients of networks, from those that it is shown.

    Args:
        networks: of one output each, and as many inputs as `shape` says.
        sample: draws examples of their inputs.
        shape: of the embedder.
        config: how it is taught.
        checkpoint: a file in which it keeps its state at every validation, and from which it goes on where
            it was interrupted, to the same result, on the CPU with as many threads in every bit.
        device: where the embedder is taught; by default on the CPU. All that is drawn is the same on all
            devices. The result is on the CPU.
        progress: show a bar on stderr.

    Raises:
        ValueError: networks that do not fit, fewer than 4, or all the same affine function; a checkpoint of
            something else, or that is not whole; a device that is not there.

    Examples:
        >>> from gradsplinter.train import initialise
        >>> nets = [initialise([2, 8, 1], seed) for seed in range(8)]
        >>> draw = lambda n, generator: torch.rand(n, 2, generator=generator)
        >>> found = train_embedder(nets, draw, config=EmbedderTrainingConfig(steps=50), progress=False)
        >>> found.losses.shape, [step for step, _ in found.validations]
        (torch.Size([50]), [50])
    """
    shape, config = shape or EmbedderConfig(), config or EmbedderTrainingConfig()
    _check(networks, shape)

    def look(index: Sequence[int], generator: torch.Generator) -> Tokens:
        x = sample(config.points, generator)
        return tokens_of([networks[i] for i in index], x, kind=config.tokens, values=shape.values)

    names = [net.fingerprint for net in networks]
    return train_embedder_of(
        look, names, shape, config, checkpoint=checkpoint, device=device, progress=progress
    )


def train_embedder_of(
    look: Look,
    names: Sequence[str],
    shape: EmbedderConfig | None = None,
    config: EmbedderTrainingConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> TrainedEmbedder:
    """The same with sets of tokens of anything, as of parts of networks.

    Args:
        look: draws examples and makes the sets; called with numbers below `len(names)`.
        names: of each set, which a checkpoint must have, too.
        shape: of the embedder.
        config: how it is taught; `points` and `tokens` are for `look` to heed.
        checkpoint, device, progress: as in `train_embedder`.

    Raises:
        ValueError: fewer than 4 sets; a checkpoint of something else; a device that is not there.

    Examples:
        Both outputs of some networks:

        >>> from gradsplinter.table import splinter
        >>> from gradsplinter.tokens import joined, of_splinters
        >>> from gradsplinter.train import initialise
        >>> nets = [initialise([2, 8, 2], seed) for seed in range(4)]
        >>> def look(index, generator):
        ...     x = torch.rand(100, 2, generator=generator)
        ...     return joined([of_splinters(splinter(nets[i // 2], x), x, i % 2) for i in index])
        >>> config = EmbedderTrainingConfig(steps=50)
        >>> train_embedder_of(look, [str(i) for i in range(8)], config=config, progress=False).losses.shape
        torch.Size([50])
    """
    shape, config = shape or EmbedderConfig(), config or EmbedderTrainingConfig()
    if len(names) < 4:
        raise ValueError(f"names must be at least 4, got {len(names)}")
    state = _State(look, names, shape, config, check_device(device))
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"checkpoint must be in a folder that is there, got {path}")
    if path is not None and path.exists():
        state.load(path)
    with tqdm(
        total=config.steps, initial=state.step, disable=not progress, unit="step", desc="embedder"
    ) as bar:
        while state.step < config.steps and not state.out_of_patience:
            state.run(bar)
            if path is not None:
                io.write_file(path, state.to_bytes())
    return state.result()


class _State:
    """All that a training has, between two validations."""

    def __init__(
        self,
        look: Look,
        names: Sequence[str],
        shape: EmbedderConfig,
        config: EmbedderTrainingConfig,
        device: torch.device,
    ) -> None:
        self.config, self.draw, self.device = config, look, device
        self.generator = torch.Generator().manual_seed(config.seed)
        order = torch.randperm(len(names), generator=self.generator).tolist()
        count = min(max(1, round(config.validation * len(names))), len(names) - 1)
        self.validation, self.training = order[:count], order[count:]
        self.about = {
            "shape": asdict(shape),
            "config": asdict(config) | {"mask": list(config.mask)},
            "networks": list(names),
            "versions": {"torch": torch.__version__},
        }
        self.embedder = Embedder(shape, config.seed).to(device)
        self.asked = self._look(self.validation)  # the same at each validation
        self.hidden = hide(self.asked, config.mask, self.generator)
        self.asked_absent = self._absent(len(self.asked))
        self.tokens = self._look(self.training)
        values = self.tokens.values[self.tokens.shares > 0]
        if bool((values == values[0]).all()):
            raise ValueError(
                f"networks must not all be the same affine function, got only the gradient {values[0].tolist()}"
            )
        self.embedder.standardise(self.tokens)
        self.optimizer = torch.optim.AdamW(self.embedder.parameters(), config.learning_rate)
        self.best = copy.deepcopy(self.embedder.state_dict())
        self.step, self.losses = 0, torch.zeros(config.steps)
        self.validations: list[tuple[int, float]] = []

    @property
    def out_of_patience(self) -> bool:
        found = [loss for _, loss in self.validations]
        return bool(found) and len(found) - 1 - found.index(min(found)) >= self.config.patience

    def run(self, bar: tqdm[NoReturn]) -> None:
        """Until the next validation, which is included."""
        config = self.config
        if self.step > 0 and config.refresh:
            self.tokens = self._look(self.training)
            self.embedder.widen(self.tokens)
        for _ in range(min(config.refresh or 50, config.steps - self.step)):
            chosen = torch.randperm(len(self.training), generator=self.generator)[: config.batch]
            tokens = self.tokens[chosen]
            if config.symmetries:
                tokens = turned(tokens, self.embedder.point_mean, self.generator)
            visible = ~hide(tokens, config.mask, self.generator)
            noise = torch.randn(len(tokens), self.embedder.config.size, generator=self.generator)
            noise = config.noise * noise.to(self.device)
            rate = config.learning_rate * half_cosine(self.step / config.steps)
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.zero_grad()
            absent = self._absent(len(tokens))
            loss = self.embedder.cloze_loss(tokens, visible, absent, noise).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(self.embedder.parameters(), 1.0)
            self.optimizer.step()
            self.losses[self.step] = loss.detach()
            self.step += 1
            bar.update()
        with torch.no_grad():
            losses = self.embedder.cloze_loss(self.asked, ~self.hidden, self.asked_absent)
            found = float(losses.mean())
        if not math.isfinite(found):
            raise ValueError(
                f"learning_rate must be small enough to train, got {config.learning_rate:g}, with which "
                f"the loss is {found} after {self.step} steps"
            )
        if not self.validations or found < min(loss for _, loss in self.validations):
            self.best = copy.deepcopy(self.embedder.state_dict())
        self.validations.append((self.step, found))
        bar.set_postfix_str(f"validation {found:.4f}")

    def result(self) -> TrainedEmbedder:
        embedder = copy.deepcopy(self.embedder)
        embedder.load_state_dict(self.best)
        embedder.to("cpu").eval().requires_grad_(False)
        return TrainedEmbedder(embedder, self.losses[: self.step].clone(), list(self.validations))

    def to_bytes(self) -> bytes:
        tensors = {f"model.{name}": value for name, value in self.embedder.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        tensors |= {
            "generator": self.generator.get_state(),
            "losses": self.losses,
            "tokens.points": self.tokens.points,
            "tokens.values": self.tokens.values,
            "tokens.shares": self.tokens.shares,
        }
        about = self.about | {"step": self.step, "validations": self.validations}
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        return save(tensors, metadata={_KEY: json.dumps(about)})

    def load(self, path: Path) -> None:
        metadata, tensors = io.read_safetensors(path, "checkpoint")
        about = io.json_object(metadata.get(_KEY, ""))
        other = difference({key: about.get(key) for key in self.about}, self.about)
        if other:
            raise ValueError(f"checkpoint must be of the same training, got {path} with {other}")
        try:
            self._restore(about, tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"checkpoint must be whole, got {path}: {error}") from error

    def _restore(self, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.embedder.load_state_dict(_part(tensors, "best."))
        self.best = _part(tensors, "best.")
        self.embedder.load_state_dict(_part(tensors, "model."))
        groups = self.optimizer.state_dict()["param_groups"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimizer.").items():
            i, key = name.split(".")
            moments.setdefault(int(i), {})[key] = value
        of_each = [{"step", "exp_avg", "exp_avg_sq"}] * len(groups[0]["params"])
        if [{*moments.get(i, {})} for i in groups[0]["params"]] != of_each:
            raise ValueError("moments of some parameters are missing")
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(tensors["generator"])
        self.losses, self.step = tensors["losses"], about["step"]
        self.tokens = Tokens(**_part(tensors, "tokens.")).to(self.device)
        self.validations = [(step, loss) for step, loss in about["validations"]]

    def _absent(self, sets: int) -> Tensor:
        drawn = torch.rand(sets, 1, generator=self.generator) < self.config.absent
        return drawn.to(self.device)

    def _look(self, index: Sequence[int]) -> Tokens:
        return self.draw(index, self.generator).to(self.embedder.point_mean)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def half_cosine(progress: float) -> float:
    """1 at the begin, 0 at the end.

    Examples:
        >>> half_cosine(0.0), round(half_cosine(0.5), 6)
        (1.0, 0.5)
    """
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * progress, dtype=torch.float64))))


def _check(networks: Sequence[ReluNetwork], shape: EmbedderConfig) -> None:
    if len(networks) < 4:
        raise ValueError(f"networks must be at least 4, got {len(networks)}")
    for i, net in enumerate(networks):
        if not isinstance(net, ReluNetwork):
            raise TypeError(f"networks[{i}] must be a ReluNetwork, got {type(net).__name__}")
        if (net.widths[0], net.widths[-1]) != (shape.inputs, 1):
            raise ValueError(
                f"networks[{i}] must have {shape.inputs} inputs, as the embedder, and 1 output, "
                f"got {net.widths[0]} and {net.widths[-1]}"
            )
