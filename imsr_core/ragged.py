"""Sequences of many users as plain arrays: one flat row of events, cut into users by offsets.

    users       [ 3,       8,    9       ]        sorted, each once
    offsets     [ 0,       3,    4,     6]        user r owns events offsets[r] : offsets[r + 1]
    items       [ 5, 1, 5, 7,    2, 2    ]        in the order of time within a user
    timestamps  [10,20,30, 15,   11,40   ]        microseconds since 1970, UTC

Every operation is numpy on whole arrays and returns a new ``SpanSequences``; nothing loops over users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from imsr_core.sorted_keys import is_in, unique

IntArray = NDArray[np.int64]


class SequenceError(ImsrError):
    """Arrays that are not valid sequences: wrong type or length, unsorted, or negative."""


@dataclass(frozen=True, eq=False)
class SpanSequences:
    """Events of U users, ragged.

    Attributes:
        users: (U,) int64, strictly increasing dense user indices.
        offsets: (U + 1,) int64, from 0 to E, never decreasing. A user may own no event.
        items: (E,) int64 dense item indices.
        timestamps: (E,) int64 microseconds since 1970 UTC, never decreasing within a user.

    Raises:
        SequenceError: the arrays' types or lengths do not fit (the values are checked by ``validate``).
    """

    users: IntArray
    offsets: IntArray
    items: IntArray
    timestamps: IntArray

    def __post_init__(self) -> None:
        for name in ("users", "offsets", "items", "timestamps"):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.int64 or array.ndim != 1:
                raise SequenceError(f"sequences: {name} must be a one-dimensional int64 array")
        if len(self.offsets) != len(self.users) + 1:
            raise SequenceError(
                f"sequences: {counted(len(self.users), 'user')} need {counted(len(self.users) + 1, 'offset')}"
            )
        if len(self.items) != len(self.timestamps):
            raise SequenceError("sequences: items and timestamps differ in length")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.items):
            raise SequenceError(f"sequences: offsets must run from 0 to {len(self.items)}")

    def __len__(self) -> int:
        """U, the number of users."""
        return len(self.users)

    @property
    def n_events(self) -> int:
        """E, the number of events of all users."""
        return len(self.items)

    @property
    def counts(self) -> IntArray:
        """(U,) events of each user."""
        return np.diff(self.offsets)

    @cached_property
    def rows(self) -> IntArray:
        """(E,) position in ``users`` of the user who owns each event; made once, and not to be written to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    def forget_rows(self) -> None:
        """Let go of ``rows``, which are made again when they are asked for."""
        vars(self).pop("rows", None)

    def validate(self) -> SpanSequences:
        """Check every value, in O(E), and return self.

        Raises:
            SequenceError: users not strictly increasing, offsets or time running backwards, an index below 0.
        """
        if np.any(np.diff(self.users) <= 0):
            raise SequenceError("sequences: users must be strictly increasing")
        if np.any(self.counts < 0):
            raise SequenceError("sequences: offsets must never decrease")
        if len(self) and self.users[0] < 0:
            raise SequenceError("sequences: a user index is negative")
        if self.n_events and self.items.min() < 0:
            raise SequenceError("sequences: an item index is negative")
        backwards = np.diff(self.timestamps) < 0
        rows = self.rows
        wrong = np.flatnonzero(backwards & (rows[1:] == rows[:-1]))
        if len(wrong):
            raise SequenceError(f"sequences: time runs backwards in user {self.users[rows[wrong[0]]]}")
        return self


def empty_sequences() -> SpanSequences:
    """Sequences of no user."""
    none = np.zeros(0, dtype=np.int64)
    return SpanSequences(users=none, offsets=np.zeros(1, dtype=np.int64), items=none, timestamps=none)


def from_events(users: IntArray, items: IntArray, timestamps: IntArray) -> SpanSequences:
    """Group a flat log into sequences; events of one user and one time keep their order in the log.

    Args:
        users: (E,) user of each event, in any order.
        items: (E,) item of each event.
        timestamps: (E,) time of each event, microseconds.
    """
    order = np.lexsort((timestamps, users))
    owners, counts = np.unique(users, return_counts=True)
    return SpanSequences(owners, _offsets(counts), items[order], timestamps[order])


def concatenate(parts: Sequence[SpanSequences]) -> SpanSequences:
    """Join several spans, user by user, in the order of time.

    Parts are given oldest first: at equal times an earlier part's events come first, and within a part the
    order is kept. A user without an event in any part stays, without events.
    """
    parts = [part for part in parts if len(part)]
    if len(parts) <= 1:
        return parts[0] if parts else empty_sequences()
    users = unique(np.concatenate([part.users for part in parts]))
    rows = np.concatenate([np.searchsorted(users, part.users)[part.rows] for part in parts])
    items = np.concatenate([part.items for part in parts])
    timestamps = np.concatenate([part.timestamps for part in parts])
    order = np.lexsort((timestamps, rows))
    counts = np.bincount(rows, minlength=len(users))
    return SpanSequences(users, _offsets(counts), items[order], timestamps[order])


def take_rows(sequences: SpanSequences, rows: IntArray) -> SpanSequences:
    """The users at these positions (R,) of ``users``, in this order (which must leave users increasing)."""
    starts, counts = sequences.offsets[:-1][rows], sequences.counts[rows]
    return _gather(sequences, sequences.users[rows], starts, counts)


def slice_rows(sequences: SpanSequences, start: int, stop: int) -> SpanSequences:
    """The users at positions start : stop, as views (no event is copied)."""
    start, stop, _ = slice(start, stop).indices(len(sequences))
    stop = max(start, stop)
    first, last = sequences.offsets[start], sequences.offsets[stop]
    return SpanSequences(
        users=sequences.users[start:stop],
        offsets=sequences.offsets[start : stop + 1] - first,
        items=sequences.items[first:last],
        timestamps=sequences.timestamps[first:last],
    )


def pieces_of(sequences: SpanSequences, events: int) -> Iterator[SpanSequences]:
    """The sequences a few users at a time, as views: of so many ``events`` at most, or of one user. At least one."""
    first, ends = 0, sequences.offsets[1:]
    while True:
        last = int(np.searchsorted(ends, sequences.offsets[first] + events, side="right"))
        last = len(sequences) if last >= len(sequences) else max(last, first + 1)
        yield slice_rows(sequences, first, last)
        if last >= len(sequences):
            return
        first = last


def restrict_users(sequences: SpanSequences, users: IntArray) -> SpanSequences:
    """Those of ``users`` (any order, may repeat) that the sequences have."""
    return take_rows(sequences, np.flatnonzero(is_in(sequences.users, users)))


def last_n(sequences: SpanSequences, n: int) -> SpanSequences:
    """Each user's n most recent events (all of them where there are fewer); n >= 0."""
    counts = np.minimum(sequences.counts, n)
    return _gather(sequences, sequences.users, sequences.offsets[1:] - counts, counts)


def all_but_last(sequences: SpanSequences, n: int) -> SpanSequences:
    """Each user's events without the n most recent ones; a user may be left without events."""
    counts = np.maximum(sequences.counts - n, 0)
    return _gather(sequences, sequences.users, sequences.offsets[:-1], counts)


def split_at(sequences: SpanSequences, counts: IntArray) -> tuple[SpanSequences, SpanSequences]:
    """Each user's first ``counts`` (U,) events, and the rest; a user may be left without events in either."""
    first = _gather(sequences, sequences.users, sequences.offsets[:-1], counts)
    rest = _gather(sequences, sequences.users, sequences.offsets[:-1] + counts, sequences.counts - counts)
    return first, rest


def between(sequences: SpanSequences, start: int, end: int) -> SpanSequences:
    """Each user's events with start <= timestamp < end (microseconds); users without such an event stay."""
    keep = (sequences.timestamps >= start) & (sequences.timestamps < end)
    counts = np.bincount(sequences.rows[keep], minlength=len(sequences))
    return SpanSequences(sequences.users, _offsets(counts), sequences.items[keep], sequences.timestamps[keep])


def newest_time(before: int, span: SpanSequences) -> int:
    """The time of the newest event so far (microseconds): of those of a span, which has some, and ``before``, 0 where
    there was none yet. Times before 1970 are below 0."""
    own = int(span.timestamps.max())
    return max(before, own) if before else own


def drop_empty(sequences: SpanSequences) -> SpanSequences:
    """Only the users who own at least one event; the very same sequences where all do."""
    if bool((sequences.counts > 0).all()):
        return sequences
    return take_rows(sequences, np.flatnonzero(sequences.counts > 0))


def _gather(sequences: SpanSequences, users: IntArray, starts: IntArray, counts: IntArray) -> SpanSequences:
    """Users (R,) owning counts[r] consecutive events from starts[r] of the flat arrays."""
    offsets = _offsets(counts)
    events = np.arange(offsets[-1], dtype=np.int64) + np.repeat(starts - offsets[:-1], counts)
    return SpanSequences(users, offsets, sequences.items[events], sequences.timestamps[events])


def _offsets(counts: NDArray[np.integer]) -> IntArray:
    """(R,) counts -> (R + 1,) offsets."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets
