"""What a file that is read again says of events that the lake has without a type, a value or an id: it is filled in.

A good row of such a file and a row of the lake are the same event if user, item and time are the same, and type and id
as far as both have them. Several at one instant are paired in their order.
"""

from __future__ import annotations

import duckdb

_PLACE = ("number", "user_id", "item_id", "us")
_EVENT = ", ".join((*_PLACE, "event_type", "event_id"))


def find_fills(connection: duckdb.DuckDBPyConnection, span_sql: str, again: str) -> int:
    """Make the table ``fills``: rows of ``existing`` with what they get. They are no new rows then: they leave
    ``firsts``. Returns how many events are completed.

    Args:
        connection: with the tables of ``pipelines.lake.intake``.
        span_sql: the span of a row.
        again: says of a row of ``good`` that its file was ingested before.
    """
    connection.execute(f"""
        CREATE TABLE again AS SELECT number, good.* FROM good JOIN touched ON span = {span_sql} WHERE {again};
        CREATE TABLE before AS SELECT {_EVENT}, value FROM existing SEMI JOIN again USING ({", ".join(_PLACE)});
        CREATE TABLE fills AS
            SELECT e.*, n.event_type AS new_type, n.value AS new_value, n.event_id AS new_id, NULL::BIGINT AS ordinal
            FROM before AS e JOIN again AS n ON {_equal(_PLACE)}
                AND n.event_type IS NOT DISTINCT FROM e.event_type AND n.event_id IS NOT DISTINCT FROM e.event_id
            WHERE e.value IS NULL AND n.value IS NOT NULL""")
    _pair(connection, (*_PLACE, "event_type"), "event_type IS NOT NULL AND event_id IS NULL")
    _pair(connection, _PLACE, "event_type IS NULL")
    connection.execute("DELETE FROM firsts WHERE ordinal IN (SELECT ordinal FROM fills)")
    connection.execute("INSERT INTO changed SELECT number, 0 FROM fills GROUP BY number")
    ((count,),) = connection.execute("SELECT count(*) FROM fills").fetchall()
    return int(count)


def _pair(connection: duckdb.DuckDBPyConnection, alike: tuple[str, ...], unknown: str) -> None:
    """Pair, in their order, rows of the lake of which something is ``unknown`` with new rows that are ``alike``; those
    that stand in the file as they are in the lake, or have a partner already, are left out."""
    nth = f"OVER (PARTITION BY {', '.join(alike)}"
    connection.execute(f"""
        INSERT INTO fills SELECT e.* EXCLUDE nth, n.event_type, n.value, n.event_id, n.ordinal FROM (
            SELECT *, row_number() {nth} ORDER BY event_id, value) AS nth FROM before
            WHERE {unknown} AND ({_EVENT}) NOT IN (SELECT ({_EVENT}) FROM again)
                AND ({_EVENT}) NOT IN (SELECT ({_EVENT}) FROM fills WHERE ordinal IS NOT NULL)) AS e
        JOIN (
            SELECT *, row_number() {nth} ORDER BY ordinal) AS nth FROM again
            WHERE ordinal IN (SELECT ordinal FROM firsts)
                AND ordinal NOT IN (SELECT ordinal FROM fills WHERE ordinal IS NOT NULL)) AS n
        ON {_equal(alike)} AND n.nth = e.nth AND (e.event_id IS NULL OR n.event_id IS NULL OR e.event_id = n.event_id)
        WHERE n.event_type IS DISTINCT FROM e.event_type OR n.event_id IS DISTINCT FROM e.event_id""")


def completed(connection: duckdb.DuckDBPyConnection) -> str:
    """The rows of ``existing``, completed by ``fills`` where there are any, as a relation."""
    if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'fills'").fetchall():
        return "existing"
    match = " AND ".join(f"e.{key} IS NOT DISTINCT FROM f.{key}" for key in _EVENT.split(", "))
    return f"""(SELECT e.* REPLACE (coalesce(e.event_type, f.new_type) AS event_type,
            coalesce(e.value, f.new_value) AS value, coalesce(e.event_id, f.new_id) AS event_id)
        FROM existing AS e LEFT JOIN fills AS f ON {match})"""


def _equal(columns: tuple[str, ...]) -> str:
    return " AND ".join(f"n.{column} = e.{column}" for column in columns)
