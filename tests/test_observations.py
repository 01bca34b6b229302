"""The research diary's observations on trained networks, and what the summary shows of them."""

import re

import pytest
import torch
from networks import random_inputs, random_network
from torch import nn

from gradsplinter import Splinters, splinter


@pytest.fixture(scope="module")
def products():
    """A network trained on x1·x2 and x3·x4, its data, and itself before training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x = torch.rand(500, 4, generator=torch.Generator().manual_seed(0))
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2] * x[:, 3]], dim=1)
    untrained = random_network((4, 16, 16, 2))
    module = untrained.to_module()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(module(x), y)
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    assert loss < 2e-3
    return module, x, untrained


@pytest.mark.parametrize("source", [0, 1, 2])
def test_splinters_of_the_outputs_appear_together(products, source):
    """The diary: as many unique gradients for each output as unique combinations of them.

    It holds exactly, and before training too: every output reads every hidden unit, so two modes
    that differ give every output another gradient.
    """
    module, x, untrained = products
    for net in (module, untrained):
        s = splinter(net, x, source)
        assert s.co_appearance().tolist() == [1, 1]
        assert torch.equal(s.gradients(0).index, s.gradients(1).index)
    assert source == 2 or s.n_modes > 5


def test_splinters_of_inner_units_do_not(products):
    """A unit's gradient knows whether the unit is on: it is zero in many modes that differ."""
    module, x, _ = products
    for source, target in ((0, 1), (1, 2), (0, 2)):
        s = splinter(module, x, source, target)
        assert s.co_appearance().min() < 0.5
        assert s.zero_gradients.max() > 1
    adjacent = splinter(module, x, 0, 1)
    # Between adjacent sites a unit has its row of W where it is on, and zero where it is off.
    assert all(len(adjacent.gradients(d).values) <= 2 for d in range(16))


def test_tasks_become_orthogonal(products):
    module, x, untrained = products
    assert splinter(module, x).orthogonality() > splinter(untrained, x).orthogonality() + 0.1


def test_splinters_are_fewer_than_examples(products):
    module, x, _ = products
    modes = [splinter(module, x, source).n_modes for source in (0, 1, 2)]
    assert 500 / 2 > modes[0] > modes[1] > modes[2] == 1


def test_summary(products):
    s = splinter(products[0], products[1])
    modes = s.n_modes
    lines = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in repr(s).split("\n")[1:])
    assert lines == {
        "network": "ReluNetwork(4-16-16-2, float32)",
        "sites": "0 ← 3",
        "examples": "500",
        "modes": str(modes),
        "compression": f"{500 / modes:.1f} examples a mode",
        "unique gradients": f"{modes}, {modes} of 2 directions",
        "co-appearance": "1, 1",
        "orthogonality": f"{s.orthogonality():.4f}",
    }


@pytest.mark.parametrize(
    ("widths", "n"),
    [((4, 16, 16, 2), 2000), ((4, 9, 1), 1), ((3, *[11] * 40, 300), 200), ((2, 3000, 12), 1200)],
)
def test_summary_fits_on_a_screen(widths, n):
    lines = repr(splinter(random_network(widths), random_inputs(n, widths[0]))).split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_summary_of_many_directions_leaves_out_the_middle():
    s = splinter(random_network((2, 3, 40)), random_inputs(100, 2))
    unique = re.search(r"unique gradients +(.*) of 40 directions", repr(s)).group(1)
    values = [str(len(s.gradients(d).values)) for d in range(40)]
    shown = unique.split(", ")
    middle = shown.index("...")
    assert middle >= 5
    assert shown == [*values[:middle], "...", *values[middle + 1 - len(shown) :]]


def test_summary_says_where_deduplication_saves_little():
    note = "deduplication saves little"
    x = random_inputs(200, 20)
    many = splinter(random_network((20, 200, 2)), x)
    assert many.n_modes > 190
    assert note in repr(many)
    assert note in many._repr_html_()
    few = splinter(random_network((20, 3, 2)), x)
    assert few.n_modes <= 8
    assert note not in repr(few)


def test_notebook_view(products, monkeypatch):
    s = splinter(products[0], products[1])
    html = s._repr_html_()
    for name, value in s.summary().items():
        assert f"{name}</th>" in html
        assert f">{value}</td>" in html
    assert html.count("<tr>") == html.count("</tr>") == len(s.summary())
    monkeypatch.setattr(Splinters, "summary", lambda _: {"<name>": "<script> & more"})
    html = s._repr_html_()
    assert "&lt;name&gt;" in html
    assert "&lt;script&gt; &amp; more" in html
    assert "<script>" not in html
