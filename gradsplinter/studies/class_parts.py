"""Class pathways of networks that classify images: which look alike, and do those of a class in all networks?

A pathway is the part from the input to the logit of a class. Its coordinates are the first principal directions of
the images, the same for all networks. An embedder is taught, without classes, with the pathways of some networks;
those of others are embedded. Networks of shuffled labels, each shuffled anew, have pathways that mean nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gradsplinter.data import Dataset
from gradsplinter.embedder import Embedder
from gradsplinter.embedder_training import train_embedder_of
from gradsplinter.network import ReluNetwork
from gradsplinter.splinters import Splinters
from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.class_parts_result import (
    FIRST_TAUGHT,
    SHUFFLED,
    TRUE,
    ClassifierRow,
    ClassPartsConfig,
    ClassPartsResult,
    ClassPartsRow,
)
from gradsplinter.studies.classifiers import shuffled_labels, train_classifier
from gradsplinter.studies.embedding_trial import AT_FIXED_POINTS, FIXED_POINTS
from gradsplinter.studies.kept import Kept, about
from gradsplinter.studies.part_tokens import mean_gradients, principal_directions
from gradsplinter.studies.statistics import rank_correlation, standardised
from gradsplinter.table import splinter
from gradsplinter.tokens import Tokens, joined, of_splinters


def run_class_parts(
    config: ClassPartsConfig,
    name: str,
    train: Dataset,
    test: Dataset,
    *,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> ClassPartsResult:
    """Everything that is measured on one data set.

    Args:
        config: what to train and ask.
        name: of the data.
        train, test: its parts.
        checkpoint: a folder that is there, in which it keeps the networks and the state of the embedder's teaching, and
            from which it goes on where it was interrupted.
        device: where the embedder is taught; by default on the CPU.
        progress: show bars on stderr.

    Raises:
        ValueError: data that does not fit; a checkpoint of something else.
    """
    train = _first(train, config.training_examples)
    if train.x.shape[1] < config.directions:
        raise ValueError(
            f"directions must be at most {train.x.shape[1]}, the inputs of {name}, got "
            f"{config.directions}"
        )
    folder = None if checkpoint is None else Path(checkpoint)
    kept = Kept(
        None if folder is None else folder / f"{name}.json",
        about(asdict(config), data=_fingerprint(train)),
    )
    basis = principal_directions(train.x, config.directions)
    taught = range(FIRST_TAUGHT, FIRST_TAUGHT + config.taught)
    total = len(taught) + 2 * len(config.seeds)
    with tqdm(total=total, disable=not progress, desc=f"{name}: networks") as bar:

        def trained(seed: int, labels: str) -> ReluNetwork:
            def make() -> ReluNetwork:
                data = train if labels == TRUE else shuffled_labels(train, seed)
                return ReluNetwork.from_module(train_classifier(config.training, data, seed))

            net = kept.network(f"{name}-{labels}-{seed}", make)
            bar.update()
            return net

        teachers = [trained(seed, TRUE) for seed in taught]
        compared = {
            labels: [trained(seed, labels) for seed in config.seeds] for labels in (TRUE, SHUFFLED)
        }
    state = None if folder is None else folder / f"{name}-embedder.safetensors"
    x = test.x[: config.examples]
    judge = _Judge(config, teachers, basis, train.x, x, state, device, progress)
    networks: list[ClassifierRow] = []
    rows: list[ClassPartsRow] = []
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for labels, nets in compared.items():
        guesses = [net(test.x).argmax(1) for net in nets]
        for seed, guess in zip(config.seeds, guesses, strict=True):
            right = float((guess == test.y).double().mean())
            networks.append(ClassifierRow(name, labels, seed, right))
        confusion = _confusion(torch.cat(guesses), test.y.repeat(len(nets)), len(train.classes))
        features = judge.features(nets)
        found[labels] = features["embedder"], confusion
        rows += _rows(name, labels, config.seeds, features, judge.cosines(nets), confusion)
    embeddings, confusion = found[TRUE]
    distances = torch.cdist(embeddings, embeddings).mean(0)
    return ClassPartsResult(
        config, name, train.classes, networks, rows, distances, confusion, embeddings
    )


class _Judge:
    """An embedder, taught with the pathways of some networks, and baselines.

    Args:
        config: how it is taught.
        nets: of which.
        basis: `[d, h_0]`.
        images: that networks are looked at with in teaching.
        x: `[N, h_0]`, and afterwards.
        checkpoint: of its teaching.
        device: where it is taught.
        progress: show a bar.
    """

    def __init__(
        self,
        config: ClassPartsConfig,
        nets: Sequence[ReluNetwork],
        basis: Tensor,
        images: Tensor,
        x: Tensor,
        checkpoint: Path | None,
        device: torch.device | str | None,
        progress: bool,
    ) -> None:
        self.kind, self.basis, self.x = config.teaching.tokens, basis, x
        classes = nets[0].widths[-1]

        def look(index: Sequence[int], generator: torch.Generator) -> Tokens:
            chosen = torch.randperm(len(images), generator=generator)[: config.teaching.points]
            some = images[chosen]
            splinters = {i: splinter(nets[i], some) for i in {i // classes for i in index}}
            return joined([self.pathway(splinters[i // classes], some, i % classes) for i in index])

        shape = replace(config.shape, inputs=config.directions)
        names = [f"{net.fingerprint} {output}" for net in nets for output in range(classes)]
        taught = train_embedder_of(
            look,
            names,
            shape,
            config.teaching,
            checkpoint=checkpoint,
            device=device,
            progress=progress,
        )
        self.embedder = taught.embedder
        self.untrained = Embedder(shape, config.teaching.seed).requires_grad_(False)
        self.fixed = x[:FIXED_POINTS] @ basis.T
        tokens = self.tokens(nets)
        self.untrained.standardise(tokens)
        self.known = self._features(nets, tokens)

    def pathway(self, s: Splinters, x: Tensor, output: int) -> Tokens:
        return of_splinters(s, x, output, self.basis, kind=self.kind)

    def tokens(self, nets: Sequence[ReluNetwork]) -> Tokens:
        """Of all pathways of each network, one after the other."""
        sets = []
        for net in nets:
            s = splinter(net, self.x)
            sets += [self.pathway(s, self.x, output) for output in range(s.n_directions)]
        return joined(sets)

    def features(self, nets: Sequence[ReluNetwork]) -> dict[str, Tensor]:
        """By method, `[networks, C, F]`; standardised by those of the networks that it was taught with."""
        found = {}
        for method, own in self._features(nets, self.tokens(nets)).items():
            scaled = standardised(own, self.known[method])
            found[method] = scaled.double().unflatten(0, (len(nets), -1))
        return found

    def _features(self, nets: Sequence[ReluNetwork], tokens: Tokens) -> dict[str, Tensor]:
        there = tokens.shares > 0
        return {
            "embedder": self.embedder.encode(tokens),
            "untrained embedder": self.untrained.encode(tokens),
            AT_FIXED_POINTS: baselines.nearest_at(tokens, there, self.fixed),
            "statistics of gradients": baselines.mode_statistics(tokens),
            "mean gradient": (tokens.shares.unsqueeze(2) * tokens.values).sum(1),
            "mean gradient by pixels": torch.cat([self._mean_gradients(net) for net in nets]),
        }

    def cosines(self, nets: Sequence[ReluNetwork]) -> Tensor:
        """Of the mean gradients by pixels of every two pathways, `[networks, C, C]`."""
        return torch.stack(
            [
                torch.nn.functional.cosine_similarity(mean.unsqueeze(0), mean.unsqueeze(1), dim=2)
                for mean in map(self._mean_gradients, nets)
            ]
        )

    def _mean_gradients(self, net: ReluNetwork) -> Tensor:
        return mean_gradients(splinter(net, self.x))


def _rows(
    dataset: str,
    labels: str,
    seeds: Sequence[int],
    features: Mapping[str, Tensor],
    cosines: Tensor,
    confusion: Tensor,
) -> Iterator[ClassPartsRow]:
    left, right = torch.triu_indices(len(confusion), len(confusion), offset=1)
    confused = (confusion + confusion.T)[left, right]
    for method, found in features.items():
        distances = torch.cdist(found, found)[:, left, right]
        for i, seed in enumerate(seeds):
            others = [j for j in range(len(seeds)) if j != i]
            agreement = [rank_correlation(distances[i], distances[j]) for j in others]
            yield ClassPartsRow(
                dataset, labels, seed, method,
                same_class(found[i], found[others]), sum(agreement) / len(agreement),
                rank_correlation(-distances[i], confused),
                rank_correlation(-distances[i], cosines[i][left, right]),
            )  # fmt: skip


def same_class(own: Tensor, others: Tensor) -> float:
    """Share of classes whose nearest vector in other networks is of the same class.

    Args:
        own: `[C, F]`.
        others: `[networks, C, F]`.

    Examples:
        >>> same_class(torch.tensor([[0.0], [1.0]]), torch.tensor([[[0.2], [2.0]], [[0.9], [5.0]]]))
        0.5
    """
    nearest = torch.cdist(own, others.flatten(0, 1)).argmin(1) % len(own)
    return float((nearest == torch.arange(len(own))).double().mean())


def _confusion(guesses: Tensor, y: Tensor, classes: int) -> Tensor:
    """int64 `[C, C]`: how often a class (row) was taken for another (column); 0 on the diagonal."""
    counts = torch.bincount(y * classes + guesses, minlength=classes**2)
    return counts.view(classes, classes).fill_diagonal_(0)


def _fingerprint(data: Dataset) -> str:
    """SHA-256 (hex) of examples and classes."""
    digest = hashlib.sha256(data.x.numpy().tobytes())
    digest.update(data.y.numpy().tobytes())
    return digest.hexdigest()


def _first(data: Dataset, n: int) -> Dataset:
    return Dataset(data.x[:n], data.y[:n], data.classes, data.image_shape, data.source)
