"""When a span of a stream is over, and what the stream waits for until then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from imsr_core.counted import counted
from pipelines.lake.frozen import frozen_calendar
from pipelines.lake.spans import from_us, to_us
from pipelines.nights.plan import PlannedRun, due_of
from pipelines.settings.imsr_toml import Settings
from pipelines.stream.watermark import StreamState
from pipelines.workspace.ledger import Snapshot, SpanState
from pipelines.workspace.states import DONE


@dataclass(frozen=True)
class Closing:
    """What a stream's watermark means for the spans.

    Attributes:
        watermark_us: time up to which all events are there; None before every partition has delivered.
        runs: what is due by it, in order.
        opened: whether a span is among them that was never learnt; spans that late events made stale wait for one, or
            each straggler would have them learnt again.
        waits_for: in words, what must come for the next span to be over.
    """

    watermark_us: int | None
    runs: tuple[PlannedRun, ...]
    opened: bool
    waits_for: str


def closing_of(view: Snapshot, settings: Settings, state: StreamState, now: datetime) -> Closing:
    """What is over for a stream at a moment."""
    stream = settings.stream
    watermark = state.watermark_us(to_us(now), stream.idle_us)
    runs: list[PlannedRun] = []
    spans = view.spans()
    if watermark is not None:
        closed = from_us(max(0, watermark - stream.lateness_us))
        runs = due_of(spans, pretrain=settings.spans.pretrain, now=closed)
    states = {span.span_id: span.state for span in spans}
    learnt = DONE | {SpanState.STALE}
    opened = any(states[span_id] not in learnt for run in runs for span_id in run.spans)
    return Closing(watermark, tuple(runs), opened, _waits_for(view, settings, state, watermark, now))


def _waits_for(view: Snapshot, settings: Settings, state: StreamState, watermark: int | None, now: datetime) -> str:
    holder = state.held_by(to_us(now), settings.stream.idle_us)
    calendar = frozen_calendar(view)
    if watermark is None or calendar is None:
        return "a first event" + (f" in partition {holder}" if holder else "")
    span = calendar.span_of(from_us(max(0, watermark - settings.stream.lateness_us)))
    over = from_us(span.end_us + settings.stream.lateness_us)
    lag = (
        f", {counted(state.partitions[holder].lag, 'message')} behind"
        if holder and state.partitions[holder].lag
        else ""
    )
    where = f"in partition {holder}{lag}" if holder else "in any partition: all are idle"
    return f"an event of {over:%Y-%m-%d %H:%M:%S} or later {where}; then {span.id} is over"
