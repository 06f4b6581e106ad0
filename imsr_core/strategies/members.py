"""A span learnt by all members of a model, each by the same strategy; see `imsr_core.members`.

Members know nothing of each other, so that they learn side by side where the machine has the cores: each on one, as
its steps are too small for more. What they learn does not depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from threading import Event, current_thread
from typing import Any

import torch

from imsr_core.devices import training_device
from imsr_core.hands import somebody_lends
from imsr_core.members import Member, renamed
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies.protocol import Progress, SpanUpdate, silent

#: Seconds after which whoever waits for the further members says how far they are.
TELL_EVERY = 0.1


def learn(
    strategy: Callable[..., SpanUpdate],
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    **how: Any,
) -> SpanUpdate:
    """The update of a model by a strategy: that of the first member, with those of the further ones in it.

    ``how`` is what else the strategy takes; ``progress`` is called in the thread that calls this. What a strategy
    remembers of a further member is kept with what it remembers of the first, under a name with the member's number.
    Raises what the strategy raises for any member.
    """
    if not state.members:
        return strategy(state, span, n_items, progress, **how)
    steps = _Steps(progress, 1 + len(state.members))
    alone = [state.member(number) for number in range(1, 1 + len(state.members))]

    def further(number: int) -> SpanUpdate:
        learnt = strategy(alone[number - 1], span, n_items, steps.of(number), **how)
        learnt.state.score = None
        return learnt

    numbers = range(1, steps.members)
    cores = _cores(state)
    if cores == 1:
        update = strategy(state, span, n_items, steps.of(0), **how)
        updates = [further(number) for number in numbers]
    else:
        with _beside(cores - 1, further, numbers, steps) as others:
            update = strategy(state, span, n_items, steps.of(0), **how)
            updates = steps.awaited(others)
    after = replace(update.state, members=tuple(_member(learnt.state) for learnt in updates))
    for number, learnt in enumerate(updates, 1):
        after.memory = after.memory | renamed(learnt.state.memory, number)
        after.user_memory = after.user_memory | renamed(learnt.state.user_memory, number)
    return replace(update, state=after, members=tuple(updates))


def _cores(state: ModelState) -> int:
    """How many members may learn at a time. One where steps take several cores anyway, or an accelerator; and where
    others lend a hand, whom only the main thread may ask."""
    alone = torch.get_num_threads() == 1 and training_device(state.config.training.device).type == "cpu"
    if not alone or somebody_lends():
        return 1
    bound = hasattr(os, "sched_getaffinity")  # to the cores that the process may use
    return min(1 + len(state.members), len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1)


@contextmanager
def _beside(
    threads: int, further: Callable[[int], SpanUpdate], numbers: range, steps: _Steps
) -> Iterator[list[Future[SpanUpdate]]]:
    """For the block, the further members learn in other threads; if it fails, they end at their next step."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="member")
    try:
        steps.others = [pool.submit(copy_context().run, further, number) for number in numbers]
        yield steps.others
    finally:
        steps.ended.set()
        pool.shutdown(cancel_futures=True)


class _Ended(Exception):
    """Another member has failed, or nobody waits any more."""


class _Steps:
    """The progress of all members as one: the steps that any has done, of those of all."""

    def __init__(self, progress: Progress, members: int) -> None:
        self.progress, self.members = progress, members
        self.others: list[Future[SpanUpdate]] = []
        self.ended, self._teller = Event(), current_thread()
        self._done, self._told = [0] * members, 0
        self._total, self._loss = 0, 0.0

    def of(self, number: int) -> Progress:
        """The progress of a member."""

        def tell(done: int, total: int, loss: float) -> None:
            self._done[number], self._total, self._loss = done, total, loss
            if current_thread() is self._teller:
                self._tell()
            elif self.ended.is_set():
                raise _Ended

        return tell

    def awaited(self, others: list[Future[SpanUpdate]]) -> list[SpanUpdate]:
        """What the further members have learnt, in their order, when they have; raises what one of them raised."""
        while wait(others, timeout=TELL_EVERY).not_done:
            self._tell()
        self._tell()
        return [other.result() for other in others]

    def _tell(self) -> None:
        for other in self.others:
            if other.done():
                other.result()
        done = sum(self._done)
        if done != self._told:
            self._told = done
            self.progress(done, self._total * self.members, self._loss)


def _member(state: ModelState) -> Member:
    return Member(state.items, state.extractor, state.store, state.extractor_optimizer)
