"""The term `personal`: what a user had, how often and how lately.

    p_ui(T) = sum over the user's events of item i of 2^(-(T - t) / half-life)    columns: log(1 + p_ui / EPSILON)
    n_ui    = all of them                                                         column:  log(1 + n_ui / EPSILON)
    had_ui  = 1 if there was one, else 0; its weight comes out negative where nobody has the same thing twice
    since   = spans since the last of them                                        column:  log(1 + since / EPSILON)

On baskets a household's own counts are most of what is to be known: Hu et al., *Modeling Personalized Item Frequency
Information for Next-basket Recommendation*, SIGIR 2020; Li et al., *A Next Basket Recommendation Reality Check*,
TOIS 2023. Counts are kept as of a pair's last event and fade when they are read, so that a user without events costs
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences, newest_time, pieces_of
from imsr_core.score.pairs import WIDTH, FloatArray, IntArray, Pairs, fading, gathered, joined
from imsr_core.sorted_keys import numbered

#: In spans.
HALF_LIVES = (0.25, 1.0, 4.0)
EPSILON = 0.1
#: Events of a span that are counted together, or those of one user.
EVENTS = 250_000


@dataclass(frozen=True)
class PersonalTerm:
    """``pairs``: user, item, last event, and the values: how many events, the time of the first one, and as of the
    last one the faded counts by half-life.

    ``unit`` is the length of a span and ``until`` the time as of which it is read, both in microseconds; ``limit`` the
    pairs that are kept of a user, the last touched (0 = all). Beyond the limit an item that comes back starts anew.
    """

    unit: int
    limit: int
    pairs: Pairs
    until: int = 0

    columns = ("personal_quarter", "personal_span", "personal_4_spans", "personal_ever", "had", "since")

    @classmethod
    def empty(cls, unit: int, limit: int = 0) -> PersonalTerm:
        """Of no user."""
        return cls(unit, limit, Pairs.empty(2 + len(HALF_LIVES)))

    def after(self, span: SpanSequences, n_items: int) -> PersonalTerm:
        """With the events of a span."""
        if not span.n_events:
            return self
        touched = int(self.pairs.spans_of(span.users)[1].sum()) + span.n_events
        merged = gathered((self._with(part) for part in pieces_of(span, EVENTS)), touched)
        return replace(self, pairs=self.pairs.updated(merged), until=newest_time(self.until, span))

    def _with(self, span: SpanSequences) -> Pairs:
        """The pairs of the users of ``span`` with its events."""
        old = self.pairs.take(self.pairs.rows_of(span.users)[1])
        merged = _merged(old, _counted(span, self.unit), self.unit)
        return merged.take(merged.newest(self.limit))

    def only_of(self, users: IntArray) -> PersonalTerm:
        """The same of ``users`` (B,), ascending, alone."""
        return replace(self, pairs=self.pairs.take(self.pairs.rows_of(users)[1]))

    def had_by(self, users: IntArray) -> Had:
        """What ``users`` (B,) had. The last answer is kept: the terms of a score ask of the same users in turn, and
        hand on the very same array, which nobody may write to."""
        found: Had | None = vars(self).get("_asked")
        if found is None or found.users is not users:
            found = Had(self, users, *self.pairs.rows_of(users))
            vars(self)["_asked"] = found
        return found

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (F,)."""
        mine = self.had_by(users).within(scores.shape[1])
        mine.add(scores, mine.values @ weights)

    @property
    def personal(self) -> PersonalTerm:
        """This term."""
        return self

    def add_elsewhere(self, scores: Tensor, mine: Had, weights: Tensor) -> Tensor:
        """(P,) all that this term says of what users had; elsewhere it says nothing (`OfWhatWasHad`)."""
        return mine.values @ weights

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, F) the columns of ``items`` (B, C) for ``users`` (B,)."""
        rows = self.pairs.find(np.broadcast_to(users[:, None], items.shape), items)
        found = torch.zeros(*items.shape, len(self.columns))
        known = rows >= 0
        found[torch.from_numpy(known)] = self.columns_of(self.pairs.take(rows[known]))
        return found

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(B, C, 0) nothing of the ``shared`` (C,) items, which the users had not, and (P, F) of pairs."""
        return torch.zeros(len(users), len(shared), 0), self.at(users[place], items[:, None])[:, 0]

    def columns_of(self, pairs: Pairs) -> Tensor:
        """(P, F) the columns of ``pairs`` (P,), as of ``until``."""
        return self.columns_as_of(pairs.last, pairs.values)

    def columns_as_of(self, last: IntArray, values: FloatArray) -> Tensor:
        """(P, F) the columns of pairs with ``last`` (P,) and ``values`` (P, 2 + H), as of ``until``."""
        age = torch.from_numpy((self.until - last) / self.unit).float()
        columns = torch.empty(len(self.columns), len(last))
        torch.div(age, -torch.tensor(HALF_LIVES)[:, None], out=columns[:3]).exp2_().mul_(torch.from_numpy(values.T[2:]))
        columns[3] = torch.from_numpy(values[:, 0])
        columns[:4].div_(EPSILON).log1p_()
        columns[4], columns[5] = 1.0, age.mul_(1 / EPSILON).log1p_()
        return columns.T


@dataclass(frozen=True, eq=False)
class Had:
    """What ``users`` (B,) had, P pairs: the position in ``users`` of each, ``place`` (P,), ascending, and its row in
    the table of ``term``, ``rows`` (P,)."""

    term: PersonalTerm
    users: IntArray
    place: IntArray
    rows: IntArray

    @cached_property
    def items(self) -> IntArray:
        """(P,) the items."""
        return self.term.pairs.other.take(self.rows)

    @cached_property
    def last(self) -> IntArray:
        """(P,) the times of their last events, in microseconds."""
        return self.term.pairs.last.take(self.rows)

    @cached_property
    def values(self) -> Tensor:
        """(P, F) their columns."""
        # `take` copies rows in half the time of an index
        return self.term.columns_as_of(self.last, self.term.pairs.values.take(self.rows, axis=0))

    def places_in(self, scores: Tensor) -> Tensor:
        """(P,) where the pairs are in ``scores`` (B, N), row after row."""
        known: dict[int, Tensor] = vars(self).setdefault("_places", {})
        width = scores.shape[1]
        if width not in known:
            known[width] = torch.from_numpy(self.place * width + self.items)
        return known[width]

    def within(self, n_items: int) -> Had:
        """The pairs whose items are below ``n_items``."""
        if self._last_item < n_items:
            return self
        inside = self.items < n_items
        return Had(self.term, self.users, self.place[inside], self.rows[inside])

    @cached_property
    def _last_item(self) -> int:
        return int(self.items.max(initial=-1))

    def add(self, scores: Tensor, values: Tensor | None) -> None:
        """Add ``values`` (P,), if any, to the ``scores`` (B, N) of the pairs, in place."""
        if values is not None:
            scores.view(-1).index_add_(0, self.places_in(scores), values)


def _counted(span: SpanSequences, unit: int) -> Pairs:
    """The pairs of a span alone."""
    keys, place = numbered(span.users[span.rows] * WIDTH + span.items)
    last = np.full(len(keys), np.iinfo(np.int64).min)
    np.maximum.at(last, place, span.timestamps)
    first = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(first, place, span.timestamps)
    weights = fading((last[place] - span.timestamps) / unit, np.array(HALF_LIVES))
    counts = np.empty((len(keys), 2 + len(HALF_LIVES)))
    counts[:, 0], counts[:, 1] = np.bincount(place, minlength=len(keys)), first
    for column in range(len(HALF_LIVES)):
        counts[:, 2 + column] = np.bincount(place, weights=weights[:, column], minlength=len(keys))
    return Pairs(keys // WIDTH, keys % WIDTH, last, counts)


def _merged(old: Pairs, fresh: Pairs, unit: int) -> Pairs:
    """The pairs of both; where both have one, the counts add up as of the later event."""
    row = old.find(fresh.owner, fresh.other)
    both = row >= 0
    last, values = fresh.last.copy(), fresh.values.copy()
    before, earlier = old.values[row[both]], old.last[row[both]]
    last[both] = np.maximum(last[both], earlier)
    now, then = _faded(values[both], last[both] - fresh.last[both], unit), _faded(before, last[both] - earlier, unit)
    values[both] = now + then
    values[both, 1] = np.minimum(now[:, 1], then[:, 1])
    untouched = np.ones(len(old), dtype=bool)
    untouched[row[both]] = False
    return joined([old.take(untouched), Pairs(fresh.owner, fresh.other, last, values)])


def _faded(values: FloatArray, age: IntArray, unit: int) -> FloatArray:
    faded = values.copy()
    faded[:, 2:] *= fading(age / unit, np.array(HALF_LIVES))
    return faded
