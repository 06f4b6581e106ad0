"""Scores of a version for the users of a span: by its interests alone, and as it serves."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from imsr_core.retrieval import score_chunks
from imsr_core.score import Scorer
from imsr_core.state import ModelState
from pipelines.bench.cells import CellResult
from pipelines.bench.data import BenchSpan
from pipelines.bench.ranking import Ranks, rank_both, rank_everything, rank_what_is_new


def score_span(result: CellResult, state: ModelState, span: BenchSpan, top_n: int) -> None:
    """Put the ranks of a span's events under a version into ``result``: by the interests alone, and as it serves if
    there is more in its score."""
    result.ranks[span.id], result.discover[span.id] = rank_both(alone(state, span), span, top_n)
    users = span.sequences.users
    if state.score is not None or state.config.trend.enabled:
        result.served[span.id] = rank_everything(state.scorer("everything").chunks(users), span, top_n)
        result.discover_served[span.id] = rank_what_is_new(state.scorer("new").chunks(users), span, top_n)


def ranks_alone(state: ModelState, span: BenchSpan, top_n: int) -> Ranks:
    """Ranks (E,) by the interests alone, everything shown."""
    return rank_everything(alone(state, span), span, top_n)


def alone(state: ModelState, span: BenchSpan) -> Iterator[tuple[int, Tensor]]:
    """(first, scores (b, N)) of the span's users by their interests."""
    if state.members:
        only = [(state.interest_term(), torch.ones(1))]
        return Scorer(only, state.n_items, state.store.users.numpy()).chunks(span.sequences.users)
    return score_chunks(state.store, torch.from_numpy(span.sequences.users), state.item_vectors())
