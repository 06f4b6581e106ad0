"""`imsr run`: everything that is due, or one span."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, show_outcomes, span_progress
from pipelines.lease import hold
from pipelines.night import SpanOutcome, run_span
from pipelines.plan import PlannedRun, due, run_for
from pipelines.warehouse import publish_catalog
from pipelines.workspace import Workspace


def run(
    workspace: WorkspaceOption = Path("."),
    span: Annotated[str | None, typer.Option("--span", help="Only this span; earlier ones must be learnt.")] = None,
) -> None:
    """Learn every closed span that is due, in order: sequences, test, train, publish.

    Each span makes a new model version. Its scores are those of the version before it on the span, taken before the
    span was learnt. A run that was killed goes on where it was; with nothing to do it says so.
    """
    opened = Workspace.open(workspace)
    outcomes = run_due(opened, span)
    if not outcomes:
        what = f"span {span} is learnt already" if span else "nothing is due"
        console.print(f"{what}; see: imsr status")
        return
    show_outcomes(outcomes, opened.settings.evaluation.top_n)


def run_due(workspace: Workspace, span: str | None = None) -> list[SpanOutcome]:
    """Run what is due, or one span, with live progress, holding the workspace's lease."""
    now = current_time()
    outcomes = []
    with hold(workspace, "imsr run") as lease:
        if span is not None:
            one = run_for(workspace, span, now=now)
            planned = [one] if one else []
        else:
            planned = due(workspace, now=now)
        for number, each in enumerate(planned, 1):
            with span_progress(f"[{number}/{len(planned)}] {_label(each)}") as progress:
                outcomes.append(run_span(workspace, each, lease, now=current_time(), progress=progress))
            console.print(_line(outcomes[-1], workspace.settings.evaluation.top_n))
        publish_catalog(workspace)
    return outcomes


def _label(run: PlannedRun) -> str:
    return f"pre-training {run.spans[0]} .. {run.spans[-1]}" if run.base else f"span {run.span_id}"


def _line(outcome: SpanOutcome, top_n: int) -> str:
    score = outcome.metric(f"hr@{top_n}")
    tested = f"HR@{top_n} {score:.4f} before learning it, " if score is not None else ""
    version = outcome.version.version_id if outcome.version else "none"
    return f"{_label(outcome.run)}: {tested}version {version} in {outcome.total_seconds():.1f} s"
