"""The tasks that an embedder has seen networks of: where these lie in the embedding, and how far apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradsplinter.checks import check_finite, check_integer, check_tensor

FAR = 3.0
"""A network is like none of the known tasks where each is further than so many times its usual distance."""
LEAST = 2
"""Networks of each task."""


@dataclass(frozen=True)
class NearTask:
    """A known task, seen from one embedding."""

    name: str
    distance: float
    """Euclidean, from the mean of the embeddings of its networks."""
    usual: float
    """The mean distance of its own networks from there."""

    @property
    def is_far(self) -> bool:
        """Whether the distance is more than `FAR` times the usual one."""
        return self.distance > FAR * self.usual


@dataclass(frozen=True, eq=False)
class KnownTasks:
    """K tasks, by the embeddings of networks of each.

    Attributes:
        names: of the tasks.
        means: `[K, size]`: the mean embedding of the networks of each.
        distances: `[K]`: their mean Euclidean distance from it, the usual one.

    Examples:
        >>> embeddings = torch.tensor([[0.0, 1.0], [0.0, 3.0], [5.0, 0.0], [6.0, 0.0]])
        >>> known = KnownTasks.of(["sum", "product"], torch.tensor([0, 0, 1, 1]), embeddings)
        >>> known
        KnownTasks(sum, product)
        >>> known.nearest(torch.tensor([0.0, 4.0]), 1)
        [NearTask(name='sum', distance=2.0, usual=1.0)]
    """

    names: tuple[str, ...]
    means: Tensor
    distances: Tensor

    def __post_init__(self) -> None:
        for name, rank in (("means", 2), ("distances", 1)):
            value = getattr(self, name)
            check_tensor(value, name, rank, (torch.float32, torch.float64))
            check_finite(value, name)
            if len(value) != len(self.names):
                raise ValueError(
                    f"{name} must be of {len(self.names)} tasks, as names, got {len(value)}"
                )

    @classmethod
    def of(cls, names: Sequence[str], labels: Tensor, embeddings: Tensor) -> KnownTasks:
        """Of networks, at least `LEAST` of each task: of one alone the usual distance would be 0.

        Args:
            names: of the K tasks.
            labels: int64 `[M]`: the task of each network.
            embeddings: `[M, size]`.

        Raises:
            ValueError: a task of fewer networks, labels that do not fit.
        """
        check_tensor(embeddings, "embeddings", 2, (torch.float32, torch.float64))
        check_tensor(labels, "labels", 1, (torch.int64,))
        if len(labels) != len(embeddings):
            raise ValueError(
                f"labels must be of {len(embeddings)} networks, as embeddings, got {len(labels)}"
            )
        found, counts = labels.unique(return_counts=True)
        if found.tolist() != list(range(len(names))) or int(counts.min()) < LEAST:
            raise ValueError(
                f"labels must be 0..{len(names) - 1}, each at least {LEAST} times, got "
                f"{found.tolist()}, {counts.tolist()} times"
            )
        sets = [embeddings[labels == task] for task in range(len(names))]
        means = torch.stack([some.mean(0) for some in sets])
        spreads = [(some - mean).norm(dim=1).mean() for some, mean in zip(sets, means, strict=True)]
        return cls(tuple(names), means, torch.stack(spreads))

    @classmethod
    def none(cls, size: int) -> KnownTasks:
        return cls((), torch.zeros(0, size), torch.zeros(0))

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, embedding: Tensor, k: int = 3) -> list[NearTask]:
        """The k nearest, or all where there are fewer, nearest first.

        Args:
            embedding: `[size]`.
            k: at least 1.

        Raises:
            ValueError: an embedding of another size, or that is not finite.
        """
        check_tensor(embedding, "embedding", 1, (torch.float32, torch.float64))
        check_finite(embedding, "embedding")
        if len(embedding) != self.means.shape[1]:
            raise ValueError(
                f"embedding must have {self.means.shape[1]} entries, as those of the known tasks, "
                f"got {len(embedding)}"
            )
        distances = (self.means - embedding.to(self.means)).norm(dim=1)
        order = distances.argsort(stable=True)[: check_integer(k, "k", 1)].tolist()
        return [
            NearTask(self.names[i], float(distances[i]), float(self.distances[i])) for i in order
        ]

    def has_alike(self, embedding: Tensor) -> bool:
        """Whether any known task is within `FAR` times its usual distance."""
        return any(not task.is_far for task in self.nearest(embedding, max(1, len(self))))

    def __repr__(self) -> str:
        shown = self.names[:3] if len(self) > 4 else self.names
        more = f", and {len(self) - 3} more" if len(self) > 4 else ""
        return f"KnownTasks({', '.join(shown)}{more})"
