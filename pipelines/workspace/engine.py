"""DuckDB as every part of the project uses it: a session in UTC that loads no extension and draws nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Option = str | bool | int | float | list[str]


def duckdb_session(
    database: Path | str = ":memory:", *, read_only: bool = False, **config: Option
) -> duckdb.DuckDBPyConnection:
    """A session, in memory unless a ``database`` is named; ``config`` are more of DuckDB's options.

    DuckDB would draw a bar of its own on the standard output of a long query, in the midst of what a command prints.
    """
    import duckdb  # who only makes SQL, or reads a reason, starts no engine

    options: dict[str, Option] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    connection = duckdb.connect(str(database), read_only=read_only, config=options | config)
    return connection.execute("SET TimeZone = 'UTC'").execute("SET enable_progress_bar = false")


@contextmanager
def registered(
    connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table | pa.RecordBatchReader
) -> Iterator[None]:
    """Rows of Arrow's that queries of the block find under a ``name``."""
    import duckdb

    connection.register(name, rows)
    try:
        yield
    finally:
        with suppress(duckdb.FatalException):  # an engine that died has nothing registered any more
            connection.unregister(name)


def literal(text: str) -> str:
    """A text in SQL, with its quotes."""
    return "'" + text.replace("'", "''") + "'"
