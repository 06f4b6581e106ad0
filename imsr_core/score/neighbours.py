"""The term `neighbours`: what goes with what the user had. Two kinds of together, in one table.

    steps     C_ij = events of i and j within WINDOW steps of each other in a user's sequence, in either order
    taste     C_ij = sum over users: when one has a new item j, each of the (at most CONTEXT) items i that were new
              last gets an equal share of 1, and j as much from i: whoever has few items says more with each

    s_ij = C_ij / sqrt(d_i d_j),  d_i = sum_j C_ij                                   (cosine-like: no fame by size)
    v_ui = sum over the user's last items j of 2^(-age / half-life) s_ji             column: log(1 + v_ui / EPSILON)

Item-based collaborative filtering (Sarwar et al., WWW 2001); by steps as sequence-aware kNN has it (Ludewig and
Jannach, *Evaluation of session-based recommendation algorithms*, UMUAI 2018). What a user did last is kept beside the
table, and the user's items are those of the personal term, so that a pair across two spans counts as if they had been
one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.ragged import SpanSequences, concatenate, empty_sequences, last_n, restrict_users
from imsr_core.score.pairs import WIDTH, FloatArray, IntArray, Pairs, joined
from imsr_core.score.personal import PersonalTerm
from imsr_core.sorted_keys import numbered, unique

#: Steps within which two events of a user count as a pair, and items that share the vote of a new one.
WINDOW, CONTEXT = 10, 100
#: How fast an item that the user had loses its vote, by kind, in spans. And how many items of a user vote at most.
HALF_LIVES, VOTERS = (1.0, 4.0), 50
#: A vote that counts: about a pair in fifty.
EPSILON = 0.02
#: Neighbours of an item that a vote is for: the most similar of each kind.
SERVED = 50
#: Votes held at once in `NeighboursTerm.at` (users x items).
CHUNK = 4_000_000
KINDS = len(HALF_LIVES)


@dataclass(frozen=True)
class NeighboursTerm:
    """``pairs``: item, item, and how often they went together, by kind; ``degree`` (N, 2) float64 each item's sum of
    that, also of pairs that were cut off; ``tail`` the last `WINDOW` events of each user; ``limit`` the neighbours of
    an item that are kept of each kind, the most frequent (0 = all). ``personal`` holds the items that vote."""

    limit: int
    pairs: Pairs
    degree: FloatArray
    tail: SpanSequences
    personal: PersonalTerm

    columns = ("neighbours_steps", "neighbours_taste")

    @classmethod
    def empty(cls, personal: PersonalTerm, limit: int = 0) -> NeighboursTerm:
        """Of no item."""
        return cls(limit, Pairs.empty(KINDS), np.zeros((0, KINDS)), empty_sequences(), personal)

    def after(self, span: SpanSequences, n_items: int) -> NeighboursTerm:
        """With the events of a span; ``personal`` stays as it was before it."""
        degree = np.zeros((n_items, KINDS))
        degree[: len(self.degree)] = self.degree
        fresh = _summed([*_steps(self.tail, span), *_tastes(self.personal, span)])
        for kind in range(KINDS):
            degree[:, kind] += np.bincount(fresh.owner, weights=fresh.values[:, kind], minlength=n_items)
        merged = self._closest(_sum(self.pairs.of_owners(fresh.owners), fresh))
        tail = last_n(concatenate([self.tail, span]), WINDOW)
        return replace(self, pairs=self.pairs.updated(merged), degree=degree, tail=tail)

    def touched(self, span: SpanSequences) -> IntArray:
        """Items whose neighbours a span may change, asked before it is learnt."""
        users = span.users
        known = self.personal.pairs.of_owners(users).other
        return unique(np.concatenate([span.items, restrict_users(self.tail, users).items, known]))

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (2,)."""
        for kind in range(KINDS):
            if float(weights[kind]):
                scores += weights[kind] * self._votes(users, scores.shape[1], kind)

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 2) the columns of ``items`` (B, C) for ``users`` (B,)."""
        width = max(len(self.degree), int(items.max(initial=0)) + 1)
        wanted = torch.from_numpy(np.ascontiguousarray(items))
        found = torch.zeros(*items.shape, KINDS)
        step = max(1, CHUNK // max(width, 1))
        for first in range(0, len(users), step):
            part = slice(first, first + step)
            for kind in range(KINDS):
                found[part, :, kind] = self._votes(users[part], width, kind).gather(1, wanted[part])
        return found

    def voters(self, users: IntArray, kind: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Position in ``users`` (V,), item (V,) and strength (V,) of the items that vote."""
        mine = self.personal.pairs
        place, rows = mine.rows_of(users)
        order = np.lexsort((-mine.other[rows], -mine.last[rows], place))
        count = np.bincount(place, minlength=len(users))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        kept = order[rank < VOTERS]
        place, rows = place[kept], rows[kept]
        age = (self.personal.until - mine.last[rows]) / self.personal.unit
        return place, mine.other[rows], np.exp2(-age / HALF_LIVES[kind])

    def because(self, users: IntArray, items: IntArray) -> IntArray:
        """(P,) of each pair of user and item, the user's item whose vote for it is the strongest; -1 if none votes."""
        people, place = np.unique(users, return_inverse=True)
        best, found = np.zeros(len(users)), np.full(len(users), -1)
        for kind in range(KINDS):
            owner, voter, strength = self.voters(people, kind)
            count = np.bincount(owner, minlength=len(people))
            start = np.cumsum(count) - count
            for nth in range(int(count.max(initial=0))):
                there = nth < count[place]
                row = (start[place] + nth)[there]
                pair = self.pairs.find(voter[row], items[there])
                vote = np.where(pair >= 0, strength[row] * self.similarity[pair, kind], 0.0)
                better = vote > best[there]
                at = np.flatnonzero(there)[better]
                best[at], found[at] = vote[better], voter[row][better]
        return found

    def _votes(self, users: IntArray, width: int, kind: int) -> Tensor:
        place, items, strength = self.voters(users, kind)
        start, other, similarity = self._served[kind]
        count = start[items + 1] - start[items]
        voter = np.repeat(np.arange(len(items)), count)
        rows = np.arange(len(voter)) + np.repeat(start[items] - (np.cumsum(count) - count), count)
        votes = torch.from_numpy(strength[voter].astype(np.float32) * similarity[rows])
        flat = torch.zeros(len(users) * width)
        flat.index_add_(0, torch.from_numpy((place * width)[voter] + other[rows]), votes)
        return flat.view(len(users), width).div_(EPSILON).log1p_()

    @cached_property
    def _served(self) -> list[tuple[IntArray, IntArray, NDArray[np.float32]]]:
        """Of each kind the `SERVED` most similar neighbours of every item: first row (N + 1,), item (R,), s (R,)."""
        found = []
        for kind in range(KINDS):
            value = self.similarity[:, [kind]]
            near = replace(self.pairs, values=value)
            rows = np.flatnonzero(near.strongest(SERVED) & (value[:, 0] > 0))
            start = np.searchsorted(self.pairs.owner[rows], np.arange(len(self.degree) + 1))
            found.append((start, self.pairs.other[rows], value[rows, 0].astype(np.float32)))
        return found

    @cached_property
    def similarity(self) -> FloatArray:
        """s (R, 2) of each pair, by kind."""
        pairs = self.pairs
        size = np.sqrt(self.degree[pairs.owner] * self.degree[pairs.other])
        return np.divide(pairs.values, size, out=np.zeros_like(pairs.values), where=size > 0)

    def _closest(self, pairs: Pairs) -> Pairs:
        """Of each item the ``limit`` most frequent neighbours of each kind."""
        if not self.limit:
            return pairs
        kept = np.zeros(len(pairs), dtype=bool)
        for kind in range(KINDS):
            kept |= pairs.strongest(self.limit, kind)
        return pairs.take(kept)


def _steps(tail: SpanSequences, span: SpanSequences) -> list[tuple[IntArray, FloatArray]]:
    """Pairs of a span's events with what came up to `WINDOW` steps before: keys, and counts by kind."""
    sequences = concatenate([restrict_users(tail, span.users), span])
    position = np.arange(sequences.n_events)
    start = np.repeat(sequences.offsets[:-1], sequences.counts)
    fresh = np.zeros(sequences.n_events, dtype=bool)  # concatenated: a user's own events of the span are the last
    ends = sequences.offsets[1:][np.searchsorted(sequences.users, span.users)]
    fresh[np.arange(span.n_events) + np.repeat(ends - span.offsets[1:], span.counts)] = True
    found = []
    for step in range(1, WINDOW + 1):
        later = position[fresh & (position - step >= start)]
        one, other = sequences.items[later - step], sequences.items[later]
        found.append(_counted(one, other, np.ones(len(one)), kind=0))
    return found


def _tastes(personal: PersonalTerm, span: SpanSequences) -> list[tuple[IntArray, FloatArray]]:
    """Pairs of what is new to a user in a span with what was new before: keys, and shares by kind."""
    known = personal.pairs.of_owners(span.users)
    keys, place = numbered(span.users[span.rows] * WIDTH + span.items)
    first = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(first, place, span.timestamps)
    new = known.find(keys // WIDTH, keys % WIDTH) < 0
    keys, first = keys[new], first[new]
    user = np.concatenate([known.owner, keys // WIDTH])
    item = np.concatenate([known.other, keys % WIDTH])
    order = np.lexsort((item, np.concatenate([known.values[:, 1].astype(np.int64), first]), user))
    user, item = user[order], item[order]
    fresh = order >= len(known)
    start = np.searchsorted(user, user)
    earlier = np.minimum(np.arange(len(user)) - start, CONTEXT)
    found = []
    for step in range(1, int(earlier[fresh].max(initial=0)) + 1):
        later = np.flatnonzero(fresh & (earlier >= step))
        found.append(_counted(item[later - step], item[later], 1.0 / earlier[later], kind=1))
    return found


def _counted(one: IntArray, other: IntArray, share: FloatArray, kind: int) -> tuple[IntArray, FloatArray]:
    """Each pair in both directions, with its share in the column of its kind."""
    different = one != other
    one, other, share = one[different], other[different], share[different]
    values = np.zeros((2 * len(one), KINDS))
    values[:, kind] = np.concatenate([share, share])
    return np.concatenate([one * WIDTH + other, other * WIDTH + one]), values


def _summed(parts: list[tuple[IntArray, FloatArray]]) -> Pairs:
    if not parts:
        return Pairs.empty(KINDS)
    keys, place = numbered(np.concatenate([keys for keys, _ in parts]))
    values = np.concatenate([values for _, values in parts])
    sums = np.zeros((len(keys), KINDS))
    for kind in range(KINDS):
        sums[:, kind] = np.bincount(place, weights=values[:, kind], minlength=len(keys))
    return Pairs(keys // WIDTH, keys % WIDTH, np.zeros(len(keys), dtype=np.int64), sums)


def _sum(old: Pairs, fresh: Pairs) -> Pairs:
    row = old.find(fresh.owner, fresh.other)
    both = row >= 0
    values = fresh.values.copy()
    values[both] += old.values[row[both]]
    untouched = np.ones(len(old), dtype=bool)
    untouched[row[both]] = False
    return joined([old.take(untouched), replace(fresh, values=values)])
