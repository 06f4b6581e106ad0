"""What is known of items besides the events: where the table is, and which of its columns say what an item is."""

from __future__ import annotations

from dataclasses import dataclass

from imsr_core.fields import documented


@dataclass(frozen=True)
class ItemsSettings:
    """A table about items, for people: what an interest means is said with its columns. Nothing is trained on it."""

    metadata: str = documented(
        "", "file in the workspace (CSV, Parquet, JSON lines, RecBole .item), an item a row; empty: none"
    )
    item_id: str = documented("item_id", "its column with the item's id")
    name: str = documented("", "its column with a name for people; empty: the item's id")
    categories: tuple[str, ...] = documented(
        (), "its columns that group items (category, brand), the most telling first; empty: all other text columns"
    )
    list_separator: str = documented("|", "what separates the categories of an item that has several: Comedy|Drama")
