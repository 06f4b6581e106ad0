"""The state of a score's counting terms as Parquet, written for what a span touched, beside the interests.

    user_items.parquet        of each user in the span, every item that the user had: how often, first, last, faded
    item_neighbours.parquet   of each item that the span touched, its neighbours: how often by steps and by taste
    recent_items.parquet      of each user in the span, the last few events

As of a version, a user's (or an item's) rows are those of the newest file of its chain that has the user (the item);
the chain is that of the interests (`interest_files`), and starts over with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences, from_events, restrict_users
from imsr_core.score import Score
from imsr_core.score.pairs import Pairs, joined
from imsr_core.sorted_keys import is_in, union, without
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.workspace.parquet_files import read_table, write_table

USER_ITEMS, ITEM_NEIGHBOURS, RECENT_ITEMS = "user_items.parquet", "item_neighbours.parquet", "recent_items.parquet"
_FADED = ("faded_quarter", "faded_span", "faded_4_spans")
_KINDS = ("steps", "taste")

#: Rows of a row group of what is kept of users: who reads one user reads so many.
_GROUP_ROWS = 16_384


@dataclass(frozen=True)
class ScoreTables:
    """What is stored of a score: the pairs of users and items, of items and items, and the last events of users."""

    personal: Pairs
    neighbours: Pairs
    tail: SpanSequences

    @classmethod
    def of(cls, score: Score) -> ScoreTables:
        """The tables that a score holds."""
        return cls(score.personal.pairs, score.neighbours.pairs, score.neighbours.tail)

    def into(self, score: Score) -> Score:
        """The score with these tables."""
        return score.with_tables(self.personal, self.neighbours, self.tail)

    def touched(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> ScoreTables:
        """The rows of some users and items."""
        return ScoreTables(
            self.personal.of_owners(users), self.neighbours.of_owners(items), restrict_users(self.tail, users)
        )

    def updated(self, changes: ScoreTables) -> ScoreTables:
        """As of a later span."""
        old = without(self.tail.users, changes.tail.users)
        parts = [restrict_users(self.tail, old), changes.tail]
        users, items, times = (
            np.concatenate(column)
            for column in zip(*((p.users[p.rows], p.items, p.timestamps) for p in parts), strict=True)
        )
        return ScoreTables(
            self.personal.updated(changes.personal),
            self.neighbours.updated(changes.neighbours),
            from_events(users, items, times),
        )


def write_score(tables: ScoreTables, vocabulary: Vocabulary, version_id: str, folder: Path) -> None:
    """Write the three files of a version."""
    mine = tables.personal
    users, place = np.unique(mine.owner, return_inverse=True)
    columns = {
        "version_id": pa.array([version_id] * len(mine), pa.string()),
        "user_id": vocabulary.user_ids(users).take(pa.array(place)),
        "user_index": pa.array(mine.owner),
        "item_index": pa.array(mine.other),
        "times": pa.array(mine.values[:, 0].astype(np.int64)),
        "first_us": pa.array(mine.values[:, 1].astype(np.int64)),
        "last_us": pa.array(mine.last),
    }
    columns |= {name: pa.array(mine.values[:, 2 + n].astype(np.float32)) for n, name in enumerate(_FADED)}
    write_table(pa.table(columns), folder / USER_ITEMS, row_group_size=_GROUP_ROWS)
    near = tables.neighbours
    columns = {
        "version_id": pa.array([version_id] * len(near), pa.string()),
        "item_index": pa.array(near.owner),
        "neighbour_index": pa.array(near.other),
    }
    columns |= {name: pa.array(near.values[:, n].astype(np.float32)) for n, name in enumerate(_KINDS)}
    write_table(pa.table(columns), folder / ITEM_NEIGHBOURS)
    tail = tables.tail
    columns = {
        "user_index": pa.array(tail.users[tail.rows]),
        "item_index": pa.array(tail.items),
        "timestamp_us": pa.array(tail.timestamps),
    }
    write_table(pa.table(columns), folder / RECENT_ITEMS, row_group_size=_GROUP_ROWS)


def read_score(folders: Sequence[Path], users: NDArray[np.int64] | None = None) -> ScoreTables:
    """The tables as of the last of ``folders`` (oldest first), of ``users`` or of everybody, and of all items.

    Raises:
        ParquetFileError: a file is missing or damaged.
    """
    names = ["user_index", "item_index", "last_us", "times", "first_us", *_FADED]
    personal = _as_of([folder / USER_ITEMS for folder in folders], names, users)
    names = ["item_index", "neighbour_index", *_KINDS]
    near = _as_of([folder / ITEM_NEIGHBOURS for folder in folders], names, None)
    recent = _as_of([folder / RECENT_ITEMS for folder in folders], ["user_index", "item_index", "timestamp_us"], users)
    owner, other = near[:2]
    none = np.zeros(len(owner), dtype=np.int64)
    return ScoreTables(
        joined([Pairs(personal[0], personal[1], personal[2], _stacked(personal[3:]))]),
        joined([Pairs(owner, other, none, _stacked(near[2:]))]),
        from_events(*recent),
    )


def _as_of(chain: Sequence[Path], names: Sequence[str], owners: NDArray[np.int64] | None) -> list[NDArray]:
    """Columns of the rows that are in force, the first column being the owner."""
    found = np.zeros(0, dtype=np.int64)
    parts = []
    for path in reversed(chain):
        table = read_table(path, list(names), having=None if owners is None else (names[0], owners))
        columns = [table[name].to_numpy() for name in names]
        wanted = ~is_in(columns[0], found)
        if owners is not None:
            wanted &= is_in(columns[0], owners)
        found = union(found, columns[0])
        parts.append([column[wanted] for column in columns])
        if owners is not None and is_in(owners, found).all():
            break
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _stacked(columns: Sequence[NDArray]) -> NDArray[np.float64]:
    return np.stack([column.astype(np.float64) for column in columns], 1)
