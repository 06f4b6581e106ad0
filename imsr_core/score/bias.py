"""A bias of items as a term: what the model of before `imsr_core.score` adds to its interests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imsr_core.score.pairs import IntArray


@dataclass(frozen=True)
class BiasTerm:
    """``bias`` (N,), the same for every user."""

    bias: Tensor

    columns = ("bias",)

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add the bias to ``scores`` (B, N), in place; ``weights`` (1,)."""
        scores += weights[0] * self.bias

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 1) the bias of ``items`` (B, C)."""
        return self.bias[torch.from_numpy(items)][..., None]

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(1, C, 1) the bias of ``shared`` (C,) items, and (P, 1) that of ``items`` (P,)."""
        return self.at(users, shared[None]), self.at(users, items)
