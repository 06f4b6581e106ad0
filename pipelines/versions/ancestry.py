"""The walk from a version to those that it was learnt from."""

from __future__ import annotations

from pipelines.versions.line import Line
from pipelines.workspace.ledger import Snapshot, VersionRow
from pipelines.workspace.states import VersionState


def chain_of_versions(view: Snapshot, version_id: str | None, *, replaced: bool = False) -> list[VersionRow]:
    """A version and those that it was learnt from, newest first, as far as the ledger has them; of either line.

    With ``replaced`` the chain goes on, before a version that started over, with the one that it replaced.
    """
    known = {row.version_id: row for row in view.versions()}
    row, chain = known.pop(version_id or "", None), []
    while row is not None:
        chain.append(row)
        row = known.pop(row.parent or (row.shadow_of if replaced else None) or "", None)
    return chain


def lost_ancestor(view: Snapshot, version_id: str | None) -> str | None:
    """The version at which the walk ends because the ledger does not have it; None if it ends at a first version."""
    chain = chain_of_versions(view, version_id)
    return chain[-1].parent if chain else version_id


def learnt_spans(chain: list[VersionRow]) -> set[str]:
    """The spans that a chain of versions has learnt."""
    return {span_id for row in chain for span_id in row.spans}


def newest_shadow(view: Snapshot, head: VersionRow) -> VersionRow | None:
    """The newest shadow that was made beside a version of ``head``'s chain."""
    chain = {row.version_id for row in chain_of_versions(view, head.version_id)}
    shadows = [
        row for row in view.versions(Line.INTERESTS) if row.state is VersionState.SHADOW and row.shadow_of in chain
    ]
    return shadows[-1] if shadows else None
