"""How many gradients of each direction differ, without all of them in memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gradsplinter import ops
from gradsplinter.splinters import AT_ONCE, Splinters


def hashes_of(gradients: Tensor) -> Tensor:
    """int64 `[u, D]` of gradients `[u, D, h]`, the same for equal ones.

    Examples:
        >>> a, b, c = hashes_of(torch.tensor([[[0.0]], [[-0.0]], [[1.0]]])).flatten().tolist()
        >>> a == b, a == c
        (True, False)
    """
    rows = gradients.flatten(0, 1) + 0.0  # of the two zeros one
    if rows.dtype == torch.float32 and rows.shape[1] % 2:
        rows = F.pad(rows, (0, 1))
    return ops.hash_rows(rows.view(torch.int64)).reshape(gradients.shape[:2])


def count_different(s: Splinters, wanted: Tensor, hashes: Tensor) -> int:
    """Different gradients of each direction, summed over directions.

    One whose hash no other of its direction has is different from all; the rest are computed again and
    compared.

    Args:
        s: whose gradients are counted.
        wanted: bool `[U, D]`: those that count.
        hashes: int64 `[U, D]`, as `hashes_of` gives them.

    Examples:
        >>> from gradsplinter import ReluNetwork, splinter
        >>> net = ReluNetwork([torch.eye(2), torch.eye(2)], [torch.zeros(2), torch.zeros(2)])
        >>> s = splinter(net, torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]))
        >>> gradients = s.jacobian()
        >>> count_different(s, gradients.any(dim=2), hashes_of(gradients))
        2
    """
    shared, count = torch.zeros_like(wanted), 0
    for d in range(s.n_directions):
        modes = wanted[:, d].nonzero().squeeze(1)
        _, index, times = hashes[modes, d].unique(return_inverse=True, return_counts=True)
        shared[modes, d] = times[index] > 1
        count += int((times == 1).sum())
    modes = shared.any(dim=1).nonzero().squeeze(1)
    step = max(1, AT_ONCE // max(1, len(modes) * s.net.widths[s.source]))
    for part in shared.any(dim=0).nonzero().squeeze(1).split(step):
        directions = s.directions[part]
        gradients = ops.jacobian(s.net, s.signatures[modes], s.source, s.target, directions)
        for d, of_modes in zip(part.tolist(), gradients.unbind(1), strict=True):
            count += len(ops.unique_rows(of_modes[shared[modes, d]]).first)
    return count
