"""`imsr run`: everything that is due, or one span."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.after_learning import after_learning
from flows.alerts import Run, telling
from flows.commands import completion
from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, show_outcomes, span_progress, warn
from flows.holding import holding
from flows.lazy import uncollected
from flows.planned import show_runs
from imsr_core.counted import counted, plural
from pipelines.lake.tables_beside import table_problems
from pipelines.nights.large_base import said_of_a_large_base
from pipelines.nights.pace import Pace
from pipelines.nights.plan import PlannedRun, due, nothing_due, run_for
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import Writer

if TYPE_CHECKING:
    from pipelines.nights.night import SpanOutcome

#: Exit code of a command that made a version which the gate rejected.
REJECTED = 3


def run(
    workspace: WorkspaceOption = Path("."),
    span: Annotated[
        str | None,
        typer.Option("--span", autocompletion=completion.spans, help="Only this span; earlier ones must be learnt."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and write nothing.")] = False,
    alert: Annotated[bool, typer.Option("--alert", help="Tell the receivers of [alerts] what goes wrong.")] = False,
) -> None:
    """Learn every closed span that is due, in order: sequences, test, train, publish.

    Each span makes a new model version. Its scores are those of the version before it on the span, taken before the
    span was learnt. A run that was killed goes on where it was; with nothing to do it says so.

    A version that does not pass the gate does not go live: it is kept as rejected, the next span is learnt from the
    version that is live, and the exit code is 3.
    """
    opened = Workspace.open(workspace)
    if dry_run:
        show_runs(opened, planned_runs(opened, span))
        console.print("dry run: nothing was changed")
        return
    with telling_if(alert, opened, "run") as told:
        outcomes = run_due(opened, span)
        told.made += [outcome.version.version_id for outcome in outcomes if outcome.version]
    if not outcomes:
        what = f"span {span} is learnt already" if span else nothing_due(opened, now=current_time())
        console.print(f"{what}; see: imsr status", markup=False, soft_wrap=True)
        return
    show_outcomes(outcomes, opened.settings.evaluation.top_n)
    exit_if_rejected(outcomes)


def exit_if_rejected(outcomes: Sequence[SpanOutcome]) -> None:
    """End with code 3 if the gate rejected a version."""
    if any(outcome.rejected for outcome in outcomes):
        raise typer.Exit(REJECTED)


def planned_runs(workspace: Workspace, span: str | None = None) -> list[PlannedRun]:
    """What is due, or the run of one span."""
    now = current_time()
    if span is None:
        return due(workspace, now=now)
    one = run_for(workspace, span, now=now)
    return [one] if one else []


def run_due(workspace: Workspace, span: str | None = None) -> list[SpanOutcome]:
    """Run what is due, or one span, with live progress, holding the workspace's lease."""
    with holding(workspace, "imsr run", now=current_time) as writer:
        for problem in table_problems(writer):
            warn(problem)
        outcomes = learn_all(writer, planned_runs(workspace, span))
        lists_and_report(writer)
        return outcomes


def lists_and_report(writer: Writer) -> None:
    """What [recommend] and [report] want of the version that is live, if it is not there yet."""
    with console.status("lists and report"):
        made = after_learning(writer)
    if made.sentence:
        console.print(f"{made.sentence}\nreport: {made.report}", markup=False, soft_wrap=True)


@contextmanager
def telling_if(wanted: bool, workspace: Workspace, what: str) -> Iterator[Run]:
    """`flows.alerts.telling` for a command that was asked to; else nobody is told."""
    if not wanted:
        yield Run()
        return
    if not workspace.alerts.urls:
        warn("nobody is told: [alerts] urls in imsr.toml is empty")
    with telling(workspace, what, now=current_time(), say=warn) as run:
        yield run


def learn_all(writer: Writer, planned: Sequence[PlannedRun]) -> list[SpanOutcome]:
    """Run these in order, with live progress, an estimate of the time left, and a line for each that is done."""
    if not planned:
        return []
    with uncollected():
        from pipelines.nights.night import run_span  # torch: not for a run that finds nothing to do

    workspace: Workspace = writer.workspace
    for text in said_of_a_large_base(workspace, planned):
        warn(text)
    outcomes = []
    pace = Pace.of(workspace, planned)
    for number, each in enumerate(planned, 1):
        label = ", ".join(filter(None, (f"[{number}/{len(planned)}] {each.label}", str(pace))))
        started = time.monotonic()
        with span_progress(label) as progress:
            outcomes.append(run_span(writer, each, progress=progress))
        pace.finished(each, time.monotonic() - started)
        line = _line(outcomes[-1], workspace.settings.evaluation.top_n)
        console.print(", ".join(filter(None, (line, str(pace)))))
        if left_out := _left_out(outcomes[-1], workspace.settings.sequences.max_events_per_user):
            console.print(left_out, markup=False, soft_wrap=True)
        if outcomes[-1].verdict is not None and outcomes[-1].rejected:
            for reason in outcomes[-1].verdict.reasons:
                console.print(f"  rejected: {reason}", markup=False)
    return outcomes


def _left_out(outcome: SpanOutcome, most: int) -> str:
    """That users had more events in a span than are learnt of one; "" if nobody had."""
    over = sum(row.truncated for row in outcome.sequences)
    rows = f"{over:,} of {counted(over + outcome.events, 'event')} {plural(over, 'is')} left out"
    return f"  {rows}: [sequences] max_events_per_user, a user's newest {most:,} of a span are learnt" if over else ""


def _line(outcome: SpanOutcome, top_n: int) -> str:
    score = outcome.metric(f"hr@{top_n}")
    tested = f"HR@{top_n} {score:.4f} before learning it, " if score is not None else ""
    version = outcome.version.version_id if outcome.version else "none"
    return f"{outcome.run.label}: {tested}version {version} in {outcome.total_seconds():.1f} s"
