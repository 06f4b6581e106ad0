"""A task's head: one row of weights for each label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.encoders.lookup import lookup

HEAD_SCALE = 0.02  # standard deviation of a fresh head (PeterRec, Conure: 0.02; TERACON: 0.01)


@dataclass(frozen=True, eq=False)
class Head:
    """score(y) = h . V_y + b_y.

    Attributes:
        weight: (Y, d).
        bias: (Y,), or None as in PeterRec's and Conure's later tasks.
    """

    weight: Tensor
    bias: Tensor | None = None

    def logits(self, vectors: Tensor) -> Tensor:
        """(B, d) -> (B, Y)."""
        return F.linear(vectors, self.weight, self.bias)

    def some_logits(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Scores of a few labels (n,) for everybody: (B, d) -> (B, n). Gradients touch those rows only."""
        bias = None if self.bias is None else self.bias[labels]
        return F.linear(vectors, lookup(self.weight, labels), bias)

    def own_logits(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Each row's score of its own label: (B, d), (B,) -> (B,)."""
        scores = (vectors * lookup(self.weight, labels)).sum(dim=1)
        return scores if self.bias is None else scores + self.bias[labels]


def initial_head(n_labels: int, dim: int, seed: int, *, bias: bool) -> dict[str, Tensor]:
    """Fresh tensors ``weight`` and, where asked for, ``bias``."""
    generator = torch.Generator().manual_seed(seed)
    head = {"weight": torch.empty(n_labels, dim).normal_(0.0, HEAD_SCALE, generator=generator)}
    return {**head, "bias": torch.zeros(n_labels)} if bias else head
