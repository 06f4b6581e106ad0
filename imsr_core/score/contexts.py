"""What a span's events are counted together with: the log of the term `neighbours`, before it is counted.

    steps     a user's last few events before the span, and the span's
    taste     the items that were new to a user last before the span, and those that are new in it

    user    [ 3, 3, 3, 3,   8, 8 ]        rows of a user together, in the order of time
    item    [ 1, 7, 4, 1,   2, 5 ]
    fresh   [ 0, 0, 1, 1,   1, 1 ]        of the span: each counts with what lies up to `REACH` rows before it

Of a hundred rows a taste counts with `PARTNERS`, evenly spread: as good as all of them (on three logs, HR@20 of the
counters), and a third of the work.

A hundred events give ten thousand pairs, and these few rows say all of them. So this is what a span writes; pairs are
made of it for the items that somebody asks about, and of all of them only when a table is counted anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from imsr_core.errors import ImsrError
from imsr_core.ragged import SpanSequences, concatenate, restrict_users
from imsr_core.score.pairs import WIDTH, FloatArray, IntArray, Pairs
from imsr_core.sorted_keys import numbered, unique

#: The kinds of together, and how many rows before it an event counts with.
KINDS, REACH = ("steps", "taste"), (10, 100)
STEPS, TASTE = 0, 1
WINDOW, CONTEXT = REACH
#: Rows among those that it counts with, by kind.
PARTNERS = (10, 20)

#: A pair of items and what it counts are one number: two items of `bits` bits, and a code of so many.
CODE_BITS = 8
_STEP = 255
#: What a code counts, by kind: a step is 1; a taste of code n is the n-th part of a vote.
COUNTS = np.zeros((len(KINDS), 2**CODE_BITS))
COUNTS[STEPS, _STEP] = 1.0
COUNTS[TASTE, 1 : PARTNERS[TASTE] + 1] = 1.0 / np.arange(1, PARTNERS[TASTE] + 1)
#: Parts of a vote that make sums of votes whole numbers, in whatever order they are added up.
PARTS = math.lcm(*range(1, PARTNERS[TASTE] + 1))
#: Entries, or rows, that are looked at together: what is made of them stays near the processor.
PIECE = 250_000

SmallArray = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Contexts:
    """``kind`` (E,) int8, ``user`` and ``item`` (E,) int32, and ``fresh`` (E,) bool; see above. Rows of a kind come
    together, steps first. Made by `packed`: they are as many as a log's events."""

    kind: NDArray[np.int8]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    fresh: NDArray[np.bool_]

    @classmethod
    def packed(cls, kind: NDArray, user: NDArray, item: NDArray, fresh: NDArray[np.bool_]) -> Contexts:
        """Of columns (E,) of any integers."""
        short = np.int32
        return cls(
            kind.astype(np.int8, copy=False), user.astype(short, copy=False), item.astype(short, copy=False), fresh
        )

    @classmethod
    def of(cls, tail: SpanSequences, had: Pairs, span: SpanSequences) -> Contexts:
        """A span after ``tail``, the last `WINDOW` events of each user, and ``had``, what the users had.

        The values of ``had`` hold in their second column when the user first had the item.
        """
        parts = [_steps(tail, span), _tastes(had, span)]
        user, item, fresh = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls.packed(np.repeat([STEPS, TASTE], [len(part[0]) for part in parts]), user, item, fresh)

    @classmethod
    def together(cls, parts: Sequence[Contexts]) -> Contexts:
        """Those of users, and of users above them."""
        ordered = [(part, part._of_kind(kind)) for kind in range(len(KINDS)) for part in parts]
        columns = (np.concatenate([getattr(part, f.name)[rows] for part, rows in ordered]) for f in fields(cls))
        return cls(*columns)

    def __len__(self) -> int:
        return len(self.item)

    @property
    def place(self) -> IntArray:
        """(E,) how many rows of its user lie before each row."""
        start = self._starts
        return np.arange(len(self)) - np.repeat(start, np.diff(start, append=len(self)))

    @cached_property
    def partners(self) -> SmallArray:
        """(E,) how many of the rows before it each row counts with."""
        return np.where(self.fresh, np.minimum(self._near, np.array(PARTNERS, dtype=np.uint8)[self.kind]), np.uint8(0))

    @cached_property
    def _code(self) -> SmallArray:
        """(E,) the code of what each row counts with others."""
        return np.where(self.kind == STEPS, np.uint8(_STEP), self.partners)

    @cached_property
    def followers(self) -> SmallArray:
        """(E,) how many of the rows after it, at most, count with each row: all of them where all are fresh."""
        start, found = np.append(self._starts, len(self)), np.empty(len(self), dtype=np.uint8)
        for kind, reach in enumerate(REACH):
            for rows in self._pieces_of(kind):
                left = start[np.searchsorted(start, rows, side="right")] - 1 - rows
                found[rows] = _ahead(kind)[1][self._near[rows], np.minimum(left, reach)]
        return found

    @cached_property
    def _near(self) -> SmallArray:
        """(E,) how many rows of its user lie before each row, within its reach."""
        start, found = self._starts, np.empty(len(self), dtype=np.uint8)
        for kind, reach in enumerate(REACH):
            for rows in self._pieces_of(kind):
                place = rows - start[np.searchsorted(start, rows, side="right") - 1]
                found[rows] = np.minimum(place, reach)
        return found

    @property
    def _starts(self) -> IntArray:
        """The first row of each user, by kind."""
        new_user = np.ones(len(self), dtype=bool)
        new_user[1:] = (self.user[1:] != self.user[:-1]) | (self.kind[1:] != self.kind[:-1])
        return np.flatnonzero(new_user)

    def _pieces_of(self, kind: int) -> Iterator[IntArray]:
        """The rows of a kind, some at a time."""
        rows = self._of_kind(kind)
        for first in range(rows.start, rows.stop, PIECE):
            yield np.arange(first, min(first + PIECE, rows.stop))

    def _of_kind(self, kind: int) -> slice:
        return slice(0, self._n_steps) if kind == STEPS else slice(self._n_steps, len(self))

    @cached_property
    def _n_steps(self) -> int:
        return int(np.count_nonzero(self.kind == STEPS))

    @cached_property
    def n_entries(self) -> int:
        """Entries of all items at most."""
        return 2 * int(self.partners.sum(dtype=np.int64))

    def entries_of_items(self, n_items: int) -> FloatArray:
        """(N,) how many `entries` there are of each item at most."""
        found = np.zeros(n_items)
        for first in range(0, len(self), PIECE):
            part = slice(first, first + PIECE)
            each = self.partners[part].astype(np.float64) + self.followers[part]
            found += np.bincount(self.item[part], weights=each, minlength=n_items)
        return found

    def degree(self, n_items: int) -> FloatArray:
        """(N, 2) the sum of all counts of each item, by kind."""
        return self.votes(n_items) / PARTS

    def votes(self, n_items: int) -> FloatArray:
        """(N, 2) the sum of all counts of each item, by kind, as whole numbers: `PARTS` are a count of 1."""
        found = np.zeros((n_items, len(KINDS)))
        for kind, reach in enumerate(REACH):
            rows = self._of_kind(kind)
            for start in range(rows.start, rows.stop, PIECE):
                first, stop = max(start - reach, rows.start), min(start + PIECE, rows.stop)
                each, item = np.zeros(stop - first), self.item[first:stop]
                later = start + np.flatnonzero(self.partners[start:stop])
                whole = PARTS / np.maximum(self.partners[first:stop], 1) if kind == TASTE else np.full(len(each), PARTS)
                for one, other in self._back(later):
                    different = self.item[one] != self.item[other]
                    one, other = one[different] - first, other[different] - first
                    each += np.bincount(one, weights=whole[other], minlength=len(each))
                    each[other] += whole[other]  # a row is there once
                found[:, kind] += np.bincount(item, weights=each, minlength=n_items)
        return found

    def entries(self, bits: int, wanted: NDArray[np.bool_]) -> IntArray:
        """(M,) item, item and code as one number each, in no order: both directions of each pair, those whose first
        item is ``wanted`` (N,)."""
        found, asked = [np.zeros(0, dtype=np.int64)], wanted[self.item]
        for one, other in self._back(np.flatnonzero(asked & (self.partners > 0))):
            found.append(self._entries(bits, other, one, other))
        for one, other in self._forth(np.flatnonzero(asked & (self.followers > 0))):
            found.append(self._entries(bits, one, other, other))
        return np.concatenate(found)

    def _entries(self, bits: int, first: IntArray, second: IntArray, later: IntArray) -> IntArray:
        """The entries of rows (M,) that count together, without those of the same item."""
        items, others = self.item[first], self.item[second]
        found = items.astype(np.int64)
        found <<= bits
        found |= others
        found <<= CODE_BITS
        found |= self._code[later]
        return found[items != others]

    def _back(self, later: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
        """Rows that count together, the earlier and the later one, for ``later`` rows, each of which has partners; a
        later row is there once in each part."""
        later = later[np.argsort(self.partners[later], kind="stable")]
        partners, earlier = self.partners[later].astype(np.int64), self._near[later].astype(np.int64)
        for n in range(int(partners.max(initial=0))):
            rest = slice(int(np.searchsorted(partners, n + 1)), None)
            yield later[rest] - _back_by(n, earlier[rest], partners[rest]), later[rest]

    def _forth(self, earlier: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
        """The same for ``earlier`` rows, each of which has followers."""
        for kind in range(len(KINDS)):
            rows = self._of_kind(kind)
            mine = earlier[slice(*np.searchsorted(earlier, [rows.start, rows.stop]).tolist())]
            mine = mine[np.argsort(self.followers[mine], kind="stable")]
            followers, near, steps = self.followers[mine], self._near[mine], _ahead(kind)[0]
            for n in range(int(followers.max(initial=0))):
                rest = slice(int(np.searchsorted(followers, n + 1)), None)
                later = mine[rest] + steps[near[rest], n]
                fresh = self.fresh[later]
                yield mine[rest][fresh], later[fresh]


def _back_by(n: int | IntArray, earlier: IntArray, partners: IntArray) -> IntArray:
    """How many rows before it the n-th partner of a row lies: in the middle of the n-th part of the ``earlier``."""
    return 1 + (2 * n + 1) * earlier // (2 * partners)


@cache
def _ahead(kind: int) -> tuple[IntArray, SmallArray]:
    """How many rows after it lie those that count with a row, by how many of its user lie before it, within reach:
    (REACH + 1, W) ascending; and (REACH + 1, REACH + 1) how many of them are among so many rows after it."""
    reach = REACH[kind]
    looked = np.zeros((reach + 1, reach + 1), dtype=bool)  # by how many a row looks back at, and how far
    for earlier in range(1, reach + 1):
        partners = min(earlier, PARTNERS[kind])
        back = _back_by(np.arange(partners), np.full(partners, earlier), np.full(partners, partners))
        looked[earlier, back] = True
    far = np.arange(1, reach + 1)
    met = np.stack([looked[np.minimum(place + far, reach), far] for place in range(reach + 1)])
    many = np.zeros((reach + 1, reach + 1), dtype=np.uint8)
    many[:, 1:] = met.cumsum(1)
    steps = np.zeros((reach + 1, int(many.max())), dtype=np.int64)
    place, at = met.nonzero()
    steps[place, many[place, at]] = 1 + at
    return steps, many


def bits_for(n_items: int) -> int:
    """Bits of an item, so that two of them and a code are one number.

    Raises:
        ImsrError: the catalogue is too large for that.
    """
    bits = max(1, int(n_items - 1).bit_length())
    if 2 * bits + CODE_BITS > 63:
        raise ImsrError(f"neighbours of {n_items} items cannot be counted", hint="set [score] neighbours = false")
    return bits


def in_pieces(base: Pairs, entries: IntArray, bits: int) -> Iterator[Pairs]:
    """The pairs of ``base`` and of entries (M,) with the sums of both (P, 2), a few items at a time, ascending."""
    # one row for a pair of the base, with code 0: sorted, they are in their order among the entries
    rows = np.concatenate([((base.owner << bits) | base.other) << CODE_BITS, entries]) if len(base) else entries
    rows.sort()
    ends = np.searchsorted(rows, unique(rows[PIECE::PIECE] >> (bits + CODE_BITS)) << (bits + CODE_BITS))
    first = 0
    for part in np.split(rows, ends):
        keys, code = part >> CODE_BITS, part & (2**CODE_BITS - 1)
        start = np.flatnonzero(np.concatenate((np.ones(min(len(keys), 1), dtype=bool), keys[1:] != keys[:-1])))
        keys = keys[start]
        values = np.zeros((len(start), len(KINDS)))
        for kind in range(len(KINDS) if len(start) else 0):
            values[:, kind] = np.add.reduceat(COUNTS[kind][code], start)
        known = np.flatnonzero(code[start] == 0)
        values[known] += base.values[first : first + len(known)]
        first += len(known)
        yield Pairs(keys >> bits, keys & (2**bits - 1), np.zeros(len(keys), dtype=np.int64), values)


def _steps(tail: SpanSequences, span: SpanSequences) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
    """Users, items and which are of the span: what each event may follow within `WINDOW` steps."""
    sequences = concatenate([restrict_users(tail, span.users), span])
    fresh = np.zeros(sequences.n_events, dtype=bool)  # concatenated: a user's own events of the span are the last
    ends = sequences.offsets[1:][np.searchsorted(sequences.users, span.users)]
    fresh[np.arange(span.n_events) + np.repeat(ends - span.offsets[1:], span.counts)] = True
    return sequences.users[sequences.rows], sequences.items, fresh


def _tastes(had: Pairs, span: SpanSequences) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
    """Users, items and which are new in the span: what was new to its users, the last `CONTEXT` before the span."""
    known = had.of_owners(span.users)
    keys, place = numbered(span.users[span.rows] * WIDTH + span.items)
    first = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(first, place, span.timestamps)
    new = known.find(keys // WIDTH, keys % WIDTH) < 0
    keys, first = keys[new], first[new]
    user = np.concatenate([known.owner, keys // WIDTH])
    item = np.concatenate([known.other, keys % WIDTH])
    order = np.lexsort((item, np.concatenate([known.values[:, 1].astype(np.int64), first]), user))
    user, item, fresh = user[order], item[order], order >= len(known)
    # an item further back than `CONTEXT` rows before the user's first new one counts with none
    rows = np.flatnonzero(fresh)
    rows = rows[np.concatenate((np.ones(min(len(rows), 1), dtype=bool), user[rows][1:] != user[rows][:-1]))]
    first_new = np.full(len(span), len(user) + CONTEXT)  # who has nothing new counts nothing
    first_new[np.searchsorted(span.users, user[rows])] = rows
    near = np.arange(len(user)) >= first_new[np.searchsorted(span.users, user)] - CONTEXT
    return user[near], item[near], fresh[near]
