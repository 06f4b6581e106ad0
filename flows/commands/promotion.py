"""`imsr promote`, `imsr rollback`, `imsr compare`: decide by hand which version is live."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.answers import Shown, answer, objects
from flows.commands import completion
from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, show_table
from flows.holding import holding
from flows.lines import POINTERS, pointer_for
from pipelines.interests.comparison import compare
from pipelines.interests.drift import MetricPair
from pipelines.interests.gate import Verdict
from pipelines.versions.line import Line
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import PromotionRow, VersionRow

LineOption = Annotated[Line, typer.Option("--line", help="Which line of versions.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the log of promotions.")]


def promote_version(
    version: Annotated[str, typer.Argument(autocompletion=completion.versions, help="The version to put live.")],
    workspace: WorkspaceOption = Path("."),
    reason: ReasonOption = "by hand",
) -> None:
    """Put a version of either line live, also one that the gate rejected; it must load and answer.

    Spans that it has not learnt are marked rejected: the next night goes on from it and does not learn them again.
    """
    opened = Workspace.open(workspace)
    with holding(opened, "imsr promote", now=current_time) as writer:
        move = pointer_for(opened, version).promote(writer, version, reason)
    _show_move(move, version)


def rollback_version(
    workspace: WorkspaceOption = Path("."),
    to: Annotated[
        str | None,
        typer.Option("--to", autocompletion=completion.versions, help="A version that was live; unset: the parent."),
    ] = None,
    reason: ReasonOption = "",
    line: LineOption = Line.INTERESTS,
) -> None:
    """Put an earlier version live: the one that the current one was learnt from, or --to.

    With --line users the newest task is taken back, and not added again by itself.

    What was learnt after it stays on disk and can be promoted again. The next night goes on from it. Given twice, it
    goes back twice; with --to a second time changes nothing.
    """
    opened = Workspace.open(workspace)
    with holding(opened, "imsr rollback", now=current_time) as writer:
        move = POINTERS[line].roll_back(writer, to=to, reason=reason)
    _show_move(move, to or "")


def compare_versions(
    first: Annotated[str, typer.Argument(autocompletion=completion.versions, help="A version.")],
    second: Annotated[str, typer.Argument(autocompletion=completion.versions, help="Another one.")],
    workspace: WorkspaceOption = Path("."),
    span: Annotated[
        str | None,
        typer.Option(
            "--span", autocompletion=completion.spans, help="Score both on this span now; neither may have learnt it."
        ),
    ] = None,
) -> None:
    """Two versions side by side: what they know, their scores on spans that both were tested on, the gate's checks."""
    opened = Workspace.open(workspace)
    found = compare(opened, first, second, span)
    _show_versions(found.first, found.second)
    if found.metrics:
        show_pairs(found.metrics, (first, second))
    else:
        answer.add([], "metrics")
        console.print("no span was tested with both; score them on one with --span")
    for row in (found.first, found.second):
        if row.verdict:
            show_verdict(row.version_id, Verdict.from_json(row.verdict))


def show_pairs(pairs: tuple[MetricPair, ...] | list[MetricPair], names: tuple[str, str]) -> None:
    """Scores of two versions, span by span."""
    rows = [
        [
            p.span_id,
            p.slice,
            p.metric,
            *(Shown.as_(v, ".4f") for v in (p.first, p.second)),
            Shown.as_(p.difference, "+.4f"),
            Shown(p.n, f"{p.first_n:,} / {p.n:,}" if p.first_n != p.n else f"{p.n:,}"),
        ]
        for p in pairs
    ]
    show_table(
        "",
        ["span", "slice", "metric", *names, "difference", "events"],
        rows,
        part="metrics",
        as_objects=[asdict(p) for p in pairs],
    )


def show_verdict(version_id: str, verdict: Verdict) -> None:
    """What the gate looked at."""
    columns = ["check", "slice", "metric", "current", "candidate", "difference", "low", "high", "events", "passed"]
    rows = [
        [c.name, c.slice, c.metric, c.current, c.candidate, c.difference, c.low, c.high, c.n, c.passed]
        for c in verdict.checks
    ]
    show_table(
        f"gate of {version_id}: {'passed' if verdict.passed else 'rejected'}",
        columns,
        rows,
        part="gate",
        as_objects=[{"version": version_id, **row} for row in objects(columns, rows)],
    )
    if any(check.name == "preflight" for check in verdict.checks):
        console.print(
            "  preflight: a model that finds nothing in the candidate's place; passed, if it would be rejected"
        )
    for reason in verdict.reasons:
        console.print(f"  {reason}", markup=False)


def _show_versions(first: VersionRow, second: VersionRow) -> None:
    facts = {"strategy": "strategy", "state": "state", "parent": "parent", "span": "span_id"}
    rows = [[name, getattr(first, key), getattr(second, key)] for name, key in facts.items()]
    counts = ("users", "items", "interests", "mean_interests", "born", "trimmed", "train_seconds")
    rows += [[key.replace("_", " "), first.summary.get(key), second.summary.get(key)] for key in counts]
    columns = ["fact", first.version_id, second.version_id]
    show_table("", columns, rows, part="versions", as_objects=[dict(zip(columns, row, strict=True)) for row in rows])


def _show_move(move: PromotionRow | None, wanted: str) -> None:
    answer.fact(moved=move is not None, version=move.version_id if move else wanted, previous=move and move.previous)
    if move is None:
        console.print(f"version {wanted} is live already" if wanted else "nothing to do")
        return
    console.print(f"version {move.version_id} is live, before it {move.previous or 'none'}; see: imsr status")
