"""Dense indices for the outside world's ids: append-only, one small delta of new ids per span.

A vocabulary is the ordered list of its delta folders, oldest first. Each holds ``users.parquet`` (user_id,
user_index) and ``items.parquet`` (item_id, item_index) with the ids that were new in one span. Indices run
0, 1, 2, ... over the whole chain, so an old id never moves and a model's tables only grow at the end.

A user who was forgotten leaves a tombstone in place of the id, so that nobody's index moves. It ends in NUL, which no
id that passed ingestion contains, and is never found by a look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imsr_core.errors import ImsrError
from pipelines.workspace.engine import duckdb_session
from pipelines.workspace.parquet_files import read_table, write_table

IntArray = NDArray[np.int64]

USERS_FILE = "users.parquet"
ITEMS_FILE = "items.parquet"
USERS_SCHEMA = pa.schema([pa.field("user_id", pa.string(), False), pa.field("user_index", pa.int64(), False)])
ITEMS_SCHEMA = pa.schema([pa.field("item_id", pa.string(), False), pa.field("item_index", pa.int64(), False)])

# An id's first event in one number: time in the high 64 bits, the tie of that event in the low 64.
_DISTINCT_IDS = """
    SELECT {column} AS id,
           min(epoch_us("timestamp")::HUGEINT * 18446744073709551616 + tie) AS first_event,
           min(filename) AS file,
           max(filename) AS last_file,
           count(*) AS events
    FROM read_parquet($files, filename = true, hive_partitioning = false)
    GROUP BY id
    ORDER BY first_event, id
"""


#: Ends a tombstone. Ids that contain NUL are quarantined, so that no id can be one.
_TOMBSTONE_END = "\0"


def tombstone(digest: str) -> str:
    """What stands in place of a forgotten user's id; ``digest`` must be new each time."""
    return f"forgotten:{digest}{_TOMBSTONE_END}"


class VocabularyError(ImsrError):
    """A chain of deltas that is damaged or incomplete, or an index that it does not have."""


@dataclass(frozen=True)
class SpanIds:
    """Every id of one span, in the order of first events.

    Attributes:
        users: user_id, user_index, file (the span's only file that holds this user).
        items: item_id, item_index.
        new_users: rows of ``users`` (user_id, user_index) that the vocabulary did not have.
        new_items: rows of ``items`` that the vocabulary did not have.
        events: events of the span.
    """

    users: pa.Table
    items: pa.Table
    new_users: pa.Table
    new_items: pa.Table
    events: int


@dataclass(frozen=True)
class Vocabulary:
    """The ids of all spans up to some span. Open one with ``Vocabulary.open``; it never changes."""

    folders: tuple[Path, ...]
    n_users: int
    n_items: int

    @classmethod
    def open(cls, delta_folders: Sequence[Path]) -> Vocabulary:
        """Read a chain, oldest delta first; no folder at all is the empty vocabulary.

        Only the index columns are read here; the ids are read and checked when they are first looked up.

        Raises:
            VocabularyError: a delta is missing or damaged, or does not start where the one before it ends.
        """
        folders = tuple(Path(folder) for folder in delta_folders)
        n_users = _check_contiguous(folders, USERS_FILE, "user_index")
        n_items = _check_contiguous(folders, ITEMS_FILE, "item_index")
        return cls(folders, n_users, n_items)

    def validate(self) -> Vocabulary:
        """Check also that no id occurs twice (reads every id), and return self.

        Raises:
            VocabularyError: an id occurs twice; the message names it and the later file.
        """
        _ = self._users, self._items
        return self

    def users_of(self, user_ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> IntArray:
        """(n,) ids -> (n,) user indices; -1 where the vocabulary does not have the id, or has a tombstone."""
        asked = user_ids if isinstance(user_ids, pa.Array | pa.ChunkedArray) else pa.array(user_ids, pa.string())
        buried = pc.fill_null(pc.ends_with(asked.cast(pa.string()), _TOMBSTONE_END), False).to_numpy(
            zero_copy_only=False
        )
        return np.where(buried, -1, _indices_of(self._users, asked))

    def items_of(self, item_ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> IntArray:
        """(n,) ids -> (n,) item indices; -1 where the vocabulary does not have the id."""
        return _indices_of(self._items, item_ids)

    def user_ids(self, user_indices: IntArray) -> pa.ChunkedArray:
        """(n,) user indices -> (n,) ids.

        Raises:
            VocabularyError: an index is negative or not below ``n_users``.
        """
        return _ids_at(self._users, user_indices, "user")

    def item_ids(self, item_indices: IntArray) -> pa.ChunkedArray:
        """(n,) item indices -> (n,) ids.

        Raises:
            VocabularyError: an index is negative or not below ``n_items``.
        """
        return _ids_at(self._items, item_indices, "item")

    def extend(self, span_files: Sequence[Path]) -> SpanIds:
        """Give every id of a span its index: the old one, or the next free one.

        New ids are numbered in the order of (time of the first event, tie of that event, id), whatever the
        order of files and rows. The vocabulary itself does not change: write the result with
        ``write_delta``, and open the longer chain.

        Args:
            span_files: lake files of one span version; each user is in one file only. May be empty.

        Raises:
            VocabularyError: a user's events are spread over several files.
        """
        users = _distinct_ids(span_files, "user_id")
        spread = users.filter(pc.not_equal(users["file"], users["last_file"]))
        if spread.num_rows:
            row = spread.slice(0, 1).to_pylist()[0]
            raise VocabularyError(
                f"user {row['id']!r} is in two files of one span: {row['file']} and {row['last_file']}",
                hint="ingest the span again: a user belongs to one bucket",
            )
        items = _distinct_ids(span_files, "item_id")
        user_index = _number(self.users_of(users["id"]), self.n_users)
        item_index = _number(self.items_of(items["id"]), self.n_items)
        user_table = pa.table([users["id"], user_index], schema=USERS_SCHEMA)
        item_table = pa.table([items["id"], item_index], schema=ITEMS_SCHEMA)
        events = int(pc.sum(items["events"]).as_py() or 0)
        return SpanIds(
            users=user_table.append_column("file", users["file"]),
            items=item_table,
            new_users=user_table.filter(pc.greater_equal(user_table["user_index"], self.n_users)),
            new_items=item_table.filter(pc.greater_equal(item_table["item_index"], self.n_items)),
            events=events,
        )

    @cached_property
    def _users(self) -> pa.ChunkedArray:
        return _read_ids(self.folders, USERS_FILE, "user_id")

    @cached_property
    def _items(self) -> pa.ChunkedArray:
        return _read_ids(self.folders, ITEMS_FILE, "item_id")


def write_delta(folder: Path, ids: SpanIds) -> None:
    """Write a span's new ids as the next delta of the chain (files may be empty of rows, never absent)."""
    write_table(ids.new_users, folder / USERS_FILE)
    write_table(ids.new_items, folder / ITEMS_FILE)


def _check_contiguous(folders: Sequence[Path], name: str, column: str) -> int:
    total = 0
    for folder in folders:
        index = read_table(folder / name, [column])[column].to_numpy()
        if index.dtype != np.int64 or not np.array_equal(index, np.arange(total, total + len(index))):
            raise VocabularyError(
                f"{folder / name}: {column} must run from {total} without a gap",
                hint="the chain of spans is broken: `imsr doctor` says which span to build again",
            )
        total += len(index)
    return total


def _read_ids(folders: Sequence[Path], name: str, column: str) -> pa.ChunkedArray:
    files = [folder / name for folder in folders]
    tables = [read_table(file, [column], kinds={column: pa.string()}) for file in files]
    if not tables:
        return pa.chunked_array([], pa.string())
    ids = pa.concat_tables(tables)[column]
    if len(pc.unique(ids)) != len(ids):
        counts = pc.value_counts(ids.combine_chunks())
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        last = [pc.index(table[column], twice).as_py() >= 0 for table in tables][::-1].index(True)
        raise VocabularyError(
            f"{files[-1 - last]}: {column} {twice!r} already has an index",
            hint="the chain of spans is broken: `imsr doctor` says which span to build again",
        )
    return ids


def _distinct_ids(span_files: Sequence[Path], column: str) -> pa.Table:
    if not span_files:
        none = {name: pa.array([], pa.string()) for name in ("id", "file", "last_file")}
        return pa.table(none | {"events": pa.array([], pa.int64())})
    with duckdb_session() as connection:
        query = _DISTINCT_IDS.format(column=column)
        files = {"files": [str(file) for file in span_files]}
        try:
            return connection.sql(query, params=files).to_arrow_table().drop_columns(["first_event"])
        except duckdb.Error as error:
            for file in span_files:  # DuckDB does not always say which file it is
                read_table(file, [column, "timestamp", "tie"])
            raise VocabularyError(f"cannot read {column} of the span: {error}", hint="run: imsr doctor") from error


def _number(known: IntArray, next_index: int) -> pa.Array:
    """Fill the -1 of ``known`` with next_index, next_index + 1, ... in order."""
    new = known < 0
    return pa.array(np.where(new, next_index + np.cumsum(new) - 1, known), pa.int64())


def _indices_of(vocabulary: pa.ChunkedArray, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> IntArray:
    """Positions of ids in the vocabulary. Only the asked ids are hashed; the vocabulary is scanned once."""
    asked = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
    asked = asked.cast(pa.string())
    present = pc.is_in(vocabulary, value_set=pc.unique(asked)).to_numpy()
    positions = np.flatnonzero(present)
    found = pc.index_in(asked, value_set=vocabulary.take(pa.array(positions)))
    local = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return np.where(local < 0, -1, np.append(positions, -1)[local])


def _ids_at(vocabulary: pa.ChunkedArray, indices: IntArray, kind: str) -> pa.ChunkedArray:
    if len(indices) and (indices.min() < 0 or indices.max() >= len(vocabulary)):
        raise VocabularyError(
            f"there is no {kind} index {indices.min() if indices.min() < 0 else indices.max()}: "
            f"the vocabulary has {len(vocabulary)} {kind}s",
            hint="open the vocabulary of the span that the indices come from",
        )
    return vocabulary.take(pa.array(indices, pa.int64()))
