"""The sources of views.sql: which files stand behind each, with which columns, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imsr_core.errors import CheckpointError
from pipelines.lake.item_metadata import kept_metadata
from pipelines.lake.user_segments import kept_segments
from pipelines.sequences.chain import SequenceChainError, chain_of, latest_rows
from pipelines.versions.line import Line
from pipelines.versions.lineage import Lineage
from pipelines.warehouse.session import ROOT, literally, literals
from pipelines.workspace.editions import Folders, plain
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SequencesRow, Snapshot
from pipelines.workspace.states import GONE, VersionState

#: The file of a version that has the counts of its interests.
COUNTS = "interest_counts.parquet"
#: Columns of each source of views.sql, for the time when it has no file yet.
COLUMNS = {
    "interactions": "span VARCHAR, user_id VARCHAR, item_id VARCHAR, timestamp TIMESTAMPTZ, event_type VARCHAR, "
    "value DOUBLE, event_id VARCHAR, source VARCHAR, ingest_time TIMESTAMPTZ",
    "quarantine": "source VARCHAR, row_number BIGINT, reason VARCHAR, user_id VARCHAR, item_id VARCHAR, "
    "timestamp VARCHAR, event_type VARCHAR, value VARCHAR, event_id VARCHAR, ingest_time TIMESTAMPTZ, "
    "detail VARCHAR",
    "users": "user_id VARCHAR, user_index BIGINT, span VARCHAR",
    "items": "item_id VARCHAR, item_index BIGINT, span VARCHAR",
    "sequences": "span VARCHAR, user_index BIGINT, items BIGINT[], timestamps BIGINT[], truncated BIGINT",
    "interests": "version_id VARCHAR, span_id VARCHAR, user_id VARCHAR, user_index BIGINT, interest_id BIGINT, "
    "born_span VARCHAR, active_span VARCHAR, support BIGINT, norm FLOAT, overlap FLOAT, vector FLOAT[]",
    "counts": "version_id VARCHAR, span_id VARCHAR, user_id VARCHAR, user_index BIGINT, interests BIGINT, "
    "distinct_interests BIGINT, born BIGINT, active BOOLEAN",
    "changes": "version_id VARCHAR, span_id VARCHAR, user_id VARCHAR, interest_id BIGINT, change VARCHAR, "
    "clarity DOUBLE, residual DOUBLE, drift DOUBLE, reason VARCHAR",
    "user_items": "version_id VARCHAR, user_id VARCHAR, user_index BIGINT, item_index BIGINT, times BIGINT, "
    "first_us BIGINT, last_us BIGINT",
    "neighbour_counts": "version_id VARCHAR, item_index BIGINT, neighbour_index BIGINT, steps FLOAT, taste FLOAT",
    "neighbour_contexts": "version_id VARCHAR, kind VARCHAR, user_index BIGINT, place BIGINT, item_index BIGINT, "
    "fresh BOOLEAN",
    "item_metadata": "item_id VARCHAR",
    "user_segments": "user_id VARCHAR",
    "interest_items": "version_id VARCHAR, user_id VARCHAR, interest_id BIGINT, rank BIGINT, item_id VARCHAR, "
    "score FLOAT",
    "span_matrix": "version_id VARCHAR, span_id VARCHAR, metric VARCHAR, value DOUBLE, n BIGINT",
    "recommendations": "version_id VARCHAR, user_id VARCHAR, rank BIGINT, item_id VARCHAR, score FLOAT, "
    "interest_id BIGINT, reason VARCHAR, filename VARCHAR",
}

COLUMNS |= {"uncounted": COLUMNS["interests"], "uncounted_changes": COLUMNS["changes"]}


def data_files(workspace: Workspace, view: Snapshot) -> dict[str, list[Path]]:
    """The files behind each source of views.sql but the ledger's tables, oldest first."""
    sequences, listed = _newest_chain(workspace, view), Folders()
    lake = [workspace.resolve(row.path) for row in view.current_span_versions()]
    versions = view.versions(Line.INTERESTS)
    folders = [workspace.resolve(row.path) for row in versions if row.state != VersionState.PRUNED]
    older = [folder for folder in folders if not listed.files(folder, COUNTS)]
    gone = {row.version_id for row in versions if row.state in GONE}  # their lists are about to be removed
    lists = listed.files(workspace.root / "recommendations", "*.parquet")
    explained = listed.files(workspace.root / "explanations", "*.parquet")
    matrices = sorted((workspace.root / "matrix").glob("*.parquet"))
    metadata, segments = kept_metadata(view), kept_segments(view)
    return {
        "interactions": _files(listed, lake, "bucket=*.parquet"),
        "quarantine": [workspace.resolve(b.quarantine_path) for b in view.batches() if b.quarantine_path],
        "users": _files(listed, sequences, "users.parquet"),
        "items": _files(listed, sequences, "items.parquet"),
        "sequences": _files(listed, sequences, "bucket=*.parquet"),
        "interests": _files(listed, folders, "interests.parquet"),
        "counts": _files(listed, folders, COUNTS),
        "uncounted": _files(listed, older, "interests.parquet"),
        "uncounted_changes": _files(listed, older, "changes.parquet"),
        "changes": _files(listed, folders, "changes.parquet"),
        "user_items": _files(listed, folders, "user_items.parquet"),
        "neighbour_counts": _files(listed, folders, "item_neighbours.parquet")
        + _files(listed, folders, "neighbour_counts.parquet"),
        "neighbour_contexts": _files(listed, folders, "neighbour_contexts.parquet"),
        "item_metadata": [workspace.resolve(metadata.path)] if metadata else [],
        "user_segments": _files(listed, [workspace.root / "metadata"], Path(segments.path).name) if segments else [],
        "span_matrix": [path for path in matrices if path.stem not in gone],
        "interest_items": [path for path in explained if plain(path).stem not in gone],
        "recommendations": [path for path in lists if plain(path).stem.partition("~")[0] not in gone],
    }


def _newest_chain(workspace: Workspace, view: Snapshot) -> list[Path]:
    """The sequences of the newest span that continues a chain of data in force: one numbering of all ids.

    While spans of the past are learnt again that chain is short, and lacks the users of later spans: then it is the
    chain of the version that is live.
    """
    latest, live = latest_rows(view), _chain_of_live(workspace, view)
    chains = (_chain_in_force(workspace, latest, span.span_id) for span in reversed(view.spans()))
    newest = next(filter(None, chains), [])
    return newest if len(newest) >= len(live) else live


def _chain_in_force(workspace: Workspace, latest: dict[str, SequencesRow], span_id: str) -> list[Path]:
    """The sequences up to a span, if all of them are those in force."""
    if span_id in latest:
        with suppress(SequenceChainError):  # damaged: the doctor's to say, and no reason to have no views
            chain = chain_of(workspace, span_id, latest[span_id].fingerprint)
            if all(latest[link.span_id].fingerprint == link.fingerprint for link in chain):
                return [link.folder for link in chain]
    return []


def _chain_of_live(workspace: Workspace, view: Snapshot) -> list[Path]:
    """The sequences that number the ids of the live version, as far as all of them are there."""
    row = view.version(view.pointer(Line.INTERESTS) or "")
    if row is None or row.state in GONE:
        return []
    with suppress(CheckpointError):
        folders = [workspace.resolve(path) for path in Lineage.read(workspace.resolve(row.path)).vocabulary]
        return folders if all(folder.is_dir() for folder in folders) else []
    return []


def _files(listed: Folders, folders: Iterable[Path], pattern: str) -> list[Path]:
    return [path for folder in folders for path in listed.files(folder, pattern)]


def relation_of(workspace: Workspace, name: str, paths: Sequence[Path]) -> str:
    """SQL for the rows of a source of views.sql in these files; with its columns, too, where some or all files have
    not got them."""
    if not paths:
        return _no_rows(name)
    older = _came_later(name, paths[0])
    # folders are named span=<id>/...: the span's id, always as text
    how = f"hive_partitioning = true, hive_types_autocast = false, union_by_name = {str(older).lower()}"
    if name == "recommendations":
        how += ", filename = true"  # where a list's variant stands
    files = literals([literally(workspace.relative(path)) for path in paths])
    read = f"read_parquet(list_transform({files}, lambda file: {ROOT} || file), {how})"
    return f"(FROM {read} UNION ALL BY NAME {_no_rows(name)})" if older else read


def _came_later(name: str, oldest: Path) -> bool:
    """Whether a source has columns that its oldest file lacks: an earlier version wrote it."""
    if name not in COLUMNS:
        return False
    try:
        there = set(pq.read_schema(oldest).names)
    except (OSError, pa.ArrowException):  # damage is for the doctor; a reader sees the engine's own message
        return False
    return any(column not in there for column in _columns(name) if f"/{column}=" not in oldest.as_posix())


def _columns(name: str) -> dict[str, str]:
    """The columns of a source of views.sql, with their types."""
    return dict(column.strip().split(" ", 1) for column in COLUMNS[name].split(","))


def _no_rows(name: str) -> str:
    """A relation with the columns of a source, and nothing in it."""
    return f"(SELECT {', '.join(f'NULL::{kind} AS {column}' for column, kind in _columns(name).items())} WHERE false)"
