"""One bucket of a span: its users' events, in the order of time, as one Parquet file of lists.

This is all that a worker of the sequences job does. It knows nothing of Beam, holds one bucket in memory,
and may be repeated or run twice at once: the file it leaves is always the same one, whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imsr_core.errors import ImsrError
from imsr_core.ragged import SpanSequences, last_n
from pipelines.lake.schemas import LAKE_SCHEMA
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.parquet_files import ADVICE, ParquetFileError, read_table, write_table

IntArray = NDArray[np.int64]

SEQUENCES_SCHEMA = pa.schema(
    [
        pa.field("user_index", pa.int64(), False),
        pa.field("items", pa.list_(pa.int64()), False),
        pa.field("timestamps", pa.list_(pa.int64()), False),
        pa.field("truncated", pa.int64(), False),
    ]
)


class UnknownIdError(ImsrError):
    """A bucket has an id that the span's look-up files do not have."""


@dataclass(frozen=True)
class BucketTask:
    """What one worker needs to build one bucket. Paths are strings, so that any runner can ship them.

    Attributes:
        events: lake file of the bucket, rows in any order.
        users: Parquet file with user_id and user_index of (at least) the bucket's users.
        items: Parquet file with item_id and item_index of (at least) the bucket's items.
        out: the file to write.
        max_events_per_user: only a user's most recent events are kept, at most this many.
    """

    events: str
    users: str
    items: str
    out: str
    max_events_per_user: int


@dataclass(frozen=True)
class BucketCounts:
    """What a written bucket holds: users, their events, and the events cut off by the limit."""

    users: int
    events: int
    truncated: int


def build_bucket(task: BucketTask) -> None:
    """Write ``task.out``; equal input gives an equal file, byte for byte.

    Raises:
        ParquetFileError: an input file is missing or damaged.
        UnknownIdError: an id is not in the look-up files.
    """
    columns = ["user_id", "item_id", "timestamp", "tie"]
    kinds = {name: LAKE_SCHEMA.field(name).type for name in columns if name != "timestamp"}
    events = read_table(Path(task.events), columns, dictionaries=columns[:2], kinds=kinds)
    if not pa.types.is_timestamp(events["timestamp"].type):  # of any unit
        raise ParquetFileError(f"{task.events}: column timestamp is {events['timestamp'].type}", hint=ADVICE)
    users = _indices(events["user_id"], task.users, task.events)
    items = _indices(events["item_id"], task.items, task.events)
    timestamps = events["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    full = group_events(users, items, timestamps, events["tie"].to_numpy())
    kept = last_n(full, task.max_events_per_user)
    write_table(_to_table(kept, full.counts - kept.counts), Path(task.out))
    hit(FailPoint.SEQUENCES_BUCKET_WRITTEN)


def group_events(users: IntArray, items: IntArray, timestamps: IntArray, tie: NDArray) -> SpanSequences:
    """Group (E,) events by user, in the order of time; equal times are ordered by ``tie``, never by item.

    An order by item would hand a model the catalogue's numbering, and with it the answer.
    """
    order = np.argsort(users, kind="stable")  # quick on the lake's files, where each user is one run in order
    if _out_of_order(users[order], timestamps[order], tie[order]):
        order = np.lexsort((tie, timestamps, users))
    users = users[order]
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    offsets = np.append(starts, len(users)).astype(np.int64)
    return SpanSequences(users[starts], offsets, items[order], timestamps[order])


def count_bucket(path: Path) -> BucketCounts:
    """Count what a written bucket really holds; lists of events are counted without reading them."""
    truncated = read_table(path, ["truncated"])["truncated"]
    metadata = pq.read_metadata(path)
    names = [metadata.schema.column(i).path.split(".")[0] for i in range(metadata.num_columns)]
    column = names.index("items")
    groups = [metadata.row_group(i).column(column).num_values for i in range(metadata.num_row_groups)]
    return BucketCounts(metadata.num_rows, sum(groups), pc.sum(truncated).as_py() or 0)


def _indices(ids: pa.ChunkedArray, lookup: str, events: str) -> IntArray:
    """(E,) dictionary-encoded ids -> (E,) indices. Each distinct id is looked up once."""
    encoded = ids.unify_dictionaries().combine_chunks()
    name = Path(lookup)
    known = read_table(name, pq.read_schema(name).names)
    found = pc.index_in(encoded.dictionary, value_set=known.column(0))
    if found.null_count:
        stranger = encoded.dictionary.filter(pc.is_null(found))[0].as_py()
        raise UnknownIdError(
            f"{events}: id {stranger!r} is not in {lookup}",
            hint="the lake file changed while its sequences were built: run the span again",
        )
    index_of_code = known.column(1).to_numpy()[found.to_numpy(zero_copy_only=False)]
    return index_of_code[encoded.indices.to_numpy()]


def _out_of_order(users: IntArray, timestamps: IntArray, tie: NDArray) -> bool:
    """Whether any neighbours of one user are in the wrong order of (time, tie)."""
    same_user = users[1:] == users[:-1]
    later, same_time = timestamps[1:] > timestamps[:-1], timestamps[1:] == timestamps[:-1]
    return bool(np.any(same_user & ~(later | (same_time & (tie[1:] >= tie[:-1])))))


def _to_table(sequences: SpanSequences, truncated: IntArray) -> pa.Table:
    offsets = pa.array(sequences.offsets, pa.int32())
    return pa.table(
        [
            pa.array(sequences.users),
            pa.ListArray.from_arrays(offsets, pa.array(sequences.items)),
            pa.ListArray.from_arrays(offsets, pa.array(sequences.timestamps)),
            pa.array(truncated),
        ],
        schema=SEQUENCES_SCHEMA,
    )
