"""Event files -> span versions in the lake, in one atomic step.

    read -> judge (quarantine) -> de-duplicate -> sort -> stage -> rename -> commit

Either all spans of the batch, its quarantine and its record are there, or nothing has changed. A span that
gets rows gets a new data version that holds all of its rows; what was built on the old one becomes stale,
and so does everything after it in time. A file that was ingested before (same content, same column mapping)
is skipped. One file that cannot be read fails the whole ingest.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from imsr_core.errors import ImsrError
from pipelines.lake.columns import QUARANTINE_SCHEMA, bucket_files
from pipelines.lake.delivery import Delivery
from pipelines.lake.event_files import ReadError
from pipelines.lake.frozen import check_frozen, frozen_calendar
from pipelines.lake.intake import IngestTables
from pipelines.lake.lookback import boundary_us
from pipelines.lake.lost import lost_data
from pipelines.lake.report import FileReport, IngestReport
from pipelines.lake.span_files import SpanContent, SpanWriter
from pipelines.lake.spans import Calendar, Span, from_us
from pipelines.lake.validation import Reason
from pipelines.settings.imsr_toml import Settings
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import BatchRow, Snapshot, SpanRow, SpanState, SpanVersionRow, Transaction, iso
from pipelines.workspace.publish import discard_orphan, move_into_place, open_staging
from pipelines.workspace.seal import file_sha256, seal, verify_folder
from pipelines.workspace.states import BUILT
from pipelines.workspace.writer import Writer, lent

__all__ = ["FileReport", "IngestError", "IngestReport", "frozen_calendar", "ingest"]

_LABEL = "ingest"

#: Called in the transaction that commits a batch.
Also = Callable[[Transaction, IngestReport], None]

_QUARANTINE = "quarantine.parquet"
#: Folders flushed to disk at a time: many small spans wait for the disk, not for the processor.
_FLUSHES = 8


class IngestError(ImsrError):
    """The ingest as a whole cannot be done; nothing has changed."""


@dataclass(frozen=True)
class _Plan:
    """What a run knows before it reads: the state of the ledger that it starts from."""

    batch_id: str
    calendar: Calendar | None
    fresh: dict[int, Path | Delivery]
    files: list[FileReport]
    oldest_us: int | None = None


@dataclass(frozen=True)
class _Staged:
    """A finished span version, still in the staging folder."""

    span: Span
    row: SpanVersionRow
    folder: Path
    final: Path


def ingest(
    workspace: Workspace,
    files: Sequence[Path | str | Delivery],
    *,
    now: datetime,
    progress: Callable[[str], None] | None = None,
    writer: Writer | None = None,
    again: bool = False,
    accept_late: bool = False,
    also: Also | None = None,
) -> IngestReport:
    """Bring the events of ``files`` into the lake.

    Args:
        workspace: where to.
        files: CSV, JSON lines, Parquet or RecBole files, or messages of a stream; their order decides which of two
            duplicates wins.
        now: the time of the run (aware); events later than this plus ``max_clock_skew`` are quarantined.
        progress: called with a line of text now and then.
        writer: the caller's right to write; without one the ingest takes the lease for itself.
        again: read files that were ingested before, too (their rows in the lake count as duplicates).
        accept_late: take events however late they are (see ``[ingest] lookback_spans``); implies ``again``, so that
            a file whose rows were refused as too late can be given once more.
        also: writes more in the transaction that commits the batch: both are there, or neither.

    Raises:
        ReadError, TimeUnitError: a file cannot be read, or its time unit cannot be told.
        ConfigError: calendar or buckets are not those of the first ingest.
        IngestError: no memory or no disk space.
        PublishError: the current version of a span that gets rows is damaged.
        LeaseHeld, LeaseLost: another run is writing.
    """
    say = progress or (lambda text: None)
    with lent(writer, workspace, "imsr ingest", now=now) as held:
        with workspace.ledger.snapshot() as view:
            given = [file if isinstance(file, Delivery) else Path(file) for file in files]
            plan = _plan(workspace, view, given, again or accept_late)
            if not accept_late:
                oldest = boundary_us(view, workspace.settings.ingest.lookback_spans)
                plan = dataclasses.replace(plan, oldest_us=oldest)
        if not plan.fresh:
            return IngestReport(None, tuple(plan.files), {}, (), ())
        work = open_staging(workspace, _LABEL)
        try:
            return _run(workspace, plan, now, work, held, say, also or (lambda tx, report: None))
        except duckdb.OutOfMemoryException as error:
            raise IngestError(f"out of memory: {error}", hint="raise [ingest] memory_limit_mb") from error
        except (OSError, duckdb.IOException) as error:
            if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
                raise
            paths = (file.path if isinstance(file, Delivery) else file for file in plan.fresh.values())
            size = sum(path.stat().st_size for path in paths)
            hint = f"free some space: the files have {size:,} bytes, their work may take three times that"
            raise IngestError(f"no space left for {workspace.root}", hint=hint) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _plan(workspace: Workspace, view: Snapshot, files: list[Path | Delivery], again: bool) -> _Plan:
    settings = workspace.settings
    calendar = frozen_calendar(view)
    if calendar is not None:
        check_frozen(settings, calendar, view.meta("buckets"))
    source = json.dumps(dataclasses.asdict(settings.source), sort_keys=True)
    mapping = hashlib.sha256(source.encode()).hexdigest()[:16]
    fresh: dict[int, Path | Delivery] = {}
    reports: list[FileReport] = []
    for number, path in enumerate(files, start=1):
        if isinstance(path, Delivery):  # the offsets that are committed with it say that it is new
            fresh[number] = path
            reports.append(FileReport(path.source, "", mapping))
            continue
        if not path.is_file():
            raise ReadError(f"{path}: not a file", hint="name the event files one by one; nothing was ingested")
        sha256 = file_sha256(path)
        batch = view.batch_with_file(sha256, mapping)
        skipped = f"ingested before, in {batch}" if batch and not again else ""
        if any(report.sha256 == sha256 for report in reports):
            skipped = "named twice"
        if not skipped:
            fresh[number] = path
        reports.append(FileReport(path.name, sha256, mapping, skipped=skipped))
    return _Plan(view.next_batch_id(), calendar, fresh, reports)


def _run(
    workspace: Workspace,
    plan: _Plan,
    now: datetime,
    work: Path,
    writer: Writer,
    say: Callable[[str], None],
    also: Also,
) -> IngestReport:
    with IngestTables(workspace.settings, now, work) as intake:
        files = _load(intake, plan, say)
        calendar = plan.calendar or _first_calendar(workspace.settings, intake.time_range())
        spans = intake.touched_spans(calendar) if calendar else []
        with workspace.ledger.snapshot() as view:
            existing = _existing_files(workspace, view, spans)
            versions = {span.id: _next_version(view, span.id) for span in spans}
        intake.deduplicate(existing)
        if plan.oldest_us is not None:
            _quarantine_late(files, intake.refuse_before(plan.oldest_us, Reason.TOO_LATE))
        files = _count(files, intake.kept(), plan.fresh)
        say(f"{sum(file.kept for file in files):,} new rows")
        contents = _stage(intake, work, spans)
        staged = [
            _version(workspace, span, versions[span.id], content, plan.batch_id, now, work)
            for span, content in contents
        ]
        reasons = intake.reasons()
        if reasons:
            _write_quarantine(intake, work / _QUARANTINE)
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(seal, [each.folder for each in staged]))
    hit(FailPoint.INGEST_STAGED)
    report = IngestReport(plan.batch_id, tuple(files), reasons, tuple(each.row for each in staged), ())
    return _publish(workspace, report, staged, calendar, now, work, writer, also)


def _load(intake: IngestTables, plan: _Plan, say: Callable[[str], None]) -> list[FileReport]:
    """Load every fresh file; the reports' ``kept`` are the good rows until duplicates are known."""
    first_span_us = plan.calendar.origin_us if plan.calendar and plan.calendar.unit == "cut" else None
    reports = list(plan.files)
    for number, file in plan.fresh.items():
        report = reports[number - 1]
        loaded = intake.load(number, file, report.name, first_span_us)
        if isinstance(file, Path) and file_sha256(file) != report.sha256:
            raise ReadError(f"{file}: changed while it was read", hint="ingest it again when it is complete")
        reports[number - 1] = dataclasses.replace(
            report,
            read=loaded.read,
            kept=loaded.good,
            quarantined=loaded.read - loaded.good,
            time_unit=loaded.time_unit,
            newest_us=loaded.newest_us,
            left_out=loaded.left_out,
            without_value=loaded.without_value,
        )
        say(f"{report.name}: {loaded.read:,} rows, {loaded.read - loaded.good:,} refused, time in {loaded.time_unit}")
    return reports


def _quarantine_late(files: list[FileReport], late: dict[int, int]) -> None:
    for number, rows in late.items():
        report = files[number - 1]
        files[number - 1] = dataclasses.replace(report, kept=report.kept - rows, quarantined=report.quarantined + rows)


def _count(files: list[FileReport], kept: dict[int, int], fresh: Iterable[int]) -> list[FileReport]:
    """Split each file's good rows into kept and duplicate; every row must be accounted for."""
    counted = list(files)
    for number in fresh:
        report, rows = files[number - 1], kept.get(number, 0)
        counted[number - 1] = dataclasses.replace(report, kept=rows, duplicate=report.kept - rows)
        if min(rows, report.kept - rows, report.quarantined) < 0 or report.read != report.kept + report.quarantined:
            raise IngestError(f"{report.name}: rows do not add up: {counted[number - 1]}", hint="report this error")
    return counted


def _first_calendar(settings: Settings, bounds: tuple[int, int] | None) -> Calendar | None:
    if bounds is None:
        return None
    spans = settings.spans
    if spans.unit != "cut":
        return Calendar(spans.unit)
    return Calendar.cut(from_us(bounds[0]), from_us(bounds[1]), spans.alpha, spans.count)


def _existing_files(workspace: Workspace, view: Snapshot, spans: list[Span]) -> list[Path]:
    """The files of the versions in force, checked against their hashes before they are rewritten."""
    files: list[Path] = []
    for span in spans:
        row = view.span_version(span.id)
        if row is not None:
            folder = workspace.resolve(row.path)
            verify_folder(folder)
            files.extend(bucket_files(folder))
    return files


def _next_version(view: Snapshot, span_id: str) -> int:
    row = view.span(span_id)
    used = [version.data_version for version in view.span_versions(span_id)]
    return max([*used, row.data_version or 0 if row else 0], default=0) + 1


def _stage(intake: IngestTables, work: Path, spans: list[Span]) -> list[tuple[Span, SpanContent]]:
    """Write the bucket files of every span with new rows below ``work``."""
    contents = []
    for number, runs in groupby(intake.sorted_rows(), key=lambda run: run[0]):
        folder = work / spans[number].id
        folder.mkdir()
        writer = SpanWriter(folder)
        for _, bucket, rows in runs:
            writer.write(bucket, rows)
        contents.append((spans[number], writer.close()))
    return contents


def _version(
    workspace: Workspace, span: Span, number: int, content: SpanContent, batch: str, now: datetime, work: Path
) -> _Staged:
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
    return _Staged(span, row, work / span.id, final)


def _write_quarantine(intake: IngestTables, path: Path) -> None:
    with pq.ParquetWriter(path, QUARANTINE_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for batch in intake.quarantined():
            writer.write_batch(batch)


def _publish(
    workspace: Workspace,
    report: IngestReport,
    staged: list[_Staged],
    calendar: Calendar | None,
    now: datetime,
    work: Path,
    writer: Writer,
    also: Also,
) -> IngestReport:
    """Rename all folders, then name them in the ledger in one transaction."""
    assert report.batch_id is not None
    quarantine = workspace.quarantine_file(report.batch_id) if report.reasons else None
    _make_way(workspace, [*(each.final for each in staged), *([quarantine] if quarantine else [])], writer)
    for each in staged:
        move_into_place(each.folder, each.final)
        hit(FailPoint.INGEST_RENAMED_ONE)
    if quarantine is not None:
        move_into_place(work / _QUARANTINE, quarantine)
    with writer.transaction() as tx:
        if calendar is not None:
            tx.put_meta("calendar", calendar.to_json())
            tx.put_meta("buckets", str(workspace.settings.ingest.buckets))
        tx.add_batch(_batch_row(report, now, workspace.relative(quarantine) if quarantine else None))
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
    read = tuple(dataclasses.asdict(file) for file in report.files if not file.skipped)
    counts = (report.read, report.kept, report.duplicate, report.quarantined)
    return BatchRow(report.batch_id, iso(now), read, *counts, quarantine)


def _record_spans(tx: Transaction, staged: list[_Staged], now: datetime) -> list[str]:
    """Put the new versions in force; return the spans that became stale by it, by time."""
    before = {row.span_id: row for row in tx.spans()}
    stale = []
    for each in staged:
        old = before.get(each.span.id)
        built = old is not None and old.state in BUILT
        state = SpanState.STALE if built or (old and old.state == SpanState.STALE) else SpanState.INGESTED
        span, version = each.span, each.row.data_version
        tx.put_span(SpanRow(span.id, span.start_us, span.end_us, version, state, None, iso(now)))
        tx.add_span_version(each.row)
        tx.delete("metrics", span_id=span.id)  # measured on the data as they were
        if built:
            stale.append(span.id)
    changed = {each.span.id for each in staged}
    for row in tx.spans_after(min((each.span.start_us for each in staged), default=2**62)):
        if row.span_id not in changed and row.state in BUILT:
            tx.set_span_state(row.span_id, SpanState.STALE, at=now)
            stale.append(row.span_id)
    starts = {row.span_id: row.start_us for row in tx.spans()}
    return sorted(stale, key=lambda span_id: starts[span_id])
