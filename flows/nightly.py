"""The nightly flow: take in what has landed, learn every span that is due.

Prefect adds schedules, retries, timeouts and a UI. The steps are plain functions of `pipelines`; the truth about what
was done is the ledger, so a flow run that dies is finished by the next one, whatever Prefect believes about it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, tags, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.commands.data import landed
from pipelines.ingest import IngestReport, ingest
from pipelines.lease import Lease, hold
from pipelines.night import SpanOutcome, run_span
from pipelines.plan import PlannedRun, due
from pipelines.warehouse import publish_catalog
from pipelines.workspace import Workspace

#: Seconds after which a step is given up; a Beam worker that was killed would otherwise hang for ever.
STEP_TIMEOUT = 4 * 3600
#: Steps that are tried once more: a disk or a Beam worker may hiccup, a training that diverged will not converge.
RETRIED = {"ingest": 1, "sequences": 1}


def as_task(step: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a step as a Prefect task of its name. Nothing is cached: whether a step is done is the ledger's to say."""
    wrap = task(
        name=step,
        retries=RETRIED.get(step, 0),
        retry_delay_seconds=30.0,
        timeout_seconds=STEP_TIMEOUT,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return wrap(function)(*arguments)


@flow(name="nightly", log_prints=True)
def nightly(workspace: str, files: list[str] | None = None, now: str | None = None) -> list[str]:
    """Ingest ``files`` (else what is in the landing folder), then learn every due span; returns the new versions.

    ``now`` (ISO 8601, UTC) stands in for the clock: spans that end after it are not closed yet.
    """
    opened = Workspace.open(workspace)
    moment = _utc(datetime.fromisoformat(now)) if now else datetime.now(UTC)
    with hold(opened, "nightly flow") as lease:
        found = [Path(file) for file in files] if files is not None else landed(opened)
        if found:
            report = as_task("ingest", _ingest, opened, found, moment, lease)
            get_run_logger().info("ingest: read %d, kept %d rows", report.read, report.kept)
        versions = [_learn(opened, lease, run, moment) for run in due(opened, now=moment)]
        publish_catalog(opened)
    return versions


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _ingest(workspace: Workspace, files: list[Path], now: datetime, lease: Lease) -> IngestReport:
    return ingest(workspace, files, now=now, lease=lease)


def _learn(workspace: Workspace, lease: Lease, run: PlannedRun, now: datetime) -> str:
    with tags(f"span:{run.span_id}", "strategy:imsr"):
        outcome = run_span(workspace, run, lease, now=now, call=as_task)
        create_table_artifact(_table(outcome), key=f"span-{run.span_id}".lower(), description=str(run))
    assert outcome.version is not None
    return outcome.version.version_id


def _table(outcome: SpanOutcome) -> list[dict[str, Any]]:
    assert outcome.version is not None
    shown = ("users", "items", "mean_interests", "born", "trimmed", "train_seconds")
    tested = [{"what": f"{row.metric} ({row.slice})", "value": round(row.value, 4)} for row in outcome.metrics]
    return [*tested, *({"what": name, "value": outcome.version.summary[name]} for name in shown)]
