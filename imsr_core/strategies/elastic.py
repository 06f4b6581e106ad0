"""Elastic: IMSR that also forgets. What rested for long goes, and so does what is beyond a budget; see `shrinking`."""

from __future__ import annotations

from functools import partial

from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies.imsr import imsr
from imsr_core.strategies.protocol import History, Progress, SpanUpdate, silent
from imsr_core.strategies.shrinking import shrink
from imsr_core.strategies.visits import Visits, last_visits


def elastic(
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    *,
    visible: SpanSequences | None = None,
    history: History | None = None,
) -> SpanUpdate:
    """One span of `imsr`, at the end of which its users' interests are cut back to what ``[elastic]`` allows."""
    settings, visits = state.config.elastic, Visits.of(state)
    forget = partial(shrink, config=settings, visits=visits)
    update = imsr(state, span, n_items, progress, visible=visible, shrink=forget)
    if settings.idle_spans > 1:
        users = update.interests.user
        update.state.user_memory |= visits.after(
            update.interests, last_visits(state.store, users), state.spans, settings.idle_spans - 1
        )
    return update
