"""Files of columns with something between them: CSV, TSV, RecBole's ``.inter``, and what else has a delimiter.

DuckDB reads them, and what it read is compared with the physical lines of the file. If the two do not agree (a field
goes on over several lines, or a stray quote swallowed some; lines end differently; a line is longer than DuckDB
takes), the file is read again by `careful_lines`. Nothing is guessed but the delimiter, and that only by the header.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.lake.careful_lines import MAX_LINE_BYTES, Layout, Record, records, split
from pipelines.lake.column_paths import ColumnPath
from pipelines.lake.event_files import ReadError
from pipelines.lake.plain_text import PlainText, physical_lines
from pipelines.settings.source import SourceSettings
from pipelines.workspace.engine import literal, registered

_DELIMITERS = (",", "\t", ";", "|", "::", "\x01", " ")
_LINE_BYTES = 2_000_000
_BATCH = 1 << 16
_COMMENT = "#"
#: Lines at the top of a file in which a header is looked for that is not the first.
_PREAMBLE = 50
#: Columns that an error lists at most.
_LISTED = 20


@dataclass(frozen=True)
class Dialect:
    """How a file is written: what separates, what quotes ("" = nothing), its columns, whether a header is there.

    ``above`` lines stand above the header, or the first row, and say nothing of it. With ``backslash`` a quote inside
    quotes is escaped by one, and not doubled.
    """

    delimiter: str
    quote: str
    names: tuple[str, ...]
    header: bool
    above: int = 0
    backslash: bool = False

    @property
    def begin(self) -> int:
        """How many lines stand above the first row."""
        return self.above + self.header


def dialect_of(text: PlainText, source: SourceSettings, wanted: Sequence[str], typed: bool) -> Dialect:
    """Find out how a file is written.

    Args:
        text: the file.
        source: what the settings say of it.
        wanted: names of columns that the header is searched for.
        typed: RecBole's header, ``name:type``.

    Raises:
        ReadError: there is no line in it.
    """
    head = text.head(MAX_LINE_BYTES)
    if not head.line:
        raise ReadError(f"{text.path}: the file is empty, it has not even a header", hint="nothing was ingested")
    if head.separator and not source.delimiter:
        source = replace(source, delimiter=head.separator)
    backslash = source.escape == "backslash"
    found = replace(dialect_of_line(head.line, source, wanted, typed), above=head.above, backslash=backslash)
    if head.line.startswith(_COMMENT) and not source.columns:  # "# exported on ...", or the header is written so
        below = text.head(MAX_LINE_BYTES, _COMMENT)
        after = replace(dialect_of_line(below.line, source, wanted, typed), above=below.above, backslash=backslash)
        return max(found, after, key=lambda each: len(set(wanted).intersection(each.names)))
    return found


def advice_on_the_header(text: PlainText, dialect: Dialect, wanted: Mapping[str, Sequence[ColumnPath]]) -> str:
    """What to do where a line further down has our columns, and the one taken for the header has not; else ""."""
    with text.open() as stream:
        lines = enumerate(physical_lines(stream, MAX_LINE_BYTES), 1)
        for number, raw in islice(lines, dialect.begin, _PREAMBLE):
            for delimiter in {dialect.delimiter, *_DELIMITERS}:
                names = {name.strip(' "') for name in raw.decode("utf-8", "replace").split(delimiter)}
                if all(any(path.whole in names for path in paths) for paths in wanted.values()):
                    return f"line {number} is the header, it seems: remove what stands above it"
    return ""


def dialect_of_line(line: str, source: SourceSettings, wanted: Sequence[str], typed: bool) -> Dialect:
    """How a file with this first line is written; see ``dialect_of``."""
    candidates = [source.delimiter] if source.delimiter else _DELIMITERS
    if typed and not source.delimiter:
        candidates = ["\t", *(each for each in _DELIMITERS if each != "\t")]
    if source.columns:
        fits = [each for each in candidates if line.count(each) + 1 == len(source.columns)]
        delimiter = max(fits, key=len) if fits else candidates[0]  # "::" in 1::Toy Story::Comedy|Drama|Family
        return Dialect(delimiter, _quote(source, delimiter, typed, []), source.columns, header=False)
    best = max((_header(line, each, source, wanted, typed) for each in candidates), key=lambda found: found[:2])
    _, _, delimiter, names = best
    raw = line.split(delimiter)
    return Dialect(delimiter, _quote(source, delimiter, typed, raw), tuple(names), header=True)


def _header(
    line: str, delimiter: str, source: SourceSettings, wanted: Sequence[str], typed: bool
) -> tuple[int, int, str, list[str]]:
    quote = "" if source.quote == "none" else "'" if source.quote == "'" else '"'
    names = split(line, Layout(0, delimiter, quote))[0] or line.split(delimiter)
    names = [name.rpartition(":")[0] or name for name in names] if typed else names
    called = {name.strip() for name in names}  # padded names are none of ours, but say where columns end
    return len(called.intersection(wanted)), len(names), delimiter, names


def _quote(source: SourceSettings, delimiter: str, typed: bool, header: list[str]) -> str:
    if source.quote != "auto":
        return "" if source.quote == "none" else source.quote
    if header and all(len(name) > 1 and name[0] == name[-1] == '"' for name in header):
        return '"'  # whoever quotes the header quotes
    return "" if typed or delimiter in ("\t", "\x01", "::") else '"'


def locate(
    path: Path, wanted: Mapping[str, Sequence[ColumnPath]], found: Sequence[str], inside: Sequence[str] = ()
) -> dict[str, int]:
    """Our column name -> position of the first of its names that the file has; ``inside`` are the names of all values
    where columns hold more than one.

    Raises:
        ReadError: none of them is there, or one is there twice; or the names are plainly the first row's values.
    """
    positions = {}
    for ours, paths in wanted.items():
        here = [path.whole for path in paths if path.whole in found]
        if not here:
            raise missing_column(path, ours, paths, inside or found)
        if found.count(here[0]) > 1:
            raise ReadError(
                f"{path}: two columns are called {here[0]!r}", hint="rename one of them; nothing was ingested"
            )
        positions[ours] = found.index(here[0])
    return positions


def check_header(path: Path, dialect: Dialect, positions: Mapping[str, int]) -> None:
    """Raise ReadError if columns are called as values are: the header is the first row then, and would be lost."""
    names = [dialect.names[place] for place in positions.values()]
    if dialect.header and names and all(map(_is_value, names)):
        raise ReadError(
            f"{path}: its columns are called {', '.join(map(repr, names))}: that is a row, not a header",
            hint="name all columns, in order: columns = [...] under [source] in imsr.toml",
        )


def missing_column(
    path: Path, ours: str, paths: Sequence[ColumnPath], found: Sequence[str], advice: str = ""
) -> ReadError:
    """The error of a file that has none of the names for one of our columns; ``advice`` where no name is like it."""
    names = [each[:60] for each in found[:_LISTED]]
    more = f", and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    wanted = " or ".join(repr(each.whole) for each in paths)
    message = f"{path}: no column {wanted} for {ours}; it has {', '.join(map(repr, names))}{more}"
    return ReadError(message, hint=_advice(paths[0].whole, ours, names, advice))


def _advice(wanted: str, ours: str, found: list[str], advice: str) -> str:
    alike = [name for name in found if name.strip("\ufeff \t").casefold() == wanted.casefold()]
    if alike:
        return f"did you mean {alike[0]!r}? set {ours} under [source] in imsr.toml"
    if found and not advice and sum(_is_value(name) for name in found) * 2 >= len(found):
        return "is there no header? name all columns, in order: columns = [...] under [source] in imsr.toml"
    close = get_close_matches(wanted, found, n=1, cutoff=0.4)
    guess = f"did you mean {close[0]!r}? " if close else advice or "(if there is no header: columns = [...]) "
    if len(found) == 1 and not close and not advice:
        guess = "if another delimiter stands between the columns, set delimiter; else "
    return f"{guess}set {ours} under [source] in imsr.toml"


def _is_value(name: str) -> bool:
    """Whether a name of a column looks like a value: a number."""
    return name.replace(".", "", 1).replace("-", "").isdigit()


@dataclass(frozen=True)
class Wanted:
    """What a table gets: all its columns, the positions of those that the file has, and values of others."""

    columns: tuple[str, ...]
    positions: Mapping[str, int]
    constants: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def sql(self) -> str:
        """The columns, as text, from ``c<position>``."""
        return ", ".join(f'{self._expression(name)} AS "{name}"' for name in self.columns)

    def _expression(self, name: str) -> str:
        if name in self.positions:
            return f"c{self.positions[name]}"
        constant = self.constants.get(name)
        return "NULL::VARCHAR" if constant is None else literal(constant)


def read_delimited(
    connection: duckdb.DuckDBPyConnection, text: PlainText, dialect: Dialect, wanted: Wanted, table: str
) -> None:
    """Make ``table(row_number BIGINT, <columns> VARCHAR, malformed VARCHAR)``; one row a record, none left out.

    ``row_number`` counts records from 1; of a malformed one, and in a file that had to be read carefully, it is the
    line in the file. ``malformed`` is the complaint and the line.
    """
    plain = text.even and not dialect.above and not (text.marked and not dialect.header) and not dialect.backslash
    if plain and text.longest < _LINE_BYTES:
        try:
            if read_fast(connection, text, dialect, wanted, table) == text.lines - dialect.header:
                return
        except (duckdb.InvalidInputException, duckdb.ConversionException):
            pass  # what DuckDB cannot make out is read carefully
        for name in (table, f"{table}_rejects", f"{table}_scan"):
            connection.execute(f"DROP TABLE IF EXISTS {name}")
    _read_carefully(connection, text, dialect, wanted, table)


def read_fast(
    connection: duckdb.DuckDBPyConnection, text: PlainText, dialect: Dialect, wanted: Wanted, table: str
) -> int:
    """Let DuckDB read; returns how many lines it accounted for. One whose quote does not close is not."""
    columns = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(len(dialect.names)))
    quote = literal(dialect.quote)
    connection.execute(f"""
        CREATE TABLE {table} AS
        SELECT row_number() OVER () AS row_number, {wanted.sql}, NULL::VARCHAR AS malformed
        FROM read_csv({literal(str(text.link))}, auto_detect = false, header = {dialect.header},
            delim = {literal(dialect.delimiter)}, quote = {quote}, escape = {quote},
            columns = {{{columns}}}, strict_mode = true, compression = '{text.packing or "none"}',
            store_rejects = true, rejects_table = '{table}_rejects', rejects_scan = '{table}_scan')""")
    ((good,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    ((bad, open_quotes),) = connection.execute(
        f"SELECT count(DISTINCT line), count(DISTINCT line) FILTER (error_type = 'UNQUOTED VALUE') FROM {table}_rejects"
    ).fetchall()
    if bad:
        connection.execute(f"""
            INSERT INTO {table} BY NAME
            SELECT line AS row_number, min(error_message || ': ' || left(csv_line, 1000)) AS malformed
            FROM {table}_rejects GROUP BY line""")
    connection.execute(f"DROP TABLE {table}_rejects; DROP TABLE {table}_scan")
    return int(good + bad - open_quotes)


def _read_carefully(
    connection: duckdb.DuckDBPyConnection, text: PlainText, dialect: Dialect, wanted: Wanted, table: str
) -> None:
    time = wanted.positions.get("timestamp")
    layout = Layout(len(dialect.names), dialect.delimiter, dialect.quote, time, dialect.backslash)
    places = sorted(set(wanted.positions.values()))
    schema = pa.schema(
        [
            pa.field("row_number", pa.int64()),
            *(pa.field(f"c{place}", pa.string()) for place in places),
            pa.field("malformed", pa.string()),
        ]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        with text.open() as stream:
            lines = _unmarked(physical_lines(stream, MAX_LINE_BYTES))
            found = records(islice(lines, dialect.begin, None), layout, first=1 + dialect.begin)
            while waiting := list(islice(found, _BATCH)):
                yield _batch(waiting, places, schema)

    with registered(connection, "careful_records", pa.RecordBatchReader.from_batches(schema, batches())):
        connection.execute(f"CREATE TABLE {table} AS SELECT row_number, {wanted.sql}, malformed FROM careful_records")


def _batch(waiting: Sequence[Record], places: Sequence[int], schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        [record.line for record in waiting],
        *([record.fields[n] if record.fields else None for record in waiting] for n in places),
        [record.complaint or None for record in waiting],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _unmarked(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The lines, without the byte order mark of the first."""
    yield next(lines, b"").removeprefix(b"\xef\xbb\xbf")
    yield from lines
