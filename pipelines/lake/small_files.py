"""Thousands of small files of one layout, read in one go.

A statement of the engine costs some milliseconds, whatever it reads; a file of three rows takes fifteen of them. So
small files that are plain (UTF-8, lines that end alike, every line with all its columns, nothing quoted; or Parquet of
one schema) are laid one after the other and read as one. Whatever is not plain, or turns out not to be, is left to be
read by itself, so that its rows, its quarantine and its errors are what they always are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from imsr_core.errors import ImsrError
from pipelines.lake.column_paths import lists_of, parsed
from pipelines.lake.delimited import Dialect, Wanted, check_header, dialect_of_line, locate, read_fast
from pipelines.lake.event_files import EventFile, ReadError
from pipelines.lake.json_lines import read_json
from pipelines.lake.packing import kind_by_content
from pipelines.lake.parquet_rows import open_parquet, read_parquet
from pipelines.lake.plain_text import BUDGET, PlainText
from pipelines.settings.source import EVENT_COLUMNS, SourceSettings
from pipelines.workspace.engine import registered

#: A larger file is read by itself.
SMALL_BYTES = 1 << 18
#: What is read in one go.
_TOGETHER_BYTES = 1 << 26
#: A small file of Parquet may unpack to so much.
_UNPACKED_BYTES = 1 << 22
_FEW_ROWS = 256
_JSON = ""


@dataclass(frozen=True)
class Small:
    """A small file: its number in the ingest, where it is, and the hash that it had when it was found."""

    number: int
    path: Path
    sha256: str


@dataclass(frozen=True)
class Plain:
    """A small file that can be read together with others: its lines, without a header, or the rows of Parquet."""

    number: int
    body: bytes | pa.Table
    lines: int

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.nbytes


@dataclass(frozen=True)
class Schema:
    """The columns of Parquet that are wanted, and their types."""

    text: str


#: How the files of a group are written: a dialect of columns, JSON lines, or Parquet.
Layout = Dialect | Schema | str


def is_small(path: Path) -> bool:
    """Whether a file is so small that its rows cost less than reading it by itself."""
    return path.stat().st_size <= SMALL_BYTES


def groups_of(files: Sequence[Small], source: SourceSettings, most_rows: int) -> Iterator[tuple[Layout, list[Plain]]]:
    """Plain files of one layout and ``most_rows`` rows each, a group for each go; other files are in none."""
    if not _can_be_plain(source):
        return
    waiting: dict[Layout, list[Plain]] = {}
    sizes: dict[Layout, int] = {}
    look = _Look(source)
    for small in files:
        found = look.at(small)
        if found is None:
            continue
        layout, plain = found
        if plain.lines > most_rows:
            continue
        waiting.setdefault(layout, []).append(plain)
        sizes[layout] = sizes.get(layout, 0) + plain.size
        if sizes[layout] >= _TOGETHER_BYTES:
            yield layout, waiting.pop(layout)
            del sizes[layout]
    yield from waiting.items()


def read_together(
    connection: duckdb.DuckDBPyConnection,
    layout: Layout,
    files: Sequence[Plain],
    source: SourceSettings,
    scratch: Path,
    table: str,
) -> bool:
    """Make ``table(file INTEGER, row_number BIGINT, <RAW_COLUMNS> VARCHAR)`` from a group.

    Args:
        connection: where to.
        layout: of the group.
        files: of the group.
        source: how files are written.
        scratch: a path for a file that holds them all.
        table: to make.

    Returns:
        Whether every line was read; if not, there is no table. A file of JSON may still lack what is wanted: see
        ``doubtful``.
    """
    total = sum(file.lines for file in files)
    text = PlainText(scratch, scratch, "", total, SMALL_BYTES, even=True, marked=False)
    packed = f"{table}_packed"
    try:
        _write_together(files, scratch)
        if isinstance(layout, Dialect):
            read = _read_columns(connection, text, layout, source, packed)
        elif isinstance(layout, Schema):
            read = _read_rows(connection, scratch, source, packed)
        else:
            read = _read_objects(connection, text, source, packed)
        if read == total:
            _number(connection, files, packed, table)
            return True
    except (ReadError, duckdb.Error, pa.ArrowException):
        pass  # each by itself, then: the one that cannot be read so has its own error
    finally:
        scratch.unlink(missing_ok=True)
        connection.execute(f"DROP TABLE IF EXISTS {packed}; DROP TABLE IF EXISTS {packed}_rejects")
        connection.execute(f"DROP TABLE IF EXISTS {packed}_scan; DROP TABLE IF EXISTS {packed}_lines")
    return False


def doubtful(connection: duckdb.DuckDBPyConnection, source: SourceSettings, table: str) -> list[int]:
    """Files of a table of ``read_together`` in which a wanted column has no value, or no line is an object."""
    missing = " OR ".join(f'count("{ours}") = 0' for ours in source.wanted())
    objects = "count(*) FILTER (malformed IS NULL OR malformed NOT LIKE 'no %') = 0"
    found = connection.execute(f"SELECT file FROM {table} GROUP BY file HAVING {objects} OR {missing}")
    return [number for (number,) in found.fetchall()]


class _Look:
    """Looks at small files; what it finds out about a header holds for all files that have the same."""

    def __init__(self, source: SourceSettings) -> None:
        self._source = source
        self._wanted = parsed(source.wanted())
        self._dialects: dict[tuple[bytes, bool], Dialect | None] = {}

    def at(self, small: Small) -> tuple[Layout, Plain] | None:
        """The layout and the lines of a file; None if it is not plain."""
        file = EventFile(small.path, small.path)
        try:
            kind = file.format(self._source.format)
            if file.packing or file.partitions or kind not in ("csv", "inter", "json", "parquet"):
                return None
            data = small.path.read_bytes()
        except (ReadError, OSError):
            return None
        if kind == "parquet":
            return self._rows(small, data)
        if not _is_plain(data) or hashlib.sha256(data).hexdigest() != small.sha256:
            return None
        data = data if data.endswith(b"\n") else data + b"\n"
        if kind == "json":
            lines = data.count(b"\n")
            return None if data.lstrip()[:1] == b"[" else (_JSON, Plain(small.number, data, lines))
        return self._columns(small, data, typed=kind == "inter")

    def _rows(self, small: Small, data: bytes) -> tuple[Layout, Plain] | None:
        """What is wanted of a Parquet file, if it is not much; what is wrong with it is for its reader to say."""
        if hashlib.sha256(data).hexdigest() != small.sha256:
            return None
        wanted = {name for paths in self._wanted.values() for path in paths for name in (path.whole, path.outer[0])}
        batches, size = list[pa.RecordBatch](), 0
        try:
            with open_parquet(pa.BufferReader(data)) as parquet:
                schema = parquet.schema_arrow.remove_metadata()
                names = [name for name in schema.names if name in wanted]
                if not names or len(set(schema.names)) < len(schema.names):
                    return None
                for batch in parquet.iter_batches(batch_size=_FEW_ROWS, columns=names):
                    batches.append(batch)
                    size += batch.nbytes
                    if size > _UNPACKED_BYTES:
                        return None
            table = pa.Table.from_batches(batches).replace_schema_metadata(None) if batches else None
        except (pa.ArrowException, OSError, ValueError):
            return None
        if table is None or not table.num_rows:
            return None
        return Schema(str(table.schema)), Plain(small.number, table, table.num_rows)

    def _columns(self, small: Small, data: bytes, *, typed: bool) -> tuple[Layout, Plain] | None:
        first, _, rest = data.partition(b"\n")
        dialect = self._dialect(first, small.path, typed=typed)
        if dialect is None or (dialect.quote and dialect.quote.encode() in data):
            return None
        body = rest if dialect.header else data
        lines, mark, width = body.split(b"\n")[:-1], dialect.delimiter.encode(), len(dialect.names)
        if not lines or any(line.count(mark) + 1 != width for line in lines):
            return None
        return dialect, Plain(small.number, body, len(lines))

    def _dialect(self, first: bytes, path: Path, *, typed: bool) -> Dialect | None:
        key = (first, typed)
        if key not in self._dialects:
            searched = [each.whole for paths in self._wanted.values() for each in paths]
            dialect: Dialect | None = dialect_of_line(first.decode(), self._source, searched, typed)
            try:
                assert dialect is not None
                check_header(path, dialect, locate(path, self._wanted, dialect.names))
            except ImsrError:
                dialect = None  # its reader says what is missing
            self._dialects[key] = dialect
        return self._dialects[key]


def _can_be_plain(source: SourceSettings) -> bool:
    lists = lists_of(path for paths in parsed(source.wanted()).values() for path in paths)
    return not lists and source.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "us-ascii")


def _is_plain(data: bytes) -> bool:
    """UTF-8 without a mark, with lines that end alike and are not empty, and nothing that has to be looked at twice."""
    if not data or b"\r" in data or b"\0" in data or data[:1] == b"\n" or b"\n\n" in data:
        return False
    if data.startswith(b"\xef\xbb\xbf") or kind_by_content(data[:16])[0]:
        return False
    try:
        return data.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False


def _write_together(files: Sequence[Plain], path: Path) -> None:
    """Lay the files one after the other."""
    tables = [file.body for file in files if isinstance(file.body, pa.Table)]
    if tables:
        pq.write_table(pa.concat_tables(tables), path, compression="none", write_page_checksum=True)
    else:
        path.write_bytes(b"".join(file.body for file in files if isinstance(file.body, bytes)))


def _read_rows(connection: duckdb.DuckDBPyConnection, path: Path, source: SourceSettings, table: str) -> int:
    read_parquet(connection, EventFile(path, path), parsed(source.wanted()), EVENT_COLUMNS, {}, table, BUDGET)
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def _read_columns(
    connection: duckdb.DuckDBPyConnection, text: PlainText, dialect: Dialect, source: SourceSettings, table: str
) -> int:
    positions = locate(text.path, parsed(source.wanted()), dialect.names)
    bare = Dialect(dialect.delimiter, dialect.quote, dialect.names, header=False)
    return read_fast(connection, text, bare, Wanted(EVENT_COLUMNS, positions), table)


def _read_objects(connection: duckdb.DuckDBPyConnection, text: PlainText, source: SourceSettings, table: str) -> int:
    read_json(connection, text, parsed(source.wanted()), EVENT_COLUMNS, {}, table)
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def _number(connection: duckdb.DuckDBPyConnection, files: Sequence[Plain], packed: str, table: str) -> None:
    """Say of each row which file it came from, and number it there."""
    firsts, first = [], 1
    for file in files:
        firsts.append(first)
        first += file.lines
    numbers = pa.array([file.number for file in files], pa.int32())
    starts = pa.table({"file": numbers, "first": pa.array(firsts, pa.int64())})
    with registered(connection, "small_files", starts):
        connection.execute(f"""
            CREATE TABLE {table} AS
            SELECT file, row_number - first + 1 AS row_number, p.* EXCLUDE row_number
            FROM {packed} AS p ASOF JOIN small_files ON row_number >= first""")
