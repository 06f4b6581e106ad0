"""What is planned, shown: by `imsr plan`, and by the commands that do it or look at it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flows.answers import answer
from flows.console import console, show_table
from imsr_core.counted import counted
from pipelines.lake.spans import Span
from pipelines.nights.begun_with import begun_otherwise
from pipelines.nights.large_base import said_of_a_large_base
from pipelines.nights.pace import Pace
from pipelines.nights.plan import PlannedRun, missing_nights, stretches_of
from pipelines.nights.restate import Restatement
from pipelines.versions.line import Line
from pipelines.versions.rebuilding import chain_aside, span_to_reach
from pipelines.workspace.layout import Workspace

#: Spans without data, or stretches of them, that are named one by one.
NAMED = 10


def show_runs(workspace: Workspace, runs: Sequence[PlannedRun], part: str = "") -> None:
    """A table of planned runs, in order; ``part`` names it where a command's answer has more."""
    if not runs:
        answer.add([], part)
        return
    events = Pace.of(workspace, runs).events
    rows = [
        [" .. ".join(dict.fromkeys((run.spans[0], run.spans[-1]))), _what(run), events[run.span_id], run.reason]
        for run in runs
    ]
    show_table("would run, in this order", ["span", "what", "events", "why"], rows, part=part)


def show_missing_nights(workspace: Workspace, now: datetime) -> None:
    """Name the closed spans for which no data came: between spans with data, and since the last one."""
    with workspace.ledger.snapshot() as view:
        spans = view.spans()
        missing = missing_nights(view, now=now)
    answer.fact(
        missing=[{"first": part[0].id, "last": part[-1].id, "spans": len(part)} for part in stretches_of(missing)]
    )
    last_us = spans[-1].start_us if spans else 0
    gaps = [span for span in missing if span.start_us < last_us]
    since = [span for span in missing if span.start_us > last_us]
    if gaps:
        console.print(f"[yellow]no data, passed over: {_names(gaps)}[/]")
    if since:
        console.print(f"[yellow]no data since {spans[-1].span_id}: {_names(since)}[/]")


def show_rebuilding(workspace: Workspace) -> None:
    """Say what is built aside, and how far it is behind the version that is live; nothing if nothing is."""
    with workspace.ledger.snapshot() as view:
        aside, live = chain_aside(view), view.version(view.pointer(Line.INTERESTS) or "")
        reach = span_to_reach(view)
    if not aside or live is None or reach is None:
        return
    console.print(
        f"[yellow]aside       {aside[0].version_id}, learnt again up to {aside[0].span_id}; {live.version_id} stays "
        f"live until {reach.span_id} is learnt again, too; next: imsr run[/]"
    )


def show_begun_otherwise(workspace: Workspace, runs: list[PlannedRun]) -> None:
    """Say which settings the base model was made with otherwise, so that they have no effect or stop the next run; and
    of a large one that is not made yet, that it could be lighter."""
    found = [*begun_otherwise(workspace, runs), *said_of_a_large_base(workspace, runs)]
    answer.fact(settings=found)
    for text in found:
        console.print(text, style="yellow", markup=False, soft_wrap=True)


def show_restatement(workspace: Workspace, restatement: Restatement) -> None:
    """List what becomes stale, with the versions that stay beside the new ones, then what is learnt again."""
    answer.fact(stale=restatement.spans, kept=restatement.versions)
    count = len(restatement.spans)
    console.print(
        f"{counted(count, 'span')} {'becomes' if count == 1 else 'become'} stale: {', '.join(restatement.spans)}"
    )
    if restatement.widened:
        console.print(f"(from {restatement.spans[0]} on: {restatement.asked} is part of the base model)")
    console.print(f"kept, not used again: {', '.join(restatement.versions) or 'no version'}")
    show_runs(workspace, restatement.runs, part="runs")


def _what(run: PlannedRun) -> str:
    return "pre-train" if run.base else "update"


def _names(spans: Sequence[Span]) -> str:
    if len(spans) <= NAMED:
        return ", ".join(span.id for span in spans)
    parts = stretches_of(spans)
    told = [
        f"{part[0].id} .. {part[-1].id} ({counted(len(part), 'span')})" if len(part) > 1 else part[0].id
        for part in parts[:NAMED]
    ]
    more = counted(len(parts) - NAMED, "more stretch") if len(parts) > NAMED else ""
    return ", ".join([*told, *filter(None, [more])])
