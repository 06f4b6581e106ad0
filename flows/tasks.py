"""The flow that teaches the `users` line a task; the nightly flow adds the due ones at its end."""

from __future__ import annotations

from functools import partial

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.artifacts import tag_flow_run
from flows.holding import holding
from flows.steps import as_task, concluded, moment
from pipelines.tasks.adding import TaskOutcome, add_due_tasks, add_task
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import Writer


@flow(name="add-task", log_prints=True)
def add_tasks(workspace: str, names: list[str] | None = None, now: str | None = None) -> list[str]:
    """Add tasks to the `users` line, in this order; returns the versions that were made.

    Args:
        workspace: the workspace folder.
        names: tasks of imsr.toml; unset: all that are due.
        now: time (ISO 8601) that stands in for the clock.

    Raises:
        ImsrError: one of the ``names`` cannot be added. Of due tasks one failure stops no other: it is noted.
    """
    opened, at = Workspace.open(workspace), moment(now)
    with holding(opened, "add-task flow", now=at) as writer:
        if names is None:
            return concluded(opened, add_due(writer))
        outcomes = [add_task(writer, name, call=partial(as_task, span_id=name)) for name in names]
        for outcome in outcomes:
            _show(outcome)
    return concluded(opened, _made(outcomes))


def add_due(writer: Writer) -> list[str]:
    """Add every due task, each step as a Prefect task; a failure is logged, noted in the ledger, and stops nothing."""
    outcomes, failures = add_due_tasks(writer, call=as_task)
    for name, error in failures.items():
        get_run_logger().error("task %s was not added: %s", name, error)
    for outcome in outcomes:
        _show(outcome)
    return _made(outcomes)


def _show(outcome: TaskOutcome) -> None:
    """Log the outcome, tag the run, and leave the scores of all tasks as a table."""
    version = outcome.version
    assert version is not None
    if outcome.rejected and outcome.verdict is not None:
        reasons = "; ".join(outcome.verdict.reasons)
        get_run_logger().warning("version %s does not go live: %s", version.version_id, reasons)
    else:
        get_run_logger().info("task %s is in version %s", outcome.name, version.version_id)
    tag_flow_run([f"task:{outcome.name}", f"version:{version.version_id}"])
    rows = [{"task": s.name, "metric": s.main, "score": s.value, "examples": s.n} for s in outcome.scores]
    if rows:
        key = f"task-{outcome.name}-scores".lower().translate(str.maketrans("_.", "--"))
        what = f"version {version.version_id}: every task on its test users"
        create_table_artifact(rows, key=key, description=what)


def _made(outcomes: list[TaskOutcome]) -> list[str]:
    return [outcome.version.version_id for outcome in outcomes if outcome.version and not outcome.already]
