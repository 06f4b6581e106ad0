"""Event files of several formats as one DuckDB table of raw text.

Known by name: ``.csv .tsv .txt`` (also ``.gz``; the delimiter is the one that finds the wanted columns in the
header), ``.jsonl .ndjson .json`` (one object a line; also ``.gz``), ``.parquet .pq`` (any scalar column types)
and ``.inter`` (RecBole: tabs, a header of ``name:type``).

Everything becomes text as it stands in the file: ids are never normalised, trimmed or changed in case. Only
where a typed column holds whole numbers as floats or decimals (a nullable integer that became 17850.0) the
id is written as the integer.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from imsr_core.errors import ImsrError
from pipelines.settings.sections import SourceSettings

#: Columns of the raw table after ``row_number``, all text; ``malformed`` holds the reader's complaint.
RAW_COLUMNS = ("user_id", "item_id", "timestamp", "event_type", "value", "event_id", "malformed")

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".inter": "inter",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_DELIMITERS = (",", "\t", ";", "|")
_HEADER_BYTES = 1 << 20
_BATCH_ROWS = 1 << 16
#: Rows of one file at most, where nothing else is said.
MAX_ROWS = 200_000_000


class ReadError(ImsrError):
    """A file that cannot be read as what its name says, or that lacks a wanted column."""


@dataclass(frozen=True)
class EventFile:
    """A file to read. ``link`` is a plain name of it: DuckDB would take ``*`` or ``[`` as a pattern."""

    path: Path
    link: Path

    @classmethod
    def linked(cls, path: Path, link: Path) -> EventFile:
        """A file under the plain name ``link``, which is made as a symbolic link to it."""
        link.symlink_to(path.absolute())
        return cls(path, link)

    @property
    def compressed(self) -> bool:
        """Whether the file's name ends in ``.gz``."""
        return self.path.suffix.lower() == ".gz"

    @property
    def format(self) -> str:
        """csv, inter, json or parquet. Raises ReadError for another ending."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        ending = suffixes[-2] if self.compressed and len(suffixes) > 1 else "".join(suffixes[-1:])
        kind = _FORMATS.get(ending)
        if kind is None or (kind == "parquet" and self.compressed):
            hint = f"known endings: {' '.join(_FORMATS)}, and .gz after those of text"
            raise ReadError(f"{self.path}: unknown format", hint=hint)
        return kind


def read_file(
    connection: duckdb.DuckDBPyConnection,
    file: EventFile,
    source: SourceSettings,
    table: str,
    max_rows: int = MAX_ROWS,
) -> None:
    """Make ``table(row_number BIGINT, <RAW_COLUMNS> VARCHAR)`` from a file; one row a record, none left out.

    ``row_number`` counts records from 1; of a malformed CSV record it is the line in the file. ``max_rows`` guards
    against a small file that unpacks into more than the disk holds: it is looked at before anything is unpacked.

    Raises:
        ReadError: no such file, not readable as its format, damaged, empty, too many rows, or a wanted column is
            missing.
    """
    kind = file.format
    if not file.path.is_file():
        raise ReadError(f"{file.path}: not a file", hint="name the event files one by one")
    if file.path.stat().st_size == 0:
        raise ReadError(f"{file.path}: the file is empty, it has not even a header")
    try:
        if file.compressed:
            _check_gzip(file.path, max_rows)
        if kind == "parquet":
            _read_parquet(connection, file, source, table, max_rows)
        elif kind == "json":
            _read_json(connection, file, source, table)
        else:
            _read_csv(connection, file, source, table)
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
        _require_rows(file.path, rows, max_rows)
    except (duckdb.Error, pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        if isinstance(error, duckdb.OutOfMemoryException):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        mixed = "state machine" in first  # what DuckDB says then
        hint = "do all its lines end alike (\\n or \\r\\n)?" if mixed else "nothing was ingested"
        raise ReadError(f"{file.path}: cannot be read as {kind}: {first}", hint=hint) from error


def _check_gzip(path: Path, max_rows: int) -> None:
    """Read it all once: Python checks end and checksum, which a streaming reader may not."""
    lines = 0
    with gzip.open(path) as file:
        while part := file.read(1 << 20):
            lines += part.count(b"\n")
            _require_rows(path, lines - 1, max_rows)  # the header is a line, too


def _require_rows(path: Path, rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise ReadError(
            f"{path}: more than {max_rows:,} rows",
            hint="split the file, or raise [ingest] max_rows_per_file; nothing was ingested",
        )


def _locate(file: EventFile, source: SourceSettings, found: Sequence[str]) -> dict[str, int]:
    """Our column name -> position in the file."""
    positions = {}
    for ours, wanted in source.columns().items():
        if found.count(wanted) > 1:
            raise ReadError(f"{file.path}: two columns are called {wanted!r}")
        if wanted not in found:
            close = get_close_matches(wanted, found, n=1, cutoff=0.4)
            guess = f"did you mean {close[0]!r}? " if close else ""
            raise ReadError(
                f"{file.path}: no column {wanted!r} for {ours}; it has {', '.join(map(repr, found))}",
                hint=f"{guess}set {ours} under [source] in imsr.toml",
            )
        positions[ours] = found.index(wanted)
    return positions


def _select(expressions: dict[str, str], malformed: str = "NULL") -> str:
    """The raw columns from SQL expressions; what the file has not is NULL."""
    expressions = {**expressions, "malformed": malformed}
    return ", ".join(f'CAST({expressions.get(name, "NULL")} AS VARCHAR) AS "{name}"' for name in RAW_COLUMNS)


def _read_csv(connection: duckdb.DuckDBPyConnection, file: EventFile, source: SourceSettings, table: str) -> None:
    delimiter, header = csv_header(file, source)
    columns = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(len(header)))
    positions = _locate(file, source, header)
    connection.execute(f"""
        CREATE TABLE {table} AS
        SELECT row_number() OVER () AS row_number, {_select({k: f"c{n}" for k, n in positions.items()})}
        FROM read_csv('{_quoted(file.link)}', auto_detect = false, header = true, delim = '{delimiter}',
            quote = '"', escape = '"', columns = {{{columns}}}, strict_mode = true,
            compression = '{"gzip" if file.compressed else "none"}',
            store_rejects = true, rejects_table = '{table}_rejects', rejects_scan = '{table}_scan')""")
    connection.execute(f"""
        INSERT INTO {table} BY NAME
        SELECT line AS row_number, min(error_message || ': ' || csv_line) AS malformed
        FROM {table}_rejects GROUP BY line""")
    connection.execute(f"DROP TABLE {table}_rejects; DROP TABLE {table}_scan")


def csv_header(file: EventFile, source: SourceSettings) -> tuple[str, list[str]]:
    """The delimiter and the names of the columns (without types) of a CSV or RecBole file."""
    opener = gzip.open if file.compressed else open
    with opener(file.path, "rb") as stream:
        line = stream.readline(_HEADER_BYTES).decode("utf-8-sig").rstrip("\r\n")
    typed = file.format == "inter"
    wanted = set(source.columns().values())
    candidates = []
    for delimiter in ("\t",) if typed else _DELIMITERS:
        names = next(csv.reader([line], delimiter=delimiter), [])
        names = [name.rpartition(":")[0] or name for name in names] if typed else names
        candidates.append((len(wanted.intersection(names)), len(names), delimiter, names))
    _, _, delimiter, names = max(candidates, key=lambda c: c[:2])
    return delimiter, names


def _read_json(connection: duckdb.DuckDBPyConnection, file: EventFile, source: SourceSettings, table: str) -> None:
    wanted = source.columns()
    pointers = {ours: "/" + name.replace("~", "~0").replace("/", "~1") for ours, name in wanted.items()}
    values = {ours: f"json ->> '{_quoted(pointer)}'" for ours, pointer in pointers.items()}
    lines = f"""read_json_objects('{_quoted(file.link)}', format = 'newline_delimited', ignore_errors = true,
                compression = '{"gzip" if file.compressed else "uncompressed"}')"""
    is_object = "json IS NOT NULL AND json_type(json) = 'OBJECT'"
    bad = f"CASE WHEN {is_object} THEN NULL ELSE coalesce('no object: ' || json, 'no JSON') END"
    connection.execute(f"""
        CREATE TABLE {table} AS
        SELECT row_number() OVER () AS row_number, {_select(values, bad)} FROM {lines}""")
    (rows, objects, *present) = connection.execute(f"""
        SELECT count(*), count(*) FILTER (malformed IS NULL), {", ".join(f'count("{ours}")' for ours in wanted)}
        FROM {table}""").fetchall()[0]
    if rows and not objects:
        raise ReadError(f"{file.path}: no line of it is a JSON object", hint="write one object a line")
    if objects and not all(present):  # a column that is null throughout, or one that is not there
        keys = connection.execute(f"""
            SELECT DISTINCT unnest(json_keys(json)) AS name FROM {lines} WHERE {is_object} ORDER BY name""")
        _locate(file, source, [name for (name,) in keys.fetchall()])


def _read_parquet(
    connection: duckdb.DuckDBPyConnection, file: EventFile, source: SourceSettings, table: str, max_rows: int
) -> None:
    with pq.ParquetFile(file.path, page_checksum_verification=True) as parquet:
        schema, metadata = parquet.schema_arrow, parquet.metadata
        groups = (metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))
        _require_rows(file.path, max(metadata.num_rows, sum(groups)), max_rows)
        positions = _locate(file, source, schema.names)
        expressions = {}
        for ours, position in positions.items():
            expressions[ours] = _text_sql(f"c{position}", schema.field(position), file)
        wanted = sorted(set(positions.values()))
        fields = [schema.field(n).with_name(f"c{n}") for n in wanted]
        columns = [schema.names[n] for n in wanted]
        batches = _numbered(parquet, columns, pa.schema([pa.field("row_number", pa.int64()), *fields]))
        connection.register("parquet_batches", batches)
        try:
            connection.execute(
                f"CREATE TABLE {table} AS SELECT row_number, {_select(expressions)} FROM parquet_batches"
            )
        finally:
            connection.unregister("parquet_batches")


def _numbered(parquet: pq.ParquetFile, columns: list[str], schema: pa.Schema) -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        row = 1
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            numbers = pa.array(range(row, row + batch.num_rows), pa.int64())
            yield pa.record_batch([numbers, *(batch.column(name) for name in columns)], schema=schema)
            row += batch.num_rows

    return pa.RecordBatchReader.from_batches(schema, batches())


def _text_sql(column: str, field: pa.Field, file: EventFile) -> str:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise ReadError(f"{file.path}: column {field.name!r} is {kind}, not one value a row")
    text, whole = f"CAST({column} AS VARCHAR)", f"CAST(CAST({column} AS HUGEINT) AS VARCHAR)"
    if pa.types.is_floating(kind):
        exact = f"isfinite({column}) AND {column} = trunc({column}) AND abs({column}) < 9e15"
        return f"CASE WHEN isnan({column}) THEN NULL WHEN {exact} THEN {whole} ELSE {text} END"
    if pa.types.is_decimal(kind):
        return f"CASE WHEN {column} = trunc({column}) THEN {whole} ELSE {text} END"
    return column


def _quoted(text: Path | str) -> str:
    return str(text).replace("'", "''")
