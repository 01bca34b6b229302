"""The one network type that everything below works on: a chain of linear layers with ReLU between."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gradsplinter import _library  # noqa: F401  (registers torch.ops.gradsplinter)
from gradsplinter.checks import DTYPES, check_examples, check_finite, check_span
from gradsplinter.io import how_to_convert, why_pickled, write_file
from gradsplinter.modules import read_layers

# One key: safetensors writes several in any order, and equal networks shall be equal files.
_METADATA = {"gradsplinter.ReluNetwork": "schema 1"}


@dataclass(frozen=True, eq=False, repr=False)
class ReluNetwork:
    """A multilayer perceptron with ReLU between its layers: z^l = W^l a^(l-1) + b^l, a^l = max(z^l, 0).

    Layers are numbered 1..L. Site 0 is the input, site l < L is a^l after the ReLU, site L is the
    output, which has no ReLU.

    Args:
        weights: W^1 ... W^L, each `[h_l, h_(l-1)]` as in `nn.Linear`; float32 or float64.
        biases: b^1 ... b^L, each `[h_l]`, of the same dtype and device.

    Raises:
        ValueError: shapes that do not chain, no layer, an empty layer, weights that are not finite.
        TypeError: a dtype other than float32 or float64, or more than one dtype.

    Examples:
        >>> import torch
        >>> net = ReluNetwork([torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0]])],
        ...                   [torch.tensor([0.0]), torch.tensor([1.0])])
        >>> net
        ReluNetwork(2-1-1, float32)
        >>> net(torch.tensor([[3.0, 1.0], [1.0, 3.0]]))
        tensor([[5.],
                [1.]])
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        object.__setattr__(self, "biases", tuple(self.biases))
        _check_layers(self.weights, self.biases)
        # A snapshot: training the module on must not change what was extracted from it.
        for field in ("weights", "biases"):
            copies = tuple(t.detach().clone(memory_format=torch.contiguous_format)
                           for t in getattr(self, field))  # fmt: skip
            object.__setattr__(self, field, copies)

    @property
    def depth(self) -> int:
        """L, the number of linear layers."""
        return len(self.weights)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """(h_0, ..., h_L)."""
        return (self.weights[0].shape[1], *(w.shape[0] for w in self.weights))

    @cached_property
    def bits(self) -> tuple[int, ...]:
        """Of the pattern of each site: one a unit, none of the input and of the output."""
        return (0, *self.widths[1:-1], 0)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sites; those of hidden layers are empty."""
        return ("input", *[""] * (self.depth - 1), "output")

    @property
    def dtype(self) -> torch.dtype:
        return self.weights[0].dtype

    @property
    def device(self) -> torch.device:
        return self.weights[0].device

    @cached_property
    def float64(self) -> ReluNetwork:
        """The same network in float64 on the CPU, which is itself if it is that already."""
        if self.dtype == torch.float64 and self.device.type == "cpu":
            return self
        return ReluNetwork(
            tuple(weight.cpu().double() for weight in self.weights),
            tuple(bias.cpu().double() for bias in self.biases),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of widths, dtype, weights and biases; equal for equal networks anywhere."""
        digest = hashlib.sha256(f"{self.widths}{self.dtype}".encode())
        for tensor in itertools.chain(self.weights, self.biases):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def from_module(cls, module: nn.Module) -> ReluNetwork:
        """Read the layers of a torch module; the module is not changed and not kept.

        Two linear layers without a ReLU between are multiplied into one in float64 and rounded.
        A ReLU before the first or after the last linear layer gets an identity layer on its other
        side, which is exact.

        Args:
            module: an `nn.Sequential` (nested or not) of `nn.Linear` and `nn.ReLU`; `nn.Dropout` in
                eval mode and `nn.Identity` are ignored.

        Raises:
            NotImplementedError: any other module; the message gives its path.
            ValueError: a dropout or a parametrization in training mode, a lazy layer without
                weights, no linear layer.

        Examples:
            >>> from torch import nn
            >>> ReluNetwork.from_module(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)))
            ReluNetwork(4-16-2, float32)
        """
        return cls(*read_layers(module))

    def to_module(self) -> nn.Sequential:
        """The same network as `nn.Sequential` of `nn.Linear` and `nn.ReLU`, with its own weights."""
        modules: list[nn.Module] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            linear = nn.utils.skip_init(
                nn.Linear, weight.shape[1], weight.shape[0], dtype=self.dtype, device=self.device
            )
            with torch.no_grad():
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
            modules += [linear, nn.ReLU()]
        return nn.Sequential(*modules[:-1])

    def save(self, path: str | Path) -> None:
        """Write weights and biases to one safetensors file. One that is there is replaced, as a whole.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            write_file(Path(path), self.to_bytes())
        except OSError as error:
            raise OSError(
                f"path must be a file that can be written, got {path}: {error}"
            ) from error

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        tensors = {f"weight.{i}": w for i, w in enumerate(self.weights, 1)}
        tensors |= {f"bias.{i}": b for i, b in enumerate(self.biases, 1)}
        return save(tensors, metadata=_METADATA)

    @classmethod
    def load(cls, path: str | Path) -> ReluNetwork:
        """Read what `save` wrote. Nothing is ever unpickled.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not a safetensors file or holds something else.
        """
        with Path(path).open("rb"):  # whose errors say more than those of safetensors
            pass
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except OSError as error:
            raise OSError(f"path must be a file that can be read, got {path}: {error}") from error
        except SafetensorError as error:
            reason = why_pickled(
                path, how_to_convert("ReluNetwork.from_module(module).save(new_path)")
            )
            raise ValueError(
                f"path must be a safetensors file, got {path}{reason or f': {error}'}"
            ) from error
        if metadata != _METADATA:
            raise ValueError(
                f"path must be a file written by ReluNetwork.save (schema 1), got {path} "
                f"with metadata {metadata}"
            )
        depth = len(tensors) // 2
        weights = [f"weight.{i}" for i in range(1, depth + 1)]
        biases = [f"bias.{i}" for i in range(1, depth + 1)]
        if set(tensors) != {*weights, *biases}:
            raise ValueError(
                f"path must hold weight.1, bias.1, weight.2, ... and nothing else, "
                f"got {sorted(tensors)} in {path}"
            )
        return cls(tuple(tensors[w] for w in weights), tuple(tensors[b] for b in biases))

    def check_inputs(self, x: Tensor, *, finite: bool = True) -> Tensor:
        """`x` without its autograd history, if it can be an input `[N, h_0]` of the network.

        Raises:
            TypeError: x is not a tensor of the network's dtype.
            ValueError: its shape or device does not fit, or (with `finite`) it is not finite.
        """
        return check_examples(x, self.widths[0], self.dtype, self.device, finite=finite)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs y `[N, h_L]` of inputs `[N, h_0]`, by the numeric contract (not torch's order)."""
        y: Tensor
        _, y = torch.ops.gradsplinter.signatures(
            self.check_inputs(x), self.weights, self.biases, [], True
        )
        return y

    def __repr__(self) -> str:
        widths = "-".join(map(str, self.widths))
        return f"ReluNetwork({widths}, {str(self.dtype).removeprefix('torch.')})"


def _check_layers(weights: tuple[Tensor, ...], biases: tuple[Tensor, ...]) -> None:
    if not weights:
        raise ValueError("weights must hold at least one layer, got none")
    if len(weights) != len(biases):
        raise ValueError(
            f"biases must hold one tensor per layer ({len(weights)}), got {len(biases)}"
        )
    first = weights[0]
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True), 1):
        for name, tensor, rank in (("weights", weight, 2), ("biases", bias, 1)):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{name}: layer {i} must be a tensor, got {type(tensor).__name__}")
            if tensor.dtype not in DTYPES or tensor.dtype != first.dtype:
                raise TypeError(
                    f"{name}: layer {i} must be float32 or float64 like the other layers "
                    f"(layer 1 is {first.dtype}), got {tensor.dtype}"
                )
            if tensor.device != first.device:
                raise ValueError(
                    f"{name}: layer {i} must be on {first.device} like layer 1, got {tensor.device}"
                )
            if tensor.dim() != rank or 0 in tensor.shape:
                raise ValueError(
                    f"{name}: layer {i} must be non-empty with {rank} dimension{'s' * (rank > 1)}, "
                    f"got shape {list(tensor.shape)}"
                )
            check_finite(tensor, f"{name}: layer {i}")
        if bias.shape[0] != weight.shape[0]:
            raise ValueError(
                f"biases: layer {i} must have shape [{weight.shape[0]}] to match its weights, "
                f"got {list(bias.shape)}"
            )
        if i > 1 and weight.shape[1] != weights[i - 2].shape[0]:
            raise ValueError(
                f"weights: layer {i} must have shape [*, {weights[i - 2].shape[0]}] to follow "
                f"layer {i - 1}, got {list(weight.shape)}"
            )


class HasSites(Protocol):
    """A network of sites 0..depth."""

    @property
    def depth(self) -> int: ...


def pattern_sites(net: HasSites, source: int, target: int) -> range:
    """The sites whose bits decide the gradient of `target` with respect to `source`.

    These are source+1..target, without the output, which has no ReLU; target -1 is the output.

    Raises:
        ValueError: no such sites, or in the wrong order.

    Examples:
        >>> pattern_sites(ReluNetwork([torch.eye(2)] * 4, [torch.zeros(2)] * 4), 0, -1)
        range(1, 4)
    """
    source, target = check_span(net.depth, source, target)
    return range(source + 1, min(target, net.depth - 1) + 1)
