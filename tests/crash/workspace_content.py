"""What a workspace holds, without what two equal runs differ in: times, random salts, the bytes of catalogs."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from pipelines.care.doctor import examine
from pipelines.interests.gate import smoke_test
from pipelines.interests.version import LINE, Version
from pipelines.warehouse.catalog import connect, view_names
from pipelines.workspace.layout import Workspace

TIMES = {
    "created_at",
    "updated_at",
    "ingested_at",
    "at",
    "train_seconds",
    "started_at",
    "finished_at",
    "restated_at",
    "active_us",
}
RANDOM = {"salt", "user_hash"}

_TOMBSTONE = re.compile(r"forgotten:[0-9a-f]+\\x00")


def content(workspace: Workspace) -> dict[str, str]:
    """Ledger rows, and every file by its path with what it says; equal runs give equal content."""
    found = {f"ledger/{name}": _plain(rows) for name, rows in ledger(workspace).items()}
    for path in sorted(workspace.root.rglob("*")):
        name = path.relative_to(workspace.root).as_posix()
        if not name.startswith(("catalog", "ledger.sqlite", "views.sql")):
            found[name] = _plain(_read(path)) if path.is_file() else "folder"
    return found


def ledger(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables but the leases', without times."""
    with closing(sqlite3.connect(workspace.ledger_file)) as connection:
        connection.row_factory = sqlite3.Row
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [_timeless(dict(row)) for row in connection.execute(f"SELECT * FROM {name} ORDER BY rowid")]
            for name in sorted(set(names) - {"leases", "sqlite_sequence"})
        }


def pointer(workspace: Workspace) -> str | None:
    """The live version."""
    with workspace.ledger.snapshot() as view:
        return view.pointer(LINE)


def require_usable(workspace: Workspace) -> None:
    """What a reader has at this moment: the live version loads and answers, every view works, in both forms."""
    if pointer(workspace) is not None:
        assert smoke_test(Version.open(workspace)) is None
    if workspace.views_file.exists():
        with connect(workspace) as connection:
            _require_views(connection)
    if workspace.catalog_file.exists():
        with duckdb.connect(str(workspace.catalog_file), read_only=True) as connection:
            _require_views(connection)


def require_clean(workspace: Workspace) -> None:
    """Doctor finds nothing, every file read; nobody holds the lease, and nothing is left of work in progress."""
    assert [str(finding) for finding in examine(workspace, deep=True)] == []
    assert sorted(workspace.staging.iterdir()) == []
    # a generation of the views that a kill left half written goes with the others of its age
    left = {workspace.relative(path) for path in workspace.root.glob("**/*.tmp")}
    assert [path for path in left if not path.startswith("catalog/")] == []
    with workspace.ledger.snapshot() as view:
        lease = view.lease()
    assert lease is None or lease.holder is None


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """The names whose content differs, with the place of the first difference."""
    names = sorted(found.keys() | wanted.keys())
    return [
        f"{name}: {_first(found.get(name), wanted.get(name))}" for name in names if found.get(name) != wanted.get(name)
    ]


def _require_views(connection: duckdb.DuckDBPyConnection) -> None:
    for name in view_names():
        connection.execute(f"FROM {name}").fetchall()
    live = connection.execute("SELECT line FROM versions WHERE current ORDER BY line").fetchall()
    assert live == connection.execute("SELECT DISTINCT line FROM promotions ORDER BY line").fetchall()


def _read(path: Path) -> Any:
    if path.suffix == ".parquet":
        table = pq.ParquetFile(path).read()
        return table.drop_columns([name for name in ("ingest_time",) if name in table.column_names]).to_pydict()
    if path.suffix == ".safetensors":
        return {name: (tensor.dtype, tensor.tobytes()) for name, tensor in sorted(load_file(path).items())}
    if path.name == "READY":
        return sorted(json.loads(path.read_text())["files"])  # sizes and hashes hang on times in the files
    return _timeless(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()


def _timeless(value: Any) -> Any:
    """Without times, also in JSON text."""
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if key not in TIMES | RANDOM}
    if isinstance(value, list):
        return [_timeless(each) for each in value]
    if isinstance(value, str) and value[:1] in ("{", "["):
        return _timeless(json.loads(value))
    return value


def _plain(value: Any) -> str:
    return _TOMBSTONE.sub("forgotten", repr(value))


def _first(found: str | None, wanted: str | None) -> str:
    if found is None or wanted is None:
        return "missing" if found is None else "should not be there"
    place = next(
        (n for n, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
    )
    return f"...{found[max(place - 60, 0) : place + 60]} should be ...{wanted[max(place - 60, 0) : place + 60]}"
