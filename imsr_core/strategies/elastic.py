"""Elastic: IMSR that also forgets. What rested for long goes, and so does what is beyond a budget; see `elastic.py`."""

from __future__ import annotations

from functools import partial

from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies.imsr import imsr
from imsr_core.strategies.protocol import History, Progress, SpanUpdate, silent
from imsr_core.strategies.shrinking import shrink


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
    forget = partial(shrink, config=state.config.elastic)
    return imsr(state, span, n_items, progress, visible=visible, shrink=forget)
