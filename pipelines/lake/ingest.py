"""Event files -> span versions in the lake, in one atomic step.

    find -> read -> judge (quarantine) -> de-duplicate -> sort -> stage -> rename -> commit

Either all spans of the batch, its quarantine and its record are there, or nothing has changed. A span that gets or
loses rows gets a new data version that holds all of its rows; what was built on the old one becomes stale, and so does
everything after it in time. A file of which the content was ingested before is skipped, however the columns are mapped
now. One file that cannot be read fails the whole ingest, unless the caller has a place for such files.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import duckdb

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from pipelines.lake.clock import time_before
from pipelines.lake.delivery import Delivery
from pipelines.lake.engine_death import EngineDied
from pipelines.lake.event_files import Given, ReadError
from pipelines.lake.frozen import zone_of
from pipelines.lake.ingest_plan import Plan, plan_of, reason_of
from pipelines.lake.intake import Intake
from pipelines.lake.lookback import boundary_us
from pipelines.lake.report import FileReport, IngestReport, Loaded
from pipelines.lake.small_files import Small, is_small
from pipelines.lake.span_versions import Also, files_in_force, next_version, publish, stage
from pipelines.lake.spans import Calendar, from_us
from pipelines.lake.times import TimeUnitError
from pipelines.lake.validation import Reason
from pipelines.lake.warnings import warnings_of
from pipelines.lake.withdrawal import withdrawal_of
from pipelines.settings.imsr_toml import Settings
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.publish import staging_folder
from pipelines.workspace.seal import file_sha256
from pipelines.workspace.writer import Writer, lent

__all__ = ["FileReport", "IngestError", "IngestReport", "ingest", "withdraw"]

_LABEL = "ingest"
#: From so many on, small files are read together.
_MANY = 8


class IngestError(ImsrError):
    """The ingest as a whole cannot be done; nothing has changed."""


def ingest(
    workspace: Workspace,
    files: Sequence[Path | str | Given | Delivery],
    *,
    now: datetime,
    progress: Callable[[str], None] | None = None,
    writer: Writer | None = None,
    again: bool = False,
    accept_late: bool = False,
    replace: Sequence[str] = (),
    tolerant: bool = False,
    also: Also | None = None,
) -> IngestReport:
    """Bring the events of ``files`` into the lake.

    Args:
        workspace: where to.
        files: event files, folders of them, patterns, or messages of a stream; their order decides which of two
            duplicates wins.
        now: the time of the run (aware); events later than this plus ``max_clock_skew`` are quarantined.
        progress: called with a line of text now and then.
        writer: the caller's right to write; without one the ingest takes the lease for itself.
        again: read files that were ingested before, too: their rows in the lake count as duplicates, and what the
            files say of them that the lake does not know (type, value, id) is filled in.
        accept_late: take events however late they are (see ``[ingest] lookback_spans``); implies ``again``, so that
            a file whose rows were refused as too late can be given once more.
        replace: names of files that were ingested before: what they brought is withdrawn in the same step; implies
            ``accept_late``.
        tolerant: note a file that cannot be read in its report (``refused``), and ingest the others.
        also: writes more in the transaction that commits the batch: both are there, or neither.

    Raises:
        ReadError, TimeUnitError: a file cannot be read, or its times cannot.
        ConfigError: calendar or buckets are not those of the first ingest.
        IngestError: no memory or no disk space.
        ClockError: this machine's clock was set back behind the last ingest.
        WithdrawError: there is nothing of this name to replace.
        PublishError: the current version of a span that gets rows is damaged.
        LeaseHeld, LeaseLost: another run is writing.
    """
    with lent(writer, workspace, "imsr ingest", now=now) as held:
        with workspace.ledger.snapshot() as view:
            limits, late = workspace.settings.ingest, accept_late or bool(replace)
            plan = plan_of(
                workspace,
                view,
                files,
                again=again or accept_late,
                tolerant=tolerant,
                withdrawal=withdrawal_of(workspace, view, replace) if replace else None,
                oldest_us=None if late else boundary_us(view, limits.lookback_spans),
                last_us=time_before(view, now, limits.max_clock_skew_seconds),
            )
        if not plan.fresh and not plan.withdrawal:
            return IngestReport(None, tuple(plan.files), {}, (), ())
        return _work(workspace, plan, now, held, progress or (lambda text: None), also or (lambda tx, report: None))


def withdraw(
    workspace: Workspace,
    names: Sequence[str] = (),
    *,
    spans: Sequence[str] = (),
    now: datetime,
    writer: Writer | None = None,
) -> IngestReport:
    """Take back what files brought, and whole spans (see ``pipelines.lake.withdrawal``), as new span versions.

    What was withdrawn before is no error: the report has no batch then.

    Raises:
        WithdrawError: nothing was ever ingested under a name, or there is no such span.
        ConfigError, IngestError, PublishError, LeaseHeld, LeaseLost: as for ``ingest``.
    """
    with lent(writer, workspace, "imsr withdraw", now=now) as held:
        with workspace.ledger.snapshot() as view:
            plan = plan_of(workspace, view, (), withdrawal=withdrawal_of(workspace, view, names, spans))
        if not plan.withdrawal:
            return IngestReport(None, (), {}, (), ())
        return _work(workspace, plan, now, held, lambda text: None, lambda tx, report: None)


def _work(
    workspace: Workspace, plan: Plan, now: datetime, writer: Writer, say: Callable[[str], None], also: Also
) -> IngestReport:
    """Run a plan in a staging folder of its own; what the machine lacks is said as an error with advice."""
    try:
        with staging_folder(workspace, _LABEL) as work:
            return _run(workspace, plan, now, work, writer, say, also)
    except EngineDied as error:
        if not plan.tolerant and error.number:
            raise
        say(error.message)
        return _work(workspace, plan.without(error.number, reason_of(error)), now, writer, say, also)
    except duckdb.OutOfMemoryException as error:
        raise IngestError(f"out of memory: {error}", hint="raise [ingest] memory_limit_mb") from error
    except (OSError, duckdb.IOException) as error:
        if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
            raise
        paths = (file.path if isinstance(file, Delivery) else file for file in plan.fresh.values())
        size = sum(path.stat().st_size for path in paths)
        hint = f"free some space: the files have {counted(size, 'byte')}, their work may take three times that"
        raise IngestError(f"no space left for {workspace.root}", hint=hint) from error


def _run(
    workspace: Workspace, plan: Plan, now: datetime, work: Path, writer: Writer, say: Callable[[str], None], also: Also
) -> IngestReport:
    with Intake(workspace.settings, now, work, plan.whole_numbers, plan.last_us) as intake:
        files = _load(intake, plan, say)
        calendar = plan.calendar or _first_calendar(workspace.settings, intake.time_range())
        withdrawn = plan.withdrawal.spans if plan.withdrawal else ()
        spans = intake.touched_spans(calendar, withdrawn) if calendar else []
        with workspace.ledger.snapshot() as view:
            existing = files_in_force(workspace, view, spans)
            numbers = {span.id: next_version(view, span.id) for span in spans}
        gone = intake.deduplicate(existing, plan.withdrawal)
        completed = intake.complete(plan.again) if plan.again and spans else 0
        if plan.oldest_us is not None:
            _quarantine_late(files, intake.refuse_before(plan.oldest_us, Reason.TOO_LATE))
        files = _count(files, intake.kept(), plan.fresh)
        _require_the_same_events(workspace, [files[number - 1] for number in plan.again])
        say(counted(sum(file.kept for file in files), "new row"))
        staged = stage(intake, workspace, spans, numbers, plan.batch_id, now, work)
        refusals = intake.refusals()
    hit(FailPoint.INGEST_STAGED)
    rows = tuple(each.row for each in staged.versions)
    report = IngestReport(plan.batch_id, tuple(files), refusals, rows, (), gone, completed)
    report = dataclasses.replace(report, emptied=tuple(span.id for span in staged.emptied))
    if not any(file.batched for file in report.files) and not plan.withdrawal:
        return dataclasses.replace(report, batch_id=None)
    report = publish(workspace, report, staged, calendar, now, writer, plan.withdrawal, also)
    with workspace.ledger.snapshot() as view:
        return dataclasses.replace(report, warnings=warnings_of(workspace, view, report))


def _load(intake: Intake, plan: Plan, say: Callable[[str], None]) -> list[FileReport]:
    """Load every fresh file; the reports' ``kept`` are the good rows until duplicates are known."""
    first_span_us = plan.calendar.origin_us if plan.calendar and plan.calendar.unit == "cut" else None
    reports = list(plan.files)
    done = _load_small(intake, plan, first_span_us, reports, say)
    for number, file in plan.fresh.items():
        if number in done:
            continue
        report = reports[number - 1]
        try:
            loaded = intake.load(number, file, report.name, first_span_us)
            if _is_other(file, report):
                raise ReadError(f"{file}: changed while it was read", hint="ingest it again when it is complete")
        except (ReadError, TimeUnitError) as error:
            if not plan.tolerant or isinstance(error, EngineDied) or isinstance(file, Delivery):
                raise
            intake.forget(number)
            if _is_other(file, report):  # it stays where it is: whoever writes it is not done
                reports[number - 1] = dataclasses.replace(report, skipped="still being written: for the next ingest")
                continue
            reports[number - 1] = dataclasses.replace(report, refused=reason_of(error))
            say(f"{report.name}: refused: {error.message}")
            continue
        reports[number - 1] = _loaded(report, loaded)
        rows = f"{counted(loaded.read, 'row')}, {loaded.read - loaded.good:,} refused"
        say(f"{report.name}: {rows}, time in {loaded.time_unit}")
    return reports


def _is_other(file: Path | Delivery, report: FileReport) -> bool:
    """Whether a file is not what it was when the ingest began."""
    return isinstance(file, Path) and (not file.is_file() or file_sha256(file) != report.sha256)


def _load_small(
    intake: Intake, plan: Plan, first_span_us: int | None, reports: list[FileReport], say: Callable[[str], None]
) -> set[int]:
    """Load what many small files have in common in one go; the numbers of those that are done."""
    small = [
        (Small(number, file, reports[number - 1].sha256), reports[number - 1].name)
        for number, file in plan.fresh.items()
        if isinstance(file, Path) and is_small(file)
    ]
    if len(small) < _MANY or plan.singly:
        return set()
    done: set[int] = set()
    for group in intake.load_together(small, first_span_us):
        for number, loaded in group.items():
            reports[number - 1] = _loaded(reports[number - 1], loaded)
        done |= group.keys()
        rows = sum(loaded.read for loaded in group.values())
        refused = rows - sum(each.good for each in group.values())
        say(f"{counted(len(group), 'small file')}: {counted(rows, 'row')}, {refused:,} refused")
    return done


def _loaded(report: FileReport, loaded: Loaded) -> FileReport:
    return dataclasses.replace(
        report,
        read=loaded.read,
        kept=loaded.good,
        quarantined=loaded.read - loaded.good,
        time_unit=loaded.time_unit,
        newest_us=loaded.newest_us,
        left_out=loaded.left_out,
        without_value=loaded.without_value,
    )


def _quarantine_late(files: list[FileReport], late: dict[int, int]) -> None:
    for number, rows in late.items():
        report = files[number - 1]
        files[number - 1] = dataclasses.replace(
            report, kept=report.kept - rows, quarantined=report.quarantined + rows, too_late=rows
        )


def _count(files: list[FileReport], kept: dict[int, int], fresh: Iterable[int]) -> list[FileReport]:
    """Split each file's good rows into kept and duplicate; every row must be accounted for."""
    counted = list(files)
    for number in fresh:
        report, rows = files[number - 1], kept.get(number, 0)
        counted[number - 1] = dataclasses.replace(report, kept=rows, duplicate=report.kept - rows)
        if min(rows, report.kept - rows, report.quarantined) < 0 or report.read != report.kept + report.quarantined:
            raise IngestError(f"{report.name}: rows do not add up: {counted[number - 1]}", hint="report this error")
    return counted


def _require_the_same_events(workspace: Workspace, again: list[FileReport]) -> None:
    """Raise IngestError where a file that is read again has other events now: both kinds would stand in the lake."""
    with workspace.ledger.snapshot() as view:
        entries = [file for batch in view.batches() for file in batch.files if not file.get("withdrawn")]
    for report in again:
        before = [file for file in entries if report.sha256 in (file.get("sha256"), file.get("rewritten"))]
        brought = sum(file.get("kept", 0) + file.get("duplicate", 0) for file in before)
        if brought and report.kept and not report.duplicate:
            raise IngestError(
                f"{report.name}: it was ingested before, and not one of its {report.kept:,} events is the same now: "
                "with other columns for user, item or time under [source] they would be counted twice",
                hint=f"if they are right now: imsr ingest {report.name} --replace {report.name}; nothing was ingested",
            )


def _first_calendar(settings: Settings, bounds: tuple[int, int] | None) -> Calendar | None:
    if bounds is None:
        return None
    spans = settings.spans
    if spans.unit != "cut":
        return Calendar(spans.unit, zone=zone_of(settings))
    return Calendar.cut(from_us(bounds[0]), from_us(bounds[1]), spans.alpha, spans.count)
