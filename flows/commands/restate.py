"""`imsr restate`: learn a span again, and everything that rests on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import completion
from flows.commands.options import WorkspaceOption, current_time
from flows.commands.runs import exit_if_rejected, learn_all, lists_and_report
from flows.console import console, show_outcomes
from flows.holding import holding
from flows.planned import show_rebuilding, show_restatement
from imsr_core.errors import ConfigError
from pipelines.nights.plan import due
from pipelines.nights.restate import mark_stale, plan_restatement
from pipelines.workspace.layout import Workspace


def restate(
    span: Annotated[str, typer.Argument(autocompletion=completion.spans, help="The first span to learn again.")],
    workspace: WorkspaceOption = Path("."),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
) -> None:
    """Learn a span and all later ones again, in order, as new versions beside the earlier ones.

    First lists every span that becomes stale, and asks. Interrupted it is finished by `imsr run`.
    """
    opened = Workspace.open(workspace)
    show_restatement(opened, plan_restatement(opened, span, now=current_time()))
    if dry_run:
        console.print("dry run: nothing was changed")
        return
    if not yes:
        _ask(span)
    with holding(opened, "imsr restate", now=current_time) as writer:
        mark_stale(writer, span)
        outcomes = learn_all(writer, due(opened, now=current_time()))
        lists_and_report(writer)
    show_outcomes(outcomes, opened.settings.evaluation.top_n, part="learnt")
    show_rebuilding(opened)
    exit_if_rejected(outcomes)


def _ask(span: str) -> None:
    """Ask whether to go on; from a scheduler, where nobody answers, say how it is answered beforehand."""
    try:
        agreed = typer.confirm("go on?", err=True)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        typer.echo(err=True)
        raise ConfigError("not answered, and nothing is changed", hint=f"imsr restate {span} --yes does it") from None
    if not agreed:
        raise typer.Abort
