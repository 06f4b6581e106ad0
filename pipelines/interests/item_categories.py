"""Which categories items have, by the table about items: read for people, and for a score that learns from them.

The table may change at any time, and what a version learnt must not: so the rows that it learnt from are kept with it
(`category_files`). Only the columns that ``[items] categories`` names are learnt from: what else is in the table is for
people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imsr_core.config import InterestsConfig
from pipelines.interests.category_files import SCHEMA, CategoryRows, read_rows
from pipelines.lake.item_metadata import kept_metadata
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import read_table


@dataclass(frozen=True)
class Category:
    """One grouping of the N items of a version: ``codes`` (N, W) int64 are the positions in ``values`` of each item's
    W or fewer, each once, then -1."""

    name: str
    values: tuple[str, ...]
    codes: NDArray[np.int64]

    def of(self, item: int) -> list[str]:
        """The values that an item has."""
        return [self.values[code] for code in self.codes[item] if code >= 0]


def learns_categories(workspace: Workspace, config: InterestsConfig) -> bool:
    """Whether what items are is a part of a score with this configuration."""
    return config.score.enabled and config.score.content and bool(workspace.settings.items.categories)


@dataclass(frozen=True)
class CategoryTable:
    """The table about items that is in force: ``path``, its ``columns`` that are learnt from, and what separates the
    values of an item that has several. ``fingerprint`` says which rows it has, and how they are read."""

    path: Path
    columns: tuple[str, ...]
    separator: str
    fingerprint: str

    @classmethod
    def in_force(cls, workspace: Workspace, config: InterestsConfig) -> CategoryTable | None:
        """The one that a version with this configuration learns from; None where it learns from none."""
        items = workspace.settings.items
        if not learns_categories(workspace, config):
            return None
        with workspace.ledger.snapshot() as view:
            kept = kept_metadata(view)
        if kept is None:
            return None
        path = workspace.resolve(kept.path)
        there = pq.read_schema(path).names  # the copy may be older than the settings
        columns = tuple(name for name in items.categories if name in there)
        return cls(path, columns, items.list_separator, f"{kept.source} {','.join(columns)} {items.list_separator}")

    def rows(self, ids: pa.Array, first: int) -> pa.Table:
        """The rows of the items ``ids`` (N,), whose indices are ``first`` and those after it.

        Raises:
            ParquetFileError: the table is damaged.
        """
        parts = [SCHEMA.empty_table()]
        for each in categories_of(ids, self.path, self.columns, self.separator):
            row, place = np.nonzero(each.codes >= 0)
            names = pa.array(each.values, pa.string()).take(pa.array(each.codes[row, place]))
            columns = (pa.array(first + row), pa.repeat(each.name, len(row)), names)
            parts.append(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), SCHEMA))
        return pa.concat_tables(parts).sort_by("item_index")


def rows_after(table: CategoryTable, vocabulary: Vocabulary, folders: Sequence[Path], known: int) -> CategoryRows:
    """Those of a version with ``vocabulary``; ``folders`` have the first ``known`` items' by the same table.

    Raises:
        ParquetFileError: the table or a file is damaged.
    """
    before = read_rows(folders) if known else SCHEMA.empty_table()
    ids = vocabulary.item_ids(np.arange(known, vocabulary.n_items)).combine_chunks()
    return CategoryRows(pa.concat_tables([before, table.rows(ids, known)]), known)


def categories_of(ids: pa.Array, path: Path, columns: Sequence[str], separator: str) -> list[Category]:
    """The groupings of the items ``ids`` (N,) by ``columns`` of the kept table at ``path``.

    Raises:
        ParquetFileError: the kept table is damaged.
    """
    _, aligned = aligned_with(ids, path, columns)
    return [category_of(name, aligned[name], separator) for name in columns]


def aligned_with(ids: pa.Array, path: Path, columns: Sequence[str]) -> tuple[pa.Array, dict[str, pa.Array]]:
    """The row of the table at ``path`` of each of ``ids`` (N,), null without one, and its ``columns`` in that order."""
    table = read_table(path, ["item_id", *columns])
    place = pc.index_in(ids, value_set=table["item_id"].combine_chunks())
    return place, {name: table[name].combine_chunks().take(place) for name in columns}


def category_of(name: str, column: pa.Array, separator: str) -> Category:
    """The grouping by a ``column`` (N,) of texts or lists of texts; ``separator`` parts the values of a text."""
    rows, texts = _values(column, separator)
    coded = texts.dictionary_encode()
    values, n = tuple(coded.dictionary.to_pylist()), len(column)
    pairs = np.unique(rows * max(len(values), 1) + coded.indices.to_numpy().astype(np.int64))
    rows, codes = np.divmod(pairs, max(len(values), 1))
    count = np.bincount(rows, minlength=n)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((n, int(count.max(initial=1))), -1)
    table[rows, place] = codes
    return Category(name, values, table)


def _values(column: pa.Array, separator: str) -> tuple[NDArray[np.int64], pa.Array]:
    """The values (V,) of the items, and which item (V,) each is of; one that has none is not among them."""
    if not pa.types.is_list(column.type):
        texts = column.cast(pa.string())
        if not (separator and pc.any(pc.match_substring(texts, separator)).as_py()):
            return pc.indices_nonzero(pc.is_valid(texts)).to_numpy().astype(np.int64), texts.drop_null()
        column = pc.split_pattern(texts, separator)
    rows, texts = pc.list_parent_indices(column), pc.utf8_trim_whitespace(pc.list_flatten(column).cast(pa.string()))
    there = pc.fill_null(pc.not_equal(texts, ""), False)
    return rows.filter(there).to_numpy().astype(np.int64), texts.filter(there)
