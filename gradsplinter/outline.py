"""A traced network without its module, as a table on disk knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from gradsplinter.traced import TracedNetwork


class Outline(TracedNetwork):
    """What a table needs of a network to be merged and counted; what needs its weights is refused.

    Args:
        widths, bits, names: of the sites.
        dtype: of the network.
        fingerprint: of the network.
    """

    def __init__(
        self,
        widths: Sequence[int],
        bits: Sequence[int],
        names: Sequence[str],
        dtype: torch.dtype,
        fingerprint: str,
    ) -> None:
        self.widths, self.bits, self.names = tuple(widths), tuple(bits), tuple(names)
        self.dtype, self.device = dtype, torch.device("cpu")
        self.fingerprint = fingerprint

    @property
    def depth(self) -> int:
        return len(self.widths) - 1

    def forward(self, x: Tensor, sites: Sequence[int]) -> NoReturn:  # noqa: ARG002
        self._refuse()

    def jacobian(self, *arguments: object) -> NoReturn:  # noqa: ARG002
        self._refuse()

    def check_linear(self, *arguments: object) -> None:
        """The table could not have been made otherwise."""

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"net must be given to compute with {self!r}, whose module is not kept with its table: "
            "Store(path, net)"
        )
