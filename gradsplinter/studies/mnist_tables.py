"""Tables of the MNIST study: every network, every checkpoint, and how far networks are from their nulls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradsplinter.studies.class_maps import class_groups, image_similarity, pairs, partial, spearman
from gradsplinter.studies.gradient_clusters import Grouped
from gradsplinter.studies.mnist import KINDS, AtSite, MnistResult, Network
from gradsplinter.studies.neuron_groups import ari
from gradsplinter.studies.statistics import mean_and_error


@dataclass(frozen=True)
class SiteRow:
    """A network at a site. What needs other seeds, or more classes than there are, is None."""

    dataset: str
    architecture: str
    kind: str
    """"trained", "untrained" or "shuffled"."""
    seed: int
    site: int
    name: str
    examples: int
    modes: int
    compression: float
    """Examples a mode."""
    unique: float
    """Gradients of a class that differ, mean over classes."""
    orthogonality: float
    """1 - mean abs(cos) of the gradients of two classes."""
    cosine: float
    """The mean cosine, over pairs of classes and examples."""
    spread: float
    """Standard deviation of the centred map over pairs."""
    agreement: float | None
    """Rank correlation of the centred map with the mean of the other seeds' maps."""
    confusions: float | None
    """Rank correlation of the centred map with what the trained network of this seed confuses."""
    likeness: float | None
    """Rank correlation of the centred map with the similarity of the classes' mean examples."""
    beyond: float | None
    """Partial rank correlation with confusions, given that similarity."""
    groups: int
    """Of classes, by Louvain's method on the positive entries of the centred map."""
    group_agreement: float | None
    """Adjusted Rand index of these groups with the other seeds', mean."""


ROUNDING = 1e-9
"""Standard errors below this part of the values are those of rounding, of differences that are all equal."""
LEAST_SEEDS = 3
"""From which on a difference is given in its standard errors: that of two numbers is too often near 0 by chance."""
MEASURES = (
    *("modes", "unique", "orthogonality", "cosine", "spread", "agreement"),
    *("confusions", "likeness", "beyond", "groups", "group_agreement"),
)
"""What is compared with nulls."""


def site_rows(result: MnistResult) -> list[SiteRow]:
    """One row for each network and site."""
    rows = []
    for name, architecture in settings(result):
        likeness = image_similarity(result.sets[name][0])
        trained = {n.seed: n for n in networks_of(result, name, architecture, "trained")}
        for kind in KINDS:
            of_kind = networks_of(result, name, architecture, kind)
            for site in of_kind[0].sites:
                maps = [network.sites[site].maps.centred for network in of_kind]
                groups = [class_groups(one) for one in maps]
                for i, network in enumerate(of_kind):
                    with_others = _with_others(i, maps, groups)
                    confused = trained[network.seed].confusions
                    rows.append(_row(network, site, confused, likeness, groups[i], *with_others))
    return rows


def _with_others(
    i: int, maps: Sequence[Tensor], groups: Sequence[list[int]]
) -> tuple[float | None, float | None]:
    """Agreement of the map and of the groups of a seed with those of the others."""
    others = [j for j in range(len(maps)) if j != i]
    if not others:
        return None, None
    agreement = spearman(maps[i], torch.stack([maps[j] for j in others]).mean(dim=0))
    return agreement, sum(ari(groups[i], groups[j]) for j in others) / len(others)


def _row(
    network: Network, site: int, confused: Tensor, likeness: Tensor, groups: list[int],
    agreement: float | None, group_agreement: float | None,
) -> SiteRow:  # fmt: skip
    at, map_ = network.sites[site], network.sites[site].maps.centred
    return SiteRow(
        network.dataset, network.architecture, network.kind, network.seed, site, at.name,
        network.examples, at.modes, network.examples / at.modes, sum(at.unique) / len(at.unique),
        at.maps.orthogonality, float(pairs(at.maps.cosines).mean()), spread(at), agreement,
        spearman(map_, confused), spearman(map_, likeness), partial(map_, confused, likeness),
        len(set(groups)), group_agreement,
    )  # fmt: skip


def spread(at: AtSite) -> float:
    return float(pairs(at.maps.centred).std(correction=0))


@dataclass(frozen=True)
class Comparison:
    """A measure of trained networks beside that of their nulls: means over seeds and their standard errors.

    The networks of one seed start from the same weights, so differences are taken seed by seed.
    """

    dataset: str
    architecture: str
    site: int
    measure: str
    trained: float | None
    trained_error: float | None
    untrained: float | None
    untrained_error: float | None
    shuffled: float | None
    shuffled_error: float | None
    from_untrained: float | None
    """Mean of trained - untrained, in its standard errors; None with one or two seeds, or where all are equal."""
    from_shuffled: float | None


def comparisons(result: MnistResult) -> list[Comparison]:
    """Of every measure, data set, architecture and site."""
    rows = site_rows(result)
    clusters = cluster_rows(result)
    found = []
    for name, architecture in settings(result):
        some = [row for row in rows if (row.dataset, row.architecture) == (name, architecture)]
        for site in dict.fromkeys(row.site for row in some):
            for measure in MEASURES:
                values = {
                    kind: [
                        getattr(row, measure)
                        for row in some
                        if (row.site, row.kind) == (site, kind)
                    ]
                    for kind in KINDS
                }
                found.append(compare(name, architecture, site, measure, values))
        columns = [
            row for row in clusters
            if (row["dataset"], row["architecture"]) == (name, architecture)
        ]  # fmt: skip
        for measure in list(columns[0])[len(KEYS) :] if columns else ():
            of = {kind: [row[measure] for row in columns if row["kind"] == kind] for kind in KINDS}
            found.append(compare(name, architecture, 0, measure, of))
    return found


def compare(
    dataset: str, architecture: str, site: int, measure: str,
    values: Mapping[str, Sequence[Any]],
) -> Comparison:  # fmt: skip
    """Of values by kind, each in the order of seeds; None for one that is missing.

    Examples:
        >>> values = {"trained": [1.0, 2.0, 3.0], "untrained": [0.0, 0.0, 0.0], "shuffled": [1.0, 3.0, 2.0]}
        >>> found = compare("mnist", "64", 0, "modes", values)
        >>> found.trained, round(found.from_untrained, 3), found.from_shuffled
        (2.0, 3.464, 0.0)
    """
    columns: list[float | None] = []
    for kind in KINDS:
        columns += mean_and_error(values[kind])
    trained, *nulls = (values[kind] for kind in KINDS)
    for null in nulls:
        columns.append(_in_errors(trained, null))
    return Comparison(dataset, architecture, site, measure, *columns)


def _in_errors(a: Sequence[float | None], b: Sequence[float | None]) -> float | None:
    differences = [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]
    mean, error = mean_and_error(differences)
    if mean is None or error is None or len(differences) < LEAST_SEEDS:
        return None
    largest = max(abs(value) for value in (*a, *b) if value is not None)
    return mean / error if error > ROUNDING * largest else None


KEYS = ("dataset", "architecture", "kind", "seed")


def cluster_rows(result: MnistResult) -> list[dict[str, object]]:
    """One row for each network: its clusters of input gradients, means over classes.

    `clusters_A`: clusters of at most A degrees for each gradient; `ratio_A`: these over those of a cloud of the
    same covariance, so 1 where gradients are in no clusters; `largest_A`: the share of the largest.
    """
    rows = []
    for network in (n for n in result.networks if n.clusters):
        row: dict[str, object] = {key: getattr(network, key) for key in KEYS}
        row["median_angle"] = _mean(one.median_angle for one in network.clusters)
        for angle in result.config.angles:
            own = _mean(_per_gradient(one, angle) for one in network.clusters)
            by_chance = _mean(_per_gradient(one, angle) for one in network.clouds)
            largest = _mean(one.largest.get(angle, 0.0) for one in network.clusters)
            row |= {
                f"clusters_{angle:g}": own,
                f"ratio_{angle:g}": own / by_chance if by_chance else 1.0,
                f"largest_{angle:g}": largest,
            }
        for prefix, some in (("", network.clusters), ("cloud_", network.clouds)):
            row[f"{prefix}dense"] = _mean(one.dense for one in some)
            row[f"{prefix}in_dense"] = _mean(one.in_dense for one in some)
            row[f"{prefix}in_second"] = _mean(one.in_second for one in some)
        rows.append(row)
    return rows


def _per_gradient(found: Grouped, angle: float) -> float:
    return found.clusters[angle] / found.vectors


def _mean(values: Iterator[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def settings(result: MnistResult) -> list[tuple[str, str]]:
    """Data sets and architectures."""
    return list(dict.fromkeys((n.dataset, n.architecture) for n in result.networks))


def networks_of(result: MnistResult, name: str, architecture: str, kind: str) -> list[Network]:
    """In the order of seeds."""
    return [
        n for n in result.networks
        if (n.dataset, n.architecture, n.kind) == (name, architecture, kind)
    ]  # fmt: skip
