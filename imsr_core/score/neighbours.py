"""The term `neighbours`: what goes with what the user had of late.

    C_ij = events of i and j within WINDOW steps of each other, in either order      (a user's own sequence)
    s_ij = C_ij / sqrt(d_i d_j),  d_i = sum_j C_ij                                   (cosine-like: no fame by size)
    v_ui = sum over the user's last items j of 2^(-age / HALF_LIFE) s_ji              column: log(1 + v_ui / EPSILON)

Item-based collaborative filtering (Sarwar et al., WWW 2001) on steps instead of users, as sequence-aware kNN has it
(Ludewig and Jannach, *Evaluation of session-based recommendation algorithms*, UMUAI 2018). A user's last steps are
kept beside the table, so that a pair across two spans counts as if they had been one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences, concatenate, empty_sequences, last_n, restrict_users
from imsr_core.score.pairs import WIDTH, FloatArray, IntArray, Pairs, joined
from imsr_core.score.personal import PersonalTerm

#: Steps within which two events of a user count as a pair.
WINDOW = 10
#: In spans: how fast an item that the user had loses its vote. And how many items of a user vote at most.
HALF_LIFE, VOTERS = 1.0, 50
#: A vote that counts: about a pair in fifty.
EPSILON = 0.02


@dataclass(frozen=True)
class NeighboursTerm:
    """``pairs``: item, item, and how often they went together; ``degree`` (N,) float64 each item's sum of that, also
    of pairs that were cut off; ``tail`` the last `WINDOW` events of each user; ``limit`` the neighbours of an item that
    are kept, the most frequent (0 = all), and ``personal`` the items that vote."""

    limit: int
    pairs: Pairs
    degree: FloatArray
    tail: SpanSequences
    personal: PersonalTerm

    columns = ("neighbours",)

    @classmethod
    def empty(cls, personal: PersonalTerm, limit: int = 0) -> NeighboursTerm:
        """Of no item."""
        return cls(limit, Pairs.empty(1), np.zeros(0), empty_sequences(), personal)

    def after(self, span: SpanSequences, n_items: int) -> NeighboursTerm:
        """With the events of a span."""
        degree = np.zeros(n_items)
        degree[: len(self.degree)] = self.degree
        fresh = _steps(concatenate([restrict_users(self.tail, span.users), span]), span)
        degree += np.bincount(fresh.owner, weights=fresh.values[:, 0], minlength=n_items)
        merged = _sum(self.pairs.of_owners(fresh.owners), fresh).strongest(self.limit)
        tail = last_n(concatenate([self.tail, span]), WINDOW)
        return replace(self, pairs=self.pairs.updated(merged), degree=degree, tail=tail)

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (1,)."""
        scores += weights[0] * self._votes(users, scores.shape[1])

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 1) the column of ``items`` (B, C) for ``users`` (B,)."""
        width = max(len(self.degree), int(items.max(initial=0)) + 1)
        return self._votes(users, width).gather(1, torch.from_numpy(items))[..., None]

    def voters(self, users: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Position in ``users`` (V,), item (V,) and strength (V,) of the items that vote."""
        mine = self.personal.pairs
        place, rows = mine.rows_of(users)
        order = np.lexsort((-mine.other[rows], -mine.last[rows], place))
        count = np.bincount(place, minlength=len(users))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        kept = order[rank < VOTERS]
        place, rows = place[kept], rows[kept]
        age = (self.personal.until - mine.last[rows]) / self.personal.unit
        return place, mine.other[rows], np.exp2(-age / HALF_LIFE)

    def _votes(self, users: IntArray, width: int) -> Tensor:
        place, items, strength = self.voters(users)
        voter, rows = self.pairs.rows_of(items)
        votes = strength[voter] * self._similarity[rows]
        flat = torch.zeros(len(users) * width)
        index = place[voter] * width + self.pairs.other[rows]
        flat.index_add_(0, torch.from_numpy(index), torch.from_numpy(votes).float())
        return flat.view(len(users), width).div_(EPSILON).log1p_()

    @cached_property
    def _similarity(self) -> FloatArray:
        """s (R,) of each pair."""
        pairs = self.pairs
        return pairs.values[:, 0] / np.sqrt(self.degree[pairs.owner] * self.degree[pairs.other])


def _steps(sequences: SpanSequences, span: SpanSequences) -> Pairs:
    """Pairs of the span's events with what came up to `WINDOW` steps before, in both directions."""
    position = np.arange(sequences.n_events)
    start = np.repeat(sequences.offsets[:-1], sequences.counts)
    fresh = np.zeros(sequences.n_events, dtype=bool)  # concatenated: a user's own events of the span are the last
    ends = sequences.offsets[1:][np.searchsorted(sequences.users, span.users)]
    fresh[np.arange(span.n_events) + np.repeat(ends - span.offsets[1:], span.counts)] = True
    keys = []
    for step in range(1, WINDOW + 1):
        later = position[fresh & (position - step >= start)]
        one, other = sequences.items[later - step], sequences.items[later]
        different = one != other
        keys += [one[different] * WIDTH + other[different], other[different] * WIDTH + one[different]]
    unique, count = np.unique(np.concatenate(keys), return_counts=True)
    zero = np.zeros(len(unique), dtype=np.int64)
    return Pairs(unique // WIDTH, unique % WIDTH, zero, count[:, None].astype(np.float64))


def _sum(old: Pairs, fresh: Pairs) -> Pairs:
    row = old.find(fresh.owner, fresh.other)
    both = row >= 0
    values = fresh.values.copy()
    values[both] += old.values[row[both]]
    untouched = np.ones(len(old), dtype=bool)
    untouched[row[both]] = False
    return joined([old.take(untouched), replace(fresh, values=values)])
