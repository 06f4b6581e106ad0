"""`imsr init`, `imsr ingest`: a workspace, and events in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, show_table
from flows.holding import holding
from pipelines.lake.ingest import IngestReport, ingest
from pipelines.lake.landing import landed
from pipelines.settings.imsr_toml import SourceSettings
from pipelines.workspace.layout import Workspace


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it may exist.")] = Path("."),
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings", exists=True, dir_okay=False, help="Start from this imsr.toml, not from all defaults."
        ),
    ] = None,
) -> None:
    """Make a workspace: folders, an empty ledger, and an imsr.toml that documents every setting."""
    text = settings.read_text(encoding="utf-8") if settings else None
    workspace = Workspace.create(folder, text)
    source = SourceSettings() if text is None else workspace.settings.source
    console.print(f"workspace: {workspace.root}")
    console.print("next:")
    console.print(
        f"  1. look at [source] and [spans] in {workspace.settings_file}\n"
        f"     (now: columns {source.user_id}, {source.item_id}, {source.timestamp}; "
        f"spans by {workspace.settings.spans.unit})",
        markup=False,  # [source] is a section here, not a style
    )
    console.print(f"  2. imsr ingest -w {folder} YOUR_FILES...     (CSV, JSON lines, Parquet, RecBole .inter)")
    console.print(f"  3. imsr run -w {folder}")


def ingest_files(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Event files; without any, everything in WORKSPACE/landing.")
    ] = None,
    workspace: WorkspaceOption = Path("."),
    again: Annotated[bool, typer.Option("--again", help="Read files that were ingested before, too.")] = False,
    accept_late: Annotated[
        bool, typer.Option("--accept-late", help="Take events that are older than [ingest] lookback_spans, too.")
    ] = False,
) -> None:
    """Bring event files into the lake: checked, de-duplicated, one Parquet partition a span.

    Rows that cannot be used go to the quarantine with the reason; nothing is dropped. Running it twice changes
    nothing. Events for one of the newest learnt spans make a new version of the span, and what was built on the old
    one becomes stale and is learnt again; events later than that go to the quarantine (`--accept-late` takes them).
    """
    opened = Workspace.open(workspace)
    found = files if files else landed(opened)
    if not found:
        console.print(f"nothing to ingest: {opened.root / 'landing'} is empty")
        return
    with console.status("reading"), holding(opened, "imsr ingest", now=current_time) as writer:
        report = ingest(opened, found, now=writer.now, again=again, accept_late=accept_late, writer=writer)
    show_ingest(report)


def show_ingest(report: IngestReport) -> None:
    """Say what an ingest did; the counts add up: read = kept + duplicate + quarantined."""
    rows = [
        [file.name, file.read, file.kept, file.duplicate, file.quarantined, file.skipped or file.time_unit]
        for file in report.files
    ]
    total = ["all", report.read, report.kept, report.duplicate, report.quarantined, ""]
    show_table("", ["file", "read", "kept", "duplicate", "quarantined", "time"], [*rows, total])
    for reason, count in sorted(report.reasons.items()):
        console.print(f"quarantined {count:,}: {reason}     (see them: imsr sql 'FROM quarantine')")
    if report.span_versions:
        spans = [row.span_id for row in report.span_versions]
        console.print(f"spans: {spans[0]} .. {spans[-1]} ({len(spans)}); next: imsr run")
    if report.stale:
        console.print(f"[yellow]stale, to be learnt again by the next run: {', '.join(report.stale)}[/]")
