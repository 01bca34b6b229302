"""A model that embeds networks, by their splinters: it fills in gradients that it was not shown."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save
from torch import Tensor, nn

from gradsplinter import io
from gradsplinter.checks import check_finite, check_integer
from gradsplinter.known_tasks import KnownTasks
from gradsplinter.tokens import VALUES, Tokens

SCHEMA = "schema 1"
POOLINGS = ("mean", "attention")
BEYOND = 0.05
"""How far beyond the points that it learned from a point is still well inside, by their range."""
_HEADS = 4
_KEY = "gradsplinter.Embedder"
_SHIPPED = "formulae.safetensors"


@dataclass(frozen=True)
class EmbedderConfig:
    """The shape of an `Embedder`.

    Examples:
        >>> EmbedderConfig(inputs=2).features
        14
    """

    inputs: int = 2
    """d, of the networks that are embedded."""
    size: int = 16
    """Of the embedding."""
    width: int = 64
    """Of hidden layers."""
    depth: int = 2
    """Hidden layers of the encoder before, and of that after pooling."""
    frequencies: int = 3
    """Of sines and cosines of each coordinate of a point: π/2, π, 2π, ... by its standard deviation."""
    pooling: str = "mean"
    """Over tokens, weighted by their shares: "mean" or "attention"."""
    values: str = "gradients"
    """What is filled in: "gradients" or "outputs"."""

    def __post_init__(self) -> None:
        for name in ("inputs", "size", "width", "depth"):
            check_integer(getattr(self, name), name, 1)
        check_integer(self.frequencies, "frequencies", 0)
        for name, choices in (("pooling", POOLINGS), ("values", VALUES)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )

    @property
    def value_size(self) -> int:
        return self.inputs if self.values == "gradients" else 1

    @property
    def features(self) -> int:
        """Of a point."""
        return self.inputs * (1 + 2 * self.frequencies)


class Embedder(nn.Module):
    """Tokens → one embedding → the value at any point. Permutations of tokens change nothing.

    Each token (its point, its value or that it is hidden, its share) goes through the same small network; the
    means of the results over those that are shown and over all, weighted by shares, go through a second one to
    the embedding, which lies within a ball. A third one takes the embedding and a point to the value there. Points and values are
    standardised by the training set, not by the network: sizes of gradients tell functions apart.

    After: Zaheer et al., Deep Sets (2017); Garnelo et al., Conditional Neural Processes (2018).

    Attributes:
        config: its shape.
        known: tasks by which embeddings are described; none at first. Assign `KnownTasks.of(...)`.

    Examples:
        >>> embedder = Embedder(EmbedderConfig(inputs=2), seed=0)
        >>> tokens = Tokens(torch.rand(3, 20, 2), torch.rand(3, 20, 2), torch.full((3, 20), 0.05))
        >>> embedding = embedder.encode(tokens)
        >>> embedding.shape, embedder.decode(embedding, tokens.points).shape
        (torch.Size([3, 16]), torch.Size([3, 20, 2]))
    """

    point_mean: Tensor
    point_scale: Tensor
    value_mean: Tensor
    value_scale: Tensor
    point_low: Tensor
    point_high: Tensor

    def __init__(self, config: EmbedderConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.known = KnownTasks.none(config.size)
        d, v, width = config.inputs, config.value_size, config.width
        for name, count in (("point", d), ("value", v)):
            self.register_buffer(f"{name}_mean", torch.zeros(count))
            self.register_buffer(f"{name}_scale", torch.ones(count))
        self.register_buffer("point_low", torch.full((d,), -torch.inf))
        self.register_buffer("point_high", torch.full((d,), torch.inf))
        pooled = width * (1 + (_HEADS if config.pooling == "attention" else 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(check_integer(seed, "seed", 0))
            self.of_token = _mlp(config.features + v + 2, width, width, config.depth)
            self.attention = nn.Linear(width, _HEADS) if config.pooling == "attention" else None
            self.of_set = _mlp(pooled, width, config.size, config.depth)
            self.of_point = _mlp(config.size + config.features, width, v, 2)

    def standardise(self, tokens: Tokens) -> None:
        """Take means and standard deviations of points and values from a training set, and the points' range; and
        scale the embedding, so that its numbers have mean 0 and standard deviation 1 over these sets, before they are
        drawn into the ball.

        At first networks that differ little would have embeddings that differ less than the noise which teaching adds,
        and the decoder would learn to do without. After: Mishkin and Matas, All You Need Is a Good Init (2016).
        """
        weights = tokens.shares.double() / len(tokens)
        for name, data in (("point", tokens.points), ("value", tokens.values)):
            mean = (weights.unsqueeze(2) * data).sum((0, 1))
            square = (weights.unsqueeze(2) * (data - mean) ** 2).sum((0, 1))
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_scale").copy_(_or_one(square.sqrt(), data))
        self.point_low.fill_(torch.inf)
        self.point_high.fill_(-torch.inf)
        self.widen(tokens)
        last = cast("nn.Linear", self.of_set[-1])
        with torch.no_grad():
            found = self._unbounded(tokens, None)
            spread = _or_one(found.std(0, correction=0), found)
            last.weight.div_(spread.unsqueeze(1))
            last.bias.sub_(found.mean(0)).div_(spread)

    def widen(self, tokens: Tokens) -> None:
        """Have the range of points hold those of these tokens, too."""
        points = tokens.points[tokens.shares > 0]
        self.point_low.copy_(self.point_low.minimum(points.amin(0)))
        self.point_high.copy_(self.point_high.maximum(points.amax(0)))

    def outside(self, points: Tensor) -> Tensor:
        """bool `[N]`: which points `[N, d]` lie outside of where it learned.

        That is the range of the training points in each coordinate, and a margin of `BEYOND` times its width.

        Examples:
            >>> embedder = Embedder(EmbedderConfig(inputs=1))
            >>> embedder.point_low, embedder.point_high = torch.zeros(1), torch.ones(1)
            >>> embedder.outside(torch.tensor([[-0.1], [0.0], [1.04], [2.0]]))
            tensor([ True, False, False,  True])
        """
        margin = BEYOND * (self.point_high - self.point_low)
        inside = (points >= self.point_low - margin) & (points <= self.point_high + margin)
        return ~inside.all(1)

    def encode(self, tokens: Tokens, visible: Tensor | None = None) -> Tensor:
        """The embedding of each set, `[B, size]`.

        Args:
            tokens: B sets.
            visible: bool `[B, T]`: whose values are shown, by default all; of the others it is shown that
                they are there, and where.
        """
        found = self._unbounded(tokens, visible)
        return found / (1 + found.square().mean(1, keepdim=True)).sqrt()  # within a ball

    def _unbounded(self, tokens: Tokens, visible: Tensor | None) -> Tensor:
        """The embedding before it is drawn into the ball."""
        there = (tokens.shares > 0).nonzero(as_tuple=True)  # what fills up is not computed
        shown = torch.ones_like(tokens.shares) if visible is None else visible.to(tokens.shares)
        seen = shown[there].unsqueeze(1)
        log_share = torch.log(tokens.shares.clamp_min(1e-6))
        token = torch.cat(
            [
                self._features(tokens.points[there]),
                self._standard(tokens.values[there]) * seen,
                seen,
                0.2 * log_share[there].unsqueeze(1) + 1,
            ],
            dim=1,
        )
        hidden = _spread_out(self.of_token(token), there, tokens.shares)
        shares = tokens.shares * shown
        if self.attention is None:
            weights = (shares / shares.sum(1, keepdim=True).clamp_min(1e-12)).unsqueeze(1)
        else:
            logits = self.attention(hidden) + log_share.unsqueeze(2)
            logits = logits.masked_fill((shares == 0).unsqueeze(2), -1e9)
            weights = (logits.softmax(dim=1) * (shares > 0).unsqueeze(2)).mT
        pooled = torch.cat([weights, tokens.shares.unsqueeze(1)], dim=1) @ hidden
        found: Tensor = self.of_set(pooled.flatten(1))
        return found

    def decode(self, embedding: Tensor, points: Tensor) -> Tensor:
        """The value at points `[B, Q, d]` of each embedding `[B, size]`, `[B, Q, v]`."""
        sets, count, d = points.shape
        found = self._decode(embedding.repeat_interleave(count, 0), points.reshape(-1, d))
        return found.view(sets, count, self.config.value_size) * self.value_scale + self.value_mean

    def fill(self, tokens: Tokens, visible: Tensor) -> Tensor:
        """The value at every token, `[B, T, v]`, from those that are visible alone: not even the places of others are shown."""
        return self.decode(self.encode(tokens.only(visible)), tokens.points)

    def cloze_loss(
        self,
        tokens: Tokens,
        visible: Tensor,
        absent: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Huber loss of the standardised values that are not visible, weighted by shares, `[B]`.

        Args:
            tokens: B sets.
            visible: bool `[B, T]`.
            absent: bool `[B, 1]`: sets of which hidden tokens are not shown at all, not even where they are.
            noise: `[B, size]`, added to the embedding.
        """
        seen = tokens if absent is None else tokens.only(visible | ~absent)
        embedding = self.encode(seen, visible)
        if noise is not None:
            embedding = embedding + noise
        weights = tokens.shares * ~visible
        asked = (weights > 0).nonzero(as_tuple=True)
        found = self._decode(embedding[asked[0]], tokens.points[asked])
        expected = self._standard(tokens.values[asked])
        losses = nn.functional.huber_loss(found, expected, reduction="none").mean(1)
        sums = (_spread_out(losses, asked, weights) * weights).sum(1)
        return sums / weights.sum(1).clamp_min(1e-12)

    def _decode(self, embedding: Tensor, points: Tensor) -> Tensor:
        """The standardised value at each point `[N, d]`, of the embedding beside it `[N, size]`."""
        found: Tensor = self.of_point(torch.cat([embedding, self._features(points)], dim=1))
        return found

    def _standard(self, values: Tensor) -> Tensor:
        return (values - self.value_mean) / self.value_scale

    def _features(self, points: Tensor) -> Tensor:
        scaled = (points - self.point_mean) / self.point_scale
        angles = [scaled * (math.pi / 2 * 2**k) for k in range(self.config.frequencies)]
        waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
        return torch.cat([scaled, *waves], dim=1)

    def save(self, path: str | Path) -> None:
        """One safetensors file, with the configuration and the names of known tasks in its metadata."""
        about = {"schema": SCHEMA, "config": asdict(self.config), "tasks": self.known.names}
        tensors = self.state_dict() | {
            "task_means": self.known.means, "task_distances": self.known.distances
        }  # fmt: skip
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        io.write_file(Path(path), save(tensors, metadata={_KEY: json.dumps(about, sort_keys=True)}))

    @classmethod
    def load(cls, path: str | Path) -> Embedder:
        """Read what `save` wrote; nothing is ever unpickled.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is something else, or of another version.
        """
        metadata, tensors = io.read_safetensors(path, "path")
        about = io.json_object(metadata.get(_KEY, ""))
        if about.get("schema") != SCHEMA:
            raise ValueError(
                f"path must be a file written by Embedder.save ({SCHEMA}), got {path} with {about}"
            )
        try:
            embedder = cls(EmbedderConfig(**about["config"]))
            known = tensors.pop("task_means"), tensors.pop("task_distances")
            if known[0].shape[1:] != (embedder.config.size,):
                raise ValueError("its known tasks are of another size than its embedding")
            embedder.known = KnownTasks(tuple(about["tasks"]), *known)
            embedder.load_state_dict(tensors)
            for name, tensor in embedder.state_dict().items():
                if name not in ("point_low", "point_high"):  # of one that has learned nothing
                    check_finite(tensor, name)
                if name.endswith("_scale") and not bool((tensor > 0).all()):
                    raise ValueError(f"{name} must be positive, got {tensor.tolist()}")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"path must be a file written by Embedder.save, got {path}: {error}"
            ) from error
        return embedder

    @staticmethod
    def pretrained() -> Embedder:
        """The one that comes with the package: of functions of two inputs on the unit square.

        It is read once; do not change it. `gradsplinter/pretrained/README.md` says what it learned from, what it
        can do and what not.

        Examples:
            >>> embedder = Embedder.pretrained()
            >>> embedder.config.inputs, embedder.known.names[0]
            (2, 'x1 * x2')
        """
        return _pretrained()


@cache
def _pretrained() -> Embedder:
    with resources.as_file(resources.files(__package__) / "pretrained" / _SHIPPED) as path:
        return Embedder.load(path).eval().requires_grad_(False)


def _spread_out(rows: Tensor, places: tuple[Tensor, ...], like: Tensor) -> Tensor:
    """Rows, one for each of the places in a matrix of the shape of `like`; elsewhere 0."""
    return rows.new_zeros(*like.shape, *rows.shape[1:]).index_put(places, rows)


def _or_one(spread: Tensor, data: Tensor) -> Tensor:
    """1 where it is no more than rounding of data `[..., n]`."""
    largest = data.abs().flatten(0, -2).amax(0)
    return spread.where(spread > 1e-6 * largest, 1.0)


def _mlp(inputs: int, width: int, outputs: int, hidden: int) -> nn.Sequential:
    sizes = [inputs, *[width] * hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
