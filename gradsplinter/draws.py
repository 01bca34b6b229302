"""Generators for all that is drawn for one seed, of which none repeats another."""

from __future__ import annotations

import hashlib

import torch


def generator_of(seed: int, purpose: str) -> torch.Generator:
    """A generator on the CPU, another one for each seed and purpose.

    torch's takes only the low 32 bits of its seed, so that `seed + 2**32` draws what `seed` draws. Here they come
    from SHA-256 of both; two pairs share their stream by chance, once in 2³².

    Args:
        seed: of a study.
        purpose: what is drawn, in words.

    Examples:
        >>> torch.rand(3, generator=generator_of(0, "training examples"))
        tensor([0.6446, 0.4021, 0.6172])
        >>> torch.rand(3, generator=generator_of(0, "fresh examples"))
        tensor([0.4265, 0.7045, 0.3235])
    """
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
