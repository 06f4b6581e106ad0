"""Queries that people type: they read the views, and can write nothing.

DuckDB can confine a session to some folders, but in those it may write: ``COPY ... TO`` could overwrite the lake. So a
query is parsed before it runs, and only what reads gets through. The parser's tree decides and not the text: since
DuckDB 2.0 a COPY can also hide in a WITH.
"""

from __future__ import annotations

import json
import re

import duckdb

from imsr_core.errors import ImsrError

#: What a query may be made of. Whatever else a query node is (COPY, INSERT, ...), it writes.
READING = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})

_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s", re.IGNORECASE)


class QueryError(ImsrError):
    """A query that DuckDB does not understand, or that does more than read."""


def run_query(connection: duckdb.DuckDBPyConnection, text: str) -> duckdb.DuckDBPyConnection:
    """Run queries that only read; the result of the last one is there to be fetched.

    ``connection`` is a session of `pipelines.warehouse.catalog.connect`, which keeps it away from all other files.

    Raises:
        QueryError: not SQL, no query at all, or a statement that could write.
    """
    try:
        require_reading(connection, _EXPLAIN.sub("", text, count=1) if _EXPLAIN.match(text) else text)
        return connection.execute(text)
    except duckdb.Error as error:
        raise QueryError(str(error), hint="the views are listed by: imsr sql --help") from error


def require_reading(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Raise QueryError unless every statement of ``text`` is a query that only reads."""
    kinds: set[str] = set()

    def note(node: dict[str, object]) -> dict[str, object]:
        kinds.add(str(node.get("type")))
        return node

    (tree,) = connection.execute("SELECT json_serialize_sql($1)", [text]).fetchone() or ("{}",)
    parsed = json.loads(tree, object_hook=note)
    if parsed.get("error"):
        raise QueryError(str(parsed["error_message"]), hint="one or more SELECTs; the views: imsr sql --help")
    if not parsed.get("statements"):
        raise QueryError("there is no query", hint="for example: imsr sql 'FROM spans'")
    writing = sorted(kind for kind in kinds if kind.endswith("_NODE") and kind not in READING)
    if writing:
        name = writing[0].removesuffix("_NODE").removesuffix("_QUERY")
        raise QueryError(f"{name} writes, and this session only reads", hint="save a result with: imsr sql --csv")
