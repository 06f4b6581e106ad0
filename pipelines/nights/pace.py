"""How long the rest of a backfill takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.nights.plan import PlannedRun
from pipelines.workspace.layout import Workspace


@dataclass
class Pace:
    """How long the rest will take, from the spans that are done: their seconds, by their events.

    Pre-training takes more epochs than an update, so that neither is judged by the other; before the first of its
    kind is done nothing is said.
    """

    events: dict[str, int]
    left: list[PlannedRun]
    _seconds: dict[bool, float] = field(default_factory=dict)
    _events: dict[bool, int] = field(default_factory=dict)
    _done: dict[bool, int] = field(default_factory=dict)

    @classmethod
    def of(cls, workspace: Workspace, runs: Sequence[PlannedRun]) -> Pace:
        """A pace for these runs; their events are counted in the ledger."""
        with workspace.ledger.snapshot() as view:
            rows = {row.span_id: row.rows for row in view.current_span_versions()}
        events = {run.span_id: sum(rows.get(span_id, 0) for span_id in run.spans) for run in runs}
        return cls(events, list(runs))

    def finished(self, run: PlannedRun, seconds: float) -> None:
        """Say that a run is done, and how long it took."""
        self.left.remove(run)
        self._seconds[run.base] = self._seconds.get(run.base, 0.0) + seconds
        self._events[run.base] = self._events.get(run.base, 0) + self.events[run.span_id]
        self._done[run.base] = self._done.get(run.base, 0) + 1

    def seconds_left(self) -> float | None:
        """Seconds for the runs that are left; None as long as nothing like them was seen."""
        total = 0.0
        for run in self.left:
            if not self._events.get(run.base):
                return None
            total += self.events[run.span_id] * self._seconds[run.base] / self._events[run.base]
        return total

    def __str__(self) -> str:
        seconds = self.seconds_left()
        if seconds is None or not self.left:
            return ""
        done = sum(self._done[kind] for kind in {run.base for run in self.left})
        return f"about {duration(seconds)} left, judging by {done} {'span' if done == 1 else 'spans'}"


def duration(seconds: float) -> str:
    """Seconds for people, in one unit or two: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
