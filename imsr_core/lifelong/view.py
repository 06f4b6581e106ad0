"""How a version serves one task: everything a forward pass needs, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.protocol import NO_CHANGE, Encoder, Pooling, Weights, run
from imsr_core.encoders.tokens import MASK, TASK, append_token, hide_newer, wrap_with_token
from imsr_core.lifelong.heads import Head

Reading = Literal["items", "token", "mask"]
"""What ends a sequence: its last item, the task token, or a hole to fill."""


@dataclass(frozen=True, eq=False)
class View:
    """One task of one version.

    Attributes:
        encoder: the shape.
        weights: the encoder's weights as this task sees them (masked, tuned, ...).
        head: the task's head.
        n_items: how many items this task knows; newer ones are read as UNKNOWN, so that rows appended later
            cannot change it.
        adapter: the task's additions.
        reading: where the user vector is read.
        pooling: how the states become it; None = the last state or, seeing both sides, as GRec does.
    """

    encoder: Encoder
    weights: Weights
    head: Head
    n_items: int
    adapter: Adapter = NO_CHANGE
    reading: Reading = "items"
    pooling: Pooling | None = None

    def hidden(self, items: Tensor) -> Tensor:
        """Table rows (B, L) -> hidden states (B, L, d), without a token."""
        return run(self.encoder, self.weights, hide_newer(items, self.n_items), self.adapter)

    def vectors(self, items: Tensor) -> Tensor:
        """Table rows (B, L) -> user vectors (B, d)."""
        rows, pooling = self._read(hide_newer(items, self.n_items))
        return run(self.encoder, self.weights, rows, self.adapter, self.pooling or pooling)

    def logits(self, items: Tensor) -> Tensor:
        """Table rows (B, L) -> scores of all labels (B, Y)."""
        return self.head.logits(self.vectors(items))

    def _read(self, rows: Tensor) -> tuple[Tensor, Pooling]:
        if self.reading == "mask":
            return append_token(rows, MASK), "last"
        if self.encoder.causal:
            return (append_token(rows, TASK) if self.reading == "token" else rows), "last"
        return (wrap_with_token(rows, TASK), "ends") if self.reading == "token" else (rows, "mean")


@torch.no_grad()
def batched_vectors(view: View, inputs: Tensor, batch_size: int = 1024) -> Tensor:
    """User vectors of all inputs (U, L) -> (U, d), in batches of bounded memory."""
    view.encoder.eval()
    parts = [view.vectors(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size)]
    return torch.cat(parts) if parts else inputs.new_zeros((0, view.head.weight.shape[1]), dtype=torch.float32)
