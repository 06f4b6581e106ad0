"""The nightly flow: take in what has landed, learn every span that is due, then every task that is."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger

from flows.holding import holding
from flows.steps import as_task, concluded, learn, moment
from flows.tasks import add_due
from pipelines.lake.ingest import IngestReport, ingest
from pipelines.lake.item_metadata import metadata_problem
from pipelines.lake.landing import landed
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
    with holding(opened, "nightly flow", now=at) as writer:
        folder = Path(landing) if landing else None
        found = [Path(file) for file in files] if files is not None else landed(opened, folder)
        if found:
            report = as_task("ingest", _ingest, writer, found)
            get_run_logger().info("ingest: read %d, kept %d rows", report.read, report.kept)
        if problem := metadata_problem(writer):
            get_run_logger().warning(problem)
        versions = learn(writer, due(opened, now=at))
        if opened.settings.users.nightly:  # a task that fails is noted, and the spans are published by now
            versions += add_due(writer)
    return concluded(opened, versions)


def _ingest(writer: Writer, files: list[Path]) -> IngestReport:
    return ingest(writer.workspace, files, now=writer.now, writer=writer)
