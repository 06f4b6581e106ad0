"""The table about items that ``[items] metadata`` names: read, checked, and kept as it was.

The file may change at any time; what was shown with it must stay explicable. So its rows are copied to
``metadata/items-<fingerprint>.parquet`` (the item's id first, as text, then the columns as they came), and the ledger
names the copy that is in force. The same rows give the same copy. Nothing is trained on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from imsr_core.errors import ImsrError
from pipelines.settings.items import ItemsSettings
from pipelines.workspace.decoding import decode_meta
from pipelines.workspace.engine import duckdb_session
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.parquet_files import write_table
from pipelines.workspace.seal import file_sha256
from pipelines.workspace.writer import Writer

#: Key of the ledger's notes.
META = "item_metadata"
#: Folder of the copies.
FOLDER = "metadata"


class ItemMetadataError(ImsrError):
    """The table about items is missing, cannot be read, or lacks a column."""


@dataclass(frozen=True)
class KeptMetadata:
    """The copy in force. ``path`` is below the workspace; ``source`` is the hash of the file and of the settings.

    Of the rows that were read, ``items`` are kept, ``duplicate`` ones said something else of an item that stands
    further up, and ``without_id`` had no id.
    """

    path: str
    source: str
    items: int
    duplicate: int
    without_id: int


def kept_metadata(view: Snapshot) -> KeptMetadata | None:
    """The copy that is in force; None if there never was a table."""
    stored = view.meta(META)
    return None if stored is None else decode_meta(META, stored, lambda values: KeptMetadata(**values))


def is_current(workspace: Workspace) -> bool:
    """Whether the copy in force is that of the table as it is now (a missing table changes nothing)."""
    path = workspace.root / workspace.settings.items.metadata
    if not workspace.settings.items.metadata or not path.is_file():
        return True
    with workspace.ledger.snapshot() as view:
        kept = kept_metadata(view)
    return kept is not None and kept.source == _source_of(workspace, path)


def keep_metadata(writer: Writer) -> KeptMetadata | None:
    """Take the table as it is now; None without one in the settings. A file that did not change costs its hash.

    Raises:
        ItemMetadataError: the file is missing, cannot be read, or has no column of the settings' names. The copy
            before stays in force.
    """
    workspace = writer.workspace
    settings = workspace.settings.items
    if not settings.metadata:
        return None
    path = workspace.root / settings.metadata
    if not path.is_file():
        raise ItemMetadataError(f"[items] metadata: there is no file {path}", hint="correct it in imsr.toml")
    source = _source_of(workspace, path)
    with workspace.ledger.snapshot() as view:
        before = kept_metadata(view)
    if before is not None and before.source == source and workspace.resolve(before.path).is_file():
        return before
    kept = _keep(workspace, path, settings, source)
    with writer.transaction() as tx:
        tx.put_meta(META, json.dumps(asdict(kept)))
    return kept


def metadata_problem(writer: Writer) -> str | None:
    """Take the table as it is now; what is wrong with it, if anything. Nothing is learnt from it, so no run fails."""
    try:
        keep_metadata(writer)
    except ItemMetadataError as error:
        return f"{error.message}; what items are stays as it was ({error.hint})"
    return None


def _source_of(workspace: Workspace, path: Path) -> str:
    return hashlib.sha256(f"{file_sha256(path)} {asdict(workspace.settings.items)}".encode()).hexdigest()


def _keep(workspace: Workspace, path: Path, settings: ItemsSettings, source: str) -> KeptMetadata:
    table = _read(path, settings)
    named = table.filter(pc.is_valid(table["item_id"]))
    place = pa.array(range(named.num_rows), pa.int64())
    first = named.append_column("place", place).group_by("item_id").aggregate([("place", "min")])["place_min"]
    kept = named.take(first).sort_by("item_id")
    folder = workspace.root / FOLDER
    folder.mkdir(exist_ok=True)
    copy = folder / f"items-{source[:16]}.parquet"
    write_table(kept, copy)
    return KeptMetadata(
        path=workspace.relative(copy),
        source=source,
        items=kept.num_rows,
        duplicate=named.num_rows - kept.num_rows,
        without_id=table.num_rows - named.num_rows,
    )


def _read(path: Path, settings: ItemsSettings) -> pa.Table:
    """All rows and columns of the file; ``item_id`` first, as text."""
    own = settings.item_id.replace('"', '""')
    query = f"""SELECT nullif(CAST("{own}" AS VARCHAR), '') AS item_id, * EXCLUDE ("{own}") FROM {_source(path)}"""
    try:
        with duckdb_session() as connection:
            table = connection.sql(query, params={"path": str(path)}).to_arrow_table()
    except duckdb.Error as error:
        first = str(error).strip().splitlines()[0]
        raise ItemMetadataError(
            f"[items] metadata: {path.name} cannot be read: {first}",
            hint=f"it must have a column {settings.item_id!r}: set item_id in [items] to the one with the item's id",
        ) from error
    wanted = [settings.name, *settings.categories]
    missing = [column for column in wanted if column and column not in table.column_names]
    if missing:
        raise ItemMetadataError(
            f"[items]: {path.name} has no column {missing[0]!r}",
            hint=f"its columns: {', '.join(table.column_names[1:])}",
        )
    return table


def _source(path: Path) -> str:
    kinds = {
        ".parquet": "read_parquet([$path], hive_partitioning = false)",
        ".csv": "read_csv([$path], header = true, all_varchar = true, strict_mode = true)",
        ".tsv": "read_csv([$path], header = true, all_varchar = true, delim = '\t', quote = '')",
        ".jsonl": "read_json([$path], format = 'newline_delimited')",
        ".json": "read_json([$path])",
    }
    if path.suffix not in kinds:
        raise ItemMetadataError(
            f"[items] metadata: {path.name} is of no kind that can be read", hint=f"name it {', '.join(kinds)}"
        )
    return kinds[path.suffix]
