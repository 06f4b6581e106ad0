"""Floors: what a user would pick before any model. One list for everybody, or counters.

popularity         the most frequent items so far
popularity-last    the most frequent items of the last span; after pre-training, of its last calendar span
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.bench.cells import CellResult
from pipelines.bench.data import BenchData, BenchSpan
from pipelines.bench.ranking import rank_both

#: Scores held at once (users x items).
CHUNK_SCORES = 4_000_000


def rank_floor(name: str, data: BenchData, until: int, top_n: int, result: CellResult) -> None:
    """Put the ranks of the first ``until`` tested spans by a floor into ``result``."""
    for number in range(1, until + 1):
        span = data.spans[number]
        items = _last_items(data, number) if name == "popularity-last" else data.history(number).items
        counts = np.bincount(items, minlength=data.spans[number - 1].n_items)
        chunks = one_list(counts, len(span.sequences))
        result.ranks[span.id], result.discover[span.id] = rank_both(chunks, span, top_n)


def one_list(counts: NDArray[np.int64], users: int) -> Iterator[tuple[int, Tensor]]:
    """(first, scores (b, N)) of the same ``counts`` (N,) for each of so many users; what nobody had is in no list."""
    scores = torch.from_numpy(np.where(counts > 0, counts, -np.inf)).float()
    step = max(1, CHUNK_SCORES // max(len(scores), 1))
    for first in range(0, users, step):
        yield first, scores.repeat(min(step, users - first), 1)


def _last_items(data: BenchData, number: int) -> NDArray[np.int64]:
    """Items (E,) of the calendar span before span ``number``."""
    last: BenchSpan = data.spans[number - 1]
    return data.newest.items if number == 1 else last.learnt.items
