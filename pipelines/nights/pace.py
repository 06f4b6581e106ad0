"""How long the rest of a backfill takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from imsr_core.counted import counted
from pipelines.nights.plan import PlannedRun
from pipelines.workspace.layout import Workspace


@dataclass
class Pace:
    """How long the rest will take, from the spans that are done: seconds that each takes, and seconds for its events.

    Both come from the line through the spans that are done (least squares), no part of it below nought: a small span
    costs what any span costs. Pre-training takes more epochs than an update, so that neither is judged by the other;
    before the first of its kind is done nothing is said.
    """

    events: dict[str, int]
    left: list[PlannedRun]
    _done: dict[bool, list[tuple[int, float]]] = field(default_factory=dict)

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
        self._done.setdefault(run.base, []).append((self.events[run.span_id], seconds))

    def seconds_left(self) -> float | None:
        """Seconds for the runs that are left; None as long as nothing like them was seen."""
        total = 0.0
        for kind in sorted({run.base for run in self.left}):
            if not any(events for events, _ in self._done.get(kind, ())):
                return None
            each, per_event = _line(self._done[kind])
            total += sum(each + per_event * self.events[run.span_id] for run in self.left if run.base == kind)
        return total

    def __str__(self) -> str:
        seconds = self.seconds_left()
        if seconds is None or not self.left:
            return ""
        done = sum(len(self._done[kind]) for kind in {run.base for run in self.left})
        return f"about {duration(seconds)} left, judging by {counted(done, 'span')}"


def _line(done: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Seconds of a span without events, and of an event, from the (events, seconds) of spans; neither negative."""
    mean_events = sum(events for events, _ in done) / len(done)
    mean_seconds = sum(seconds for _, seconds in done) / len(done)
    spread = sum((events - mean_events) ** 2 for events, _ in done)
    most = mean_seconds / mean_events
    if not spread:
        return 0.0, most
    slope = sum((events - mean_events) * (seconds - mean_seconds) for events, seconds in done) / spread
    slope = min(max(slope, 0.0), most)
    return mean_seconds - slope * mean_events, slope


def duration(seconds: float) -> str:
    """Seconds for people, in one unit or two: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
