"""The ids of users, or of items, in the delta files of a chain: row i of all of them together has index i.

Footers say where each file begins. An index is looked up in the row groups that hold it; an id by looking through all
ids once. That indices have no gap inside a row group, and that no id occurs twice, is checked only when asked:
a look-up goes by the place of a row, and refuses an id that it finds at two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imsr_core.errors import ImsrError
from imsr_core.sorted_keys import unique
from pipelines.workspace.parquet_files import integer_ranges, read_rows, read_table

IntArray = NDArray[np.int64]

#: From this share of all ids on they are all read, and kept.
MANY = 0.25


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
            for first, last, rows in integer_ranges(file, f"{kind}_index"):
                if (first, last) != (at, at + rows - 1):
                    raise _gap(file, kind, starts[-1])
                at += rows
            starts.append(at)
        return cls(tuple(files), np.asarray(starts, dtype=np.int64), kind)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def indices_of(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> IntArray:
        """(n,) ids -> (n,) indices, -1 for one that is not there. Only the asked ids are hashed.

        Raises:
            VocabularyError: an id that is asked for occurs twice.
        """
        asked = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
        asked = asked.cast(pa.string())
        positions = np.flatnonzero(pc.is_in(self._all, value_set=pc.unique(asked)).to_numpy())
        there = self._all.take(pa.array(positions))
        self._check_once(there, positions)
        local = pc.fill_null(pc.index_in(asked, value_set=there), -1).to_numpy().astype(np.int64)
        return np.where(local < 0, -1, np.append(positions, -1)[local])

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
        if "_all" in self.__dict__ or len(indices) > MANY * len(self):
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
        self._check_once(self._all, np.arange(len(self)))

    @property
    def _column(self) -> str:
        return f"{self.kind}_id"

    @cached_property
    def _all(self) -> pa.ChunkedArray:
        tables = [read_table(file, [self._column], kinds={self._column: pa.string()}) for file in self.files]
        return pa.concat_tables(tables).column(0) if tables else pa.chunked_array([], pa.string())

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


def _gap(file: Path, kind: str, start: int) -> VocabularyError:
    return VocabularyError(
        f"{file}: {kind}_index must run from {start} without a gap",
        hint="the chain of spans is broken: `imsr doctor` says which span to build again",
    )
