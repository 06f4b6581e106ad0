"""Categories of items that a version has learnt from, as files beside its score's.

    item_categories.parquet       of every item: item_index, column, category
    new_item_categories.parquet   instead, of the items that are new in the span

As of a version they are those of the newest whole file of its chain and of the parts since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from imsr_core.score.content import Categories
from imsr_core.sorted_keys import numbered
from pipelines.workspace.editions import is_stored
from pipelines.workspace.parquet_files import read_table, write_table

WHOLE, PART = "item_categories.parquet", "new_item_categories.parquet"
SCHEMA = pa.schema(
    [
        pa.field("item_index", pa.int64(), False),
        pa.field("column", pa.string(), False),
        pa.field("category", pa.string(), False),
    ]
)


@dataclass(frozen=True)
class CategoryRows:
    """The categories of all items of a version as ``rows``; from item ``new`` on its chain has not stored them."""

    rows: pa.Table
    new: int

    @property
    def categories(self) -> Categories:
        """The same as a score asks of them."""
        return categories_in(self.rows)

    def write(self, folder: Path, *, whole: bool) -> None:
        """Write the rows of new items, or all of them."""
        if whole or not self.new:
            write_table(self.rows, folder / WHOLE, row_group_size=65_536)
            return
        fresh = self.rows.filter(pa.array(self.rows["item_index"].to_numpy() >= self.new))
        if len(fresh):
            write_table(fresh, folder / PART)


def read_categories(folders: Sequence[Path]) -> Categories:
    """The categories as of the last of ``folders``, a version's chain, oldest first.

    Raises:
        ParquetFileError: a file is missing or damaged.
    """
    return categories_in(read_rows(folders))


def read_rows(folders: Sequence[Path]) -> pa.Table:
    """The rows that `read_categories` reads, items ascending."""
    files: list[Path] = []
    for folder in reversed(folders):
        if is_stored(folder / WHOLE) or folder == folders[0]:
            files.append(folder / WHOLE)
            break
        files += [folder / PART] if is_stored(folder / PART) else []
    return pa.concat_tables([read_table(path, SCHEMA.names) for path in reversed(files)])


def categories_in(rows: pa.Table) -> Categories:
    """What `CategoryTable.rows` say. A category is a value of a column: the same word in another column is another."""
    coded = [rows[name].combine_chunks().dictionary_encode() for name in ("column", "category")]
    column, value = (part.indices.to_numpy().astype(np.int64) for part in coded)
    words = coded[1].dictionary
    keys, category = numbered(column * len(words) + value)
    names = words.take(pa.array(keys % max(len(words), 1))).to_pylist()
    return Categories(rows["item_index"].to_numpy(), category, tuple(names))
