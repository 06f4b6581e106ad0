"""Small lakes for tests: events as tuples -> bucket files as ingestion lays them out, and a SQL oracle."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

#: user_id, item_id, microseconds since 1970.
Event = tuple[str, str, int]

LAKE_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), False),
        pa.field("item_id", pa.string(), False),
        pa.field("timestamp", pa.timestamp("us", "UTC"), False),
        pa.field("event_type", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("event_id", pa.string()),
        pa.field("tie", pa.uint64(), False),
        pa.field("source", pa.string()),
        pa.field("ingest_time", pa.timestamp("us", "UTC")),
    ]
)


def tie_of(event: Event) -> int:
    """The tie of an event, as ingestion computes it."""
    text = "\x1f".join([event[0], event[1], str(event[2])])
    return int.from_bytes(hashlib.md5(text.encode()).digest()[:8], "big")


def write_lake(
    folder: Path, events: list[Event], *, buckets: int = 4, shuffle: random.Random | None = None
) -> list[Path]:
    """Write the bucket files of one span version; rows sorted as the lake has them, or shuffled."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted(events, key=lambda e: (e[0], e[2], tie_of(e)))
    if shuffle:
        shuffle.shuffle(rows)
    parts: dict[int, list[Event]] = {}
    for event in rows:
        number = int.from_bytes(hashlib.md5(event[0].encode()).digest()[:8], "big") % buckets
        parts.setdefault(number, []).append(event)
    files = []
    for number, part in sorted(parts.items()):
        none = [None] * len(part)
        columns = [[e[0] for e in part], [e[1] for e in part], [e[2] for e in part]]
        columns += [none, none, none, [tie_of(e) for e in part], none, none]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, LAKE_SCHEMA, strict=True)]
        path = folder / f"bucket={number:02d}.parquet"
        pq.write_table(pa.table(arrays, schema=LAKE_SCHEMA), path, compression="zstd", write_page_checksum=True)
        files.append(path)
    return files


ORACLE = """
    WITH new_users AS (
        SELECT user_id, row_number() OVER (ORDER BY min((epoch_us(timestamp), tie)), user_id) - 1 AS user_index
        FROM lake GROUP BY user_id),
    new_items AS (
        SELECT item_id, row_number() OVER (ORDER BY min((epoch_us(timestamp), tie)), item_id) - 1 AS item_index
        FROM lake GROUP BY item_id),
    lists AS (
        SELECT user_index, list(item_index ORDER BY timestamp, tie) AS items,
               list(epoch_us(timestamp) ORDER BY timestamp, tie) AS timestamps
        FROM lake JOIN new_users USING (user_id) JOIN new_items USING (item_id) GROUP BY user_index)
    SELECT user_index, items[-$limit:], timestamps[-$limit:], greatest(len(items) - $limit, 0)
    FROM lists ORDER BY user_index
"""


def oracle(files: list[Path], limit: int) -> list[tuple]:
    """The sequences of a first span in SQL: (user_index, items, timestamps, truncated), by user."""
    if not files:
        return []
    with duckdb.connect() as connection:
        names = [str(file) for file in files]
        lake = "SELECT * FROM read_parquet($1, hive_partitioning = false)"
        connection.execute(f"CREATE TABLE lake AS {lake}", [names])
        return connection.execute(ORACLE, {"limit": limit}).fetchall()


def written(folder: Path) -> list[tuple]:
    """The same rows as the job wrote them."""
    rows: list[tuple] = []
    for path in sorted(folder.glob("bucket=*.parquet")):
        rows += [tuple(row.values()) for row in pq.read_table(path, partitioning=None).to_pylist()]
    return sorted(rows)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, byte for byte."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
