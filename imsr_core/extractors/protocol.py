"""What every extractor takes and gives, so that strategies need not know which one is at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from imsr_core.config import ModelConfig


@dataclass(frozen=True)
class Prior:
    """What is known of a batch's interests before its items are read.

    ``start`` (B, K, d): the stored interests, and the random starts of new ones. ``mass`` (B, K): how many items
    each weighs; 0 for a new interest, whose start breaks the symmetry of the routing but must not enter the
    result. ``mask`` (B, K): True for real interests. ``stored`` (B, K): True for those with a past, also where m is 0
    for all. ``queries`` (B, K, q): ComiRec-SA's own query of each interest, q = 0 otherwise.
    """

    start: Tensor
    mass: Tensor
    mask: Tensor
    stored: Tensor
    queries: Tensor


class Extractor(nn.Module):
    """Reads interests from items. Subclasses implement `forward`; they own the dense parameters.

    Made from a `ModelConfig` and a generator for fresh parameters.
    """

    prior_mass: ClassVar[float] = 2.0
    """m, how many items a stored interest weighs where [model] prior_mass is unset."""

    @classmethod
    def query_units(cls, config: ModelConfig) -> int:
        """Length of the query that each interest owns; 0: none."""
        return 0

    def forward(self, items: Tensor, item_mask: Tensor, prior: Prior) -> Tensor:
        """Interests (B, K, d) from ``items`` (B, n, d), of which ``item_mask`` (B, n) are real.

        Padded interests come back as zero. Items are the most recent last.
        """
        raise NotImplementedError


def masked_softmax(logits: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the True places of ``mask`` along ``dim``; all zero where there is none."""
    logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return logits.softmax(dim) * mask
