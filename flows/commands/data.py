"""`imsr init`, `imsr ingest`, `imsr withdraw`: a workspace, and events in it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from flows.answers import answer
from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, say, show_table, warn
from flows.holding import holding
from imsr_core.counted import counted
from imsr_core.errors import ConfigError
from pipelines.lake.event_files import Found
from pipelines.lake.ingest import FileReport, IngestReport, ingest, withdraw
from pipelines.lake.landing import ingest_landed
from pipelines.lake.warnings import check_quarantined
from pipelines.nights.plan import learnt_from_emptied, spans_lacking
from pipelines.settings.imsr_toml import as_new, load_settings
from pipelines.settings.source import SourceSettings
from pipelines.workspace.layout import Workspace

#: Exit code of an ingest that set files aside, and took in the others.
REFUSED = 4
NEXT = "next: imsr run"
#: Files that are listed one by one.
SHOWN = 50


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it may exist.")] = Path("."),
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings", exists=True, dir_okay=False, help="Start from this imsr.toml; what is new is added to it."
        ),
    ] = None,
) -> None:
    """Make a workspace: folders, an empty ledger, and an imsr.toml that documents every setting."""
    if settings is not None:
        load_settings(settings)  # what is wrong with it is said of this file
    text = as_new(settings.read_text(encoding="utf-8-sig")) if settings else None
    workspace = Workspace.create(folder, text)
    source = SourceSettings() if text is None else workspace.settings.source
    answer.fact(workspace=workspace.root, settings=workspace.settings_file)
    say(f"workspace: {workspace.root}\nnext:\n  1. look at [source] and [spans] in {workspace.settings_file}")
    columns = f"columns {source.user_id}, {source.item_id}, {source.timestamp}"
    say(f"     (now: {columns}; spans by {workspace.settings.spans.unit})")
    typed = shlex.quote(str(folder))
    say(f"  2. imsr ingest -w {typed} YOUR_FILES...     (CSV, JSON lines, Parquet, RecBole .inter)")
    say(f"  3. imsr run -w {typed}")


def ingest_files(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Event files, folders or patterns; without any, everything in WORKSPACE/landing."),
    ] = None,
    workspace: WorkspaceOption = Path("."),
    again: Annotated[
        bool, typer.Option("--again", help="Read files that were ingested before, too; fill in what is new in them.")
    ] = False,
    accept_late: Annotated[
        bool, typer.Option("--accept-late", help="Take events that are older than [ingest] lookback_spans, too.")
    ] = False,
    replace: Annotated[
        list[str] | None,
        typer.Option(
            "--replace",
            help="A file that was ingested before: take back what it brought, and ingest FILES in its place; without "
            "FILES, the file itself as it is now.",
        ),
    ] = None,
) -> None:
    """Bring event files into the lake: checked, de-duplicated, one Parquet partition a span.

    Rows that cannot be used go to the quarantine with the reason; nothing is dropped. Running it twice changes
    nothing. Events for one of the newest learnt spans make a new version of the span, and what was built on the old
    one becomes stale and is learnt again; events later than that go to the quarantine (`--accept-late` takes them).

    In WORKSPACE/landing, what is no data is left alone, and a file that cannot be read is moved to landing/refused,
    with the reason; the others are ingested, and the exit code is 4.
    """
    opened = Workspace.open(workspace)
    replaced = list(replace or ())
    given = files or [Path(name) for name in replaced]
    with console.status("reading"), holding(opened, "imsr ingest", now=current_time) as writer:
        if given:
            report = ingest(
                opened, given, now=writer.now, again=again, accept_late=accept_late, replace=replaced, writer=writer
            )
        else:
            report, found = ingest_landed(writer, again=again, accept_late=accept_late)
            show_ignored(found)
    if not report.files:
        answer.fact(files=[], quarantined={}, spans=[], stale=[])
        console.print(f"nothing to ingest: {opened.root / 'landing'} is empty", markup=False)
        return
    show_ingest(report, then=spans_lacking(opened, now=current_time()) or NEXT)
    check_quarantined(report, opened.settings)
    if report.refused:
        raise typer.Exit(REFUSED)


def withdraw_files(
    files: Annotated[
        list[str] | None, typer.Argument(help="Files that were ingested: by path, or by the name they had.")
    ] = None,
    workspace: WorkspaceOption = Path("."),
    span: Annotated[list[str] | None, typer.Option("--span", help="A span that is emptied.")] = None,
) -> None:
    """Take back what files brought, or all events of a span, as new versions of the spans.

    What was built on the old versions becomes stale, and the next run learns it again. A file that was withdrawn can
    be ingested again. Rows that it had in common with a file that came later are gone, too: give that one again with
    `imsr ingest --again FILE`.
    """
    opened = Workspace.open(workspace)
    if not files and not span:
        raise ConfigError("withdraw what?", hint="imsr withdraw FILE, or: imsr withdraw --span SPAN")
    with console.status("withdrawing"), holding(opened, "imsr withdraw", now=current_time) as writer:
        report = withdraw(opened, files or (), spans=span or (), now=writer.now, writer=writer)
    if report.batch_id is None:
        console.print("nothing to withdraw: that was done before")
    show_changes(report, then=spans_lacking(opened, now=current_time()) or NEXT)
    with opened.ledger.snapshot() as view:
        if told := learnt_from_emptied(view):
            warn(told)


def show_ignored(found: Found) -> None:
    """Name what was left alone in a landing folder."""
    for path, why in found.ignored.items():
        console.print(f"left alone: {path.name} ({why})", markup=False)


def show_ingest(report: IngestReport, *, then: str = NEXT) -> None:
    """Say what an ingest did; the counts add up: read = kept + duplicate + quarantined. ``then``: what to do next, or
    why not yet."""
    shown = report.files if len(report.files) <= SHOWN else report.refused
    rows = [[file.name, file.read, file.kept, file.duplicate, file.quarantined, _how(file)] for file in shown]
    everything = "all" if len(report.files) <= SHOWN else f"all {len(report.files):,} files"
    total = [everything, report.read, report.kept, report.duplicate, report.quarantined, ""]
    columns = ["file", "read", "kept", "duplicate", "quarantined", "time"]
    told = [
        {"file": f.name, "read": f.read, "kept": f.kept, "duplicate": f.duplicate, "quarantined": f.quarantined,
         "left_out": f.left_out, "refused": f.refused, "skipped": f.skipped}
        for f in report.files
    ]  # fmt: skip
    show_table("", columns, [*rows, total], part="files", as_objects=told)
    answer.fact(quarantined=report.reasons)
    for reason, count in sorted(report.reasons.items()):
        console.print(f"quarantined {count:,}: {reason}     (see them: imsr sql 'FROM quarantine')")
    if left_out := sum(file.left_out for file in report.files):
        console.print(f"left out {counted(left_out, 'row')}: not of interest by keep_events, min_value or item_pattern")
    for file in report.refused:
        warn(f"refused: {file.refused}\n  it is now {file.path}")
    show_changes(report, then=then)
    if any(file.skipped.startswith("ingested") for file in report.files):
        console.print("files that were ingested before: --again fills in what is new in them, --replace starts over")


def _how(file: FileReport) -> str:
    return "refused" if file.refused else file.skipped or file.time_unit


def show_changes(report: IngestReport, *, then: str = NEXT) -> None:
    """Say which spans an ingest, or a withdrawal, changed, and what to do next, or why not yet (``then``)."""
    answer.fact(spans=[row.span_id for row in report.span_versions], stale=report.stale, emptied=report.emptied)
    answer.fact(withdrawn=report.withdrawn, completed=report.completed)
    if report.withdrawn:
        console.print(f"withdrawn: {counted(report.withdrawn, 'row')}")
    if report.completed:
        console.print(f"completed, of what was there before: {counted(report.completed, 'event')}")
    if report.emptied:
        console.print(f"spans without any events now: {', '.join(report.emptied)}")
    if report.span_versions:
        spans = [row.span_id for row in report.span_versions]
        reach = " .. ".join(dict.fromkeys((spans[0], spans[-1])))
        say("; ".join(filter(None, (f"spans: {reach} ({len(spans)})", then))))
    if report.stale:
        console.print(f"[yellow]stale, to be learnt again by the next run: {', '.join(report.stale)}[/]")
    for warning in report.warnings:
        warn(warning)
