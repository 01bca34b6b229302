"""Where a recorded module has its sites: places that all data passes, and what lies between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from gradsplinter.operations import Operation
from gradsplinter.tracing import Trace


@dataclass(frozen=True)
class Segment:
    """What lies between two sites."""

    operations: tuple[Operation, ...]
    codes: tuple[tuple[fx.Node, tuple[int, ...], int], ...]
    """Of each piecewise-linear operation: its node, the shape of an example's result, bits of a code."""

    @property
    def bits(self) -> int:
        return sum(math.prod(shape) * bits for _, shape, bits in self.codes)

    @property
    def refused(self) -> str | None:
        return next((op.refused for op in self.operations if op.refused), None)


def segments_of(traced: Trace) -> tuple[list[fx.Node], list[Segment]]:
    """The nodes of the sites, and what lies between them."""
    nodes = [traced.source, *(operation.node for operation in traced.operations)]
    number = {node: i for i, node in enumerate(nodes)}
    last = [
        max([number[user] for user in node.users if user in number], default=0) for node in nodes
    ]
    last[number[traced.result]] = len(nodes)
    sites, segments, begin, reach = [traced.source], [], 0, last[0]
    for i, operation in enumerate(traced.operations, 1):
        waiting = traced.operations[begin:i]
        is_result = operation.node is traced.result
        used_up = reach <= i  # all that was made before
        if used_up and operation.node in traced.shapes:
            # What a refused operation takes, as the logits before a softmax, can still be looked at.
            ends = i < len(traced.operations) and traced.operations[i].refused
            counts = ends or any(one.unit or one.refused for one in waiting)
            if counts or is_result:
                sites.append(operation.node)
                segments.append(_segment(waiting, traced.shapes))
                begin = i
        reach = max(reach, last[i])
        if is_result:
            break
    if (
        segments and any(one.unit or one.refused for one in segments[-1].operations)
    ) or not segments:
        sites.append(sites[-1])
        segments.append(Segment((), ()))
    return sites, segments


def _segment(operations: Sequence[Operation], shapes: dict[fx.Node, torch.Size]) -> Segment:
    codes = [
        (one.node, tuple(shapes[one.node][1:]), one.unit.bits) for one in operations if one.unit
    ]
    return Segment(tuple(operations), tuple(codes))


def names_of(nodes: Sequence[fx.Node]) -> tuple[str, ...]:
    names = ["input"]
    for node in nodes[1:-1]:
        name = str(node.target) if node.op == "call_module" else node.name
        used = sum(name == other or other.startswith(f"{name}#") for other in names)
        names.append(f"{name}#{used + 1}" if used else name)
    return (*names, "output")
