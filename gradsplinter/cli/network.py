"""The network of a command: a file of `ReluNetwork.save`, or a module of the user's and its weights."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gradsplinter.batches import shape_of
from gradsplinter.cli.command import Command
from gradsplinter.io import how_to_convert, why_pickled
from gradsplinter.network import ReluNetwork
from gradsplinter.traced import Network, network_of


@dataclass(frozen=True)
class NetworkCommand(Command):
    """One that takes a network."""

    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")]
    """A network, as `ReluNetwork.save` writes it (.safetensors); with --module the weights of that module,
    as `safetensors.torch.save_file(module.state_dict(), path)` writes them."""
    module: Annotated[str | None, tyro.conf.arg(metavar="PACKAGE.FILE:FUNCTION")] = field(
        default=None, kw_only=True
    )
    """A function without arguments that returns the module (nn.Module) of which MODEL has the weights. It
    is imported from the current folder or from where Python finds it, and called."""
    shape: Annotated[str | None, tyro.conf.arg(metavar="CxHxW")] = field(default=None, kw_only=True)
    """Of one example as the module takes it, as 1x28x28; by default that in DATA. Not needed where a linear
    layer comes first."""

    def network(self, data: Path | None) -> Network:
        """
        Raises:
            ValueError, TypeError, NotImplementedError: no such network, or one that is not supported.
        """
        return load_network(self.model, self.module, self.shape, data)


def load_network(
    path: Path, module: str | None = None, shape: str | None = None, data: Path | None = None
) -> Network:
    """As `NetworkCommand` says; `data` is what the shape of an example is read from."""
    if module is None:
        if shape is not None:
            raise ValueError("shape must be given together with --module, got it alone")
        try:
            return ReluNetwork.load(path)
        except OSError as error:
            raise ValueError(
                f"MODEL must be a network that ReluNetwork.save wrote: {error}"
            ) from error
        except ValueError as error:
            raise ValueError(
                f"MODEL must be a network that ReluNetwork.save wrote: {error}; weights of other modules "
                "take --module"
            ) from error
    made = _made(module)
    _load_weights(made, path)
    return network_of(made.eval(), _shape(shape, data))


def load_vectors(path: Path, net: Network, name: str = "directions") -> Tensor:
    """The rows of a .npy file, in the network's dtype."""
    try:
        vectors = torch.from_numpy(np.load(path, allow_pickle=False))
    except Exception as error:  # EOFError, TypeError and others where the file is damaged
        raise ValueError(
            f"{name} must be a .npy file of numbers, a row for each vector, got {path}: {error}"
        ) from error
    if vectors.is_complex():
        raise TypeError(
            f"{name} must be real numbers, got {path}, which holds "
            f"{str(vectors.dtype).removeprefix('torch.')}"
        )
    return vectors.to(net.dtype)


def _shape(text: str | None, data: Path | None) -> tuple[int, ...] | None:
    if text is None:
        return None if data is None else shape_of(data)
    if not re.fullmatch(r"[1-9]\d*([x×][1-9]\d*)*", text):
        raise ValueError(f"shape must be sizes joined by x as in 1x28x28, got {text}")
    return tuple(int(size) for size in re.split("[x×]", text))


def _made(name: str) -> nn.Module:
    """What the function of this name returns."""
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name):
        raise ValueError(f"module must be PACKAGE.FILE:FUNCTION as in nets.small:lenet, got {name}")
    file, path = name.split(":")
    try:
        with _current_folder():
            found: Any = importlib.import_module(file)
            for part in path.split("."):
                found = getattr(found, part)
            made = found()
    except Exception as error:  # of the user's code
        raise ValueError(
            f"module must name a function without arguments, got {name}, which raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"module must name a function that returns an nn.Module, got {name}, which returned "
            f"{type(made).__name__}"
        )
    return made


@contextmanager
def _current_folder() -> Iterator[None]:
    """As the first place to import from."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _load_weights(module: nn.Module, path: Path) -> None:
    """Those of a state_dict, which must be the module's own in names, shapes and dtypes."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        save = "safetensors.torch.save_file(module.state_dict(), new_path)"
        reason = (
            why_pickled(path, how_to_convert(save)) or f": {error}; in Python, {save} writes one"
        )
        raise ValueError(
            f"MODEL must be a .safetensors file of weights, got {path}{reason}"
        ) from error
    own = module.state_dict()
    # What older files lack, and nothing but training looks at.
    tensors = {name: own[name] for name in own if name.endswith("num_batches_tracked")} | tensors
    faults = [
        *(f"has no '{name}'" for name in own if name not in tensors),
        *(f"has '{name}', which is none of the module's" for name in tensors if name not in own),
        *(
            f"has '{name}' as {_kind(tensors[name])} instead of {_kind(tensor)}"
            for name, tensor in own.items()
            if name in tensors and _kind(tensors[name]) != _kind(tensor)
        ),
    ]
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(
            f"MODEL must hold the weights of --module, got {path}, which {'; '.join(faults[:3])}{more}"
        )
    module.load_state_dict(tensors)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
