"""The backfill flow: a range of spans, in the order of the chain."""

from __future__ import annotations

from prefect import flow

from flows.alert_events import telling_of_flow
from flows.artifacts import shown_after_learning
from flows.holding import holding
from flows.steps import as_task, concluded, learn, moment
from pipelines.nights.backfill import Which, begin, finish, plan_backfill
from pipelines.workspace.layout import Workspace


@flow(name="backfill", log_prints=True)
def backfill(
    workspace: str,
    first: str | None = None,
    last: str | None = None,
    which: Which = Which.MISSING,
    now: str | None = None,
) -> list[str]:
    """Learn the spans from ``first`` to ``last`` (None = open) that are missing, failed too, or all of them again.

    Run again after an interruption it goes on where it was. Returns the new versions.

    Args:
        workspace: the workspace folder.
        first: first span of the range; unset: the earliest.
        last: last span of the range, included; unset: the latest.
        which: missing (never learnt), failed (these and failed ones), or all (learn again).
        now: time (ISO 8601) that stands in for the clock.
    """
    opened = Workspace.open(workspace)
    at = moment(now)
    with telling_of_flow(opened, "backfill", now=at) as run, holding(opened, "backfill flow", now=at) as writer:
        planned = plan_backfill(opened, first=first, last=last, which=Which(which), now=at)
        begin(writer, planned)
        run.made += learn(writer, planned.runs)
        sentence = shown_after_learning(writer, as_task)
        finish(writer, planned)
    return concluded(opened, run.made, sentence)
