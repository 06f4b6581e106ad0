"""The same work for everybody: made-up histories and targets, one size of batch and vector, as many negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imsr_core.ragged import SpanSequences


@dataclass(frozen=True)
class Problem:
    """``users`` users with ``length`` events each of ``items`` items; K interests, d-dimensional, batches of B."""

    items: int
    users: int = 2_000
    length: int = 21
    dim: int = 64
    interests: int = 4
    batch: int = 128
    negatives: int = 10

    @property
    def history(self) -> int:
        """Items that a target's history has at most."""
        return self.length - 1

    def sequences(self) -> SpanSequences:
        """Everybody's events, popular items more often."""
        rng = np.random.default_rng(self.items)
        items = (self.items * rng.random(self.users * self.length) ** 2).astype(np.int64)
        offsets = np.arange(self.users + 1) * self.length
        return SpanSequences(np.arange(self.users), offsets, items, np.arange(len(items)))

    def batches(self, count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Histories (B, n) of full length, targets (B,) and negatives (B, 10): what peers take of the same events."""
        span, rng = self.sequences(), np.random.default_rng(1)
        rows = span.items.reshape(self.users, self.length)
        found = []
        for _ in range(count):
            some = rows[rng.integers(self.users, size=self.batch)]
            found.append((some[:, :-1], some[:, -1], rng.integers(self.items, size=(self.batch, self.negatives))))
        return found
