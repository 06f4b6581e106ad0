"""What is due: the difference between the calendar and the ledger, never "now minus n".

A span is **closed** when its end has passed. A closed span is **due** when the ledger does not say that its data, as
they are now, were learnt. The first ``pretrain`` spans train the base model together. Spans are a chain: each is
learnt from the model of the one before, so they run in order, and a gap is filled before anything later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from pipelines.lake.frozen import check_frozen, frozen_calendar
from pipelines.lake.spans import Span, from_us, to_us
from pipelines.versions.ancestry import chain_of_versions
from pipelines.versions.line import Line
from pipelines.versions.rebuilding import head_of_learning
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, SpanRow, SpanState, VersionRow
from pipelines.workspace.states import DONE, GONE, INTERRUPTED


class PlanError(ImsrError):
    """What was asked for cannot run: the span is unknown, not closed, or others must come first."""


@dataclass(frozen=True)
class PlannedRun:
    """One version to make: the spans that it learns (several only for the base model), and why it is due."""

    spans: tuple[str, ...]
    base: bool
    reason: str

    @property
    def span_id(self) -> str:
        """The last span; the version is named after it."""
        return self.spans[-1]

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        return f"pre-training {self._stretch}" if self.base else f"span {self.span_id}"

    @property
    def _stretch(self) -> str:
        return " .. ".join(dict.fromkeys((self.spans[0], self.spans[-1])))

    def __str__(self) -> str:
        what = f"pre-train on {self._stretch}" if self.base else f"update with {self.span_id}"
        return f"{what}: {self.reason}"


def due(workspace: Workspace, *, now: datetime) -> list[PlannedRun]:
    """The runs that are due, in order. Empty if there is nothing to do."""
    with workspace.ledger.snapshot() as view:
        check_frozen(view, workspace.settings)  # a unit that was changed would be ignored without a word
        spans = view.spans()
    return due_of(spans, pretrain=workspace.settings.spans.pretrain, now=now)


def nothing_due(workspace: Workspace, *, now: datetime) -> str:
    """What to say where nothing is due: all is learnt, or the base model still lacks spans."""
    lacking = spans_lacking(workspace, now=now)
    return f"nothing is due yet: {lacking}" if lacking else "nothing is due"


def spans_lacking(workspace: Workspace, *, now: datetime) -> str:
    """Why no base model can be learnt yet from the spans that have data; empty if one can, or there are none."""
    pretrain = workspace.settings.spans.pretrain
    with workspace.ledger.snapshot() as view:
        there = [span for span in view.spans() if span.data_version is not None]
    over = sum(span.end_us <= to_us(now) for span in there)
    if not there or over >= pretrain:
        return ""
    running = f", and {len(there) - over} more not over yet" if len(there) > over else ""
    return (
        f"the base model is learnt from {counted(pretrain, 'span')} ([spans] pretrain), of which {over} with data "
        f"{'is' if over == 1 else 'are'} there{running}; ingest more, or lower it"
    )


def due_of(spans: list[SpanRow], *, pretrain: int, now: datetime) -> list[PlannedRun]:
    """The runs that are due, in order, given the ledger's spans in order of time. Reads nothing else."""
    closed = [span for span in spans if span.end_us <= to_us(now) and span.data_version is not None]
    base, rest = closed[:pretrain], closed[pretrain:]
    if len(base) < pretrain:
        return []
    runs = []
    if any(span.state not in DONE for span in base):
        runs.append(PlannedRun(tuple(span.span_id for span in base), True, _reason(base)))
    for span in rest:
        if runs or span.state not in DONE:
            reason = _reason([span]) if span.state not in DONE else "the model that it was learnt from changes"
            runs.append(PlannedRun((span.span_id,), False, reason))
    return runs


def missing_nights(view: Snapshot, *, now: datetime) -> list[Span]:
    """Closed spans of the calendar, after the first with data, for which nothing was ever ingested; by time.

    They block nothing: the next span is learnt from the last one that has data.
    """
    calendar = frozen_calendar(view)
    spans = [span for span in view.spans() if span.data_version is not None]
    if calendar is None or not spans:
        return []
    known = {span.span_id for span in spans}
    until = max(to_us(now), spans[-1].end_us)
    closed = calendar.spans_between(from_us(spans[0].start_us), from_us(until))
    return [span for span in closed if span.id not in known and span.end_us <= until]


def stretches_of(spans: Sequence[Span]) -> list[list[Span]]:
    """The spans, which are in the order of time, in parts of which each is without a gap."""
    parts: list[list[Span]] = []
    for span in spans:
        if parts and parts[-1][-1].end_us == span.start_us:
            parts[-1].append(span)
        else:
            parts.append([span])
    return parts


def run_for(workspace: Workspace, span_id: str, *, now: datetime) -> PlannedRun | None:
    """The run that learns one span; None if it is done already.

    Raises:
        PlanError: the span is unknown, has no data, is not closed, or earlier spans must run first.
    """
    with workspace.ledger.snapshot() as view:
        spans = view.spans()
    pretrain = workspace.settings.spans.pretrain
    _require_learnable(spans, span_id, pretrain=pretrain, now=now)
    runs = due_of(spans, pretrain=pretrain, now=now)
    wanted = next((n for n, run in enumerate(runs) if span_id in run.spans), None)
    if wanted is None:
        return None
    if wanted > 0:
        before = ", ".join(run.span_id for run in runs[:wanted])
        raise PlanError(f"span {span_id} builds on spans that are not learnt: {before}", hint="run: imsr run")
    return runs[0]


def _require_learnable(spans: list[SpanRow], span_id: str, *, pretrain: int, now: datetime) -> None:
    """Raise PlanError unless a span has data and is closed, and with it what it is learnt together with."""
    with_data = [span for span in spans if span.data_version is not None]
    position = next((n for n, span in enumerate(with_data) if span.span_id == span_id), None)
    if position is None:
        known = f"{spans[0].span_id} .. {spans[-1].span_id}" if spans else "none yet"
        raise PlanError(f"span {span_id!r} has no data", hint=f"spans in the ledger: {known}; run: imsr ingest FILES")
    together = with_data[: max(position + 1, pretrain)]
    if len(together) >= pretrain and together[-1].end_us <= to_us(now):
        return
    raise PlanError(
        f"span {span_id} cannot be learnt yet: pre-training needs {counted(pretrain, 'closed span')}"
        if position < pretrain
        else f"span {span_id} is not over yet",
        hint="only closed spans train; see `imsr status`",
    )


def parent_of(view: Snapshot, run: PlannedRun) -> VersionRow | None:
    """The version that a run starts from: the head of learning, or its newest ancestor from before the span that has
    learnt nothing of a span that was emptied since. Before a version that started over comes the one that it replaced.

    Raises:
        PlanError: there is none, though the run is not the base; or it is no longer kept.
    """
    row = kept_before(view, run)
    if row is None and not run.base:
        raise PlanError(
            f"span {run.span_id} has no version to start from",
            hint="if the gate rejected the first one, put it live with: imsr promote VERSION",
        )
    return row


def kept_before(view: Snapshot, run: PlannedRun) -> VersionRow | None:
    """The version that `parent_of` a run is; None if there is none. Raises PlanError if it is no longer kept."""
    before = _chain_before(view, run)
    row = before[0] if before else None
    if row is not None and row.state in GONE:
        raise PlanError(
            f"span {run.span_id} starts from version {row.version_id}, which is no longer kept: {row.removed}",
            hint=f"begin with the last span that can be learnt again: imsr restate {_can_be_learnt_again(before)}",
        )
    return row


def last_beginning(view: Snapshot, run: PlannedRun) -> str:
    """The span of a run, or where the version that it starts from was pruned, the last one that can be learnt again."""
    before = _chain_before(view, run)
    return _can_be_learnt_again(before) if before and before[0].state in GONE else run.span_id


def _chain_before(view: Snapshot, run: PlannedRun) -> list[VersionRow]:
    """The versions that a run can start from, the newest first; none for the base."""
    if run.base:
        return []
    starts = {span.span_id: span.start_us for span in view.spans()}
    chain = chain_of_versions(view, head_of_learning(view), replaced=True)
    return [row for row in without_emptied(view, chain) if starts[row.span_id] < starts[run.span_id]]


def without_emptied(view: Snapshot, chain: list[VersionRow]) -> list[VersionRow]:
    """The versions of a chain, newest first, that have learnt no span whose events were all withdrawn since."""
    emptied = {span.span_id for span in view.spans() if span.data_version is None}
    kept, touched = [], False
    for row in reversed(chain):
        touched = not emptied.isdisjoint(row.spans) or (touched and row.parent is not None)
        kept += [] if touched else [row]
    return kept[::-1]


def learnt_from_emptied(view: Snapshot) -> str:
    """What to say where the version that is live has learnt a span that was emptied since; else ""."""
    chain = chain_of_versions(view, view.pointer(Line.INTERESTS))
    if not chain or without_emptied(view, chain)[:1] == chain[:1]:
        return ""
    return (
        f"{chain[0].version_id}, which is live, has learnt from what was withdrawn: the next span is learnt without; "
        "until then: imsr rollback"
    )


def _can_be_learnt_again(chain: list[VersionRow]) -> str:
    """The span of the newest version whose parent is whole; that of the first version, which needs none."""
    for version, parent in pairwise(chain):
        if parent.state not in GONE:
            return version.span_id
    return chain[-1].span_id


def _reason(spans: list[SpanRow]) -> str:
    states = {span.state for span in spans}
    if SpanState.STALE in states:
        return "its data changed"
    if SpanState.FAILED in states:
        return "it failed before"
    if states & INTERRUPTED:
        return "it was interrupted"
    return "new data"
