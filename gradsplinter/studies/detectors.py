"""Scores of how unusual an example is to a network, fitted on training data alone.

All are the higher, the more unusual; none has seen an attack. Ours look at modes and gradients, the others
are what the field compares with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradsplinter import ops
from gradsplinter.clusters import clusters
from gradsplinter.network import ReluNetwork
from gradsplinter.patterns import unpack_bits, words_of
from gradsplinter.region_statistics import border_distances
from gradsplinter.studies.attacks import pre_activations
from gradsplinter.studies.classifiers import predict

SHRINK = 1e-3
"""Of the covariance's mean variance, added to its diagonal: units that are never on have none."""


@dataclass(frozen=True)
class _Gaussians:
    """One for each class, of one covariance: Lee et al., "A Simple Unified Framework for Detecting
    Out-of-Distribution Samples and Adversarial Attacks" (2018)."""

    means: Tensor
    """float64 [classes, units]."""
    precision: Tensor
    """float64 [units, units]."""

    @staticmethod
    def fit(a: Tensor, y: Tensor, classes: int) -> _Gaussians:
        means = torch.stack([a[y == c].mean(0) for c in range(classes)])
        apart = a - means[y]
        covariance = apart.T @ apart / len(a)
        units = len(covariance)
        shrink = SHRINK * covariance.diagonal().mean() + torch.finfo(a.dtype).tiny
        eye = torch.eye(units, dtype=a.dtype)
        return _Gaussians(means, torch.linalg.inv(covariance + shrink * eye))

    def nearest(self, a: Tensor) -> Tensor:
        """The squared Mahalanobis distance to the nearest mean, [N]."""
        apart = a.unsqueeze(1) - self.means
        return (apart @ self.precision * apart).sum(2).min(1).values


class Detectors:
    """Every score of one network.

    Training examples that the network classifies rightly define the modes; the modes of an example are
    compared with those of its predicted class.

    Args:
        net: `nn.Linear` and `nn.ReLU` in turn, from inputs to logits.
        x: training inputs `[N, h_0]`.
        y: int64 `[N]`: their classes.
        cluster_angle: diameter of clusters of gradients, in radians.
        borders: whether to measure the distance to region borders, which takes most of the time.

    Raises:
        ValueError: a class of which no example is classified rightly.
    """

    def __init__(
        self,
        net: nn.Sequential,
        x: Tensor,
        y: Tensor,
        *,
        cluster_angle: float,
        borders: bool = True,
    ) -> None:
        self.net, self.relu = net, ReluNetwork.from_module(net)
        self.borders, self.classes = borders, self.relu.widths[-1]
        self.widths = list(self.relu.widths[1:-1])
        right = predict(net, x).argmax(1) == y
        self.x, self.y = x[right], y[right]
        missing = [c for c in range(self.classes) if not bool((self.y == c).any())]
        if missing:
            raise ValueError(
                "epochs must be enough for the network to classify some example of each class rightly, "
                f"got none of class {missing[0]}"
            )
        self.signatures = ops.signatures(self.relu, self.x)
        activations = self._activations(self.x)
        self.gaussians = [_Gaussians.fit(a, self.y, self.classes) for a in activations]
        with torch.no_grad():
            self.scale = pre_activations(net, self.x)[0].std(0).clamp_min(1e-6)
        self._fit_gradients(cluster_angle)

    def scores(self, x: Tensor) -> dict[str, Tensor]:
        """By name, float64 `[N]`: those of `BASELINES`, then ours."""
        logits = predict(self.net, x).double()
        predicted = logits.argmax(1)
        words = ops.signatures(self.relu, x)
        mahalanobis = [
            gaussians.nearest(a)
            for gaussians, a in zip(self.gaussians, self._activations(x), strict=True)
        ]
        found = {
            "max-softmax": -F.log_softmax(logits, 1).max(1).values,
            "energy": -logits.logsumexp(1),
            "Mahalanobis, last site": mahalanobis[-1],
            "Mahalanobis, all sites": torch.stack(mahalanobis).sum(0),
        }
        found |= self._bits(words, predicted)
        found |= self._rarity(words)
        found |= self._gradients(words, predicted)
        if self.borders:
            found["nearness of a border"] = -border_distances(self.relu, x).distance
        return found

    def nearest_mode(self, x: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        """Of the nearest training mode of a class `[N]`: the sum of the two scores of all bits, "bits of all
        sites" and "bits, own less other", and the bits of the mode as 1 and -1 `[N, units]`."""
        distance, nearest = ops.nearest_signatures(
            ops.signatures(self.relu, x), self.signatures, self.y, self.classes
        )
        own, others = self._own_and_others(distance.double(), of)
        bits = self.signatures[nearest.gather(1, of.unsqueeze(1)).squeeze(1)]
        signs = 2 * torch.cat(unpack_bits(bits, self.widths), dim=1).float() - 1
        return own + (own - others), signs

    def known(self, x: Tensor) -> Tensor:
        """bool `[N]`: whether a training example has the same mode."""
        return self._counts(ops.signatures(self.relu, x), 0) > 0

    def _bits(self, words: Tensor, predicted: Tensor) -> dict[str, Tensor]:
        """Bits that differ from the nearest training mode of the predicted class.

        Those of the last site alone are the monitor of Cheng, Nührenberg and Yasuoka, "Runtime Monitoring
        Neuron Activation Patterns" (2019).
        """
        found, begin = {}, 0
        for site, width in enumerate(self.widths, 1):
            part = slice(begin, begin := begin + words_of(width))
            distance = self._nearest(words[:, part], part)
            name = "NAP monitor" if site == len(self.widths) else f"bits of site {site}"
            found[name], _ = self._own_and_others(distance, predicted)
        found = {"NAP monitor": found.pop("NAP monitor"), **found}
        own, others = self._own_and_others(self._nearest(words, slice(None)), predicted)
        return found | {"bits of all sites": own, "bits, own less other": own - others}

    def _own_and_others(self, distance: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        """[N] of each: distances [N, classes] to the class itself, and to the nearest of the others."""
        own = F.one_hot(of, self.classes).bool()
        return distance[own], distance.masked_fill(own, torch.inf).min(1).values

    def _nearest(self, words: Tensor, part: slice) -> Tensor:
        distance, _ = ops.nearest_signatures(words, self.signatures[:, part], self.y, self.classes)
        return distance.double()

    def _rarity(self, words: Tensor) -> dict[str, Tensor]:
        """-log of the share of training examples with the same mode at a site, (count + 1) / (N + 1)."""
        found, begin = {}, 0
        for site, width in enumerate(self.widths):
            shares = (self._counts(words, begin) + 1) / (len(self.x) + 1)
            found[f"rarity at site {site}"] = -shares.log()
            begin += words_of(width)
        return found | {"rarity of the path": torch.stack(list(found.values())).sum(0)}

    def _counts(self, words: Tensor, begin: int) -> Tensor:
        """float64 [N]: how many training examples have the same words from `begin` on."""
        known = len(self.signatures)
        ids = ops.unique_rows(torch.cat([self.signatures, words])[:, begin:].contiguous()).ids
        counts = ids[:known].bincount(minlength=int(ids.max()) + 1)
        return counts[ids[known:]].double()

    def _fit_gradients(self, angle: float) -> None:
        """Of each class the directions of its own logit's gradients, and clusters of them."""
        self.directions, self.centers, self.rarity = [], [], []
        for c in range(self.classes):
            gradients = self._gradient(self.signatures[self.y == c], c)
            grouped = clusters(gradients, min(angle, math.pi / 2), max_diameter=angle)
            self.directions.append(F.normalize(gradients.double(), dim=1))
            self.centers.append(F.normalize(grouped.centers.double(), dim=1))
            self.rarity.append(-(grouped.counts / grouped.counts.sum()).log().double())

    def _gradients(self, words: Tensor, predicted: Tensor) -> dict[str, Tensor]:
        """The angle of the predicted class's gradient to the nearest of training, in degrees, and how rare
        the cluster is whose center is nearest."""
        angle, rarity = (torch.zeros(len(words), dtype=torch.float64) for _ in range(2))
        for c in range(self.classes):
            rows = (predicted == c).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            units = F.normalize(self._gradient(words[rows], c).double(), dim=1)
            nearest = (units @ self.directions[c].T).max(1).values
            angle[rows] = torch.rad2deg(nearest.clamp(-1, 1).acos())
            rarity[rows] = self.rarity[c][(units @ self.centers[c].T).argmax(1)]
        return {"angle of the gradient": angle, "rarity of its cluster": rarity}

    def _gradient(self, words: Tensor, c: int) -> Tensor:
        """Of logit c in each mode, [N, h_0]."""
        direction = F.one_hot(torch.tensor([c]), self.classes).float()
        return ops.jacobian(self.relu, words, directions=direction).squeeze(1)

    def _activations(self, x: Tensor) -> list[Tensor]:
        """Of each hidden site, float64 [N, h]."""
        with torch.no_grad():
            z, _ = pre_activations(self.net, x)
        return [a.double() for a in z.relu().split(self.widths, dim=1)]


BASELINES = (
    "max-softmax",
    "energy",
    "Mahalanobis, last site",
    "Mahalanobis, all sites",
    "NAP monitor",
)
"""Scores that are not ours: Hendrycks and Gimpel 2017; Liu et al. 2020; Lee et al. 2018; Cheng et al. 2019."""
