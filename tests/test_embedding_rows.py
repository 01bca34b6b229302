"""Which embedder, tokens and networks answer which question: with embedders that say who they are."""

import copy
from dataclasses import replace

import pytest
import torch

from gradsplinter.embedder import Embedder, EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.studies import (
    embedding_ablation,
    embedding_rows,
    embedding_trial,
    supervised,
)
from gradsplinter.studies.embedding_rows import FILLED, cloze_rows, probe_rows, structure_rows
from gradsplinter.studies.embedding_trial import EmbeddingConfig, Trial, grid
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.tokens import Tokens
from gradsplinter.zoo import ZooConfig
from gradsplinter.zoo_training import make_zoo

CONFIG = EmbeddingConfig(
    seeds=(0,),
    held_out=2,
    points=200,
    visible=3,
    training=EmbedderTrainingConfig(steps=2, batch=8, points=64, mask=(0.5,)),
)
TRAINED, HALF, UNTRAINED, SUPERVISED = 1.0, 2.0, 3.0, 4.0


class Named:
    """An embedder whose embeddings and decoded values are its number; and what it was shown."""

    def __init__(self, number, inputs=2):
        self.number, self.inputs, self.shown = number, inputs, []
        self.value_mean = torch.tensor([number, 0.0])
        self.value_scale = torch.tensor([2.0, 4.0])

    def encode(self, tokens, visible=None):
        self.shown.append((tokens, visible))
        return torch.full((len(tokens), 2), self.number)

    def decode(self, embedding, points):
        return embedding[:, None, :1].expand(*points.shape[:2], self.inputs)

    fill = Embedder.fill


class Taught:
    def __init__(self, embedder):
        self.embedder = embedder


@pytest.fixture(scope="module")
def zoo():
    config = ZooConfig(tasks=6, networks=5, hidden=(8, 8), examples=64, steps=20)
    return make_zoo(config, progress=False)


@pytest.fixture
def trial(zoo):
    found = Trial(CONFIG, zoo, 0)
    found.__dict__.update(
        trained=Taught(Named(TRAINED)),
        half=Taught(Named(HALF)),
        untrained=Named(UNTRAINED),
        supervised=Named(SUPERVISED),
    )
    return found


def indices(trial, tokens):
    """Of the networks of which these are tokens."""
    longest = tokens.points.shape[1]
    return {
        i
        for points in tokens.points
        for i in range(len(trial.tokens))
        if torch.equal(trial.tokens.points[i, :longest], points)
    }


def is_filled(tokens):
    return (tokens.shares > 0).sum(1)


def test_who_answers_which_question(trial, monkeypatch):
    """The probe is one that says whose features it got; the splits of networks are looked at, too."""
    splits = {}

    def probe(features, _, training, test, per_class=None):
        number = float(features[0, 0]) if features.shape[1] == 2 else -1.0
        splits.setdefault((number, per_class), []).append((training, test))
        return number

    monkeypatch.setattr(embedding_rows, "probe_accuracy", probe)
    found = {(row.question, row.method): row.accuracy for row in probe_rows(trial)}
    known = ("all labels", "one label a class")
    sparse = ("3 modes", "noisy gradients", "3 gradients, all places", "no gradient, all places")
    unseen = ("unseen tasks", "unseen tasks, one label")
    for question in (*known, *sparse, *unseen):
        assert found[question, "embedder"] == (HALF if question in unseen else TRAINED)
        assert found[question, "untrained embedder"] == UNTRAINED
        assert found.get((question, "supervised embedder"), SUPERVISED) == SUPERVISED
        assert ((question, "supervised embedder") in found) == (question not in unseen)
    _, others = trial.halves
    for training, test in (
        pair for (number, _), pairs in splits.items() for pair in pairs if number == HALF
    ):
        assert set(trial.zoo.labels[training].tolist()) == set(others.tolist())
        assert set(trial.zoo.labels[test].tolist()) == set(others.tolist())
        assert not set(training.tolist()) & set(trial.test.tolist())
        assert set(test.tolist()) <= set(trial.test.tolist())
    for training, test in splits[TRAINED, None]:
        assert torch.equal(training, trial.training)
        assert torch.equal(test, trial.test)


def test_what_is_shown_for_each_question(trial, monkeypatch):
    monkeypatch.setattr(embedding_rows, "probe_accuracy", lambda *_, **__: 0.0)
    list(probe_rows(trial))
    (whole, _), (few, _), (noisy, _), (_, eight), (_, none) = trial.trained.embedder.shown
    assert whole is trial.tokens
    assert torch.equal(is_filled(few), is_filled(trial.tokens).clamp(max=3))
    assert torch.allclose(few.shares.sum(1), torch.ones(len(few)))
    assert torch.equal(few.shares > 0, trial.few)
    scaled = ((noisy.values - trial.tokens.values) / trial.untrained.value_scale).flatten()
    assert float(scaled.std()) == pytest.approx(CONFIG.noise, rel=0.05)
    assert torch.equal(eight, trial.few)
    assert not none.any()


def test_exact_fields_weigh_alike_where_all_are_noisy(trial, monkeypatch):
    weights = []

    def named(tokens, _, *, by_share):
        weights.append((bool((is_filled(tokens) <= 3).all()), by_share))
        return trial.zoo.labels

    monkeypatch.setattr(embedding_rows, "probe_accuracy", lambda *_, **__: 0.0)
    monkeypatch.setattr(embedding_rows.baselines, "nearest_task", named)
    found = [row.accuracy for row in probe_rows(trial) if row.method == embedding_rows.KNOWS]
    assert found == [1, 1]
    assert weights == [(True, True), (False, False)]


def test_kernels_are_chosen_by_networks_that_may_be_known(trial, monkeypatch):
    """Never by held-out ones; for unseen tasks only by networks of the others."""
    chosen, processes = [], embedding_rows.baselines.GaussianProcess

    def process(tokens, hidden):
        chosen.append(indices(trial, tokens))
        assert hidden.shape == tokens.shares.shape
        return processes(tokens, hidden)

    monkeypatch.setattr(embedding_rows.baselines, "GaussianProcess", process)
    rows = list(probe_rows(trial))
    assert sum(row.method == FILLED for row in rows) == len(chosen) == 2
    list(cloze_rows(trial))
    assert len(chosen) == 4
    training = set(trial.training.tolist())
    half, _ = trial.halves
    of_half = {i for i in training if trial.zoo.labels[i] in half}
    assert all(some and some <= training for some in chosen)
    assert chosen[3] <= of_half
    assert not chosen[2] <= of_half


def test_who_fills_in(trial, monkeypatch):
    """By the visible tokens alone, and R² is beside the mean of what that embedder was taught with."""
    asked = []

    def r2(tokens, hidden, fill, mean):
        asked.append((indices(trial, tokens), float(fill(tokens, ~hidden).mean()), float(mean[0])))
        return 0.0

    monkeypatch.setattr(embedding_rows.baselines, "cloze_r2", r2)
    rows = list(cloze_rows(trial))
    found = {(row.method, row.networks): one for row, one in zip(rows, asked, strict=True)}
    half, _ = trial.halves
    unseen = {i for i in trial.test.tolist() if trial.zoo.labels[i] not in half}
    assert found["embedder", "known tasks"] == (set(trial.test.tolist()), TRAINED, TRAINED)
    assert found["embedder", "unseen tasks"] == (unseen, HALF, HALF)
    assert found["nearest visible mode", "unseen tasks"][::2] == (unseen, HALF)
    for embedder, index in ((trial.trained.embedder, trial.test), (trial.half.embedder, unseen)):
        ((shown, visible),) = embedder.shown
        assert visible is None
        there = is_filled(trial.tokens[torch.tensor(sorted(index))])
        assert bool((is_filled(shown) - 0.5 * there).abs().le(1).all())  # half are hidden


def test_whose_neighbours(trial):
    """Embeddings of the one are the tasks, of the other the numbers within the tasks."""
    labels, count = trial.zoo.labels, trial.zoo.config.networks
    of_task = torch.nn.functional.one_hot(labels, 6).double()
    within = torch.nn.functional.one_hot(torch.arange(len(labels)) % count, count).double()
    trial.trained.embedder.encode = lambda _: of_task
    trial.half.embedder.encode = lambda _: within
    found = {(row.method, row.networks): row.neighbours for row in structure_rows(trial)}
    assert found["embedder", "known tasks"] == 1
    assert found["embedder", "unseen tasks"] < 0.7


def test_the_supervised_one_sees_training_networks_only(zoo, monkeypatch):
    seen, taught = [], []
    tokens_of, teach = embedding_trial.tokens_of, embedding_trial.teach_supervised

    def looks(nets, *arguments, **options):
        seen.append({net.fingerprint for net in nets})
        return tokens_of(nets, *arguments, **options)

    def teaches(look, labels, *arguments):
        taught.append(labels)
        return teach(look, labels, *arguments)

    shown, encode = [], Embedder.encode

    def encodes(self, tokens, visible=None):
        shown.append((tokens, visible))
        return encode(self, tokens, visible)

    monkeypatch.setattr(embedding_trial, "tokens_of", looks)
    monkeypatch.setattr(Embedder, "encode", encodes)
    monkeypatch.setattr(embedding_trial, "teach_supervised", teaches)
    trial = Trial(CONFIG, zoo, 0)
    seen.clear()
    assert trial.supervised.config.size == 16
    assert torch.equal(taught[0], zoo.labels[trial.training])
    training = {zoo.networks[i].fingerprint for i in trial.training.tolist()}
    for tokens, visible in shown:
        first = len(tokens) // 2
        assert visible[:first].all()
        assert not visible[first:].all()
    validation, rest = seen
    assert validation | rest == training
    assert not validation & rest


def test_the_supervised_one_learns(zoo):
    """Twice as many steps as there are networks: it tells those that it was taught with."""
    training = replace(CONFIG.training, steps=150, batch=18, refresh=50)
    trial = Trial(replace(CONFIG, training=training), zoo, 0)
    embedding = trial.supervised.encode(trial.tokens)
    untrained = trial.untrained.encode(trial.tokens)
    known, own = trial.training, zoo.labels

    def spread(found):
        """Within tasks, by all."""
        means = torch.stack([found[known][own[known] == task].mean(0) for task in range(6)])
        within = (found[known] - means[own[known]]).square().sum()
        return float(within / (found[known] - found[known].mean(0)).square().sum())

    assert spread(embedding) < 0.5 * spread(untrained)


def test_the_supervised_one_of_the_best_validation_is_returned(monkeypatch):
    """And it stops at the second one that is not better."""
    said, made, states = [3.0, 1.0, 2.0, 1.5, 0.0], [], []
    cross_entropy = torch.nn.functional.cross_entropy

    def makes(*arguments):
        made.append(Embedder(*arguments))
        return made[-1]

    def loss(logits, labels):
        if torch.is_grad_enabled():  # a step
            return cross_entropy(logits, labels)
        states.append(copy.deepcopy(made[0].state_dict()))
        return torch.tensor(said[len(states) - 1])

    def look(index, generator):
        points, values = torch.rand(2, len(index), 5, 2, generator=generator)
        return Tokens(points, values, torch.full((len(index), 5), 0.2))

    monkeypatch.setattr(supervised, "Embedder", makes)
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", loss)
    config = EmbedderTrainingConfig(steps=10, batch=4, refresh=2, patience=2)
    labels = torch.arange(10) % 2
    found = supervised.teach_supervised(
        look, labels, EmbedderConfig(), config, torch.device("cpu")
    ).state_dict()
    same = [all(torch.equal(found[name], state[name]) for name in found) for state in states]
    assert same == [False, True, False, False]


def test_the_probe_is_scaled_by_its_training_rows():
    """One test row that is far off changes nothing for the others."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(20)
    features = 0.02 * torch.randn(80, 4, generator=generator) + torch.nn.functional.one_hot(
        labels, 4
    )
    training, test = torch.arange(0, 80, 2), torch.arange(1, 80, 2)
    features[1] = 1e6
    assert probe_accuracy(features, labels, training, test) >= 1 - 1 / len(test)


def test_few_modes_are_few_in_ablations(trial, monkeypatch):
    """Of an embedder that knows the task where it sees all, and nothing where it sees few."""
    of_task = torch.nn.functional.one_hot(trial.zoo.labels, 6).double()

    def encode(tokens, _=None):
        return of_task if len(tokens) == 30 and int(is_filled(tokens).max()) > 3 else 0 * of_task

    trial.trained.embedder.encode = encode
    monkeypatch.setattr(embedding_ablation.baselines, "cloze_r2", lambda *_: 0.25)
    trial.trained.embedder.fill = None
    row = embedding_ablation._row(trial, "", "as it is")
    assert (row.all_labels, row.one_label, row.cloze_r2) == (1, 1, 0.25)
    assert row.few_modes < 0.5


def test_ablations_fill_in_by_the_visible_tokens_alone(trial, monkeypatch):
    """As `Embedder.fill` does; R² is beside the mean of what the embedder was taught with."""
    asked = []

    def r2(tokens, hidden, fill, mean):
        asked.append((tokens, hidden, float(mean[0])))
        assert float(fill(tokens, ~hidden).mean()) == TRAINED
        return 0.25

    monkeypatch.setattr(embedding_ablation, "probe_accuracy", lambda *_, **__: 0.0)
    monkeypatch.setattr(embedding_ablation.baselines, "cloze_r2", r2)
    assert embedding_ablation._row(trial, "", "as it is").cloze_r2 == 0.25
    ((tokens, hidden, mean),) = asked
    assert mean == TRAINED
    assert indices(trial, tokens) == set(trial.test.tolist())
    assert hidden.sum(1).tolist() == (0.6 * is_filled(tokens)).round().int().tolist()
    shown, visible = trial.trained.embedder.shown[-1]
    assert visible is None
    assert torch.equal(shown.shares > 0, (tokens.shares > 0) & ~hidden)


def test_unseen_tasks_are_no_known_ones_turned_or_mirrored(zoo):
    """Of the six, the second and third only exchange the inputs, as do the fifth and the sixth."""
    turning = replace(CONFIG, training=replace(CONFIG.training, symmetries=True))
    pairs = ({1, 2}, {4, 5})
    torn = 0
    for seed in range(8):
        known, others = ({*half.tolist()} for half in Trial(turning, zoo, seed).halves)
        assert len(known) in (2, 3)
        assert known | others == {*range(6)}
        assert all(pair <= known or pair <= others for pair in pairs)
        plain = Trial(CONFIG, zoo, seed).halves[0]
        assert len(plain) == 3
        torn += any(len(pair & {*plain.tolist()}) == 1 for pair in pairs)
    assert torn > 0


def test_each_network_is_looked_at_with_examples_of_its_own(zoo):
    training = replace(CONFIG.training, tokens="samples")
    trial = Trial(replace(CONFIG, training=training), zoo, 0)
    assert len(trial.tokens.points.flatten(0, 1).unique(dim=0)) == 30 * 200


def test_a_grid_is_the_same_for_all_networks(zoo):
    trial = Trial(
        replace(CONFIG, grid=True, training=replace(CONFIG.training, tokens="samples")), zoo, 0
    )
    expected = grid(trial.low, trial.high, CONFIG.points)
    assert len(expected) == 14**2
    for points in trial.tokens.points:
        assert torch.equal(points, expected)
    assert float(trial.low.max()) < 0.01
    assert float(trial.high.min()) > 0.99
