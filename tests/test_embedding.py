"""`embed` as it comes: the embedder that is shipped, networks of all kinds, and what it refuses or warns of."""

import hashlib
import subprocess
import sys
import warnings
from importlib import resources

import pytest
import torch
from torch import nn

from gradsplinter import Embedder, ReluNetwork, TracedNetwork, embed
from gradsplinter.embedder import EmbedderConfig
from gradsplinter.embedding import tokens_of_part
from gradsplinter.known_tasks import KnownTasks
from gradsplinter.tokens import Tokens
from gradsplinter.train import TrainConfig, initialise, train

X = torch.rand(400, 2, generator=torch.Generator().manual_seed(0))


def chain(activation=nn.ReLU):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(2, 16), activation(), nn.Linear(16, 3))


# --- the embedder that is shipped ---------------------------------------------------------------------


def test_it_is_small_and_described():
    folder = resources.files("gradsplinter") / "pretrained"
    assert len((folder / "formulae.safetensors").read_bytes()) < 5e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("gradsplinter zoo", "gradsplinter embed train", "seed", "unit square"):
        assert word in card
    assert hashlib.sha256((folder / "formulae.safetensors").read_bytes()).hexdigest() in card


def test_it_is_the_default_and_is_read_once():
    net = initialise([2, 16, 16, 1], 0)
    assert Embedder.pretrained() is Embedder.pretrained()
    assert torch.equal(embed(net, X), embed(net, X, Embedder.pretrained()))
    assert not any(p.requires_grad for p in Embedder.pretrained().parameters())


def test_it_knows_what_a_fresh_network_computes():
    """Networks of a width and examples that it has not seen."""
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(2, 512, 2, generator=generator)
    y = torch.stack([x[0].prod(1), (x[1][:, 0] - x[1][:, 1]).abs()]).unsqueeze(2)
    config = TrainConfig((2, 24, 24, 1), steps=400, learning_rate=1e-2, batch_size=128)
    nets = train(config, x, y, (1000, 1001), progress=False).networks
    known = Embedder.pretrained().known
    found = [known.nearest(embed(net, X)[0], 1)[0].name for net in nets]
    assert found == ["x1 * x2", "abs(x1 - x2)"]


# --- networks -----------------------------------------------------------------------------------------


def test_modules():
    module = chain()
    assert torch.equal(embed(module, X), embed(ReluNetwork.from_module(module), X))
    leaky = chain(lambda: nn.LeakyReLU(0.3))
    found = embed(leaky, X)
    assert found.shape == (3, 32)
    assert torch.equal(found, embed(TracedNetwork.from_module(leaky), X))
    # max(z, 0.3 z) = 0.7 relu(z) + 0.3 z, a ReLU network of units in pairs.
    (first, bias), (second, last) = ((layer.weight, layer.bias) for layer in (leaky[0], leaky[2]))
    pairs = ReluNetwork(
        (torch.cat([first, -first]).detach(), torch.cat([second, -0.3 * second], 1).detach()),
        (torch.cat([bias, -bias]).detach(), last.detach()),
    )
    torch.testing.assert_close(found, embed(pairs, X), rtol=1e-3, atol=1e-3)


def test_parts_of_modules_of_other_activations():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        whole = nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(), *chain(nn.LeakyReLU))
    x = torch.rand(300, 3, generator=torch.Generator().manual_seed(1))
    hidden = whole[:2](x).detach()
    embedder = Embedder(EmbedderConfig(), seed=1)
    found = embed(whole, x, embedder, source=1)
    torch.testing.assert_close(found, embed(whole[2:], hidden, embedder), rtol=1e-3, atol=1e-3)


def test_float64():
    net = initialise([2, 16, 16, 2], 0)
    found = embed(net.float64, X.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, embed(net, X), rtol=1e-3, atol=1e-3)


def test_an_output_of_many():
    net = initialise([2, 16, 16, 5], 0)
    found = embed(net, X)
    assert found.shape == (5, 32)
    one = ReluNetwork(
        (*net.weights[:-1], net.weights[-1][3:4]), (*net.biases[:-1], net.biases[-1][3:4])
    )
    torch.testing.assert_close(found[3:4], embed(one, X))


# --- what it refuses ----------------------------------------------------------------------------------


def constant(net):
    return ReluNetwork((*net.weights[:-1], torch.zeros_like(net.weights[-1])), net.biases)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"net": initialise([4, 8, 1], 0), "x": torch.rand(9, 4)},
            ValueError,
            r"net must have 2 units at site 0, as the embedder, got 4; choose coordinates",
        ),
        (
            {"net": nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))},
            NotImplementedError,
            "Tanh",
        ),
        ({"net": constant(initialise([2, 8, 1], 0))}, ValueError, "got direction 0, which is cons"),
        ({"x": X[:1]}, ValueError, "x must visit at least 2 modes of the network, got 1"),
        ({"x": X[:0]}, ValueError, "x must hold at least one example"),
        ({"x": X * torch.nan}, ValueError, "x must be finite, got 800 values"),
        ({"x": X.double()}, TypeError, "x must be float32"),
        ({"x": X.tolist()}, TypeError, r"x must be a torch\.Tensor, got list"),
        ({"x": X[:, :1]}, ValueError, r"x must have shape \[N, 2\]"),
        ({"target": 5}, ValueError, "target must be a site after the source"),
        ({"directions": torch.zeros(1, 2)}, ValueError, "directions"),
        (
            {"embedder": Embedder(EmbedderConfig(values="outputs"))},
            ValueError,
            "embedder must be one of gradients, got one of outputs",
        ),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        embed(**({"net": initialise([2, 8, 1], 0), "x": X} | change))


def test_weights_that_are_not_finite():
    module = chain()
    with torch.no_grad():
        module[0].weight[1, 0] = torch.nan
    with pytest.raises(ValueError, match=r"must be finite, got 1 value that is not"):
        embed(module, X)


# --- where it learned ---------------------------------------------------------------------------------


def test_examples_outside_of_where_it_learned():
    """More than 1 % of them, further beyond the range than 5 % of its width."""
    net = initialise([2, 16, 1], 0)
    embedder = Embedder(EmbedderConfig(), seed=0)
    embedder.point_low, embedder.point_high = torch.zeros(2), torch.tensor([1.0, 2.0])
    x = X.clone()
    x[:4, 1] = 2.09
    x[4:8, 0] = -0.06
    assert embedder.outside(x).nonzero().flatten().tolist() == [4, 5, 6, 7]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed(net, x, embedder)  # 1 %
    x[8, 0] = 1.06
    with pytest.warns(
        UserWarning, match=r"from \(0.00, 0.00\) to \(1.00, 2.00\) and at most 5% beyond; 1\.2%"
    ):
        embed(net, x, embedder)


def test_the_range_is_that_of_the_training_set():
    tokens = Tokens(
        torch.tensor([[[0.2, 3.0], [0.9, 2.0], [0.0, 0.0]]]),
        torch.zeros(1, 3, 2),
        torch.tensor([[0.5, 0.5, 0.0]]),
    )
    embedder = Embedder(EmbedderConfig())
    assert not embedder.outside(torch.tensor([[1e9, -1e9]])).any()  # nothing learned yet
    embedder.standardise(tokens)
    assert embedder.point_low.tolist() == pytest.approx([0.2, 2.0])  # not of what fills up
    assert embedder.point_high.tolist() == pytest.approx([0.9, 3.0])
    embedder.widen(Tokens(torch.tensor([[[0.0, 2.5]]]), torch.zeros(1, 1, 2), torch.ones(1, 1)))
    assert embedder.point_low.tolist() == pytest.approx([0.0, 2.0])
    assert embedder.point_high.tolist() == pytest.approx([0.9, 3.0])


def test_what_it_knows_is_saved(tmp_path):
    embedder = Embedder(EmbedderConfig(size=4), seed=3)
    embedder.known = KnownTasks(("a * b", "ü"), torch.rand(2, 4), torch.rand(2))
    embedder.point_low = torch.tensor([-1.0, 0.0])
    embedder.save(tmp_path / "e.safetensors")
    loaded = Embedder.load(tmp_path / "e.safetensors")
    assert loaded.known.names == ("a * b", "ü")
    assert torch.equal(loaded.known.means, embedder.known.means)
    assert torch.equal(loaded.known.distances, embedder.known.distances)
    assert torch.equal(loaded.point_low, embedder.point_low)
    embedder.known = KnownTasks(("a",), torch.rand(1, 5), torch.rand(1))
    embedder.save(tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match="known tasks are of another size than its embedding"):
        Embedder.load(tmp_path / "e.safetensors")


def test_nothing_is_read_at_import():
    """Not even by the command line; in a process where reading a file of weights fails."""
    code = """
import safetensors
def fails(*_, **__):
    raise RuntimeError("read")
safetensors.safe_open = fails
import gradsplinter.cli
print("imported")
gradsplinter.Embedder.pretrained()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "imported\n"
    assert done.stderr.endswith("RuntimeError: read\n")


# --- coordinates --------------------------------------------------------------------------------------


def of_first_inputs(weight):
    """A network of 4 inputs that heeds only the first two, `weight` in its first layer, and of 2 outputs."""
    small = initialise([2, 16, 2], 3)
    first = torch.zeros(16, 4)
    first[:, :2] = weight * small.weights[0]
    return ReluNetwork((first, small.weights[1]), small.biases)


@pytest.mark.parametrize("weight", [1.0, 1e-6])
def test_a_part_that_is_constant_in_its_coordinates(weight):
    """By the last two inputs, or by a turned basis of them, whose products are zero but for rounding."""
    net, x = of_first_inputs(weight), torch.rand(300, 4, generator=torch.Generator().manual_seed(0))
    embedder = Embedder(EmbedderConfig(), seed=0)
    x[:, :2] /= weight
    turned = torch.tensor([[0.0, 0.0, 1.0, 0.7], [0.0, 0.0, -0.3, 2.0]])
    for basis in (torch.eye(4)[2:], turned, 1e4 * turned, 1e-4 * turned):
        assert tokens_of_part(net, x, embedder, basis=basis) == [None, None]
        with pytest.raises(ValueError, match=r"got direction 0, which is constant .* coordinates"):
            embed(net, x, embedder, basis=basis)
        shown = basis.roll(2, 1) + 0.01 * basis
        assert None not in tokens_of_part(net, x, embedder, basis=shown)


@pytest.mark.parametrize(
    ("basis", "message"),
    [
        (torch.eye(5)[:2], r"basis must have shape \[d, 4\], as wide as the source, got \[2, 5\]"),
        (torch.eye(4)[:3], "basis must have 2 rows, as the embedder has inputs, got 3"),
        (torch.ones(2, 4), "basis must have rows that are linearly independent"),
    ],
)
@pytest.mark.parametrize("last", [0.0, 1.0])
def test_a_basis_is_looked_at_first(basis, message, last):
    """Also where the network is constant."""
    net, x = (
        initialise([4, 8, 1], 0),
        torch.rand(100, 4, generator=torch.Generator().manual_seed(0)),
    )
    net = ReluNetwork((net.weights[0], last * net.weights[1]), net.biases)
    with pytest.raises(ValueError, match=message):
        embed(net, x, Embedder(EmbedderConfig()), basis=basis)
