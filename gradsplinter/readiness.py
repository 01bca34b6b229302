"""Whether a module is ready to be recorded, and what it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from gradsplinter.checks import DTYPES, check_finite, check_integer

TRAINED = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)
"""Linear in eval mode only."""


def check_module(module: nn.Module) -> None:
    """Raise unless the module has its weights and does what it does in use."""
    for path, part in module.named_modules():
        where = f"{type(part).__name__} at '{path}'" if path else type(part).__name__
        tensors = (*part.parameters(recurse=False), *part.buffers(recurse=False))
        if any(nn.parameter.is_lazy(t) for t in tensors):
            raise ValueError(f"{where} has no weights yet; run the network once to initialise it")
        if any(t.is_meta for t in tensors):
            raise ValueError(f"{where} is on the device meta, without values; load its weights")
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.is_floating_point():
                check_finite(parameter, f"'{name}' of {where}")
        if part.training and _acts_otherwise(part):
            raise ValueError(f"{where} is in training mode; call .eval() on the network first")
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None:
            raise NotImplementedError(
                f"{where} keeps no running statistics, so an example's result depends on the others"
            )
        if inner := _wrapped(part):
            raise NotImplementedError(f"{where} cannot be recorded; give the network {inner}")
        if part._forward_hooks or part._forward_pre_hooks:
            raise NotImplementedError(
                f"{where} has forward hooks, which may change what it computes"
            )
        if part._backward_hooks or part._backward_pre_hooks:
            raise NotImplementedError(f"{where} has backward hooks, which may change gradients")
        if "forward" in vars(part):
            raise NotImplementedError(
                f"{where} has a forward function of its own, which may compute anything"
            )


def _wrapped(part: nn.Module) -> str:
    """Where the network is that a module hides."""
    if isinstance(part, torch.jit.ScriptModule):
        return "that torch.jit was given"
    if hasattr(part, "_orig_mod"):
        return "that torch.compile was given (._orig_mod)"
    if isinstance(part, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "in it (.module)"
    return ""


def _acts_otherwise(part: nn.Module) -> bool:
    """In training than in use; reading the weights of a spectral norm changes them then."""
    trained = isinstance(part, TRAINED) and getattr(part, "p", 1) > 0
    return trained or parametrize.is_parametrized(part)


def kind_of(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of a module's weights.

    Raises:
        TypeError: neither float32 nor float64 throughout.
        ValueError: more than one device.
    """
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


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """
    Raises:
        TypeError, ValueError: not the sizes of an example.
    """
    if isinstance(shape, str) or not hasattr(shape, "__iter__"):
        raise TypeError(
            f"input_shape must be the sizes of one example, as (1, 28, 28), got {type(shape).__name__}"
        )
    return tuple(check_integer(size, f"input_shape[{i}]", 1) for i, size in enumerate(shape))


def input_shape_of(module: nn.Module) -> tuple[int, ...]:
    """Of an example, where a module begins with a linear layer, or makes images of rows.

    Raises:
        ValueError: it does not.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            return (part.in_features,)
        if isinstance(part, nn.Unflatten) and part.dim == 1:
            return (math.prod(part.unflattened_size),)
        if not isinstance(part, nn.Sequential | nn.Identity | nn.ReLU) and not list(
            part.children()
        ):
            break
    raise ValueError(
        "input_shape must be given, since the module does not begin with a linear layer; "
        "TracedNetwork.from_module(module, input_shape) takes it"
    )
