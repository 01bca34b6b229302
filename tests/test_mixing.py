"""The mixing study, on a configuration of seconds."""

import pytest
import torch

import gradsplinter
from gradsplinter import ReluNetwork
from gradsplinter.draws import generator_of
from gradsplinter.plot import mixing as plot_mixing
from gradsplinter.studies.mixing import MixingConfig, mix_outputs, run_mixing
from gradsplinter.tasks import ParallelProducts, SoftMixing, exact_orthogonality

TINY = MixingConfig(
    lambdas=(0.0, 0.5), seeds=(3, 1), steps=60, training_examples=300, validation_examples=200
)


@pytest.fixture(scope="module")
def result():
    return run_mixing(TINY, progress=False)


def test_one_row_per_network_and_site_and_the_controls(result):
    rows = {kind: [(r.strength, r.seed, r.site) for r in result.rows if r.kind == kind]
            for kind in ("trained", "mixed by hand", "untrained")}  # fmt: skip
    every = [(v, s, k) for v in (0.0, 0.5) for s in (3, 1) for k in (0, 1, 2)]
    assert rows["trained"] == rows["mixed by hand"] == every
    assert rows["untrained"] == [(None, s, k) for s in (3, 1) for k in (0, 1, 2)]
    assert len(result.rows) == sum(map(len, rows.values()))
    assert all((r.loss is not None) == (r.kind == "trained") for r in result.rows)


def test_outputs_are_mixed_by_hand(result):
    """The outputs are the mixture, and so are the gradients at every site."""
    net = result.trained.networks[1]
    x = ParallelProducts(2).sample(50, generator=torch.Generator().manual_seed(0))
    mixed = mix_outputs(net, 0.3)
    own = net(x)
    torch.testing.assert_close(mixed(x), 0.7 * own + 0.3 * own.flip(1))
    mixture = torch.tensor([[0.7, 0.3], [0.3, 0.7]])
    for site in (0, 1, 2):
        found, of_own = (gradsplinter.splinter(n, x, site) for n in (mixed, net))
        torch.testing.assert_close(found.jacobian(), mixture @ of_own.jacobian())


def test_mixing_by_hand_goes_from_the_separate_network_to_one_function(result):
    for site in (0, 1, 2):
        by_hand = result.scores(site, "paired", "mixed by hand")
        assert torch.equal(by_hand[0], result.scores(site, "paired")[0])  # λ = 0 changes nothing
        assert by_hand[1].abs().max() < 1e-6  # at λ = 0.5 both outputs are read in the same way


def test_without_separate_tasks_nothing_is_mixed_by_hand():
    config = MixingConfig(
        lambdas=(0.5,), seeds=(0,), steps=2, training_examples=20, validation_examples=20
    )
    result = run_mixing(config, progress=False)
    assert {row.kind for row in result.rows} == {"trained", "untrained"}
    assert result.scores(0, "paired", "mixed by hand").shape == (0, 1)
    labels = plot_mixing.figures(result)["orthogonality"].axes[0].get_legend_handles_labels()[1]
    assert "mixed at the output by hand" not in labels


def test_separate_paths_are_orthogonal_at_every_hidden_site_whatever_they_compute(result):
    """The other extreme: both outputs are one function, each with units of its own."""
    net = result.trained.networks[0]
    first, second, last = net.weights
    paths = ReluNetwork(
        (torch.cat([first, first]), torch.block_diag(second, second),
         torch.block_diag(last[:1], last[:1])),
        (net.biases[0].repeat(2), net.biases[1].repeat(2), net.biases[2][:1].repeat(2)),
    )  # fmt: skip
    x = ParallelProducts(2).sample(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*paths(x).T)
    scores = [gradsplinter.splinter(paths, x, site).orthogonality() for site in (0, 1, 2)]
    assert scores == pytest.approx([0, 1, 1], abs=1e-6)


def test_rows_are_what_splinter_says_of_the_network_on_its_validation_data(result):
    generator = generator_of(1, "training and validation examples")
    task = ParallelProducts(2)
    task.sample(300, generator=generator)
    x = task.sample(200, generator=generator)
    found = gradsplinter.splinter(result.trained.networks[3], x)  # λ = 0.5, seed 1
    (row,) = [r for r in result.rows
              if (r.kind, r.strength, r.seed, r.site) == ("trained", 0.5, 1, 0)]  # fmt: skip
    assert row.paired == found.orthogonality()
    assert row.all_pairs == found.all_pairs_orthogonality()
    assert row.modes == found.n_modes
    assert row.theory == exact_orthogonality(SoftMixing(task, 0.5), x) == pytest.approx(0, abs=1e-6)
    similarity = result.similarities[0.5, 1, 0]
    assert len(similarity) == row.unique_gradients
    assert torch.allclose(similarity.diagonal(), torch.ones(len(similarity)))


def test_separate_tasks_become_more_orthogonal_than_one_task_twice(result):
    paired = result.mean(0, "paired")
    assert paired[0] > paired[1] + 0.3


def test_deviation_is_the_mean_distance_of_means(result):
    expected = (
        (result.scores(0, "paired").mean(1) - result.scores(0, "theory").mean(1)).abs().mean()
    )
    assert result.deviation("paired") == pytest.approx(float(expected))


def test_losses_fall(result):
    losses = result.trained.losses
    assert losses.shape == (4, 60)
    assert (losses[:, -1] < losses[:, 0] / 3).all()


def test_networks_given_are_not_trained_again(result):
    again = run_mixing(TINY, trained=result.trained, progress=False)
    assert again.trained is result.trained
    assert again.rows == result.rows


def test_a_network_does_not_depend_on_the_other_lambdas_and_seeds(result):
    config = MixingConfig(
        lambdas=(0.5,), seeds=(1,), steps=60, training_examples=300, validation_examples=200
    )
    alone = run_mixing(config, progress=False)
    torch.testing.assert_close(
        alone.trained.losses[0], result.trained.losses[3], rtol=1e-3, atol=1e-6
    )


def test_config_round_trip_and_unknown_keys():
    assert MixingConfig.from_dict(TINY.to_dict()) == TINY
    with pytest.raises(TypeError, match=r"only the keys .*got also \['lamdas'\]"):
        MixingConfig.from_dict({"lamdas": [0.0]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lambdas": (0.0, 1.5)}, r"lambdas must be in \[0, 1\], got 1.5"),
        ({"lambdas": (float("nan"),)}, r"lambdas must be in \[0, 1\], got nan"),
        ({"lambdas": ()}, "lambdas must hold at least one value"),
        ({"seeds": (1, 1)}, r"seeds must not repeat, got \[1, 1\]"),
        ({"hidden": (0,)}, "hidden must be at least 1, got 0"),
        ({"steps": 0}, "steps must be"),
        ({"validation_examples": 0}, "validation_examples must be at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
    ],
)
def test_bad_configurations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MixingConfig(**values)


def test_figures_show_every_site_and_score(result):
    figures = plot_mixing.figures(result)
    assert list(figures) == ["orthogonality", "similarity", "training"]
    axes = figures["orthogonality"].axes
    assert len(axes) == 3
    theory = next(line for line in axes[0].lines if "theory" in str(line.get_label()))
    assert theory.get_ydata() == pytest.approx(result.mean(0, "theory"))
    by_hand = [line.get_ydata() for ax in axes for line in ax.lines
               if "by hand" in str(line.get_label())]  # fmt: skip
    for site, drawn in enumerate(by_hand):
        assert drawn == pytest.approx(result.mean(site, "paired", "mixed by hand"))
    assert len(by_hand) == 3
    drawn = [c.lines[0].get_ydata() for ax in axes for c in ax.containers]
    expected = [result.mean(k, s) for k in (0, 1, 2) for s in ("all_pairs", "paired")]
    for ours, theirs in zip(drawn, expected, strict=True):
        assert ours == pytest.approx(theirs)
    wide, narrow = (c.lines[0] for c in axes[2].containers)  # at one place where there is one mode
    assert wide.get_markersize() > narrow.get_markersize()
    shades = figures["training"].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in shades] == ["λ = 0", "λ = 0.5"]
    images = [ax.images[0].get_array() for ax in figures["similarity"].axes[:3]]
    assert images[0].shape == images[2].shape
    assert images[0].max() == pytest.approx(1)


def test_figures_of_a_single_network_show_all_that_their_legends_name():
    config = MixingConfig(
        lambdas=(0.0,),
        seeds=(0,),
        hidden=(3,),
        steps=2,
        training_examples=20,
        validation_examples=9,
    )
    result = run_mixing(config, progress=False)
    figures = plot_mixing.figures(result)
    ax = figures["orthogonality"].axes[0]
    for line in ax.lines:
        assert len(line.get_xdata()) == 2 or line.get_marker() not in ("None", None, "")
    assert not ax.patches
    for axis in (figures["training"].axes[1].yaxis, figures["training"].axes[1].xaxis):
        assert all(float(tick).is_integer() for tick in axis.get_ticklocs())
    figure = figures["similarity"]
    figure.canvas.draw()
    titles = [ax._left_title.get_window_extent() for ax in figure.axes[:2]]
    assert titles[0].x1 < titles[1].x0
    assert titles[1].x1 < figure.axes[-1].get_window_extent().x0


def test_the_finding(soak):
    """A part of the study, or all: the paired score follows theory at the input, the all-pairs score does not."""
    part = MixingConfig((0.0, 0.1, 0.2, 0.35, 0.5), (0, 1), training_examples=4000)
    config = MixingConfig() if soak else part
    result = run_mixing(config, progress=False)
    assert result.deviation("paired") < 0.02
    assert result.deviation("all_pairs") > 0.05
    paired, all_pairs = result.mean(0, "paired"), result.mean(0, "all_pairs")
    assert float(paired[-1]) < 0.02  # at λ = 0.5, where theory says 0
    assert float(all_pairs[-1]) > 0.05
    assert bool((paired.diff() < 0).all())
    assert bool((result.scores(0, "co_appearance") == 1).all())


def test_networks_of_another_configuration_are_refused():
    small = {"lambdas": (0.0,), "seeds": (0,), "training_examples": 30, "validation_examples": 20}
    config = MixingConfig(**small, steps=3)
    trained = run_mixing(config, progress=False).trained
    for other, message in (
        (
            MixingConfig(**small, steps=2),
            r"trained must have losses of shape \[1, 2\], got \[1, 3\]",
        ),
        (
            MixingConfig(**small, steps=3, hidden=(8,)),
            r"trained must hold 1 networks of widths \(4, 8, 2\)",
        ),
        (MixingConfig(**small | {"seeds": (0, 1)}, steps=3), "trained must hold 2 networks"),
    ):
        with pytest.raises(ValueError, match=message):
            run_mixing(other, trained=trained, progress=False)
