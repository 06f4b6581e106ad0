"""One span, start to end: sequences, test, train, gate, publish. Plain functions; a flow only calls them in order.

Every step looks into the ledger first and does nothing if its result is there, so that a run that was killed anywhere
is finished by running it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from imsr_core.strategies.protocol import silent
from pipelines.interests.gate import Verdict, judge_version
from pipelines.interests.promotion import admit
from pipelines.interests.rank_job import score
from pipelines.interests.read_once import ReadOnce, Tried
from pipelines.interests.span_matrix import write_span_matrix
from pipelines.interests.training import Progress, TrainingInput, train_version
from pipelines.interests.version import Version
from pipelines.nights.plan import PlannedRun, parent_of
from pipelines.nights.refresh import refresh_if_due
from pipelines.sequences.build import sequence_span
from pipelines.versions.ancestry import newest_shadow
from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.ending import raise_signal_behind
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import MetricRow, SequencesRow, SpanState, VersionRow
from pipelines.workspace.steps import Call, plainly
from pipelines.workspace.writer import Writer


@dataclass
class SpanOutcome:
    """What a run did: the version, what the gate said of it, its parent's metrics on the span (tested before
    training), and the seconds of each step."""

    run: PlannedRun
    version: VersionRow | None = None
    verdict: Verdict | None = None
    sequences: list[SequencesRow] = field(default_factory=list)
    metrics: list[MetricRow] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def rejected(self) -> bool:
        """Whether the version was made and may not go live."""
        return self.verdict is not None and not self.verdict.passed

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


def run_span(writer: Writer, run: PlannedRun, *, progress: Progress = silent, call: Call = plainly) -> SpanOutcome:
    """Do everything for one planned run, and show it in the views; on an error the span is marked failed, with the
    reason, and it is raised.

    ``call`` runs a step of this name; a flow passes one that runs it as a task.
    """
    workspace, outcome, parent, tried = writer.workspace, SpanOutcome(run), ReadOnce(), Tried()

    def timed(step: str, function: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        writer.lease.tell(f"{run.label}: {step}")
        try:
            return call(step, function, *arguments)
        finally:
            outcome.seconds[step] = time.perf_counter() - started

    try:
        outcome.sequences = timed("sequences", build_sequences, writer, run)
        outcome.metrics = timed("evaluate", test_parent, writer, run, outcome.sequences, parent)
        told = _told(writer, run, progress)
        outcome.version = timed("train", train, writer, run, outcome.sequences, told, parent)
        outcome.verdict = timed("gate", judge_candidate, workspace, outcome.version, tried)
        outcome.version = timed("publish", admit, writer, run.spans, outcome.version, outcome.verdict)
        if outcome.verdict.passed and workspace.settings.refresh.every_spans:
            timed("refresh", refresh_if_due, writer)
    except Exception as error:
        raise_signal_behind(error)  # a span that was interrupted has not failed
        mark_failed(writer, run, error)
        raise
    try:  # the version is live by now: what fails here takes nothing back, and is made after the next run
        if outcome.verdict.passed and workspace.settings.evaluation.matrix_users:
            timed("matrix", write_span_matrix, workspace, outcome.version.version_id, tried)
    finally:
        publish_catalog(workspace)
    return outcome


def _told(writer: Writer, run: PlannedRun, progress: Progress) -> Progress:
    """The same progress, and `imsr status` can say how far training is."""

    def report(done: int, total: int, loss: float) -> None:
        writer.lease.doing = f"{run.label}: train, {done:,} of {counted(total, 'step')}"
        progress(done, total, loss)

    return report


def build_sequences(writer: Writer, run: PlannedRun) -> list[SequencesRow]:
    """Sequences of all spans of the run."""
    return [sequence_span(writer.workspace, span_id, now=writer.now, writer=writer).row for span_id in run.spans]


def test_parent(writer: Writer, run: PlannedRun, rows: list[SequencesRow], reading: ReadOnce) -> list[MetricRow]:
    """Score the version that the run starts from on the run's span, before it learns it. Empty for a base run.

    The newest shadow of its chain is scored with it, so that the two can be compared. What is read of the parent stays
    with ``reading`` for the training.
    """
    workspace = writer.workspace
    protocol = workspace.settings.evaluation.protocol
    with workspace.ledger.snapshot() as view:
        parent = parent_of(view, run)
        shadow = newest_shadow(view, parent) if parent else None
    if parent is None:
        return []
    # never taken from the ledger: what is there may be of the span's data before they were restated
    metrics = {parent.version_id: score(workspace, parent.version_id, rows[-1], protocol, read=reading.look)}
    if shadow is not None:
        metrics[shadow.version_id] = score(workspace, shadow.version_id, rows[-1], protocol)
    with writer.transaction() as tx:
        for version_id, found in metrics.items():
            tx.delete("metrics", version_id=version_id, span_id=run.span_id, protocol=protocol)
            tx.put_metrics(found)
        hit(FailPoint.EVALUATE_BEFORE_COMMIT)
    return metrics[parent.version_id]


def train(
    writer: Writer, run: PlannedRun, rows: list[SequencesRow], progress: Progress, reading: ReadOnce
) -> VersionRow:
    """The candidate of the run; ``reading`` may hold its parent already."""
    workspace = writer.workspace
    with workspace.ledger.snapshot() as view:
        parent = parent_of(view, run)
    settings = workspace.settings
    source = TrainingInput(
        workspace=workspace,
        parent=Version.open(workspace, parent.version_id) if parent else None,
        spans=run.spans,
        sequences=tuple(rows),
        config=settings.interests,
        strategy=settings.training.strategy,
        protocol=settings.evaluation.protocol,
        holdout=settings.gate.hidden_share,
        top_n=settings.evaluation.top_n,
        read=reading.take,
    )
    return train_version(source, writer, progress=progress)


def judge_candidate(workspace: Workspace, version: VersionRow, tried: Tried) -> Verdict:
    """What the gate says of a candidate; what is read of it stays with ``tried``."""
    return judge_version(Version.open(workspace, version.version_id), workspace.settings.gate, tried.look)


def mark_failed(writer: Writer, run: PlannedRun, error: Exception) -> None:
    """Record why a run failed. The pointer stays where it was."""
    reason = error.message if isinstance(error, ImsrError) else f"{type(error).__name__}: {error}"
    with writer.transaction() as tx:
        for span_id in run.spans:
            tx.set_span_state(span_id, SpanState.FAILED, at=writer.now, error=reason)
