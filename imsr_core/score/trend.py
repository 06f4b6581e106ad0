"""The term `trend`: what is in fashion. Events of an item, the old ones fading, at several half-lives.

    c_i(T) = sum over all events of item i of 2^(-(T - t) / half-life)          column: log(1 + c_i / EPSILON)

Half-lives are in spans: an hour's span needs half-lives of minutes, a month's of days and years. After Ding and Li,
*Time weight collaborative filtering*, CIKM 2005.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences, newest_time
from imsr_core.score.pairs import FloatArray, IntArray, fading
from imsr_core.score.personal import Had

#: In spans, from a twenty-fourth (an hour of a day) to many.
HALF_LIVES = (1 / 24, 1 / 8, 1 / 3, 1.0, 4.0, 16.0)
#: Events that an item needs, of late, to count for more than one that nobody touched.
EPSILON = 0.1
#: Weights by which the columns are kept at most: two sets, each for every item and for what was had.
KEPT = 4
#: Events that are looked at together.
PIECE = 250_000


@dataclass(frozen=True)
class TrendTerm:
    """``counts`` (N, H) float64: faded events of each item by half-life, as of ``until`` (microseconds).

    ``unit`` is the length of a span in microseconds.
    """

    unit: int
    counts: FloatArray
    until: int = 0

    columns = ("trend_hours", "trend_eighth", "trend_third", "trend_span", "trend_4_spans", "trend_16_spans")

    @classmethod
    def empty(cls, unit: int) -> TrendTerm:
        """Of no item."""
        return cls(unit, np.zeros((0, len(HALF_LIVES))))

    def after(self, span: SpanSequences, n_items: int) -> TrendTerm:
        """With the events of a span; the counts as of the last event that was ever seen."""
        if not span.n_events:
            return self.as_of(self.until, n_items)
        until = newest_time(self.until, span)
        faded = self.as_of(until, n_items)
        weights = np.empty(span.n_events)
        for column, half_life in enumerate(HALF_LIVES):
            for first in range(0, span.n_events, PIECE):
                part = slice(first, first + PIECE)
                age = (until - span.timestamps[part]) / self.unit
                weights[part] = fading(age, np.array([half_life]))[:, 0]
            faded.counts[:, column] += np.bincount(span.items, weights=weights, minlength=n_items)
        return faded

    def as_of(self, until: int, n_items: int) -> TrendTerm:
        """As of a later time (microseconds), without another event."""
        counts = np.zeros((n_items, len(HALF_LIVES)))
        counts[: len(self.counts)] = self.counts
        if until != self.until:
            counts *= fading(np.array([(until - self.until) / self.unit]), np.array(HALF_LIVES)) if self.until else 0.0
        return replace(self, counts=counts, until=until)

    def values(self) -> Tensor:
        """(N, H) the columns of every item, made once."""
        return self._values

    @cached_property
    def _values(self) -> Tensor:
        return torch.from_numpy(np.log1p(self.counts / EPSILON)).float()

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N), in place; ``weights`` (H,)."""
        scores += self._weighed(weights)[: scores.shape[1]]

    def add_apart(self, scores: Tensor, mine: Had, weights: Tensor, had: Tensor) -> Tensor:
        """As `add` for the users of ``mine``; (P,) what they had, by ``had`` (H,)."""
        self.add(scores, mine.users, weights)
        return self._weighed(had).index_select(0, torch.from_numpy(mine.items))

    def _weighed(self, weights: Tensor) -> Tensor:
        """(N,) the columns of every item by ``weights`` (H,), which are the same few at each call."""
        known: dict[tuple[float, ...], Tensor] = vars(self).setdefault("_by_weights", {})
        key = tuple(weights.tolist())
        found = known.get(key)
        if found is None:
            if len(known) >= KEPT:
                known.clear()  # another thread may ask meanwhile: what is returned is not looked up again
            found = known[key] = self.values() @ weights
        return found

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, H) the columns of ``items`` (B, C)."""
        return self.values()[torch.from_numpy(items)]

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(1, C, H) the columns of ``shared`` (C,) items, and (P, H) those of ``items`` (P,)."""
        return self.at(users, shared[None]), self.at(users, items)
