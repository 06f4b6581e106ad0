"""The table about items that ``[items] metadata`` names: what people see in place of ids, and what groups items."""

from __future__ import annotations

from dataclasses import asdict

from pipelines.lake.kept_table import KeptTable, TableKind, kept_table
from pipelines.settings.imsr_toml import Settings
from pipelines.settings.items import ItemsSettings
from pipelines.settings.source import SourceSettings
from pipelines.workspace.ledger import Snapshot

#: Key of the ledger's notes.
NOTE = "item_metadata"


def item_table(settings: Settings) -> TableKind:
    """The table about items of these settings."""
    items = settings.items
    options = asdict(items)
    del options["list_separator"]  # how the copy is shown, and not how it is made
    for key in ("header", "encoding"):  # earlier releases had no such settings: the same table is not read again
        if options[key] == getattr(ItemsSettings(), key):
            del options[key]
    return TableKind(
        name="items",
        note=NOTE,
        setting="[items] metadata",
        file=items.metadata,
        id_name="item_id",
        own_id=items.item_id,
        wanted=(items.name, *items.categories),
        options=options,
        written=SourceSettings(columns=items.header, encoding=items.encoding),
    )


def kept_metadata(view: Snapshot) -> KeptTable | None:
    """The copy of the table about items that is in force; None if there never was one."""
    return kept_table(view, NOTE)
