"""What the first ingest decided for good: how time is cut into spans, users into buckets, and which ids are one."""

from __future__ import annotations

from imsr_core.errors import ConfigError
from pipelines.lake.spans import Calendar
from pipelines.settings.imsr_toml import Settings
from pipelines.workspace.decoding import decode_meta
from pipelines.workspace.ledger import Snapshot, Transaction

_HINT = "set it back, or make a new workspace and ingest the files there"


def frozen_calendar(view: Snapshot) -> Calendar | None:
    """The calendar of the workspace; None before the first event was ingested."""
    stored = view.meta("calendar")
    return None if stored is None else decode_meta("calendar", stored, lambda values: Calendar(**values))


def whole_numbers(view: Snapshot, settings: Settings) -> bool:
    """Whether 13085.0 is 13085 here: as the first ingest had it; a workspace from before knows no such thing."""
    if view.meta("calendar") is None:
        return settings.source.whole_number_ids
    return view.meta("whole_number_ids") == "true"


def freeze(tx: Transaction, settings: Settings, calendar: Calendar) -> None:
    """Record, with the first ingest, what may not change any more."""
    if tx.meta("calendar") is None:
        tx.put_meta("whole_number_ids", "true" if settings.source.whole_number_ids else "false")
        tx.put_meta("calendar", calendar.to_json())
        tx.put_meta("buckets", str(settings.ingest.buckets))


def zone_of(settings: Settings) -> str:
    """The time zone of the borders of spans: hours and cuts know none."""
    if settings.spans.unit in ("hour", "cut"):
        return "UTC"
    return settings.spans.time_zone or settings.source.time_zone


def check_frozen(view: Snapshot, settings: Settings) -> None:
    """Raise ConfigError if the settings cut time, or users into buckets, otherwise than the first ingest did."""
    calendar = frozen_calendar(view)
    if calendar is None:
        return
    spans = settings.spans
    wanted = (spans.unit, spans.alpha, spans.count) if spans.unit == "cut" else (spans.unit, 0.0, 0)
    if wanted != (calendar.unit, calendar.alpha, calendar.count):
        cut = f" (alpha = {calendar.alpha}, count = {calendar.count})" if calendar.unit == "cut" else ""
        raise ConfigError(
            f"[spans] unit = {spans.unit!r}: this workspace was cut by {calendar.unit!r}{cut} at its first ingest",
            hint="set [spans] back, or make a new workspace and ingest the files there",
        )
    if zone_of(settings) != calendar.zone:
        raise ConfigError(
            f"[spans] time_zone = {zone_of(settings)!r}: spans of this workspace begin at midnight in {calendar.zone}",
            hint=f'set time_zone = "{calendar.zone}" under [spans], or make a new workspace',
        )
    buckets = view.meta("buckets")
    if str(settings.ingest.buckets) != buckets:
        raise ConfigError(f"[ingest] buckets = {settings.ingest.buckets}: this workspace has {buckets}", hint=_HINT)
