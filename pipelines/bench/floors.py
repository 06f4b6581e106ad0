"""Floors: what a user would pick before any model. One list for everybody, and counters.

    popularity            the most frequent items so far
    popularity-last       the most frequent items of the last span; after pre-training, of its last calendar span
    popularity-decayed    events that fade, at the half-life that ranks the tuning spans best
    personal              what the user had, how often and how lately
    item-knn              what goes with what the user had of late
    counters              all counting terms together: the score as it serves, without interests

The last three are terms of `imsr_core.score`, with weights fitted on each span before it is counted, as a version's
are; so `counters` says what is left of imsr if nothing is trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.config import ScoreConfig
from imsr_core.metrics import ndcg
from imsr_core.score import Score
from imsr_core.score.trend import HALF_LIVES, TrendTerm
from pipelines.bench.cells import CellResult
from pipelines.bench.data import BenchData, BenchSpan
from pipelines.bench.kept import SpanRecord
from pipelines.bench.ranking import Ranks, rank_both, rank_everything, rank_what_is_new

#: Scores held at once (users x items).
CHUNK_SCORES = 4_000_000

#: How a span's events are ranked.
Rank = Callable[[Iterable[tuple[int, Tensor]], BenchSpan, int], Ranks]

#: Terms of the score by the floor that has these and no other.
COUNTERS = {
    "personal": ("personal",),
    "item-knn": ("neighbours",),
    "counters": ("trend", "personal", "neighbours", "factors", "content"),
}


@dataclass(frozen=True)
class FloorRun:
    """A floor by name, and what it is tested on: the first ``until`` spans after pre-training."""

    name: str
    data: BenchData
    until: int
    top_n: int
    seed: int = 0


def rank_floor(run: FloorRun, result: CellResult) -> None:
    """Put the ranks of the tested spans by a floor into ``result``."""
    if run.name in COUNTERS:
        _rank_counters(run, result)
    elif run.name == "popularity-decayed":
        _rank_faded(run, result)
    else:
        _rank_one_list(run, result)


def one_list(counts: NDArray, users: int) -> Iterator[tuple[int, Tensor]]:
    """(first, scores (b, N)) of the same ``counts`` (N,) for each of so many users; what nobody had is in no list."""
    scores = torch.from_numpy(np.where(counts > 0, counts, -np.inf)).float()
    step = max(1, CHUNK_SCORES // max(len(scores), 1))
    for first in range(0, users, step):
        yield first, scores.repeat(min(step, users - first), 1)


def _rank_one_list(run: FloorRun, result: CellResult) -> None:
    for number in range(1, run.until + 1):
        span = run.data.spans[number]
        items = _last_items(run.data, number) if run.name == "popularity-last" else run.data.history(number).items
        counts = np.bincount(items, minlength=run.data.spans[number - 1].n_items)
        chunks = one_list(counts, len(span.sequences))
        result.ranks[span.id], result.discover[span.id] = rank_both(chunks, span, run.top_n)


def _last_items(data: BenchData, number: int) -> NDArray[np.int64]:
    """Items (E,) of the calendar span before span ``number``."""
    return data.newest.items if number == 1 else data.spans[number - 1].learnt.items


def _rank_faded(run: FloorRun, result: CellResult) -> None:
    """Half-life, and whether what a user had is left out, are chosen on the tuning spans, for each table on its own."""
    terms, term = [], TrendTerm.empty(run.data.span_length)
    for before in run.data.spans[: run.until]:
        term = term.after(before.learnt, before.n_items)
        terms.append(term)
    spans = run.data.tested[: run.until]

    def ranked(number: int, column: int, rank: Rank) -> Ranks:
        faded = terms[number].counts[:, column]
        return rank(one_list(faded, len(spans[number].sequences)), spans[number], run.top_n)

    for discover, ranks in ((False, result.ranks), (True, result.discover)):
        ways = (rank_what_is_new,) if discover else (rank_what_is_new, rank_everything)
        choices = list(product(range(len(HALF_LIVES)), ways))
        found = [_worth(run, spans, discover, partial(ranked, column=c, rank=rank)) for c, rank in choices]
        column, rank = choices[int(np.argmax(found))]
        for number, span in enumerate(spans):
            ranks[span.id] = ranked(number, column, rank)


def _worth(run: FloorRun, spans: Sequence[BenchSpan], discover: bool, ranked: Callable[[int], Ranks]) -> float:
    """Mean NDCG on the tuning spans."""
    values = [0.0]
    for number, span in enumerate(spans[: run.data.tuning]):
        member = span.slices[run.data.slice_for(discover=discover)]
        ranks = torch.from_numpy(ranked(number)[member].astype(np.int64))
        values.append(float(ndcg(ranks, run.top_n).sum()) / max(len(ranks), 1))
    return float(np.mean(values))


def _rank_counters(run: FloorRun, result: CellResult) -> None:
    on = {name: name in COUNTERS[run.name] for name in ("interest", *COUNTERS["counters"])}
    score = Score.empty(ScoreConfig(enabled=True, **on), run.data.span_length).with_categories(run.data.categories)
    for number in range(run.until):
        before, span = run.data.spans[number], run.data.spans[number + 1]
        started, wall = time.process_time(), time.perf_counter()
        if number:
            score = score.asked(before.learnt, None, run.seed + number).after(before.learnt, before.n_items)
        else:
            score = score.begun(before.learnt, before.n_items, run.seed)
        cost = (time.process_time() - started, time.perf_counter() - wall)
        result.records.append(SpanRecord(before.id, *cost))
        users = span.sequences.users
        for which, rank, ranks in (
            ("everything", rank_everything, result.ranks),
            ("new", rank_what_is_new, result.discover),
        ):
            ranks[span.id] = rank(score.scorer(None, which).chunks(users), span, run.top_n)
