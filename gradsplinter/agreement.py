"""Whether a recorded network does what its module does, tried on random examples."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from gradsplinter.checks import check_finite
from gradsplinter.operations import place
from gradsplinter.patterns import unpack_bits, words_of
from gradsplinter.sites import Segment
from gradsplinter.tracing import results
from gradsplinter.units import Smooth

ROOM = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Of the largest result: rounding in another order."""


class Recorded(Protocol):
    """What is asked of a `TracedNetwork`, whose file stands above this one."""

    segments: list[Segment]
    bits: tuple[int, ...]
    dtype: torch.dtype

    @property
    def depth(self) -> int: ...

    def forward_block(self, x: Tensor, sites: Sequence[int]) -> tuple[Tensor, Tensor]: ...

    def forward_segment(self, site: int, a: Tensor, keep: bool) -> tuple[Tensor, Tensor]: ...

    def replay_segment(self, site: int, a: Tensor, bits: Tensor) -> Tensor: ...


def check_agreement(net: Recorded, module: nn.Module, x: Tensor) -> None:
    """Raise unless the recorded operations do what the module does, example by example.

    Args:
        x: examples `[N, ...]`, as the module takes them.
    """
    expected = results(module, x)
    check_finite(expected, "module's results for random examples")
    patterns, found = net.forward_block(x.reshape(len(x), -1).clone(), range(1, net.depth))
    if _far(found, expected):
        raise NotImplementedError(
            "module must not change tensors in place that are used elsewhere, nor depend on its own "
            "state, on chance or on the type of its input: what was recorded gives other results than "
            "the module"
        )
    alone = torch.cat([results(module, one) for one in x.split(1)])
    if _far(alone, expected):
        raise NotImplementedError(
            "module must give each example a result of its own, whatever the others are"
        )
    _check_mode(module, x, expected)
    units = [one.unit for segment in net.segments for one in segment.operations]
    if not any(
        isinstance(unit, Smooth) for unit in units
    ):  # whose pattern says less than the inputs
        _check_patterns(net, x, patterns)


def _check_mode(module: nn.Module, x: Tensor, expected: Tensor) -> None:
    """Raise if what is in training mode would do something else in use."""
    training = [(path, part) for path, part in module.named_modules() if part.training]
    if not training or not _far(results(copy.deepcopy(module).eval(), x), expected):
        return
    path, part = training[0]  # the outermost
    where = f"{type(part).__name__} at '{path}'" if path else type(part).__name__
    raise ValueError(
        f"{where} is in training mode, where it does something else; call .eval() on the network first"
    )


def _check_patterns(net: Recorded, x: Tensor, patterns: Tensor) -> None:
    """Raise unless a pattern says what is computed."""
    replayed, found = x.clone(), x.clone()
    for site in range(1, net.depth + 1):
        bits = patterns.new_empty(len(x), 0)
        if net.bits[site]:
            begin = sum(words_of(net.bits[s]) for s in range(1, site))
            words = patterns[:, begin : begin + words_of(net.bits[site])]
            (bits,) = unpack_bits(words, [net.bits[site]])
        replayed = net.replay_segment(site, replayed, bits)
        found, _ = net.forward_segment(site, found, False)
        comparable = found.dtype == net.dtype and bool(found.isfinite().all())
        if replayed.shape != found.shape or (comparable and _far(replayed, found)):
            operations = net.segments[site - 1].operations
            places = " or ".join(place(one.node) for one in operations if one.unit)
            raise NotImplementedError(
                f"{places} gives other results than its pattern says, which is not supported"
            )


def _far(a: Tensor, b: Tensor) -> bool:
    scale = float(b.abs().max()) + 1e-30
    return not float((a - b).abs().max()) <= ROOM[b.dtype] * scale
