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
from importlib.resources import files as resource_files
from pathlib import Path
from string import Template

import duckdb
import pyarrow as pa

from imsr_core.twin import TWIN
from pipelines.warehouse.dictionary import comments
from pipelines.warehouse.explained import explained
from pipelines.warehouse.generations import drop_old_generations, make_generation
from pipelines.warehouse.ledger_tables import ledger_tables
from pipelines.warehouse.sandbox import confine, define_views
from pipelines.warehouse.session import open_session
from pipelines.warehouse.sources import data_files, relation_of
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import ParquetFileError, column_names, write_table
from pipelines.workspace.seal import PublishError, fsync_path, write_atomic


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
                sources = data_files(workspace, view)
                tables = ledger_tables(workspace, view)
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
        stamp = _stamp(workspace, data_files(workspace, view), ledger_tables(workspace, view))
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


def connect(workspace: Workspace | Path | str, *, sandbox: bool = True) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB session with the views as they are now.

    ``sandbox`` keeps the session to the workspace's folders: no other file, no extension, and no way to change that.
    It is closed before the text of the views is looked at, and of that only views are taken: a workspace that somebody
    else has made can do no more than show its own files. In the folders DuckDB would still write; for queries of other
    people use `pipelines.warehouse.sandbox.run_query`.

    A query whose files were pruned since, or are rewritten at this moment, says so (see `explained`).

    Raises:
        WorkspaceError: there is no workspace.
        QueryError: ``views.sql`` is not what was written there.
    """
    workspace = Workspace.open(workspace)
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


def _views_text(workspace: Workspace, sources: dict[str, list[Path]]) -> str:
    template = Template(resource_files("pipelines.warehouse").joinpath("views.sql").read_text(encoding="utf-8"))
    relations = {name: relation_of(workspace, name, paths) for name, paths in sources.items()}
    return template.substitute(relations, twin=TWIN) + comments()


def _write_catalog(workspace: Workspace, path: Path, text: str) -> None:
    # the oldest storage format: DuckDB 1.1, which knows all that the views use, and everything since can open it
    try:
        with open_session(workspace, path, storage_compatibility_version="v1.0.0") as connection:
            connection.execute("SET parquet_metadata_cache = true")  # several views look at the same large footer
            connection.execute(f"BEGIN;\n{text}\nCOMMIT")  # some 300 statements: one write, not one each
            connection.execute("CHECKPOINT")
    except duckdb.Error as error:
        raise PublishError(
            f"{path}: the views cannot be written: {error}", hint="once the disk is in order: imsr views"
        ) from error
    fsync_path(path)
