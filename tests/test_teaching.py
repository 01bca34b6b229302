"""An embedder taught with zoos."""

from dataclasses import replace

import pytest
import torch

from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.studies import embedding_baselines, teaching
from gradsplinter.studies.teaching import _cloze, teach
from gradsplinter.tokens import Tokens
from gradsplinter.zoo import ZooConfig
from gradsplinter.zoo_training import make_zoo

CONFIG = ZooConfig(tasks=3, networks=4, hidden=(8,), examples=64, steps=60, batch_size=32)
TRAINING = EmbedderTrainingConfig(steps=30, batch=6, points=64, seed=2)


@pytest.fixture(scope="module")
def zoos():
    """Of two shapes."""
    other = replace(CONFIG, hidden=(6, 6), seed=1, networks=3)
    return [make_zoo(config, progress=False) for config in (CONFIG, other)]


def test_networks_of_all_zoos(zoos, monkeypatch):
    """No network is on both sides, and all tasks are on both, of each zoo."""
    seen = []
    train = teaching.train_embedder

    def keeps(networks, *arguments, **options):
        seen.extend(networks)
        return train(networks, *arguments, **options)

    monkeypatch.setattr(teaching, "train_embedder", keeps)
    taught = teach(zoos, config=TRAINING, held_out=1, progress=False)
    assert (taught.training, taught.held_out) == (9 + 6, 3 + 3)
    fingerprints = {net.fingerprint for net in seen}
    for zoo in zoos:
        own, other = zoo.split(1, 2)
        assert {zoo.networks[i].fingerprint for i in own.tolist()} <= fingerprints
        assert not {zoo.networks[i].fingerprint for i in other.tolist()} & fingerprints
    known = taught.trained.embedder.known
    assert known.names == tuple(task.name for task in zoos[0].tasks)
    assert [row.hidden for row in taught.cloze] == list(TRAINING.mask)
    for share in (taught.recognised, taught.unlike, taught.probe):
        assert share * 6 == pytest.approx(round(share * 6))


@pytest.mark.parametrize(("told", "expected"), [(1.0, 1.0), (0.0, 1 / 3)])
def test_what_it_measures(told, expected, zoos, monkeypatch):
    """Embeddings that are the label: all are recognised; all the same: a third."""
    zoo = zoos[0]
    found = iter([told * torch.eye(3)[zoo.labels[index]] for index in zoo.split(2, 2)])

    class Encoder:
        def encode(self, _):
            return next(found)

    class Trained:
        embedder = Encoder()

    monkeypatch.setattr(teaching, "train_embedder", lambda *_, **__: Trained())
    monkeypatch.setattr(teaching, "_cloze", lambda *_: [])
    taught = teach([zoo], config=TRAINING, held_out=2, progress=False)
    assert taught.recognised == pytest.approx(expected)
    assert taught.probe == pytest.approx(expected)
    assert taught.unlike == 0


def test_held_out_gradients_are_compared_with_the_mean_of_the_training(zoos, monkeypatch):
    asked = []

    def r2(tokens, hidden, _, mean):
        asked.append((len(tokens), float(hidden.sum() / (tokens.shares > 0).sum()), mean))
        return embedding_baselines.cloze_r2(tokens, hidden, lambda *_: mean, mean)

    monkeypatch.setattr(teaching, "cloze_r2", r2)
    taught = teach(zoos[:1], config=TRAINING, held_out=1, progress=False)
    assert [row.r2 for row in taught.cloze] == [0] * len(TRAINING.mask)
    assert [count for count, _, _ in asked] == [3] * len(TRAINING.mask)
    assert [share for _, share, _ in asked] == pytest.approx(TRAINING.mask, abs=0.05)


def test_of_networks_of_few_modes_one_is_hidden_and_one_is_shown():
    """At every rate, as in the training: 0.3 of one mode would be none, 0.9 of two both."""
    shares = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]])
    few = Tokens(torch.rand(2, 3, 2), torch.rand(2, 3, 2), shares)
    asked = []

    class Filler:
        def fill(self, tokens, visible):
            asked.append(~visible & (tokens.shares > 0))
            return tokens.values

    _cloze(Filler(), few, few, (0.3, 0.9), torch.Generator().manual_seed(0))
    assert [found.sum(1).tolist() for found in asked] == [[1, 1], [1, 1]]


def test_where_scikit_learn_is_missing(zoos, monkeypatch):
    def missing(*_, **__):
        raise ImportError("the extra `cluster` is missing")

    monkeypatch.setattr(teaching, "probe_accuracy", missing)
    assert teach(zoos[:1], config=TRAINING, held_out=1, progress=False).probe is None


def test_zoos_that_do_not_go_together(zoos):
    with pytest.raises(ValueError, match="zoos must hold at least one zoo, got none"):
        teach([])
    with pytest.raises(ValueError, match="zoos must not share networks, got some twice"):
        teach([zoos[0], zoos[0]])
    other = make_zoo(replace(CONFIG, tasks=2, steps=1), progress=False)
    with pytest.raises(
        ValueError, match="must be of the same tasks, got 2 of formulae, 3 of formu"
    ):
        teach([zoos[0], other])
    with pytest.raises(ValueError, match="held_out must be below 3"):
        teach(zoos, held_out=3, progress=False)
    with pytest.raises(TypeError, match=r"zoos\[0\] must be a Zoo, got str"):
        teach(["a"])


def test_of_each_task_two_networks_are_left(zoos, monkeypatch):
    """Which is said before any training; of two zoos together one each is enough."""
    train = teaching.train_embedder
    monkeypatch.setattr(teaching, "train_embedder", None)
    with pytest.raises(ValueError, match=r"held_out must leave at least 2 networks .* leaves 1"):
        teach(zoos[:1], config=TRAINING, held_out=3, progress=False)
    monkeypatch.setattr(teaching, "train_embedder", train)
    small = replace(CONFIG, networks=2, seed=7)
    both = [make_zoo(replace(small, seed=seed), progress=False) for seed in (7, 8)]
    known = teach(both, config=replace(TRAINING, steps=2), held_out=1, progress=False)
    assert bool((known.trained.embedder.known.distances > 0).all())
