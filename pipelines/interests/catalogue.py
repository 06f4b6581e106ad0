"""Items as people know them: names and categories by item index, from the table that ``[items]`` names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.interests.version import Version
from pipelines.lake.item_metadata import kept_metadata
from pipelines.workspace.parquet_files import read_table

#: A text column with more distinct values than this share of its rows names items, and groups none.
MOST_DISTINCT = 0.5


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


@dataclass(frozen=True)
class Catalogue:
    """The N items of a version: ``ids`` and ``names`` (N,), the groupings, and how many items the table has."""

    ids: pa.Array
    names: pa.Array
    categories: tuple[Category, ...]
    described: int

    @classmethod
    def of(cls, version: Version, n_items: int) -> Catalogue:
        """The first ``n_items`` items of the version's vocabulary; without a table their ids are all there is.

        Raises:
            ParquetFileError: the kept table is damaged.
        """
        workspace = version.workspace
        ids = version.vocabulary.item_ids(np.arange(n_items)).combine_chunks()
        with workspace.ledger.snapshot() as view:
            kept = kept_metadata(view)
        if kept is None:
            return cls(ids, ids, (), 0)
        path, settings = workspace.resolve(kept.path), workspace.settings.items
        schema = pq.read_schema(path)
        wanted = settings.categories or tuple(
            field.name for field in schema if _is_telling(field.type) and field.name != "item_id"
        )
        columns = [name for name in dict.fromkeys((settings.name, *wanted)) if name in schema.names]
        table = read_table(path, ["item_id", *columns])
        place = pc.index_in(ids, value_set=table["item_id"].combine_chunks())
        aligned = {name: table[name].combine_chunks().take(place) for name in columns}
        names = pc.coalesce(aligned[settings.name].cast(pa.string()), ids) if settings.name in aligned else ids
        found = [_category(name, aligned[name], settings.list_separator) for name in wanted if name in aligned]
        telling = tuple(c for c in found if settings.categories or len(c.values) <= MOST_DISTINCT * max(n_items, 1))
        return cls(ids, names, telling, n_items - place.null_count)


def _is_telling(kind: pa.DataType) -> bool:
    """Whether a column's values are texts, or lists of texts."""
    return pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind)


def _category(name: str, column: pa.Array, separator: str) -> Category:
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
