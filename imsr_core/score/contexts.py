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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

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
#: Entries that are looked at together: what is made of them stays near the processor.
PIECE = 250_000


@dataclass(frozen=True, eq=False)
class Contexts:
    """``kind``, ``user``, ``item`` (E,) int64 and ``fresh`` (E,) bool; see above. Rows of a kind come together."""

    kind: IntArray
    user: IntArray
    item: IntArray
    fresh: NDArray[np.bool_]

    @classmethod
    def of(cls, tail: SpanSequences, had: Pairs, span: SpanSequences) -> Contexts:
        """A span after ``tail``, the last `WINDOW` events of each user, and ``had``, what the users had.

        The values of ``had`` hold in their second column when the user first had the item.
        """
        parts = [_steps(tail, span), _tastes(had, span)]
        user, item, fresh = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(np.repeat([STEPS, TASTE], [len(part[0]) for part in parts]), user, item, fresh)

    def __len__(self) -> int:
        return len(self.item)

    @cached_property
    def place(self) -> IntArray:
        """(E,) how many rows of its user lie before each row."""
        new_user = np.ones(len(self), dtype=bool)
        new_user[1:] = (self.user[1:] != self.user[:-1]) | (self.kind[1:] != self.kind[:-1])
        start = np.flatnonzero(new_user)
        return np.arange(len(self)) - np.repeat(start, np.diff(start, append=len(self)))

    @cached_property
    def earlier(self) -> IntArray:
        """(E,) how many of them each row looks back at."""
        return np.where(self.fresh, np.minimum(self.place, np.array(REACH)[self.kind]), 0)

    @cached_property
    def partners(self) -> IntArray:
        """(E,) how many of those each row counts with."""
        return np.minimum(self.earlier, np.array(PARTNERS)[self.kind])

    @cached_property
    def n_entries(self) -> int:
        """Entries that `entries` gives at most."""
        return 2 * int(self.partners.sum())

    def degree(self, n_items: int) -> FloatArray:
        """(N, 2) the sum of all counts of each item, by kind."""
        found, bits = np.zeros((n_items, len(KINDS))), bits_for(n_items)
        entries = self.entries(bits)
        for first in range(0, len(entries), PIECE):
            part = entries[first : first + PIECE]
            item, code = part >> (bits + CODE_BITS), part & (2**CODE_BITS - 1)
            for kind in range(len(KINDS)):
                found[:, kind] += np.bincount(item, weights=COUNTS[kind][code], minlength=n_items)
        return found

    def entries(self, bits: int, wanted: NDArray[np.bool_] | None = None) -> IntArray:
        """(M,) item, item and code as one number each, in no order: both directions of each pair.

        With ``wanted`` (N,), only those whose first item is.
        """
        found = [np.zeros(0, dtype=np.int64)]
        for earlier, later, code in self._meetings():
            for one, other in ((earlier, later), (later, earlier)):
                if wanted is not None:
                    asked = wanted[one]
                    found.append((((one[asked] << bits) | other[asked]) << CODE_BITS) | code[asked])
                else:
                    found.append((((one << bits) | other) << CODE_BITS) | code)
        return np.concatenate(found)

    def _meetings(self) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
        """Items that count together, the earlier and the later one, and the code of what they count."""
        later = np.flatnonzero(self.partners)
        later = later[np.argsort(self.partners[later], kind="stable")]
        partners, earlier, item = self.partners[later], self.earlier[later], self.item[later]
        code = np.where(self.kind[later] == STEPS, _STEP, partners)
        for n in range(int(partners.max(initial=0))):
            rest = slice(int(np.searchsorted(partners, n + 1)), None)
            back = 1 + (2 * n + 1) * earlier[rest] // (2 * partners[rest])  # the middle of the n-th part of them
            one, other = self.item[later[rest] - back], item[rest]
            different = one != other
            yield one[different], other[different], code[rest][different]


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
    rows = np.concatenate([((base.owner << bits) | base.other) << CODE_BITS, entries])
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
