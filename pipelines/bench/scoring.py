"""Scores of a version for the users of a span: by its interests alone, and as it serves."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from imsr_core.retrieval import score_chunks
from imsr_core.state import ModelState
from pipelines.bench.cells import CellResult
from pipelines.bench.data import BenchSpan
from pipelines.bench.ranking import Ranks, rank_both, rank_everything


def score_span(result: CellResult, state: ModelState, span: BenchSpan, top_n: int) -> None:
    """Put the ranks of a span's events under a version into ``result``, every kind that it has."""
    result.ranks[span.id], result.discover[span.id] = rank_both(alone(state, span), span, top_n)
    if state.score is not None:
        result.served[span.id], _ = rank_both(served(state, span), span, top_n)
        _, result.discover_served[span.id] = rank_both(served(state, span, "new"), span, top_n)
    elif state.config.trend.enabled:
        result.served[span.id], result.discover_served[span.id] = rank_both(served(state, span), span, top_n)


def ranks_alone(state: ModelState, span: BenchSpan, top_n: int) -> Ranks:
    """Ranks (E,) by the interests alone, everything shown."""
    return rank_everything(alone(state, span), span, top_n)


def alone(state: ModelState, span: BenchSpan) -> Iterator[tuple[int, Tensor]]:
    """(first, scores (b, N)) of the span's users by their interests."""
    return score_chunks(state.store, torch.from_numpy(span.sequences.users), state.item_vectors())


def served(state: ModelState, span: BenchSpan, which: str = "everything") -> Iterator[tuple[int, Tensor]]:
    """(first, scores (b, N)) of the span's users as `imsr recommend` ranks ``which`` of `imsr_core.score.SETS`."""
    return state.scorer(which).chunks(span.sequences.users)
