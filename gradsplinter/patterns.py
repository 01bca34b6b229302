"""Signatures: how the bits of sites are packed in words.

A signature holds for each site ceil(h / 64) little-endian 64-bit words, sites in ascending order;
unit j is bit j mod 64 of word j div 64; unused bits are 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def words_of(width: int) -> int:
    """The number of 64-bit words that `width` units take."""
    return (width + 63) // 64


def pack_bits(bits: Tensor) -> Tensor:
    """Bool `[rows, units]` of one site → int64 words `[rows, ceil(units / 64)]`.

    Examples:
        >>> pack_bits(torch.tensor([[True, False, True]]))
        tensor([[5]])
    """
    if bits.dtype != torch.bool or bits.dim() != 2:
        raise TypeError(f"bits must be bool [rows, units], got {bits.dtype} {list(bits.shape)}")
    rows, units = bits.shape
    padded = bits.new_zeros(rows, words_of(units) * 64)
    padded[:, :units] = bits
    shifts = torch.arange(64, device=bits.device)
    words = padded.view(rows, -1, 64).to(torch.int64) << shifts
    return words.sum(dim=2)  # each bit occurs once, so the sum is the union


def unpack_bits(words: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """int64 signatures `[rows, words]` of sites with these widths → bool `[rows, width]` of each.

    Raises:
        ValueError: the widths do not take that many words.

    Examples:
        >>> unpack_bits(torch.tensor([[5, 1]]), [3, 2])
        [tensor([[ True, False,  True]]), tensor([[ True, False]])]
    """
    total = sum(words_of(width) for width in widths)
    if words.dtype != torch.int64 or words.dim() != 2 or words.shape[1] != total:
        raise ValueError(
            f"words must be int64 [rows, {total}] for widths {list(widths)}, "
            f"got {words.dtype} {list(words.shape)}"
        )
    shifts = torch.arange(64, device=words.device)
    sites = words.split([words_of(width) for width in widths], dim=1)
    return [
        ((site.unsqueeze(2) >> shifts) & 1).to(torch.bool).flatten(1)[:, :width]
        for site, width in zip(sites, widths, strict=True)
    ]


def select_sites(words: Tensor, widths: Sequence[int], first: int, last: int) -> Tensor:
    """The words of sites number `first`..`last` (counted from 0, inclusive) of a signature.

    Examples:
        >>> select_sites(torch.tensor([[5, 1, 7]]), [3, 70], 1, 1)
        tensor([[1, 7]])
    """
    begin = sum(words_of(width) for width in widths[:first])
    end = sum(words_of(width) for width in widths[: last + 1])
    return words[:, begin:end]
