"""What is wrong with a row: SQL over the raw table, evaluated by DuckDB column by column.

The first reason that applies is given, in the order of ``Reason``; ``too_late`` is no fault of the row and is judged
last, of rows that are not in the lake already (see ``pipelines.lake.lookback``).

Time units. ``iso8601``: ``YYYY-MM-DD``, optionally followed by ``T`` or a space, a time of day and an offset
(``Z``, ``+02:00``); without an offset it is UTC. ``s ms us ns``: numbers since 1970, whole or not; fractions of
a microsecond are cut off downwards. ``auto`` chooses one of these for a whole file: text of the ISO form is
iso8601; a number is taken for the one unit in which it lies between 1980 and ten years from now (these ranges
do not overlap). At least 90 % of a file's times must agree on one unit; else it is refused as ambiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import duckdb

from imsr_core.errors import ImsrError
from pipelines.lake.spans import to_us
from pipelines.settings.sections import IngestSettings

AGREEMENT = 0.9

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EARLIEST_AUTO = datetime(1980, 1, 1, tzinfo=UTC)
_FUTURE_AUTO = timedelta(days=3653)
#: Microseconds within which a datetime exists at all (years 1 .. 9999, roughly).
_DATETIME_US = 250_000_000_000_000_000

_ISO = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?)?"


class Reason(StrEnum):
    """Why a row is in quarantine."""

    MALFORMED_ROW = "malformed_row"
    MISSING_USER_ID = "missing_user_id"
    MISSING_ITEM_ID = "missing_item_id"
    ID_CONTAINS_NUL = "id_contains_nul"
    ID_TOO_LONG = "id_too_long"
    UNPARSABLE_TIMESTAMP = "unparsable_timestamp"
    TIMESTAMP_TOO_EARLY = "timestamp_too_early"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    BEFORE_FIRST_SPAN = "before_first_span"
    BAD_VALUE = "bad_value"
    TOO_LATE = "too_late"


class TimeUnitError(ImsrError):
    """The unit of a file's time column cannot be told from its values."""


@dataclass(frozen=True)
class Limits:
    """The bounds a row must keep, in microseconds since 1970 and bytes."""

    earliest_us: int
    latest_us: int
    first_span_us: int | None
    max_id_bytes: int

    @classmethod
    def of(cls, settings: IngestSettings, now: datetime, first_span_us: int | None) -> Limits:
        """The limits at time ``now``; ``first_span_us`` is the start of a frozen cut calendar."""
        earliest = to_us(datetime(settings.min_year, 1, 1, tzinfo=UTC))
        latest = to_us(now) + settings.max_clock_skew_seconds * 1_000_000
        return cls(earliest, latest, first_span_us, settings.max_id_bytes)


def decide_time_unit(connection: duckdb.DuckDBPyConnection, table: str, wanted: str, now: datetime, name: str) -> str:
    """The unit of the raw table's times: ``wanted``, or what ``auto`` finds (see the module's text).

    Raises:
        TimeUnitError: auto, and less than 90 % of the times agree on one unit; ``name`` is the file's.
    """
    if wanted != "auto":
        return wanted
    low, high = _EARLIEST_AUTO.timestamp(), (now + _FUTURE_AUTO).timestamp()
    counts = ", ".join(
        f"count(*) FILTER (number BETWEEN {low * factor} AND {high * factor})" for factor in _PER_SECOND.values()
    )
    iso, readable, *by_unit = connection.execute(f"""
        SELECT count(*) FILTER (iso), count(*) FILTER (iso OR number IS NOT NULL), {counts}
        FROM (SELECT TRY_CAST(timestamp AS DOUBLE) AS number,
                     number IS NULL AND regexp_full_match(timestamp, '{_ISO}') AS iso
              FROM {table})""").fetchall()[0]
    votes = {"iso8601": iso, **dict(zip(_PER_SECOND, by_unit, strict=True))}
    best = max(votes, key=lambda unit: votes[unit])
    if votes[best] >= AGREEMENT * readable:
        return best
    found = ", ".join(f"{count} as {unit}" for unit, count in votes.items() if count) or "none in any unit"
    raise TimeUnitError(
        f"{name}: the time unit is ambiguous: of {readable} times, {found} fall between 1980 and now",
        hint='set time_unit under [source] in imsr.toml: "s", "ms", "us", "ns" or "iso8601"',
    )


def timestamp_sql(unit: str) -> tuple[str, str]:
    """SQL for a raw ``timestamp``: (microseconds since 1970 or NULL, a coarse DOUBLE of the same).

    The second one also exists where the first would overflow, and says on which side.
    """
    if unit == "iso8601":
        form = f"regexp_full_match(timestamp, '{_ISO}')"
        moment = f"CASE WHEN {form} THEN TRY_CAST(timestamp AS TIMESTAMPTZ) END"
        return f"epoch_us({moment})", f"CAST(epoch_us({moment}) AS DOUBLE)"
    coarse = f"(TRY_CAST(timestamp AS DOUBLE) * {1_000_000 / _PER_SECOND[unit]!r})"
    if unit == "ns":
        whole = "CAST(floor(TRY_CAST(timestamp AS DECIMAL(38, 6))) AS HUGEINT)"
        # // cuts towards zero, time before 1970 has to go down
        exact = f"({whole} - (({whole} % 1000) + 1000) % 1000) // 1000"
    else:
        exact = f"floor(TRY_CAST(timestamp AS DECIMAL(38, 6)) * {1_000_000 // _PER_SECOND[unit]})"
    return f"CASE WHEN abs({coarse}) < {_DATETIME_US} THEN CAST({exact} AS BIGINT) END", coarse


def reason_sql(limits: Limits) -> str:
    """SQL for the reason (NULL: the row is good) over the raw columns plus ``us`` and ``coarse``."""
    ids = ("user_id", "item_id", "event_type", "event_id")
    conditions = {
        Reason.MALFORMED_ROW: "malformed IS NOT NULL",
        Reason.MISSING_USER_ID: "coalesce(user_id, '') = ''",
        Reason.MISSING_ITEM_ID: "coalesce(item_id, '') = ''",
        Reason.ID_CONTAINS_NUL: " OR ".join(f"contains({name}, chr(0))" for name in ids),
        Reason.ID_TOO_LONG: " OR ".join(f"strlen({name}) > {limits.max_id_bytes}" for name in ids),
        Reason.UNPARSABLE_TIMESTAMP: "coarse IS NULL OR isnan(coarse) OR isinf(coarse)",
        Reason.TIMESTAMP_TOO_EARLY: f"coalesce(us < {limits.earliest_us}, coarse < 0)",
        Reason.TIMESTAMP_IN_FUTURE: f"coalesce(us > {limits.latest_us}, coarse > 0)",
        Reason.BEFORE_FIRST_SPAN: "false" if limits.first_span_us is None else f"us < {limits.first_span_us}",
        Reason.BAD_VALUE: "value <> '' AND NOT coalesce(isfinite(TRY_CAST(value AS DOUBLE)), false)",
    }
    cases = " ".join(f"WHEN {condition} THEN '{reason}'" for reason, condition in conditions.items())
    return f"CASE {cases} END"
