"""A file at which the engine fails as a whole.

An assertion of DuckDB's own that fails (a time of day beyond all days in a Parquet file does it) ends its session, and
with it everything that was loaded before. Such a file is refused like any other that cannot be read, and the ingest
begins again without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from pipelines.lake.event_files import ReadError


class EngineDied(ReadError):
    """File ``number`` (0: one of many that were read together) ended the engine's session."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message, hint="give the file in another form, as CSV for one; nothing was ingested")
        self.number = number


@contextmanager
def guarded(connection: duckdb.DuckDBPyConnection, number: int, name: str, tidy: str) -> Iterator[None]:
    """Raise EngineDied where the session does not outlive what is done to file ``number``; run ``tidy`` if it does."""
    try:
        yield
    except (ReadError, duckdb.InternalException, duckdb.FatalException) as error:
        if _is_alive(connection):
            raise
        said = error.message if isinstance(error, ReadError) else str(error)
        shown = said.splitlines()[0].removeprefix(f"{name}: ")[:300]
        raise EngineDied(number, f"{name}: the engine broke off while it read this: {shown}") from error
    finally:
        if _is_alive(connection):
            connection.execute(tidy)


def _is_alive(connection: duckdb.DuckDBPyConnection) -> bool:
    try:
        return connection.execute("SELECT true").fetchall() == [(True,)]
    except duckdb.Error:
        return False
