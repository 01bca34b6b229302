"""The study of the embedder: its baselines by hand, its probe, and all of it on a tiny zoo."""

import math
from dataclasses import replace

import pytest
import torch

from gradsplinter import ReluNetwork, ops
from gradsplinter.embedder import EmbedderConfig
from gradsplinter.embedder_training import EmbedderTrainingConfig
from gradsplinter.formula import Formula
from gradsplinter.studies import embedding_ablation
from gradsplinter.studies import embedding_baselines as baselines
from gradsplinter.studies.embedding import run_embedding
from gradsplinter.studies.embedding_ablation import AblationRow, run_ablation, variants
from gradsplinter.studies.embedding_rows import PARTS, StructureRow, structure_rows
from gradsplinter.studies.embedding_trial import EmbeddingConfig, Trial
from gradsplinter.studies.probe import probe_accuracy
from gradsplinter.tokens import Tokens
from gradsplinter.train import initialise
from gradsplinter.zoo import ZooConfig
from gradsplinter.zoo_training import make_zoo

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
    assert baselines.nearest_task(tokens, tasks).tolist() == [0, 1]
    values[0, 0] = 1
    first = torch.arange(6).expand(2, 6) == 0
    assert baselines.nearest_task(tokens.only(first), tasks).tolist() == [1, 1]
    mostly = replace(tokens, shares=torch.tensor([[0.95, *[0.01] * 5]] * 2))
    assert baselines.nearest_task(mostly, tasks).tolist() == [1, 1]
    assert baselines.nearest_task(mostly, tasks, by_share=False).tolist() == [0, 1]


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


def test_the_gaussian_process_is_that_of_scikit_learn(monkeypatch):
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
    # Its kernel is the one that fills in best; elsewhere, and in pieces, it says the same.
    best = process._error(tokens, hidden, process.length, process.noise)
    for length in process.LENGTHS:
        assert all(
            process._error(tokens, hidden, length, noise) >= best for noise in process.NOISES
        )
    elsewhere = torch.cat([points[:, 3:5], torch.rand(2, 7, 2, generator=generator)], dim=1)
    at = process(tokens, ~hidden, elsewhere)
    torch.testing.assert_close(at[:, :2], found[:, 3:5])
    monkeypatch.setattr(baselines, "_MOST_PAIRS", 1)
    torch.testing.assert_close(process(tokens, ~hidden, elsewhere), at)


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
    methods = {}
    for row in result.probes:
        methods.setdefault(row.question, []).append(row.method)
    assert {question: len(found) / 2 for question, found in methods.items()} == {
        "all labels": 9,
        "one label a class": 9,
        "8 modes": 7,
        "8 gradients, all places": 3,
        "no gradient, all places": 3,
        "noisy gradients": 7,
        "unseen tasks": 8,
        "unseen tasks, one label": 8,
    }
    assert {row.seed for row in result.probes} == {0, 1}
    assert all(0 <= row.accuracy <= 1 for row in result.probes)
    assert len(result.cloze) == 2 * 4 * 2 * 3
    assert all(row.r2 <= 1 for row in result.cloze)
    assert len(result.structure) == 2 * 2 * 3
    assert all(-1 <= row.correlation <= 1 for row in result.structure)
    assert result.embeddings.shape == (24, 16)


def test_the_same_call_goes_on(result, tmp_path, monkeypatch):
    """Interrupted in the second seed, it gives the same rows, and does not do the first again."""
    path, seeds = tmp_path / "study.json", []

    def cut(trial):
        seeds.append(trial.seed)
        if len(seeds) == 2:
            raise KeyboardInterrupt
        return structure_rows(trial)

    monkeypatch.setitem(PARTS, "structure", (StructureRow, cut))
    with pytest.raises(KeyboardInterrupt):
        run_embedding(result.config, result.zoo, checkpoint=path, progress=False)
    again = run_embedding(result.config, result.zoo, checkpoint=path, progress=False)
    assert seeds == [0, 1, 1]
    for name in PARTS:
        assert getattr(again, name) == getattr(result, name)
    assert torch.equal(again.embeddings, result.embeddings)
    # The embedder that is kept is that of the first seed.
    for other, what in (
        (replace(result.config, visible=4), "config.visible"),
        (replace(result.config, seeds=(1, 0)), "first seed"),
    ):
        with pytest.raises(
            ValueError, match=f"checkpoint must be of the same study, got .* with {what}"
        ):
            run_embedding(other, result.zoo, checkpoint=path, progress=False)
    path.with_suffix(".embedder").unlink()
    with pytest.raises(
        ValueError, match=r"checkpoint must be whole, got .* without study.embedder"
    ):
        run_embedding(result.config, result.zoo, checkpoint=path, progress=False)


def test_what_is_tested_is_not_taught(result, monkeypatch):
    """No held-out network is among those of a training, and none of the unseen tasks among those of half."""
    taught = []

    def record(networks, *_, **__):
        taught.append({net.fingerprint for net in networks})

    monkeypatch.setattr("gradsplinter.studies.embedding_trial.train_embedder", record)
    trial = Trial(result.config, result.zoo, 0)
    assert trial.trained is trial.half is None
    networks, labels = result.zoo.networks, result.zoo.labels
    known, unseen = trial.halves
    held_out = {networks[i].fingerprint for i in trial.test.tolist()}
    others = {
        net.fingerprint
        for net, label in zip(networks, labels.tolist(), strict=True)
        if label in unseen
    }
    assert len(held_out) == 12
    assert len(others) == 12
    assert sorted([*known.tolist(), *unseen.tolist()]) == list(range(6))
    whole, half = taught
    assert len(whole) == 12
    assert not whole & held_out
    assert len(half) == 6
    assert not half & (held_out | others)


def test_known_tasks_are_described_by_training_networks_alone(result):
    """Of each task two of the four."""
    known, labels = result.embedder.known, result.zoo.labels
    training, _ = result.zoo.split(2, result.config.seeds[0])
    assert known.names == tuple(task.name for task in result.zoo.tasks)
    for task in range(6):
        first, second = result.embeddings[training[labels[training] == task]]
        torch.testing.assert_close(known.means[task], (first + second) / 2)
        torch.testing.assert_close(known.distances[task], (first - second).norm() / 2)


def test_labels_of_one_a_class_differ_from_draw_to_draw(result):
    trial = Trial(result.config, result.zoo, 0)
    first = {tuple(order[:1].tolist()) for order in trial.labelled}
    assert len(trial.labelled) == 5
    assert len(first) > 1
    assert all(torch.equal(order.sort().values, trial.training) for order in trial.labelled)


def test_zoos_that_are_too_small(result):
    zoo = make_zoo(
        ZooConfig("formulae", tasks=5, networks=2, hidden=(4,), examples=32, steps=1, batch_size=8),
        progress=False,
    )
    with pytest.raises(ValueError, match="zoo must be of at least 6 tasks"):
        run_embedding(result.config, zoo, progress=False)
    with pytest.raises(
        ValueError, match=r"held_out must leave at least 2 networks of each task, .* has 4, got 3"
    ):
        run_embedding(replace(result.config, held_out=3), result.zoo, progress=False)
    outputs = replace(result.config, shape=EmbedderConfig(values="outputs"))
    with pytest.raises(ValueError, match="values must be gradients, got outputs"):
        run_embedding(outputs, result.zoo, progress=False)


def test_ablations(result):
    training = replace(result.config.training, steps=2, mask=(0.5,))
    config = replace(result.config, seeds=(0,), training=training)
    rows = run_ablation(config, result.zoo, progress=False)
    assert [row.variant for row in rows][:4] == ["as it is", "30%", "60%", "90%"]
    assert len({(row.question, row.variant) for row in rows}) == len(rows) == 19
    assert all(row.cloze_r2 <= 1 for row in rows)
    every = {name: changed for _, name, changed in variants(config, result.zoo)}
    modes = (Trial(config, result.zoo, 0).tokens.shares > 0).sum(1).tolist()
    assert abs(every["as many samples"].points - sum(modes) / len(modes)) < 3
    assert every["30%"].training.mask == (0.3,)


def test_ablations_go_on_where_they_were_interrupted(result, tmp_path, monkeypatch):
    """To the same rows, none of which is done twice."""
    few = list(variants(replace(result.config, seeds=(0, 1)), result.zoo))[:2]
    training = replace(result.config.training, steps=2)
    changed = [(*what, replace(config, training=training)) for *what, config in few]
    monkeypatch.setattr(embedding_ablation, "variants", lambda *_: changed)
    arguments, path = (result.config, result.zoo), tmp_path / "ablations.json"
    whole = run_ablation(*arguments, progress=False)
    row, begun = embedding_ablation._row, []

    def stops(trial, question, variant):
        begun.append((variant, trial.seed))
        if len(begun) == 3:
            raise KeyboardInterrupt
        return row(trial, question, variant)

    monkeypatch.setattr(embedding_ablation, "_row", stops)
    with pytest.raises(KeyboardInterrupt):
        run_ablation(*arguments, checkpoint=path, progress=False)
    first, second = [("as it is", 0), ("as it is", 1)], [("30%", 0), ("30%", 1)]
    assert begun == [*first, second[0]]
    assert run_ablation(*arguments, checkpoint=path, progress=False) == whole
    assert begun == [*first, second[0], *second]
    assert run_ablation(*arguments, checkpoint=path, progress=False) == whole
    assert len(begun) == 5
    assert [(row.variant, row.seed) for row in whole] == [*first, *second]


def test_the_figure_of_ablations():
    """Means in the order of rows from above, with standard errors; lines where the embedder as it is lies."""
    from gradsplinter.plot import embedding  # noqa: PLC0415 (matplotlib takes its time)

    rows = [
        AblationRow(seed, *what, *(mean + place / 10 + spread for place in range(4)))
        for *what, mean in (("", "as it is", 0.5), ("pooling", "attention", 0.3))
        for seed, spread in ((0, -0.02), (1, 0.02))
    ]
    axes = embedding.ablation(rows).axes
    titles = [ax.get_title(loc="left").replace("\n", " ") for ax in axes]
    assert titles == list(embedding.MEASURES.values())
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    assert names == ["pooling: attention", "as it is"]
    for place, ax in enumerate(axes):
        found = [bar[0].get_xdata()[0] for bar in ax.containers]
        assert found == pytest.approx([0.3 + place / 10, 0.5 + place / 10])
        (ends,) = ax.containers[1][2][0].get_segments()
        assert ends[:, 0].tolist() == pytest.approx([found[1] - 0.02, found[1] + 0.02])
        assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == found[
            1:
        ]


def test_figures(result):
    from gradsplinter.plot import embedding  # noqa: PLC0415 (matplotlib takes its time)

    found = embedding.figures(result)
    assert set(found) == {"probes", "cloze", "map"}
    first, *_, last = found["probes"].axes
    methods = [text.get_text() for text in first.get_yticklabels()]
    assert methods[-2:] == ["untrained embedder", "embedder"]
    means = dict(zip(methods[2:], (bar[0].get_xdata()[0] for bar in first.containers), strict=True))
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
        ({"seeds": (0, -1)}, "seeds must be at least 0"),
        ({"held_out": 0}, "held_out must be at least 1"),
        ({"points": 1}, "points must be at least 2"),
        ({"noise": math.inf}, "noise must be finite"),
        ({"noise": -1}, "noise must be at least 0"),
    ],
)
def test_bad_configurations(values, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingConfig(**values)
