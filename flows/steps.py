"""The steps of a span as Prefect tasks, for every flow.

The steps are plain functions of `pipelines`; the truth about what was done is the ledger, so that a flow run that dies
is finished by the next one, or by a plain `imsr run`, whatever Prefect believes about it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from prefect import get_run_logger, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from flows.artifacts import ProgressArtifact, name_flow_run, show_outcome, span_tags
from flows.known_errors import log_known_errors_without_traceback
from pipelines.alerts.troubles import Trouble
from pipelines.nights.night import run_span
from pipelines.nights.pace import Pace
from pipelines.nights.plan import PlannedRun
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import Writer

#: Seconds after which a step is given up; a Beam worker that was killed would otherwise hang for ever.
STEP_TIMEOUT = 4 * 3600
#: The name of a flow run's state when the gate rejected a version.
REJECTED = "Rejected"
#: The name when nothing was learnt for longer than [alerts] stale_after, though the run has done its work.
STALE = "Stale"
#: The name of a failed flow run's state when too many rows of an ingest were refused.
QUARANTINED = "Quarantined"
#: Steps that are tried once more: a disk or a Beam worker may hiccup, a training that diverged will not converge.
RETRIED = {"ingest": 1, "sequences": 1}

log_known_errors_without_traceback()


def as_task(step: str, function: Callable[..., Any], *arguments: Any, span_id: str = "") -> Any:
    """Run a step as a Prefect task of its name. Nothing is cached: whether a step is done is the ledger's to say."""
    wrap = task(
        name=step,
        task_run_name=f"{step} {span_id}".strip(),
        retries=RETRIED.get(step, 0),
        retry_delay_seconds=30.0,
        timeout_seconds=STEP_TIMEOUT,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return wrap(function)(*arguments)


def learn(writer: Writer, runs: Sequence[PlannedRun]) -> list[str]:
    """Learn these in order, each step as a task, and show each span's outcome; returns the version ids."""
    pace = Pace.of(writer.workspace, runs)
    versions = []
    if runs:
        name_flow_run(" .. ".join(dict.fromkeys((runs[0].spans[0], runs[-1].span_id))))
    for number, run in enumerate(runs, 1):
        started = datetime.now(UTC)
        version = _learn_one(writer, run)
        pace.finished(run, (datetime.now(UTC) - started).total_seconds())
        get_run_logger().info("%d of %d: version %s %s", number, len(runs), version, pace)
        versions.append(version)
    return versions


def concluded(workspace: Workspace, versions: list[str], message: str = "", found: Collection[Trouble] = ()) -> Any:
    """What a flow returns: the new versions, with a ``message`` to people; in a state of its own if the gate rejected
    one (``REJECTED``), or if nothing was learnt for long, as is ``found`` (``STALE``).

    The run has done its work, so the state is of the type Completed; an automation can wait for its name, as the event
    ``prefect.flow-run.Rejected``.
    """
    with workspace.ledger.snapshot() as view:
        rejected = [row.version_id for row in view.versions() if row.version_id in versions and row.state == "rejected"]
    stale = [trouble.text for trouble in found if trouble.kind == "stale"]
    if not rejected and not stale:
        return Completed(message=message, data=versions) if message and versions else versions
    what = [f"rejected by the gate: {', '.join(rejected)}"] if rejected else stale
    name = REJECTED if rejected else STALE
    return Completed(name=name, message=". ".join(filter(None, (*what, message))), data=versions)


def moment(now: str | None) -> datetime:
    """The time that a flow works with: what it was given (ISO 8601; UTC without an offset), else the clock."""
    if now is None:
        return datetime.now(UTC)
    given = datetime.fromisoformat(now)
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)


def _learn_one(writer: Writer, run: PlannedRun) -> str:
    progress = ProgressArtifact(run.span_id)
    with tags(*span_tags(run.span_id)):
        outcome = run_span(writer, run, progress=progress, call=partial(as_task, span_id=run.span_id))
        progress.close()
        show_outcome(writer.workspace, outcome)
    assert outcome.version is not None
    if outcome.verdict is not None and outcome.rejected:
        reasons = "; ".join(outcome.verdict.reasons)
        get_run_logger().warning("version %s does not go live: %s", outcome.version.version_id, reasons)
    return outcome.version.version_id
