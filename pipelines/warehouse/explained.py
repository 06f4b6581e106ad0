"""A DuckDB session that says in our words what happened to the files it reads.

A session goes on answering from the state that it opened, but a prune may have removed files of it since, or a user
was forgotten, whose rows the old files had. The engine says "No files found" then, at the query or, as relations are
lazy, only when their rows are fetched; and "Out of buffer" of a file that was written anew under its name, as the lists
of `imsr recommend --all` are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, cast

import duckdb

from imsr_core.errors import ImsrError

#: What the engine says of a file that is not there any more, and of one that was replaced while a query read it.
_GONE = re.compile(r"No files found|No such file or directory", re.IGNORECASE)
_REPLACED = "Out of buffer"
#: And of one that is damaged.
_DAMAGED = re.compile(r"magic bytes|too small to be a Parquet file", re.IGNORECASE)
_TRIES, _PAUSE_SECONDS = 3, 0.1
#: Asking these again is harmless: what comes back is complete, or an error.
_QUESTIONS = frozenset({"execute", "sql", "query", "fetchall", "fetch_arrow_table", "to_arrow_table", "arrow", "df"})


class QueryError(ImsrError):
    """A query that DuckDB does not understand, that does more than read, or whose files are gone."""


class FilesGone(QueryError):
    """The files that a session reads are not there any more; one that is opened now reads others."""


def explained(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The session, with errors that say what to do; it can do what it could."""
    return cast(duckdb.DuckDBPyConnection, _Explained(connection))


def explanation(error: duckdb.Error) -> QueryError | None:
    """What an error of the engine means where files were removed, replaced or damaged; None for any other error."""
    if isinstance(error, duckdb.IOException) and _GONE.search(str(error)):
        return FilesGone(
            "files that this session reads are gone since it was opened: pruned, or a user was forgotten",
            hint="open it again (imsr sql: give the command again); if they are missing then, too: imsr doctor",
        )
    if _REPLACED in str(error):
        return QueryError(
            f"a file was rewritten while the query read it ({_REPLACED})",
            hint="ask again; if it goes on: imsr doctor",
        )
    if _DAMAGED.search(str(error)):
        return QueryError(
            f"a file is damaged: {str(error).splitlines()[0]}", hint="imsr doctor says which, and what to do"
        )
    return None


def asked_again(question: Callable[[], Any]) -> Any:
    """The answer; a question is put again if a file was replaced at the very moment."""
    for _ in range(_TRIES - 1):
        try:
            return question()
        except duckdb.Error as error:
            if _REPLACED not in str(error):
                raise
            time.sleep(_PAUSE_SECONDS)
    return question()


class _Explained:
    """Stands before a connection or a relation, and before every one that it gives."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            plain = [each._inner if isinstance(each, _Explained) else each for each in arguments]
            try:
                answer = (
                    asked_again(lambda: found(*plain, **options)) if name in _QUESTIONS else found(*plain, **options)
                )
            except duckdb.Error as error:
                said = explanation(error)
                if said is None:
                    raise
                raise said from error
            return self if answer is self._inner else _explained_answer(answer)

        return call

    def __enter__(self) -> _Explained:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()

    def __repr__(self) -> str:
        return repr(self._inner)

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, key: Any) -> Any:
        return _explained_answer(self._inner[key])


def _explained_answer(answer: Any) -> Any:
    return _Explained(answer) if isinstance(answer, duckdb.DuckDBPyRelation | duckdb.DuckDBPyConnection) else answer
