"""Items as people know them: names and categories by item index, from the table that ``[items]`` names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.interests.item_categories import Category, aligned_with, category_of
from pipelines.interests.version import Version
from pipelines.lake.item_metadata import kept_metadata

#: A text column with more distinct values than this share of its rows names items, and groups none.
MOST_DISTINCT = 0.5


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
        place, aligned = aligned_with(ids, path, columns)
        names = pc.coalesce(aligned[settings.name].cast(pa.string()), ids) if settings.name in aligned else ids
        found = [category_of(name, aligned[name], settings.list_separator) for name in wanted if name in aligned]
        telling = tuple(c for c in found if settings.categories or len(c.values) <= MOST_DISTINCT * max(n_items, 1))
        return cls(ids, names, telling, n_items - place.null_count)


def _is_telling(kind: pa.DataType) -> bool:
    """Whether a column's values are texts, or lists of texts."""
    return pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind)
