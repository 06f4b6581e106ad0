"""Queries that people type: they read the views, and can write nothing.

DuckDB can confine a session to some folders, but in those it may write: ``COPY ... TO`` could overwrite the lake. So a
query is parsed before it runs, and only what reads gets through. The parser's tree decides and not the text: since
DuckDB 2.0 a COPY can also hide in a WITH.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import duckdb

from pipelines.warehouse.explained import FilesGone, QueryError, asked_again, explanation
from pipelines.warehouse.session import literals
from pipelines.workspace.layout import Workspace, pattern_signs

__all__ = ["FilesGone", "QueryError", "confine", "define_views", "require_reading", "run_query"]

#: Kinds of query nodes that only read. All other kinds (COPY, INSERT, ...) write, and are refused.
READING = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})

#: What a session may read of a workspace.
ROOMS = (
    "lake",
    "quarantine",
    "sequences",
    "versions",
    "catalog",
    "recommendations",
    "explanations",
    "matrix",
    "metadata",
)

_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s", re.IGNORECASE)
#: A view or a macro as views.sql defines them; the query is looked at by itself.
_DEFINITION = re.compile(
    r"(?:\s|--[^\n]*\n)*CREATE OR REPLACE (?:VIEW \w+ AS|MACRO \w+\([\w, ]*\) AS TABLE)\s+(?P<query>.*)", re.DOTALL
)
#: A comment on one of them, which is a text and nothing else.
_COMMENT = re.compile(
    r"(?:\s|--[^\n]*\n)*COMMENT ON (?:VIEW \w+|MACRO TABLE \w+|COLUMN \w+\.\"\w+\") IS '(?:[^']|'')*'\s*;?\s*"
)


def confine(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """Keep a session to the workspace's folders, with no way back.

    Raises:
        QueryError: a folder in them is a link. The engine takes ``link/..`` for the folder that the link is in, but the
            system goes on from where the link leads, which may be anywhere. Or the workspace's path is a pattern, which
            would stand for its neighbours, too.
    """
    if signs := pattern_signs(workspace.root):
        raise QueryError(
            f"the path of the workspace, {workspace.root}, has {signs} in it, which DuckDB takes for a pattern",
            hint=f"give the folder a name without {signs}",
        )
    link = next(_linked_folders([workspace.root / name for name in ROOMS]), None)
    if link is not None:
        raise QueryError(
            f"{workspace.relative(link)} is a link to another folder, and queries of people follow none",
            hint="remove it, or put the folder itself there",
        )
    folders = [f"{workspace.root / name}/" for name in ROOMS]
    connection.execute(f"SET allowed_directories = {literals(folders)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _linked_folders(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for where, names, _ in os.walk(folder):
            yield from (path for name in names if (path := Path(where, name)).is_symlink())


def define_views(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Make the views and macros of ``views.sql``, and the comments on them; nothing else in it is run.

    Raises:
        QueryError: it holds something else, or a view that would write.
    """
    try:
        for statement in connection.extract_statements(text):
            definition = _DEFINITION.fullmatch(statement.query)
            if definition is not None:
                require_reading(connection, definition["query"])
            elif not _COMMENT.fullmatch(statement.query):
                raise QueryError("views.sql does more than define views", hint="write it anew with: imsr views")
            connection.execute(statement)
    except duckdb.Error as error:
        raise QueryError(f"views.sql does not work: {error}", hint="write it anew with: imsr views") from error


def run_query(connection: duckdb.DuckDBPyConnection, text: str) -> duckdb.DuckDBPyConnection:
    """Run queries that only read; the result of the last one is there to be fetched.

    ``connection`` is a session of `pipelines.warehouse.catalog.connect`, which keeps it away from all other files.

    Raises:
        QueryError: not SQL, no query at all, or a statement that could write; or files of the views were pruned since
            the session was opened.
    """
    try:
        require_reading(connection, _EXPLAIN.sub("", text, count=1) if _EXPLAIN.match(text) else text)
        return cast(duckdb.DuckDBPyConnection, asked_again(lambda: connection.execute(text)))
    except duckdb.IOException as error:
        damaged = QueryError(str(error), hint="is a file damaged? run: imsr doctor")
        raise explanation(error) or damaged from error
    except duckdb.PermissionException as error:
        raise QueryError(
            str(error), hint="this session reads the views and the folders of the workspace, and no other file"
        ) from error
    except duckdb.Error as error:
        listed = "the views are listed by: imsr sql --help; if an earlier release wrote them: imsr views"
        unknown = QueryError(str(error), hint=listed)
        raise explanation(error) or unknown from error


def require_reading(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Raise QueryError unless every statement of ``text`` is a query that only reads."""
    statements = connection.extract_statements(text)
    if not statements:
        raise QueryError("there is no query", hint="for example: imsr sql 'FROM spans'")
    for statement in statements:
        kind = _kind(statement)
        if kind == "MULTI":  # PIVOT without IN, which creates a type on the way
            raise QueryError("PIVOT has to name its values here", hint="for example: PIVOT spans ON state IN ('stale')")
        if kind != "SELECT":
            raise _writes(kind)
    kinds: set[str] = set()

    def note(node: dict[str, object]) -> dict[str, object]:
        kinds.add(str(node.get("type")))
        return node

    (tree,) = connection.execute("SELECT json_serialize_sql($1)", [text]).fetchone() or ("{}",)
    parsed = json.loads(tree, object_hook=note)
    if parsed.get("error"):
        raise QueryError(str(parsed["error_message"]), hint="one or more SELECTs; the views: imsr sql --help")
    writing = sorted(kind for kind in kinds if kind.endswith("_NODE") and kind not in READING)
    if writing:
        raise _writes(writing[0].removesuffix("_NODE").removesuffix("_QUERY"))


def _kind(statement: duckdb.Statement) -> str:
    """The name of a statement's type; the engine has some that its Python side does not know."""
    try:
        return str(statement.type.name)
    except ValueError:
        return "this statement"


def _writes(name: str) -> QueryError:
    return QueryError(
        f"{name.replace('_', ' ')} does more than read, and this session only reads",
        hint="save a result with: imsr sql --csv",
    )
