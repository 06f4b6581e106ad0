"""`imsr status` and `imsr versions`: look, change nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.answers import Shown, answer
from flows.commands.options import WorkspaceOption, current_time
from flows.commands.stream_states import show_streams, who_learns
from flows.console import console, say, show_table
from flows.planned import show_begun_otherwise, show_missing_nights, show_rebuilding
from flows.score import show_score
from imsr_core.counted import counted
from pipelines.alerts.telling import Note, read_note
from pipelines.interests.drift import MetricPair, latest_drift
from pipelines.lake.warnings import over_the_limit, share_of_rows
from pipelines.nights.plan import due_of, nothing_due
from pipelines.tasks.due import FAILED, LEARNT, STATES, Standing, standings
from pipelines.versions.ancestry import chain_of_versions
from pipelines.versions.line import Line
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import ended_early
from pipelines.workspace.ledger import BatchRow, Snapshot, SpanRow, SpanState, VersionRow

#: Spans that `imsr status` shows one by one: the newest, and those where something is to be done.
SHOWN = 20


def status(
    workspace: WorkspaceOption = Path("."),
    everything: Annotated[bool, typer.Option("--all", help="Every span, not only the newest.")] = False,
) -> None:
    """One screen: which spans there are, what happened to each, which version is current, what is due.

    Of earlier spans that are done only the number is shown; --all shows each.
    """
    opened = Workspace.open(workspace)
    with opened.ledger.snapshot() as view:
        spans = view.spans()
        rows = {row.span_id: row for row in view.current_span_versions()}
        current = view.pointer(Line.INTERESTS)
        learnt = _versions_by_span(view)
        lease, early = view.lease(), ended_early(view)
        drift = latest_drift(view)
        batches = view.batches()
    answer.fact(workspace=opened.root, current=current, lease=lease.holder if lease else None)
    say(f"workspace   {opened.root}")
    console.print(f"current     {current or 'none yet'}")
    show_rebuilding(opened)
    _show_quarantined(opened, batches)
    _show_alerts(opened)
    if early is not None:
        _show_ended(early)
    elif lease is not None and lease.holder is not None:
        _show_holder(lease.holder, lease.heartbeat)
    shown = spans if everything or answer.as_json else _newest_and_open(spans)
    if len(shown) < len(spans):
        console.print(f"earlier     {counted(len(spans) - len(shown), 'span')}; all of them: imsr status --all")
    table = [
        [
            span.span_id,
            rows[span.span_id].rows if span.span_id in rows else None,
            span.data_version,
            span.state,
            learnt.get(span.span_id),
            span.error,
        ]
        for span in shown
    ]
    show_table("", ["span", "events", "data version", "state", "version", "error"], table, part="spans")
    show_score(opened, current)
    if drift is not None:
        _show_drift(*drift, opened.settings.evaluation.top_n)
    _show_tasks(opened)
    show_streams(opened)
    now = current_time()
    show_missing_nights(opened, now)
    runs = due_of(spans, pretrain=opened.settings.spans.pretrain, now=now)
    answer.fact(due=[run.spans for run in runs])
    show_begun_otherwise(opened, runs)
    if not spans:
        console.print("no events yet; next: imsr ingest FILES")
    elif runs:
        console.print(f"due: {len(runs)}; {who_learns(opened, runs, now)}", markup=False, soft_wrap=True)
    else:
        console.print(nothing_due(opened, now=now), markup=False, soft_wrap=True)


def _show_holder(holder: Mapping[str, Any], heartbeat: float) -> None:
    """Who works in the workspace, since when, and on what."""
    since = holder["since"][:19].replace("T", " ")
    console.print(f"in use by   {holder['command']}, process {holder['pid']} on {holder['host']}, since {since} UTC")
    if holder.get("doing"):
        console.print(f"            {holder['doing']} ({max(0, time.time() - heartbeat):.0f} s ago)")


def _show_ended(early: dict[str, Any]) -> None:
    """A run that did not come to its end, and that it may go on."""
    answer.fact(ended_early=early)
    console.print(
        f"ended early {early['command']}, process {early['pid']} on {early['host']}, by {early['signal']}"
        f"{': ' + early['doing'] if early.get('doing') else ''}",
        markup=False,
    )
    console.print("            what was done stays; the same command goes on from there")


def _newest_and_open(spans: Sequence[SpanRow]) -> list[SpanRow]:
    """The newest spans, and before them the last of those that are not published."""
    unfinished = [span for span in spans[:-SHOWN] if span.state != SpanState.PUBLISHED]
    return [*unfinished[-SHOWN:], *spans[-SHOWN:]]


def versions(workspace: WorkspaceOption = Path(".")) -> None:
    """All model versions, oldest first, and which one is current."""
    opened = Workspace.open(workspace)
    with opened.ledger.snapshot() as view:
        rows = view.versions()
        pointers = {view.pointer(row.line) for row in rows}
    columns = ["version", "line", "parent", "strategy", "state", "users", "items", "interests/user", "current"]
    table = [
        [
            row.version_id,
            row.line,
            row.parent,
            row.strategy,
            row.state,
            row.summary.get("users"),
            row.summary.get("items"),
            Shown.as_(row.summary.get("mean_interests"), ".2f"),
            row.version_id in pointers,
        ]
        for row in rows
    ]
    show_table("", columns, table)


def _show_quarantined(workspace: Workspace, batches: Sequence[BatchRow]) -> None:
    """What share of the last ingest was refused, if it is more than the settings allow."""
    share = over_the_limit(batches[-1], workspace.settings) if batches else None
    answer.fact(quarantined_share=share)
    if share is not None:
        last, most = batches[-1], workspace.settings.ingest.max_quarantined_share
        console.print(
            f"quarantine  {share_of_rows(share)} of the {counted(last.read, 'row')} of the last ingest, "
            f"{last.batch_id} (more than {share_of_rows(most)}); look: imsr sql 'FROM quarantine'"
        )


def _show_alerts(workspace: Workspace) -> None:
    """Which receivers did not take the last alert; a line only then."""
    note = read_note(workspace) if workspace.settings.alerts.urls else Note()
    answer.fact(alerts={"tried": note.at or None, "problems": note.problems})
    for problem in note.problems:
        console.print(
            f"alerts      {problem} ({note.at[:16].replace('T', ' ')} UTC); try: imsr alerts test", markup=False
        )


def _show_drift(shadow: VersionRow, pairs: list[MetricPair], top_n: int) -> None:
    """What the updates have lost, in a line: the newest span that the shadow was scored on beside the chain."""
    shown = [pair for pair in pairs if (pair.slice, pair.metric) == ("all", f"hr@{top_n}")]
    if not shown:
        console.print(f"shadow      {shadow.version_id}, trained from scratch; scored from the next span on")
        return
    last = shown[-1]
    console.print(
        f"drift       HR@{top_n} {last.difference:+.4f} on {last.span_id}: the chain {last.second:.4f}, "
        f"shadow {shadow.version_id} {last.first:.4f}"
    )


def _show_tasks(workspace: Workspace) -> None:
    """How many tasks stand how, and why those that failed did; nothing where there are none."""
    with workspace.ledger.snapshot() as view:
        current = view.version(view.pointer(Line.USERS) or "")
    learnt = [Standing(task["name"], LEARNT) for task in current.tasks] if current else []
    found = [*learnt, *standings(workspace)]
    answer.fact(tasks=[asdict(each) for each in found])
    if not found:
        return
    counts = Counter(each.state for each in found)
    counted_states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    console.print(f"tasks       {counted_states}; see: imsr task list")
    for each in found:
        if each.state == FAILED:
            console.print(f"            {each.name} failed: {each.why}", markup=False, soft_wrap=True)


def _versions_by_span(view: Snapshot) -> dict[str, str]:
    """The version of the current chain that learnt each span."""
    chain = chain_of_versions(view, view.pointer(Line.INTERESTS))
    return {span_id: row.version_id for row in reversed(chain) for span_id in row.spans}
