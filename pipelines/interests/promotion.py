"""Which version of the `interests` line is live, and what a move of its pointer means for the spans.

- A candidate goes live if its verdict allows. While spans of the past are learnt again it waits. Else it is kept
  as ``rejected``, its spans are marked rejected with the reason, and the next span is learnt from the version before.
- By hand any version can be put live. Spans that it has not learnt are marked rejected, so that the next night goes on
  from it with the next span and does not learn them again; promoting a version that has learnt them puts them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pipelines.interests.gate import Verdict, smoke_test
from pipelines.interests.version import Version
from pipelines.sequences.chain import latest_rows
from pipelines.versions.ancestry import chain_of_versions, learnt_spans
from pipelines.versions.line import Line
from pipelines.versions.pointer import Pointer, record_verdict
from pipelines.versions.rebuilding import caught_up, give_up, hold_back, is_behind
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanState, Transaction, VersionRow
from pipelines.workspace.states import NOT_LIVE
from pipelines.workspace.writer import Writer


class InterestsPointer(Pointer[Version]):
    """The live version of the `interests` line."""

    line = Line.INTERESTS

    def open(self, workspace: Workspace, version_id: str) -> Version:
        """See `Pointer.open`."""
        return Version.open(workspace, version_id)

    def smoke_test(self, version: Version) -> str | None:
        """See `pipelines.interests.gate.smoke_test`."""
        return smoke_test(version)

    def settle(self, tx: Transaction, version: Version, before: str | None, what: str, at: datetime) -> None:
        """Mark each span by whether ``version`` has learnt it, and by the data that it learnt."""
        row = version.row
        give_up(tx)
        learnt, in_force = learnt_spans(chain_of_versions(tx, row.version_id)), latest_rows(tx)
        for span in tx.spans():
            span_id = span.span_id
            if span_id not in learnt:
                if span.state == SpanState.PUBLISHED:
                    error = f"{what}: version {row.version_id} has not learnt it"
                    tx.set_span_state(span_id, SpanState.REJECTED, at=at, error=error)
            elif span_id in in_force and in_force[span_id].path not in version.lineage.vocabulary:
                error = f"version {row.version_id} has learnt other data of it"
                tx.set_span_state(span_id, SpanState.STALE, at=at, error=error)
            elif span.state in NOT_LIVE:
                tx.set_span_state(span_id, SpanState.PUBLISHED, at=at)


POINTER = InterestsPointer()
promote, rollback = POINTER.promote, POINTER.roll_back


def admit(writer: Writer, spans: Sequence[str], version: VersionRow, verdict: Verdict) -> VersionRow:
    """Let the candidate that learnt ``spans`` go live, or wait, or record that it was rejected; its row as it is then.

    It waits if it is behind the version that is live: then spans of the past are learnt again (see `rebuilding`).
    """
    with writer.transaction() as tx:
        at = writer.now
        if verdict.passed and is_behind(tx, version):
            judged = hold_back(tx, version.noting(verdict=verdict.to_json()))
        else:
            judged = record_verdict(tx, version, verdict.to_json(), f"learnt span {version.span_id}", at=at)
            if verdict.passed:
                caught_up(tx)
        state = SpanState.PUBLISHED if verdict.passed else SpanState.REJECTED
        error = None if verdict.passed else "; ".join(verdict.reasons)
        for span_id in spans:
            tx.set_span_state(span_id, state, at=at, error=error)
        hit(FailPoint.PROMOTE_BEFORE_COMMIT if verdict.passed else FailPoint.REJECT_BEFORE_COMMIT)
    hit(FailPoint.PROMOTE_AFTER_COMMIT)
    return judged
