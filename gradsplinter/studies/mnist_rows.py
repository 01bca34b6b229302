"""Rows of the MNIST study: networks, their classes, pairs of classes, pairs of architectures, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gradsplinter.studies.class_maps import image_similarity, spearman
from gradsplinter.studies.mnist import KINDS, MnistResult
from gradsplinter.studies.mnist_tables import (
    KEYS,
    compare,
    networks_of,
    settings,
    spread,
)
from gradsplinter.studies.statistics import mean_and_error


@dataclass(frozen=True)
class PairRow:
    """Two classes at a site: means over seeds, and the difference of trained networks in standard errors."""

    dataset: str
    architecture: str
    site: int
    a: str
    b: str
    cosine: float
    """Of the gradients of trained networks."""
    centred: float
    """The same of centred gradients, and in what follows."""
    centred_error: float | None
    untrained: float
    shuffled: float
    from_untrained: float | None
    from_shuffled: float | None
    confusions: int
    """In all seeds."""
    likeness: float
    """Cosine of the classes' mean examples, centred."""


def pair_rows(result: MnistResult) -> list[PairRow]:
    """One row for every two classes at each site."""
    rows = []
    for name, architecture in settings(result):
        train, _ = result.sets[name]
        likeness = image_similarity(train)
        by_kind = {kind: networks_of(result, name, architecture, kind) for kind in KINDS}
        confused = sum((n.confusions for n in by_kind["trained"]), torch.zeros_like(likeness))
        i, j = torch.triu_indices(len(train.classes), len(train.classes), offset=1).tolist()
        for site in by_kind["trained"][0].sites:
            centred = {
                kind: torch.stack([n.sites[site].maps.centred for n in some])
                for kind, some in by_kind.items()
            }
            plain = torch.stack([n.sites[site].maps.cosines for n in by_kind["trained"]]).mean(0)
            for a, b in zip(i, j, strict=True):
                values = {kind: maps[:, a, b].tolist() for kind, maps in centred.items()}
                found = compare(name, architecture, site, "centred", values)
                assert found.trained is not None
                rows.append(
                    PairRow(
                        name, architecture, site, train.classes[a], train.classes[b],
                        float(plain[a, b]), found.trained, found.trained_error,
                        float(centred["untrained"][:, a, b].mean()),
                        float(centred["shuffled"][:, a, b].mean()),
                        found.from_untrained, found.from_shuffled,
                        int(confused[a, b]), float(likeness[a, b]),
                    )
                )  # fmt: skip
    return rows


def network_rows(result: MnistResult) -> list[dict[str, object]]:
    """One row for each network."""
    return [
        {key: getattr(network, key) for key in KEYS}
        | {
            "accuracy": network.accuracy,
            "training_accuracy": network.training_accuracy,
            "communities": network.communities,
        }
        for network in result.networks
    ]


@dataclass(frozen=True)
class ArchitectureRow:
    """Do networks of two architectures have the same map at the input?"""

    dataset: str
    kind: str
    a: str
    b: str
    correlation: float | None
    """Rank correlation of the centred map of each network of `a` with the mean map of `b`, mean over seeds."""
    error: float | None
    """Its standard error."""


def architecture_rows(result: MnistResult) -> list[ArchitectureRow]:
    """One row for every two architectures of a data set, either way."""
    maps = {
        (name, architecture, kind): torch.stack(
            [n.sites[0].maps.centred for n in networks_of(result, name, architecture, kind)]
        )
        for name, architecture in settings(result)
        for kind in KINDS
    }
    return [
        ArchitectureRow(
            name, kind, a, b,
            *mean_and_error([spearman(own, maps[name, b, kind].mean(dim=0)) for own in of_a]),
        )
        for (name, a, kind), of_a in maps.items()
        for b in result.config.architectures
        if b != a and (name, b, kind) in maps
    ]  # fmt: skip


def class_rows(result: MnistResult) -> list[dict[str, object]]:
    """One row for each network, site and class: its unique gradients."""
    return [
        {key: getattr(network, key) for key in KEYS}
        | {"site": site, "class": name, "unique": unique}
        for network in result.networks
        for site, at in network.sites.items()
        for name, unique in zip(result.sets[network.dataset][0].classes, at.unique, strict=True)
    ]


@dataclass(frozen=True)
class TrainingRow:
    """A site during training."""

    dataset: str
    architecture: str
    seed: int
    step: int
    accuracy: float
    site: int
    modes: int
    unique: float
    orthogonality: float
    spread: float
    to_final: float | None
    """Rank correlation of the centred map with that of the last checkpoint."""


def training_rows(result: MnistResult) -> list[TrainingRow]:
    """One row for each checkpoint and site."""
    last = {(c.dataset, c.architecture, c.seed): c for c in result.training}
    return [
        TrainingRow(
            c.dataset, c.architecture, c.seed, c.step, c.accuracy, site, at.modes,
            sum(at.unique) / len(at.unique), at.maps.orthogonality, spread(at),
            spearman(
                at.maps.centred,
                last[c.dataset, c.architecture, c.seed].sites[site].maps.centred,
            ),
        )
        for c in result.training
        for site, at in c.sites.items()
    ]  # fmt: skip
