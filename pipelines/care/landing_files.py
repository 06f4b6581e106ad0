"""A user's rows in the files of ``landing/``: found, and taken out of a copy of the file.

These files belong to whoever put them there, so nothing is changed here: ``without_user`` writes a new file, checks it
against what ingestion reads from the old one, and leaves replacing it to the caller. Everything but the user's
records stays byte for byte in text files.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from imsr_core.errors import ImsrError
from pipelines.lake.readers import EventFile, ReadError, csv_header, read_file
from pipelines.settings.imsr_toml import SourceSettings


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
    for path in files:
        try:
            rows = len(_rows_of(path, source, user_id)[0])
        except ReadError:
            if re.search(mention_pattern(user_id), _text(path)):
                found.append(LandingFile(path, None))
            continue
        if rows:
            found.append(LandingFile(path, rows))
    return found


def without_user(path: Path, source: SourceSettings, user_id: str, out: Path) -> None:
    """Write ``path`` without the user's records to ``out``, whose name must have the same ending.

    Raises:
        ReadError: the file cannot be read.
        LandingError: what was written does not hold exactly the other records.
    """
    gone, total = _rows_of(path, source, user_id)
    kind = EventFile(path, path).format
    if kind == "parquet":
        _rewrite_parquet(path, gone, out)
    elif kind == "json":
        _rewrite_text(path, out, lambda stream: _json_lines(stream, source.user_id, user_id))
    else:
        delimiter, header = csv_header(EventFile(path, path), source)
        place = header.index(source.user_id)
        _rewrite_text(path, out, lambda stream: _csv_records(stream, delimiter, place, len(header), user_id))
    left, rest = _rows_of(out, source, user_id)
    if left or rest != total - len(gone):
        out.unlink()
        raise LandingError(
            f"{path}: the user's rows cannot be taken out without doubt about the others",
            hint="edit the file by hand, then run the command again",
        )


def _rows_of(path: Path, source: SourceSettings, user_id: str) -> tuple[list[int], int]:
    """Numbers (from 1) of the user's records, malformed ones that mention the id included, and of all records."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        read_file(connection, EventFile.linked(path, Path(folder) / "file"), source, "raw")
        own = "user_id = $id OR (malformed IS NOT NULL AND regexp_matches(malformed, $pattern))"
        values = {"id": user_id, "pattern": mention_pattern(user_id)}
        rows = connection.execute(f"SELECT row_number FROM raw WHERE {own} ORDER BY 1", values).fetchall()
        ((total,),) = connection.execute("SELECT count(*) FROM raw").fetchall()
    return [row[0] for row in rows], total


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError):
            return ""  # damaged: what it holds cannot be known
    return data.decode("utf-8", "surrogateescape")


def _rewrite_parquet(path: Path, gone: list[int], out: Path) -> None:
    with pq.ParquetFile(path) as file:
        table = file.read()
        codec = file.metadata.row_group(0).column(0).compression if file.metadata.num_row_groups else "SNAPPY"
    keep = pa.array(sorted(set(range(table.num_rows)) - {number - 1 for number in gone}), pa.int64())
    pq.write_table(table.take(keep), out, compression="NONE" if codec == "UNCOMPRESSED" else codec)


def _rewrite_text(path: Path, out: Path, kept: Callable[[TextIO], Iterator[str]]) -> None:
    compressed = path.suffix.lower() == ".gz"
    with _reading(path, compressed) as stream, out.open("wb") as raw:
        target = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if compressed else raw
        for text in kept(stream):
            target.write(text.encode("utf-8", "surrogateescape"))
        if compressed:
            target.close()


@contextmanager
def _reading(path: Path, compressed: bool) -> Iterator[TextIO]:
    options = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with gzip.open(path, "rt", **options) if compressed else path.open(**options) as stream:  # type: ignore[call-overload]
        yield stream


def _json_lines(stream: TextIO, key: str, user_id: str) -> Iterator[str]:
    pattern = re.compile(mention_pattern(user_id))
    for line in stream:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            value = record.get(key)
            if (value if isinstance(value, str) else json.dumps(value)) != user_id:
                yield line
        elif not pattern.search(line):
            yield line


def _csv_records(stream: TextIO, delimiter: str, place: int, width: int, user_id: str) -> Iterator[str]:
    pattern = re.compile(mention_pattern(user_id))
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in stream:
            taken.append(line)
            yield line

    for row in csv.reader(lines(), delimiter=delimiter):
        record = "".join(taken)
        taken.clear()
        own = row[place] == user_id if len(row) == width else bool(pattern.search(record))
        if not own:
            yield record
