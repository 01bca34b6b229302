"""What a recorded operation is: linear, linear in pieces, smooth, or none of these."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gradsplinter import units
from gradsplinter.checks import check_bool, check_integer
from gradsplinter.pooling import MaxPool
from gradsplinter.units import Unit

LINEAR_MODULES = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d, nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout1d,
    nn.Dropout2d, nn.Dropout3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d,
    nn.ConstantPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d,
    nn.ReplicationPad2d, nn.PixelShuffle, nn.PixelUnshuffle, nn.ConvTranspose1d,
    nn.ConvTranspose2d, nn.ConvTranspose3d, nn.ChannelShuffle,
)  # fmt: skip
SMOOTH_MODULES = (
    nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.ELU, nn.SELU, nn.CELU, nn.LogSigmoid, nn.Softsign,
    nn.Hardswish, nn.Tanh, nn.Sigmoid,
)  # fmt: skip
# Known to be neither linear nor linear in pieces.
_CURVED_MODULES = (
    nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.LayerNorm, nn.GroupNorm,
    nn.LocalResponseNorm, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.RNNBase, nn.Bilinear,
)  # fmt: skip
_CURVED = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logsumexp", "pow", "square", "sqrt",
    "rsqrt", "reciprocal", "sin", "cos", "erf", "softmax", "log_softmax", "softmin", "layer_norm",
    "group_norm", "normalize", "var", "std", "prod", "scaled_dot_product_attention",
}  # fmt: skip
MOST_BITS = 8
"""Of a smooth unit in a pattern."""

# With one argument that depends on the data, or with several that are added or placed side by side.
_ANY_OF_DATA = {
    operator.add, operator.sub, operator.iadd, operator.isub, operator.neg, operator.pos,
    operator.getitem, torch.add, torch.sub, torch.neg, torch.cat, torch.concat, torch.stack,
    torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze,
    torch.mean, torch.sum, torch.chunk, torch.split, torch.unbind, torch.flip, torch.roll,
    F.pad, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d,
    F.adaptive_avg_pool3d,
    torch.adaptive_avg_pool1d, F.pixel_shuffle,
}  # fmt: skip
# Linear in each argument: one only may depend on the data.
_ONE_OF_DATA = {
    operator.mul, operator.imul, operator.matmul, torch.mul, torch.matmul, torch.mm, torch.bmm,
    F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
    torch.einsum,
}  # fmt: skip
# By what does not depend on the data.
_FIRST_OF_DATA = {operator.truediv, operator.itruediv, torch.div}
_EVAL_ONLY = {F.dropout, F.dropout1d, F.dropout2d, F.batch_norm}
_ANY_METHODS = {
    "add", "add_", "sub", "sub_", "neg", "view", "reshape", "flatten", "permute", "transpose",
    "squeeze", "unsqueeze", "contiguous", "mean", "sum", "chunk", "split", "unbind", "expand",
    "repeat", "unflatten", "clone", "flip", "roll", "narrow", "select", "t",
    "swapaxes", "movedim",
}  # fmt: skip
_ONE_METHODS = {"mul", "mul_", "matmul", "mm", "bmm"}
_FIRST_METHODS = {"div", "div_"}
# Where the dtype stays.
_CASTS = {"to", "float", "double", "type", "type_as"}


@dataclass(frozen=True)
class Operation:
    """What a node of the recorded graph does with the data."""

    node: fx.Node
    unit: Unit | None = None
    """If it is linear in pieces; the node's inputs are then those of the unit."""
    inputs: tuple[fx.Node, ...] = ()
    """Of the unit."""
    refused: str | None = None
    """Why it is neither linear nor linear in pieces."""


@dataclass(frozen=True)
class SlopeLevels:
    """How the slopes of smooth activations are grouped, so that gradients repeat.

    Attributes:
        bits: of each unit in a pattern; its slope is one of 2^bits.
        quantiles: levels that are used equally often, else levels of equal width.
    """

    bits: int
    quantiles: bool = True

    def __post_init__(self) -> None:
        if check_integer(self.bits, "bits", 1) > MOST_BITS:
            raise ValueError(f"bits must be at most {MOST_BITS}, got {self.bits}")
        check_bool(self.quantiles, "quantiles")


def place(node: fx.Node) -> str:
    """What a node is and where in the module, for messages."""
    what = getattr(node.target, "__name__", str(node.target))
    if node.op == "call_module":
        module = node.graph.owning_module
        assert module is not None
        return f"{type(module.get_submodule(str(node.target))).__name__} at '{node.target}'"
    paths = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return f"{what} in '{paths[-1]}'" if paths and paths[-1] else what


def recognise(
    node: fx.Node, module: fx.GraphModule, data: set[fx.Node], values: dict[fx.Node, Any],
    levels: SlopeLevels | None,
) -> Operation:  # fmt: skip
    """What a node does, given which nodes depend on the `data`, and values for two examples."""
    inputs = tuple(before for before in node.all_input_nodes if before in data)
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        unit = _unit_of_module(part, values[inputs[0]])
        if unit is not None:
            return Operation(node, unit, inputs)
        if type(part) in SMOOTH_MODULES:
            return _smooth(node, part, inputs, levels)
        if isinstance(part, LINEAR_MODULES) and type(part).forward in _FORWARDS:
            return Operation(node)
        return Operation(node, refused=f"{place(node)} {_why(isinstance(part, _CURVED_MODULES))}")
    return _of_function(node, inputs, values, levels)


def _smooth(
    node: fx.Node, function: Callable[[Tensor], Tensor], inputs: tuple[fx.Node, ...],
    levels: SlopeLevels | None,
) -> Operation:  # fmt: skip
    if levels is None:
        return Operation(
            node,
            refused=f"{place(node)} is smooth, not piecewise linear (levels= groups its slopes)",
        )
    return Operation(node, units.Smooth(function, levels.bits, levels.quantiles), inputs)


_FORWARDS = {kind.forward for kind in LINEAR_MODULES}


def _of_function(
    node: fx.Node, inputs: tuple[fx.Node, ...], values: dict[fx.Node, Any],
    levels: SlopeLevels | None,
) -> Operation:  # fmt: skip
    target = node.target
    known = target if node.op == "call_function" else str(target)
    args, kwargs = node.args, node.kwargs
    if len(inputs) == 1 and args[:1] == inputs:  # else some other argument depends on the data
        others, named = fx.map_arg((args[1:], kwargs), lambda before: values[before])
        unit = _UNITS[known](values[inputs[0]], *others, **named) if known in _UNITS else None
        if unit is not None:
            return Operation(node, unit, inputs)
        if known in _SMOOTH:
            return _smooth(node, lambda z: _SMOOTH[known](z, *others, **named), inputs, levels)
    if known in _LARGER and len(inputs) == 2 and len(args) == 2:
        return Operation(node, units.Larger(_LARGER[known]), (args[0], args[1]))  # type: ignore[arg-type]
    if known in _EVAL_ONLY:
        training = kwargs.get("training", args[2] if known is F.dropout and len(args) > 2 else None)
        if training is False:
            return Operation(node)
        raise NotImplementedError(
            f"{place(node)} must be called with training=False; where that is self.training, call .eval() "
            "on the network first"
        )
    one = len(set(inputs)) == 1 and _appearances(node, inputs[0]) == 1
    if kwargs.get("rounding_mode") is not None:
        return Operation(node, refused=f"{place(node)} rounds, which is not supported")
    if known in _CASTS:
        before, after = values[inputs[0]].dtype, values[node].dtype
        changes = f"{place(node)} changes the dtype from {before} to {after}"
        return Operation(node, refused=None if before == after else changes)
    if (
        known in _ANY_OF_DATA or known in _ANY_METHODS
        or (one and (known in _ONE_OF_DATA or known in _ONE_METHODS))
        or (one and (known in _FIRST_OF_DATA or known in _FIRST_METHODS) and args[0] in inputs)
    ):  # fmt: skip
        return Operation(node)
    if known in _ONE_OF_DATA | _ONE_METHODS:
        return Operation(node, refused=f"{place(node)} multiplies data with data")
    name = str(getattr(known, "__name__", known)).removesuffix("_")
    curved = name in _CURVED or known in _FIRST_OF_DATA | _FIRST_METHODS
    return Operation(node, refused=f"{place(node)} {_why(curved)}")


def _why(curved: bool) -> str:
    """Why an operation is refused; of an unknown one it is not said that it is curved."""
    return "is not piecewise linear" if curved else "is not supported"


def _appearances(node: fx.Node, of: fx.Node) -> int:
    count = 0

    def look(one: fx.Node) -> fx.Node:
        nonlocal count
        count += one is of
        return one

    fx.map_arg((node.args, node.kwargs), look)
    return count


def _unit_of_module(part: Any, z: Any) -> Unit | None:
    kind = type(part)
    if kind in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d):
        if part.return_indices:
            return None
        return _max_pool(
            z, part.kernel_size, part.stride, part.padding, part.dilation, part.ceil_mode
        )
    if kind is nn.ReLU:
        return units.relu()
    if kind is nn.LeakyReLU:
        return units.leaky_relu(part.negative_slope)
    if kind is nn.RReLU:
        return units.leaky_relu((part.lower + part.upper) / 2)
    if kind is nn.PReLU:
        return _prelu(z, part.weight)
    if kind in (nn.ReLU6, nn.Hardtanh):
        return units.clamp(part.min_val, part.max_val)
    if kind is nn.Hardsigmoid:
        return units.hardsigmoid()
    return None


def _prelu(z: Tensor, weight: Tensor) -> Unit:
    slope = weight.detach()
    if slope.numel() > 1:
        slope = slope.reshape(-1, *[1] * (z.dim() - 2))
    return units.leaky_relu(slope)


def _max_pool(
    z: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Unit | None:  # fmt: skip
    axes = z.dim() - 2
    if return_indices or axes < 1:
        return None

    def each(value: Any) -> tuple[int, ...]:
        return (int(value),) * axes if isinstance(value, int) else tuple(map(int, value))

    kernel = each(kernel_size)
    return MaxPool(
        kernel, kernel if stride is None else each(stride), each(padding), each(dilation), ceil_mode
    )


_UNITS: dict[Any, Callable[..., Unit | None]] = {
    F.relu: lambda z, inplace=False: units.relu(),  # noqa: ARG005
    torch.relu: lambda z: units.relu(),  # noqa: ARG005
    torch.relu_: lambda z: units.relu(),  # noqa: ARG005
    "relu": lambda z: units.relu(),  # noqa: ARG005
    "relu_": lambda z: units.relu(),  # noqa: ARG005
    F.leaky_relu: lambda z, negative_slope=0.01, inplace=False: units.leaky_relu(negative_slope),  # noqa: ARG005
    F.rrelu: lambda z, lower=1 / 8, upper=1 / 3, training=False, inplace=False: (  # noqa: ARG005
        None if training else units.leaky_relu((lower + upper) / 2)
    ),
    F.prelu: _prelu,
    F.relu6: lambda z, inplace=False: units.clamp(0.0, 6.0),  # noqa: ARG005
    F.hardtanh: lambda z, min_val=-1.0, max_val=1.0, inplace=False: units.clamp(min_val, max_val),  # noqa: ARG005
    F.hardsigmoid: lambda z, inplace=False: units.hardsigmoid(),  # noqa: ARG005
    torch.clamp: lambda z, min=None, max=None: units.clamp(min, max),  # noqa: ARG005
    "clamp": lambda z, min=None, max=None: units.clamp(min, max),  # noqa: ARG005
    torch.abs: lambda z: units.absolute(),  # noqa: ARG005
    operator.abs: lambda z: units.absolute(),  # noqa: ARG005
    abs: lambda z: units.absolute(),  # noqa: ARG005
    "abs": lambda z: units.absolute(),  # noqa: ARG005
    F.max_pool1d: _max_pool,
    F.max_pool2d: _max_pool,
    F.max_pool3d: _max_pool,
    torch.max_pool1d: _max_pool,
    torch.max_pool2d: _max_pool,
}
_SMOOTH: dict[Any, Callable[..., Tensor]] = {
    function: function
    for function in (
        F.gelu, F.silu, F.mish, F.softplus, F.elu, F.selu, F.celu, F.logsigmoid, F.softsign,
        F.hardswish, F.tanh, F.sigmoid, torch.tanh, torch.sigmoid,
    )
} | {"tanh": torch.tanh, "sigmoid": torch.sigmoid}  # fmt: skip
_LARGER: dict[Any, bool] = {
    torch.maximum: True, torch.minimum: False, "maximum": True, "minimum": False,
    torch.max: True, torch.min: False,
}  # fmt: skip
