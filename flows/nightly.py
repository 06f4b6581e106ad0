"""The nightly flow: take in what has landed, learn every span that is due, then every task that is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.states import Failed

from flows.alert_events import telling_of_flow
from flows.alerts import Run
from flows.artifacts import shown_after_learning
from flows.holding import holding
from flows.steps import QUARANTINED, as_task, concluded, learn, moment
from flows.tasks import add_due
from pipelines.lake.ingest import IngestReport, ingest
from pipelines.lake.landing import check_refused, ingest_landed
from pipelines.lake.tables_beside import table_problems
from pipelines.lake.warnings import QuarantinedShareError, check_quarantined
from pipelines.nights.plan import due
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import Writer


@flow(name="nightly", log_prints=True)
def nightly(
    workspace: str, landing: str | None = None, files: list[str] | None = None, now: str | None = None
) -> list[str]:
    """Ingest what has landed, then learn every due span and add every due task; returns the new versions.

    Args:
        workspace: the workspace folder.
        landing: folder that is read instead of WORKSPACE/landing.
        files: files that are read instead of a folder.
        now: time (ISO 8601) that stands in for the clock: spans that end after it are not closed yet.
    """
    opened = Workspace.open(workspace)
    at = moment(now)
    try:
        with telling_of_flow(opened, "night", now=at) as run:
            sentence = _night(opened, at, Path(landing) if landing else None, files, run)
    except QuarantinedShareError as error:
        return Failed(name=QUARANTINED, message=error.message, data=error)  # type: ignore[return-value]
    return concluded(opened, run.made, sentence, run.found)


def _night(opened: Workspace, at: datetime, landing: Path | None, files: list[str] | None, run: Run) -> str:
    """All steps, noting in ``run`` what was made; returns the report's sentence if it is new."""
    with holding(opened, "nightly flow", now=at) as writer:
        report = as_task("ingest", _ingest, writer, landing, files)
        if report.files:
            _say(report)
            as_task("quarantine", check_quarantined, report, opened.settings)  # recorded: a retry would be green
        for problem in table_problems(writer):
            get_run_logger().warning(problem)
        run.made += learn(writer, due(opened, now=at))
        if opened.settings.users.nightly:  # a task that fails is noted, and the spans are published by now
            run.made += add_due(writer)
        sentence = shown_after_learning(writer, as_task)
    check_refused(report)
    return sentence


def _ingest(writer: Writer, landing: Path | None, files: list[str] | None) -> IngestReport:
    if files is not None:
        return ingest(writer.workspace, files, now=writer.now, writer=writer)
    report, found = ingest_landed(writer, landing)
    for path, why in found.ignored.items():
        get_run_logger().info("left alone: %s (%s)", path.name, why)
    return report


def _say(report: IngestReport) -> None:
    get_run_logger().info("ingest: read %d, kept %d rows", report.read, report.kept)
    for file in report.refused:
        get_run_logger().error("refused, and set aside as %s: %s", file.path, file.refused)
    for warning in report.warnings:
        get_run_logger().warning(warning)
