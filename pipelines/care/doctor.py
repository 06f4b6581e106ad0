"""Compare the ledger with what lies on the disk, and say what mends each difference.

Without ``deep`` every file is compared by its size; with it also by its hash, the content of the lake by its
fingerprint, every checkpoint and interest by being finite. Nothing is changed here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

import duckdb

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from pipelines.care.doctor_folders import check_data, check_lists, check_quarantine, check_sequences, check_versions
from pipelines.care.finding import DAMAGED, PRUNE, RUN, Finding, Severity
from pipelines.care.orphans import orphans
from pipelines.care.receipts import read_journal, receipts
from pipelines.lake.frozen import check_frozen, frozen_calendar
from pipelines.lake.lost import lost_data
from pipelines.sequences.chain import latest_rows
from pipelines.versions.ancestry import chain_of_versions, learnt_spans, lost_ancestor
from pipelines.versions.line import Line
from pipelines.versions.rebuilding import chain_aside
from pipelines.warehouse.catalog import catalog_is_current, connect, view_names
from pipelines.warehouse.sandbox import confine
from pipelines.warehouse.session import open_session
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import is_held
from pipelines.workspace.ledger import LedgerError, Snapshot, SpanRow, SpanState, VersionRow
from pipelines.workspace.states import DONE, GONE

__all__ = ["Finding", "Severity", "examine"]

BACKUP = "restore {} from a backup"
VIEWS = "imsr views"
_EVERY_VIEW = "; ".join(f"FROM {name} LIMIT 0" for name in view_names())


def examine(workspace: Workspace, *, deep: bool = False) -> list[Finding]:
    """Everything that is not as it should be, the worst first."""
    findings = list(_ledger_file(workspace))
    if not findings:
        findings += _settings(workspace)
        with workspace.ledger.snapshot() as view:
            findings += _as_findings(_all_of_ledger(workspace, view))
            for check in (check_data, check_quarantine, check_sequences, check_versions, check_lists):
                findings += _as_findings(check(workspace, view, deep))
        if not any(finding.severity == Severity.ERROR for finding in findings):
            findings += _views(workspace)
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _as_findings(found: Iterator[Finding]) -> Iterator[Finding]:
    """What a check finds; what it stumbles over is a finding, too."""
    try:
        yield from found
    except ImsrError as error:
        yield Finding(Severity.ERROR, error.message, "ledger", error.hint)


def _ledger_file(workspace: Workspace) -> Iterator[Finding]:
    mend = BACKUP.format(workspace.ledger_file.name)
    try:
        with workspace.ledger.snapshot() as view:
            for rows in (view.spans, view.span_versions, view.sequences, view.versions, view.promotions, view.batches):
                rows()
            view.metrics(), read_journal(view), receipts(view), frozen_calendar(view)
        uri = f"{workspace.ledger_file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            yield Finding(Severity.ERROR, f"the ledger is damaged: {verdict}", workspace.ledger_file.name, mend)
    except (ImsrError, sqlite3.Error) as error:
        mend = error.hint if isinstance(error, LedgerError) and not _is_damage(error) else mend
        yield Finding(Severity.ERROR, str(error).splitlines()[0], workspace.ledger_file.name, mend)


def _is_damage(error: LedgerError) -> bool:
    """Whether the file itself is wrong; one that is locked, or that the disk does not give, may be whole."""
    return not isinstance(error.__cause__, sqlite3.OperationalError)


def _settings(workspace: Workspace) -> Iterator[Finding]:
    try:
        with workspace.ledger.snapshot() as view:
            check_frozen(view, workspace.settings)
    except ImsrError as error:
        yield Finding(Severity.ERROR, error.message, workspace.settings_file.name, error.hint)


def _all_of_ledger(workspace: Workspace, view: Snapshot) -> Iterator[Finding]:
    yield from _forgetting(view)
    busy = is_held(view)
    lease = view.lease()
    if lease is not None and lease.holder is not None:
        who = "{command}, process {pid} on {host}".format(**lease.holder)
        if busy:
            yield Finding(Severity.NOTE, f"in use by {who}: what it is writing is not looked at", "lease", "")
        else:
            yield Finding(
                Severity.WARNING, f"{who} died and left its lease; the next run takes it over", "lease", PRUNE
            )
    yield from _batches(view)
    yield from _spans(workspace, view)
    yield from _pointers(view)
    yield from _lineage(view)
    if not busy:
        yield from _rubbish(workspace, view)


def _forgetting(view: Snapshot) -> Iterator[Finding]:
    journal = read_journal(view)
    if journal is not None:
        since = journal.receipt.started_at
        yield Finding(Severity.ERROR, f"forgetting a user began {since} and was interrupted", "ledger", "imsr forget")


def _batches(view: Snapshot) -> Iterator[Finding]:
    """A batch read what its files brought; where the two do not agree, the list of its files was damaged."""
    for batch in view.batches():
        counts = [file.get("read") for file in batch.files]
        if not all(isinstance(count, int) for count in counts) or sum(filter(None, counts)) != batch.read:
            what = (
                f"batch {batch.batch_id} read {counted(batch.read, 'row')}, and the files that it names brought others"
            )
            yield Finding(Severity.ERROR, what, "ledger", BACKUP.format("ledger.sqlite"))


def _spans(workspace: Workspace, view: Snapshot) -> Iterator[Finding]:
    lost = lost_data(workspace, view)
    for folder, span_id in lost.items():
        what = f"the ledger lost the data of span {span_id}"
        mend = f"{BACKUP.format('ledger.sqlite')}, or: imsr ingest --again --accept-late FILES"
        yield Finding(Severity.ERROR, what, workspace.relative(folder), mend)
    latest = latest_rows(view)
    for span in view.spans():
        if span.state == SpanState.FAILED:
            yield Finding(Severity.WARNING, f"span {span.span_id} failed: {span.error}", "ledger", RUN)
        if span.state in DONE and span.data_version is not None and span.span_id not in latest:
            what = f"the ledger lost the sequences of span {span.span_id}"
            subject = ("lost sequences", span.span_id)
            yield Finding(Severity.ERROR, what, f"sequences/span={span.span_id}", DAMAGED, subject)


def _pointers(view: Snapshot) -> Iterator[Finding]:
    rows = {row.version_id: row for row in view.versions()}
    for line in sorted({row.line for row in rows.values()} | {Line.INTERESTS}):
        current, moves = view.pointer(line), view.promotions(line)
        if current is None and moves:
            yield Finding(Severity.ERROR, f"line {line} lost its pointer", "ledger", BACKUP.format("ledger.sqlite"))
        elif current is not None and current in rows and rows[current].state in GONE:
            mend = RUN if line == Line.INTERESTS else f"put another version of line {line} live"
            yield Finding(Severity.ERROR, f"current version {current} is {rows[current].state}", "ledger", mend)
        elif current is not None and moves and moves[-1].version_id != current:
            what = f"line {line} points to {current}, its log to {moves[-1].version_id}"
            yield Finding(Severity.ERROR, what, "ledger", BACKUP.format("ledger.sqlite"))


def _lineage(view: Snapshot) -> Iterator[Finding]:
    """The current version's ancestors must be in the ledger, and have learnt all spans that count as learnt."""
    spans, current = view.spans(), view.pointer(Line.INTERESTS)
    lost = lost_ancestor(view, current)
    if lost is not None:
        mend = f"{BACKUP.format('ledger.sqlite')}, or: imsr restate {spans[0].span_id}" if spans else ""
        yield Finding(Severity.ERROR, f"the ledger lost version {lost}", f"versions/{lost}", mend)
        return
    chain = chain_of_versions(view, current)
    yield from _uncounted(spans, chain)
    learnt = learnt_spans([*chain, *chain_aside(view)])
    for span in spans:
        if span.state == SpanState.PUBLISHED and span.data_version is not None and span.span_id not in learnt:
            what = f"span {span.span_id} counts as published, but the current version did not learn it"
            yield Finding(Severity.ERROR, what, "ledger", f"imsr restate {span.span_id}")


def _uncounted(spans: list[SpanRow], chain: list[VersionRow]) -> Iterator[Finding]:
    """Rejected spans that no later version of the chain counts: releases before 2026-11-26 left their events out."""
    place, learnt = {span.span_id: n for n, span in enumerate(spans)}, learnt_spans(chain)
    for span in spans:
        if span.state != SpanState.REJECTED or span.span_id in learnt:
            continue
        later = [row for row in chain if place.get(row.span_id, -1) > place[span.span_id]]
        if later and span.span_id not in later[-1].summary.get("missed", ()):
            what = f"span {span.span_id} was rejected, and {later[-1].version_id} does not count what happened in it"
            yield Finding(Severity.NOTE, what, "ledger", f"imsr restate {later[-1].span_id}")


def _rubbish(workspace: Workspace, view: Snapshot) -> Iterable[Finding]:
    for path in orphans(workspace, view):
        yield Finding(Severity.WARNING, "the ledger does not name it", workspace.relative(path), PRUNE)
    for path in sorted(workspace.staging.iterdir()) if workspace.staging.exists() else []:
        yield Finding(Severity.WARNING, "left by a run that died", workspace.relative(path), PRUNE)


def _views(workspace: Workspace) -> Iterator[Finding]:
    """The views say what the ledger says, and every file that they name is there."""
    with workspace.ledger.snapshot() as view:
        if not view.spans() and not workspace.views_file.exists():
            return
    if not catalog_is_current(workspace):
        yield Finding(Severity.WARNING, "the views are older than the ledger", workspace.views_file.name, VIEWS)
        return
    try:
        with connect(workspace) as connection:
            connection.execute(_EVERY_VIEW)
    except (duckdb.Error, ImsrError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0][:200]
        yield Finding(Severity.ERROR, f"the views do not work: {first}", workspace.views_file.name, VIEWS)
    try:
        with open_session(workspace, workspace.catalog_file, read_only=True) as connection:
            confine(connection, workspace)  # a view of a catalog that somebody else made runs in here, too
            connection.execute(_EVERY_VIEW)
    except duckdb.Error as error:
        first = str(error).splitlines()[0][:200]
        yield Finding(Severity.ERROR, f"it does not open: {first}", workspace.catalog_file.name, VIEWS)
