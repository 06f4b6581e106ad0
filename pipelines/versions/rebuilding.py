"""A chain that is learnt again is built aside: the version that is live stays until the new chain has caught up.

Spans that are learnt again lie in the past. If each new version went live as it is made, readers would get a model of
last spring until the chain has reached tonight. So the head of the new chain is only noted in the ledger, and the next
span is learnt from it; its versions are ``waiting``. The pointer moves once, to the first version that has learnt the
span of the live one, or a later span.
"""

from __future__ import annotations

from dataclasses import replace

from pipelines.versions.ancestry import chain_of_versions, learnt_spans
from pipelines.versions.line import Line
from pipelines.workspace.ledger import Snapshot, SpanRow, Transaction, VersionRow
from pipelines.workspace.states import VersionState

#: Key in the ledger's ``meta``: the newest version of the chain that is built aside.
NOTE = "rebuilding"


def chain_aside(view: Snapshot) -> list[VersionRow]:
    """The versions that are built aside, newest first; empty if nothing is."""
    chain = chain_of_versions(view, view.meta(NOTE))
    return [row for row in chain if row.state is VersionState.WAITING]


def head_of_learning(view: Snapshot) -> str | None:
    """The version that the next span is learnt from: the newest that is built aside, else the one that is live."""
    return view.meta(NOTE) or view.pointer(Line.INTERESTS)


def span_to_reach(view: Snapshot) -> SpanRow | None:
    """The newest span that the live version has learnt; one whose events were all withdrawn nobody learns again."""
    learnt = learnt_spans(chain_of_versions(view, view.pointer(Line.INTERESTS)))
    there = [span for span in view.spans() if span.span_id in learnt and span.data_version is not None]
    return max(there, key=lambda span: span.start_us, default=None)


def is_behind(view: Snapshot, row: VersionRow) -> bool:
    """Whether a version has learnt less far than the one that is live."""
    reach = span_to_reach(view)
    starts = {span.span_id: span.start_us for span in view.spans()}
    return reach is not None and starts[row.span_id] < reach.start_us


def hold_back(tx: Transaction, row: VersionRow) -> VersionRow:
    """Let a version that passed the gate wait, as the head of the chain that is built aside; its row as it is then."""
    waiting = replace(row, state=VersionState.WAITING)
    tx.put_version(waiting)
    tx.put_meta(NOTE, row.version_id)
    return waiting


def caught_up(tx: Transaction) -> None:
    """Note that the chain that was built aside is live."""
    for row in chain_aside(tx):
        tx.put_version(replace(row, state=VersionState.PUBLISHED))
    give_up(tx)


def give_up(tx: Transaction) -> None:
    """Build nothing aside any more: what is learnt next follows the version that is live."""
    tx.delete("meta", key=NOTE)
