"""The walk from a version to those that it was learnt from."""

from __future__ import annotations

from pipelines.versions.line import Line
from pipelines.workspace.ledger import Snapshot, VersionRow

#: Key in a version's summary: the verdict of the gate.
VERDICT = "verdict"


#: Key in a shadow's summary: the head of the chain beside which it was made.
BESIDE = "beside"


SHADOW = "shadow"


def chain_of_versions(view: Snapshot, version_id: str | None) -> list[VersionRow]:
    """A version and those that it was learnt from, newest first."""
    known = {row.version_id: row for row in view.versions(Line.INTERESTS)}
    row, chain = known.get(version_id or ""), []
    while row is not None:
        chain.append(row)
        row = known.get(row.parent or "")
    return chain


def learnt_spans(chain: list[VersionRow]) -> set[str]:
    """The spans that a chain of versions has learnt."""
    return {span_id for row in chain for span_id in row.summary.get("spans", [row.span_id])}


def newest_shadow(view: Snapshot, head: VersionRow) -> VersionRow | None:
    """The newest shadow that was made beside a version of ``head``'s chain."""
    chain = {row.version_id for row in chain_of_versions(view, head.version_id)}
    shadows = [row for row in view.versions(Line.INTERESTS) if row.state == SHADOW and row.summary["beside"] in chain]
    return shadows[-1] if shadows else None
