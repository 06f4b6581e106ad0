"""One span, start to end: sequences, test, train, publish. Plain functions; a flow only calls them in order.

Every step looks into the ledger first and does nothing if its result is there, so that a run that was killed anywhere
is finished by running it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imsr_core.errors import ImsrError
from imsr_core.strategies.protocol import silent
from pipelines.evaluation import evaluate, seen_before
from pipelines.failpoints import FailPoint, hit
from pipelines.lease import Lease
from pipelines.ledger import MetricRow, SequencesRow, SpanState, VersionRow
from pipelines.plan import PlannedRun, parent_of
from pipelines.sequence_chain import chain_of
from pipelines.sequence_loader import load_sequences
from pipelines.sequences import sequence_span
from pipelines.training import Progress, TrainingInput, train_version
from pipelines.versions import LINE, Version
from pipelines.warehouse import publish_catalog
from pipelines.workspace import Workspace

#: Runs a step: (name, function, its arguments) -> its result.
Call = Callable[..., Any]


@dataclass
class SpanOutcome:
    """What a run did: the version, its parent's metrics on the span (tested before training), and the seconds of
    each step."""

    run: PlannedRun
    version: VersionRow | None = None
    sequences: list[SequencesRow] = field(default_factory=list)
    metrics: list[MetricRow] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """Events that the run learnt from."""
        return sum(row.events for row in self.sequences)

    def metric(self, name: str, member: str = "all") -> float | None:
        """The parent's metric on a slice of the span, None if it was not tested."""
        return next((row.value for row in self.metrics if (row.metric, row.slice) == (name, member)), None)

    def total_seconds(self) -> float:
        """Wall time of all steps."""
        return sum(self.seconds.values())


def plainly(step: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a step as the plain function that it is."""
    return function(*arguments)


def run_span(
    workspace: Workspace,
    run: PlannedRun,
    lease: Lease,
    *,
    now: datetime,
    progress: Progress = silent,
    call: Call = plainly,
) -> SpanOutcome:
    """Do everything for one planned run; on an error the span is marked failed, with the reason, and it is raised.

    ``call`` runs a step of this name; a flow passes one that runs it as a task.
    """
    outcome = SpanOutcome(run)

    def timed(step: str, function: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(step, function, *arguments)
        finally:
            outcome.seconds[step] = time.perf_counter() - started

    try:
        outcome.sequences = timed("sequences", build_sequences, workspace, run, lease, now)
        outcome.metrics = timed("evaluate", test_parent, workspace, run, outcome.sequences, lease)
        outcome.version = timed("train", train, workspace, run, outcome.sequences, lease, now, progress)
        timed("publish", promote, workspace, run, outcome.version, lease, now)
    except Exception as error:
        mark_failed(workspace, run, lease, error, now=now)
        raise
    return outcome


def build_sequences(workspace: Workspace, run: PlannedRun, lease: Lease, now: datetime) -> list[SequencesRow]:
    """Sequences of all spans of the run."""
    return [sequence_span(workspace, span_id, lease=lease, now=now).row for span_id in run.spans]


def test_parent(workspace: Workspace, run: PlannedRun, rows: list[SequencesRow], lease: Lease) -> list[MetricRow]:
    """Score the version that the run starts from on the run's span, before it learns it. Empty for a base run."""
    protocol = workspace.settings.evaluation.protocol
    with workspace.ledger.snapshot() as view:
        parent = parent_of(view, run)
    if parent is None:
        return []
    # never taken from the ledger: what is there may be of the span's data before they were restated
    metrics = score(workspace, parent.version_id, rows[-1], protocol)
    with workspace.ledger.transaction(fence=lease.token) as tx:
        tx.delete("metrics", version_id=parent.version_id, span_id=run.span_id, protocol=protocol)
        tx.put_metrics(metrics)
        hit(FailPoint.EVALUATE_BEFORE_COMMIT)
    return metrics


def score(workspace: Workspace, version_id: str, row: SequencesRow, protocol: str) -> list[MetricRow]:
    """Metrics of a version on a span's sequences."""
    sequences = load_sequences(workspace.resolve(row.path))
    earlier = [link.folder for link in chain_of(workspace, row.span_id, row.fingerprint)[:-1]]
    state = Version.open(workspace, version_id).load(sequences.users)
    top_n = workspace.settings.evaluation.top_n
    result = evaluate(state, sequences, seen_before(sequences, earlier), top_n=top_n, protocol=protocol)
    return result.rows(version_id, row.span_id, protocol)


def train(
    workspace: Workspace,
    run: PlannedRun,
    rows: list[SequencesRow],
    lease: Lease,
    now: datetime,
    progress: Progress,
) -> VersionRow:
    """The candidate of the run."""
    with workspace.ledger.snapshot() as view:
        parent = parent_of(view, run)
    settings = workspace.settings
    source = TrainingInput(
        workspace=workspace,
        parent=Version.open(workspace, parent.version_id) if parent else None,
        spans=run.spans,
        sequences=tuple(rows),
        config=settings.interests,
        strategy="imsr",
        protocol=settings.evaluation.protocol,
    )
    return train_version(source, lease, now=now, progress=progress)


def promote(workspace: Workspace, run: PlannedRun, version: VersionRow, lease: Lease, now: datetime) -> None:
    """Load the candidate as a reader would, then move the pointer to it and publish the views."""
    Version.open(workspace, version.version_id).load()
    with workspace.ledger.transaction(fence=lease.token) as tx:
        if tx.pointer(LINE) != version.version_id:
            tx.promote(LINE, version.version_id, f"learnt span {run.span_id}", at=now)
        tx.put_version(VersionRow(**(vars(version) | {"state": "published"})))
        for span_id in run.spans:
            tx.set_span_state(span_id, SpanState.PUBLISHED, at=now)
        hit(FailPoint.PROMOTE_BEFORE_COMMIT)
    hit(FailPoint.PROMOTE_AFTER_COMMIT)
    publish_catalog(workspace)


def mark_failed(workspace: Workspace, run: PlannedRun, lease: Lease, error: Exception, *, now: datetime) -> None:
    """Record why a run failed. The pointer stays where it was."""
    reason = error.message if isinstance(error, ImsrError) else f"{type(error).__name__}: {error}"
    with workspace.ledger.transaction(fence=lease.token) as tx:
        for span_id in run.spans:
            tx.set_span_state(span_id, SpanState.FAILED, at=now, error=reason)
