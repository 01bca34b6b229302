"""Any piecewise-linear torch module as a network: its sites, patterns and gradients, by torch's own layers."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradsplinter.agreement import check_agreement
from gradsplinter.backward import jacobian, rows_at_once
from gradsplinter.checks import check_examples, check_finite, check_tensor
from gradsplinter.network import ReluNetwork
from gradsplinter.operations import Operation, SlopeLevels
from gradsplinter.patterns import pack_bits, words_of
from gradsplinter.readiness import check_module, checked_shape, input_shape_of, kind_of
from gradsplinter.sites import names_of, segments_of
from gradsplinter.threads import side_by_side
from gradsplinter.tracing import Trace, calibrate, trace
from gradsplinter.units import Smooth

PROBES = 64
"""Random examples on which the recorded operations must give what the module gives."""


class TracedNetwork:
    """A torch module that is linear in pieces.

    Its *sites* are places that all data passes, in order: site 0 is the input, site L the output, and
    between them each first such place after one or more piecewise-linear operations (of a residual block
    with one ReLU inside and one after the sum, the sum and the last ReLU). The bits of these operations are
    the pattern of the site: one for a ReLU, LeakyReLU, PReLU or absolute value, two for a ReLU6 or Hardtanh,
    as many for a window of max pooling as its places need. Examples are rows: an image is flattened.

    Bits are those of torch's own layers, whose sums can depend on the size of the batch; where a
    pre-activation is within rounding of 0, so can its bit.

    Examples:
        >>> net = TracedNetwork.from_module(
        ...     nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
        ...     input_shape=(1, 6, 6),
        ... )
        >>> net
        TracedNetwork(36-32-8-3, float32)
        >>> net.names, net.bits
        (('input', '1', '2', 'output'), (0, 32, 16, 0))
    """

    def __init__(self, traced: Trace, x: Tensor) -> None:
        self.recorded = traced
        self._nodes, self.segments = segments_of(traced)
        self.names = names_of(self._nodes)
        self.shapes = tuple(tuple(shape) for shape in self._shapes(x))
        self.widths = tuple(math.prod(shape) for shape in self.shapes)
        self.bits = (0, *(segment.bits for segment in self.segments))
        self.dtype, self.device = x.dtype, x.device

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        input_shape: Sequence[int] | None = None,
        *,
        levels: SlopeLevels | None = None,
        calibration: Tensor | None = None,
    ) -> TracedNetwork:
        """Record a module with `torch.fx`, and check that what was recorded does what it does.

        Args:
            module: in eval mode; it is copied.
            input_shape: of one example; not needed where a linear layer comes first, or with `calibration`.
            levels: group the slopes of smooth activations (GELU, SiLU, tanh, sigmoid, softplus, ...), which are
                refused without: a gradient is then that of the levels, near the exact one.
            calibration: examples `[N, ...]` whose slopes the levels are chosen by.

        Raises:
            NotImplementedError: what `torch.fx` cannot record, or what is no function of single examples.
            ValueError: training mode, modules without weights, an input shape that does not fit.
        """
        check_module(module)
        module = copy.deepcopy(module).requires_grad_(False)
        dtype, device = kind_of(module)
        if not isinstance(levels, SlopeLevels | None):
            raise TypeError(f"levels must be SlopeLevels, got {type(levels).__name__}")
        if (levels is None) != (calibration is None):
            raise ValueError("levels and calibration must be given both or neither, got one")
        if calibration is not None:
            check_tensor(
                calibration, "calibration", calibration.dim(), (dtype,), " like the module"
            )
            if len(calibration) == 0:
                raise ValueError("calibration must hold at least one example, got none")
            check_finite(calibration, "calibration")
            input_shape = tuple(calibration.shape[1:]) if input_shape is None else input_shape
        shape = input_shape_of(module) if input_shape is None else checked_shape(input_shape)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(PROBES, *shape, generator=generator, dtype=torch.float64)
        x = x.to(device=device, dtype=dtype)
        traced = trace(module, x, levels)
        if calibration is not None:
            calibrate(traced, calibration.reshape(-1, *shape).to(device))
        found = cls(traced, x)
        check_agreement(found, module, x)
        return found

    @property
    def depth(self) -> int:
        """L, the number of the last site."""
        return len(self.segments)

    @cached_property
    def float64(self) -> TracedNetwork:
        """The same network in float64 on the CPU, which is itself if it is that already.

        Smooth activations are in it, their levels are not.
        """
        if self.dtype == torch.float64 and self.device.type == "cpu":
            return self
        module = copy.deepcopy(self.recorded.module).to("cpu", torch.float64)
        return TracedNetwork.from_module(module, self.shapes[0])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the recorded operations, their parameters, all weights and levels of slopes."""
        module = self.recorded.module
        tensors = dict(sorted(module.state_dict().items()))
        for operation in self.recorded.operations:
            if isinstance(operation.unit, Smooth):
                for name in ("bounds", "slopes"):
                    tensors[f"{operation.node.name}.{name}"] = getattr(operation.unit, name)
        # The module as text names what has no weights: slopes, strides, paddings.
        digest = hashlib.sha256(f"{module}{module.code}{self.shapes}{self.dtype}".encode())
        for name, tensor in tensors.items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check_inputs(self, x: Tensor, *, finite: bool = True) -> Tensor:
        """As `ReluNetwork.check_inputs`."""
        return check_examples(x, self.widths[0], self.dtype, self.device, finite=finite)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs `[N, h_L]` of inputs `[N, h_0]`."""
        return self.forward(self.check_inputs(x), ())[1]

    def forward(self, x: Tensor, sites: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The patterns of some sites, packed as `signatures` says, and the outputs."""
        words = sum(words_of(self.bits[site]) for site in sites)
        packed = torch.empty(len(x), words, dtype=torch.int64, device=self.device)
        outputs = x.new_empty(len(x), self.widths[-1])
        rows = rows_at_once(self.recorded)
        parts = [slice(begin, begin + rows) for begin in range(0, len(x), rows)]

        def block(part: slice) -> tuple[Tensor, Tensor]:
            # Filled up, so that torch adds as it does in all other blocks.
            missing = x.new_zeros(rows - len(x[part]), self.widths[0])
            return self.forward_block(torch.cat([x[part], missing]), sites)

        for part, found in zip(parts, side_by_side(block, parts, self.device), strict=True):
            packed[part], outputs[part] = (some[: len(x[part])] for some in found)
        return packed, outputs

    def forward_block(self, x: Tensor, sites: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`forward` with these rows at once."""
        packed = [torch.empty(len(x), 0, dtype=torch.int64, device=self.device)]
        a = x.reshape(len(x), *self.shapes[0])
        for site in range(1, self.depth + 1):
            a, codes = self.forward_segment(site, a, site in sites)
            if site in sites:
                packed.append(pack_bits(codes))
        return torch.cat(packed, dim=1), a.reshape(len(x), -1)

    def jacobian(self, patterns: Tensor, source: int, target: int, directions: Tensor) -> Tensor:
        """As `gradsplinter.jacobian`."""
        self.check_linear(source, target)
        return jacobian(
            self.recorded,
            self._nodes[source : target + 1],
            self.segments[source:target],
            patterns,
            directions,
        )

    def __repr__(self) -> str:
        widths = "-".join(map(str, self.widths))
        return f"TracedNetwork({widths}, {str(self.dtype).removeprefix('torch.')})"

    def check_linear(self, source: int, target: int) -> None:
        """Raise NotImplementedError unless all between two sites is linear in pieces."""
        bad = [site for site in range(source + 1, target + 1) if self.segments[site - 1].refused]
        if bad:
            before, after = bad[0] - 1, bad[-1]
            works = []
            if before > source:
                works.append(f"a target up to {before} ('{self.names[before]}') works")
            if any(segment.operations for segment in self.segments[after:target]):
                works.append(f"a source from {after} ('{self.names[after]}') on works")
            raise NotImplementedError(
                f"{self.segments[before].refused}; between the sites {source} and {target} all must "
                f"be, so that a pattern has one gradient{'; ' * bool(works)}{', and '.join(works)}"
            )

    def forward_segment(self, site: int, a: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
        """The next site, and bool `[n, bits]`."""
        found: list[Tensor] = []

        def unit(operation: Operation, inputs: list[Tensor]) -> Tensor:
            assert operation.unit is not None
            code, value = operation.unit.evaluate(*inputs)
            if keep:
                found.extend(bit.reshape(len(bit), -1) for bit in code)
            return value

        after = self._run(site, a, unit)
        none = torch.zeros(len(a), 0, dtype=torch.bool, device=a.device)
        return after, torch.cat(found, dim=1) if found else none

    def replay_segment(self, site: int, a: Tensor, bits: Tensor) -> Tensor:
        """The next site where the pattern is this one, bool `[n, bits]`."""
        left = iter(bits.split([
            math.prod(shape) * count for _, shape, count in self.segments[site - 1].codes
        ], dim=1))  # fmt: skip
        shapes = iter(self.segments[site - 1].codes)

        def unit(operation: Operation, inputs: list[Tensor]) -> Tensor:
            assert operation.unit is not None
            _, shape, count = next(shapes)
            code = next(left).reshape(len(a), count, *shape)
            return operation.unit.apply(list(code.unbind(1)), *inputs)

        return self._run(site, a, unit)

    def _run(
        self, site: int, a: Tensor, unit: Callable[[Operation, list[Tensor]], Tensor]
    ) -> Tensor:
        """The operations of a segment; `unit` does those that are linear in pieces."""
        values: dict[fx.Node, Any] = {self._nodes[site - 1]: a}
        with torch.no_grad():
            for operation in self.segments[site - 1].operations:
                node = operation.node
                if operation.unit is not None:
                    values[node] = unit(operation, [values[one] for one in operation.inputs])
                else:
                    values[node] = self.recorded.call(node, values, len(a))
        found: Tensor = values[self._nodes[site]]
        return found

    def _shapes(self, x: Tensor) -> Iterator[torch.Size]:
        """Of an example at each site."""
        a = x[:1].clone()  # which may be changed in place
        yield a.shape[1:]
        for site in range(1, self.depth + 1):
            a, _ = self.forward_segment(site, a, False)
            yield a.shape[1:]


Network = ReluNetwork | TracedNetwork


def network_of(net: object, input_shape: Sequence[int] | None = None) -> Network:
    """A network as it is; of a module a `ReluNetwork` if it is a chain of linear layers and ReLUs.

    Raises:
        TypeError: neither a network nor a module.
        NotImplementedError, ValueError: as `TracedNetwork.from_module`.
    """
    if isinstance(net, Network):
        return net
    if not isinstance(net, nn.Module):
        raise TypeError(
            f"net must be a ReluNetwork, a TracedNetwork or an nn.Module, got {type(net).__name__}"
        )
    try:
        return ReluNetwork.from_module(net)
    except NotImplementedError:
        return TracedNetwork.from_module(net, input_shape)
