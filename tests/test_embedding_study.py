"""The study of the embedder: its baselines by hand, its probe, and all of it on a tiny zoo."""

import math
from dataclasses import replace

import pytest
import torch

from gradsplinter import ReluNetwork, ops, splinter
from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.formula import Formula
from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.embedding import run_embedding
from gradsplinter.studies.embedding_ablation import run_ablation, variants
from gradsplinter.studies.embedding_trial import EmbeddingConfig, Trial
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.tokens import Tokens
from gradsplinter.train import initialise
from gradsplinter.zoo import ZooConfig, make_zoo

NETS = [initialise([2, 8, 8, 1], seed) for seed in range(3)]


def line_tokens():
    """Points 0, 1, 2 and 10 of one input, and a token that fills up."""
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [0.0]])[None]
    values = torch.tensor([[5.0], [6.0], [8.0], [9.0], [0.0]])[None]
    return Tokens(points, values, torch.tensor([[0.4, 0.3, 0.2, 0.1, 0.0]]))


def test_nearest_visible():
    tokens = line_tokens()
    visible = torch.tensor([[True, False, False, True, True]])
    found = baselines.nearest_visible(tokens, visible, tokens.points)
    assert found.flatten().tolist() == [5, 5, 5, 9, 5]
    at = baselines.nearest_at(tokens, visible, torch.tensor([[-3.0], [6.0]]))
    assert at.tolist() == [[5, 9]]


def test_nearest_task():
    """Networks that are a task exactly, and one that is the other where it is seen."""
    tasks = (Formula("x1 * x2"), Formula("x1 + x2"))
    points = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(0))
    values = torch.stack(
        [task.gradient(own)[:, 0] for task, own in zip(tasks, points, strict=True)]
    )
    tokens = Tokens(points, values, torch.full((2, 6), 1 / 6))
    assert baselines.nearest_task(tokens, None, tasks).tolist() == [0, 1]
    values[0, 0] = 1
    visible = torch.arange(6).expand(2, 6) == 0
    assert baselines.nearest_task(tokens, visible, tasks).tolist() == [1, 1]


def test_r2_by_hand():
    """Hidden are 6, 8 and 9 with shares 0.3, 0.2 and 0.1; the mean is taken to be 7."""
    tokens = line_tokens()
    hidden = torch.tensor([[False, True, True, True, False]])

    def nearest(tokens, visible):
        return baselines.nearest_visible(tokens, visible, tokens.points)

    error = 0.3 * 1 + 0.2 * 9 + 0.1 * 16  # 5 is said everywhere
    assert baselines.cloze_r2(tokens, hidden, nearest, torch.tensor([7.0])) == pytest.approx(
        1 - error / (0.3 + 0.2 + 0.1 * 4)
    )
    mean = baselines.cloze_r2(
        tokens, hidden, lambda tokens, _: torch.full_like(tokens.values, 7.0), torch.tensor([7.0])
    )
    assert mean == pytest.approx(0)


def test_the_gaussian_process_is_that_of_scikit_learn():
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415
    from sklearn.gaussian_process.kernels import RBF  # noqa: PLC0415

    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 12, 2, generator=generator)
    values = torch.sin(3 * points)
    tokens = Tokens(points, values, torch.full((2, 12), 1 / 12))
    hidden = torch.rand(2, 12, generator=generator) < 0.3
    process = baselines.GaussianProcess(tokens, hidden)
    found = process(tokens, ~hidden)
    for i in range(2):
        x = (points[i] / process.point_scale / process.length).double().numpy()
        y = ((values[i] - process.mean) / process.scale).double()
        shown = (~hidden[i]).numpy()
        peer = GaussianProcessRegressor(RBF(1.0, "fixed"), alpha=process.noise**2, optimizer=None)
        expected = peer.fit(x[shown], y.numpy()[shown]).predict(x)
        torch.testing.assert_close(
            (found[i] - process.mean) / process.scale,
            torch.from_numpy(expected).float(),
            atol=1e-4,
            rtol=1e-4,
        )


def test_features_of_weights():
    net = NETS[0]
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    first, second, third = net.weights
    permuted = ReluNetwork(
        (first[order], second[:, order], third), (net.biases[0][order], *net.biases[1:])
    )
    assert not torch.equal(*(baselines.flat_weights([n]) for n in (net, permuted)))
    torch.testing.assert_close(*(baselines.sorted_weights([n]) for n in (net, permuted)))
    torch.testing.assert_close(*(baselines.weight_statistics([n]) for n in (net, permuted)))


def test_features_at_fixed_points():
    x = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(baselines.outputs_at(NETS, x)[1], NETS[1](x).flatten())
    expected = ops.jacobian(NETS[1], ops.signatures(NETS[1], x))[:, 0].flatten()
    assert torch.equal(baselines.gradients_at(NETS, x)[1], expected)


def test_statistics_of_modes():
    found = baselines.mode_statistics(line_tokens())[0]
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    mean = 0.4 * 5 + 0.3 * 6 + 0.2 * 8 + 0.1 * 9
    assert found[:3].tolist() == pytest.approx([4, -float((shares * shares.log()).sum()), mean])
    spread = sum(
        s * (v - mean) ** 2 for s, v in zip((0.4, 0.3, 0.2, 0.1), (5, 6, 8, 9), strict=True)
    )
    assert float(found[3]) == pytest.approx(math.sqrt(spread))


def test_the_probe_can_fail_and_can_succeed():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(20)
    training, test = torch.arange(0, 80, 2), torch.arange(1, 80, 2)
    noise = torch.randn(80, 6, generator=generator)
    assert probe_accuracy(noise, labels, training, test) < 0.6
    told = 0.02 * noise[:, :4] + torch.nn.functional.one_hot(labels, 4)
    assert probe_accuracy(told, labels, training, test) == 1
    assert probe_accuracy(told, labels, training, test, per_class=1) == 1
    # The labels of the test rows are not looked at.
    wrong = labels.clone()
    wrong[test] = 3 - labels[test]
    assert probe_accuracy(told, wrong, training, test) == 0


@pytest.fixture(scope="module")
def result():
    zoo = make_zoo(
        ZooConfig(
            "formulae", tasks=6, networks=4, hidden=(8,), examples=64, steps=40, batch_size=32
        ),
        progress=False,
    )
    training = EmbedderTrainingConfig(steps=30, batch=8, points=64)
    config = EmbeddingConfig(seeds=(0, 1), held_out=2, points=64, training=training)
    return run_embedding(config, zoo, progress=False)


def test_all_of_it(result):
    asked = {row.question for row in result.probes}
    assert asked == {
        *("all labels", "one label a class", "8 visible modes", "noisy gradients", "unseen tasks")
    }
    assert {row.seed for row in result.probes} == {0, 1}
    assert all(0 <= row.accuracy <= 1 for row in result.probes)
    assert len(result.probes) == 2 * (9 * 2 + 5 + 6 + 2)
    assert len(result.cloze) == 2 * 4 * 2 * 3
    assert all(row.r2 <= 1 for row in result.cloze)
    assert len(result.structure) == 2 * 2 * 3
    assert all(-1 <= row.correlation <= 1 for row in result.structure)
    assert result.embeddings.shape == (24, 16)


def test_the_same_call_gives_the_same(result):
    again = run_embedding(result.config, result.zoo, progress=False)
    assert again.probes == result.probes
    assert again.cloze == result.cloze
    assert torch.equal(again.embeddings, result.embeddings)


def test_ablations(result):
    training = replace(result.config.training, steps=2, mask=(0.5,))
    config = replace(result.config, seeds=(0,), training=training)
    rows = run_ablation(config, result.zoo, progress=False)
    assert [row.variant for row in rows][:4] == ["as it is", "30%", "60%", "90%"]
    assert len({(row.question, row.variant) for row in rows}) == len(rows) == 16
    assert all(row.cloze_r2 <= 1 for row in rows)
    every = {name: changed for _, name, changed in variants(config, result.zoo)}
    x = Trial(config, result.zoo, 0).x
    modes = [splinter(net, x).n_modes for net in result.zoo.networks]
    assert abs(every["as many samples"].points - sum(modes) / len(modes)) < 3
    assert every["30%"].training.mask == (0.3,)


def test_figures(result):
    from gradsplinter.plot import embedding  # noqa: PLC0415 (matplotlib takes its time)

    found = embedding.figures(result)
    assert set(found) == {"probes", "cloze", "map"}
    first, *_, last = found["probes"].axes
    methods = [text.get_text() for text in first.get_yticklabels()]
    assert methods[-2:] == ["untrained embedder", "embedder"]
    means = dict(zip(methods[1:], (bar[0].get_xdata()[0] for bar in first.containers), strict=True))
    rows = [
        r.accuracy for r in result.probes if (r.method, r.question) == ("weights", "all labels")
    ]
    assert means["weights"] == pytest.approx(sum(rows) / 2)
    assert [first.lines[-1].get_xdata()[0], last.lines[-1].get_xdata()[0]] == [1 / 6, 1 / 3]
    (scattered, *_) = found["map"].subfigs[0].axes
    assert sum(len(part.get_offsets()) for part in scattered.collections) == 24


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": ()}, "seeds"),
        ({"held_out": 0}, "held_out must be at least 1"),
        ({"points": 1}, "points must be at least 2"),
        ({"noise": math.inf}, "noise must be at least 0 and finite"),
    ],
)
def test_bad_configurations(values, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingConfig(**values)
