"""Gradients of a recorded module in a pattern: the operations of each segment, backwards.

In a pattern every operation is affine, so going back through it is a linear map. That of a linear operation
is the same in all patterns: the commonest are in `transposes`, and of any other autograd makes a record once,
on zeros, and goes back through it for every block of rows. That of a piecewise-linear one is `Unit.backward`. A row is one direction in one mode, and a
block always has the same number of rows, so that what else is computed does not decide how torch adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from gradsplinter.patterns import unpack_bits
from gradsplinter.sites import Segment
from gradsplinter.threads import side_by_side
from gradsplinter.tracing import Trace
from gradsplinter.transposes import transposed
from gradsplinter.units import Unit

BLOCK = 2**19
"""Numbers of the widest operation's result that are computed at a time: two megabytes stay in the cache."""
MOST_ROWS = 1024
"""Of a block, where all is narrow: a single gradient costs as much as a block."""

DIRECTIONS = 16
"""At least so many, if there are, are computed with the derivatives that a mode has."""

Gradient = list[Tensor | None]
"""One for each tensor in the value of a node; None for zero."""


def rows_at_once(traced: Trace) -> int:
    """Of a block; they depend on the network alone."""
    widest = max(math.prod(shape[1:]) for shape in traced.shapes.values())
    return max(1, min(MOST_ROWS, BLOCK // max(1, widest)))


def jacobian(
    traced: Trace,
    nodes: Sequence[fx.Node],
    segments: Sequence[Segment],
    patterns: Tensor,
    directions: Tensor,
) -> Tensor:
    """The gradient of every direction in every mode, `[U, D, h_source]`.

    Args:
        traced: the recorded module.
        nodes: of the sites source..target.
        segments: what lies between each two of them.
        patterns: int64 `[U, words]`, signatures of the segments that have bits.
        directions: `[D, h_target]`
    """
    rows = rows_at_once(traced)
    steps = [
        _Backward(traced, before, after, segment, rows, directions)
        for before, after, segment in zip(nodes[:-1], nodes[1:], segments, strict=True)
    ]
    source, target = (traced.shapes[node][1:] for node in (nodes[0], nodes[-1]))
    widths = [segment.bits for segment in segments if segment.bits]

    def part(task: tuple[slice, slice]) -> Tensor:
        """Of some modes and directions `[u, d, h_source]`, block by block."""
        modes, some = patterns[task[0]], directions[task[1]]
        unpacked = iter(unpack_bits(modes, widths))
        pieces = [
            step.derivatives(next(unpacked) if segment.bits else None)
            for step, segment in zip(steps, segments, strict=True)
        ]
        found = directions.new_empty(len(modes) * len(some), math.prod(source))
        for begin in range(0, len(found), rows):
            row = torch.arange(begin, begin + rows, device=patterns.device)
            row.clamp_(max=len(found) - 1)  # the last one again, where the block is not full
            gradient = some[row % len(some)].reshape(rows, *target)
            mode = row // len(some)
            for step, derivatives in zip(reversed(steps), reversed(pieces), strict=True):
                gradient = step(gradient, mode, derivatives)
            found[begin : begin + rows] = gradient.reshape(rows, -1)[: len(found) - begin]
        return found.reshape(len(modes), len(some), -1)

    found = directions.new_empty(len(patterns), len(directions), math.prod(source))
    tasks = _tasks(len(patterns), len(directions), rows)
    for task, of_task in zip(tasks, side_by_side(part, tasks, patterns.device), strict=True):
        found[task] = of_task
    return found


def _tasks(modes: int, directions: int, rows: int) -> list[tuple[slice, slice]]:
    """Parts of all modes and directions, of a block or more each, but few enough for several threads."""
    group = max(DIRECTIONS, rows // max(1, modes))
    return [
        (slice(u, u + rows), slice(d, d + group))
        for u in range(0, modes, rows)
        for d in range(0, directions, group)
    ]


class _Backward:
    """Back through one segment, a fixed number of rows at a time."""

    def __init__(
        self,
        traced: Trace,
        before: fx.Node,
        after: fx.Node,
        segment: Segment,
        rows: int,
        like: Tensor,
    ) -> None:
        self._before, self._after = before, after
        self._operations: list[_Piecewise | _Written | _Recorded] = []
        values: dict[fx.Node, Any] = {}

        def zeros(node: fx.Node) -> None:
            values[node] = like.new_zeros(rows, *traced.shapes[node][1:])

        zeros(before)
        for operation in segment.operations:
            node = operation.node
            if operation.unit is not None:
                shapes = [traced.shapes[one][1:] for one in operation.inputs]
                shape = traced.shapes[node][1:]
                self._operations.append(
                    _Piecewise(node, operation.inputs, operation.unit, shapes, shape, like.dtype)
                )
                zeros(node)
            elif (written := _transposed(traced, node)) is not None:
                self._operations.append(_Written(node, node.all_input_nodes[0], written))
                zeros(node)
            else:
                recorded, values[node] = _record(traced, node, values, rows)
                self._operations.append(recorded)

    def derivatives(self, bits: Tensor | None) -> dict[fx.Node, Tensor]:
        """Of piecewise-linear operations in some modes.

        Args:
            bits: bool `[modes, bits]`; None if the segment has none.
        """
        found, begin = {}, 0
        for operation in self._operations:
            if isinstance(operation, _Piecewise):
                assert bits is not None
                end = begin + operation.unit.bits * math.prod(operation.shape)
                found[operation.node] = operation.derivative(bits[:, begin:end])
                begin = end
        return found

    def __call__(
        self, gradient: Tensor, mode: Tensor, derivatives: dict[fx.Node, Tensor]
    ) -> Tensor:
        """With respect to the site before, from that with respect to the site after.

        Args:
            gradient: `[rows, ...]`
            mode: int64 `[rows]`: the mode of each row, of those of the derivatives.
            derivatives: what `derivatives` gave.
        """
        waiting: dict[fx.Node, Gradient] = {self._after: [gradient]}
        for operation in reversed(self._operations):
            after = waiting.pop(operation.node, None)
            if after is None:
                continue
            derivative = derivatives.get(operation.node)
            own = None if derivative is None else derivative.index_select(0, mode)
            for node, new in operation.backward(after, own):
                waiting[node] = _sum(waiting[node], new) if node in waiting else new
        (found,) = waiting[self._before]
        assert found is not None
        return found


@dataclass(frozen=True)
class _Piecewise:
    """An operation that is linear in pieces."""

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    unit: Unit
    input_shapes: list[torch.Size]
    shape: torch.Size
    dtype: torch.dtype

    def derivative(self, bits: Tensor) -> Tensor:
        """In each of the modes of these bits."""
        code = bits.reshape(len(bits), self.unit.bits, *self.shape).unbind(1)
        return self.unit.derivative(list(code), self.input_shapes, self.dtype)

    def backward(
        self, after: Gradient, derivative: Tensor | None
    ) -> Iterator[tuple[fx.Node, Gradient]]:
        (gradient,) = after
        assert gradient is not None
        assert derivative is not None
        found = self.unit.backward(gradient, derivative, self.input_shapes)
        for node, of_input in zip(self.inputs, found, strict=True):
            yield node, [of_input]


@dataclass(frozen=True)
class _Written:
    """A linear operation whose transpose is written here."""

    node: fx.Node
    before: fx.Node
    transposed: Callable[[Tensor], Tensor]

    def backward(
        self,
        after: Gradient,
        derivative: Tensor | None,  # noqa: ARG002
    ) -> Iterator[tuple[fx.Node, Gradient]]:
        (gradient,) = after
        assert gradient is not None
        yield self.before, [self.transposed(gradient)]


def _transposed(traced: Trace, node: fx.Node) -> Callable[[Tensor], Tensor] | None:
    if node.op != "call_module" or not {node, *node.all_input_nodes} <= traced.shapes.keys():
        return None
    part = traced.module.get_submodule(str(node.target))
    return transposed(part, traced.shapes[node.all_input_nodes[0]][1:])


@dataclass(frozen=True)
class _Recorded:
    """A linear operation, as autograd recorded it."""

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    before: list[list[Tensor]]
    """Of each input its tensors."""
    after: list[Tensor]

    def backward(
        self,
        after: Gradient,
        derivative: Tensor | None,  # noqa: ARG002
    ) -> Iterator[tuple[fx.Node, Gradient]]:
        known = [(a, g) for a, g in zip(self.after, after, strict=True) if g is not None]
        found = iter(
            torch.autograd.grad(
                [a for a, _ in known],
                [tensor for tensors in self.before for tensor in tensors],
                [g for _, g in known],
                retain_graph=True,
                allow_unused=True,
            )
        )
        for node, tensors in zip(self.inputs, self.before, strict=True):
            yield node, [next(found) for _ in tensors]


def _record(
    traced: Trace, node: fx.Node, values: dict[fx.Node, Any], rows: int
) -> tuple[_Recorded, Any]:
    """A linear operation and its result."""
    with torch.inference_mode(False), torch.enable_grad():
        inputs = [one for one in node.all_input_nodes if one in values]
        own = {one: _detached(values[one]) for one in inputs}
        value = traced.call(node, own, rows)
    before = [_tensors(own[one]) for one in inputs]
    return _Recorded(node, tuple(inputs), before, _tensors(value)), value


def _detached(value: Any) -> Any:
    """A tensor, or several as `chunk` gives them, where autograd begins."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_()
    return tuple(_detached(one) for one in value)


def _tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _sum(a: Gradient, b: Gradient) -> Gradient:
    """Of two gradients of one node."""
    return [y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True)]
