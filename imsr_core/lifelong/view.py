"""How a version serves one task: everything a forward pass needs, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.protocol import NO_CHANGE, Encoder, Pooling, Weights, run
from imsr_core.encoders.tokens import MASK, PAD, TASK, append_token, hide_newer, wrap_with_token
from imsr_core.lifelong.counts import NextItemCounts
from imsr_core.lifelong.heads import Head
from imsr_core.lifelong.linear import Linear

Reading = Literal["items", "token", "mask"]
"""What ends a sequence: its last item, the task token, or a hole to fill."""


class Pooled(NamedTuple):
    """How a task makes a user vector of the states.

    ``how``: None = the last state or, seeing both sides, as GRec does; mean = the mean of all n states; root = their
    sum / sqrt(n L), with which more items are more evidence, as in a linear model on items, and n = L is the mean.
    ``windows``: mean and root read this many windows of L items, each by itself, the most recent first: who somebody
    is shows in all that they did.
    """

    how: Pooling | Literal["root"] | None = None
    windows: int = 1


AT_THE_END = Pooled()


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
        pooling: how the states become it.
        wide: the task's wide part, which reads the items themselves (see `wide`, T1's is `counts`); None = none.
    """

    encoder: Encoder
    weights: Weights
    head: Head
    n_items: int
    adapter: Adapter = NO_CHANGE
    reading: Reading = "items"
    pooling: Pooled = AT_THE_END
    wide: Linear | NextItemCounts | None = None

    @property
    def length(self) -> int:
        """How many of a user's most recent items are read."""
        return max(self.encoded, self.wide.length if self.wide else 0)

    @property
    def encoded(self) -> int:
        """How many of them the encoder reads."""
        return self.encoder.config.length * self.pooling.windows

    def hidden(self, items: Tensor) -> Tensor:
        """Table rows (B, L) -> hidden states (B, L, d), without a token."""
        return run(self.encoder, self.weights, hide_newer(items, self.n_items), self.adapter)

    def vectors(self, items: Tensor) -> Tensor:
        """Table rows (B, N), of which the last ``encoded`` are read -> user vectors (B, d)."""
        rows = hide_newer(items[:, -self.encoded :], self.n_items)
        how = self.pooling.how
        if how == "root" or rows.shape[1] > self.encoder.config.length:
            return self._over_windows(rows)
        rows, pooling = self._read(rows)
        return run(self.encoder, self.weights, rows, self.adapter, how or pooling)

    def _over_windows(self, rows: Tensor) -> Tensor:
        """The states of all windows, pooled; windows that hold nothing but padding are not run."""
        batch, length = len(rows), self.encoder.config.length
        rows = F.pad(rows, (-rows.shape[1] % length, 0), value=PAD).view(-1, length)
        users = torch.arange(batch, device=rows.device).repeat_interleave(len(rows) // max(1, batch))
        kept = (rows[:, -1] != PAD) | (users != users.roll(-1))  # at least the most recent window of each user
        kept[-1:] = True
        rows, _ = self._read(rows[kept])
        means = run(self.encoder, self.weights, rows, self.adapter, "mean")  # (windows, d)
        states = (rows != PAD).sum(dim=1, keepdim=True)
        totals = means.new_zeros(batch, means.shape[1]).index_add(0, users[kept], means * states)
        n = states.new_zeros(batch, 1).index_add(0, users[kept], states).clamp(min=1)
        return totals / (torch.sqrt(n * length) if self.pooling.how == "root" else n)

    def logits(self, items: Tensor) -> Tensor:
        """Table rows (B, N) -> scores of all labels (B, Y)."""
        return self.scores(self.vectors(items), items)

    def scores(self, vectors: Tensor, items: Tensor) -> Tensor:
        """User vectors (B, d) and what they were made of (B, N) -> scores of all labels (B, Y)."""
        scores = self.head.logits(vectors)
        return scores if self.wide is None else self.wide.beside(scores, items)

    def _read(self, rows: Tensor) -> tuple[Tensor, Pooling]:
        if self.reading == "mask":
            return append_token(rows, MASK), "last"
        if self.encoder.causal:
            return (append_token(rows, TASK) if self.reading == "token" else rows), "last"
        return (wrap_with_token(rows, TASK), "ends") if self.reading == "token" else (rows, "mean")


@torch.no_grad()
def batched_vectors(view: View, inputs: Tensor, batch_size: int = 1024) -> Tensor:
    """User vectors of all inputs (U, N) -> (U, d), in batches of bounded memory."""
    view.encoder.eval()
    batch_size = max(1, batch_size // view.pooling.windows)
    parts = [view.vectors(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size)]
    return torch.cat(parts) if parts else inputs.new_zeros((0, view.head.weight.shape[1]), dtype=torch.float32)
