"""Signatures: how the bits of sites are packed in words.

A signature holds for each site ceil(h / 64) little-endian 64-bit words, sites in ascending order;
unit j is bit j mod 64 of word j div 64; unused bits are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from gradsplinter.checks import check_integer, check_tensor

_BITS_OF_BYTES = (
    (torch.arange(256).unsqueeze(1) >> torch.arange(8) & 1).byte().view(torch.int64).flatten()
)
"""Eight bools in a word, for each byte."""


def words_of(width: int) -> int:
    """The number of 64-bit words that `width` units take."""
    return (width + 63) // 64


def pack_bits(bits: Tensor) -> Tensor:
    """Bool `[rows, units]` of one site → int64 words `[rows, ceil(units / 64)]`.

    Raises:
        TypeError: another dtype.
        ValueError: not two dimensions.

    Examples:
        >>> pack_bits(torch.tensor([[True, False, True]]))
        tensor([[5]])
    """
    check_tensor(bits, "bits", 2, (torch.bool,))
    return torch.ops.gradsplinter.pack_bits(bits)  # type: ignore[no-any-return]


def unpack_bits(words: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """int64 signatures `[rows, words]` of sites with these widths → bool `[rows, width]` of each.

    Raises:
        TypeError: another dtype.
        ValueError: the widths do not take that many words.

    Examples:
        >>> unpack_bits(torch.tensor([[5, 1]]), [3, 2])
        [tensor([[ True, False,  True]]), tensor([[ True, False]])]
    """
    _check_words(words, widths)
    table = _BITS_OF_BYTES.to(words.device)
    sites = words.split([words_of(width) for width in widths], dim=1)
    return [
        table.take(site.contiguous().view(torch.uint8).long()).view(torch.bool)[:, :width]
        for site, width in zip(sites, widths, strict=True)
    ]


def select_sites(words: Tensor, widths: Sequence[int], first: int, last: int) -> Tensor:
    """The words of sites number `first`..`last` (counted from 0, inclusive) of a signature.

    Raises:
        TypeError: another dtype.
        ValueError: the widths do not take that many words, or no such sites.

    Examples:
        >>> select_sites(torch.tensor([[5, 1, 7]]), [3, 70], 1, 1)
        tensor([[1, 7]])
    """
    _check_words(words, widths)
    if not 0 <= first <= last < len(widths):
        raise ValueError(
            f"first and last must be sites in ascending order in 0..{len(widths) - 1}, "
            f"got {first} and {last}"
        )
    begin = sum(words_of(width) for width in widths[:first])
    end = sum(words_of(width) for width in widths[: last + 1])
    return words[:, begin:end]


def check_unused_bits(patterns: Tensor, widths: list[int], name: str) -> None:
    """Raise ValueError where a signature has bits of no unit."""
    for width, end in zip(widths, accumulate(map(words_of, widths)), strict=True):
        if width % 64 and bool((patterns[:, end - 1] >> width % 64).any()):
            raise ValueError(
                f"{name} must have no bits after the last unit of a site, got some in word "
                f"{end - 1}, which ends a site of {width} units"
            )


def _check_words(words: Tensor, widths: Sequence[int]) -> None:
    check_tensor(words, "words", 2, (torch.int64,))
    if not isinstance(widths, Sequence):
        raise TypeError(f"widths must be a sequence of integers, got {type(widths).__name__}")
    for width in widths:
        check_integer(width, "widths", 1)
    total = sum(words_of(width) for width in widths)
    if words.shape[1] != total:
        raise ValueError(
            f"words must have shape [rows, {total}] to hold sites of widths {list(widths)}, "
            f"got {list(words.shape)}"
        )
