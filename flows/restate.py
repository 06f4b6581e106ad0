"""The restate flow: a span and everything learnt after it, again."""

from __future__ import annotations

from prefect import flow, get_run_logger

from flows.alert_events import telling_of_flow
from flows.artifacts import shown_after_learning
from flows.holding import holding
from flows.steps import as_task, concluded, learn, moment
from pipelines.nights.plan import due
from pipelines.nights.restate import mark_stale, plan_restatement
from pipelines.workspace.layout import Workspace


@flow(name="restate", log_prints=True)
def restate(workspace: str, span: str, now: str | None = None) -> list[str]:
    """List what becomes stale, mark it, and rebuild it in order as new versions, which are returned.

    Interrupted it is finished by the nightly flow.

    Args:
        workspace: the workspace folder.
        span: the first span to learn again.
        now: time (ISO 8601) that stands in for the clock.
    """
    opened = Workspace.open(workspace)
    at = moment(now)
    with telling_of_flow(opened, "restatement", now=at) as run, holding(opened, "restate flow", now=at) as writer:
        stale = plan_restatement(opened, span, now=at).spans
        get_run_logger().info("%d spans become stale: %s", len(stale), ", ".join(stale))
        mark_stale(writer, span)
        run.made += learn(writer, due(opened, now=at))
        sentence = shown_after_learning(writer, as_task)
    return concluded(opened, run.made, sentence)
