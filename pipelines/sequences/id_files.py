"""The ids of users, or of items, in the delta files of a chain: row i of all of them together has index i.

    users.parquet           user_id, user_index     in the order of the index
    users_by_id.parquet     the same, in the order of the id; only beside a file of many ids

Footers say where each file begins, and which ids a row group can hold: an index or an id is looked up in the few row
groups that hold it, whatever the number of all. Files of few ids are looked through. That indices have no gap inside
a row group, and that no id occurs twice, is checked only when asked: a look-up refuses an id that it finds twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imsr_core.errors import ImsrError
from imsr_core.sorted_keys import unique
from pipelines.workspace.editions import is_stored, opened
from pipelines.workspace.known_content import KnownContent
from pipelines.workspace.parquet_files import integer_ranges, read_rows, read_table, write_table

IntArray = NDArray[np.int64]

#: From this share of all ids on, asked for at once or by and by, they are all read, and kept.
MANY = 0.25
#: A file of so many ids has another beside it, in the order of the id; and the rows of a group in both.
LARGE, GROUP_ROWS = 16_384, 4_096
BY_ID = "_by_id.parquet"
#: Ends a tombstone. Ids that contain NUL are quarantined, so that no id can be one.
TOMBSTONE_END = "\0"


class VocabularyError(ImsrError):
    """A chain of deltas that is damaged or incomplete, or an index that it does not have."""


@dataclass(frozen=True, eq=False)
class IdFiles:
    """The ids of one kind; ``starts`` (files + 1,) are the indices that files begin with, and the number of all ids."""

    files: tuple[Path, ...]
    starts: IntArray
    kind: str

    @classmethod
    def open(cls, files: Sequence[Path], kind: str) -> IdFiles:
        """Read the footers of a chain's files, the oldest first.

        Raises:
            VocabularyError: a file does not start where the one before it ends.
            ParquetFileError: a file is missing or damaged.
        """
        starts = [0]
        for file in files:
            at = starts[-1]
            for first, last, rows in _ranges(file, kind):
                if (first, last) != (at, at + rows - 1):
                    raise _gap(file, kind, starts[-1])
                at += rows
            starts.append(at)
        return cls(tuple(files), np.asarray(starts, dtype=np.int64), kind)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def indices_of(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> IntArray:
        """(n,) ids -> (n,) indices, -1 for one that is not there, from the row groups that can hold them.

        Raises:
            VocabularyError: an id that is asked for occurs twice.
        """
        asked = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
        asked = asked.cast(pa.string())
        wanted = pc.unique(asked)
        tables = [table.filter(pc.is_in(table.column(0), value_set=wanted)) for table in self._that_can_hold(wanted)]
        found = pa.concat_tables(tables).sort_by(f"{self.kind}_index")
        index = found.column(1).to_numpy()
        self._check_once(found.column(0), index)
        place = pc.fill_null(pc.index_in(asked, value_set=found.column(0)), -1).to_numpy().astype(np.int64)
        return np.append(index, -1)[place]

    def at(self, indices: IntArray) -> pa.ChunkedArray:
        """(n,) indices -> (n,) ids, from the row groups that hold them.

        Raises:
            VocabularyError: an index is negative or not below the number of ids.
        """
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise VocabularyError(
                f"there is no {self.kind} index {indices.min() if indices.min() < 0 else indices.max()}: "
                f"the vocabulary has {len(self)} {self.kind}s",
                hint="open the vocabulary of the span that the indices come from",
            )
        asked = vars(self)["_asked"] = vars(self).get("_asked", 0) + len(indices)
        if "_all" in self.__dict__ or asked > MANY * len(self):
            return self._all.take(pa.array(indices, pa.int64()))
        wanted = unique(np.asarray(indices, dtype=np.int64))
        cuts = np.searchsorted(wanted, self.starts)
        pieces = [
            chunk
            for n, file in enumerate(self.files)
            if cuts[n] < cuts[n + 1]
            for chunk in read_rows(file, self._column, wanted[cuts[n] : cuts[n + 1]] - self.starts[n]).chunks
        ]
        return pa.chunked_array(pieces, pa.string()).take(pa.array(np.searchsorted(wanted, indices)))

    def check(self) -> None:
        """Read every row. Raises VocabularyError if an index is left out, or an id occurs twice."""
        for file, start in zip(self.files, self.starts.tolist(), strict=False):
            index = read_table(file, [f"{self.kind}_index"]).column(0).to_numpy()
            if index.dtype != np.int64 or not np.array_equal(index, np.arange(start, start + len(index))):
                raise _gap(file, self.kind, start)
            if is_stored(by_id(file)) and not self._is_sorted_copy(file):
                raise VocabularyError(f"{by_id(file)} has other ids than {file.name}", hint="run: imsr doctor")
        self._check_once(self._all, np.arange(len(self)))

    def _that_can_hold(self, wanted: pa.Array) -> Iterator[pa.Table]:
        """(id, index) of rows among which are all that have one of the ``wanted`` ids."""
        if "_all" in self.__dict__ or len(wanted) > MANY * len(self):
            yield pa.table([self._all, pa.array(np.arange(len(self)))], schema=self._schema)
            return
        yield self._of_small_files
        ids = sorted(each for each in wanted.to_pylist() if each is not None)  # by code points, as UTF-8 is ordered
        for file in self._large:
            yield read_table(by_id(file), self._schema.names, having=(self._column, ids)).cast(self._schema)

    @property
    def _schema(self) -> pa.Schema:
        return pa.schema([pa.field(self._column, pa.string()), pa.field(f"{self.kind}_index", pa.int64())])

    @cached_property
    def _large(self) -> dict[Path, None]:
        """The files that have another beside them in the order of the id."""
        sizes = zip(self.files, np.diff(self.starts).tolist(), strict=True)
        return {file: None for file, rows in sizes if rows >= LARGE and is_stored(by_id(file))}

    @cached_property
    def _of_small_files(self) -> pa.Table:
        rows = zip(self.files, np.diff(self.starts).tolist(), strict=True)
        small = [file for file, n in rows if n and file not in self._large]  # many a span brings no new id
        tables = [read_table(file, self._schema.names).cast(self._schema) for file in small]
        return pa.concat_tables(tables) if tables else self._schema.empty_table()

    @property
    def _column(self) -> str:
        return f"{self.kind}_id"

    @cached_property
    def _all(self) -> pa.ChunkedArray:
        tables = [read_table(file, [self._column], kinds={self._column: pa.string()}) for file in self.files]
        return pa.concat_tables(tables).column(0) if tables else pa.chunked_array([], pa.string())

    def _is_sorted_copy(self, file: Path) -> bool:
        """Whether the file beside it has the same rows, less tombstones, in the order of the id."""
        rows, copy = (read_table(path, self._schema.names).cast(self._schema) for path in (file, by_id(file)))
        return copy.equals(_sorted_by_id(rows))

    def _check_once(self, ids: pa.ChunkedArray, positions: IntArray) -> None:
        """Raise if one of ``ids``, which stand at ``positions``, rising, is there twice."""
        if len(pc.unique(ids)) == len(ids):
            return
        counts = pc.value_counts(ids.combine_chunks())
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        last = positions[np.flatnonzero(pc.equal(ids, twice).to_numpy())[-1]]
        file = self.files[int(np.searchsorted(self.starts, last, side="right")) - 1]
        raise VocabularyError(
            f"{file}: {self._column} {twice!r} already has an index",
            hint="the chain of spans is broken: `imsr doctor` says which span to build again",
        )


def _ranges(file: Path, kind: str) -> list[tuple[int, int, int]]:
    """`integer_ranges` of the index, which the same night asks for several times."""
    try:
        return opened(file, _RANGES[kind].of)
    except OSError:
        return integer_ranges(file, f"{kind}_index")  # which says what is wrong


_RANGES = {kind: KnownContent(partial(integer_ranges, column=f"{kind}_index")) for kind in ("user", "item")}


def write_ids(table: pa.Table, file: Path) -> None:
    """Write a delta (id, index), in the order of the index; if it is large, also in the order of the id."""
    write_table(table, file, row_group_size=GROUP_ROWS)
    if table.num_rows >= LARGE:
        write_table(_sorted_by_id(table), by_id(file), row_group_size=GROUP_ROWS)


def by_id(file: Path) -> Path:
    """The file beside a delta that has its ids in their own order."""
    return file.with_name(file.stem + BY_ID)


def _sorted_by_id(table: pa.Table) -> pa.Table:
    living = table.filter(pc.invert(pc.ends_with(table.column(0), TOMBSTONE_END)))
    return living.sort_by(living.column_names[0])


def _gap(file: Path, kind: str, start: int) -> VocabularyError:
    return VocabularyError(
        f"{file}: {kind}_index must run from {start} without a gap",
        hint="the chain of spans is broken: `imsr doctor` says which span to build again",
    )
