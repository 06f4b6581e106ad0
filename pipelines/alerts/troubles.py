"""What somebody should be told of: one look at the ledger, a list of troubles. Reads only.

    failed       a span or a task that failed, or the night itself
    rejected     a version that the gate rejected, while none after it went live
    stale        nothing was learnt for longer than [alerts] stale_after
    quarantined  the newest ingest had more refused rows than [ingest] max_quarantined_share
    late         a span with data has been due for longer than [alerts] late_after

A trouble has a key that stays while it is the same one, so that it is told once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from pipelines.lake.spans import from_us
from pipelines.lake.warnings import QuarantinedShareError, over_the_limit, share_of_rows
from pipelines.nights.plan import due_of
from pipelines.settings.alerts import AlertsSettings
from pipelines.settings.imsr_toml import Settings
from pipelines.versions.line import Line
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, SpanRow
from pipelines.workspace.states import SpanState, VersionState

_DAY_SECONDS = 86_400.0
#: The cause of a run that ended since too much of its ingest was refused.
_QUARANTINED = "too much in quarantine"


@dataclass(frozen=True)
class Trouble:
    """One thing to tell: its ``kind`` (of `pipelines.settings.alerts.KINDS`), what it is, what to type, and its key.

    A run that failed has the ``cause`` of the span or the ingest that it failed by; "" has nothing in common.
    """

    kind: str
    text: str
    hint: str
    key: str
    cause: str = ""


def troubles(workspace: Workspace, *, now: datetime, made: Collection[str] = ()) -> list[Trouble]:
    """All that is wrong as of ``now``; ``made`` are versions of a run that just ended, told of though a later one of
    the same run went live."""
    settings = workspace.settings
    with workspace.ledger.snapshot() as view:
        spans = view.spans()
        return [
            *_failed(spans),
            *_failed_tasks(workspace),
            *_rejected(view, made),
            *_stale(spans, settings, now),
            *_quarantined(view, settings),
            *_late(view, spans, settings, now),
        ]


def failed_night(error: Exception, *, what: str, now: datetime) -> Trouble:
    """A run that ended with an error: told each time, for somebody waits for what it did not do."""
    words = error.message if isinstance(error, ImsrError) else f"{type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, ImsrError) else ""
    kind, cause = ("quarantined", _QUARANTINED) if isinstance(error, QuarantinedShareError) else ("failed", words)
    key = f"failed {what} {now.isoformat()}"
    return Trouble(kind, f"the {what} failed: {words}", hint or "look: imsr status", key, cause)


def unreadable(error: ImsrError) -> Trouble:
    """Nothing can be said of the workspace, for its settings or its ledger cannot be read; told once."""
    return Trouble("failed", f"no night can run: {error.message}", error.hint, f"failed unreadable {error.message}")


def late_night(expected: datetime, began: datetime, settings: AlertsSettings) -> Trouble | None:
    """A night that began later than scheduled by more than ``late_after``; None if it did not."""
    limit = settings.late_seconds
    behind = (began - expected).total_seconds()
    if limit is None or behind <= limit:
        return None
    text = f"the night of {expected:%Y-%m-%d %H:%M} UTC began {_length(behind)} late"
    return Trouble("late", text, "does the worker or `imsr serve` run?", f"late night {expected.isoformat()}")


def _failed(spans: list[SpanRow]) -> Iterator[Trouble]:
    for span in spans:
        if span.state is SpanState.FAILED:
            text = f"span {span.span_id} failed: {span.error}"
            key = f"failed {span.span_id} {span.updated_at}"
            yield Trouble("failed", text, "try again: imsr run", key, span.error or "")


def _failed_tasks(workspace: Workspace) -> Iterator[Trouble]:
    if not workspace.settings.tasks:
        return
    from pipelines.tasks.due import FAILED, standings  # a run without tasks brings along nothing of them

    for task in standings(workspace):
        if task.state == FAILED:
            text = f"task {task.name} failed: {task.why}"
            yield Trouble("failed", text, "look: imsr task list", f"failed task {task.name} {task.why}", task.why)


def _rejected(view: Snapshot, made: Collection[str]) -> Iterator[Trouble]:
    """Of both lines. A version that a person put live, or took back, is not rejected: its state is another."""
    for line in Line:
        moves = view.promotions(line)
        since = moves[-1].at if moves else ""
        for row in view.versions(line):
            fresh = row.created_at > since or row.version_id in made
            if row.state is not VersionState.REJECTED or not fresh:
                continue
            reasons = "; ".join((row.verdict or {}).get("reasons", ())) or "the gate did not pass it"
            stays = f"{moves[-1].version_id} stays live" if moves else "no version is live"
            text = f"version {row.version_id} was rejected: {reasons}; {stays}"
            hint = f"look: imsr report; put it live all the same: imsr promote {row.version_id}"
            yield Trouble("rejected", text, hint, f"rejected {row.version_id}")


def _stale(spans: list[SpanRow], settings: Settings, now: datetime) -> Iterator[Trouble]:
    learnt = [span for span in spans if span.state is SpanState.PUBLISHED]
    if not learnt:
        return
    newest = max(learnt, key=lambda span: span.end_us)
    length = (newest.end_us - newest.start_us) / 1e6
    limit = settings.alerts.stale_seconds or 2 * length + _DAY_SECONDS
    age = now.timestamp() - newest.end_us / 1e6
    if age > limit:
        text = f"nothing was learnt since {newest.span_id}, which ended {_length(age)} ago"
        yield Trouble("stale", text, "do events arrive? imsr status", f"stale {newest.span_id} {newest.data_version}")


def _quarantined(view: Snapshot, settings: Settings) -> Iterator[Trouble]:
    batches = view.batches()
    share = over_the_limit(batches[-1], settings) if batches else None
    if share is not None:
        batch = batches[-1]
        rows = f"{share_of_rows(share)} of the {counted(batch.read, 'row')}"
        text = f"{rows} of ingest {batch.batch_id} are in quarantine"
        key = f"quarantined {batch.batch_id}"
        yield Trouble("quarantined", text, "look: imsr sql 'FROM quarantine'", key, _QUARANTINED)


def _late(view: Snapshot, spans: list[SpanRow], settings: Settings, now: datetime) -> Iterator[Trouble]:
    """Due since the later of the span's end and the arrival of its data."""
    limit = settings.alerts.late_seconds
    runs = due_of(spans, pretrain=settings.spans.pretrain, now=now)
    if limit is None or not runs:
        return
    first = next(span for span in spans if span.span_id == runs[0].span_id)
    arrived = {row.span_id: row.created_at for row in view.current_span_versions()}
    since = max(from_us(first.end_us), datetime.fromisoformat(arrived[first.span_id]))
    if now - since > timedelta(seconds=limit):
        first_of_all = f"{len(runs):,} runs are due, the first ({runs[0].label})"
        which = first_of_all if len(runs) > 1 else f"a run ({runs[0].label}) is due"
        text = f"{which} for {_length((now - since).total_seconds())}"
        yield Trouble("late", text, "run: imsr run", f"late {first.span_id} {first.data_version}")


def _length(seconds: float) -> str:
    """A length of time in its largest unit: 3 days, 5 hours."""
    for name, length in (("day", _DAY_SECONDS), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= length:
            count = int(seconds // length)
            return counted(count, name)
    return f"{seconds:.0f} seconds"
