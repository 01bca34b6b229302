"""Any piecewise-linear torch module as a network: its sites, patterns and gradients, by torch's own layers."""

from __future__ import annotations

import copy
import hashlib
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradsplinter.checks import DTYPES, check_examples, check_finite, check_integer, check_tensor
from gradsplinter.network import ReluNetwork
from gradsplinter.operations import Operation, SlopeLevels
from gradsplinter.patterns import pack_bits, unpack_bits, words_of
from gradsplinter.sites import names_of, segments_of
from gradsplinter.tracing import Trace, check_module, trace
from gradsplinter.units import Smooth

AT_ONCE = 2**22
"""Numbers of the widest site, or codes, that are computed with at a time."""
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
        self._trace = traced
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
        dtype, device = _kind(module)
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
        shape = _input_shape(module) if input_shape is None else _checked_shape(input_shape)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(PROBES, *shape, generator=generator, dtype=torch.float64)
        x = x.to(device=device, dtype=dtype)
        traced = trace(module, x, levels)
        if calibration is not None:
            _calibrate(traced, calibration.reshape(-1, *shape).to(device))
        found = cls(traced, x)
        found._check_against(module, x)
        return found

    @property
    def depth(self) -> int:
        """L, the number of the last site."""
        return len(self.segments)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the recorded operations, their parameters, all weights and levels of slopes."""
        module = self._trace.module
        tensors = dict(sorted(module.state_dict().items()))
        for operation in self._trace.operations:
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
        step = max(1, AT_ONCE // max(*self.widths, *self.bits, 1))
        for begin in range(0, len(x), step):
            part = slice(begin, begin + step)
            at = 0
            a = x[part].unflatten(1, self.shapes[0]) if self.shapes[0] else x[part].squeeze(1)
            for site in range(1, self.depth + 1):
                a, codes = self._forward_segment(site, a, site in sites)
                if site in sites:
                    end = at + words_of(self.bits[site])
                    packed[part, at:end] = pack_bits(codes)
                    at = end
            outputs[part] = _rows(a)
        return packed, outputs

    def jacobian(self, patterns: Tensor, source: int, target: int, directions: Tensor) -> Tensor:
        """As `gradsplinter.jacobian`: a vector-Jacobian product for each mode and direction."""
        self.check_linear(source, target)
        found = directions.new_empty(len(patterns), len(directions), self.widths[source])
        sites = range(source + 1, min(target, self.depth - 1) + 1)
        most = max(*self.widths[source : target + 1], *self.bits[source : target + 1])
        step = max(1, AT_ONCE // most)
        for begin in range(0, len(patterns), step):
            part = patterns[begin : begin + step]
            with torch.enable_grad():
                a = directions.new_zeros(len(part), *self.shapes[source]).requires_grad_()
                bits = unpack_bits(part, [self.bits[site] for site in sites])
                b = a
                for site, of_site in zip(sites, bits, strict=True):
                    b = self._replay_segment(site, b, of_site)
                if target == self.depth:
                    b = self._replay_segment(target, b, patterns.new_empty(len(part), 0))
                b = b.reshape(len(part), -1)
            for d, direction in enumerate(directions):
                (gradient,) = torch.autograd.grad(
                    b, a, direction.expand_as(b), retain_graph=d + 1 < len(directions)
                )
                found[begin : begin + step, d] = _rows(gradient)
        return found

    def __repr__(self) -> str:
        widths = "-".join(map(str, self.widths))
        return f"TracedNetwork({widths}, {str(self.dtype).removeprefix('torch.')})"

    def check_linear(self, source: int, target: int) -> None:
        """Raise NotImplementedError unless all between two sites is linear in pieces."""
        bad = [s for s in range(1, self.depth + 1) if self.segments[s - 1].refused]
        between = [site for site in bad if source < site <= target]
        if between:
            last = bad[-1]
            instead = (
                f"a source from {last} ('{self.names[last]}') on works"
                if last < self.depth
                else f"a target up to {between[0] - 1} works"
            )
            raise NotImplementedError(
                f"{self.segments[between[0] - 1].refused}; between the sites {source} and {target} all must "
                f"be, so that a pattern has one gradient; {instead}"
            )

    def _forward_segment(self, site: int, a: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
        """The next site, and bool `[n, bits]`."""
        found: list[Tensor] = []

        def unit(operation: Operation, inputs: list[Tensor]) -> Tensor:
            assert operation.unit is not None
            code = operation.unit.code(*inputs)
            if keep:
                found.extend(_rows(bit) for bit in code)
            return operation.unit.value(code, *inputs)

        with torch.no_grad():
            after = self._run(site, a, unit)
        none = torch.zeros(len(a), 0, dtype=torch.bool, device=a.device)
        return after, torch.cat(found, dim=1) if found else none

    def _replay_segment(self, site: int, a: Tensor, bits: Tensor) -> Tensor:
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

        def value(node: fx.Node) -> Any:
            constant = self._trace.constants.get(node)
            return values[node] if constant is None else constant(len(a))

        for operation in self.segments[site - 1].operations:
            node = operation.node
            if operation.unit is not None:
                values[node] = unit(operation, [value(one) for one in operation.inputs])
                continue
            args, kwargs = fx.map_arg((node.args, node.kwargs), value)
            if node.op == "call_module":
                values[node] = self._trace.module.get_submodule(str(node.target))(*args, **kwargs)
            elif node.op == "call_method":
                # Not in place, for what would be changed has other users.
                name = str(node.target).removesuffix("_")
                values[node] = getattr(args[0], name)(*args[1:], **kwargs)
            else:
                function = _NOT_IN_PLACE.get(node.target, node.target)
                values[node] = function(*args, **kwargs)
        found: Tensor = values[self._nodes[site]]
        return found

    def _check_against(self, module: nn.Module, x: Tensor) -> None:
        """Raise unless the recorded operations do what the module does, example by example."""
        expected = _rows(_forward(module, x))
        check_finite(expected, "module's results for random examples")
        sites = range(1, self.depth)
        patterns, found = self.forward(x.flatten(1), sites)
        room = 1e-4 if self.dtype == torch.float32 else 1e-10
        scale = float(expected.abs().max()) + 1e-30

        def far(a: Tensor) -> bool:
            return not float((a - expected).abs().max()) <= room * scale

        if far(found):
            raise NotImplementedError(
                "module must not change tensors in place that are used elsewhere, nor depend on its own "
                "state, on chance or on the type of its input: what was recorded gives other results than "
                "the module"
            )
        alone = torch.cat([_rows(_forward(module, one)) for one in x.split(1)])
        if far(alone):
            raise NotImplementedError(
                "module must give each example a result of its own, whatever the others are"
            )
        units = [one.unit for segment in self.segments for one in segment.operations]
        if any(isinstance(unit, Smooth) for unit in units):
            return  # a pattern says less than the inputs
        a = x
        for site in range(1, self.depth + 1):
            bits = patterns.new_empty(len(x), 0)
            if self.bits[site]:
                begin = sum(words_of(self.bits[s]) for s in range(1, site))
                words = patterns[:, begin : begin + words_of(self.bits[site])]
                (bits,) = unpack_bits(words, [self.bits[site]])
            with torch.no_grad():
                a = self._replay_segment(site, a, bits)
        assert not far(_rows(a)), "a pattern must say what is computed"

    def _shapes(self, x: Tensor) -> Iterator[torch.Size]:
        """Of an example at each site."""
        a = x[:1]
        yield a.shape[1:]
        for site in range(1, self.depth + 1):
            a, _ = self._forward_segment(site, a, False)
            yield a.shape[1:]


def _calibrate(traced: Trace, x: Tensor) -> None:
    """Choose the levels of each smooth operation, one after the other."""
    smooth = {one.node: one for one in traced.operations if isinstance(one.unit, Smooth)}

    class Calibrating(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            if n in smooth:
                unit = smooth[n].unit
                assert isinstance(unit, Smooth)
                unit.calibrate(self.env[smooth[n].inputs[0]])
            return super().run_node(n)

    with torch.no_grad():
        Calibrating(traced.module).run(x)


_NOT_IN_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}  # fmt: skip


def _rows(a: Tensor) -> Tensor:
    """A row for each example, also where an example is one number."""
    return a.flatten(1) if a.dim() > 1 else a.unsqueeze(1)


def _forward(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = module(x.clone())
    return found


def _kind(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Of its weights."""
    tensors = [
        t
        for t in (*module.parameters(), *module.buffers())
        if t.is_floating_point() or t.is_complex()
    ]
    if not tensors:
        return torch.get_default_dtype(), torch.device("cpu")
    first = tensors[0]
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            continue  # which `check_module` says more clearly
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        if tensor.dtype not in DTYPES or tensor.dtype != first.dtype:
            raise TypeError(
                f"module must be float32 or float64 throughout, got {tensor.dtype} in '{name}'"
            )
        if tensor.device != first.device:
            raise ValueError(
                f"module must be on one device, got {first.device} and {tensor.device}"
            )
    return first.dtype, first.device


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if isinstance(shape, str) or not hasattr(shape, "__iter__"):
        raise TypeError(
            f"input_shape must be the sizes of one example, as (1, 28, 28), got {type(shape).__name__}"
        )
    return tuple(check_integer(size, f"input_shape[{i}]", 1) for i, size in enumerate(shape))


def _input_shape(module: nn.Module) -> tuple[int, ...]:
    """Of a module that begins with a linear layer."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            return (part.in_features,)
        if not isinstance(part, nn.Sequential | nn.Identity | nn.ReLU) and not list(
            part.children()
        ):
            break
    raise ValueError(
        "input_shape must be given, since the module does not begin with a linear layer"
    )


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
