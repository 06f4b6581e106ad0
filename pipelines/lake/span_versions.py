"""New versions of spans: staged and sealed, renamed to their place, and put in force in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.lake.frozen import freeze
from pipelines.lake.intake import Intake
from pipelines.lake.lost import lost_data
from pipelines.lake.report import IngestReport
from pipelines.lake.schemas import QUARANTINE_SCHEMA, bucket_files
from pipelines.lake.span_files import SpanContent, SpanWriter
from pipelines.lake.spans import Calendar, Span
from pipelines.lake.withdrawal import Withdrawal, mark_withdrawn
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import BatchRow, Snapshot, SpanRow, SpanState, SpanVersionRow, Transaction, iso
from pipelines.workspace.publish import discard_orphan, move_into_place
from pipelines.workspace.seal import seal, verify_folder
from pipelines.workspace.states import BUILT
from pipelines.workspace.writer import Writer

#: Called in the transaction that commits a batch.
Also = Callable[[Transaction, IngestReport], None]

_QUARANTINE = "quarantine.parquet"
#: Of a file's report: what the ledger has no use for.
_NOT_KEPT = ("skipped", "refused", "path")
#: Folders flushed to disk at a time: many small spans wait for the disk, not for the processor.
_FLUSHES = 8


@dataclass(frozen=True)
class SpanVersion:
    """A finished span version, still in the staging folder."""

    span: Span
    row: SpanVersionRow
    folder: Path
    final: Path


@dataclass(frozen=True)
class Staged:
    """A batch that waits to be put into place: new versions, spans that have no rows left, refused rows."""

    versions: list[SpanVersion]
    emptied: list[Span]
    quarantine: Path | None


def files_in_force(workspace: Workspace, view: Snapshot, spans: Sequence[Span]) -> list[Path]:
    """The files of the versions in force, checked against their hashes before they are rewritten."""
    files: list[Path] = []
    for span in spans:
        row = view.span_version(span.id)
        if row is not None:
            folder = workspace.resolve(row.path)
            verify_folder(folder)
            files.extend(bucket_files(folder))
    return files


def next_version(view: Snapshot, span_id: str) -> int:
    """The number of a span's next data version."""
    row = view.span(span_id)
    used = [version.data_version for version in view.span_versions(span_id)]
    return max([*used, row.data_version or 0 if row else 0], default=0) + 1


def stage(
    intake: Intake,
    workspace: Workspace,
    spans: Sequence[Span],
    numbers: dict[str, int],
    batch_id: str,
    now: datetime,
    work: Path,
) -> Staged:
    """Write and seal the bucket files of every span that changes, and the refused rows, below ``work``."""
    versions, left = [], intake.changed_spans()
    for number, runs in groupby(intake.sorted_rows(), key=lambda run: run[0]):
        span = spans[number]
        folder = work / span.id
        folder.mkdir()
        writer = SpanWriter(folder)
        for _, bucket, rows in runs:
            writer.write(bucket, rows)
        versions.append(_version(workspace, span, numbers[span.id], writer.close(), batch_id, now, folder))
        left.discard(number)
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(seal, [each.folder for each in versions]))
    return Staged(versions, [spans[number] for number in sorted(left)], _write_quarantine(intake, work / _QUARANTINE))


def _version(
    workspace: Workspace, span: Span, number: int, content: SpanContent, batch: str, now: datetime, folder: Path
) -> SpanVersion:
    final = workspace.span_folder(span.id, number)
    row = SpanVersionRow(
        span_id=span.id,
        data_version=number,
        path=workspace.relative(final),
        fingerprint=content.fingerprint,
        rows=content.rows,
        users=content.users,
        items=content.items,
        created_at=iso(now),
        batch_id=batch,
    )
    return SpanVersion(span, row, folder, final)


def _write_quarantine(intake: Intake, path: Path) -> Path | None:
    if not intake.refusals():
        return None
    with pq.ParquetWriter(path, QUARANTINE_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for batch in intake.quarantined():
            writer.write_batch(batch)
    return path


def publish(
    workspace: Workspace,
    report: IngestReport,
    staged: Staged,
    calendar: Calendar | None,
    now: datetime,
    writer: Writer,
    withdrawal: Withdrawal | None,
    also: Also,
) -> IngestReport:
    """Rename all folders, then name them in the ledger in one transaction."""
    assert report.batch_id is not None
    quarantine = workspace.quarantine_file(report.batch_id) if staged.quarantine else None
    _make_way(workspace, [*(each.final for each in staged.versions), *([quarantine] if quarantine else [])], writer)
    for each in staged.versions:
        move_into_place(each.folder, each.final)
        hit(FailPoint.INGEST_RENAMED_ONE)
    if quarantine is not None and staged.quarantine is not None:
        move_into_place(staged.quarantine, quarantine)
    with writer.transaction() as tx:
        if calendar is not None:
            freeze(tx, workspace.settings, calendar)
        tx.add_batch(_batch_row(report, now, workspace.relative(quarantine) if quarantine else None))
        if withdrawal is not None:
            mark_withdrawn(tx, withdrawal, report.batch_id)
        stale = _record_spans(tx, staged, now)
        also(tx, report)
        hit(FailPoint.INGEST_BEFORE_COMMIT)
    hit(FailPoint.INGEST_AFTER_COMMIT)
    return dataclasses.replace(report, stale=tuple(stale))


def _make_way(workspace: Workspace, finals: list[Path], writer: Writer) -> None:
    """Remove what an ingest that was killed before its commit left at the places of this one; nothing else."""
    with writer.transaction() as tx:
        needed = lost_data(workspace, tx)
        for final in finals:
            discard_orphan(workspace, final, tx, needed=needed)


def _batch_row(report: IngestReport, now: datetime, quarantine: str | None) -> BatchRow:
    assert report.batch_id is not None
    entries = (dataclasses.asdict(file) for file in report.files if file.batched)
    read = tuple({key: value for key, value in entry.items() if key not in _NOT_KEPT} for entry in entries)
    counts = (report.read, report.kept, report.duplicate, report.quarantined)
    return BatchRow(report.batch_id, iso(now), read, *counts, quarantine)


def _record_spans(tx: Transaction, staged: Staged, now: datetime) -> list[str]:
    """Put the new versions in force; return the spans that became stale by it, by time."""
    before = {row.span_id: row for row in tx.spans()}
    stale = []
    for each in staged.versions:
        old = before.get(each.span.id)
        built = old is not None and old.state in BUILT
        state = SpanState.STALE if built or (old and old.state == SpanState.STALE) else SpanState.INGESTED
        span, version = each.span, each.row.data_version
        tx.put_span(SpanRow(span.id, span.start_us, span.end_us, version, state, None, iso(now)))
        tx.add_span_version(each.row)
        tx.delete("metrics", span_id=span.id)  # measured on the data as they were
        if built:
            stale.append(span.id)
    for span in staged.emptied:
        tx.put_span(SpanRow(span.id, span.start_us, span.end_us, None, SpanState.PENDING, None, iso(now)))
        tx.delete("metrics", span_id=span.id)
    touched = [*(each.span for each in staged.versions), *staged.emptied]
    changed = {span.id for span in touched}
    for row in tx.spans_after(min((span.start_us for span in touched), default=2**62)):
        if row.span_id not in changed and row.state in BUILT:
            tx.set_span_state(row.span_id, SpanState.STALE, at=now)
            stale.append(row.span_id)
    starts = {row.span_id: row.start_us for row in tx.spans()}
    return sorted(stale, key=lambda span_id: starts[span_id])
