"""What does a network, or a part of one, compute? An embedding of it by its splinters."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsplinter.checks import check_span
from gradsplinter.embedder import Embedder
from gradsplinter.network import ReluNetwork
from gradsplinter.table import splinter
from gradsplinter.tokens import of_splinters


def embed(
    net: ReluNetwork,
    x: Tensor,
    embedder: Embedder,
    *,
    source: int = 0,
    target: int = -1,
    directions: Tensor | None = None,
    basis: Tensor | None = None,
) -> Tensor:
    """The embedding of a network, or of the part between two sites, one for each direction.

    Parts that compute alike functions of alike inputs lie near each other; which these are, the embedder has
    learned from the networks that it was taught with.

    Args:
        net: the network.
        x: `[N, h_0]`: examples of its inputs, as many as one likes; a few hundred are enough.
        embedder: of as many inputs as the source has units, or as `basis` has rows.
        source, target: sites, as in `splinter`.
        directions: `[D, h_target]`, as in `splinter`; by default every unit of the target.
        basis: `[d, h_source]`: coordinates of the source that take the place of its units, as in
            `tokens.of_splinters`; so a part of any width can be embedded, or one of a few of its inputs.

    Returns:
        `[D, size]`.

    Raises:
        ValueError: a source of another width than the embedder's; examples in a single mode, or where all
            gradients of a direction are zero, which say nothing; what `splinter` refuses.
        TypeError: no embedder, or what `splinter` refuses.

    Examples:
        >>> from gradsplinter.embedder import EmbedderConfig
        >>> from gradsplinter.train import initialise
        >>> net, x = initialise([2, 16, 3], seed=0), torch.rand(200, 2)
        >>> embed(net, x, Embedder(EmbedderConfig(inputs=2))).shape
        torch.Size([3, 16])

        The part from the last two of four inputs:

        >>> net, x = initialise([4, 16, 1], seed=0), torch.rand(200, 4)
        >>> embed(net, x, Embedder(EmbedderConfig(inputs=2)), basis=torch.eye(4)[2:]).shape
        torch.Size([1, 16])
    """
    if not isinstance(embedder, Embedder):
        raise TypeError(f"embedder must be an Embedder, got {type(embedder).__name__}")
    if not isinstance(net, ReluNetwork):
        raise TypeError(f"net must be a ReluNetwork, got {type(net).__name__}")
    source, target = check_span(net.depth, source, target)
    inputs = embedder.config.inputs
    if basis is None and net.widths[source] != inputs:
        raise ValueError(
            f"net must have {inputs} units at site {source}, as the embedder, got {net.widths[source]}"
        )
    if embedder.config.values != "gradients":
        raise ValueError(f"embedder must be one of gradients, got one of {embedder.config.values}")
    s = splinter(net, x, source, target, directions)
    if s.n_modes == 1:
        raise ValueError(
            f"x must visit at least 2 modes of the network, got 1 in {len(x):,} examples: there it is one "
            "affine function, which its gradient describes"
        )
    constant = (s.jacobian() == 0).flatten(2).all(2).all(0).nonzero().flatten().tolist()
    if constant:
        raise ValueError(
            f"directions must have a gradient that is not zero in some mode, got direction {constant[0]}, "
            "which is constant at these examples"
        )
    points = _activations(net, x, source)
    sets = [of_splinters(s, points, direction, basis) for direction in range(s.n_directions)]
    if basis is not None and len(basis) != inputs:
        raise ValueError(
            f"basis must have {inputs} rows, as the embedder has inputs, got {len(basis)}"
        )
    with torch.no_grad():
        return torch.cat([embedder.encode(tokens) for tokens in sets])


def _activations(net: ReluNetwork, x: Tensor, site: int) -> Tensor:
    if site == 0:
        return x
    return ReluNetwork(net.weights[:site], net.biases[:site])(x).relu()
