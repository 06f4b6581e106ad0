"""Ranks against a loop over events: ties against the item, what a user had left out or not."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.ragged import from_events
from pipelines.bench.data import cut
from pipelines.bench.ranking import rank_both, rank_everything, rank_what_is_new

ITEMS, TOP_N = 7, 3


def two_spans(seed: int):
    """What users had, and a span to rank; the catalogue of the first has one item less."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, size in enumerate((15, 20)):
        users, items = rng.integers(5, size=size), rng.integers(ITEMS - 1 + number, size=size)
        parts.append(from_events(users, items, np.arange(size) + 100 * number))
    return cut(["a", "b"], parts, "prequential", 0, 100)


def chunks(scores: np.ndarray, step: int):
    for first in range(0, len(scores), step):
        yield first, torch.from_numpy(scores[first : first + step].copy())


def naive(scores: np.ndarray, data, leave_out: bool) -> list[int]:
    had = {(int(u), int(i)) for u, i in zip(data.spans[0].users, data.spans[0].sequences.items, strict=True)}
    span, ranks = data.spans[1], []
    for user, row, item in zip(span.users, span.sequences.rows, span.sequences.items, strict=True):
        shown = [i for i in range(scores.shape[1]) if not (leave_out and (int(user), i) in had)]
        listed = item in shown and scores[row, item] > -np.inf
        better = sum(scores[row, i] >= scores[row, item] for i in shown if i != item) if listed else TOP_N
        ranks.append(min(int(better), TOP_N))
    return ranks


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.booleans())
def test_ranks_equal_a_loop(seed, step, short):
    data, rng = two_spans(seed), np.random.default_rng(seed)
    width = TOP_N if short else ITEMS - 1
    scores = rng.choice([0.0, 1.0, 2.0, 3.0, -np.inf], size=(len(data.spans[1].sequences), width)).astype(np.float32)
    everything, new = rank_both(chunks(scores, step), data.spans[1], TOP_N)
    assert everything.tolist() == naive(scores, data, False)
    assert new.tolist() == naive(scores, data, True)
    assert rank_everything(chunks(scores, step), data.spans[1], TOP_N).tolist() == everything.tolist()
    assert rank_what_is_new(chunks(scores, step), data.spans[1], TOP_N).tolist() == new.tolist()
