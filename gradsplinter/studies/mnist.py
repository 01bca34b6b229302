"""What structure do the gradients of networks have that classify real images, and what is only chance?

The same networks are trained on the classes, trained on classes in random order, and left untrained. Of each,
at every site: how many modes and unique gradients there are, how the gradients of every two classes compare, and
in which clusters the input gradients of a class fall. `mnist_tables` compares them over seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from tqdm import tqdm

from gradsplinter.communities import communities
from gradsplinter.data import Dataset
from gradsplinter.draws import generator_of
from gradsplinter.graph import ComputationGraph, computation_graph
from gradsplinter.studies import class_maps, gradient_clusters
from gradsplinter.studies.class_maps import ClassMaps
from gradsplinter.studies.classifiers import (
    accuracy,
    build,
    fits,
    shuffled_labels,
    steps_of,
    train_classifier,
)
from gradsplinter.studies.mnist_config import MnistConfig, checkpoint_steps
from gradsplinter.traced import TracedNetwork

KINDS = ("trained", "untrained", "shuffled")
"""Of networks: trained, as `build` made it, trained on classes in random order."""
CONV = "conv"
MOST_UNITS = 256
"""Hidden units up to which their communities are looked for: Louvain's method takes its time."""


@dataclass(frozen=True, eq=False)
class AtSite:
    """A network at one site."""

    name: str
    modes: int
    unique: list[int]
    """Gradients of each class that differ."""
    maps: ClassMaps


@dataclass(frozen=True, eq=False)
class Network:
    """What was measured of one network."""

    dataset: str
    architecture: str
    kind: str
    seed: int
    examples: int
    """That were measured."""
    accuracy: float
    """On the test part."""
    training_accuracy: float
    """On what it was trained on; of an untrained network, on what it would be."""
    confusions: Tensor
    """int64 `[C, C]`, symmetric."""
    sites: dict[int, AtSite]
    """From the input on, without the output."""
    clusters: list[gradient_clusters.Grouped] = field(default_factory=list)
    """Of the input gradients of each class, over its own examples; none where all examples have the same."""
    clouds: list[gradient_clusters.Grouped] = field(default_factory=list)
    """The same of normal distributions with their means and covariances."""
    communities: int | None = None
    """Of the hidden units, from the outputs; None where there are none, or more than 256."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network during its training."""

    dataset: str
    architecture: str
    seed: int
    step: int
    accuracy: float
    sites: dict[int, AtSite]


@dataclass(frozen=True, eq=False)
class Shown:
    """The network of a data set that is looked at more closely: the first that is not "conv"."""

    kinds: list[gradient_clusters.Kind]
    """The largest clusters of the input gradients of each class."""
    graph: ComputationGraph
    """Of the first examples."""


@dataclass(frozen=True, eq=False)
class MnistResult:
    config: MnistConfig
    sets: Mapping[str, tuple[Dataset, Dataset]]
    """What was used of each data set: training part and test part."""
    networks: list[Network]
    training: list[Checkpoint]
    shown: dict[str, Shown]
    """By data set."""
    left_out: list[tuple[str, str]]
    """Data sets and architectures that do not go together."""


def run_mnist(
    config: MnistConfig, sets: Mapping[str, tuple[Dataset, Dataset]], *, progress: bool = True
) -> MnistResult:
    """Train and measure.

    Args:
        config: what to do.
        sets: of each name in `config.datasets`, its training part and its test part.
        progress: show a bar.

    Raises:
        ImportError: networkx or scikit-learn is missing.
        ValueError: a data set is missing, or has no examples of a class, or no architecture that fits; a
            training that diverges.

    Examples:
        >>> from gradsplinter import data
        >>> iris = data.load("iris"), data.load("iris", "test")
        >>> config = MnistConfig(("iris",), ("8",), (0,), steps=50, checkpoints=2)
        >>> [network.kind for network in run_mnist(config, {"iris": iris}, progress=False).networks]
        ['trained', 'untrained', 'shuffled']
    """
    used = {name: _some(config, name, sets) for name in config.datasets}
    plan, left_out = _plan(config, used)
    result = MnistResult(config, used, [], [], {}, left_out)
    with tqdm(
        total=len(plan) * len(config.seeds) * len(KINDS), disable=not progress, unit="network"
    ) as bar:
        for name, architecture in plan:
            for seed in config.seeds:
                for kind in KINDS:
                    bar.set_description(f"{name} {architecture} {kind}")
                    _add(result, name, architecture, kind, seed)
                    bar.update()
    return result


def _plan(
    config: MnistConfig, sets: Mapping[str, tuple[Dataset, Dataset]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Data sets and architectures that are trained, and those that do not go together."""
    plan: list[tuple[str, str]] = []
    left_out: list[tuple[str, str]] = []
    for name, (train, _) in sets.items():
        there = [one for one in config.architectures if fits(one, train)]
        if not there:
            raise ValueError(
                f"architectures must have one that fits {name}, got {', '.join(config.architectures)}"
            )
        if name == config.datasets[0]:
            left_out += [(name, one) for one in config.architectures if one not in there]
        else:
            there = there[:1]
        plan += [(name, one) for one in there]
    return plan, left_out


def _some(
    config: MnistConfig, name: str, sets: Mapping[str, tuple[Dataset, Dataset]]
) -> tuple[Dataset, Dataset]:
    if name not in sets:
        raise ValueError(f"sets must hold {name}, got {', '.join(sets) or 'none'}")
    train, test = sets[name]
    if not (len(train) and len(test)):
        raise ValueError(f"sets must hold examples of {name} in both parts, got none in one")
    train = first(train, config.training_examples)
    class_maps.image_similarity(train)  # refuses a class without examples before the work
    return train, first(test, config.examples)


def first(data: Dataset, count: int) -> Dataset:
    """The first examples of a data set."""
    return Dataset(data.x[:count], data.y[:count], data.classes, data.image_shape, data.source)


def _add(result: MnistResult, name: str, architecture: str, kind: str, seed: int) -> None:
    """Train and measure one network."""
    config, (train, test) = result.config, result.sets[name]
    of_kind = shuffled_labels(train, seed) if kind == "shuffled" else train
    training = config.training(len(train), architecture)
    looked_at = first(test, config.conv_examples) if architecture == CONV else test
    if kind == "untrained":
        net = build(architecture, train, seed).eval().requires_grad_(False)
    elif kind == "trained" and architecture != CONV:

        def look(step: int, net: nn.Module) -> None:
            sites = _at_sites(computation_graph(net, looked_at.x))
            so_far = accuracy(net, test)
            result.training.append(Checkpoint(name, architecture, seed, step, so_far, sites))

        steps = checkpoint_steps(steps_of(training, train), config.checkpoints)
        net = train_classifier(training, train, seed, checkpoints=steps, callback=look)
    else:
        net = train_classifier(training, of_kind, seed)
    graph = _graph(net, looked_at, architecture)
    result.networks.append(
        Network(
            name, architecture, kind, seed, len(looked_at), accuracy(net, test), accuracy(net, of_kind),
            class_maps.confusions(net, test), _at_sites(graph),
            *_in_clusters(config, graph, looked_at, seed), _communities(graph, looked_at),
        )
    )  # fmt: skip
    if kind == "trained" and architecture != CONV and name not in result.shown:
        seen = list(_kinds(config, graph, looked_at))
        page = first(looked_at, config.page_examples)
        result.shown[name] = Shown(seen, computation_graph(net, page.x))


def _graph(net: nn.Module, data: Dataset, architecture: str) -> ComputationGraph:
    if architecture == CONV:
        return computation_graph(TracedNetwork.from_module(net, data.x.shape[1:]), data.x)
    return computation_graph(net, data.x)


def _at_sites(graph: ComputationGraph) -> dict[int, AtSite]:
    found = {}
    for site in sorted(graph.sites):
        s = graph.splinters[site]
        s.jacobian()  # kept for all that follows
        unique = (s.co_appearance() * s.n_modes).round().long().tolist()
        maps = class_maps.class_maps(s)
        found[site] = AtSite(graph.net.names[site], s.n_modes, unique, maps)
    return found


def _in_clusters(
    config: MnistConfig, graph: ComputationGraph, data: Dataset, seed: int
) -> tuple[list[gradient_clusters.Grouped], list[gradient_clusters.Grouped]]:
    found: list[gradient_clusters.Grouped] = []
    of_clouds: list[gradient_clusters.Grouped] = []
    if graph.splinters[0].n_modes == 1:
        return found, of_clouds
    generator = generator_of(seed, "clouds of gradients")
    for _, gradients in _of_classes(graph, data):
        found.append(gradient_clusters.grouped(gradients, config.angles))
        random = gradient_clusters.cloud(gradients, generator)
        of_clouds.append(gradient_clusters.grouped(random, config.angles))
    return found, of_clouds


def _of_classes(graph: ComputationGraph, data: Dataset) -> Iterator[tuple[int, Tensor]]:
    """Class and input gradients, where the data have two examples of it."""
    for label in range(len(data.classes)):
        members = (data.y == label).nonzero().squeeze(1)
        if len(members) > 1:
            s = graph.splinters[0]
            yield label, gradient_clusters.class_gradients(s, members, label)


def _kinds(
    config: MnistConfig, graph: ComputationGraph, data: Dataset
) -> Iterator[gradient_clusters.Kind]:
    for label, gradients in _of_classes(graph, data):
        members = (data.y == label).nonzero().squeeze(1)
        yield from gradient_clusters.kinds(gradients, data.x, members, label, config.drawn_angle, 3)


def _communities(graph: ComputationGraph, data: Dataset) -> int | None:
    """Of hidden units."""
    if graph.start < 2 or sum(graph.net.widths[1:-1]) > MOST_UNITS:
        return None
    return communities(computation_graph(graph.net, data.x, end=1)).n
