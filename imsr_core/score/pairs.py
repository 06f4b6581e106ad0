"""Pairs with values: which items a user had, which items go with an item. One ragged table for both.

    owner   [ 3,  3,  8 ]        sorted by (owner, other), each pair once
    other   [ 1,  7,  1 ]
    values  (R, C) float64, columns by name of the term that keeps the table
    last    (R,) int64, microseconds: when the pair was touched

An owner that is not touched keeps its rows as they are: values that fade are kept as of ``last`` and fade when they
are read. So a span costs what it touches, and the rows of the touched owners are all that has to be written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from imsr_core.sorted_keys import is_in, unique

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

#: Others are below this, so that a pair is one number.
WIDTH = 2**31
#: Pairs are few if the table has so many for each of them.
FEW = 8


@dataclass(frozen=True, eq=False)
class Pairs:
    """R pairs of owners and others; see above."""

    owner: IntArray
    other: IntArray
    last: IntArray
    values: FloatArray

    @classmethod
    def empty(cls, columns: int) -> Pairs:
        """No pair, with room for this many values."""
        none = np.zeros(0, dtype=np.int64)
        return cls(none, none, none, np.zeros((0, columns)))

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def keys(self) -> IntArray:
        """(R,) each pair as one number, ascending."""
        return self.owner * WIDTH + self.other

    @property
    def owners(self) -> IntArray:
        """Those who own a pair, ascending."""
        return unique(self.owner)

    def take(self, rows: NDArray | slice) -> Pairs:
        """The rows that an ascending index, a mask (R,) or a slice selects."""
        return Pairs(self.owner[rows], self.other[rows], self.last[rows], self.values[rows])

    def between(self, first: int, end: int) -> Pairs:
        """The pairs of owners from ``first`` to below ``end``, as views."""
        return self.take(slice(*np.searchsorted(self.owner, [first, end]).tolist()))

    def of_owners(self, owners: IntArray) -> Pairs:
        """The pairs of ``owners`` only."""
        return self.take(is_in(self.owner, owners))

    def updated(self, changes: Pairs) -> Pairs:
        """The owners of ``changes`` have exactly the pairs they have there; all others keep theirs."""
        if not len(self):
            return changes
        return joined([self.take(~is_in(self.owner, changes.owners)), changes])

    def spans_of(self, owners: IntArray) -> tuple[IntArray, IntArray]:
        """First row and number of rows of each of ``owners`` (B,)."""
        first = np.searchsorted(self.owner, owners)
        return first, np.searchsorted(self.owner, owners, side="right") - first

    def rows_of(self, owners: IntArray) -> tuple[IntArray, IntArray]:
        """All rows of ``owners`` (B,): position in ``owners`` of each (P,), and the row (P,)."""
        first, count = self.spans_of(owners)
        place = np.repeat(np.arange(len(owners)), count)
        return place, np.arange(len(place)) + np.repeat(first - (np.cumsum(count) - count), count)

    def find(self, owners: IntArray, others: IntArray) -> IntArray:
        """Row of each pair, -1 where there is none; any shape."""
        if not len(self):
            return np.full(others.shape, -1)
        if others.size * FEW > len(self):
            return _place(owners * WIDTH + others, self.keys)
        people = unique(owners)  # of a few among many the rest of the table is not looked at
        place, rows = self.rows_of(people)
        found = _place(np.searchsorted(people, owners) * WIDTH + others, place * WIDTH + self.other[rows])
        return np.append(rows, -1)[found]

    def newest(self, limit: int) -> NDArray[np.bool_]:
        """(R,) at most ``limit`` pairs of each owner (0 = all), the last touched; of those touched at once, the higher
        others."""
        _, count = _runs(self.owner)
        many = count > limit
        kept = np.repeat(~many, count)
        rows = np.flatnonzero(~kept) if limit else np.zeros(0, dtype=np.int64)
        if not len(rows):
            return np.ones(len(self), dtype=bool)
        count = count[many]
        place = np.repeat(np.arange(len(count), dtype=_smallest(len(count))), count)
        backwards = np.arange(len(rows))[::-1]  # the higher others first, where some were touched at once
        order = backwards[np.argsort(-self.last[rows[backwards]], kind="stable")]
        order = rows[order[np.argsort(place[order], kind="stable")]]
        rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        kept[order[rank < limit]] = True
        return kept

    def strongest(self, limit: int, column: int = 0) -> NDArray[np.bool_]:
        """(R,) the ``limit`` pairs of each owner with the most of a value (0 or more), lower others first at a tie."""
        return strongest(self.owner, self.values[:, column], limit)


def strongest(owner: IntArray, value: FloatArray, limit: int) -> NDArray[np.bool_]:
    """(R,) the ``limit`` rows of each ``owner`` (R,), sorted, with the most of a ``value`` (R,) of 0 or more; the first
    ones at a tie."""
    _, count = _runs(owner)
    many = count > limit
    kept = np.repeat(~many, count)
    rows = np.flatnonzero(~kept)
    if not len(rows):
        return kept
    # the bits of a positive float32 are in the order of its value: owner and value become one number to sort by
    bits = value[rows].astype(np.float32).view(np.uint32).astype(np.int64)
    first = np.cumsum(count[many]) - count[many]
    place = np.repeat(np.arange(len(first)), count[many])
    key = place * 2**32 + (2**32 - 1 - bits)
    last = np.sort(key)[first + limit - 1]  # the weakest that has a place, by owner
    stronger, tie = key < last[place], key == last[place]
    left = limit - np.add.reduceat(stronger.astype(np.int64), first)
    tied = np.cumsum(tie)
    rank = tied - (tied[first] - tie[first])[place]  # from 1 among those that are as weak
    kept[rows] = stronger | (tie & (rank <= left[place]))
    return kept


def _runs(owner: IntArray) -> tuple[IntArray, IntArray]:
    """First row and number of rows of each owner, in their order."""
    first = np.ones(len(owner), dtype=bool)
    first[1:] = owner[1:] != owner[:-1]
    start = np.flatnonzero(first)
    return start, np.diff(start, append=len(owner))


def _place(wanted: IntArray, keys: IntArray) -> IntArray:
    """Where each of ``wanted`` (any shape) is among ``keys`` (R,), ascending; -1 where it is not."""
    if not len(keys):
        return np.full(wanted.shape, -1)
    row = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[row] == wanted, row, -1)


def joined(parts: list[Pairs]) -> Pairs:
    """All rows of tables that share no pair."""
    rows = stacked(parts)
    keys = rows.keys
    if bool((keys[1:] > keys[:-1]).all()):
        return rows
    return rows.take(np.argsort(keys, kind="stable"))  # merges what is sorted already


def stacked(parts: list[Pairs]) -> Pairs:
    """The rows of tables, one after the other: the owners of each one must be above those of the one before."""
    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    return Pairs(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("owner", "other", "last", "values"))
    )


def gathered(parts: Iterable[Pairs], most: int) -> Pairs:
    """`stacked`, of tables of which one is there at a time; ``most`` rows at most. Room that is not used is not taken:
    no page of it is ever written to."""
    room: tuple[NDArray, ...] = ()
    end = 0
    for part in parts:
        columns = (part.owner, part.other, part.last, part.values)
        room = room or tuple(np.empty((most, *column.shape[1:]), column.dtype) for column in columns)
        for space, column in zip(room, columns, strict=True):
            space[end : end + len(part)] = column
        end += len(part)
    return Pairs(*(space[:end] for space in room))


def fading(age: NDArray, half_lives: NDArray) -> FloatArray:
    """(R, H): what is left after ``age`` (R,), in the unit of ``half_lives`` (H,)."""
    left = torch.from_numpy(-np.asarray(age, dtype=np.float64)[:, None] / half_lives)
    return left.exp2_().numpy()  # several at once, where NumPy takes one after the other


def _smallest(n: int) -> type[np.unsignedinteger]:
    """A type for numbers below ``n``: what has 16 bits is sorted in one pass."""
    return np.uint16 if n <= 2**16 else np.uint64
