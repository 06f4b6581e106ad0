"""The state of a workspace as Prometheus reads it: for a node exporter's folder of text files, or to be printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.registry import Collector

from pipelines.nights.plan import due_of, missing_nights
from pipelines.versions.line import Line
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.states import SpanState, VersionState


def metrics_text(workspace: Workspace, *, now: datetime) -> bytes:
    """The gauges in Prometheus' text format, from one look at the ledger; nothing is learnt or written. Each has
    the label ``workspace``, the folder.

    An alert would watch ``imsr_seconds_since_learnt`` (the night is late), ``imsr_spans{state="failed"}``,
    ``imsr_versions_rejected`` and ``imsr_rows_quarantined``.
    """
    registry = CollectorRegistry()
    with workspace.ledger.snapshot() as view:
        _spans(registry, view, workspace.settings.spans.pretrain, now)
        _versions(registry, view, now)
        _scores(registry, view)
        quarantined = Gauge("imsr_rows_quarantined", "rows that were refused, of all ingests", registry=registry)
        quarantined.set(sum(batch.quarantined for batch in view.batches()))
    return generate_latest(_of_workspace(registry, str(workspace.root)))


def _of_workspace(registry: CollectorRegistry, folder: str) -> CollectorRegistry:
    """The gauges with the label ``workspace``: of a series that two files have, a node exporter takes one."""

    class Labelled(Collector):
        def collect(self) -> Iterator[Metric]:
            for family in registry.collect():
                family.samples = [each._replace(labels={**each.labels, "workspace": folder}) for each in family.samples]
                yield family

    labelled = CollectorRegistry()
    labelled.register(Labelled())
    return labelled


def _spans(registry: CollectorRegistry, view: Snapshot, pretrain: int, now: datetime) -> None:
    spans = view.spans()
    by_state = Gauge("imsr_spans", "spans by state", ["state"], registry=registry)
    counts = Counter(str(span.state) for span in spans)
    for state in SpanState:
        by_state.labels(str(state)).set(counts[str(state)])
    runs = due_of(spans, pretrain=pretrain, now=now)
    Gauge("imsr_runs_due", "runs that are due", registry=registry).set(len(runs))
    missing = Gauge("imsr_spans_missing", "closed spans for which no data came", registry=registry)
    missing.set(len(missing_nights(view, now=now)))
    learnt = [span.end_us for span in spans if span.state == SpanState.PUBLISHED]
    if learnt:
        age = Gauge("imsr_seconds_since_learnt", "from the end of the newest learnt span to now", registry=registry)
        age.set(now.timestamp() - max(learnt) / 1e6)


def _versions(registry: CollectorRegistry, view: Snapshot, now: datetime) -> None:
    current = Gauge("imsr_current_version", "1 for the version that is live", ["line", "version"], registry=registry)
    since = Gauge("imsr_seconds_since_promotion", "since the pointer moved last", ["line"], registry=registry)
    rejected = Gauge("imsr_versions_rejected", "versions that the gate rejected", ["line"], registry=registry)
    for line in Line:
        rejected.labels(str(line)).set(sum(row.state == VersionState.REJECTED for row in view.versions(line)))
        if version := view.pointer(line):
            current.labels(str(line), version).set(1)
        if moves := view.promotions(line):
            moved = datetime.fromisoformat(moves[-1].at)
            since.labels(str(line)).set((now - moved).total_seconds())


def _scores(registry: CollectorRegistry, view: Snapshot) -> None:
    """The scores of the newest span that the live chain was tested on."""
    names = ["metric", "slice", "span"]
    score = Gauge("imsr_score", "of the version before the newest tested span, on that span", names, registry=registry)
    known = {row.version_id for row in view.versions() if row.line != Line.USERS}
    rows = [row for row in view.metrics() if row.version_id in known]
    spans = {span.span_id: span.start_us for span in view.spans()}
    newest = max((spans[row.span_id] for row in rows if row.span_id in spans), default=None)
    for row in rows:
        if newest is not None and spans.get(row.span_id) == newest:
            score.labels(row.metric, row.slice, row.span_id).set(row.value)
