"""A traced network that is a chain → the `ReluNetwork` with the same function, in float64.

Between two piecewise-linear operations all is affine, so it is a matrix and a bias: the matrix by the transposes
of `backward`, row by row, the bias as the value at 0. A piecewise-linear function of one number is a sum of
ReLUs: with thresholds t_1 < ... < t_m and slopes s_0, ..., s_m

    f(z) = f(t_1) - s_0 ReLU(t_1 - z) + s_1 ReLU(z - t_1) + Σ_(i > 1) (s_i - s_(i-1)) ReLU(z - t_i).

So a ReLU is one unit, LeakyReLU, PReLU and the absolute value are two, whose borders coincide, and ReLU6 is two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, fx

from gradsplinter.backward import jacobian
from gradsplinter.network import ReluNetwork
from gradsplinter.operations import Operation, place
from gradsplinter.sites import Segment
from gradsplinter.traced import TracedNetwork
from gradsplinter.tracing import Trace
from gradsplinter.units import Pointwise

MOST_ENTRIES = 2**27
"""Of all matrices together, 1 GiB."""


def lowered(net: TracedNetwork) -> ReluNetwork:
    """The same function as a chain of dense layers and ReLUs, in float64 on the CPU.

    Its hidden units are those of the traced network where all of these are ReLUs. Of other functions there
    are as many units as it takes, and no border that the traced network does not have.

    Raises:
        NotImplementedError: not a chain of affine operations and functions of one number, as with skip
            connections or max pooling; more than `MOST_ENTRIES` numbers in the matrices.

    Examples:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(8, 1))
        >>> lowered(TracedNetwork.from_module(net, (1, 6)))
        ReluNetwork(6-16-1, float64)
    """
    net = net.float64
    net.check_linear(0, net.depth)
    traced = net.recorded
    stages = _stages(traced)
    sizes = [_size(traced, traced.source), *(_size(traced, stage.after) for stage in stages)]
    entries = sum(4 * a * b for a, b in pairwise(sizes))
    if entries > MOST_ENTRIES:
        raise NotImplementedError(
            f"net must have dense layers of at most {MOST_ENTRIES:,} numbers to be looked at as a chain of "
            f"them, got up to {entries:,} between sites of widths {sizes}"
        )
    weights, biases = [], []
    scale, constant = (
        torch.eye(sizes[0], dtype=torch.float64),
        torch.zeros(sizes[0], dtype=torch.float64),
    )
    for stage in stages:
        weight, bias = _affine(traced, stage)
        bias = bias + weight @ constant
        weight = weight @ scale
        if stage.unit is None:
            weights.append(weight)
            biases.append(bias)
            break
        signs, thresholds, scale, constant = _as_relus(stage.unit, traced.shapes[stage.after][1:])
        weights.append((signs.unsqueeze(2) * weight).flatten(0, 1))
        biases.append((signs * (bias - thresholds)).flatten())
    else:  # it ends with a unit
        weights.append(scale)
        biases.append(constant)
    return ReluNetwork(tuple(weights), tuple(biases))


@dataclass(frozen=True)
class _Stage:
    """Affine operations, and the unit after them."""

    before: fx.Node
    operations: list[Operation]
    last: fx.Node
    """Whose value the unit takes; the result of the module in the last stage."""
    unit: Pointwise | None
    after: fx.Node


def _stages(traced: Trace) -> list[_Stage]:
    """
    Raises:
        NotImplementedError: naming what is no part of a chain.
    """
    stages: list[_Stage] = []
    before, operations = traced.source, list[Operation]()
    for operation in traced.operations:
        node, unit = operation.node, operation.unit
        known = {before, *(one.node for one in operations)}
        inputs = [one for one in node.all_input_nodes if one not in traced.constants]
        if not known.issuperset(inputs):
            raise NotImplementedError(
                f"net must be a chain to have exact regions: {place(node)} takes what comes from before the last "
                "piecewise-linear operation, as a skip connection does"
            )
        if unit is None:
            operations.append(operation)
            continue
        if not isinstance(unit, Pointwise):
            raise NotImplementedError(
                f"net must have functions of one number between its affine operations to have exact regions, got "
                f"{place(node)}"
            )
        stages.append(_Stage(before, operations, inputs[0], unit, node))
        before, operations = node, []
    if operations or not stages:
        stages.append(_Stage(before, operations, traced.result, None, traced.result))
    return stages


def _size(traced: Trace, node: fx.Node) -> int:
    return math.prod(traced.shapes[node][1:])


def _affine(traced: Trace, stage: _Stage) -> tuple[Tensor, Tensor]:
    """The matrix `[width, width before]` and the bias of the operations of a stage."""
    width = _size(traced, stage.last)
    segment = Segment(tuple(stage.operations), ())
    none = torch.zeros(1, 0, dtype=torch.int64)
    own = torch.eye(width, dtype=torch.float64)
    weight = jacobian(traced, [stage.before, stage.last], [segment], none, own)[0]
    values = {stage.before: torch.zeros(1, *traced.shapes[stage.before][1:], dtype=torch.float64)}
    with torch.no_grad():
        for operation in stage.operations:
            values[operation.node] = traced.call(operation.node, values, 1)
    of_result = torch.arange(width).reshape(1, *traced.shapes[stage.last][1:])
    of_result = of_result.expand(
        1, *traced.shapes[stage.after][1:]
    ).flatten()  # bounds can be broader
    return weight[of_result], values[stage.last].flatten()[of_result]


def _as_relus(unit: Pointwise, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A function of each of n numbers as Σ_r scale_r ReLU(sign_r (z - threshold_r)) + constant.

    Returns:
        signs `[r, n]` and thresholds `[r, n]`; the matrix `[n, r·n]` of scales, and constants `[n]`.
    """

    def each(value: float | Tensor) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64).expand(1, *shape).flatten()

    thresholds, slopes = [each(t) for t in unit.thresholds], [each(s) for s in unit.slopes]
    ones = torch.ones_like(thresholds[0])
    parts = [(-ones, thresholds[0], -slopes[0]), (ones, thresholds[0], slopes[1])]
    for threshold, before, slope in zip(thresholds[1:], slopes[1:-1], slopes[2:], strict=True):
        parts.append((ones, threshold, slope - before))
    parts = [part for part in parts if bool(part[2].any())] or parts[:1]
    signs, at, scales = (torch.stack(some) for some in zip(*parts, strict=True))
    constant = each(unit.intercepts[0]) + slopes[0] * thresholds[0]
    return signs, at, torch.cat([scale.diag() for scale in scales], dim=1), constant
