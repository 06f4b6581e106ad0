"""The refused rows of an ingest, by reason: how many, what the first one looked like, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.lake.validation import Reason

if TYPE_CHECKING:
    import duckdb

#: Characters of a row that are shown.
_SHOWN = 100
#: The reason -> what a person can set, where the rows are right and our reading of them is not.
_ADVICE = {
    Reason.MALFORMED_ROW: "set delimiter or quote under [source]",
    Reason.MISSING_USER_ID: "null_values under [source] says which words stand for nothing",
    Reason.MISSING_ITEM_ID: "null_values under [source] says which words stand for nothing",
    Reason.ID_TOO_LONG: "raise [ingest] max_id_bytes",
    Reason.UNPARSABLE_TIMESTAMP: "set time_format or time_unit under [source]",
    Reason.TIMESTAMP_TOO_EARLY: "set time_unit under [source], or [ingest] min_year",
    Reason.TIMESTAMP_IN_FUTURE: "set time_unit or time_zone under [source], or [ingest] max_clock_skew",
}
_NOT_UTF8 = 'set encoding under [source]: "latin-1", "cp1252", ...'
_BACKSLASH = 'set escape = "backslash" under [source]'
#: How the readers say it (DuckDB's reader of CSV, and ours).
_NOT_UTF8_WORDS = ("not utf-8 encoded", "no utf-8 text")


@dataclass(frozen=True)
class Refusal:
    """The rows that were refused for one reason.

    Attributes:
        rows: how many.
        first: the first of them: its file, its number there, and what is in it.
    """

    rows: int
    first: str


def refusals_in(connection: duckdb.DuckDBPyConnection) -> dict[str, Refusal]:
    """Reason -> the refused rows, out of an intake's tables ``bad`` and ``sources``."""
    query = """
        SELECT reason, count(*), arg_min(concat_ws(' ', source || ', row ' || (row_number + before) || ':',
            coalesce(detail, concat_ws(', ', user_id, item_id, timestamp))), (file, row_number))
        FROM bad JOIN sources USING (file) GROUP BY reason ORDER BY reason"""
    return {reason: Refusal(rows, first) for reason, rows, first in connection.execute(query).fetchall()}


def advice(reason: str, refusal: Refusal) -> str:
    """What to set, if the rows are right; "" where no setting would let them in."""
    if reason == Reason.MALFORMED_ROW and is_not_utf8(refusal.first):
        return _NOT_UTF8
    if reason == Reason.MALFORMED_ROW and '\\"' in refusal.first:
        return _BACKSLASH
    return _ADVICE.get(Reason(reason), "")


def is_not_utf8(complaint: str) -> bool:
    """Whether a reader's complaint is that the text is in another encoding."""
    return any(words in complaint.lower() for words in _NOT_UTF8_WORDS)


def shown(refusal: Refusal) -> str:
    """The first row on one line."""
    line = " ".join(refusal.first.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
