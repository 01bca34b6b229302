"""Tokens of networks, and the model that fills in the hidden ones."""

import copy
import itertools
import json
import math

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from gradsplinter import ReluNetwork, embedder_training, io, splinter
from gradsplinter.embedder import Embedder, EmbedderConfig
from gradsplinter.embedder_training import (
    EmbedderTrainingConfig,
    train_embedder,
    train_embedder_of,
)
from gradsplinter.embedding import embed
from gradsplinter.tokens import Tokens, hide, joined, of_splinters, tokens_of, turned
from gradsplinter.train import initialise

NETS = [initialise([2, 8, 8, 1], seed) for seed in range(12)]


def draw(n, generator):
    return torch.rand(n, 2, generator=generator)


def random_tokens(sets=3, count=20, inputs=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points, values = torch.randn(2, sets, count, inputs, generator=generator)
    shares = torch.rand(sets, count, generator=generator)
    return Tokens(points, values, shares / shares.sum(1, keepdim=True))


# --- tokens -----------------------------------------------------------------------------------------


def elsewhere(tokens, some):
    """The same sets, some of whose tokens have another point and value."""
    points, values = (
        data.masked_fill(some.unsqueeze(2), by)
        for data, by in ((tokens.points, 0.9), (tokens.values, 5.0))
    )
    return Tokens(points, values, tokens.shares)


def test_tokens_by_hand():
    """relu(x1) + relu(x2): three modes, the last two of one example each."""
    net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.tensor([5.0])])
    x = torch.tensor([[1.0, 3.0], [3.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])
    tokens = tokens_of([net], x)
    assert tokens.points.tolist() == [[[2, 2], [-1, 1], [-1, -1]]]
    assert tokens.values.tolist() == [[[1, 1], [0, 1], [0, 0]]]
    assert tokens.shares.tolist() == [[0.5, 0.25, 0.25]]
    outputs = tokens_of([net], x, values="outputs")
    assert outputs.values.tolist() == [[[9], [6], [5]]]
    samples = tokens_of([net], x, kind="samples")
    assert torch.equal(samples.points[0], x)
    assert samples.values.tolist() == [[[1, 1], [1, 1], [0, 1], [0, 0]]]
    assert samples.shares.tolist() == [[0.25] * 4]


def test_shorter_sets_are_filled_up():
    one = ReluNetwork([torch.ones(1, 2), torch.ones(1, 1)], [torch.full((1,), 9.0), torch.zeros(1)])
    x = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    tokens = tokens_of([NETS[0], one], x)
    count = splinter(NETS[0], x).n_modes
    assert tokens.shares.shape == (2, count)
    assert count > 1
    assert tokens.shares.sum(1).tolist() == pytest.approx([1, 1])
    assert tokens.shares[1].tolist() == [1.0] + [0.0] * (count - 1)
    alone = tokens[1:]
    assert alone.points.shape == (1, 1, 2)


def test_sets_from_which_tokens_were_left_out():
    """What is kept stands anywhere in a set."""
    tokens = random_tokens(sets=3, count=6)
    kept = torch.tensor([[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0]]).bool()
    some = tokens.only(kept)[torch.tensor([0, 1])]
    assert some.points.shape == (2, 5, 2)
    assert torch.equal(some.shares > 0, kept[:2, :5])
    assert torch.equal(some.points, tokens.points[:2, :5])


def test_tokens_that_cannot_be():
    x = torch.rand(10, 2)
    with pytest.raises(ValueError, match=r"nets\[1\] must have 1 output, got 3"):
        tokens_of([NETS[0], initialise([2, 8, 3], 0)], x)
    with pytest.raises(ValueError, match="x must be the 10 examples of s, got 9"):
        of_splinters(splinter(NETS[0], x), x[:9])


def test_networks_that_are_all_the_same_line():
    flat = ReluNetwork((torch.ones(1, 2),), (torch.zeros(1),))
    with pytest.raises(ValueError, match=r"affine function, got only the gradient \[1.0, 1.0\]"):
        train_embedder([flat] * 8, draw, progress=False)


def test_each_network_can_have_its_own_examples():
    x = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0))
    both = tokens_of(NETS[:2], x)
    second = tokens_of(NETS[1:2], x[1])
    count = second.shares.shape[1]
    assert torch.equal(both.values[1, :count], second.values[0])


def test_tokens_of_a_part():
    net = initialise([3, 8, 8, 2], 0)
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    s = splinter(net, x, source=0, target=2)
    tokens = of_splinters(s, x, direction=5)
    assert torch.equal(tokens.values[0], s.jacobian()[:, 5])
    assert float(tokens.shares.sum()) == pytest.approx(1)
    mode = x[s.ids == 1]
    torch.testing.assert_close(tokens.points[0, 1], mode.mean(0))
    samples = of_splinters(s, x, direction=5, kind="samples")
    assert torch.equal(samples.points[0], x)
    assert torch.equal(samples.values[0], tokens.values[0, s.ids])
    with pytest.raises(ValueError, match="kind must be one of modes, samples, got 'mode'"):
        of_splinters(s, x, kind="mode")


def test_coordinates_by_hand():
    """2 x1 + 3 x2 + 5 x3, by an orthogonal basis of which one vector is long."""
    weight = torch.tensor([[2.0, 3.0, 5.0]])
    net = ReluNetwork([weight, torch.ones(1, 1)], [torch.zeros(1)] * 2)
    x = torch.tensor([[1.0, 2.0, 4.0], [3.0, 0.0, 0.0]])
    basis = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    tokens = of_splinters(splinter(net, x), x, basis=basis)
    torch.testing.assert_close(tokens.points, torch.tensor([[[4.0, 2.2]]]))
    torch.testing.assert_close(tokens.values, torch.tensor([[[1.0, 5.8]]]))


def test_gradients_by_slanting_coordinates_are_those_along_their_pseudoinverse():
    net, x = initialise([4, 8, 1], 0), examples(inputs=4)
    basis = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 2.0, 0.0]])
    tokens, whole = (of_splinters(splinter(net, x), x, basis=b) for b in (basis, None))
    torch.testing.assert_close(tokens.points, whole.points @ basis.T)
    back = tokens.values @ basis  # what of the gradient lies in the span of the basis
    torch.testing.assert_close(back @ basis.T, whole.values @ basis.T)


# --- the model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_permutations_of_tokens_change_nothing(pooling):
    embedder = Embedder(EmbedderConfig(pooling=pooling), seed=1).double()
    tokens = random_tokens()
    tokens = Tokens(tokens.points.double(), tokens.values.double(), tokens.shares.double())
    visible = torch.rand(3, 20, generator=torch.Generator().manual_seed(1)) < 0.5
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    other = Tokens(tokens.points[:, order], tokens.values[:, order], tokens.shares[:, order])
    torch.testing.assert_close(
        embedder.encode(tokens, visible),
        embedder.encode(other, visible[:, order]),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_what_fills_up_and_what_is_hidden_changes_nothing(pooling):
    embedder = Embedder(EmbedderConfig(pooling=pooling), seed=1)
    tokens = random_tokens()
    more = random_tokens(count=5, seed=3)
    filled = Tokens(
        torch.cat([tokens.points, more.points], 1),
        torch.cat([tokens.values, more.values], 1),
        torch.cat([tokens.shares, torch.zeros(3, 5)], 1),
    )
    torch.testing.assert_close(embedder.encode(tokens), embedder.encode(filled))
    visible = torch.rand(3, 20, generator=torch.Generator().manual_seed(1)) < 0.5
    changed = Tokens(
        tokens.points,
        torch.where(visible.unsqueeze(2), tokens.values, torch.tensor(7.0)),
        tokens.shares,
    )
    assert torch.equal(embedder.encode(tokens, visible), embedder.encode(changed, visible))
    assert not torch.equal(embedder.encode(tokens), embedder.encode(changed))


def test_a_token_counts_by_its_share():
    embedder = Embedder(EmbedderConfig(), seed=1)
    tokens, of_tokens, pooled = random_tokens(sets=1), [], []
    embedder.of_token.register_forward_hook(lambda _, __, found: of_tokens.append(found))
    embedder.of_set.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    with torch.no_grad():
        embedder.encode(tokens)
    torch.testing.assert_close(pooled[0], (tokens.shares @ of_tokens[0]).repeat(1, 2))


def test_standardised_by_the_training_set():
    embedder = Embedder(EmbedderConfig())
    tokens = random_tokens(sets=4)
    tokens = Tokens(tokens.points * 3 + 1, tokens.values * 0.1 - 2, tokens.shares)
    embedder.standardise(tokens)
    weights = tokens.shares.flatten() / 4
    values = (tokens.values.flatten(0, 1) - embedder.value_mean) / embedder.value_scale
    assert (weights @ values).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert (weights @ values**2).tolist() == pytest.approx([1, 1], rel=1e-5)
    with torch.no_grad():
        embedding = embedder.encode(tokens)
    size = embedding.square().mean(1, keepdim=True)
    unbounded = embedding / (1 - size).sqrt()  # of f / sqrt(1 + mean f²)
    torch.testing.assert_close(unbounded.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(unbounded.std(0, correction=0), torch.ones(16), atol=1e-4, rtol=0)


def test_what_is_always_the_same_is_not_scaled():
    """A coordinate without spread in training, as a grid of one column has; and a set of one network."""
    embedder = Embedder(EmbedderConfig())
    tokens = random_tokens(sets=1)
    points = torch.cat([tokens.points[..., :1], torch.full_like(tokens.points[..., 1:], 0.3)], 2)
    embedder.standardise(Tokens(points, tokens.values, tokens.shares))
    assert float(embedder.point_scale[1]) == 1
    with torch.no_grad():
        assert bool(embedder.encode(tokens).isfinite().all())


@pytest.mark.parametrize("absent", [None, False, True])
def test_the_loss_by_hand(absent):
    """Only what is hidden counts, by its share; where it is is seen, unless it is absent."""
    embedder = Embedder(EmbedderConfig(), seed=2)
    tokens = random_tokens(sets=1, count=3)
    visible = torch.tensor([[True, False, False]])
    embedder.requires_grad_(False)
    seen = tokens.only(visible) if absent else tokens
    found = embedder.decode(embedder.encode(seen, visible), tokens.points)
    errors = (found - tokens.values).abs()
    huber = torch.where(errors < 1, errors**2 / 2, errors - 0.5).mean(2)
    shares = tokens.shares[0, 1:]
    expected = float(huber[0, 1:] @ shares / shares.sum())
    given = None if absent is None else torch.tensor([[absent]])
    assert float(embedder.cloze_loss(tokens, visible, given)) == pytest.approx(expected, rel=1e-5)


def test_filled_in_is_what_the_visible_tokens_alone_say():
    """Where others are, and what they are, changes nothing at the places that stay."""
    tokens, embedder = random_tokens(sets=2), Embedder(EmbedderConfig(), seed=1)
    visible = torch.arange(20).expand(2, 20) < 8
    moved = elsewhere(tokens, ~visible)
    alone = Tokens(tokens.points[:, :8], tokens.values[:, :8], tokens.only(visible).shares[:, :8])
    expected = embedder.decode(embedder.encode(alone), tokens.points)
    torch.testing.assert_close(embedder.fill(tokens, visible), expected)
    torch.testing.assert_close(embedder.fill(moved, visible)[:, :8], expected[:, :8])


def test_saved_and_loaded(tmp_path):
    embedder = Embedder(EmbedderConfig(inputs=2, size=4, pooling="attention"), seed=3)
    embedder.standardise(random_tokens(seed=5))
    embedder.save(tmp_path / "embedder.safetensors")
    loaded = Embedder.load(tmp_path / "embedder.safetensors")
    assert loaded.config == embedder.config
    assert torch.equal(loaded.encode(random_tokens()), embedder.encode(random_tokens()))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("value_scale", 0.0, "value_scale must be positive"),
        ("value_scale", float("nan"), "value_scale must be finite"),
        ("point_mean", float("inf"), "point_mean must be finite"),
    ],
)
def test_files_with_numbers_that_cannot_be(name, value, message, tmp_path):
    embedder = Embedder(EmbedderConfig())
    getattr(embedder, name)[0] = value
    embedder.save(tmp_path / "embedder.safetensors")
    with pytest.raises(
        ValueError, match=f"path must be a file written by Embedder.save, got .*: {message}"
    ):
        Embedder.load(tmp_path / "embedder.safetensors")


def test_files_that_are_no_embedder(tmp_path):
    path = tmp_path / "embedder.safetensors"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="path must be a safetensors file"):
        Embedder.load(path)
    NETS[0].save(path)
    with pytest.raises(ValueError, match=r"path must be a file written by Embedder\.save"):
        Embedder.load(path)
    for config in ({}, {"config": {"inputs": 0}}, {"config": {"inputs": 3}}, {"config": {"no": 1}}):
        about = json.dumps({"schema": "schema 1"} | config)
        path.write_bytes(
            save(Embedder(EmbedderConfig()).state_dict(), {"gradsplinter.Embedder": about})
        )
        with pytest.raises(ValueError, match=r"path must be a file written by Embedder\.save"):
            Embedder.load(path)


# --- training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_some_are_hidden_and_some_are_shown(share):
    tokens = random_tokens(sets=50, count=10)
    tokens.shares[:, 7:] = 0
    hidden = hide(tokens, (share,), torch.Generator().manual_seed(0))
    assert not hidden[:, 7:].any()
    expected = {0.01: 1, 0.5: 4, 0.99: 6}[share]
    assert hidden.sum(1).tolist() == [expected] * 50


def test_what_it_learns():
    """Networks of one linear piece each: a single visible gradient says all others."""
    generator = torch.Generator().manual_seed(0)
    nets = []
    for _ in range(40):
        direction = torch.randn(1, 2, generator=generator)
        nets.append(
            ReluNetwork(
                [torch.cat([torch.eye(2), -torch.eye(2)]), torch.cat([direction, -direction], 1)],
                [torch.zeros(4), torch.zeros(1)],
            )
        )
    config = EmbedderTrainingConfig(steps=300, batch=20, points=20, patience=100)
    found = train_embedder(
        nets, lambda n, g: 2 * torch.rand(n, 2, generator=g) - 1, config=config, progress=False
    )
    first, last = float(found.losses[:10].mean()), min(loss for _, loss in found.validations)
    assert last < first / 4


def losses_asked_for(monkeypatch):
    """What each step and each validation gives the loss: (tokens, absent, noise)."""
    cloze_loss, asked = Embedder.cloze_loss, []

    def loss(self, tokens, visible, absent=None, noise=None):
        asked.append((tokens, absent, noise))
        return cloze_loss(self, tokens, visible, absent, noise)

    monkeypatch.setattr(Embedder, "cloze_loss", loss)
    return asked


@pytest.mark.parametrize("symmetries", [False, True])
def test_networks_are_turned_in_each_step_where_it_is_asked_for(symmetries, monkeypatch):
    """And never those of validations."""
    asked, turns = losses_asked_for(monkeypatch), []

    def records(tokens, centre, generator):
        turns.append(turned(tokens, centre, generator))
        return turns[-1]

    monkeypatch.setattr(embedder_training, "turned", records)
    config = EmbedderTrainingConfig(steps=4, batch=6, points=20, refresh=2, symmetries=symmetries)
    train_embedder(NETS, draw, config=config, progress=False)
    known = [any(tokens is turn for turn in turns) for tokens, *_ in asked]
    assert known == [symmetries, symmetries, False] * 2
    assert len(turns) == 4 * symmetries


@pytest.mark.parametrize("absent", [0.0, 1.0])
def test_hidden_tokens_are_absent_as_often_as_it_is_asked_for(absent, monkeypatch):
    """In steps and in validations."""
    asked = losses_asked_for(monkeypatch)
    config = EmbedderTrainingConfig(steps=2, batch=6, points=20, absent=absent)
    train_embedder(NETS, draw, config=config, progress=False)
    assert [given.tolist() for _, given, _ in asked] == [[[bool(absent)]] * n for n in (6, 6, 1)]


def test_the_embedder_of_the_best_validation_is_returned(monkeypatch):
    """And it stops at the second one that is not better."""
    said, states, cloze_loss = [3.0, 1.0, 2.0, 1.0, 0.0], [], Embedder.cloze_loss

    def loss(self, tokens, visible, absent=None, noise=None):
        if noise is not None:  # a step
            return cloze_loss(self, tokens, visible, absent, noise)
        states.append(copy.deepcopy(self.state_dict()))
        return torch.tensor([said[len(states) - 1]])

    monkeypatch.setattr(Embedder, "cloze_loss", loss)
    config = EmbedderTrainingConfig(steps=10, batch=6, points=20, refresh=2, patience=2)
    found = train_embedder(NETS, draw, config=config, progress=False)
    assert found.validations == [(2, 3.0), (4, 1.0), (6, 2.0), (8, 1.0)]
    assert len(found.losses) == 8
    same = [
        all(torch.equal(value, state[name]) for name, value in found.embedder.state_dict().items())
        for state in states
    ]
    assert same == [False, True, False, False]


def test_sets_of_tokens_of_anything():
    """The same look at the same networks teaches the same, and of each step it asks for sets by number."""
    config = EmbedderTrainingConfig(steps=30, points=40, batch=4, refresh=25)
    asked = []

    def look(index, generator):
        asked.append(list(index))
        x = draw(40, generator)
        return joined([of_splinters(splinter(NETS[i], x), x) for i in index])

    names = [net.fingerprint for net in NETS]
    found = train_embedder_of(look, names, config=config, progress=False)
    expected = train_embedder(NETS, draw, config=config, progress=False)
    assert torch.equal(found.losses, expected.losses)
    validation, training, again = asked
    assert again == training
    assert sorted(validation + training) == list(range(12))
    with pytest.raises(ValueError, match="names must be at least 4, got 3"):
        train_embedder_of(look, names[:3], config=config)


def test_resumed_to_the_same_bits(tmp_path):
    """Interrupted after a validation, and gone on with: as if nothing had happened."""
    config = EmbedderTrainingConfig(steps=60, batch=6, points=40, refresh=20)
    whole = train_embedder(NETS, draw, config=config, progress=False)

    class Stop(Exception):
        pass

    calls = []

    def stops(n, generator):
        calls.append(n)
        if len(calls) == 4:  # two at first, then one after each validation but the last
            raise Stop
        return draw(n, generator)

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train_embedder(NETS, stops, config=config, checkpoint=path, progress=False)
    again = train_embedder(NETS, stops, config=config, checkpoint=path, progress=False)
    assert len(calls) == 4 + 3  # from the beginning it would be four more
    assert torch.equal(again.losses, whole.losses)
    assert again.validations == whole.validations
    for name, value in whole.embedder.state_dict().items():
        assert torch.equal(again.embedder.state_dict()[name], value), name
    once_more = train_embedder(NETS, stops, config=config, checkpoint=path, progress=False)
    assert torch.equal(once_more.losses, whole.losses)
    assert len(calls) == 4 + 3 + 2


def test_the_cpu_is_the_default_device():
    config = EmbedderTrainingConfig(steps=4, batch=6, points=40)
    first, second = (
        train_embedder(NETS, draw, config=config, device=device, progress=False)
        for device in (None, "cpu")
    )
    assert torch.equal(first.losses, second.losses)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("tpu", "device must be cpu, cuda or cuda:INDEX, got tpu"),
        ("meta", "device must be cpu, cuda or cuda:INDEX, got meta"),
        ("cuda:99", "device must be one that is here, got cuda:99 where torch sees "),
    ],
)
def test_devices_that_are_not_there(device, message):
    with pytest.raises(ValueError, match=message):
        train_embedder(NETS, draw, device=device, progress=False)


def test_the_range_of_points_holds_all_that_was_looked_at():
    seen = []

    def drawn(n, generator):
        seen.append(draw(n, generator))
        return seen[-1]

    config = EmbedderTrainingConfig(
        steps=6, batch=6, points=20, refresh=2, patience=9, tokens="samples"
    )
    found = train_embedder(NETS, drawn, config=config, progress=False)
    best, _ = min(found.validations, key=lambda pair: pair[1])
    own = torch.cat(seen[1 : 1 + best // 2])  # the first is that of the validation
    assert torch.equal(found.embedder.point_low, own.amin(0))
    assert torch.equal(found.embedder.point_high, own.amax(0))


@pytest.mark.parametrize("changed", [{"learning_rate": 1e30}, {"noise": 1e38}])
def test_a_training_that_diverges(changed, tmp_path):
    config = EmbedderTrainingConfig(steps=50, batch=6, points=40, **changed)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(ValueError, match="learning_rate must be small enough to train, got "):
        train_embedder(NETS, draw, config=config, checkpoint=path, progress=False)
    assert not path.exists()


def test_a_checkpoint_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="checkpoint must be in a folder that is there, got "):
        train_embedder(NETS, draw, checkpoint=tmp_path / "no" / "file", progress=False)


@pytest.mark.parametrize("text", ["x", "[]", "null", "3", "{}"])
def test_files_of_something_else(text, tmp_path):
    path = tmp_path / "file.safetensors"
    keys = ("gradsplinter.Embedder", "gradsplinter.EmbedderTraining")
    path.write_bytes(save({"a": torch.zeros(1)}, metadata=dict.fromkeys(keys, text)))
    with pytest.raises(ValueError, match=r"path must be a file written by Embedder\.save"):
        Embedder.load(path)
    with pytest.raises(ValueError, match="checkpoint must be of the same training, got "):
        train_embedder(NETS, draw, checkpoint=path, progress=False)


def test_an_embedder_that_is_not_finite(tmp_path):
    embedder = Embedder(EmbedderConfig())
    with torch.no_grad():
        embedder.of_set[0].weight[0, 0] = torch.nan
    embedder.save(tmp_path / "embedder.safetensors")
    with pytest.raises(ValueError, match=r"of_set.0.weight must be finite, got 1 value"):
        Embedder.load(tmp_path / "embedder.safetensors")


def test_tokens_that_are_absent_say_nothing():
    """Where they are and what they are; unlike hidden ones, of which it is shown where they are."""
    tokens, embedder = random_tokens(sets=2), Embedder(EmbedderConfig(), seed=1)
    kept = torch.arange(20).expand(2, 20) < 8
    moved = elsewhere(tokens, ~kept)
    first, second = (embedder.encode(some.only(kept)) for some in (tokens, moved))
    torch.testing.assert_close(first, second)
    assert not torch.allclose(embedder.encode(tokens, kept), embedder.encode(moved, kept))
    assert torch.allclose(tokens.only(kept).shares.sum(1), torch.ones(2))


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_of_nothing_visible_only_the_places_count(pooling):
    tokens = random_tokens(sets=2)
    embedder = Embedder(EmbedderConfig(pooling=pooling), seed=1)
    filled = Tokens(
        nn.functional.pad(tokens.points, (0, 0, 0, 20), value=0.5),
        nn.functional.pad(tokens.values, (0, 0, 0, 20), value=0.5),
        nn.functional.pad(tokens.shares, (0, 20)),
    )
    nothing = [torch.zeros_like(some.shares, dtype=torch.bool) for some in (tokens, filled)]
    torch.testing.assert_close(
        embedder.encode(tokens, nothing[0]), embedder.encode(filled, nothing[1])
    )


def test_a_checkpoint_of_another_training(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    config = EmbedderTrainingConfig(steps=2, batch=6, points=40)
    train_embedder(NETS, draw, config=config, checkpoint=path, progress=False)
    for nets, changed, what in (
        (NETS[1:], config, "other networks"),
        (NETS, EmbedderTrainingConfig(steps=3, batch=6, points=40), "config.steps 2, not 3"),
    ):
        with pytest.raises(ValueError, match=f"of the same training, got .* with {what}"):
            train_embedder(nets, draw, config=changed, checkpoint=path, progress=False)
    metadata, tensors = io.read_safetensors(path, "path")[0], load(path.read_bytes())
    for name in ("optimizer.0.exp_avg", "optimizer.1.", "best.point_mean", "generator", "tokens."):
        left = {key: value for key, value in tensors.items() if not key.startswith(name)}
        path.write_bytes(save(left, metadata=metadata))
        with pytest.raises(ValueError, match="checkpoint must be whole, got "):
            train_embedder(NETS, draw, config=config, checkpoint=path, progress=False)
    path.write_bytes(b"?")
    with pytest.raises(ValueError, match="checkpoint must be a safetensors file"):
        train_embedder(NETS, draw, config=config, checkpoint=path, progress=False)


def test_it_stops_when_it_gets_no_better():
    config = EmbedderTrainingConfig(
        steps=200, batch=6, points=20, refresh=5, patience=2, learning_rate=1e-9
    )
    found = train_embedder(NETS, draw, config=config, progress=False)
    losses = [loss for _, loss in found.validations]
    assert len(found.losses) < 200
    assert losses.index(min(losses)) == len(losses) - 3


@pytest.mark.parametrize(
    ("nets", "shape", "error", "message"),
    [
        (NETS[:3], EmbedderConfig(), ValueError, "networks must be at least 4, got 3"),
        (NETS, EmbedderConfig(inputs=3), ValueError, r"networks\[0\] must have 3 inputs"),
        ([*NETS, None], EmbedderConfig(), TypeError, r"networks\[12\] must be a ReluNetwork"),
    ],
)
def test_networks_that_do_not_fit(nets, shape, error, message):
    with pytest.raises(error, match=message):
        train_embedder(nets, draw, shape, progress=False)


def test_a_mask_is_no_number():
    with pytest.raises(TypeError, match="mask must hold numbers, got float"):
        EmbedderTrainingConfig(mask=0.5)


def test_networks_of_float64_can_be_learned_from():
    config = EmbedderTrainingConfig(steps=2, batch=6, points=40)
    doubled = [
        ReluNetwork(tuple(w.double() for w in net.weights), tuple(b.double() for b in net.biases))
        for net in NETS
    ]
    found = train_embedder(doubled, lambda *a: draw(*a).double(), config=config, progress=False)
    assert found.embedder.point_mean.dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        (EmbedderTrainingConfig, {"mask": ()}, "mask"),
        (EmbedderTrainingConfig, {"mask": (1.0,)}, r"mask must be in \(0, 1\), got 1.0"),
        (EmbedderTrainingConfig, {"mask": (math.nan,)}, "mask must be finite, got nan"),
        (EmbedderTrainingConfig, {"tokens": "words"}, "tokens must be one of modes, samples"),
        (EmbedderTrainingConfig, {"validation": 0.0}, "validation must be in"),
        (EmbedderTrainingConfig, {"noise": -1.0}, "noise at least 0"),
        (EmbedderTrainingConfig, {"steps": 0}, "steps must be at least 1"),
        (EmbedderConfig, {"pooling": "max"}, "pooling must be one of mean, attention"),
        (EmbedderConfig, {"values": "logits"}, "values must be one of gradients, outputs"),
        (EmbedderConfig, {"size": 0}, "size must be at least 1"),
    ],
)
def test_bad_configurations(make, values, message):
    with pytest.raises(ValueError, match=message):
        make(**values)


# --- embed ------------------------------------------------------------------------------------------


def examples(n=200, inputs=2):
    return torch.rand(n, inputs, generator=torch.Generator().manual_seed(0))


def test_embeddings_of_networks_and_their_parts():
    embedder = Embedder(EmbedderConfig(), seed=1).requires_grad_(False)
    net, x = initialise([3, 2, 16, 2], 4), examples(inputs=3)
    hidden = ReluNetwork(net.weights[:1], net.biases[:1])(x).relu()
    rest = ReluNetwork(net.weights[1:], net.biases[1:])
    whole = embed(rest, hidden, embedder)
    part = embed(net, x, embedder, source=1)
    assert part.shape == (2, 16)
    torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-4)
    tokens = of_splinters(splinter(rest, hidden), hidden, 1)
    assert torch.equal(whole[1:], embedder.encode(tokens))
    mixed = embed(rest, hidden, embedder, directions=torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(mixed, whole[1:])


def test_a_part_of_two_inputs_is_the_network_of_these():
    """Of five inputs the first layer reads two: rows of the identity choose them."""
    embedder = Embedder(EmbedderConfig(), seed=1).requires_grad_(False)
    small, x = NETS[0], examples(inputs=5)
    wide = torch.zeros(len(small.weights[0]), 5)
    wide[:, [3, 1]] = small.weights[0]
    net = ReluNetwork((wide, *small.weights[1:]), small.biases)
    found = embed(net, x, embedder, basis=torch.eye(5)[[3, 1]])
    torch.testing.assert_close(found, embed(small, x[:, [3, 1]].contiguous(), embedder))
    other = embed(net, x, embedder, basis=torch.eye(5)[[1, 3]])
    assert (found - other).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("basis", "error", "message"),
    [
        (torch.eye(5)[:2, :4], ValueError, r"basis must have shape \[d, 5\].*got \[2, 4\]"),
        (torch.zeros(0, 5), ValueError, r"basis must have shape \[d, 5\].*got \[0, 5\]"),
        (torch.eye(5)[0], ValueError, "basis must have 2 dimensions, got 1"),
        (torch.eye(5)[[1, 1]], ValueError, "linearly independent, got 2 of rank 1"),
        (torch.eye(5)[:2] * torch.nan, ValueError, "basis must be finite"),
        (torch.eye(5)[:3], ValueError, "basis must have 2 rows, as the embedder has inputs, got 3"),
        (torch.eye(5).double()[:2], TypeError, "basis must be float32, got float64"),
        ([[1.0] * 5], TypeError, "basis must be a torch.Tensor, got list"),
    ],
)
def test_coordinates_that_do_not_fit(basis, error, message):
    net = initialise([5, 8, 1], 0)
    with pytest.raises(error, match=message):
        embed(net, examples(inputs=5), Embedder(EmbedderConfig()), basis=basis)


def test_the_order_of_examples_hardly_matters():
    embedder = Embedder(EmbedderConfig(), seed=1)
    found = embed(NETS[0], examples(), embedder)
    torch.testing.assert_close(found, embed(NETS[0], examples().flip(0), embedder))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"net": initialise([3, 8, 1], 0), "x": examples(inputs=3)},
            ValueError,
            "2 units at site 0",
        ),
        ({"source": 1}, ValueError, "net must have 2 units at site 1, as the embedder, got 8"),
        ({"x": examples()[:1]}, ValueError, "x must visit at least 2 modes of the network, got 1"),
        ({"x": examples() * torch.nan}, ValueError, "x must be finite"),
        ({"net": None}, TypeError, "net must be a ReluNetwork, .* or an nn.Module, got NoneType"),
        ({"embedder": 5}, TypeError, "embedder must be an Embedder, got int"),
        ({"embedder": Embedder(EmbedderConfig(values="outputs"))}, ValueError, "one of gradients"),
    ],
)
def test_what_cannot_be_embedded(change, error, message):
    call = {"net": NETS[0], "x": examples(), "embedder": Embedder(EmbedderConfig())} | change
    with pytest.raises(error, match=message):
        embed(**call)


def test_a_constant_network():
    net = NETS[0]
    net = ReluNetwork((*net.weights[:-1], torch.zeros(1, 8)), net.biases)
    with pytest.raises(ValueError, match=r"got direction 0, which is constant at these examples"):
        embed(net, examples(), Embedder(EmbedderConfig()))


def test_turned_networks_are_networks():
    """Tokens of a network with its inputs exchanged and mirrored are those that it gets, turned."""
    net, x = NETS[0], torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    tokens = tokens_of([net] * 16, x)
    found = turned(tokens, torch.tensor([0.5, 0.5]), torch.Generator().manual_seed(1))
    seen = []
    for order, *signs in itertools.product(([0, 1], [1, 0]), *[(-1.0, 1.0)] * 3):
        turn = torch.eye(2)[order] * torch.tensor(signs[:2])
        weights = (net.weights[0] @ turn, net.weights[1], signs[2] * net.weights[2])
        shift = 0.5 - turn @ torch.tensor([0.5, 0.5])
        biases = (net.biases[0] + net.weights[0] @ shift, *net.biases[1:])
        expected = tokens_of([ReluNetwork(weights, biases)], (x - 0.5) @ turn + 0.5)
        differences = [
            (getattr(found, name) - getattr(expected, name)).abs().flatten(1).amax(1)
            for name in ("points", "values", "shares")
        ]
        seen.append((torch.stack(differences) < 1e-5).all(0))
    assert torch.stack(seen).sum(0).tolist() == [1] * 16  # each is one of the 16
    assert torch.stack(seen).any(1).sum() > 8


def test_outputs_are_turned_by_their_sign_only():
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    tokens = tokens_of([NETS[0]] * 8, x, values="outputs")
    found = turned(tokens, torch.tensor([0.5, 0.5]), torch.Generator().manual_seed(1))
    signs = (found.values / tokens.values)[:, 0, 0].round()
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert torch.equal(found.values, signs.view(8, 1, 1) * tokens.values)
