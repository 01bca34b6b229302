"""A torch module → its operations in order, each known to be linear or piecewise linear.

`torch.fx` records what the module does. An operation that is neither is kept and marked: what lies after it
can be looked at all the same.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gradsplinter.operations import Operation, SlopeLevels, place, recognise
from gradsplinter.transposes import linear
from gradsplinter.units import Smooth
from gradsplinter.wording import counted

_SHAPES = {"size", "dim", "numel", "ndimension", "stride"}


@dataclass
class Trace:
    """Operations on data, in the order in which they are done."""

    module: fx.GraphModule
    operations: list[Operation]
    source: fx.Node
    result: fx.Node
    shapes: dict[fx.Node, torch.Size]
    """Of what is a tensor with a row for each example."""
    constants: dict[fx.Node, Callable[[int], Any]] = field(default_factory=dict)
    """What does not depend on the data, by the number of examples."""

    def call(self, node: fx.Node, values: Mapping[fx.Node, Any], n: int) -> Any:
        """What a node gives for n examples, for these values of the nodes before it that depend on the data."""

        def value(before: fx.Node) -> Any:
            constant = self.constants.get(before)
            return values[before] if constant is None else constant(n)

        args, kwargs = fx.map_arg((node.args, node.kwargs), value)
        if node.op == "call_module":
            part = self.module.get_submodule(str(node.target))
            if type(part) is nn.Linear:
                x: Any = next(iter((*args, *kwargs.values())))
                return linear(x, part.weight, part.bias)
            return part(*args, **kwargs)
        if node.op == "call_method":
            # Not in place, for what would be changed has other users.
            return getattr(args[0], str(node.target).removesuffix("_"))(*args[1:], **kwargs)
        return _INSTEAD.get(node.target, node.target)(*args, **kwargs)


# What is called in place of what was recorded: nothing is changed in place, rows do not depend on each other.
_INSTEAD: dict[Any, Any] = {
    F.linear: linear,
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}  # fmt: skip


def trace(module: nn.Module, x: Tensor, levels: SlopeLevels | None = None) -> Trace:
    """Record what a module does with examples like these.

    Args:
        module: one that `check_module` takes; not changed.
        x: one example at least, `[N, ...]`.
        levels: for smooth activations, which are refused without.

    Raises:
        NotImplementedError: control flow that depends on the data, several inputs or results, results
            that are not one tensor with a row for each example.
        ValueError: examples that do not fit.
    """
    recorded = _record(module)
    placeholders = [node for node in recorded.graph.nodes if node.op == "placeholder"]
    needed = [node for node in placeholders if not node.args]
    several = any(str(node.target).startswith("*") for node in needed)
    if len(needed) != 1 or several or placeholders[0] is not needed[0]:
        names = ", ".join(str(node.target) for node in needed)
        raise NotImplementedError(
            f"module must take one tensor, got {counted(len(needed), 'input')} ({names})"
        )
    (output,) = [node for node in recorded.graph.nodes if node.op == "output"]
    result = output.args[0]
    # Copies, since a module may change them in place or look at them in another shape.
    values = [_values(recorded, x[:1].expand(n, *x.shape[1:]).clone()) for n in (2, 3)]
    if not isinstance(result, fx.Node) or not isinstance(values[0].get(result), Tensor):
        raise NotImplementedError("module must return one tensor")
    _check_result(values[0][result], values[1][result], x.dtype)
    data = _of_data(recorded, needed[0])
    if result not in data:
        raise NotImplementedError("module must depend on its input, got a constant result")
    two, three = values
    shapes = {
        node: value.shape
        for node, value in two.items()
        if isinstance(value, Tensor)
        and (value.shape[:1], three[node].shape[:1]) == ((2,), (3,))
        and value.shape[1:] == three[node].shape[1:]
    }
    found = Trace(recorded, [], needed[0], result, shapes)
    used = _used_by(result)
    for node in recorded.graph.nodes:
        if node is needed[0] or node not in used:
            continue
        if node in data:
            operation = recognise(node, recorded, data, values[0], levels)
            found.operations.append(_with_examples_first(operation, shapes))
        else:
            found.constants[node] = _constant(node, values[0].get(node), values[1].get(node))
    return found


def _with_examples_first(operation: Operation, shapes: Mapping[fx.Node, torch.Size]) -> Operation:
    """A code is kept for each example, so a piecewise-linear operation must have a row for each."""
    node = operation.node
    if operation.unit is None or {node, *operation.inputs} <= shapes.keys():
        return operation
    why = f"{place(node)} is not supported where examples are not its first axis"
    return Operation(node, refused=why)


def _check_result(two: Tensor, three: Tensor, dtype: torch.dtype) -> None:
    """Raise unless what came for two and for three examples are rows of numbers of this dtype."""
    if two.shape[:1] != (2,) or three.shape[:1] != (3,) or 0 in two.shape:
        raise NotImplementedError(
            f"module must return a row for each example, got shape {list(two.shape)} for two"
        )
    if two.dtype != dtype:
        raise NotImplementedError(f"module must return {dtype} as it takes, got {two.dtype}")


def _used_by(result: fx.Node) -> set[fx.Node]:
    """What a node is made of, itself too; the rest is computed and thrown away."""
    used, waiting = {result}, [result]
    while waiting:
        new = set(waiting.pop().all_input_nodes) - used
        used |= new
        waiting += new
    return used


def _record(module: nn.Module) -> fx.GraphModule:
    try:
        if isinstance(module, fx.GraphModule):
            return module
        tracer = fx.Tracer()
        graph = tracer.trace(module, _optional(module))
    except Exception as error:  # tracing runs the module's own code
        raise NotImplementedError(
            "module must do the same with all data: its control flow cannot be recorded by torch.fx "
            f"({type(error).__name__}: {_first_line(error)}). Its parts can be looked at one by one"
        ) from error
    return fx.GraphModule(tracer.root, graph)


def _optional(module: nn.Module) -> dict[str, Any]:
    """Arguments after the first that have a default, which they get when the module is called with one tensor."""
    arguments = list(inspect.signature(module.forward).parameters.values())[1:]
    return {
        one.name: one.default
        for one in arguments
        if one.default is None or isinstance(one.default, bool | int | float | str)
    }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _values(module: fx.GraphModule, x: Tensor) -> dict[fx.Node, Any]:
    """What every node gives."""
    kept = {}

    class Keeping(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            kept[n] = super().run_node(n)
            return kept[n]

    try:
        with torch.no_grad():
            Keeping(module, garbage_collect_values=False).run(x)
    except Exception as error:  # of the module's own code
        raise ValueError(
            f"module must take examples of shape {list(x.shape[1:])}: {type(error).__name__}: {_first_line(error)}"
        ) from error
    return kept


def _of_data(module: fx.GraphModule, source: fx.Node) -> set[fx.Node]:
    """Nodes whose values depend on the data, not only on its shape."""
    data = {source}
    for node in module.graph.nodes:
        if any(before in data for before in node.all_input_nodes) and not _is_shape(node):
            data.add(node)
    return data


def _is_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SHAPES
    return node.op == "call_function" and node.target is getattr and node.args[1] in (
        "shape", "ndim", "dtype", "device",
    )  # fmt: skip


def _constant(node: fx.Node, two: Any, three: Any) -> Callable[[int], Any]:
    """By the number of examples: the value for two and three of them tells it for any."""

    def at(a: Any, b: Any, n: int) -> Any:
        if isinstance(a, torch.Size | tuple | list):
            return type(a)(at(x, y, n) for x, y in zip(a, b, strict=True))
        if isinstance(a, int) and not isinstance(a, bool):
            return a + (b - a) * (n - 2)
        return a

    if isinstance(two, Tensor) and two.shape != three.shape:
        raise NotImplementedError(
            f"{place(node)} makes a tensor by the number of examples, which is not supported"
        )
    return lambda n: at(two, three, n)


def calibrate(traced: Trace, x: Tensor) -> None:
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
        Calibrating(traced.module).run(x.clone())  # which may be changed in place


def results(module: nn.Module, x: Tensor) -> Tensor:
    """What the module gives, a row for each example; it may change these in place."""
    with torch.no_grad():
        found: Tensor = module(x.clone())
    return found.reshape(len(x), -1)
