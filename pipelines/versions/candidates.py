"""Versions that were made and not judged yet."""

from __future__ import annotations

from pipelines.versions.line import Line
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, VersionRow
from pipelines.workspace.seal import is_ready
from pipelines.workspace.states import GONE

#: Key in a version's summary: when its span was restated. It is still there to read, but is not taken for the new one.
SET_ASIDE = "restated_at"


def existing_candidate(view: Snapshot, workspace: Workspace, fingerprint: str) -> VersionRow | None:
    """A version of this fingerprint that is complete on disk, so that nothing needs to be trained again."""
    for row in view.versions(Line.INTERESTS):
        usable = row.state not in GONE and SET_ASIDE not in row.summary
        if row.fingerprint == fingerprint and usable and is_ready(workspace.resolve(row.path)):
            return row
    return None
