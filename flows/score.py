"""What a version scores with, in a few lines: which terms weigh how much, what that rests on, and who judged it."""

from __future__ import annotations

from typing import Any

from flows.console import console
from imsr_core.counted import counted
from pipelines.workspace.layout import Workspace

#: Columns that are named, the heaviest first.
NAMED = 5


def show_score(workspace: Workspace, version_id: str | None) -> None:
    """The weights of a version's score with their evidence, and how many items have categories; nothing without."""
    with workspace.ledger.snapshot() as view:
        row = view.version(version_id) if version_id else None
    for which, fit in (row.summary.get("score", {}) if row else {}).items():
        told = "on what the span's users took" if which == "strangers" else _evidence(fit["evidence"])
        console.print(f"score       {which}: {_weights(fit['weights'])}; {told}")
    if row and "described_items" in row.summary:
        described, items = row.summary["described_items"], row.summary["items"]
        console.print(f"categories  {described:,} of {items:,} items have some")
    for reason in _unjudged(row.verdict or {}) if row else ():
        console.print(f"gate        {reason}; [gate] holdout hides more", markup=False)


def _unjudged(verdict: dict[str, Any]) -> list[str]:
    """Why a version is live without having been judged; nothing if it was."""
    few = verdict.get("passed") and any(check.get("name") == "events" for check in verdict.get("checks", ()))
    return list(verdict["reasons"]) if few else []


def _weights(weights: dict[str, float]) -> str:
    heaviest = sorted(weights.items(), key=lambda pair: -abs(pair[1]))[:NAMED]
    return ", ".join(f"{name} {weight:+.2f}" for name, weight in heaviest)


def _evidence(evidence: dict[str, Any] | None) -> str:
    if not evidence:
        return "to start with, no evidence yet"
    return (
        f"on {counted(evidence['events'], 'event')} of {counted(evidence['users'], 'user')} "
        f"that the version before had not learnt "
        f"(log loss {evidence['before']:.2f} -> {evidence['after']:.2f}, chance {evidence['chance']:.2f})"
    )
