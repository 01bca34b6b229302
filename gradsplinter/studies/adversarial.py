"""Do adversarial examples take unusual routes through a network?

Networks classify images. Test examples are attacked, and every score of `detectors` says how unusual the
results are: to be compared with noise of the same size, with images of something else, with what the field
uses, with an attack that knows of the modes, and with the examples that the network has wrong without any attack.
Scores are fitted on training data and have seen none of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gradsplinter.data import Dataset
from gradsplinter.draws import generator_of
from gradsplinter.ops import unique_rows
from gradsplinter.studies.adversarial_result import (
    AdversarialConfig,
    AdversarialResult,
    Attacked,
    Combined,
    Separation,
    Trained,
)
from gradsplinter.studies.attacks import (
    Norm,
    fgsm,
    gaussian_noise,
    mode_seeking,
    pgd,
    sign_noise,
)
from gradsplinter.studies.classifiers import (
    ClassifierConfig,
    accuracy,
    predict,
    train_classifier,
)
from gradsplinter.studies.detectors import BASELINES, Detectors
from gradsplinter.studies.separation import (
    auroc,
    false_positive_rate,
    logistic_scores,
    matched_auroc,
)

MATCHED = "max-softmax"
"""The score at about equal values of which others are compared."""
Wanted = Callable[[str], bool]
_Scored = tuple[dict[str, Tensor], Tensor]
"""Scores [N] of examples by name, and which of these examples count."""
COLUMNS: dict[str, Wanted] = {
    "baselines": lambda name: name in BASELINES,
    "ours": lambda name: name not in BASELINES,
    "both": lambda _: True,
}
"""Which scores a logistic regression is given."""


class ExampleSet(NamedTuple):
    """Examples that may be unusual."""

    kind: str
    """An attack ("FGSM", "PGD L∞", "PGD L2", "mode-seeking L∞", "mode-seeking L2"), noise ("sign noise",
    "Gaussian noise"; with ", changed" the part of it that changed the class), the source of other images ("other
    data"), or "clean, wrong"."""
    epsilon: float | None
    x: Tensor

    @property
    def is_attack(self) -> bool:
        return self.kind.startswith(("FGSM", "PGD", "mode-seeking"))

    @property
    def is_noise(self) -> bool:
        return self.epsilon is not None and not self.is_attack


def run_adversarial(
    config: AdversarialConfig, train: Dataset, test: Dataset, other: Dataset | None = None, *,
    progress: bool = True,
) -> AdversarialResult:  # fmt: skip
    """Train, attack and measure.

    Args:
        config: what to do.
        train, test: the data set; inputs in [0, 1].
        other: examples of the same size that are out of its distribution.
        progress: show a bar.

    Raises:
        ValueError: data that does not fit, or a network that has not learned.

    Examples:
        >>> from gradsplinter import data
        >>> config = AdversarialConfig("digits", "16", seeds=(0,), linf=(0.2,), l2=(1.0,), steps=5, examples=50)
        >>> train, test = data.load("digits"), data.load("digits", "test")
        >>> found = run_adversarial(config, train, test, progress=False)
        >>> [a.success > 0.5 for a in found.attacks if a.kind == "PGD L∞"]
        [True]
    """
    train = _first(train, config.training_examples, "train", train)
    test = _first(test, config.examples, "test", train)
    if other is not None:
        other = _first(other, config.examples, "other", train)
    result = AdversarialResult(config, [], [], [], [], {})
    total = 4 * len(config.linf) + 3 * len(config.l2) + (other is not None)
    with tqdm(total=total * len(config.seeds), disable=not progress, unit="set") as bar:
        for seed in config.seeds:
            bar.set_description(f"seed {seed}, training")
            training = ClassifierConfig(config.architecture, config.epochs)
            net = train_classifier(training, train, seed)
            detectors = Detectors(
                net, train.x, train.y,
                cluster_angle=math.radians(config.cluster_angle), borders=config.borders,
            )  # fmt: skip
            measured = _Measured(result, seed, net, detectors, train, test)
            measured.add_errors()
            for examples in _example_sets(config, seed, net, detectors, test, other):
                bar.set_description(f"seed {seed}, {examples.kind}")
                measured.add(examples)
                bar.update()
    return result


def _example_sets(
    config: AdversarialConfig, seed: int, net: nn.Sequential, detectors: Detectors, test: Dataset,
    other: Dataset | None,
) -> Iterator[ExampleSet]:  # fmt: skip
    generator = generator_of(seed, "attacks and noise")
    x, y = test.x, test.y

    def attacked(norm: Norm, epsilon: float) -> Iterator[ExampleSet]:
        name = {"linf": "L∞", "l2": "L2"}[norm]
        first = pgd(net, x, y, epsilon, norm, config.steps, generator)
        yield ExampleSet(f"PGD {name}", epsilon, first)
        seeking = mode_seeking(
            net, x, y, first, epsilon, norm, steps=config.steps, weights=config.weights,
            scale=detectors.scale, nearest=detectors.nearest_mode,
        )  # fmt: skip
        yield ExampleSet(f"mode-seeking {name}", epsilon, seeking)

    for epsilon in config.linf:
        yield ExampleSet("FGSM", epsilon, fgsm(net, x, y, epsilon))
        yield from attacked("linf", epsilon)
        yield ExampleSet("sign noise", epsilon, sign_noise(x, epsilon, generator))
    for epsilon in config.l2:
        yield from attacked("l2", epsilon)
        lengths = torch.full((len(x),), epsilon)
        yield ExampleSet("Gaussian noise", epsilon, gaussian_noise(x, lengths, generator))
    if other is not None:
        yield ExampleSet("other data", None, other.x)


class _Measured:
    """Measures sets of examples of one network, and adds to the result what is found."""

    def __init__(
        self, result: AdversarialResult, seed: int, net: nn.Sequential, detectors: Detectors,
        train: Dataset, test: Dataset,
    ) -> None:  # fmt: skip
        self.result, self.seed, self.net, self.detectors = result, seed, net, detectors
        self.test, self.before = test, (dict[str, Tensor](), torch.empty(0))
        self.right = predict(net, test.x).argmax(1) == test.y
        self.clean = detectors.scores(test.x)
        self.is_first = not result.networks
        if self.is_first:
            result.scores["clean"] = self.clean
        result.networks.append(
            Trained(
                seed,
                accuracy(net, train),
                accuracy(net, test),
                len(unique_rows(detectors.signatures).first),
                _share(detectors.known(test.x)),
            )
        )

    def add_errors(self) -> None:
        """The test examples that the network has wrong, against those that it has right."""
        errors = ExampleSet("clean, wrong", None, self.test.x)
        self._separate(errors, self.clean, ~self.right, ~self.right, usual=self.right)
        self._keep(errors, self.clean, ~self.right)

    def add(self, examples: ExampleSet) -> None:
        result, x = self.result, examples.x
        tried = chosen = torch.ones(len(x), dtype=torch.bool)
        failed, success, length = ~tried, None, None
        if examples.epsilon is not None:
            length = float((x - self.test.x).norm(dim=1).mean())
            failed = predict(self.net, x).argmax(1) != self.test.y
            success = _share(failed[self.right])
            if examples.is_attack:
                tried, chosen = self.right, self.right & failed
        known = _share(self.detectors.known(x)[chosen])
        result.attacks.append(
            Attacked(self.seed, examples.kind, examples.epsilon, success, length, known)
        )
        scores = self.detectors.scores(x)
        self._separate(examples, scores, chosen, tried)
        if examples.is_noise:
            changed = examples._replace(kind=f"{examples.kind}, changed")
            self._separate(changed, scores, self.right & failed, self.right)
        if examples.is_attack:
            self._combine(examples, scores, chosen)
        self._keep(examples, scores, chosen)

    def _keep(self, examples: ExampleSet, scores: dict[str, Tensor], chosen: Tensor) -> None:
        if self.is_first and self.result.config.is_middle(examples.kind, examples.epsilon):
            kept = {name: of[chosen] for name, of in scores.items()}
            self.result.scores[examples.kind] = kept

    def _separate(
        self, examples: ExampleSet, scores: dict[str, Tensor], chosen: Tensor, tried: Tensor,
        usual: Tensor | None = None,
    ) -> None:  # fmt: skip
        """From clean test examples, of which `usual` says some; all, without."""
        usual = torch.ones_like(self.right) if usual is None else usual
        wrong, of, clean_of = ~self.right, scores[MATCHED][chosen], self.clean[MATCHED]
        for name, every in self.clean.items():
            positive, clean = scores[name][chosen], every[usual]
            self.result.separations.append(
                Separation(
                    self.seed,
                    examples.kind,
                    examples.epsilon,
                    name,
                    len(positive),
                    auroc(positive, clean),
                    false_positive_rate(positive, clean),
                    matched_auroc(positive, clean, of, clean_of[usual]),
                    auroc(scores[name][tried], clean),
                    auroc(positive, every[wrong]),
                    matched_auroc(positive, every[wrong], of, clean_of[wrong]),
                )
            )

    def _combine(self, examples: ExampleSet, scores: dict[str, Tensor], chosen: Tensor) -> None:
        """Regressions that have seen this attack; of one that knows of the modes, also the PGD before it."""
        if examples.kind.startswith("PGD"):
            self.before = scores, chosen
        self._regress(examples, "the same", (scores, chosen), (scores, chosen))
        if examples.kind.startswith("mode-seeking"):
            self._regress(examples, "PGD", self.before, (scores, chosen))

    def _regress(
        self, examples: ExampleSet, fitted_on: str, seen: _Scored, unseen: _Scored
    ) -> None:
        """Fitted on the examples of even number, tested on the others."""
        even = torch.arange(len(self.right)) % 2 == 0
        for columns, wanted in COLUMNS.items():

            def table(scores: dict[str, Tensor], rows: Tensor, wanted: Wanted = wanted) -> Tensor:
                return torch.stack([of[rows] for name, of in scores.items() if wanted(name)], dim=1)

            shown = table(seen[0], seen[1] & even)
            fit = torch.cat([shown, table(self.clean, even)])
            positive = torch.arange(len(fit)) < len(shown)
            found, usual = (
                logistic_scores(fit, positive, of)
                for of in (table(unseen[0], unseen[1] & ~even), table(self.clean, ~even))
            )
            self.result.combined.append(
                Combined(
                    self.seed,
                    examples.kind,
                    examples.epsilon,
                    fitted_on,
                    columns,
                    auroc(found, usual),
                    false_positive_rate(found, usual),
                    auroc(found, usual[~self.right[~even]]),
                )
            )


def _first(data: Dataset, count: int, name: str, like: Dataset) -> Dataset:
    if len(data) == 0:
        raise ValueError(f"{name} must hold at least one example, got none")
    if data.x.shape[1] != like.x.shape[1]:
        raise ValueError(
            f"{name} must have {like.x.shape[1]} numbers an example, like train, got {data.x.shape[1]}"
        )
    least, most = (float(end) for end in data.x.aminmax())
    if not (least >= 0 and most <= 1):
        raise ValueError(f"{name} must have values in [0, 1], got some in [{least:g}, {most:g}]")
    return replace(data, x=data.x[:count], y=data.y[:count])


def _share(of: Tensor) -> float:
    return float(of.double().mean())
