"""The analysts' side: DuckDB views over the workspace that never block a run and never show half of one.

At every publish a new generation is written: the ledger's tables as Parquet in ``catalog/g<N>/``, the views over them
and over the immutable data files as ``views.sql`` (for any DuckDB), and ``catalog.duckdb``, which holds views only.
The last two are replaced by one `os.replace` each. Views name explicit files, never a glob: a reader that globs while
a run publishes sees a mixture. They name them from the workspace on, wherever it lies (see `session`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from importlib.resources import files as resource_files
from pathlib import Path
from string import Template
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from imsr_core.errors import CheckpointError
from imsr_core.twin import TWIN
from pipelines.lake.item_metadata import kept_metadata
from pipelines.lake.user_segments import kept_segments
from pipelines.sequences.chain import SequenceChainError, chain_of, latest_rows
from pipelines.versions.ancestry import chain_of_versions
from pipelines.versions.line import Line
from pipelines.versions.lineage import Lineage
from pipelines.warehouse.dictionary import comments
from pipelines.warehouse.explained import explained
from pipelines.warehouse.generations import drop_old_generations, make_generation
from pipelines.warehouse.sandbox import confine, define_views
from pipelines.warehouse.session import ROOT, literally, literals, open_session
from pipelines.workspace.editions import Folders, plain
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import (
    MetricRow,
    PromotionRow,
    Snapshot,
    SpanRow,
    SpanVersionRow,
    VersionRow,
)
from pipelines.workspace.parquet_files import ParquetFileError, column_names, write_table
from pipelines.workspace.seal import PublishError, fsync_path, write_atomic
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

_ARROW = {"str": pa.string(), "str | None": pa.string(), "int": pa.int64(), "int | None": pa.int64()}
_ARROW |= {"float": pa.float64(), "SpanState": pa.string(), "VersionState": pa.string(), "dict[str, Any]": pa.string()}


def publish_catalog(workspace: Workspace, *, anew: bool = False) -> bool:
    """Write the next generation of the views and switch to it; False if the views are up to date already.

    After the switch it looks once more if the ledger went on meanwhile: this run may have been suspended and overtaken,
    and old views must not stay.

    Args:
        workspace: whose views.
        anew: write them in any case, as after damage.

    Raises:
        PublishError: the catalog cannot be written; the one before stays.
    """
    switched = False
    with workspace.ledger.watched() as has_changed:
        while not switched or has_changed():
            with workspace.ledger.snapshot() as view:
                sources = _data_files(workspace, view)
                tables = _ledger_tables(workspace, view)
            stamp = _stamp(workspace, sources, tables)
            if not anew and _is_current(workspace, stamp):
                break
            _switch(workspace, sources, tables, stamp)
            switched, anew = True, False
    return switched


def _switch(workspace: Workspace, sources: dict[str, list[Path]], tables: dict[str, pa.Table], stamp: str) -> None:
    """Write a generation and let the views name it."""
    generation = make_generation(workspace)
    for name, table in tables.items():
        path = generation / f"{name}.parquet"
        write_table(table, path)
        sources[name] = [path]
    text = stamp + _views_text(workspace, sources)
    temporary = generation / workspace.catalog_file.name
    try:
        _write_catalog(workspace, temporary, text)
    except PublishError:
        readable = {name: [path for path in paths if _is_readable(path)] for name, paths in sources.items()}
        if readable == sources:
            raise
        text = stamp + _views_text(workspace, readable)  # damage is the doctor's to say, and no reason for no views
        _write_catalog(workspace, temporary, text)
    hit(FailPoint.CATALOG_STAGED)
    for path in (workspace.views_file, workspace.catalog_file):
        if path.is_dir():
            raise PublishError(f"{path} is a folder, and the views belong there", hint="remove it; then: imsr views")
    write_atomic(workspace.views_file, text.encode())
    os.utime(temporary)  # not older than the text: see _is_current
    os.replace(temporary, workspace.catalog_file)
    fsync_path(workspace.root)
    hit(FailPoint.CATALOG_REPLACED)
    drop_old_generations(workspace)


def _is_readable(path: Path) -> bool:
    try:
        return bool(column_names(path))
    except ParquetFileError:
        return False


def catalog_is_current(workspace: Workspace) -> bool:
    """Whether the views that are published are those of the ledger as it is."""
    with workspace.ledger.snapshot() as view:
        stamp = _stamp(workspace, _data_files(workspace, view), _ledger_tables(workspace, view))
    return _is_current(workspace, stamp)


def _stamp(workspace: Workspace, sources: dict[str, list[Path]], tables: dict[str, pa.Table]) -> str:
    """A comment that changes whenever anything in the views would."""
    named = [(name, [workspace.relative(path) for path in paths]) for name, paths in sorted(sources.items())]
    digest = hashlib.sha256(repr(named).encode())
    for name, table in sorted(tables.items()):
        digest.update(name.encode() + json.dumps(table.to_pydict()).encode())
    for name in ("views.sql", "dictionary.toml"):
        digest.update(resource_files("pipelines.warehouse").joinpath(name).read_bytes())
    return f"-- state {digest.hexdigest()}\n"


def _is_movable(workspace: Workspace) -> bool:
    """Whether the views name files from the workspace on; an earlier release named them by their whole path."""
    if not workspace.views_file.is_file():
        return False
    with workspace.views_file.open("rb") as file:
        return not [file.readline(), file.readline()][1].startswith(b"-- workspace ")


def _is_current(workspace: Workspace, stamp: str) -> bool:
    if not workspace.views_file.is_file() or not workspace.catalog_file.is_file():
        return False
    with workspace.views_file.open("rb") as file:
        if file.readline() != stamp.encode():
            return False
    # a run that died between the two replacements left a catalog that is older than the text
    return workspace.catalog_file.stat().st_mtime_ns >= workspace.views_file.stat().st_mtime_ns


def connect(workspace: Workspace, *, sandbox: bool = True) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB session with the views as they are now.

    ``sandbox`` keeps the session to the workspace's folders: no other file, no extension, and no way to change that.
    It is closed before the text of the views is looked at, and of that only views are taken: a workspace that somebody
    else has made can do no more than show its own files. In the folders DuckDB would still write; for queries of other
    people use `pipelines.warehouse.sandbox.run_query`.

    A query whose files were pruned since, or are rewritten at this moment, says so (see `explained`).

    Raises:
        QueryError: ``views.sql`` is not what was written there.
    """
    if not _is_movable(workspace):
        publish_catalog(workspace)
    connection = open_session(workspace)
    try:
        if sandbox:
            confine(connection, workspace)
        define_views(connection, workspace.views_file.read_text(encoding="utf-8", errors="replace"))
    except BaseException:
        connection.close()
        raise
    return explained(connection)


def view_names() -> list[str]:
    """The names of all views, without the macros."""
    text = resource_files("pipelines.warehouse").joinpath("views.sql").read_text(encoding="utf-8")
    return re.findall(r"^CREATE OR REPLACE VIEW (\w+) AS", text, re.MULTILINE)


def _data_files(workspace: Workspace, view: Snapshot) -> dict[str, list[Path]]:
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
    latest, live, newest = latest_rows(view), _chain_of_live(workspace, view), list[Path]()
    for span in reversed(view.spans()):
        if span.span_id in latest and not newest:
            row = latest[span.span_id]
            with suppress(SequenceChainError):  # damaged: the doctor's to say, and no reason to have no views
                chain = chain_of(workspace, row.span_id, row.fingerprint)
                if all(latest[link.span_id].fingerprint == link.fingerprint for link in chain):
                    newest = [link.folder for link in chain]
    return newest if len(newest) >= len(live) else live


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


def _ledger_tables(workspace: Workspace, view: Snapshot) -> dict[str, pa.Table]:
    versions = view.versions()
    pointers = {line: view.pointer(line) for line in sorted({row.line for row in versions})}
    return {
        "spans": _table(SpanRow, view.spans()),
        "span_versions": _table(SpanVersionRow, view.span_versions()),
        "versions": _table(VersionRow, versions),
        "promotions": _table(PromotionRow, view.promotions()),
        "metrics": _table(MetricRow, view.metrics()),
        "pointers": pa.table(
            {
                "line": pa.array([line for line, at in pointers.items() if at], pa.string()),
                "version_id": pa.array([at for at in pointers.values() if at], pa.string()),
            }
        ),
        "version_chain": _chain_table(workspace, versions),
        "lineage": _lineage_table(view),
    }


def _table(kind: type, rows: Sequence[Any]) -> pa.Table:
    def values(name: str, annotation: str) -> list[Any]:
        column = [getattr(row, name) for row in rows]
        return [json.dumps(value) for value in column] if annotation.startswith("dict") else column

    return pa.table({f.name: pa.array(values(f.name, str(f.type)), _ARROW[str(f.type)]) for f in fields(kind)})


def _chain_table(workspace: Workspace, versions: Sequence[VersionRow]) -> pa.Table:
    """(version, ancestor, depth) of every interest file that is read as of a version."""
    chains: list[tuple[str, str, int]] = []
    for row in versions:
        if row.line == Line.INTERESTS and row.state != VersionState.PRUNED:
            with suppress(CheckpointError):  # damaged: the doctor's to say, and no reason to have no views
                read = Lineage.read(workspace.resolve(row.path)).interest_versions
                chains += [(row.version_id, ancestor, depth) for depth, ancestor in enumerate(reversed(read))]
    columns = list(zip(*chains, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.string(), pa.int64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=["version_id", "ancestor", "depth"])


def _lineage_table(view: Snapshot) -> pa.Table:
    """The current version and its ancestors: one version for each span that it has learnt; place 0 is the oldest."""
    chain = chain_of_versions(view, view.pointer(Line.INTERESTS))
    names = ("version_id", "span_id")
    columns = {name: pa.array([getattr(row, name) for row in chain], pa.string()) for name in names}
    return pa.table(columns | {"place": pa.array(range(len(chain) - 1, -1, -1), pa.int64())})


def _views_text(workspace: Workspace, sources: dict[str, list[Path]]) -> str:
    template = Template(resource_files("pipelines.warehouse").joinpath("views.sql").read_text(encoding="utf-8"))
    relations = {name: _relation(workspace, name, paths) for name, paths in sources.items()}
    return template.substitute(relations, twin=TWIN) + comments()


def _relation(workspace: Workspace, name: str, paths: Sequence[Path]) -> str:
    if paths:
        # folders are named span=<id>/...: the span's id, always as text
        hive = "hive_partitioning = true, hive_types_autocast = false, union_by_name = false"
        if name == "recommendations":
            hive += ", filename = true"  # where a list's variant stands
        files = literals([literally(workspace.relative(path)) for path in paths])
        if not _came_later(name, paths[0]):
            return f"read_parquet(list_transform({files}, lambda file: {ROOT} || file), {hive})"
        hive = hive.replace("union_by_name = false", "union_by_name = true")
        read = f"read_parquet(list_transform({files}, lambda file: {ROOT} || file), {hive})"
        return f"(FROM {read} UNION ALL BY NAME {_no_rows(name)})"
    return _no_rows(name)


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


def _write_catalog(workspace: Workspace, path: Path, text: str) -> None:
    # the oldest storage format: DuckDB 1.1, which knows all that the views use, and everything since can open it
    try:
        with open_session(workspace, path, storage_compatibility_version="v1.0.0") as connection:
            connection.execute(f"BEGIN;\n{text}\nCOMMIT")  # some 300 statements: one write, not one each
            connection.execute("CHECKPOINT")
    except duckdb.Error as error:
        raise PublishError(
            f"{path}: the views cannot be written: {error}", hint="once the disk is in order: imsr views"
        ) from error
    fsync_path(path)
