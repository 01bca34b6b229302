"""What does a network, or a part of one, compute? An embedding of it by its splinters."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from gradsplinter.checks import check_span, check_tensor
from gradsplinter.embedder import BEYOND, Embedder
from gradsplinter.network import ReluNetwork
from gradsplinter.splinters import Splinters
from gradsplinter.table import splinter
from gradsplinter.tokens import Tokens, of_splinters
from gradsplinter.traced import Network, network_of

MOST_LARGE = 1e6
"""Size of a gradient, by the standard deviation of those that the embedder learned from."""
MOST_OUTSIDE = 0.01
"""Share of the examples that may lie outside of where the embedder learned, without a warning."""


def embed(
    net: Network | nn.Module,
    x: Tensor,
    embedder: Embedder | None = None,
    *,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    basis: Tensor | None = None,
) -> Tensor:
    """The embedding of a network, or of the part between two sites, one for each direction.

    Parts that compute alike functions of alike inputs lie near each other; which these are, the embedder has
    learned from the networks that it was taught with. `embedder.known.nearest` says which of the tasks that
    it knows are the nearest to an embedding.

    Args:
        net: a `ReluNetwork`, a `TracedNetwork`, or a module of which one of them can be made.
        x: `[N, h_0]`: examples of its inputs, as many as one likes; a few hundred are enough.
        embedder: of as many inputs as the source has units, or as `basis` has rows; by default
            `Embedder.pretrained()`, of two inputs on the unit square.
        source, target: sites, as in `splinter`.
        directions: `[D, h_target]`, as in `splinter`; by default every unit of the target.
        basis: `[d, h_source]`: coordinates of the source, d as the embedder has inputs, that take the place of its
            units, as in `tokens.of_splinters`; so a part of any width can be embedded, or one of a few of its
            inputs.

    Returns:
        `[D, size]`.

    Raises:
        ValueError: a source of another width than the embedder's; examples in a single mode, or where all
            gradients of a direction are zero, or zero by the coordinates of `basis`, which say nothing; gradients
            of another order than those that the embedder learned from; a basis of another shape; what `splinter`
            refuses.
        TypeError: no embedder, or what `splinter` refuses.
        NotImplementedError: a module that is not supported.

    Warns:
        UserWarning: more than 1 % of the examples lie outside of where the embedder learned, at the source.

    Examples:
        >>> from gradsplinter.train import initialise
        >>> net, x = initialise([2, 16, 3], seed=0), torch.rand(200, 2)
        >>> embed(net, x).shape
        torch.Size([3, 32])

        The part from the last two of four inputs:

        >>> net, x = initialise([4, 16, 1], seed=0), torch.rand(200, 4)
        >>> embed(net, x, basis=torch.eye(4)[2:]).shape
        torch.Size([1, 32])
    """
    if embedder is None:
        embedder = Embedder.pretrained()
    found = tokens_of_part(
        net, x, embedder, source=source, target=target, directions=directions, basis=basis
    )
    sets = [tokens for tokens in found if tokens is not None]
    if len(sets) < len(found):
        raise ValueError(
            "directions must have a gradient that is not zero in some mode, got direction "
            f"{found.index(None)}, which is constant at these examples"
            + (" by these coordinates" if basis is not None else "")
            + ": choose others"
        )
    return torch.cat([encoded(embedder, tokens) for tokens in sets])


def encoded(embedder: Embedder, tokens: Tokens) -> Tensor:
    """The embedding of each set, `[B, size]`.

    Raises:
        ValueError: gradients of another order than those that the embedder learned from.
    """
    largest = tokens.values.abs().amax((0, 1))
    if bool((largest > MOST_LARGE * embedder.value_scale).any()):
        usual = ", ".join(f"{scale:.3g}" for scale in embedder.value_scale.tolist())
        raise ValueError(
            "net must have gradients near those that the embedder learned from, whose standard deviation is "
            f"({usual}), got up to {float(largest.max()):.3g}"
        )
    with torch.no_grad():
        return embedder.encode(tokens)


def tokens_of_part(
    net: Network | nn.Module,
    x: Tensor,
    embedder: Embedder,
    *,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    basis: Tensor | None = None,
) -> list[Tokens | None]:
    """What `embed` shows the embedder, one set for each direction; None where it is constant.

    Arguments and other errors are those of `embed`.
    """
    if not isinstance(embedder, Embedder):
        raise TypeError(f"embedder must be an Embedder, got {type(embedder).__name__}")
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    net = network_of(net, x.shape[1:])
    source, target = check_span(net.depth, source, target)
    inputs, width = embedder.config.inputs, net.widths[source]
    if basis is not None:
        _check_basis(basis, inputs, width, net.dtype)
    elif width != inputs:
        raise ValueError(
            f"net must have {inputs} units at site {source}, as the embedder, got {width}; "
            "choose coordinates of the source by `basis` (--basis), or teach an embedder with networks of as many inputs"
        )
    if embedder.config.values != "gradients":
        raise ValueError(f"embedder must be one of gradients, got one of {embedder.config.values}")
    s = splinter(net, x, source, target, directions)
    if s.n_modes == 1:
        raise ValueError(
            f"x must visit at least 2 modes of the network, got 1 in {len(x):,} examples: there it is one "
            "affine function, which its gradient describes"
        )
    points = activations(net, x, source)
    found = [of_splinters(s, points, direction, basis) for direction in range(s.n_directions)]
    _warn_outside(embedder, points if basis is None else points @ basis.T)
    least = _rounding(s, basis)
    return [
        tokens.to(embedder.point_mean) if float(tokens.values.abs().max()) > bound else None
        for tokens, bound in zip(found, least, strict=True)
    ]


def _check_basis(basis: Tensor, inputs: int, width: int, dtype: torch.dtype) -> None:
    """Its shape; that its rows are finite and independent, `of_splinters` sees to."""
    check_tensor(basis, "basis", 2, (dtype,))
    if basis.shape[1] != width or len(basis) == 0:
        raise ValueError(
            f"basis must have shape [d, {width}], as wide as the source, got {list(basis.shape)}"
        )
    if len(basis) != inputs:
        raise ValueError(
            f"basis must have {inputs} rows, as the embedder has inputs, got {len(basis)}"
        )


def _rounding(s: Splinters, basis: Tensor | None) -> list[float]:
    """Of each direction, what gradients by a basis may be without being more than rounding; 0 without a basis."""
    if basis is None:
        return [0.0] * s.n_directions
    longest = s.jacobian().norm(dim=2).amax(0)
    size = torch.linalg.pinv(basis).norm()
    bounds: list[float] = (torch.finfo(basis.dtype).eps * basis.shape[1] * size * longest).tolist()
    return bounds


def _warn_outside(embedder: Embedder, points: Tensor) -> None:
    outside = float(embedder.outside(points.to(embedder.point_mean)).double().mean())
    if outside > MOST_OUTSIDE:
        bounds = embedder.point_low.tolist(), embedder.point_high.tolist()
        digits = [
            2 - round(math.log10(high - low or 1.0)) for low, high in zip(*bounds, strict=True)
        ]
        low, high = (
            ", ".join(f"{v:.{max(0, n)}f}" for v, n in zip(bound, digits, strict=True))
            for bound in bounds
        )
        warnings.warn(
            f"x should lie where the embedder learned, from ({low}) to ({high}) and at most {BEYOND:.0%} "
            f"beyond; {outside:.1%} of the examples do not, so their embedding may say nothing: scale the "
            "inputs, or teach an embedder with networks of such inputs",
            stacklevel=4,
        )


def activations(net: Network, x: Tensor, site: int) -> Tensor:
    """Of a site before the last, at examples x `[N, h_0]`: `[N, h_site]`."""
    if site == 0:
        return x.detach().reshape(len(x), -1)
    if isinstance(net, ReluNetwork):
        return ReluNetwork(net.weights[:site], net.biases[:site])(x).relu()
    a = x.detach().reshape(len(x), *net.shapes[0])
    for at in range(1, site + 1):
        a, _ = net.forward_segment(at, a, False)
    return a.reshape(len(x), -1)
