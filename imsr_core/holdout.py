"""Hide a few events from learning, so that the model that comes out can be judged on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences, between, drop_empty, split_at


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
    kept = span.counts
    kept[chosen] -= 1
    visible, hidden = split_at(span, kept)
    return visible, drop_empty(hidden)


def kept_back(span: SpanSequences, length: int) -> Iterator[tuple[SpanSequences, SpanSequences]]:
    """Ways to split what a chain begins with into a past and what it can be asked about: (past, last), the best first.

    Its last stretch as long as a span (``length`` microseconds), as every later span will be asked about; where it is
    no longer than that, the last quarter of its events; where hardly anybody comes back for these, the last fifth of
    each user's events.
    """
    if not span.n_events:
        return
    first, end = int(span.timestamps.min()), int(span.timestamps.max()) + 1
    for cut in (end - length, int(np.quantile(span.timestamps, 0.75, method="higher"))):
        if cut > first:
            yield between(span, first, cut), between(span, cut, end)
    yield split_at(span, span.counts - span.counts // 5)


def _mixed(values: NDArray[np.int64], salt: int) -> NDArray[np.uint64]:
    """A well-spread number for each value: the finalizer of splitmix64 (Steele, Lea and Flood, 2014)."""
    mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
