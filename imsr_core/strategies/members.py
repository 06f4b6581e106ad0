"""A span learnt by all members of a model, each by the same strategy; see `imsr_core.members`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from imsr_core.members import Member, renamed
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies.protocol import Progress, SpanUpdate, silent


def learn(
    strategy: Callable[..., SpanUpdate],
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    **how: Any,
) -> SpanUpdate:
    """The update of a model by a strategy: that of the first member, with those of the further ones in it.

    ``how`` is what else the strategy takes. What a strategy remembers of a further member is kept with what it
    remembers of the first, under a name with the member's number. Raises what the strategy raises.
    """
    count = 1 + len(state.members)
    update = strategy(state, span, n_items, _part(progress, 0, count), **how)
    updates = []
    for number in range(1, count):
        alone = state.member(number)
        learnt = strategy(alone, span, n_items, _part(progress, number, count), **how)
        learnt.state.score = None
        updates.append(learnt)
    if not updates:
        return update
    after = replace(update.state, members=tuple(_member(learnt.state) for learnt in updates))
    for number, learnt in enumerate(updates, 1):
        after.memory = after.memory | renamed(learnt.state.memory, number)
        after.user_memory = after.user_memory | renamed(learnt.state.user_memory, number)
    return replace(update, state=after, members=tuple(updates))


def _member(state: ModelState) -> Member:
    return Member(state.items, state.extractor, state.store, state.extractor_optimizer)


def _part(progress: Progress, number: int, count: int) -> Progress:
    """The progress of one member as that of all: its steps come after those of the members before it."""
    if count == 1:
        return progress

    def tell(done: int, total: int, loss: float) -> None:
        progress(number * total + done, count * total, loss)

    return tell
