"""Which version is live: every move of the pointer, by a night or by hand, and what it means for the spans.

One transaction moves the pointer, appends to the log of promotions, and sets the states of spans:

- a night's candidate goes live if its verdict allows; else it is kept as ``rejected``, its spans are marked rejected
  with the reason, and the next span is learnt from the version that is still live;
- ``promote`` and ``rollback`` put any version live by hand. Spans that this version has not learnt are marked
  rejected, so that the next night goes on from it with the next span and does not learn them again; promoting a
  version that has learnt them puts them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pipelines.interests.gate import Verdict, require_serving
from pipelines.interests.version import LINE, Version
from pipelines.sequences.chain import latest_rows
from pipelines.versions.ancestry import BESIDE, VERDICT, chain_of_versions, learnt_spans
from pipelines.versions.lineage import VersionError
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.ledger import PromotionRow, Snapshot, SpanState, Transaction, VersionRow
from pipelines.workspace.writer import Writer

#: States of a span that a version can have learnt without being live.
_SET_BACK = frozenset({SpanState.REJECTED, SpanState.TRAINED, SpanState.EVALUATED})


def admit(writer: Writer, spans: Sequence[str], version: VersionRow, verdict: Verdict) -> VersionRow:
    """Let the candidate that learnt ``spans`` go live, or record that it was rejected; its row as it is then."""
    judged = replace(
        version,
        state="published" if verdict.passed else "rejected",
        summary=version.summary | {VERDICT: verdict.to_json()},
    )
    with writer.transaction() as tx:
        tx.put_version(judged)
        if verdict.passed and tx.pointer(LINE) != version.version_id:
            tx.promote(LINE, version.version_id, f"learnt span {version.span_id}", at=writer.now)
        state = SpanState.PUBLISHED if verdict.passed else SpanState.REJECTED
        error = None if verdict.passed else "; ".join(verdict.reasons)
        for span_id in spans:
            tx.set_span_state(span_id, state, at=writer.now, error=error)
        hit(FailPoint.PROMOTE_BEFORE_COMMIT if verdict.passed else FailPoint.REJECT_BEFORE_COMMIT)
    hit(FailPoint.PROMOTE_AFTER_COMMIT)
    return judged


def promote(writer: Writer, version_id: str, reason: str, *, verdict: Verdict | None = None) -> PromotionRow | None:
    """Put a version live by hand, whatever the gate said of it; None if it is live already.

    ``verdict`` is kept with the version if it is given.

    Raises:
        VersionError: there is no such version.
        GateError: it is damaged, or does not answer.
    """
    version = Version.open(writer.workspace, version_id)
    require_serving(version)
    with writer.transaction() as tx:
        move = _move(tx, version, reason, "promoted", writer.now, verdict)
        hit(FailPoint.PROMOTE_BEFORE_COMMIT)
    hit(FailPoint.PROMOTE_AFTER_COMMIT)
    return move


def rollback(writer: Writer, *, to: str | None = None, reason: str = "") -> PromotionRow | None:
    """Put an earlier version live: the one that the current one was learnt from, or ``to``; None if it is live.

    Raises:
        VersionError: there is nothing earlier, or ``to`` was never live.
        GateError: the version is damaged, or does not answer.
    """
    with writer.workspace.ledger.snapshot() as view:
        target = to or _before(view)
        if to is not None and to not in {row.version_id for row in view.promotions(LINE)}:
            raise VersionError(f"version {to!r} was never live", hint=f"put it live with: imsr promote {to}")
    version = Version.open(writer.workspace, target)
    require_serving(version)
    with writer.transaction() as tx:
        move = _move(tx, version, reason or f"rolled back to {target}", "rolled back", writer.now)
        hit(FailPoint.ROLLBACK_BEFORE_COMMIT)
    hit(FailPoint.ROLLBACK_AFTER_COMMIT)
    return move


def _before(view: Snapshot) -> str:
    """The version to go back to: the parent, or for a model that started over the head that it replaced."""
    current = view.version(view.pointer(LINE) or "")
    if current is None:
        raise VersionError("there is no current version yet", hint="train one with: imsr run")
    target = current.parent or current.summary.get(BESIDE)
    if target is None:
        raise VersionError(
            f"version {current.version_id} is the first of its chain: there is nothing to roll back to",
            hint="put another one live with: imsr promote VERSION",
        )
    return str(target)


def _move(
    tx: Transaction,
    version: Version,
    reason: str,
    what: str,
    now: datetime,
    verdict: Verdict | None = None,
) -> PromotionRow | None:
    row = version.row
    if tx.pointer(LINE) == row.version_id:
        return None
    move = tx.promote(LINE, row.version_id, reason, at=now)
    summary = row.summary | ({VERDICT: verdict.to_json()} if verdict else {})
    tx.put_version(replace(row, state="published", summary=summary))
    learnt, in_force = learnt_spans(chain_of_versions(tx, row.version_id)), latest_rows(tx)
    for span in tx.spans():
        span_id = span.span_id
        if span_id not in learnt:
            if span.state == SpanState.PUBLISHED:
                error = f"{what}: version {row.version_id} has not learnt it"
                tx.set_span_state(span_id, SpanState.REJECTED, at=now, error=error)
        elif span_id in in_force and in_force[span_id].path not in version.lineage.vocabulary:
            error = f"version {row.version_id} has learnt other data of it"
            tx.set_span_state(span_id, SpanState.STALE, at=now, error=error)
        elif span.state in _SET_BACK:
            tx.set_span_state(span_id, SpanState.PUBLISHED, at=now)
    return move
