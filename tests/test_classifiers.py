"""Networks for real data: they learn, the same ones each time, and say what does not fit."""

from dataclasses import replace

import pytest
import torch

from gradsplinter import TracedNetwork, data
from gradsplinter.network import ReluNetwork
from gradsplinter.studies.classifiers import (
    ClassifierConfig,
    accuracy,
    build,
    predict,
    shuffled_labels,
    steps_of,
    train_classifier,
)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def bits(net):
    return [p.clone() for p in net.parameters()]


def equal(a, b):
    return all(p.equal(q) for p, q in zip(a, b, strict=True))


def test_learns_digits(digits):
    net = train_classifier(ClassifierConfig("32-32", epochs=20), digits, seed=1)
    assert not net.training
    assert ReluNetwork.from_module(net).widths == (64, 32, 32, 10)
    held_out = data.load("digits", "test")
    assert accuracy(net, held_out) > 0.9
    right = [
        int(predict(net, x[None]).argmax()) == int(y)
        for x, y in zip(held_out.x, held_out.y, strict=True)
    ]
    assert accuracy(net, held_out) == pytest.approx(sum(right) / len(right))


def test_same_seed_same_network_whatever_the_global_generator(digits):
    config = ClassifierConfig("8", epochs=1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = train_classifier(config, digits, seed=3)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(2)
    assert equal(bits(one), bits(train_classifier(config, digits, seed=3)))
    assert not equal(bits(one), bits(train_classifier(config, digits, seed=4)))


def test_checkpoints_see_the_network_of_their_step(digits):
    config, seen = ClassifierConfig("8", epochs=2, batch_size=1000), {}
    total = steps_of(config, digits)
    assert total == 4  # 1,438 examples: steps of 1,000 and 438
    net = train_classifier(
        config, digits, seed=0, checkpoints=[0, 3, total],
        callback=lambda step, now: seen.update({step: (now.training, bits(now))}),
    )  # fmt: skip
    assert list(seen) == [0, 3, 4]
    assert not any(training for training, _ in seen.values())
    assert equal(seen[0][1], bits(build("8", digits, seed=0)))
    assert equal(seen[4][1], bits(net))
    assert not equal(seen[3][1], bits(net))
    assert equal(
        bits(net), bits(train_classifier(config, digits, seed=0))
    )  # and does not disturb it


@pytest.mark.parametrize("side", [10, 28])
def test_conv_takes_images_as_rows(side):
    images = data.Dataset(
        torch.rand(5, side * side), torch.arange(5), tuple("abcde"), (side, side), ""
    )
    net = build("conv", images, seed=0).eval()
    assert net(images.x).shape == (5, 5)
    if side == 28:
        assert TracedNetwork.from_module(net, (784,)).widths == (784, 5408, 1352, 1936, 400, 64, 5)


def test_shuffled_labels_keep_examples_and_counts(digits):
    shuffled = shuffled_labels(digits, seed=0)
    assert shuffled.x is digits.x
    assert not shuffled.y.equal(digits.y)
    assert shuffled.y.bincount().equal(digits.y.bincount())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"architecture": "64-"}, "architecture must be widths .* got '64-'"),
        ({"architecture": "0"}, "architecture must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
    ],
)
def test_config_refuses(given, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**given)


def test_refuses_what_does_not_fit(digits):
    config = ClassifierConfig("8", epochs=1)
    with pytest.raises(ValueError, match="data must hold at least one example"):
        train_classifier(config, replace(digits, x=digits.x[:0], y=digits.y[:0]), 0)
    with pytest.raises(ValueError, match=r"checkpoints must be in 0\.\.15, got 16"):
        train_classifier(config, digits, 0, checkpoints=[16], callback=print)
    with pytest.raises(ValueError, match="together"):
        train_classifier(config, digits, 0, checkpoints=[1])
    with pytest.raises(ValueError, match="seed must be"):
        train_classifier(config, digits, -1)
    with pytest.raises(ValueError, match=r"at least 10 x 10, got conv with image_shape \(8, 8\)"):
        build("conv", digits, 0)
    with pytest.raises(ValueError, match="learning_rate must be small enough"):
        train_classifier(ClassifierConfig("8", learning_rate=1e30), digits, 0)
