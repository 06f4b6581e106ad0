"""The columns of the lake and of quarantine, and the two hashes that order and split rows.

Both hashes exist in SQL and in Python and agree; they are part of the format and never change:

* bucket = first 8 bytes of md5(user_id), big-endian, modulo the number of buckets: one user, one bucket;
* tie = first 8 bytes of md5(user_id 0x1f item_id 0x1f microseconds), big-endian: orders events of one instant.
  A tie is never broken by item id: that would leak the order of ids into every "next item" metric.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa

from pipelines.workspace.editions import plain, stored_files

TIMESTAMP = pa.timestamp("us", tz="UTC")

#: What an event is; a span version's fingerprint covers these columns and no others.
CONTENT_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", TIMESTAMP, nullable=False),
        pa.field("event_type", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("event_id", pa.string()),
    ]
)

#: lake/span=<id>/v=<n>/bucket=<NN>.parquet
LAKE_SCHEMA = pa.schema(
    [
        *CONTENT_SCHEMA,
        pa.field("tie", pa.uint64(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("ingest_time", TIMESTAMP),
    ]
)

#: quarantine/batch=<id>.parquet: the row as it came, why it was refused, and the reader's words if any.
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("row_number", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in CONTENT_SCHEMA.names),
        pa.field("ingest_time", TIMESTAMP, nullable=False),
        pa.field("detail", pa.string()),
    ]
)


def bucket_of(user_id: str, buckets: int) -> int:
    """The bucket of a user, 0 .. buckets - 1."""
    return _first_eight(user_id) % buckets


def tie_of(user_id: str, item_id: str, timestamp_us: int) -> int:
    """The 64-bit number that orders this event among the user's events of the same instant."""
    return _first_eight(f"{user_id}\x1f{item_id}\x1f{timestamp_us}")


def bucket_sql(user_id: str, buckets: int) -> str:
    """DuckDB SQL for ``bucket_of``; ``user_id`` is a SQL expression."""
    return f"CAST({_first_eight_sql(user_id)} % {int(buckets)} AS INTEGER)"


def tie_sql(user_id: str, item_id: str, timestamp_us: str) -> str:
    """DuckDB SQL for ``tie_of``; the arguments are SQL expressions."""
    return _first_eight_sql(f"{user_id} || chr(31) || {item_id} || chr(31) || {timestamp_us}")


def bucket_name(bucket: int) -> str:
    """File name of a bucket."""
    return f"bucket={bucket:02d}.parquet"


def bucket_files(folder: Path) -> list[Path]:
    """The bucket files of a span version, by number."""
    return sorted(stored_files(folder, "bucket=*.parquet"), key=lambda path: int(plain(path).stem.partition("=")[2]))


def _first_eight(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:8], "big")


def _first_eight_sql(text: str) -> str:
    return f"CAST('0x' || substr(md5({text}), 1, 16) AS UBIGINT)"
