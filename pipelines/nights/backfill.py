"""Backfill: learn a range of spans in the order of the chain, and say honestly how long it will take.

    missing   spans whose data, as they are now, were never learnt
    failed    these, and the spans that failed
    all       everything in the range, from its first span on (a restatement of it)

A backfill that was interrupted goes on where it was when the same command is given again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipelines.lake.frozen import frozen_calendar
from pipelines.nights.plan import PlanError, PlannedRun, due_of
from pipelines.nights.restate import Restatement, record_stale, require_beginning, restatement_of
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, SpanRow, SpanState
from pipelines.workspace.states import LEARNT
from pipelines.workspace.writer import Writer

#: Key in the ledger's ``meta``: the range of a backfill of ``all`` that was begun and is not finished.
BEGUN = "backfill"


class Which(StrEnum):
    """Which spans of the range."""

    MISSING = "missing"
    FAILED = "failed"
    ALL = "all"


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill does.

    Attributes:
        first, last: the range that was asked for; None is open.
        runs: what is learnt, in order.
        restatement: what becomes stale first (only ``all``).
        beyond: spans after the range that are due, or become due by this.
        resumed: an interrupted backfill of ``all`` over this range goes on.
    """

    first: str | None
    last: str | None
    runs: tuple[PlannedRun, ...]
    restatement: Restatement | None
    beyond: tuple[str, ...]
    resumed: bool

    @property
    def mark(self) -> str:
        """The range as ``BEGUN`` stores it."""
        return json.dumps([self.first, self.last])


def plan_backfill(
    workspace: Workspace, *, first: str | None, last: str | None, which: Which, now: datetime
) -> BackfillPlan:
    """What is to be learnt between two spans, both included. Reads only.

    Raises:
        PlanError: the range is empty, or it builds on spans that are not learnt and not in it; they are listed.
        SpanError: ``first`` or ``last`` is no span of the calendar.
    """
    pretrain = workspace.settings.spans.pretrain
    with workspace.ledger.snapshot() as view:
        spans = view.spans()
        low, high = _bounds(view, first, last)
        due = due_of(spans, pretrain=pretrain, now=now)
        restatement, resumed = None, False
        if which is Which.ALL:
            resumed = view.meta(BEGUN) == json.dumps([first, last])
            begin = next((s for s in spans if low <= s.start_us <= high and s.state in LEARNT), None)
            if begin is not None and not resumed:
                restatement = restatement_of(view, begin.span_id, pretrain=pretrain, now=now)
                require_beginning(view, restatement)
                due = list(restatement.runs)
    chosen = _within(due, spans, low, high)
    position = due.index(chosen[0]) if chosen else len(due)
    if chosen and position:
        raise _out_of_order(f"the range begins with {chosen[0].span_id}", due[:position])
    if which is Which.MISSING:
        _refuse_failed(chosen, spans)
    beyond = tuple(run.span_id for run in due[position + len(chosen) :])
    return BackfillPlan(first, last, tuple(chosen), restatement, beyond, resumed)


def begin(writer: Writer, plan: BackfillPlan) -> None:
    """Mark what the plan restates, together with a note that the backfill has begun."""
    if plan.restatement is None:
        return
    with writer.transaction() as tx:
        record_stale(tx, plan.restatement, now=writer.now)
        tx.put_meta(BEGUN, plan.mark)


def finish(writer: Writer, plan: BackfillPlan) -> None:
    """Delete the note that the backfill has begun, unless another range has begun since."""
    with writer.transaction() as tx:
        if tx.meta(BEGUN) == plan.mark:
            tx.put_meta(BEGUN, "")


def _bounds(view: Snapshot, first: str | None, last: str | None) -> tuple[int, int]:
    """The range in microseconds of the spans' starts."""
    calendar = frozen_calendar(view)
    if calendar is None:
        raise PlanError("there are no events yet", hint="run: imsr ingest FILES")
    low = calendar.span(first).start_us if first else -(2**62)
    high = calendar.span(last).start_us if last else 2**62
    if low > high:
        raise PlanError(f"{first} is after {last}", hint="give the earlier span with --from")
    return low, high


def _within(runs: list[PlannedRun], spans: list[SpanRow], low: int, high: int) -> list[PlannedRun]:
    starts = {span.span_id: span.start_us for span in spans}
    return [run for run in runs if any(low <= starts[span_id] <= high for span_id in run.spans)]


def _refuse_failed(runs: list[PlannedRun], spans: list[SpanRow]) -> None:
    failed = {span.span_id: span.error for span in spans if span.state is SpanState.FAILED}
    bad = [run for run in runs if failed.keys() & set(run.spans)]
    if bad:
        raise PlanError(
            f"failed before, and later spans build on it: {', '.join(run.span_id for run in bad)} "
            f"({failed[bad[0].span_id]})",
            hint="try them again with: imsr backfill --which failed",
        )


def _out_of_order(what: str, before: list[PlannedRun]) -> PlanError:
    names = ", ".join(run.span_id for run in before)
    return PlanError(
        f"{what}, but these must be learnt before: {names}",
        hint=f"begin with them: imsr backfill --from {before[0].spans[0]}",
    )
