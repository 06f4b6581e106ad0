"""Data that lie in the lake and are in force, though the ledger lost the row that names them."""

from __future__ import annotations

from pathlib import Path

from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot


def lost_data(workspace: Workspace, view: Snapshot) -> dict[Path, str]:
    """Folder -> span of the data versions that are in force by their span, but have no row in the ledger."""
    known = {(row.span_id, row.data_version) for row in view.span_versions()}
    spans = [row for row in view.spans() if row.data_version and (row.span_id, row.data_version) not in known]
    return {workspace.span_folder(row.span_id, row.data_version or 0): row.span_id for row in spans}
