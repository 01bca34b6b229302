"""What the MNIST study trains and measures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradsplinter.checks import check_integer, check_values
from gradsplinter.studies.classifiers import ClassifierConfig


@dataclass(frozen=True)
class MnistConfig:
    """What is trained and measured.

    Raises:
        TypeError, ValueError: a list without values, an unknown architecture, a number out of range.

    Examples:
        >>> MnistConfig(datasets=("digits",), architectures=("32",)).training(100).epochs
        800
    """

    datasets: tuple[str, ...] = ("mnist", "fashion-mnist", "iris")
    """Names as `data.load` knows them. All architectures are trained on the first one, on the others
    the first that fits."""
    architectures: tuple[str, ...] = ("64-64", "512-512", "conv", "linear")
    """Widths of hidden layers, or "conv", or "linear": one layer, which says what there is without a network."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """A network of each kind for each."""
    training_examples: int = 8000
    """At most; the first ones of the training part."""
    examples: int = 2000
    """At most; the first ones of the test part, which are measured."""
    conv_examples: int = 500
    """The same for "conv"; fewer only since it takes longer."""
    steps: int = 800
    """Of Adam, at least: whole epochs. Not their number is given, so that small data sets are trained as long as large
    ones."""
    batch_size: int = 100
    """Examples a step."""
    learning_rate: float = 1e-3
    """Of Adam."""
    checkpoints: int = 10
    """At which the training of all but "conv" is measured, from the first step to the last."""
    angles: tuple[float, ...] = (15.0, 30.0, 45.0, 60.0)
    """Diameters of clusters of gradients, in degrees; clusters of the last but one are drawn."""
    page_examples: int = 500
    """Of the graph on the page."""

    def __post_init__(self) -> None:
        for name in ("datasets", "architectures", "seeds", "angles"):
            check_values(getattr(self, name), name)
        for architecture in self.architectures:
            ClassifierConfig(architecture)
        for seed in self.seeds:
            check_integer(seed, "seeds", 0)
        for name in ("training_examples", "steps", "batch_size"):
            check_integer(getattr(self, name), name, 1)
        for name in ("examples", "conv_examples", "page_examples", "checkpoints"):
            check_integer(getattr(self, name), name, 2)
        for angle in self.angles:
            if not 0 < angle <= 90:
                raise ValueError(f"angles must be in (0, 90], got {angle}")
        ClassifierConfig(learning_rate=self.learning_rate)

    def training(self, examples: int, architecture: str = "64-64") -> ClassifierConfig:
        """How a network is trained on so many examples."""
        epochs = math.ceil(self.steps / math.ceil(examples / self.batch_size))
        return ClassifierConfig(architecture, epochs, self.batch_size, self.learning_rate)

    @property
    def drawn_angle(self) -> float:
        """Of the clusters that are drawn."""
        return sorted(self.angles)[-2:][0]


def checkpoint_steps(last: int, count: int) -> list[int]:
    """Ascending, from 0 to the last, nearly equal in their ratios: most is learned early.

    Examples:
        >>> checkpoint_steps(800, 10)
        [0, 2, 4, 9, 19, 41, 86, 181, 381, 800]
    """
    powers = [(last + 1) ** (i / (count - 1)) - 1 for i in range(count)]
    return sorted({min(last, math.ceil(power)) for power in powers})
