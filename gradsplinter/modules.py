"""The linear layers and ReLUs of a torch module, read without changing it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

SUPPORTED = (
    "nn.Sequential (nested or not) of nn.Linear and nn.ReLU, with nn.Dropout and nn.Identity"
)


def read_layers(module: nn.Module) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Weights and biases with exactly one ReLU between; see `ReluNetwork.from_module`."""
    layers = list(_walk(module, ""))
    linears = [layer for layer in layers if layer is not None]
    if not linears:
        raise ValueError("module must hold at least one nn.Linear, got none")
    if layers[0] is None:
        layers.insert(0, _identity(linears[0][0], side=1))
    if layers[-1] is None:
        layers.append(_identity(linears[-1][0], side=0))
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    after_linear = False
    for layer in layers:
        if layer is not None:
            weight, bias = layer
            if after_linear and _chains(weight, weights[-1]):
                weight, bias = _compose(weight, bias, weights.pop(), biases.pop())
            weights.append(weight)
            biases.append(bias)
        after_linear = layer is not None
    return tuple(weights), tuple(biases)


def _walk(module: nn.Module, path: str) -> Iterator[tuple[Tensor, Tensor] | None]:
    """(weight, bias) of the linear layers in order, with None where a ReLU stands."""
    where = f"{type(module).__name__} at '{path}'" if path else type(module).__name__
    if any(nn.parameter.is_lazy(p) for p in module._parameters.values() if p is not None):
        raise ValueError(f"{where} has no weights yet; run the network once to initialise it")
    if module._forward_hooks or module._forward_pre_hooks:
        raise NotImplementedError(
            f"{where} has forward hooks, which may change what it computes; supported: {SUPPORTED}"
        )
    if "forward" in vars(module):
        raise NotImplementedError(
            f"{where} has a forward function of its own, which may compute anything; "
            f"supported: {SUPPORTED}"
        )
    forward = type(module).forward
    if isinstance(module, nn.Sequential) and forward is nn.Sequential.forward:
        # Not named_children(), which leaves out a module (often one nn.ReLU) that is used twice.
        for name, child in module._modules.items():
            if child is not None:
                yield from _walk(child, f"{path}.{name}" if path else name)
    elif isinstance(module, nn.Linear) and forward is nn.Linear.forward:
        if module.training and parametrize.is_parametrized(module):
            # Reading the weights of a spectral norm in training mode changes them.
            raise ValueError(_in_training(where))
        weight = module.weight.detach()
        bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach()
        yield weight, bias
    elif type(module) is nn.ReLU:
        yield None
    elif type(module) is nn.Dropout:
        if module.training and module.p > 0:
            raise ValueError(_in_training(where))
    elif type(module) is not nn.Identity:
        raise NotImplementedError(
            f"{where} is not supported; supported: {SUPPORTED}. "
            "ReluNetwork(weights, biases) takes the layers of any other network"
        )


def _in_training(where: str) -> str:
    return f"{where} is in training mode; call .eval() on the network first"


def _identity(weight: Tensor, side: int) -> tuple[Tensor, Tensor]:
    width = weight.shape[side]
    return (
        torch.eye(width, dtype=weight.dtype, device=weight.device),
        torch.zeros(width, dtype=weight.dtype, device=weight.device),
    )


def _chains(after: Tensor, before: Tensor) -> bool:
    """Whether two layers can be multiplied; if not, the check of the whole network says why."""
    return (
        after.shape[1] == before.shape[0]
        and after.dtype == before.dtype
        and after.device == before.device
    )


def _compose(w2: Tensor, b2: Tensor, w1: Tensor, b1: Tensor) -> tuple[Tensor, Tensor]:
    """(W2 W1, W2 b1 + b2), in float64, then rounded."""
    weight = w2.double() @ w1.double()
    bias = w2.double() @ b1.double() + b2.double()
    return weight.to(w1.dtype), bias.to(w1.dtype)
