"""Bad input: what each public function says about it, word by word."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from networks import random_inputs, random_network
from torch import nn

import gradsplinter
from gradsplinter import ops

NET = random_network((4, 70, 6, 3))  # L = 3; sites 1 and 2 take 2 and 1 words
X = random_inputs(5, 4)
WORDS = gradsplinter.signatures(NET, X)
JACOBIAN = gradsplinter.jacobian(NET, WORDS)
NAN, INF = torch.nan, torch.inf


def put(tensor, index, value):
    copy = tensor.clone()
    copy[index] = value
    return copy


BAD_INPUTS = {
    "rank 1": (X[0], ValueError, "x must have 2 dimensions, got 1 (shape [4])"),
    "width": (
        torch.zeros(100, 3),
        ValueError,
        "x must have shape [N, 4] to match the network's input, got [100, 3]",
    ),
    "dtype": (
        X.double(),
        TypeError,
        "x must be float32 like the network, got float64; x.float() converts it, or make the network of "
        "module.double()",
    ),
    "sparse": (X.to_sparse(), TypeError, "x must be a dense tensor, got layout torch.sparse_coo"),
    "device": (X.to("meta"), ValueError, "x must be on the network's device cpu, got meta"),
    "one NaN": (
        put(X, (3, 1), NAN),
        ValueError,
        "x must be finite, got 1 value that is not (the first at [3, 1]: nan)",
    ),
    "infinities": (
        put(put(X, (2, 0), -INF), (4, 3), INF),
        ValueError,
        "x must be finite, got 2 values that are not (the first at [2, 0]: -inf)",
    ),
    "infinity and NaN that require gradients": (
        put(put(X, (0, 1), INF), (0, 2), NAN).requires_grad_(),
        ValueError,
        "x must be finite, got 2 values that are not (the first at [0, 1]: inf)",
    ),
}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.half(), "x must be float32 like the network, got float16"),
        (X.long(), "x must be float32 like the network, got int64"),
        (X.numpy(), "x must be a torch.Tensor, got ndarray"),
        (X.tolist(), "x must be a torch.Tensor, got list"),
        (None, "x must be a torch.Tensor, got NoneType"),
    ],
)
def test_inputs_that_only_splinter_takes(x, message):
    for function in (NET, partial(gradsplinter.signatures, NET)):
        with pytest.raises(TypeError) as raised:
            function(x)
        assert str(raised.value) == message


def test_images_are_for_splinter_only():
    for function in (NET, partial(gradsplinter.signatures, NET)):
        with pytest.raises(
            ValueError, match=r"^x must have 2 dimensions, got 3 \(shape \[5, 2, 2\]"
        ):
            function(X.reshape(5, 2, 2))
    assert gradsplinter.splinter(NET, X.reshape(5, 2, 2)).n_examples == 5


@pytest.mark.parametrize("function", [gradsplinter.signatures, gradsplinter.splinter, "call"])
@pytest.mark.parametrize(("x", "error", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_inputs(function, x, error, message):
    with pytest.raises(error) as raised:
        NET(x) if function == "call" else function(NET, x)
    assert str(raised.value) == message


def test_large_finite_values_are_not_refused():
    """Their sum overflows, as it would with an infinity among them."""
    x = torch.full((5, 4), 3e38)
    assert gradsplinter.signatures(NET, x).shape == (5, 3)
    unchecked = put(X, (0, 0), NAN)
    assert gradsplinter.signatures(NET, unchecked, check_finite=False).shape == (5, 3)
    assert gradsplinter.splinter(NET, unchecked, check_finite=False).n_examples == 5


HIDDEN = "sites must be hidden sites in 1..2, got "
ORDER = "sites must be in ascending order without repeats, got "


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ([0], HIDDEN + "[0]"),
        ([1, 3], HIDDEN + "[1, 3]"),
        ([-1], HIDDEN + "[-1]"),
        ([2, 1], ORDER + "[2, 1]"),
        ([1, 1], ORDER + "[1, 1]"),
    ],
)
def test_sites(sites, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gradsplinter.signatures(NET, X, sites)


SOURCE = "source must be a site in 0..2, got "
TARGET = "target must be a site after the source, in "


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (-1, 3, SOURCE + "-1"),
        (3, 3, SOURCE + "3"),
        (7, -1, SOURCE + "7"),
        (0, 0, TARGET + "1..3, got 0"),
        (0, 4, TARGET + "1..3, got 4"),
        (0, -4, TARGET + "1..3, got -4"),
        (0, -5, TARGET + "1..3, got -5"),
        (2, 1, TARGET + "3..3, got 1"),
        (2, 2, TARGET + "3..3, got 2"),
        (2, -2, TARGET + "3..3, got -2"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda s, t: gradsplinter.jacobian(NET, WORDS, s, t),
        lambda s, t: gradsplinter.splinter(NET, X, s, t),
        lambda s, t: gradsplinter.pattern_sites(NET, s, t),
    ],
    ids=["jacobian", "splinter", "pattern_sites"],
)
def test_source_and_target(call, source, target, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(source, target)


@pytest.mark.parametrize(
    ("directions", "error", "message"),
    [
        (
            torch.zeros(2, 4),
            ValueError,
            "directions must have shape [D, 3] to match site 3, got [2, 4]",
        ),
        (torch.zeros(3), ValueError, "directions must have 2 dimensions, got 1 (shape [3])"),
        (torch.zeros(2, 3).double(), TypeError, "directions must be float32, got float64"),
        ([[1.0, 0.0, 0.0]], TypeError, "directions must be a torch.Tensor, got list"),
        (
            torch.zeros(2, 3, device="meta"),
            ValueError,
            "directions must be on the network's device cpu, got meta",
        ),
        (
            torch.tensor([[0, 0, 0], [0, NAN, 0]]),
            ValueError,
            "directions must be finite, got 1 value that is not (the first at [1, 1]: nan)",
        ),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda d: gradsplinter.jacobian(NET, WORDS, directions=d),
        lambda d: gradsplinter.splinter(NET, X, directions=d),
    ],
    ids=["jacobian", "splinter"],
)
def test_directions(call, directions, error, message):
    with pytest.raises(error) as raised:
        call(directions)
    assert str(raised.value) == message


def test_directions_are_those_of_the_target():
    message = "directions must have shape [D, 6] to match site 2, got [2, 3]"
    with pytest.raises(ValueError, match=re.escape(message)):
        gradsplinter.splinter(NET, X, target=2, directions=torch.zeros(2, 3))


UNUSED = "patterns must have no bits after the last unit of a site, got some in word "


@pytest.mark.parametrize(
    ("patterns", "error", "message"),
    [
        (
            WORDS[:, :2],
            ValueError,
            "patterns must have shape [U, 3] to hold the bits of sites [1, 2], got [5, 2]",
        ),
        (WORDS[0], ValueError, "patterns must have 2 dimensions, got 1 (shape [3])"),
        (WORDS.bool(), TypeError, "patterns must be int64, got bool"),
        (WORDS.to("meta"), ValueError, "patterns must be on the network's device cpu, got meta"),
        (put(WORDS, (4, 1), 2**6), ValueError, UNUSED + "1, which ends a site of 70 units"),
        (put(WORDS, (0, 2), -1), ValueError, UNUSED + "2, which ends a site of 6 units"),
    ],
)
def test_patterns(patterns, error, message):
    with pytest.raises(error) as raised:
        gradsplinter.jacobian(NET, patterns)
    assert str(raised.value) == message
    last = put(put(WORDS, (4, 1), 2**6 - 1), (4, 0), -1)  # all 70 units on
    assert gradsplinter.jacobian(NET, last).isfinite().all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: gradsplinter.unique_rows(torch.zeros(3, 2, dtype=torch.int32)),
            TypeError,
            "rows must be int64 or bool or float32 or float64, got int32",
        ),
        (
            lambda: gradsplinter.unique_rows(torch.zeros(3)),
            ValueError,
            "rows must have 2 dimensions, got 1 (shape [3])",
        ),
        (
            lambda: gradsplinter.unique_rows(np.zeros((3, 2))),
            TypeError,
            "rows must be a torch.Tensor, got ndarray",
        ),
        (
            lambda: gradsplinter.unique_rows(put(torch.zeros(3, 2), (2, 1), NAN)),
            ValueError,
            "rows must not hold NaN, which equals nothing; got one at [2, 1]",
        ),
        (
            lambda: gradsplinter.hash_rows(torch.zeros(3, 2)),
            TypeError,
            "rows must be int64, got float32",
        ),
        (
            lambda: gradsplinter.hash_rows(WORDS[0]),
            ValueError,
            "rows must have 2 dimensions, got 1 (shape [3])",
        ),
        (
            lambda: gradsplinter.cross(JACOBIAN[0]),
            ValueError,
            "jacobian must have 3 dimensions, got 2 (shape [3, 4])",
        ),
        (
            lambda: gradsplinter.cross(JACOBIAN.half()),
            TypeError,
            "jacobian must be float32 or float64, got float16",
        ),
        (
            lambda: gradsplinter.signatures(nn.Sequential(nn.Linear(4, 3)), X),
            TypeError,
            "net must be a ReluNetwork (ReluNetwork.from_module makes one) or a TracedNetwork, got Sequential",
        ),
        (
            lambda: gradsplinter.jacobian(nn.Linear(4, 3), WORDS),
            TypeError,
            "net must be a ReluNetwork (ReluNetwork.from_module makes one) or a TracedNetwork, got Linear",
        ),
        (
            lambda: gradsplinter.signatures(NET, X, 1),
            TypeError,
            "sites must be a sequence of sites, got int",
        ),
        (
            lambda: gradsplinter.signatures(NET, X, [1.5]),
            TypeError,
            "sites[0] must be an integer, got float",
        ),
        (
            lambda: gradsplinter.splinter(NET, X, "0"),
            TypeError,
            "source must be an integer, got str",
        ),
        (
            lambda: gradsplinter.splinter(NET, X, True),
            TypeError,
            "source must be an integer, got bool",
        ),
        (
            lambda: gradsplinter.splinter(NET, X, 0, None),
            TypeError,
            "target must be an integer, got NoneType",
        ),
        (
            lambda: gradsplinter.splinter(NET, X, directions=torch.empty(0, 3)),
            ValueError,
            "directions must hold at least one direction, got none",
        ),
        (
            lambda: gradsplinter.splinter("net", X),
            TypeError,
            "net must be a ReluNetwork, a TracedNetwork or an nn.Module, got str",
        ),
        (
            lambda: gradsplinter.splinter(NET, X[:0]),
            ValueError,
            "x must hold at least one example, got none",
        ),
        (
            lambda: gradsplinter.splinter(NET, X.double().numpy()),
            TypeError,
            "x must be float32 like the network, got float64; x.float() converts it, or make the network "
            "of module.double()",
        ),
        (
            lambda: ops.instruction_set("mmx").__enter__(),
            ValueError,
            "the instruction set must be one that this CPU can run "
            f"({', '.join(ops.instruction_sets())}), got 'mmx'",
        ),
    ],
)
def test_other_arguments(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
