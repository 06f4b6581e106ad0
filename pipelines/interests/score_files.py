"""The state of a score's counting terms as Parquet, written for what a span touched, beside the interests.

    user_items.parquet           of each user in the span, every item that the user had: how often, first, last, faded
    recent_items.parquet         of each user in the span, the last few events
    neighbour_contexts.parquet   what the span's events count together with (`imsr_core.score.contexts`), not counted
    neighbour_counts.parquet     now and then instead: of every item its neighbours, how often by steps and by taste

As of a version, a user's rows are those of the newest file of its chain that has the user. What goes with an item is
in the newest counts and in the contexts of all versions since. The chain is that of the interests (`interest_files`),
and starts over with it. Older versions have item_neighbours.parquet, the counts of the items that they touched, and no
contexts: there the newest file that has an item says its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences, empty_sequences, from_events, restrict_users
from imsr_core.score import Score
from imsr_core.score.contexts import KINDS, Contexts
from imsr_core.score.neighbours import voting
from imsr_core.score.pairs import Pairs, joined, stacked
from imsr_core.sorted_keys import is_in, numbered, union, unique, without
from imsr_core.state import ModelState
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.workspace.editions import is_stored
from pipelines.workspace.memory import release_memory
from pipelines.workspace.parquet_files import read_table, row_count, write_table, write_tables

USER_ITEMS, RECENT_ITEMS = "user_items.parquet", "recent_items.parquet"
COUNTS, CONTEXTS, OLDER_COUNTS = "neighbour_counts.parquet", "neighbour_contexts.parquet", "item_neighbours.parquet"
_FADED = ("faded_quarter", "faded_span", "faded_4_spans")
_RECENT = ("user_index", "item_index", "timestamp_us")
_CONTEXT = ("kind", "user_index", "item_index", "fresh")
#: Rows of a row group of what is kept of users, or of items: who reads one reads so many.
_GROUP_ROWS = 16_384
#: The same of the counts, of which those of a few items are read, from all over the file.
_COUNT_ROWS = 8_192
#: Rows that are made ready to be written at once: whole groups of either.
_WRITTEN_ROWS = 16 * _GROUP_ROWS


@dataclass(frozen=True)
class ScoreTables:
    """What is stored of a score: the pairs of users and items, the last events of users, and either what goes with
    what (``base``, which is counted while it is written) or what is to be counted of that (``contexts``)."""

    personal: Pairs
    tail: SpanSequences
    base: Iterable[Pairs] | None = None
    contexts: Contexts | None = None


@dataclass(frozen=True)
class ScoreChanges:
    """The score of ``state`` after a span, what of it the span touched, and the folders with the tables before it,
    oldest first.

    Without ``folders`` the score has everybody and everything.
    """

    state: ModelState
    users: NDArray[np.int64]
    folders: tuple[Path, ...] = ()

    @property
    def score(self) -> Score:
        """The score, of which the tables are written."""
        assert self.state.score is not None
        return self.state.score

    def let_go(self) -> None:
        """The state goes on without the tables of pairs, which are as large as the log."""
        none = Pairs.empty(self.score.personal.pairs.values.shape[1])
        self.state.score = self.score.with_tables(none, empty_sequences(), Pairs.empty(len(KINDS)), (), whole=False)

    def tables(self, *, everybody: bool) -> ScoreTables:
        """What is to be written: of the users in the span, or of everybody where a chain starts over."""
        near, mine = self.score.neighbours, self.score.personal.pairs
        if not self.folders:
            return ScoreTables(mine, near.tail, near.alone().settling())
        personal, tail = mine.of_owners(self.users), restrict_users(near.tail, self.users)
        if everybody:
            known, recent = read_personal(self.folders), read_recent(self.folders)
            return ScoreTables(known.updated(personal), _updated(recent, tail), self._settled())
        if near.overgrown(pairs_in(self.folders)):
            return ScoreTables(personal, tail, self._settled())
        return ScoreTables(personal, tail, contexts=near.since[-1])

    def _settled(self) -> Iterator[Pairs]:
        return replace(self.score.neighbours, base=read_base(self.folders), whole=True).settling()


def _updated(tail: SpanSequences, changes: SpanSequences) -> SpanSequences:
    old = without(tail.users, changes.users)
    parts = [restrict_users(tail, old), changes]
    users, items, times = (
        np.concatenate(column)
        for column in zip(*((p.users[p.rows], p.items, p.timestamps) for p in parts), strict=True)
    )
    return from_events(users, items, times)


def write_score(
    changes: ScoreChanges, vocabulary: Vocabulary, version_id: str, folder: Path, *, everybody: bool
) -> None:
    """Write the files of a version. The tables of a score that has everything are let go of."""
    tables = changes.tables(everybody=everybody)
    base, contexts = tables.base, tables.contexts
    _write_users(tables, vocabulary, version_id, folder)
    if not changes.folders:
        del tables
        changes.let_go()
        release_memory()
    if base is not None:
        write_base(base, version_id, folder / COUNTS)
    if contexts is not None:
        _write_contexts(contexts, version_id, folder / CONTEXTS)


def _write_users(tables: ScoreTables, vocabulary: Vocabulary, version_id: str, folder: Path) -> None:
    user_items = (_user_items(part, vocabulary, version_id) for part in _in_groups([tables.personal]))
    write_tables(user_items, folder / USER_ITEMS, row_group_size=_GROUP_ROWS)
    tail = tables.tail
    recent = (np.repeat(tail.users, tail.counts), tail.items, tail.timestamps)
    write_table(pa.table(dict(zip(_RECENT, recent, strict=True))), folder / RECENT_ITEMS, row_group_size=_GROUP_ROWS)


def _in_groups(tables: Iterable[Pairs]) -> Iterator[Pairs]:
    """The rows of tables, one after the other, in pieces of whole row groups but for the last; at least one piece."""
    waiting: list[Pairs] = []
    for table in tables:
        waiting.append(table)
        rows = sum(map(len, waiting))
        if rows >= _WRITTEN_ROWS:
            whole, first = stacked(waiting), 0
            for first in range(0, rows - _WRITTEN_ROWS + 1, _WRITTEN_ROWS):
                yield whole.take(slice(first, first + _WRITTEN_ROWS))
            waiting = [whole.take(slice(first + _WRITTEN_ROWS, None))]
    if waiting:
        yield stacked(waiting)


def _user_items(mine: Pairs, vocabulary: Vocabulary, version_id: str) -> pa.Table:
    users, place = numbered(mine.owner)
    columns = {
        "version_id": pa.repeat(version_id, len(mine)),
        "user_id": vocabulary.user_ids(users).take(pa.array(place)),
        "user_index": pa.array(mine.owner),
        "item_index": pa.array(mine.other),
        "times": pa.array(mine.values[:, 0].astype(np.int64)),
        "first_us": pa.array(mine.values[:, 1].astype(np.int64)),
        "last_us": pa.array(mine.last),
    }
    return pa.table(columns | {n: pa.array(mine.values[:, 2 + c].astype(np.float32)) for c, n in enumerate(_FADED)})


def write_base(near: Iterable[Pairs], version_id: str, path: Path) -> None:
    """Write the neighbours of every item, a few items at a time, to ``path``."""
    tables = (_neighbours(part, version_id) for part in _in_groups(near))
    write_tables(tables, path, row_group_size=_COUNT_ROWS, rising=("neighbour_index",))


def _neighbours(near: Pairs, version_id: str) -> pa.Table:
    columns = {
        "version_id": pa.repeat(version_id, len(near)),
        "item_index": pa.array(near.owner),
        "neighbour_index": pa.array(near.other),
    }
    return pa.table(columns | {name: pa.array(near.values[:, n].astype(np.float32)) for n, name in enumerate(KINDS)})


def _write_contexts(contexts: Contexts, version_id: str, path: Path) -> None:
    columns = {
        "version_id": pa.repeat(version_id, len(contexts)),
        "kind": pa.array(KINDS).take(pa.array(contexts.kind)),
        "user_index": pa.array(contexts.user).cast(pa.int64()),
        "place": pa.array(contexts.place),
        "item_index": pa.array(contexts.item).cast(pa.int64()),
        "fresh": pa.array(contexts.fresh),
    }
    write_table(pa.table(columns), path, row_group_size=_GROUP_ROWS)


def read_score(
    folders: Sequence[Path], score: Score, users: NDArray[np.int64] | None = None, *, own: bool = False
) -> Score:
    """``score`` with the tables as of the last of ``folders`` (oldest first): of everybody and everything, or of
    ``users`` and of the items that vote for them; with ``own``, of what goes with what the last folder's part alone.

    Raises:
        ParquetFileError: a file is missing or damaged.
    """
    personal, tail = read_personal(folders, users), read_recent(folders, users)
    items, near = None if users is None else voting(personal), folders[-1:] if own else folders
    since = tuple(_read_contexts(path) for path in contexts_since(near))
    return score.with_tables(personal, tail, read_base(near, items), since, whole=users is None and not own)


def read_personal(folders: Sequence[Path], users: NDArray[np.int64] | None = None) -> Pairs:
    """What ``users``, or everybody, had as of the last of ``folders``."""
    names = ["user_index", "item_index", "last_us", "times", "first_us", *_FADED]
    owner, other, last, *values = _as_of([folder / USER_ITEMS for folder in folders], names, users)
    return joined([Pairs(owner, other, last, _stacked(values))])


def read_recent(folders: Sequence[Path], users: NDArray[np.int64] | None = None) -> SpanSequences:
    """The last events of ``users``, or of everybody, as of the last of ``folders``."""
    return from_events(*_as_of([folder / RECENT_ITEMS for folder in folders], _RECENT, users))


def read_base(folders: Sequence[Path], items: NDArray[np.int64] | None = None) -> Pairs:
    """What goes with ``items``, or with all, in the newest counts of ``folders``."""
    files, names = _count_files(folders), ["item_index", "neighbour_index", *KINDS]
    if not files:
        return Pairs.empty(len(KINDS))
    owner, other, *values = _as_of(files, names, items)
    return joined([Pairs(owner, other, np.zeros(len(owner), dtype=np.int64), _stacked(values))])


def contexts_since(folders: Sequence[Path]) -> list[Path]:
    """The contexts that are not in the newest counts, oldest first."""
    names = (COUNTS, OLDER_COUNTS)
    has_counts = [n for n, folder in enumerate(folders) if any(is_stored(folder / name) for name in names)]
    return [folder / CONTEXTS for folder in folders[max(has_counts, default=-1) + 1 :]]


def pairs_in(folders: Sequence[Path]) -> int:
    """Pairs of the newest counts; 0 where they are in parts, and better written anew."""
    files = _count_files(folders)
    return row_count(files[0]) if [path.name for path in files] == [COUNTS] else 0


def _count_files(folders: Sequence[Path]) -> list[Path]:
    """The counts that are in force, oldest first: those of every item, or what came in parts."""
    found: list[Path] = []
    for folder in reversed(folders):
        if is_stored(folder / COUNTS):
            return [folder / COUNTS, *found]
        found = [path for path in (folder / OLDER_COUNTS,) if is_stored(path)] + found
    return found


def _read_contexts(path: Path) -> Contexts:
    table = read_table(path, _CONTEXT, dictionaries=("kind",))
    names = pa.array(KINDS)
    kind = pc.index_in(table["kind"].cast(pa.string()), names)
    return Contexts.packed(*(column.to_numpy() for column in (kind, *(table[name] for name in _CONTEXT[1:]))))


def _as_of(chain: Sequence[Path], names: Sequence[str], owners: NDArray[np.int64] | None) -> list[NDArray]:
    """Columns of the rows that are in force, the first column being the owner."""
    found = np.zeros(0, dtype=np.int64)
    parts: list[list[NDArray]] = []
    for path in reversed(chain):
        table = read_table(path, list(names), having=None if owners is None else (names[0], owners))
        columns = [table[name].to_numpy() for name in names]
        mine = unique(columns[0])  # the files are sorted by owner: few keys are looked up, not every row
        wanted = ~is_in(mine, found)
        if owners is not None:
            wanted &= is_in(mine, owners)
        if not wanted.all():
            first, count = np.searchsorted(columns[0], mine), np.searchsorted(columns[0], mine, side="right")
            rows = np.repeat(wanted, count - first)
            columns = [column[rows] for column in columns]
        found = union(found, mine)
        parts.append(columns)
        if owners is not None and is_in(owners, found).all():
            break
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _stacked(columns: Sequence[NDArray]) -> NDArray[np.float64]:
    return np.stack([column.astype(np.float64) for column in columns], 1)
