"""The nightly flow: take in what has landed, learn every span that is due.

Prefect adds schedules, retries, timeouts and a UI. The steps are plain functions of `pipelines`; the truth about what
was done is the ledger, so a flow run that dies is finished by the next one, whatever Prefect believes about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, tags, task
from prefect.artifacts import create_table_artifact

from flows.commands.data import landed
from pipelines import night
from pipelines.ingest import IngestReport, ingest
from pipelines.lease import Lease, hold
from pipelines.ledger import SequencesRow, VersionRow
from pipelines.plan import PlannedRun, due
from pipelines.warehouse import publish_catalog
from pipelines.workspace import Workspace

#: Seconds after which a step is given up; a Beam worker that was killed would otherwise hang for ever.
STEP_TIMEOUT = 4 * 3600

# The steps take the workspace's live lease, which no cache could have a key for, and caching is the ledger's work.
step = {"cache_policy": None, "timeout_seconds": STEP_TIMEOUT, "persist_result": False}


@task(name="ingest", retries=1, retry_delay_seconds=30, **step)
def ingest_step(workspace: Workspace, lease: Lease, files: Sequence[Path], now: datetime) -> IngestReport:
    """See `pipelines.ingest.ingest`."""
    return ingest(workspace, files, now=now, lease=lease)


@task(name="sequences", retries=1, retry_delay_seconds=30, **step)
def sequences_step(workspace: Workspace, lease: Lease, run: PlannedRun, now: datetime) -> list[SequencesRow]:
    """See `pipelines.night.build_sequences`."""
    return night.build_sequences(workspace, run, lease, now)


@task(name="evaluate", **step)
def evaluate_step(
    workspace: Workspace, lease: Lease, run: PlannedRun, rows: list[SequencesRow], outcome: night.SpanOutcome
) -> None:
    """See `pipelines.night.test_parent`."""
    night.test_parent(workspace, run, rows, lease, outcome)


@task(name="train", **step)
def train_step(
    workspace: Workspace, lease: Lease, run: PlannedRun, rows: list[SequencesRow], now: datetime
) -> VersionRow:
    """See `pipelines.night.train`."""
    return night.train(workspace, run, rows, lease, now, lambda done, total, loss: None)


@task(name="publish", **step)
def publish_step(workspace: Workspace, lease: Lease, run: PlannedRun, version: VersionRow, now: datetime) -> None:
    """See `pipelines.night.promote`."""
    night.promote(workspace, run, version, lease, now)


@flow(name="nightly", log_prints=True)
def nightly(workspace: str, files: list[str] | None = None, now: str | None = None) -> list[str]:
    """Ingest ``files`` (else what is in the landing folder), then learn every due span; returns the new versions.

    ``now`` (ISO 8601, UTC) stands in for the clock: spans that end after it are not closed yet.
    """
    opened = Workspace.open(workspace)
    moment = datetime.fromisoformat(now).astimezone(UTC) if now else datetime.now(UTC)
    versions = []
    with hold(opened, "nightly flow") as lease:
        found = [Path(file) for file in files] if files is not None else landed(opened)
        if found:
            report = ingest_step(opened, lease, found, moment)
            get_run_logger().info("ingest: read %d, kept %d", report.read, report.kept)
        for run in due(opened, now=moment):
            with tags(f"span:{run.span_id}", "strategy:imsr"):
                versions.append(_learn(opened, lease, run, moment).version_id)
        publish_catalog(opened)
    return versions


def _learn(workspace: Workspace, lease: Lease, run: PlannedRun, now: datetime) -> VersionRow:
    outcome = night.SpanOutcome(run)
    rows = sequences_step(workspace, lease, run, now)
    evaluate_step(workspace, lease, run, rows, outcome)
    version = train_step(workspace, lease, run, rows, now)
    publish_step(workspace, lease, run, version, now)
    create_table_artifact(_table(outcome, version), key=f"span-{run.span_id}".lower(), description=str(run))
    return version


def _table(outcome: night.SpanOutcome, version: VersionRow) -> list[dict[str, Any]]:
    shown = ("users", "items", "mean_interests", "born", "trimmed", "train_seconds")
    tested = [{"what": f"{row.metric} ({row.slice})", "value": round(row.value, 4)} for row in outcome.metrics]
    return [*tested, *({"what": name, "value": version.summary[name]} for name in shown)]
