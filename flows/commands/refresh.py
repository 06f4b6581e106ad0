"""`imsr refresh`: train from scratch beside the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.answers import answer
from flows.commands.options import WorkspaceOption, current_time
from flows.commands.promotion import show_verdict
from flows.commands.runs import lists_and_report
from flows.console import console, span_progress
from flows.holding import holding
from imsr_core.counted import counted
from pipelines.interests.gate import Verdict
from pipelines.nights.refresh import rebase, shadow_retrain
from pipelines.workspace.layout import Workspace
from pipelines.workspace.states import VersionState


def refresh(
    workspace: WorkspaceOption = Path("."),
    rebase_chain: Annotated[
        bool, typer.Option("--rebase", help="Put it live, if it passes the gate: the chain starts over from it.")
    ] = False,
) -> None:
    """Train a shadow from scratch on all that the current version has learnt, to see what the updates have lost.

    From the next span on it is scored beside the chain: see the view `drift`, and `imsr status`. A night makes one by
    itself every [refresh] every_spans spans.
    """
    opened = Workspace.open(workspace)
    with holding(opened, "imsr refresh", now=current_time) as writer:
        with span_progress("training from scratch") as progress:
            if rebase_chain:
                row, move = rebase(writer, progress=progress)
            else:
                row, move = shadow_retrain(writer, progress=progress), None
        lists_and_report(writer)
    answer.fact(version=row.version_id, state=row.state, live=move is not None)
    if move is not None:
        show_verdict(row.version_id, Verdict.from_json(row.verdict or {}))
        console.print(f"version {row.version_id} is live; the chain goes on from it")
    elif row.state is VersionState.SHADOW:
        console.print(f"shadow {row.version_id} of {row.shadow_of}: {counted(len(row.spans), 'span')} learnt")
        console.print("it is scored beside the chain from the next span on; put it live with: imsr refresh --rebase")
    else:
        console.print(f"version {row.version_id}, which is live, was trained from scratch: there is nothing to refresh")
