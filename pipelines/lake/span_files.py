"""Writing one span version: sorted rows in, bucket files and a fingerprint out, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.lake.schemas import CONTENT_SCHEMA, LAKE_SCHEMA, bucket_files, bucket_name
from pipelines.workspace.parquet_files import read_table

ROW_GROUP_ROWS = 131_072


class Fingerprint:
    """sha256 of the content columns, row after row, however the rows are cut into batches.

    Each column feeds hashes of its own: a text column one of its lengths (-1 for NULL) and one of its bytes, a
    number column one of its values (0 for NULL) and one of which are NULL. The result is the sha256 of these.
    """

    def __init__(self) -> None:
        self._hashes = {(name, part): hashlib.sha256() for name in CONTENT_SCHEMA.names for part in (0, 1)}

    def update(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Add the rows of a batch that has the columns of ``CONTENT_SCHEMA``."""
        for field in CONTENT_SCHEMA:
            column = rows.column(field.name)
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                text = pa.types.is_string(field.type)
                for part, data in enumerate(_text_parts(chunk) if text else _number_parts(chunk)):
                    self._hashes[field.name, part].update(data)

    def hexdigest(self) -> str:
        """The fingerprint of all rows so far."""
        total = hashlib.sha256("\n".join(CONTENT_SCHEMA.names).encode())
        for part in self._hashes.values():
            total.update(part.digest())
        return total.hexdigest()


def _text_parts(chunk: pa.Array) -> Iterator[bytes | memoryview]:
    yield pc.fill_null(pc.binary_length(chunk), -1).to_numpy(zero_copy_only=False).astype("<i4").tobytes()
    filled = pc.fill_null(chunk, "")  # compact: starts at some offset, but has no bytes of NULL rows
    offsets = np.frombuffer(filled.buffers()[1], np.int32, len(filled) + 1, filled.offset * 4)
    data = filled.buffers()[2]
    yield memoryview(data)[offsets[0] : offsets[-1]] if data is not None else b""


def _number_parts(chunk: pa.Array) -> Iterator[bytes]:
    if pa.types.is_timestamp(chunk.type):
        chunk = chunk.cast(pa.int64())
    kind = "<i8" if pa.types.is_integer(chunk.type) else "<f8"
    yield pc.fill_null(chunk, 0).to_numpy(zero_copy_only=False).astype(kind).tobytes()
    yield chunk.is_null().to_numpy(zero_copy_only=False).tobytes()


@dataclass(frozen=True)
class SpanContent:
    """What was written: counts of rows, distinct users and items, and the fingerprint."""

    rows: int
    users: int
    items: int
    fingerprint: str


def content_of(folder: Path) -> SpanContent:
    """Counts and fingerprint of the bucket files in a folder, read again.

    Raises:
        ParquetFileError: a file is damaged.
    """
    return content_in(bucket_files(folder))


def content_in(files: Iterable[Path]) -> SpanContent:
    """The same of files, which are all of a span version and in the order of their buckets."""
    fingerprint, rows, users = Fingerprint(), 0, 0
    items: list[pa.Array] = []
    for path in files:
        table = read_table(path, CONTENT_SCHEMA.names)
        for batch in table.to_batches():
            fingerprint.update(batch)
        rows += table.num_rows
        users += pc.count_distinct(table["user_id"]).as_py()  # a user is in one bucket only
        items.append(_distinct([table["item_id"].combine_chunks()]))
    return SpanContent(rows, users, len(_distinct(items)), fingerprint.hexdigest())


class SpanWriter:
    """Writes the bucket files of one span version. Rows must come sorted, bucket after bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bucket = -1
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._fingerprint = Fingerprint()
        self._rows = 0
        self._users = 0
        self._last_user: str | None = None
        self._items: list[pa.Array] = []

    def write(self, bucket: int, rows: pa.RecordBatch) -> None:
        """Add rows of the lake schema to a bucket, which may not come before the last one."""
        if bucket != self._bucket:
            self._finish_bucket()
            self._bucket = bucket
            path = self.folder / bucket_name(bucket)
            self._writer = pq.ParquetWriter(path, LAKE_SCHEMA, compression="zstd", write_page_checksum=True)
        self._fingerprint.update(rows)
        self._count(rows)
        self._waiting.append(rows)
        self._flush(ROW_GROUP_ROWS)

    def close(self) -> SpanContent:
        """Finish the last file."""
        self._finish_bucket()
        return SpanContent(self._rows, self._users, len(_distinct(self._items)), self._fingerprint.hexdigest())

    def _count(self, rows: pa.RecordBatch) -> None:
        users = rows.column("user_id")
        if rows.num_rows:  # users are sorted inside a bucket, so a new user is a change
            changes = pc.sum(pc.not_equal(users[1:], users[:-1])).as_py() or 0
            self._users += changes + (users[0].as_py() != self._last_user)
            self._last_user = users[-1].as_py()
        self._rows += rows.num_rows
        self._items.append(rows.column("item_id").unique())
        if len(self._items) == 64:
            self._items = [_distinct(self._items)]

    def _finish_bucket(self) -> None:
        if self._writer is not None:
            self._flush(1)
            self._writer.close()
            self._writer = None

    def _flush(self, at_least: int) -> None:
        """Write whole row groups, so that the file does not depend on how rows were batched."""
        if sum(batch.num_rows for batch in self._waiting) < at_least or self._writer is None:
            return
        table = pa.Table.from_batches(self._waiting, LAKE_SCHEMA)
        end = table.num_rows if at_least == 1 else table.num_rows - table.num_rows % ROW_GROUP_ROWS
        for start in range(0, end, ROW_GROUP_ROWS):
            self._writer.write_table(table.slice(start, min(ROW_GROUP_ROWS, end - start)))
        self._waiting = table.slice(end).to_batches()


def split_runs(part: np.ndarray) -> list[tuple[int, int, int]]:
    """(value, start, end) of each run of equal values in a sorted array."""
    if len(part) == 0:
        return []
    borders = np.flatnonzero(np.diff(part)) + 1
    starts = np.concatenate(([0], borders)).tolist()
    return list(zip(part[starts].tolist(), starts, [*starts[1:], len(part)], strict=True))


def _distinct(parts: Iterable[pa.Array]) -> pa.Array:
    return pa.chunked_array(list(parts), pa.string()).unique()
