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
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.lake.schemas import LAKE_SCHEMA
from pipelines.sequences.id_files import TOMBSTONE_END, IdFiles, VocabularyError, write_ids
from pipelines.workspace.parquet_files import read_table, row_count

IntArray = NDArray[np.int64]

#: The ids of so many events are found without DuckDB.
FEW_EVENTS = 5_000
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


def tombstone(digest: str) -> str:
    """What stands in place of a forgotten user's id; ``digest`` must be new each time."""
    return f"forgotten:{digest}{TOMBSTONE_END}"


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
    _users: IdFiles
    _items: IdFiles

    @classmethod
    def open(cls, delta_folders: Sequence[Path]) -> Vocabulary:
        """Read a chain, oldest delta first; no folder at all is the empty vocabulary.

        Only footers are read here; ids are read when they are looked up.

        Raises:
            VocabularyError: a delta does not start where the one before it ends.
            ParquetFileError: a delta is missing or damaged.
        """
        folders = tuple(Path(folder) for folder in delta_folders)
        users = IdFiles.open([folder / USERS_FILE for folder in folders], "user")
        return cls(folders, users, IdFiles.open([folder / ITEMS_FILE for folder in folders], "item"))

    @property
    def n_users(self) -> int:
        """How many users have an index."""
        return len(self._users)

    @property
    def n_items(self) -> int:
        """How many items have an index."""
        return len(self._items)

    @property
    def user_starts(self) -> IntArray:
        """(F + 1,) the first user index of each delta folder, and the next one that will be given."""
        return self._users.starts

    def validate(self) -> Vocabulary:
        """Check also that no id occurs twice and no index is left out (reads every row), and return self.

        Raises:
            VocabularyError: the message names the file, and an id that occurs twice.
        """
        self._users.check()
        self._items.check()
        return self

    def users_of(self, user_ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> IntArray:
        """(n,) ids -> (n,) user indices; -1 where the vocabulary does not have the id, or has a tombstone."""
        asked = user_ids if isinstance(user_ids, pa.Array | pa.ChunkedArray) else pa.array(user_ids, pa.string())
        buried = pc.fill_null(pc.ends_with(asked.cast(pa.string()), TOMBSTONE_END), False).to_numpy(
            zero_copy_only=False
        )
        return np.where(buried, -1, self._users.indices_of(asked))

    def items_of(self, item_ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> IntArray:
        """(n,) ids -> (n,) item indices; -1 where the vocabulary does not have the id."""
        return self._items.indices_of(item_ids)

    def user_ids(self, user_indices: IntArray) -> pa.ChunkedArray:
        """(n,) user indices -> (n,) ids.

        Raises:
            VocabularyError: an index is negative or not below ``n_users``.
        """
        return self._users.at(user_indices)

    def item_ids(self, item_indices: IntArray) -> pa.ChunkedArray:
        """(n,) item indices -> (n,) ids.

        Raises:
            VocabularyError: an index is negative or not below ``n_items``.
        """
        return self._items.at(item_indices)

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
        users, items = _distinct_ids(span_files)
        spread = users.filter(pc.not_equal(users["file"], users["last_file"]))
        if spread.num_rows:
            row = spread.slice(0, 1).to_pylist()[0]
            raise VocabularyError(
                f"user {row['id']!r} is in two files of one span: {row['file']} and {row['last_file']}",
                hint="ingest the span again: a user belongs to one bucket",
            )
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


def write_delta(folder: Path, ids: SpanIds) -> None:
    """Write a span's new ids as the next delta of the chain (files may be empty of rows, never absent)."""
    write_ids(ids.new_users, folder / USERS_FILE)
    write_ids(ids.new_items, folder / ITEMS_FILE)


def _distinct_ids(span_files: Sequence[Path]) -> tuple[pa.Table, pa.Table]:
    """The users and the items of a span: id, file, last_file, events; in the order of first events."""
    if not span_files:
        none = {name: pa.array([], pa.string()) for name in ("id", "file", "last_file")}
        return (pa.table(none | {"events": pa.array([], pa.int64())}),) * 2
    if sum(row_count(file) for file in span_files) <= FEW_EVENTS:
        return _distinct_of_few(span_files)
    import duckdb  # who looks ids up asks nothing of the engine

    from pipelines.workspace.engine import duckdb_session

    files, column = {"files": [str(file) for file in span_files]}, ""
    with duckdb_session() as connection:
        try:
            found = []
            for column in ("user_id", "item_id"):
                rows = connection.sql(_DISTINCT_IDS.format(column=column), params=files).to_arrow_table()
                found.append(rows.drop_columns(["first_event"]))
            return found[0], found[1]
        except duckdb.Error as error:
            for file in span_files:  # DuckDB does not always say which file it is
                read_table(file, [column, "timestamp", "tie"])
            raise VocabularyError(f"cannot read {column} of the span: {error}", hint="run: imsr doctor") from error


def _distinct_of_few(span_files: Sequence[Path]) -> tuple[pa.Table, pa.Table]:
    """The same of a span of few events, which are sorted before the engine would have begun."""
    names = ["user_id", "item_id", "timestamp", "tie"]
    kinds = {name: LAKE_SCHEMA.field(name).type for name in names if name != "timestamp"}
    parts = [_in_microseconds(read_table(file, names, kinds=kinds), file) for file in sorted(span_files, key=str)]
    number = np.repeat(np.arange(len(parts)), [part.num_rows for part in parts])
    events = pa.concat_tables(parts).append_column("file", pa.array(number))
    files = pa.array([str(file) for file in sorted(span_files, key=str)])
    found = []
    for column in names[:2]:
        rows = events.sort_by([(name, "ascending") for name in ("timestamp", "tie", column)])
        ids = rows[column].combine_chunks().dictionary_encode()  # in the order of first events
        place, file = ids.indices.to_numpy(), rows["file"].to_numpy()
        first, last = np.full(len(ids.dictionary), len(parts)), np.zeros(len(ids.dictionary), dtype=np.int64)
        np.minimum.at(first, place, file)
        np.maximum.at(last, place, file)
        own = {"id": ids.dictionary, "file": files.take(pa.array(first)), "last_file": files.take(pa.array(last))}
        found.append(pa.table(own | {"events": np.bincount(place, minlength=len(first))}))
    return found[0], found[1]


def _in_microseconds(events: pa.Table, file: Path) -> pa.Table:
    """The events with their times in one unit, whatever that of the file is."""
    place, times = events.schema.get_field_index("timestamp"), events["timestamp"]
    if not pa.types.is_timestamp(times.type):
        raise VocabularyError(f"{file}: column timestamp is {times.type}", hint="run: imsr doctor")
    return events.set_column(place, "timestamp", times.cast(pa.timestamp("us", "UTC")))


def _number(known: IntArray, next_index: int) -> pa.Array:
    """Fill the -1 of ``known`` with next_index, next_index + 1, ... in order."""
    new = known < 0
    return pa.array(np.where(new, next_index + np.cumsum(new) - 1, known), pa.int64())
