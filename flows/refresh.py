"""The full-refresh flow: a model trained from scratch beside the chain, and if asked the chain starts over from it."""

from __future__ import annotations

from prefect import flow, get_run_logger

from flows.alert_events import telling_of_flow
from flows.artifacts import ProgressArtifact, show_refresh, shown_after_learning, span_tags, tag_flow_run
from flows.holding import holding
from flows.steps import as_task, moment
from pipelines.nights.refresh import rebase as rebase_chain
from pipelines.nights.refresh import shadow_retrain
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow


@flow(name="full-refresh", log_prints=True)
def full_refresh(workspace: str, rebase: bool = False, now: str | None = None) -> str:
    """Train a shadow on all that the current version has learnt; returns its version.

    Args:
        workspace: the workspace folder.
        rebase: put it live if it passes the gate, so that the chain goes on from it; the run fails if it does not.
        now: time (ISO 8601) that stands in for the clock.
    """
    opened = Workspace.open(workspace)
    at = moment(now)
    with telling_of_flow(opened, "refresh", now=at), holding(opened, "full-refresh flow", now=at) as writer:
        with opened.ledger.snapshot() as view:
            spans = [row.span_id for row in view.spans()]
        progress = ProgressArtifact(spans[-1] if spans else "none")

        def learn() -> VersionRow:
            if rebase:
                return rebase_chain(writer, progress=progress)[0]
            return shadow_retrain(writer, progress=progress)

        row: VersionRow = as_task("refresh", learn)
        progress.close()
        tag_flow_run(span_tags(row.span_id, row))
        show_refresh(opened, row)
        get_run_logger().info("version %s, %s", row.version_id, row.state)
        shown_after_learning(writer, as_task)
    return row.version_id
