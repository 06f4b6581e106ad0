"""`imsr forget`, `imsr prune`, `imsr doctor`: forget a user, free the disk, find and mend damage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.answers import answer
from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, show_table
from flows.next_command import keep_workspace
from imsr_core.counted import counted
from imsr_core.errors import ConfigError
from pipelines.care.damage import plan_discarding
from pipelines.care.doctor import Severity, examine
from pipelines.care.forget import Traces, finish_forgetting, trace
from pipelines.care.forget import forget as forget_user
from pipelines.care.prune import Pruning, plan_pruning
from pipelines.care.prune import prune as prune_workspace
from pipelines.care.receipts import Receipt
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing

DRY_RUN = "dry run: nothing was changed"
#: Most queries of people take less.
LINGER_SECONDS = 2.0


def forget(
    workspace: WorkspaceOption = Path("."),
    user: Annotated[
        str | None, typer.Option("--user", help="The user's id; without it an interrupted forgetting is finished.")
    ] = None,
    landing: Annotated[bool, typer.Option("--landing", help="Rewrite the files in WORKSPACE/landing, too.")] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Let the next run learn everything again that was learnt from the user.")
    ] = False,
    linger: Annotated[
        float,
        typer.Option("--linger", min=0.0, help="Seconds that queries under way have before the old files are removed."),
    ] = LINGER_SECONDS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say where the user is found, and write nothing.")] = False,
) -> None:
    """Remove a user from everything in the workspace, for good.

    What stays is a receipt with a salted hash of the id. Models that learnt from the user keep an influence of it until
    they are learnt again: the receipt names them, --retrain does it. If the user comes back, it is as a new user.
    Sessions that were opened before are told that their files are gone; they have to be opened again.
    """
    opened = Workspace.open(workspace)
    if user is None:
        _finish(opened)
        return
    if dry_run:
        _show_traces(trace(opened, user))
        return
    with console.status("forgetting"):
        receipt = forget_user(opened, user, now=current_time(), landing=landing, retrain=retrain, linger=linger)
    _show_receipt(receipt)


def prune(
    workspace: WorkspaceOption = Path("."),
    damaged: Annotated[
        bool,
        typer.Option("--damaged", help="First discard what `imsr doctor --deep` finds damaged and can be rebuilt."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and write nothing.")] = False,
) -> None:
    """Remove versions, sequences and data that nothing needs any more; [retention] says what is kept besides."""
    opened = Workspace.open(workspace)
    if dry_run:
        discarded = plan_discarding(opened) if damaged else []
        for path in discarded:
            console.print(f"would be discarded: {path}", markup=False)
        answer.fact(discarded=discarded)
        _show_pruning(plan_pruning(opened, now=current_time()))
        console.print(DRY_RUN)
        return
    with console.status("pruning"):
        pruning, discarded = prune_workspace(opened, now=current_time(), damaged=damaged)
    for path in discarded:
        console.print(f"discarded: {path}", markup=False)
    answer.fact(discarded=discarded)
    _show_pruning(pruning)


def doctor(
    workspace: WorkspaceOption = Path("."),
    deep: Annotated[bool, typer.Option("--deep", help="Read every file: hashes, fingerprints, NaN.")] = False,
) -> None:
    """Compare the ledger with the disk; list what is wrong, and the command that mends it.

    The exit code is 1 if there is an error among the findings.
    """
    opened = Workspace.open(workspace)
    with console.status("looking at everything" if deep else "looking"):
        findings = examine(opened, deep=deep)
    if not findings:
        depth = "" if deep else "; --deep also compares their content"
        console.print(f"all is well: the ledger and the files agree{depth}")
        return
    rows = [[f.severity, f.where, f.what, keep_workspace(f.mend)] for f in findings]
    show_table("", ["severity", "where", "what", "what mends it"], rows, wrap=True)
    if any(finding.severity == Severity.ERROR for finding in findings):
        raise typer.Exit(1)


def _finish(workspace: Workspace) -> None:
    with writing(workspace, "imsr forget", now=current_time) as writer:
        receipt = finish_forgetting(writer)
    if receipt is None:
        raise ConfigError("forget whom?", hint="imsr forget --user ID; no forgetting was interrupted")
    _show_receipt(receipt)


def _show_traces(traces: Traces) -> None:
    rows: list[list[object]] = [[path, count] for path, count in traces.found.items()]
    rows += [[f"landing: {file.path.name}", file.rows] for file in traces.landing]
    rows += [[f"labels: {file.path}", file.rows] for file in traces.labels]
    rows += [[f"cannot be read: {name}", None] for name in traces.unreadable]
    if rows or answer.as_json:
        show_table("", ["file", "rows"], rows)
    else:
        console.print("the user is nowhere in the workspace; ids are compared letter by letter")
    console.print(DRY_RUN)


def _show_receipt(receipt: Receipt) -> None:
    answer.fact(**asdict(receipt))
    console.print(f"receipt {receipt.receipt_id}: forgotten at {receipt.finished_at} (hash {receipt.user_hash})")
    if receipt.rows and not answer.as_json:
        show_table("", ["place", "rows"], list(receipt.rows.items()))
    for name, done in receipt.landing.items():
        console.print(f"{name}: {done}", markup=False)
    if any(done.startswith("still") for done in receipt.landing.values()):
        console.print("[yellow]these files still hold the user; rewrite them with: imsr forget --user ID --landing[/]")
    for name, why in receipt.left.items():
        console.print(f"not cleaned: {name}: {why}", markup=False)
    if receipt.left:
        console.print("[yellow]these may still hold the user; mend or remove them, then give the command again[/]")
    if receipt.sources:
        console.print(f"the events came from: {', '.join(receipt.sources)}; copies elsewhere are yours", markup=False)
    if receipt.learnt_from:
        versions = [*receipt.learnt_from, *receipt.built_on_these]
        console.print(f"learnt from the user, or built on what was: {', '.join(versions)}")
    if receipt.stale:
        console.print(f"to be learnt again without: {receipt.stale[0]} .. {receipt.stale[-1]}; next: imsr run")
    elif receipt.spans:
        console.print(f"to learn again without the user: imsr restate {receipt.spans[0]}")


def _show_pruning(pruning: Pruning) -> None:
    answer.fact(bytes=pruning.bytes)
    rows = [
        ["stays" if item.stays else "goes", item.kind, item.name, item.bytes, item.why]
        for item in sorted(pruning.items, key=lambda item: item.stays)
    ]
    if rows or answer.as_json:
        show_table("", ["fate", "what", "name", "bytes", "why"], rows, part="items")
    console.print(f"{len(pruning.going())} go, {counted(pruning.bytes, 'byte')}")
