"""A user's rows in the files of ``landing/``: found, and taken out of a copy of the file.

These files belong to whoever put them there, so nothing is changed here: ``without_user`` writes a new file, checks it
against what ingestion reads from the old one, and leaves replacing it to the caller. Everything but the user's
records stays byte for byte in text files.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from imsr_core.errors import ImsrError
from pipelines.lake.careful_lines import Layout, records
from pipelines.lake.delimited import Dialect
from pipelines.lake.event_files import EventFile, ReadError
from pipelines.lake.packing import open_packing, open_unpacked, packing_of
from pipelines.lake.readers import dialect_of_file, read_columns
from pipelines.settings.imsr_toml import SourceSettings
from pipelines.workspace.engine import duckdb_session

#: Larger files go to the reader at once: it does not hold them in memory.
_LOOKED_AT_BYTES = 64 << 20


class LandingError(ImsrError):
    """A file that cannot be rewritten without doubt."""


@dataclass(frozen=True)
class LandingFile:
    """A file with rows of the user; ``rows`` is None if it cannot be read as events but contains the id."""

    path: Path
    rows: int | None


def mention_pattern(user_id: str) -> str:
    """A regular expression (RE2 and Python) for the id as a whole word, in the ways that CSV and JSON write it."""
    forms = {user_id, user_id.replace('"', '""'), json.dumps(user_id)[1:-1], repr(user_id)[1:-1]}
    before = "(^|[^0-9A-Za-z_])" if re.match(r"[0-9A-Za-z_]", user_id) else ""
    after = "([^0-9A-Za-z_]|$)" if re.search(r"[0-9A-Za-z_]\Z", user_id) else ""
    return f"{before}({'|'.join(re.escape(form) for form in sorted(forms))}){after}"


def find_user(files: list[Path], source: SourceSettings, user_id: str) -> list[LandingFile]:
    """Those of ``files`` that hold rows of the user."""
    found = []
    word = re.compile(mention_pattern(user_id).encode())
    with tempfile.TemporaryDirectory() as folder, duckdb_session() as connection:
        for path in files:
            if _cannot_name(path, source, user_id, word):
                continue
            try:
                rows = len(_numbers_of(connection, Path(folder), path, source, user_id)[0])
            except ReadError:
                if re.search(mention_pattern(user_id), _text(path)):
                    found.append(LandingFile(path, None))
                continue
            if rows:
                found.append(LandingFile(path, rows))
    return found


def _cannot_name(path: Path, source: SourceSettings, user_id: str, word: re.Pattern[bytes]) -> bool:
    """Whether a file cannot hold the user's rows, by a look at its bytes: of thousands of files few name a user.

    Sure only of an id that stands in a file as it is, as a ``word``: plain characters, in columns of UTF-8 that are not
    packed, with no letter between them.
    JSON may escape each of its characters, and a folder (``user_id=7``) may name the user for a whole file.
    """
    file = EventFile(path, path)
    try:
        if file.packing or file.partitions or file.format(source.format) not in ("csv", "inter"):
            return False
        plain = user_id.isascii() and user_id.isprintable() and not set(user_id) & set("\"'\\")
        plain = plain and not any(letter.isalnum() or letter == "_" for letter in source.delimiter)
        if not plain or codecs.lookup(source.encoding).name not in ("utf-8", "ascii"):
            return False
        if path.stat().st_size > _LOOKED_AT_BYTES:
            return False
        data = path.read_bytes()
        return user_id.encode() not in data or not word.search(data)
    except (ReadError, OSError):
        return False


def without_user(path: Path, source: SourceSettings, user_id: str, out: Path) -> None:
    """Write ``path`` without the user's records to ``out``, whose name must have the same ending.

    Raises:
        ReadError: the file cannot be read.
        LandingError: what was written does not hold exactly the other records.
    """
    gone, total = _rows_of(path, source, user_id)
    kind = EventFile(path, path).format(source.format)
    if kind == "parquet":
        _rewrite_parquet(path, gone, out)
    elif kind in ("json", "python"):
        _rewrite_text(path, source, out, lambda lines: _json_lines(lines, source, user_id))
    else:
        dialect = dialect_of_file(EventFile(path, path), source)
        place = next(dialect.names.index(name) for name in source.names("user_id") if name in dialect.names)
        _rewrite_text(path, source, out, lambda lines: _delimited_records(lines, dialect, place, source, user_id))
    try:
        left, rest = _rows_of(out, source, user_id)
    except ReadError:
        left, rest = [], -1
    if left or rest != total - len(gone):
        out.unlink()
        raise LandingError(
            f"{path}: the user's rows cannot be taken out without doubt about the others",
            hint="edit the file by hand, then run the command again",
        )


def _rows_of(path: Path, source: SourceSettings, user_id: str) -> tuple[list[int], int]:
    """Numbers (from 1) of the user's records, malformed ones that mention the id included, and of all records."""
    with tempfile.TemporaryDirectory() as folder, duckdb_session() as connection:
        return _numbers_of(connection, Path(folder), path, source, user_id)


def _numbers_of(
    connection: duckdb.DuckDBPyConnection, folder: Path, path: Path, source: SourceSettings, user_id: str
) -> tuple[list[int], int]:
    """See ``_rows_of``; the session and the folder for links are the caller's, and as before afterwards."""
    link = folder / "file"
    try:
        file, names = EventFile.linked(path, link), {"user_id": source.names("user_id")}
        read_columns(connection, file, source, names, ("user_id",), "raw")
        own = "list_contains($ids, user_id) OR (malformed IS NOT NULL AND regexp_matches(malformed, $pattern))"
        values = {"ids": _spellings(user_id), "pattern": mention_pattern(user_id)}
        rows = connection.execute(f"SELECT row_number FROM raw WHERE {own} ORDER BY 1", values).fetchall()
        ((total,),) = connection.execute("SELECT count(*) FROM raw").fetchall()
        return [row[0] for row in rows], total
    finally:
        for left in folder.iterdir():
            left.unlink()
        for table in ("raw", "raw_packed", "raw_lines", "raw_rejects", "raw_scan"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")


def _spellings(user_id: str) -> list[str]:
    """The id as files may have it: 13085 is also written 13085.0."""
    return [user_id, f"{user_id}.0"] if re.fullmatch(r"-?[0-9]+", user_id) else [user_id]


def _text(path: Path) -> str:
    try:
        with open_unpacked(path, packing_of(path)) as stream:
            return stream.read().decode("utf-8", "surrogateescape")
    except (OSError, EOFError, LZMAError):
        return ""  # damaged: what it holds cannot be known


def _rewrite_parquet(path: Path, gone: list[int], out: Path) -> None:
    with pq.ParquetFile(path) as file:
        table = file.read()
        codec = file.metadata.row_group(0).column(0).compression if file.metadata.num_row_groups else "SNAPPY"
    keep = pa.array(sorted(set(range(table.num_rows)) - {number - 1 for number in gone}), pa.int64())
    pq.write_table(table.take(keep), out, compression="NONE" if codec == "UNCOMPRESSED" else codec)


def _rewrite_text(
    path: Path, source: SourceSettings, out: Path, kept: Callable[[Iterable[tuple[bytes, bytes]]], Iterator[bytes]]
) -> None:
    """Write what ``kept`` keeps of (line as it stands, line as UTF-8 without its end)."""
    packing = packing_of(path)
    if ",\n".encode(source.encoding) != b",\n":
        raise LandingError(f"{path}: its lines cannot be told apart in {source.encoding}", hint="edit it by hand")
    with open_unpacked(path, packing) as stream, out.open("wb") as raw:
        target = open_packing(raw, packing) if packing else raw
        for line in kept((line, _as_utf8(line, source.encoding)) for line in stream):
            target.write(line)
        if packing:
            target.close()


def _as_utf8(line: bytes, encoding: str) -> bytes:
    bare = line.rstrip(b"\n").removesuffix(b"\r")
    try:
        return bare if encoding == "utf-8" else bare.decode(encoding).encode()
    except UnicodeDecodeError:
        return bare


def _json_lines(lines: Iterable[tuple[bytes, bytes]], source: SourceSettings, user_id: str) -> Iterator[bytes]:
    pattern = re.compile(mention_pattern(user_id))
    parse = ast.literal_eval if source.format == "python" else json.loads
    for line, text in lines:
        try:
            record = parse(text.decode("utf-8-sig"))
        except (ValueError, SyntaxError, RecursionError):
            record = None
        if isinstance(record, dict):
            value = next((v for name in source.names("user_id") if (v := _value(record, name)) is not None), None)
            if (value if isinstance(value, str) else json.dumps(value)) not in _spellings(user_id):
                yield line
        elif not pattern.search(text.decode("utf-8", "surrogateescape")):
            yield line


def _value(record: Any, name: str) -> Any:
    """The value of a key, or of a dotted path into nested objects."""
    if name in record:
        return record[name]
    for part in name.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return record


def _delimited_records(
    lines: Iterable[tuple[bytes, bytes]], dialect: Dialect, place: int, source: SourceSettings, user_id: str
) -> Iterator[bytes]:
    """The lines of all records but the user's."""
    pattern = re.compile(mention_pattern(user_id))
    raw, texts = (list(column) for column in zip(*lines, strict=True))
    wanted = source.names("timestamp")
    time = next((dialect.names.index(name) for name in wanted if name in dialect.names), None)
    layout = Layout(len(dialect.names), dialect.delimiter, dialect.quote, time, dialect.backslash)
    gone: set[int] = set()
    for record in records(texts[dialect.begin :], layout, first=dialect.begin):
        own = record.fields[place] in _spellings(user_id) if record.fields else bool(pattern.search(record.complaint))
        if own:
            gone.update(range(record.line, record.line + record.lines))
    yield from (line for number, line in enumerate(raw) if number not in gone)
