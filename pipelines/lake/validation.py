"""What is wrong with a row: SQL over the raw table, evaluated by DuckDB column by column.

The first reason that applies is given, in the order of ``Reason``; ``too_late`` is no fault of the row and is judged
last, of rows that are not in the lake already (see ``pipelines.lake.lookback``). A value, a type or an id of the event
that cannot be read does not cost the event: it is missing then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pipelines.lake.spans import to_us
from pipelines.settings.sections import IngestSettings
from pipelines.workspace.engine import literal


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
    TOO_LATE = "too_late"


@dataclass(frozen=True)
class Limits:
    """The bounds a row must keep, in microseconds since 1970 and bytes; ``nulls`` are words for a missing value."""

    earliest_us: int
    latest_us: int
    first_span_us: int | None
    max_id_bytes: int
    nulls: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, settings: IngestSettings, now: datetime, first_span_us: int | None, nulls: Sequence[str] = ()
    ) -> Limits:
        """The limits at time ``now``; ``first_span_us`` is the start of a frozen cut calendar."""
        earliest = to_us(datetime(settings.min_year, 1, 1, tzinfo=UTC))
        latest = to_us(now) + settings.max_clock_skew_seconds * 1_000_000
        return cls(earliest, latest, first_span_us, settings.max_id_bytes, tuple(nulls))


def present_sql(text: str, nulls: Sequence[str]) -> str:
    """SQL for a text, NULL where it is empty, blank or a word for a missing value."""
    words = ", ".join(literal(word) for word in nulls if word)
    no_word = f" AND {text} NOT IN ({words})" if words else ""
    return f"CASE WHEN trim({text}) <> ''{no_word} THEN {text} END"


def id_sql(text: str, nulls: Sequence[str], whole_numbers: bool) -> str:
    """SQL for an id: as it stands; with ``whole_numbers`` 13085.0 is 13085."""
    found = present_sql(text, nulls)
    if not whole_numbers:
        return found
    return f"""CASE WHEN suffix({text}, '.0') AND regexp_full_match({text}, '-?[0-9]+\\.0') THEN left({text}, -2)
        ELSE {found} END"""


def reason_sql(limits: Limits) -> str:
    """SQL for the reason (NULL: the row is good) over the raw columns plus ``us`` and ``coarse``."""
    ids = ("user_id", "item_id", "event_type", "event_id")
    conditions = {
        Reason.MALFORMED_ROW: "malformed IS NOT NULL",
        Reason.MISSING_USER_ID: f"({present_sql('user_id', limits.nulls)}) IS NULL",
        Reason.MISSING_ITEM_ID: f"({present_sql('item_id', limits.nulls)}) IS NULL",
        Reason.ID_CONTAINS_NUL: " OR ".join(f"contains({name}, chr(0))" for name in ids),
        Reason.ID_TOO_LONG: " OR ".join(f"strlen({name}) > {limits.max_id_bytes}" for name in ids),
        Reason.UNPARSABLE_TIMESTAMP: "coarse IS NULL OR isnan(coarse) OR isinf(coarse)",
        Reason.TIMESTAMP_TOO_EARLY: f"coalesce(us < {limits.earliest_us}, coarse < 0)",
        Reason.TIMESTAMP_IN_FUTURE: f"coalesce(us > {limits.latest_us}, coarse > 0)",
        Reason.BEFORE_FIRST_SPAN: "false" if limits.first_span_us is None else f"us < {limits.first_span_us}",
    }
    cases = " ".join(f"WHEN {condition} THEN '{reason}'" for reason, condition in conditions.items())
    return f"CASE {cases} END"
