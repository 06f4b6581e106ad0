"""Learn spans again: say which, mark them stale, and leave the rebuilding to the plan.

No span can be learnt again alone: everything that was learnt after it was built on it, and is learnt again too. What
was built before stays where it is; each span gets a new version beside its earlier ones, even if its data and settings
are what they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pipelines.nights.plan import PlanError, PlannedRun, due_of, kept_before, last_beginning
from pipelines.versions.line import Line
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, SpanRow, SpanState, Transaction, VersionRow, iso
from pipelines.workspace.states import LEARNT
from pipelines.workspace.writer import Writer


@dataclass(frozen=True)
class Restatement:
    """What a restatement does, before it is done.

    Attributes:
        asked: the span that was named.
        spans: the spans that become stale, by time; ``asked`` is the first, or one of the base model's.
        versions: the versions that learnt them; they stay, and are not reused.
        runs: all that is due then, in order of time, with what is due already.
    """

    asked: str
    spans: tuple[str, ...]
    versions: tuple[str, ...]
    runs: tuple[PlannedRun, ...]

    @property
    def widened(self) -> bool:
        """Whether spans before the one asked for are learnt again too: the base model learns its spans together."""
        return self.spans[0] != self.asked


def plan_restatement(workspace: Workspace, span_id: str, *, now: datetime) -> Restatement:
    """What ``mark_stale`` would do for a span. Reads only.

    Raises:
        PlanError: the span is unknown, or was never learnt, or what it starts from is no longer kept: all would be
            stale, and no night could begin.
    """
    with workspace.ledger.snapshot() as view:
        planned = restatement_of(view, span_id, pretrain=workspace.settings.spans.pretrain, now=now)
        require_beginning(view, planned)
    return planned


def require_beginning(view: Snapshot, planned: Restatement) -> None:
    """Raise PlanError if the first of the runs cannot begin, since a version that it starts from was pruned."""
    for run in planned.runs[:1]:
        kept_before(view, run)


def restatement_of(view: Snapshot, span_id: str, *, pretrain: int, now: datetime) -> Restatement:
    """`plan_restatement` by the ledger as ``view`` shows it, whether it can begin or not."""
    every = view.spans()
    spans = [span for span in every if span.data_version is not None]
    if span_id in {span.span_id for span in every} - {span.span_id for span in spans}:
        raise PlanError(
            f"span {span_id!r} has no events: all were withdrawn",
            hint="what was learnt after it is learnt again without it by: imsr run",
        )
    position = next((n for n, span in enumerate(spans) if span.span_id == span_id), None)
    if position is None or spans[position].state not in LEARNT:
        learnt = [span.span_id for span in spans if span.state in LEARNT]
        known = f"{learnt[0]} .. {learnt[-1]}" if learnt else "none"
        raise PlanError(f"span {span_id!r} was never learnt", hint=f"learnt spans: {known}; run: imsr status")
    if position < pretrain:
        position = 0
    stale = tuple(span.span_id for span in spans[position:] if span.state in LEARNT)
    runs = [
        replace(run, reason="restated") if set(stale) & set(run.spans) else run
        for run in due_of(as_stale(spans, stale), pretrain=pretrain, now=now)
    ]
    versions = tuple(row.version_id for row in _versions_of(view, stale))
    return Restatement(span_id, stale, versions, tuple(runs))


def restatement_that_begins(view: Snapshot, span_id: str, *, pretrain: int, now: datetime) -> Restatement:
    """`restatement_of` a span, or where versions were pruned, of the last one before it that can be learnt again."""
    planned = restatement_of(view, span_id, pretrain=pretrain, now=now)
    if not planned.runs or (begins := last_beginning(view, planned.runs[0])) == planned.runs[0].span_id:
        return planned
    return restatement_of(view, begins, pretrain=pretrain, now=now)


def as_stale(spans: list[SpanRow], stale: tuple[str, ...]) -> list[SpanRow]:
    """The spans with those in ``stale`` marked so; the ledger is not changed."""
    return [replace(span, state=SpanState.STALE) if span.span_id in stale else span for span in spans]


def mark_stale(writer: Writer, span_id: str) -> Restatement:
    """Mark a span and everything learnt after it stale, in one transaction; the next run rebuilds them in order.

    Raises:
        PlanError: the span is unknown, or was never learnt.
    """
    pretrain = writer.workspace.settings.spans.pretrain
    with writer.transaction() as tx:
        restatement = restatement_of(tx, span_id, pretrain=pretrain, now=writer.now)
        record_stale(tx, restatement, now=writer.now)
    return restatement


def record_stale(tx: Transaction, restatement: Restatement, *, now: datetime) -> None:
    """Write a restatement into the ledger: its spans become stale, and the versions that learnt them are set aside."""
    for span_id in restatement.spans:
        tx.set_span_state(span_id, SpanState.STALE, at=now)
    for row in _versions_of(tx, restatement.spans):
        tx.put_version(row.noting(restated_at=iso(now)))


def _versions_of(view: Snapshot, spans: tuple[str, ...]) -> list[VersionRow]:
    wanted = set(spans)
    return [row for row in view.versions(Line.INTERESTS) if wanted & {row.span_id, *row.spans}]
