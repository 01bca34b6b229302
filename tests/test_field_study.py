"""The field study, on configurations of seconds, and how inputs mix, by hand."""

import dataclasses
import math
from functools import partial

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from networks import random_inputs, random_network

from gradsplinter import ReluNetwork
from gradsplinter.field import field_errors
from gradsplinter.plot.field import SHORTEST, fields
from gradsplinter.plot.field_study import figures, write_animations
from gradsplinter.plot.regions import animation, region_maps
from gradsplinter.plot.style import save
from gradsplinter.regions import plane
from gradsplinter.studies.field import SIZES, FieldConfig, fit_exponent, interference, run_field
from gradsplinter.studies.field_cases import TASKS, case_of
from gradsplinter.studies.input_mixing import input_mixing, switching

F64 = torch.float64
TINY = FieldConfig(
    seeds=(0, 1), hidden=(6, 5), steps=40, examples=200, mixing_seeds=2, mixing_hidden=(6, 6, 6),
    sizes=False, learning_rate=0.01,
)  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return run_field(TINY, progress=False)


def network(weights, biases=None):
    biases = biases or [[0.0] * len(w) for w in weights]
    return ReluNetwork(
        [torch.tensor(w, dtype=F64) for w in weights], [torch.tensor(b, dtype=F64) for b in biases]
    )


# --- inputs that mix -------------------------------------------------------------------------------


def test_inputs_that_run_apart_and_meet():
    """Two units each of one input, then one of both, then the sum."""
    net = network([[[1.0, 0], [0, 1]], [[1.0, 2], [2, 4]], [[1.0, 1]]])
    x = torch.rand(20, 2, dtype=F64)
    rows = input_mixing(net, x)
    assert [row[:2] for row in rows] == [(1, "x1, x2"), (2, "x1, x2")]
    assert [row[2] for row in rows] == pytest.approx([1, 0])
    assert [row[3] for row in rows] == pytest.approx([0, 1])


def test_mixing_counts_modes_by_their_examples():
    """The second unit, of both inputs, is on for x2 > 1/2 only."""
    net = network([[[1.0, 0], [1.0, 1]], [[1.0, 1]]], [[1.0, -1.5], [0.0]])
    x = torch.tensor([[0.0, 0.0], [0.0, 0.1], [1.0, 0.2], [1.0, 1.0]], dtype=F64)
    ((_, _, orthogonality, overlap),) = input_mixing(net, x)
    # On: ∂a/∂x1 = (1, 1), ∂a/∂x2 = (0, 1), cosine 1/√2. Off: ∂a/∂x2 = 0.
    assert orthogonality == pytest.approx(1 - 0.25 / math.sqrt(2))
    assert overlap == pytest.approx(0.25 / math.sqrt(2))


def test_mixing_is_that_of_autograd():
    net = random_network((3, 8, 7, 2), 1, F64)
    x = random_inputs(50, 3, 2, F64)
    module = net.to_module()
    expected = torch.zeros(2, 3)
    for at in x:
        a1, a2 = (
            torch.autograd.functional.jacobian(module[:k], at, vectorize=True) for k in (2, 4)
        )
        for site, moved in enumerate((a1, a2)):
            for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
                cosine = torch.cosine_similarity(moved[:, i], moved[:, j], dim=0, eps=0).nan_to_num(
                    0
                )
                expected[site, k] += (1 - cosine.abs()) / len(x)
    found = torch.tensor([row[2] for row in input_mixing(net, x)]).view(2, 3)
    torch.testing.assert_close(found, expected)


def test_which_layer_switches():
    """x2 turns a unit of the first layer on at 1/2, and one of the second at 3/4."""
    net = network(
        [[[1.0, 0], [0, 1], [1, 1]], [[1.0, 0, 0], [1, 1, 0], [0, 0, 1]], [[1.0, 1, 3]]],
        [[0.0, 0.0, -1.5], [0.0, -1.75, 0.0], [0.0]],
    )
    x = torch.tensor([[1.0, 0.0]], dtype=F64)
    # ∂y/∂x1 is 1, then 1 + 3 (unit 2 of layer 1, x2 = 1/2), then 1 + 3 + 1 (unit 1 of layer 2).
    assert switching(net, x, 1, 0.0, 1.0).tolist() == [0.75, 0.25]
    assert switching(net, x, 1, 0.0, 0.6).tolist() == [1, 0]
    assert switching(net, x, 1, 0.0, 0.4).tolist() == [0, 0]
    both = torch.tensor([[1.0, 0.0], [1.0, 9.0]], dtype=F64)  # what moves does not matter
    assert switching(net, both, 1, 0.0, 1.0).tolist() == [0.75, 0.25]


# --- the study -------------------------------------------------------------------------------------


def test_every_network_is_seen_on_every_plane(result):
    seen = [(at.case.name, at.slice.name, at.seed) for at in result.seen]
    slices = {"products": 1, "gate": 3, "quotient": 3, "formula": 1}
    assert len(set(seen)) == len(seen) == 2 * sum(slices.values())
    for at in result.seen:
        assert at.found.complete
        assert at.columns()["regions"] == len(at.found)
        assert at.columns().keys() == result.seen[0].columns().keys()
        errors = field_errors(at.found, at.case.exact)
        assert (errors.rms, errors.relative) == (at.errors.rms, at.errors.relative)
    assert {name: len(result.first(name)) for name in slices} == slices
    assert [row.seed for row in result.interference] == [0, 1]


def test_held_inputs_are_held():
    case = case_of("gate", TINY.expression)
    x = plane(random_network((3, 4, 1)), *case.slices[1].plane()).inputs(
        torch.tensor([[0.25, 0.75]], dtype=F64)
    )
    assert x.tolist() == [[0.25, 0.75, 0.5]]
    exact = case.exact(x)
    assert exact.tolist() == [[0.375, 0.125, 0.1875]]


def test_examples_are_of_the_task():
    for name in TASKS:
        case = case_of(name, TINY.expression)
        x = case.sample(500, torch.Generator().manual_seed(0))
        low, high = torch.tensor(case.ranges).unbind(1)
        assert x.shape == (500, case.task.n_inputs)
        assert ((x >= low) & (x <= high)).all()
        assert case.task.target(x).shape[1] == case.task.n_outputs
        for view in case.slices:
            assert len(view.moving) == 2


def test_films_end_with_the_trained_network(result):
    for task, film in result.frames.items():
        steps = [at.step for at in film]
        assert steps[0] == 0
        assert steps[-1] == TINY.steps
        assert steps == sorted(set(steps))
        assert torch.equal(film[-1].found.areas, result.first(task)[0].found.areas)
        assert all(at.regions == len(at.found) for at in film)


def test_films_of_too_many_regions_are_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr("gradsplinter.studies.field.MOST_DRAWN", 5)
    config = dataclasses.replace(TINY, tasks=("formula",), mixing_seeds=0)
    again = run_field(config, progress=False)
    film = again.frames["formula"]
    assert {at.found is None for at in film if at.regions > 5} == {True}
    assert max(at.regions for at in film) > 5
    write_animations(again, tmp_path)
    assert not list(tmp_path.iterdir())
    figures(again)["counts"].canvas.draw()


def test_mixing_rows(result):
    for task in ("gate = 0", "gate = 1", "quotient"):
        for trained in (True, False):
            rows = [r for r in result.mixing if (r.task, r.trained) == (task, trained)]
            assert len(rows) == 2 * 3 * 3  # seeds, sites, pairs
            depths = result.mixing_depths(task, trained=trained)
            assert list(depths) == ["x1, x2", "x1, x3", "x2, x3"]
            first = [r.orthogonality for r in rows if (r.pair, r.seed) == ("x1, x3", 1)]
            assert float(depths["x1, x3"][1]) == pytest.approx(1 + sum(first))
            shares = [r for r in result.switching if (r.task, r.trained) == (task, trained)]
            at = [r.site * r.share for r in shares if (r.moved, r.seed) == ("x2", 1)]
            switched = result.switching_depths(task, trained=trained)
            assert float(switched["x2"][1]) == pytest.approx(sum(at))
            for seed in (0, 1):
                for moved in ("x1", "x2", "x3"):
                    total = sum(r.share for r in shares if (r.seed, r.moved) == (seed, moved))
                    assert total == pytest.approx(1) or total == 0  # one region


def test_the_same_configuration_gives_the_same_result(result):
    again = run_field(TINY, progress=False)
    assert [at.columns() for at in again.seen if at.slice.name != "gate = 0"] == [
        at.columns() for at in result.seen if at.slice.name != "gate = 0"  # where the angle is NaN
    ]  # fmt: skip
    assert again.mixing == result.mixing
    assert again.switching == result.switching
    assert again.interference == result.interference


def test_interference_by_hand():
    case = case_of("products", "x1")
    flat = network([[[1.0, 1, 0, 0]]])  # y = x1 + x2
    row = interference(case, 0, flat)
    assert row.change == 0
    assert row.error == pytest.approx(1, rel=1e-3)  # 2 ∫ (1 - x)² and 2 ∫ x² are both 2/3
    # x1 counts for x3 >= 1/8 only: at 4 of 5 values, so its gradient has the variance 0.8 · 0.2.
    gate = network([[[1.0, 0, 1000, 0], [0, 0, 1000, 0]], [[1.0, -1]]], [[-125.0, -125.0], [0.0]])
    assert interference(case, 0, gate).change == pytest.approx((0.16 / (2 / 3)) ** 0.5, rel=1e-3)


def test_errors_fall_with_size(monkeypatch):
    monkeypatch.setattr("gradsplinter.studies.field.SIZES", ((4,), (32,), (16, 16)))
    config = FieldConfig(tasks=(), seeds=(0, 1), steps=400, examples=500, mixing_seeds=0)
    found = run_field(config, progress=False)
    assert [(size.hidden, size.seed) for size in found.sizes] == [
        (hidden, seed) for hidden in ((4,), (32,), (16, 16)) for seed in (0, 1)
    ]
    assert found.sizes[0].parameters == 4 * 3 + 5
    assert found.sizes[4].parameters == 16 * 3 + 16 * 17 + 17
    assert found.exponent.slope < 0
    assert all(size.rms > size.best_rms for size in found.sizes)
    assert set(figures(found)) == {"sizes"}
    assert len(SIZES) >= 12


def test_more_regions_than_are_wanted():
    config = FieldConfig(tasks=("formula",), seeds=(0,), steps=1, examples=9, mixing_seeds=0,
                         sizes=False, max_regions=3)  # fmt: skip
    with pytest.raises(
        ValueError, match=r"^max_regions must be at least the number of regions, got 3"
    ):
        run_field(config, progress=False)


def test_fitted_exponents():
    generator = torch.Generator().manual_seed(0)
    x = torch.logspace(0, 3, 200, dtype=F64)
    noise = 0.1 * torch.randn(200, dtype=F64, generator=generator)
    y = (3 * x**-0.5 * noise.exp()).tolist()
    slope, error = fit_exponent(x.tolist(), y, range(200))
    assert slope == pytest.approx(-0.5, abs=4 * error)
    # 0.1 / (standard deviation of log x · √n)
    assert error == pytest.approx(0.1 / (float(x.log().std()) * 200**0.5), rel=0.15)
    # Points that come four times are no more evidence than once.
    again = fit_exponent(4 * x.tolist(), 4 * y, 4 * list(range(200)))
    assert again == pytest.approx((slope, error))
    apart = fit_exponent(4 * x.tolist(), 4 * y, range(800))
    assert apart.error == pytest.approx(error / 2, rel=0.01)
    with pytest.raises(ValueError, match=r"^x must differ and be of three kinds at least, got 2"):
        fit_exponent([1, 2, 3, 4], [1, 2, 3, 4], "aabb")
    with pytest.raises(ValueError, match=r"^x and y must be positive, got 0"):
        fit_exponent([1, 2, 3], [1, 0, 3], "abc")
    with pytest.raises(ValueError, match=r"^x, y and kinds must be as long, got 3, 3 and 4"):
        fit_exponent([1, 2, 3], [1, 2, 3], "abcd")
    with pytest.raises(ValueError, match=r"^x must differ"):
        fit_exponent([2, 2, 2], [1, 2, 3], "abc")


def test_figures_are_drawn(result, tmp_path):
    drawn = figures(result)
    assert set(drawn) == {
        *(f"{kind}-{task}" for kind in ("field", "regions") for task in TASKS), "counts", "mixing",
    }  # fmt: skip
    for figure in drawn.values():
        figure.canvas.draw()
    for ax in drawn["mixing"].axes[2::3]:
        assert ax.get_legend().get_texts()[-1].get_text() == "hollow: untrained"
    write_animations(
        dataclasses.replace(result, frames={"gate": result.frames["gate"][::20]}), tmp_path
    )
    written = (tmp_path / "training-gate.gif").read_bytes()
    assert written.startswith(b"GIF89a")
    assert [path.name for path in tmp_path.iterdir()] == ["training-gate.gif"]


@pytest.mark.parametrize(
    "name", ["sin(6*x1)*x2 - log(x1+0.1)", TINY.expression, 9 * "x1*x2+sin(x1) ", "", "$x$"]
)
def test_titles_do_not_run_into_the_next_panel(result, name):
    found = result.first("formula")[0].found
    for figure in (fields([(name, found)], torch.sin), region_maps([(name, found)], torch.sin)):
        figure.canvas.draw()
        titles = [ax._left_title.get_window_extent() for ax in figure.axes[:3]]
        panels = [ax.get_window_extent() for ax in figure.axes[:3]]
        for title, after in zip(titles, [p.x0 for p in panels[1:]] + [figure.bbox.x1], strict=True):
            assert title.x1 < after


def test_short_arrows_point_where_the_gradient_does_and_none_is_where_it_is_0():
    net = network([[[1.0, 0], [0.0, 1]], [[1.0, 0.0]]], [[-0.5, 0.0], [0.0]])
    found = plane(net)  # (1, 0) for x1 > 1/2, else 0

    def exact(x):
        return torch.tensor([0.0, 0.05], dtype=F64).expand_as(x)

    figure = fields([("", found)], exact)
    ours, theirs, _ = (
        next(c for c in ax.collections if isinstance(c, Quiver)) for ax in figure.axes[:3]
    )
    assert set(zip(ours.U.tolist(), ours.V.tolist(), strict=True)) == {(0, 0), (1, 0)}
    assert set(theirs.V.tolist()) == {SHORTEST}
    assert theirs.get_array().tolist() == pytest.approx(
        [0.05] * 17 * 17
    )  # the colour has the length
    assert abs(theirs.U).max() == 0


def test_maps_of_networks_that_have_little_to_show(tmp_path):
    flat = plane(network([[[0.0, 0.0]]]))
    dead = plane(network([[[0.0, 0.0]], [[1.0]]], [[-1.0], [0.0]]), domain=[[0, 0], [3, 0], [0, 1]])
    deep = plane(random_network((2, *[3] * 7, 1), 0, F64))
    for found in (flat, dead, deep):
        region_maps([("", found)], torch.zeros_like).canvas.draw()
        animation([("", found)], tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size > 0


def test_figures_without_a_view_or_of_another_output(tmp_path):
    found = plane(random_network((2, 3, 2), 0, F64))
    draw = {
        "views": region_maps,
        "frames": partial(animation, path=tmp_path / "a.gif"),
    }
    for name, function in draw.items():
        with pytest.raises(
            ValueError, match=f"^{name} must hold at least one title and its regions"
        ):
            function([])
        with pytest.raises(ValueError, match=r"^output must be in 0..1, got 9$"):
            function([("", found)], output=9)
    with pytest.raises(ValueError, match=r"^views must hold at least one title and its regions"):
        fields([], torch.zeros_like)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_is_saved_into_a_new_folder(tmp_path):
    paths = save(Figure(), str(tmp_path / "new" / "folder"), "name")
    assert [path.name for path in paths] == ["name.png", "name.pdf"]
    assert all(path.stat().st_size > 0 for path in paths)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"tasks": (), "sizes": False},
            "^tasks must hold at least one value where sizes are left out",
        ),
        (
            {"tasks": ("gate",), "expression": "x1"},
            r"^expression must be left out where \"formula\" is not among the tasks, got 'x1'$",
        ),
        ({"tasks": ("sum",)}, "tasks must be of products, gate, quotient, formula, got sum"),
        ({"tasks": ("gate", "gate")}, "tasks must not repeat, got gate, gate"),
        ({"seeds": ()}, "seeds must hold at least one value, got none"),
        ({"seeds": (1, 1)}, "seeds must not repeat, got 1, 1"),
        ({"hidden": ()}, "hidden must hold at least one value, got none"),
        ({"hidden": (0,)}, "hidden must be at least 1, got 0"),
        ({"mixing_hidden": ()}, "mixing_hidden must hold at least one value, got none"),
        ({"examples": 0}, "examples must be at least 1, got 0"),
        ({"steps": 0}, "steps must be"),
        ({"mixing_seeds": -1}, "mixing_seeds must be at least 0, got -1"),
        ({"max_regions": 0}, "max_regions must be at least 1, got 0"),
        ({"expression": "x3"}, "expression must be of x1 and x2 only, got 'x3'"),
        ({"expression": "1 / x1"}, "expression must be finite on the unit cube"),
        ({"expression": "2 +"}, "expression must be a formula"),
    ],
)
def test_bad_configurations(values, message):
    with pytest.raises(ValueError, match=message):
        FieldConfig(**values)
