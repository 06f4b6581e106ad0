"""What the first ingest decided for good: how time is cut into spans, and users into buckets."""

from __future__ import annotations

from imsr_core.errors import ConfigError
from pipelines.lake.spans import Calendar
from pipelines.settings.imsr_toml import Settings
from pipelines.workspace.ledger import Snapshot


def frozen_calendar(view: Snapshot) -> Calendar | None:
    """The calendar of the workspace; None before the first event was ingested."""
    stored = view.meta("calendar")
    return None if stored is None else Calendar.from_json(stored)


def check_frozen(settings: Settings, calendar: Calendar, buckets: str | None) -> None:
    """Raise ConfigError if the settings cut time, or users into buckets, otherwise than the first ingest did."""
    spans = settings.spans
    wanted = (spans.unit, spans.alpha, spans.count) if spans.unit == "cut" else (spans.unit, 0.0, 0)
    if wanted != (calendar.unit, calendar.alpha, calendar.count):
        cut = f" (alpha = {calendar.alpha}, count = {calendar.count})" if calendar.unit == "cut" else ""
        raise ConfigError(
            f"[spans] unit = {spans.unit!r}: this workspace was cut by {calendar.unit!r}{cut} at its first ingest",
            hint="set [spans] back, or make a new workspace and ingest the files there",
        )
    if str(settings.ingest.buckets) != buckets:
        raise ConfigError(
            f"[ingest] buckets = {settings.ingest.buckets}: this workspace has {buckets}",
            hint="set it back, or make a new workspace and ingest the files there",
        )
