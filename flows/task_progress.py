"""What a person sees while a task is learnt: where it is, how good its best epoch was, and how long it takes at least.

Nobody knows the end beforehand: a phase goes on as long as its held-out log-likelihood gets better. What can be said is
when it is over if that stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.answers import answer
from flows.console import LINE_SECONDS, errors, progress_is_shown
from imsr_core.lifelong.training import PhaseProgress, Progress, silent
from imsr_core.lifelong.wide import WIDE_PHASE

#: Seconds between two changes of the live line.
_REDRAW_SECONDS = 0.5


class Pace:
    """How long a step of the current phase takes, measured from its first step on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase, self._started, self._first = ("", ""), 0.0, 0

    def sentence(self, at: PhaseProgress) -> str:
        """One line on a step."""
        if at.phase == WIDE_PHASE:
            return f"task {at.task}, {at.phase}: fit {at.done} of {at.most} at most, held-out loss {at.loss:.3f}"
        now, phase = self._clock(), (at.task, at.phase)
        if phase != self._phase or at.done <= self._first:
            self._phase, self._started, self._first = phase, now, at.done
        steps = f"step {at.step.batch + 1:,} of {at.step.batches:,}"
        words = f"task {at.task}, {at.phase}: epoch {at.step.epoch + 1}, {steps}, loss {at.loss:.3f}"
        if at.likelihood is not None:
            words += f"; best so far epoch {at.best_epoch}, held-out log-likelihood {at.likelihood:.3f}"
        if at.done > self._first:
            a_step = (now - self._started) / (at.done - self._first)
            words += f"; {duration(a_step * at.least)} left at least, longer while epochs get better"
        return words


def duration(seconds: float) -> str:
    """Seconds in words: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def task_progress() -> Iterator[Progress]:
    """A live line on a terminal; elsewhere a line as a phase begins, and one every half minute; none with --quiet."""
    if answer.as_json or answer.quiet:
        yield silent
    elif progress_is_shown():
        with errors.status("learning") as status:
            yield _now_and_then(status.update, _REDRAW_SECONDS)
    else:
        yield _now_and_then(lambda line: errors.print(line, markup=False, soft_wrap=True), LINE_SECONDS)


def _now_and_then(show: Callable[[str], None], seconds: float) -> Progress:
    pace, said = Pace(), float("-inf")

    def report(at: PhaseProgress) -> None:
        nonlocal said
        line, now = pace.sentence(at), time.monotonic()
        if at.done == 1 or now - said >= seconds:
            said = now
            show(line)

    return report
