"""Hide a few events from learning, so that the model that comes out can be judged on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences


def hide_last(span: SpanSequences, share: float, salt: int) -> tuple[SpanSequences, SpanSequences]:
    """Split a span into what may be learnt and what is hidden: (visible, hidden).

    Hidden is the last event of some users who have at least two, never more than ``share`` of all events. Which users
    depends on their indices and ``salt`` alone. Every user of the span is in ``visible``; ``hidden`` has only those
    who have something to hide.
    """
    eligible = np.flatnonzero(span.counts > 1)
    wanted = min(int(share * span.n_events), len(eligible))
    order = np.argsort(_mixed(span.users[eligible], salt), kind="stable")
    chosen = np.sort(eligible[order[:wanted]])
    last = np.zeros(span.n_events, dtype=bool)
    last[span.offsets[1:][chosen] - 1] = True
    counts = span.counts.copy()
    counts[chosen] -= 1
    visible = SpanSequences(span.users, _offsets(counts), span.items[~last], span.timestamps[~last])
    hidden = SpanSequences(
        span.users[chosen], np.arange(wanted + 1, dtype=np.int64), span.items[last], span.timestamps[last]
    )
    return visible, hidden


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def _mixed(values: NDArray[np.int64], salt: int) -> NDArray[np.uint64]:
    """A well-spread number for each value: the finalizer of splitmix64 (Steele, Lea and Flood, 2014)."""
    mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
