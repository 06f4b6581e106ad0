"""Shared by the ingest tests: a fixed clock, small event files, and the whole content of a workspace to compare."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.lake.delivery import Delivery
from pipelines.lake.ingest import IngestReport, ingest
from pipelines.lake.schemas import CONTENT_SCHEMA
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import verify_folder

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
HEADER = ("user_id", "item_id", "timestamp")
#: Settings and columns of a log that has everything an event can have.
FULL = '[source]\nevent_type = "kind"\nvalue = "price"\nevent_id = "id"\n'
FULL_HEADER = ("user_id", "item_id", "timestamp", "kind", "price", "id")

#: One event in each of three months, and two users in the second.
ROWS = [
    ("ann", "tea", "2024-01-10T08:00:00"),
    ("bob", "cake", "2024-02-11T09:30:00Z"),
    ("ann", "cake", "2024-02-12T10:00:00+02:00"),
    ("cyd", "tea", "2024-03-01"),
]


def make_workspace(root: Path, settings: str = "") -> Workspace:
    """A new workspace with default settings plus ``settings``."""
    return Workspace.create(root, settings)


def write_csv(path: Path, rows: Iterable[Sequence[object]], header: Sequence[str] = HEADER) -> Path:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    """Write a Parquet file from arrays."""
    pq.write_table(pa.table(columns), path, **options)
    return path


def run(workspace: Workspace, *files: Path | Delivery, **options: Any) -> IngestReport:
    """Ingest at the fixed time."""
    return ingest(workspace, list(files), now=options.pop("now", NOW), **options)


def span_rows(workspace: Workspace, span_id: str, data_version: int | None = None) -> list[dict[str, Any]]:
    """The rows of a span version (default: in force) in file order; its folder is verified first."""
    with workspace.ledger.snapshot() as view:
        row = view.span_version(span_id, data_version)
    assert row is not None
    folder = workspace.resolve(row.path)
    verify_folder(folder)
    return [r for path in sorted(folder.glob("*.parquet")) for r in pq.ParquetFile(path).read().to_pylist()]


def lake(workspace: Workspace) -> dict[str, list[tuple[Any, ...]]]:
    """Content columns of every span in force, in file order, with the recorded fingerprint and counts."""
    with workspace.ledger.snapshot() as view:
        current = view.current_span_versions()
    content: dict[str, list[tuple[Any, ...]]] = {}
    for row in current:
        rows = [tuple(r[name] for name in CONTENT_SCHEMA.names) for r in span_rows(workspace, row.span_id)]
        assert len(rows) == row.rows
        assert len({r[0] for r in rows}) == row.users
        assert len({r[1] for r in rows}) == row.items
        content[row.span_id] = [(row.fingerprint,), *rows]
    return content


def quarantine(workspace: Workspace) -> list[dict[str, Any]]:
    """All rows in quarantine, batch after batch."""
    with workspace.ledger.snapshot() as view:
        paths = [batch.quarantine_path for batch in view.batches() if batch.quarantine_path]
    return [row for path in paths for row in pq.read_table(workspace.resolve(path)).to_pylist()]


def events(workspace: Workspace) -> list[tuple[str, str, str]]:
    """(user, item, ISO time) of everything in the lake, sorted."""
    rows = [row for content in lake(workspace).values() for row in content[1:]]
    return sorted((row[0], row[1], row[2].isoformat()) for row in rows)


def files_below(root: Path) -> list[str]:
    """Every file and folder of a workspace but the ledger and the settings, as relative paths."""
    skip = {"ledger.sqlite", "imsr.toml"}
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.name not in skip)
