"""Ranks of a span's events under scores from anywhere: one evaluation for versions, counters and rivals alike.

The whole catalogue is ranked, ties count against the item, and an item that scores -inf is not in the list. Every
event is ranked twice: once where everything may be shown, and once where what its user had before the span is left
out of the list (*discover*).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.metrics import ranks_within
from imsr_core.ragged import SpanSequences
from pipelines.bench.data import BenchSpan

Ranks = NDArray[np.int16]


@torch.no_grad()
def rank_everything(chunks: Iterable[tuple[int, Tensor]], span: BenchSpan, top_n: int) -> Ranks:
    """Rank (E,) of each event's item among all items, at most ``top_n``.

    ``chunks`` are (first, scores (b, N)) of consecutive users of the span; items beyond N are not in the list.
    """
    ranks = _none_found(span.sequences, top_n)
    for first, scores in chunks:
        _rank_chunk(ranks, first, scores, span.sequences, top_n)
    return ranks


@torch.no_grad()
def rank_what_is_new(chunks: Iterable[tuple[int, Tensor]], span: BenchSpan, top_n: int) -> Ranks:
    """Rank (E,) of each event's item among the items that its user did not have before the span; `rank_everything`
    in all else. The scores are changed."""
    ranks = _none_found(span.sequences, top_n)
    for first, scores in chunks:
        leave_out_seen(first, scores, span)
        _rank_chunk(ranks, first, scores, span.sequences, top_n)
    return ranks


@torch.no_grad()
def rank_both(chunks: Iterable[tuple[int, Tensor]], span: BenchSpan, top_n: int) -> tuple[Ranks, Ranks]:
    """`rank_everything` and `rank_what_is_new` of the same scores, which are changed."""
    everything, new = _none_found(span.sequences, top_n), _none_found(span.sequences, top_n)
    for first, scores in chunks:
        _rank_chunk(everything, first, scores, span.sequences, top_n)
        leave_out_seen(first, scores, span)
        _rank_chunk(new, first, scores, span.sequences, top_n)
    return everything, new


def leave_out_seen(first: int, scores: Tensor, span: BenchSpan) -> None:
    """Give -inf to what the users ``first`` .. of the span had before it, in place."""
    low, high = np.searchsorted(span.seen.rows, [first, first + len(scores)])
    rows, items = span.seen.rows[low:high] - first, span.seen.items[low:high]
    inside = items < scores.shape[1]
    scores[torch.from_numpy(rows[inside]), torch.from_numpy(items[inside])] = -torch.inf


def _none_found(sequences: SpanSequences, top_n: int) -> Ranks:
    return np.full(sequences.n_events, top_n, dtype=np.int16)


def _rank_chunk(ranks: Ranks, first: int, scores: Tensor, sequences: SpanSequences, top_n: int) -> None:
    part = slice(int(sequences.offsets[first]), int(sequences.offsets[first + len(scores)]))
    items = torch.from_numpy(sequences.items[part])
    inside = items < scores.shape[1]
    counts = torch.from_numpy(sequences.counts[first : first + len(scores)])
    row = torch.arange(len(scores)).repeat_interleave(counts)[inside]
    depth = min(top_n + 1, scores.shape[1])
    top = scores.topk(depth, dim=1).values
    if depth <= top_n:  # a catalogue shorter than the list: nothing scores below its last place
        top = torch.nn.functional.pad(top, (0, top_n + 1 - depth), value=-torch.inf)
    own = scores[row, items[inside]]
    found = ranks_within(top[row], own).where(own > -torch.inf, torch.full_like(row, top_n))
    ranks[part][inside.numpy()] = found.numpy().astype(np.int16)
