"""What the study of adversarial examples is told, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradsplinter.checks import check_bool, check_integer, check_values
from gradsplinter.studies.classifiers import hidden_widths
from gradsplinter.studies.statistics import mean_and_error

OTHERS = {"mnist": "fashion-mnist", "fashion-mnist": "mnist", "digits": None}
"""Data sets that can be attacked, and what is out of their distribution."""


@dataclass(frozen=True)
class AdversarialConfig:
    """What is trained, attacked and measured.

    Raises:
        ValueError: an unknown data set or architecture, a number out of range, a list without values.
    """

    dataset: str = "mnist"
    """mnist, fashion-mnist or digits."""
    architecture: str = "64-64"
    """Widths of the hidden layers."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """A network for each."""
    epochs: int = 10
    """Passes through the training data."""
    training_examples: int = 8000
    """The first ones; all, where there are fewer."""
    examples: int = 1000
    """Of the test data, the first ones; all, where there are fewer."""
    linf: tuple[float, ...] = (0.02, 0.05, 0.1)
    """ε of attacks in L∞, for values in [0, 1]."""
    l2: tuple[float, ...] = (0.5, 1.0, 2.0)
    """ε of attacks in L2."""
    steps: int = 40
    """Of projected gradient ascent."""
    weights: tuple[float, ...] = (10.0, 100.0, 1000.0)
    """Of the penalty by which an attack looks for modes; it keeps the best of all."""
    cluster_angle: float = 30.0
    """Diameter of clusters of gradients, in degrees."""
    borders: bool = True
    """Measure the distance to region borders too: minutes for wide networks."""

    def __post_init__(self) -> None:
        if self.dataset not in OTHERS:
            raise ValueError(f"dataset must be one of {', '.join(OTHERS)}, got {self.dataset!r}")
        if self.architecture in ("linear", "conv"):  # which classifiers may be
            raise ValueError(
                f'architecture must be widths of hidden layers, as "64-64", got {self.architecture!r}'
            )
        hidden_widths(self.architecture)
        for name in ("seeds", "linf", "l2", "weights"):
            check_values(getattr(self, name), name)
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        for name in ("epochs", "training_examples", "steps"):
            check_integer(getattr(self, name), name, 1)
        check_integer(self.examples, "examples", 4)
        for name in ("linf", "l2", "weights"):
            for value in getattr(self, name):
                if not 0 < value < math.inf:
                    raise ValueError(f"{name} must be positive, got {value}")
        if not 0 < self.cluster_angle <= 90:
            raise ValueError(f"cluster_angle must be in (0, 90], got {self.cluster_angle}")
        check_bool(self.borders, "borders")

    def is_middle(self, kind: str, epsilon: float | None) -> bool:
        """Whether this ε is the one in the middle of the list that examples of this kind have."""
        of = self.l2 if kind.endswith("L2") or kind.startswith("Gaussian noise") else self.linf
        return epsilon in (None, of[len(of) // 2])


@dataclass(frozen=True)
class Trained:
    """One network."""

    seed: int
    training_accuracy: float
    accuracy: float
    """On the test examples."""
    modes: int
    """Different ones, of training examples that are classified rightly."""
    known: float
    """The share of test examples whose mode is one of these."""


@dataclass(frozen=True)
class Attacked:
    """Test examples that were changed, or come from elsewhere."""

    seed: int
    kind: str
    epsilon: float | None
    success: float | None
    """The share of the examples that the network had right which it has no longer."""
    length: float | None
    """How far test examples moved: their mean Euclidean distance."""
    known: float
    """The share whose mode is one of training, among attacks that succeeded; among all, where it is none."""


@dataclass(frozen=True)
class Separation:
    """How well a score tells these examples from clean ones; "clean, wrong" from those that are right."""

    seed: int
    kind: str
    epsilon: float | None
    score: str
    examples: int
    """Attacks that succeeded, noise that changed the class (", changed"); all, where it is neither."""
    auroc: float
    fpr: float
    """False positives at 95 % recall."""
    matched: float
    """AUROC over pairs of examples with about the same max-softmax."""
    auroc_all: float
    """AUROC with the attacks that failed, too."""
    auroc_wrong: float
    """AUROC against clean examples that the network has wrong: 0.5 where attacks are no more unusual than these."""
    matched_wrong: float
    """The same over pairs of examples with about the same max-softmax."""


@dataclass(frozen=True)
class Combined:
    """A logistic regression on several scores, fitted on half of the test examples and attacks on these, and
    tested on the other half."""

    seed: int
    kind: str
    epsilon: float | None
    fitted_on: str
    """The attack that it has seen: the same one, or PGD of the same norm and ε."""
    columns: str
    """Baselines, ours, or both."""
    auroc: float
    """Against clean examples, right or wrong."""
    fpr: float
    """False positives at 95 % recall."""
    auroc_wrong: float
    """AUROC against clean examples that the network has wrong, by the same regression."""


@dataclass(frozen=True, eq=False)
class AdversarialResult:
    config: AdversarialConfig
    networks: list[Trained]
    attacks: list[Attacked]
    separations: list[Separation]
    combined: list[Combined]
    scores: dict[str, dict[str, Tensor]]
    """Of the first network: by kind ("clean" too), at the middle ε, every score, float64 [N]."""

    def means(self) -> list[dict[str, Any]]:
        """Of each kind, ε and score: means over seeds and their standard errors."""
        names = ("auroc", "fpr", "matched", "auroc_all", "auroc_wrong", "matched_wrong")
        return _means(self.separations, ("kind", "epsilon", "score"), names)

    def attack_means(self) -> list[dict[str, Any]]:
        """Of each kind and ε."""
        return _means(self.attacks, ("kind", "epsilon"), ("success", "length", "known"))

    def combined_means(self) -> list[dict[str, Any]]:
        """Of each kind, ε, attack seen and columns."""
        keys = ("kind", "epsilon", "fitted_on", "columns")
        return _means(self.combined, keys, ("auroc", "fpr", "auroc_wrong"))


def _means(
    rows: Sequence[object], keys: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    groups: dict[tuple[object, ...], list[object]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, key) for key in keys), []).append(row)
    return [
        dict(zip(keys, group, strict=True)) | mean_columns(of, names)
        for group, of in groups.items()
    ]


def mean_columns(rows: Sequence[object], names: Sequence[str]) -> dict[str, Any]:
    """Of each attribute its mean over rows, the standard error of it, and of how many rows these are: those without
    a number are left out.

    No attack may have succeeded on a network, so that there is nothing to score.

    Examples:
        >>> from types import SimpleNamespace as Row
        >>> mean_columns([Row(auroc=0.5), Row(auroc=0.7), Row(auroc=math.nan)], ["auroc"])
        {'auroc': 0.6, 'auroc_error': 0.1, 'auroc_seeds': 2}
    """
    found: dict[str, Any] = {}
    for name in names:
        every = [getattr(row, name) for row in rows]
        values = [value for value in every if value is not None and not math.isnan(value)]
        mean, error = (math.nan if v is None else round(v, 6) for v in mean_and_error(values))
        found |= {name: mean, f"{name}_error": error, f"{name}_seeds": len(values)}
    return found
