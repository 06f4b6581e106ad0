"""Values (a rating, a price) that cannot be read as numbers.

Such a value does not cost the event; but by ``min_value`` it is the value that decides which rows are events, and a
decimal comma would leave all of them out.
"""

from __future__ import annotations

import duckdb

from pipelines.lake.event_files import ReadError
from pipelines.lake.event_sql import number_sql
from pipelines.lake.validation import present_sql
from pipelines.settings.source import SourceSettings


def unread_sql(source: SourceSettings) -> str:
    """SQL for whether a raw row has a value, and it is no number."""
    return f"({_given_sql(source)} AND ({number_sql(source.decimal)}) IS NULL)"


def without_any(connection: duckdb.DuckDBPyConnection, source: SourceSettings, table: str) -> list[int]:
    """Files of a raw table (``file``, the raw columns) that have values of which ``min_value`` can compare none."""
    if source.min_value is None or not source.value:
        return []
    found = connection.execute(f"""
        SELECT file FROM {table} GROUP BY file
        HAVING count(*) FILTER ({_given_sql(source)}) > 0 AND bool_and(NOT {_given_sql(source)} OR {unread_sql(source)})
        """)
    return [number for (number,) in found.fetchall()]


def check_values(connection: duckdb.DuckDBPyConnection, table: str, source: SourceSettings, name: str) -> None:
    """Raise ReadError if a raw table has values, and ``min_value`` can compare none of them."""
    if not without_any(connection, source, f"(SELECT 1 AS file, * FROM {table})"):
        return
    ((values, first, comma),) = connection.execute(f"""
        SELECT count(*), left(arg_min(value, row_number), 100), count({number_sql(",")}) = count(*)
        FROM {table} WHERE {_given_sql(source)}""").fetchall()
    mark = 'set decimal = "," under [source] in imsr.toml'
    raise ReadError(
        f"{name}: not one of its {values:,} values can be read as a number, so min_value would leave all rows out; "
        f"the first is {first!r}",
        hint=mark if comma else "set value under [source] in imsr.toml to a column of numbers, or take min_value away",
    )


def _given_sql(source: SourceSettings) -> str:
    return f"(malformed IS NULL AND ({present_sql('value', source.null_values)}) IS NOT NULL)"
