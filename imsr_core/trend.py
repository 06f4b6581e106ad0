"""The trend: what is in fashion, blended into the score of an item.

    c_i(T)   = sum over all events of item i of 2^(-(T - t) / half-life)      events, the old ones fading
    score_ui = max_k h_k . e_i + (w / scale) log(1 + c_i / EPSILON)

An interest says what a user is like, and moves slowly; where tastes follow fashion (films in the week of their
release) yesterday's counts know more. Ours, not the paper's. Source of the counts: exponential decay of event
weights as in Ding and Li, *Time weight collaborative filtering*, CIKM 2005; the blend is a linear one in log odds.

Nothing of it is set by hand. Before M_{t-1} learns span t, it ranks a sample of the span's events with each weight, 0
among them; the smallest weight whose NDCG is within 1 % of the best is M_t's. The half-life is the one whose
popularity alone ranks all events of the span best. Evidence of earlier spans counts half as much with each span. The
first two models have no evidence, and go with `FIRST_WEIGHT` and `FIRST_HALF_LIFE`. These and EPSILON were chosen on
the first span after pre-training of two logs; the ends of the grids (no half-life below three days, no weight above
8) after later spans of one of them had been seen.

The counts are those of the events that were trained on: learning spans one by one or all at once gives the same, since
what fades, fades by event time. Events that a gate hides from training are never in them (one or two in a hundred).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from imsr_core.config import TrendConfig
from imsr_core.interests import InterestStore
from imsr_core.metrics import ndcg
from imsr_core.ragged import SpanSequences, newest_time
from imsr_core.retrieval import score_chunks

#: Half-lives in days, from an item of the week to one of the year.
HALF_LIVES = (3.0, 7.0, 30.0, 90.0, 365.0)
WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FIRST_HALF_LIFE, FIRST_WEIGHT = HALF_LIVES.index(7.0), WEIGHTS.index(0.25)
#: Recent events that lift an item clearly above one that nobody touched.
EPSILON = 0.1
#: Each weight ranks at most this many events of this many users of a span. With fewer than `ENOUGH` events so far, the
#: first values stay in force.
SAMPLE_USERS, SAMPLE_EVENTS, ENOUGH = 192, 4, 100
#: Of weights whose gains differ by less than this, the smallest is taken.
INDIFFERENCE = 0.01
TOP_N = 20
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Trend:
    """Counts of every item in which old events fade, and how well each half-life and each weight has ranked so far.

    ``counts`` (S, N) float32: events of each item by half-life, as of ``until`` (microseconds; 0: nothing yet).
    ``half_life_gains`` (S,) and ``weight_gains`` (W,) float32: sums of NDCG in which older spans fade;
    ``evidence`` is the number of events behind ``weight_gains``, and fades as they do.
    """

    counts: Tensor
    until: int
    half_life_gains: Tensor
    weight_gains: Tensor
    evidence: float

    @classmethod
    def empty(cls) -> Trend:
        """Of no item, without evidence."""
        return cls(torch.zeros(len(HALF_LIVES), 0), 0, torch.zeros(len(HALF_LIVES)), torch.zeros(len(WEIGHTS)), 0.0)

    def tensors(self) -> dict[str, Tensor]:
        """What is saved, by name."""
        return {f.name: torch.as_tensor(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Trend:
        """The inverse of `tensors`."""
        gains = (tensors["half_life_gains"], tensors["weight_gains"])
        return cls(tensors["counts"], int(tensors["until"]), *gains, float(tensors["evidence"]))

    def popularity(self, n_items: int, half_life: int | None = None) -> Tensor:
        """log(1 + c_i / EPSILON) of each item (N,), by the half-life of this index or the best one."""
        place = self.half_life if half_life is None else half_life
        return torch.log1p(_padded(self.counts[place : place + 1], n_items)[0] / EPSILON)

    @property
    def half_life(self) -> int:
        """Position of the half-life in force in `HALF_LIVES`."""
        return int(self.half_life_gains.argmax()) if self.evidence >= ENOUGH else FIRST_HALF_LIFE

    def weight(self, config: TrendConfig) -> float:
        """w: the one that was set, or the best so far; 0 if the trend is off."""
        if not config.enabled:
            return 0.0
        if config.weight is not None:
            return config.weight
        if self.evidence < ENOUGH:
            return WEIGHTS[FIRST_WEIGHT]
        good = self.weight_gains >= (1 - INDIFFERENCE) * self.weight_gains.max()
        return WEIGHTS[int(good.long().argmax())]

    def bias(self, config: TrendConfig, n_items: int, scale: float) -> Tensor:
        """(N,) what the trend adds to each item's inner product; ``scale`` turns those into logits."""
        weight = self.weight(config)
        return weight / scale * self.popularity(n_items) if weight else torch.zeros(n_items)

    def after(self, span: SpanSequences, n_items: int) -> Trend:
        """With the span's events; all counts as of the last event that was ever seen."""
        if not span.n_events:
            return replace(self, counts=_padded(self.counts, n_items))
        until = newest_time(self.until, span)
        faded = self._faded(until, n_items)
        for row, half_life in zip(faded, HALF_LIVES, strict=True):
            weights = np.exp2((span.timestamps - until) / (half_life * DAY))
            row += torch.from_numpy(np.bincount(span.items, weights=weights, minlength=n_items))
        return replace(self, counts=faded.float(), until=until)

    def as_of(self, until: int, n_items: int) -> Trend:
        """As of a later time (microseconds), without another event."""
        return replace(self, counts=self._faded(until, n_items).float(), until=until)

    def _faded(self, until: int, n_items: int) -> Tensor:
        """(S, N) float64."""
        kept = [2.0 ** ((self.until - until) / (half_life * DAY)) if self.until else 0.0 for half_life in HALF_LIVES]
        return _padded(self.counts, n_items).double() * torch.tensor(kept, dtype=torch.float64)[:, None]

    def with_counts_of(self, other: Trend) -> Trend:
        """This evidence with the counts of ``other``."""
        return replace(self, counts=other.counts, until=other.until)

    def judged(
        self, span: SpanSequences, store: InterestStore, items: Tensor, scale: float, generator: torch.Generator
    ) -> Trend:
        """With the evidence of a span that the model, ``store`` and ``items`` (N, d), has not learnt yet.

        Only events of users and items that the model knows are evidence.
        """
        users, wanted = torch.from_numpy(span.users[span.rows]), torch.from_numpy(span.items)
        known = (wanted < len(items)) & (store.counts_of(users) > 0)
        users, wanted = users[known], wanted[known]
        if not len(wanted) or not self.until:
            return self
        half_life_gains = torch.stack(
            [_gain_of_popularity(self.popularity(len(items), place), wanted) for place in range(len(HALF_LIVES))]
        )
        judged = replace(self, half_life_gains=self.half_life_gains / 2 + half_life_gains)
        sample = _sample(users, generator)
        popularity = judged.popularity(len(items), int(judged.half_life_gains.argmax())) / scale
        gains = _gains_of_weights(store, users[sample], wanted[sample], items, popularity)
        return replace(
            judged, weight_gains=self.weight_gains / 2 + gains, evidence=self.evidence / 2 + float(len(sample))
        )


def _padded(counts: Tensor, n_items: int) -> Tensor:
    """``counts`` (S, n) with zeros for items that came later: (S, N)."""
    missing = n_items - counts.shape[1]
    return torch.cat([counts, torch.zeros(len(counts), missing)], 1) if missing > 0 else counts[:, :n_items]


def _gain_of_popularity(popularity: Tensor, wanted: Tensor) -> Tensor:
    """Sum of the NDCG of a list by popularity (N,) for ``wanted`` items (E,), ties against it."""
    ascending = popularity.sort().values
    ranks = len(ascending) - torch.searchsorted(ascending, popularity[wanted]) - 1
    return ndcg(ranks, TOP_N).sum().float()


def _sample(users: Tensor, generator: torch.Generator) -> Tensor:
    """Positions of at most `SAMPLE_EVENTS` random events of each of `SAMPLE_USERS` random users, given each event's.

    A user's events share the ranking of the catalogue, which is what a sample costs.
    """
    everyone = torch.unique(users)
    chosen = everyone[torch.randperm(len(everyone), generator=generator)[:SAMPLE_USERS]]
    events = torch.randperm(len(users), generator=generator)
    events = events[torch.isin(users[events], chosen)]
    by_user = events[users[events].argsort(stable=True)]
    _, counts = torch.unique_consecutive(users[by_user], return_counts=True)
    nth = torch.arange(len(by_user)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return by_user[nth < SAMPLE_EVENTS]


@torch.no_grad()
def _gains_of_weights(store: InterestStore, users: Tensor, wanted: Tensor, items: Tensor, popularity: Tensor) -> Tensor:
    """Sum of the NDCG (W,) of events (E,), given as users and items, with each weight of the popularity (N,)."""
    gains = torch.zeros(len(WEIGHTS))
    people, place = torch.unique(users, return_inverse=True)
    for first, scores in score_chunks(store, people, items):
        here = (place >= first) & (place < first + len(scores))
        rows, own = place[here] - first, wanted[here]
        for number, weight in enumerate(WEIGHTS):
            blend = scores + weight * popularity
            best = blend.topk(min(TOP_N + 1, len(items)), dim=1).values  # further down nothing is gained
            ranks = (best[rows] >= blend[rows, own][:, None]).sum(1) - 1
            gains[number] += ndcg(ranks, TOP_N).sum().float()
    return gains
