"""From a span's sequences to training batches: which event is a target, and which events are its history.

The history of a target is what the same user did earlier *in the same span*: incremental learning sees nothing else.
Every event is a target once an epoch (up to a cap for very active users). The first event of a span has an empty
history; it is a usable target only for a user with stored interests, which then stand in for the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.ragged import SpanSequences

#: Batches that are cut from one shuffled pool, sorted by interests and length of history, so that a batch pads little.
POOL_BATCHES = 16
#: Numbers of interests within this of each other count as alike.
ALIKE = 4


@dataclass(frozen=True)
class TargetBatch:
    """B targets: ``user_row`` (B,) positions in the span's users; ``history`` (B, n) item indices, most recent
    last, 0 where padded; ``mask`` (B, n) True for real items; ``target`` (B,) item indices."""

    user_row: Tensor
    history: Tensor
    mask: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class TargetSampler:
    """Draws the targets of an epoch.

    ``has_prior`` (U,) bool: users with stored interests. ``interests`` (U,): how many each user has. ``positions``
    (P,): events that may be targets.
    """

    sequences: SpanSequences
    has_prior: NDArray[np.bool_]
    interests: NDArray[np.int64]
    positions: NDArray[np.int64]
    history: int
    window: int
    per_user: int
    batch_size: int

    @classmethod
    def of(
        cls,
        sequences: SpanSequences,
        has_prior: NDArray[np.bool_],
        interests: NDArray[np.int64],
        *,
        history: int,
        window: int,
        per_user: int,
        batch_size: int,
    ) -> TargetSampler:
        """All usable events of the span: those with a history, or of a user with stored interests."""
        local = np.arange(sequences.n_events) - np.repeat(sequences.offsets[:-1], sequences.counts)
        usable = (local > 0) | has_prior[sequences.rows]
        positions = np.flatnonzero(usable)
        return cls(sequences, has_prior, interests, positions, history, window, per_user, batch_size)

    def split(self, share: float, limit: int, rng: np.random.Generator) -> tuple[TargetSampler, TargetSampler]:
        """Two samplers over disjoint events: the rest, and a random ``share`` of at most ``limit`` events."""
        size = min(int(share * len(self.positions)), limit)
        order = rng.permutation(len(self.positions))
        held, rest = np.sort(self.positions[order[:size]]), np.sort(self.positions[order[size:]])
        return self._over(rest), self._over(held)

    def _over(self, positions: NDArray[np.int64]) -> TargetSampler:
        rest = (self.history, self.window, self.per_user, self.batch_size)
        return TargetSampler(self.sequences, self.has_prior, self.interests, positions, *rest)

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The epoch's events, shuffled: all positions, or a random ``per_user`` of a user that has more."""
        shuffled = self.positions[rng.permutation(len(self.positions))]
        if not self.per_user or not len(shuffled):
            return shuffled
        users = self.sequences.rows[shuffled]
        by_user = np.argsort(users, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(users[by_user]) > 0])
        rank = np.arange(len(users)) - np.repeat(starts, np.diff(np.r_[starts, len(users)]))
        keep = np.empty(len(users), dtype=bool)
        keep[by_user] = rank < self.per_user
        return shuffled[keep]

    def batches_per_epoch(self) -> int:
        """Batches that `epoch` yields."""
        counts = np.bincount(self.sequences.rows[self.positions], minlength=len(self.sequences))
        drawn = np.minimum(counts, self.per_user).sum() if self.per_user else counts.sum()
        return int(-(-drawn // self.batch_size))

    def epoch(self, rng: np.random.Generator) -> Iterator[TargetBatch]:
        """All batches of one epoch, in random order."""
        events = self.draw(rng)
        starts = np.repeat(self.sequences.offsets[:-1], self.sequences.counts)
        ends = np.repeat(self.sequences.offsets[1:], self.sequences.counts)
        length = np.minimum(events - starts[events], self.history)
        pool = np.arange(len(events)) // (self.batch_size * POOL_BATCHES)
        breadth = self.interests[self.sequences.rows[events]] // ALIKE
        events = events[np.lexsort((length, breadth, pool))]
        ahead = rng.integers(0, self.window, size=len(events))
        targets = np.minimum(events + ahead, ends[events] - 1)
        batches = np.arange(0, len(events), self.batch_size)
        for first in rng.permutation(batches):
            part = slice(first, first + self.batch_size)
            yield self._batch(events[part], targets[part], starts[events[part]])

    def _batch(self, events: NDArray, targets: NDArray, starts: NDArray) -> TargetBatch:
        width = int(np.minimum(events - starts, self.history).max())
        index = events[:, None] - np.arange(max(width, 1), 0, -1)
        mask = index >= starts[:, None]
        items = np.where(mask, self.sequences.items[np.where(mask, index, 0)], 0)
        return TargetBatch(
            user_row=torch.from_numpy(self.sequences.rows[events]),
            history=torch.from_numpy(items),
            mask=torch.from_numpy(mask),
            target=torch.from_numpy(self.sequences.items[targets]),
        )


def recent_items(sequences: SpanSequences, first: int, last: int, n: int) -> tuple[Tensor, Tensor]:
    """The n most recent items of users first .. last - 1: item indices (b, n) and mask (b, n), padded in front."""
    starts, ends = sequences.offsets[first:last], sequences.offsets[first + 1 : last + 1]
    width = max(int(np.minimum(ends - starts, n).max()) if len(starts) else 0, 1)
    index = ends[:, None] - np.arange(width, 0, -1)
    mask = index >= starts[:, None]
    if not sequences.n_events:
        return torch.zeros(index.shape, dtype=torch.int64), torch.from_numpy(mask)
    items = np.where(mask, sequences.items[np.where(mask, index, 0)], 0)
    return torch.from_numpy(items), torch.from_numpy(mask)
