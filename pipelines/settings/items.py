"""What is known of items besides the events: where the table is, and which of its columns say what an item is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imsr_core.fields import Section, documented
from pipelines.settings.source import is_encoding


@dataclass(frozen=True)
class ItemsSettings(Section):
    """A table about items: what an interest means is said with its columns, and a score may learn from categories."""

    metadata: str = documented(
        "", "file in the workspace (CSV, .dat, Parquet, JSON lines, RecBole .item), an item a row; empty: none"
    )
    item_id: str = documented("item_id", "its column with the item's id")
    name: str = documented("", "its column with a name for people; empty: the item's id")
    categories: tuple[str, ...] = documented(
        (),
        "its columns that group items (category, brand), the most telling first; empty: all other text columns. Those "
        "that are named here the score learns from, too ([score] content)",
    )
    header: tuple[str, ...] = documented(
        (), "names of all its columns, in order, where a file of text has no header (movies.dat, u.item)"
    )
    encoding: str = documented("utf-8", "of a file of text: utf-8, utf-16, latin-1, cp1252, ...")
    list_separator: str = documented("|", "what separates the categories of an item that has several: Comedy|Drama")

    def clashes(self) -> Iterator[tuple[str, str]]:
        """Names that are there twice, and an encoding that nobody knows."""
        if len(set(self.header)) < len(self.header):
            yield "header", "names that differ"
        if not is_encoding(self.encoding):
            yield "encoding", "an encoding, such as utf-8, utf-16, latin-1, cp1252"
