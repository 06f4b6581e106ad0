"""Event files of several formats as one DuckDB table of raw text.

Known by their ending, or by ``[source] format``: columns with a delimiter (``.csv .tsv .txt .dat .data``, RecBole's
``.inter``), JSON (``.jsonl .ndjson .json``: one object a line, or an array), Python literals (one a line), ``.parquet
.pq``. Files of text may be packed: ``.gz .bz2 .zst .xz``.

Everything becomes text as it stands in the file: ids are never trimmed or changed in case here. Only where a typed
column holds whole numbers as floats or decimals (a nullable integer that became 17850.0) is the id written as the
integer.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.lake.column_paths import ColumnPath, lists_of, parsed
from pipelines.lake.delimited import (
    Dialect,
    Wanted,
    advice_on_the_header,
    check_header,
    dialect_of,
    locate,
    read_delimited,
)
from pipelines.lake.event_files import EventFile, ReadError
from pipelines.lake.json_lines import read_json
from pipelines.lake.parquet_rows import read_parquet
from pipelines.lake.plain_text import BUDGET, Budget, PlainText, plain_text
from pipelines.settings.source import EVENT_COLUMNS, SourceSettings
from pipelines.workspace.engine import literal
from pipelines.workspace.file_system import is_of_the_machine

__all__ = ["BUDGET", "RAW_COLUMNS", "Budget", "EventFile", "ReadError", "dialect_of_file", "read_columns", "read_file"]

#: Columns of the raw table after ``row_number``, all text; ``malformed`` holds the reader's complaint.
RAW_COLUMNS = (*EVENT_COLUMNS, "malformed")
#: What DuckDB puts around an error of a stream of Arrow's that it reads.
_ENGINE = re.compile(r"^.*reading the stream registered as '\w+' failed: |[. ]*Detail: Python exception:.*", re.DOTALL)


def read_file(
    connection: duckdb.DuckDBPyConnection,
    file: EventFile,
    source: SourceSettings,
    table: str,
    budget: Budget = BUDGET,
) -> None:
    """Make ``table(row_number BIGINT, <RAW_COLUMNS> VARCHAR)`` from a file; one row a record, none left out.

    ``row_number`` counts records from 1 (of lists, the elements); of a malformed record of columns it is the line in
    the file. The budget guards against a small file that unpacks into more than the disk holds.

    Raises:
        ReadError: no such file, not readable as its format, damaged, empty, over the budget, or a wanted column is
            missing.
    """
    read_columns(connection, file, source, source.wanted(), EVENT_COLUMNS, table, budget)


def read_columns(
    connection: duckdb.DuckDBPyConnection,
    file: EventFile,
    source: SourceSettings,
    names: Mapping[str, tuple[str, ...]],
    columns: Sequence[str],
    table: str,
    budget: Budget = BUDGET,
) -> None:
    """Make ``table(row_number BIGINT, <columns> VARCHAR, malformed VARCHAR)`` from a file.

    Args:
        source: how the file is written.
        names: our name of a column -> the names that the file may have for it.
        columns: of the table; those that are not in ``names`` are NULL.
        table: to make.
        budget: what the file may unpack to.

    Raises:
        ReadError: as ``read_file``.
    """
    kind = file.format(source.format)
    if not file.path.is_file():
        raise ReadError(f"{file.path}: not a file", hint="name event files, folders of them, or patterns")
    if file.path.stat().st_size == 0:
        raise ReadError(f"{file.path}: the file is empty, it has not even a header", hint="nothing was ingested")
    wanted = parsed(dict(names))
    with _one_message(file, kind):
        if kind == "parquet":
            inside, constants = _from_path(file, wanted, pq.read_schema(file.path).names)
            read_parquet(connection, file, inside, columns, constants, table, budget)
        else:
            text = plain_text(file, source.encoding, budget)
            if kind in ("json", "python"):
                inside, constants = _from_path(file, wanted, None)
                read_json(connection, text, inside, columns, constants, table, python=kind == "python")
            else:
                _read_delimited(connection, file, text, source, wanted, columns, table)
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
        budget.check_rows(file.path, rows)


def read_every_column(
    connection: duckdb.DuckDBPyConnection,
    file: EventFile,
    searched: Sequence[str],
    table: str,
    source: SourceSettings | None = None,
) -> tuple[str, ...]:
    """Make ``table(row_number BIGINT, c0 VARCHAR, c1 ..., malformed VARCHAR)`` from all columns of a file of text.

    Args:
        searched: names that its header should have.
        source: how the text is written; by itself as ``[source]`` is.

    Returns:
        What its columns are called.

    Raises:
        ReadError: as ``read_file``.
    """
    source, kind = source or SourceSettings(), file.format()
    with _one_message(file, kind):
        text = plain_text(file, source.encoding, BUDGET)
        dialect = dialect_of(text, source, searched, typed=kind == "inter")
        columns = {f"c{place}": place for place in range(len(dialect.names))}
        read_delimited(connection, text, dialect, Wanted(tuple(columns), columns), table)
    return dialect.names


def dialect_of_file(file: EventFile, source: SourceSettings) -> Dialect:
    """How a file of columns is written."""
    text = PlainText(file.path, file.link, file.packing, 0, 0, True, False)
    return _dialect(file, text, source, parsed(source.wanted()))


def _dialect(
    file: EventFile, text: PlainText, source: SourceSettings, wanted: Mapping[str, Sequence[ColumnPath]]
) -> Dialect:
    searched = [path.whole for paths in wanted.values() for path in paths]
    return dialect_of(text, source, searched, file.format(source.format) == "inter")


def _read_delimited(
    connection: duckdb.DuckDBPyConnection,
    file: EventFile,
    text: PlainText,
    source: SourceSettings,
    wanted: dict[str, list[ColumnPath]],
    columns: Sequence[str],
    table: str,
) -> None:
    dialect = _dialect(file, text, source, wanted)
    inside, constants = _from_path(file, wanted, dialect.names)
    try:
        positions = locate(file.path, inside, dialect.names)
    except ReadError as error:
        if advice := advice_on_the_header(text, dialect, inside):
            raise ReadError(error.message, hint=advice) from None
        raise
    check_header(file.path, dialect, positions)
    lists = [ours for ours, paths in inside.items() if lists_of(paths)]
    if lists and not source.list_separator:
        raise ReadError(
            f"{file.path}: {', '.join(lists)} is a list in a text column",
            hint="set list_separator under [source] in imsr.toml",
        )
    name = f"{table}_packed" if lists else table
    read_delimited(connection, text, dialect, Wanted(tuple(columns), positions, constants), name)
    if lists:
        separator = literal(source.list_separator)
        elements = ", ".join(
            f"""unnest(CASE WHEN coalesce("{each}", '') = '' THEN [NULL] ELSE string_split("{each}", {separator}) END)
                AS "{each}" """
            for each in lists
        )
        connection.execute(f"""
            CREATE TABLE {table} AS SELECT row_number() OVER () AS row_number, * EXCLUDE row_number
            FROM (SELECT * REPLACE ({elements}) FROM {name} ORDER BY row_number)""")
        connection.execute(f"DROP TABLE {name}")


def _from_path(
    file: EventFile, wanted: dict[str, list[ColumnPath]], found: Sequence[str] | None
) -> tuple[dict[str, list[ColumnPath]], dict[str, str | None]]:
    """The columns to look for in the file, and the values of those that only its path names (dt=2024-01-01)."""
    partitions = file.partitions
    inside, constants = {}, {}
    for ours, paths in wanted.items():
        here = found is not None and any(path.whole in found or path.outer[0] in found for path in paths)
        named = [path.text for path in paths if path.text in partitions]
        if named and not here:
            constants[ours] = partitions[named[0]]
        else:
            inside[ours] = paths
    return inside, constants


@contextmanager
def _one_message(file: EventFile, kind: str) -> Iterator[None]:
    """Whatever a library says of a file becomes one line that names it."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, pa.ArrowException, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        said = _ENGINE.sub("", str(error)).strip() or type(error).__name__
        first = said.splitlines()[0].replace(str(file.link), file.path.name)[:300]
        raise ReadError(
            f"{file.path}: cannot be read as {kind}: {first}",
            hint="is it whole, and of the kind that its name says? nothing was ingested",
        ) from error
