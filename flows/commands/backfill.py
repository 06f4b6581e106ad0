"""`imsr backfill`: learn a range of spans, in order, going on where an interrupted one stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.answers import answer
from flows.commands import completion
from flows.commands.options import WorkspaceOption, current_time
from flows.commands.runs import exit_if_rejected, learn_all, lists_and_report
from flows.console import console, show_outcomes
from flows.holding import holding
from flows.planned import show_rebuilding, show_restatement, show_runs
from pipelines.nights.backfill import BackfillPlan, Which, begin, finish, plan_backfill
from pipelines.workspace.layout import Workspace


def backfill(
    workspace: WorkspaceOption = Path("."),
    first: Annotated[
        str | None, typer.Option("--from", autocompletion=completion.spans, help="First span; else the earliest.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", autocompletion=completion.spans, help="Last span, included; else the latest.")
    ] = None,
    which: Annotated[
        Which, typer.Option("--which", help="missing: never learnt; failed: these and failed ones; all: learn again.")
    ] = Which.MISSING,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
) -> None:
    """Learn the spans of a range in the order of the chain; a span that builds on an unlearnt one is refused.

    Given again after an interruption it goes on where it was.
    """
    opened = Workspace.open(workspace)
    if dry_run:
        _show(opened, plan_backfill(opened, first=first, last=last, which=which, now=current_time()))
        console.print("dry run: nothing was changed")
        return
    with holding(opened, "imsr backfill", now=current_time) as writer:
        planned = plan_backfill(opened, first=first, last=last, which=which, now=current_time())
        _show(opened, planned)
        begin(writer, planned)
        outcomes = learn_all(writer, planned.runs)
        lists_and_report(writer)
        finish(writer, planned)  # last: ended before it, the same command learns nothing again
    if outcomes:
        show_outcomes(outcomes, opened.settings.evaluation.top_n, part="learnt")
    show_rebuilding(opened)
    exit_if_rejected(outcomes)


def _show(workspace: Workspace, planned: BackfillPlan) -> None:
    if planned.resumed:
        console.print("going on with the backfill of this range that was interrupted")
    if planned.restatement is not None:
        show_restatement(workspace, planned.restatement)
    elif planned.runs:
        show_runs(workspace, planned.runs, part="runs")
    else:
        answer.fact(runs=[])
        console.print("nothing is left to learn in this range; see: imsr status")
    if planned.runs and planned.beyond:
        console.print(f"[yellow]due after the range: {', '.join(planned.beyond)}; next: imsr run[/]")
