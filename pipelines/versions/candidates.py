"""From a finished model to a row in the ledger: found if it was made before, else staged, sealed and committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.versions.dependencies import needed_folders
from pipelines.versions.line import Line
from pipelines.versions.lineage import Lineage
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, Transaction, VersionRow, iso
from pipelines.workspace.publish import discard_orphan, move_into_place, staging_folder
from pipelines.workspace.seal import is_ready, seal
from pipelines.workspace.states import GONE, VersionState
from pipelines.workspace.writer import Writer


@dataclass(frozen=True)
class Making:
    """Where making a version of a line can be made to fail."""

    staged: FailPoint
    before_commit: FailPoint
    after_commit: FailPoint


def find_version(view: Snapshot, workspace: Workspace, line: Line, fingerprint: str) -> VersionRow | None:
    """A version of this fingerprint that is complete on disk, so that nothing needs to be learnt again."""
    for row in view.versions(line):
        usable = row.fingerprint == fingerprint and row.state not in GONE and not row.is_set_aside
        if usable and is_ready(workspace.resolve(row.path)):
            return row
    return None


def new_row(
    workspace: Workspace, line: Line, lineage: Lineage, state: VersionState, *, at: datetime, summary: dict[str, Any]
) -> VersionRow:
    """The row of a version that is about to be published."""
    return VersionRow(
        version_id=lineage.version_id,
        line=line,
        span_id=lineage.span_id,
        parent=lineage.parent,
        state=state,
        path=workspace.relative(workspace.version_folder(lineage.version_id)),
        fingerprint=lineage.fingerprint,
        strategy=lineage.strategy,
        created_at=iso(at),
        summary=summary,
    )


def publish_version(
    writer: Writer,
    row: VersionRow,
    write: Callable[[Path], None],
    making: Making,
    *,
    also: Callable[[Transaction], None] = lambda tx: None,
) -> None:
    """Write a version's folder aside, seal it, and give it its name together with its row.

    Args:
        writer: the right to write.
        row: the version's row.
        write: writes all files but READY into the folder that it is given.
        making: the fail points.
        also: what else the ledger has to say, in the same transaction.

    Raises:
        PublishError: a version of this id is in use, though the ledger lost its row.
    """
    workspace = writer.workspace
    with staging_folder(workspace, f"version-{row.version_id}") as staging:
        write(staging)
        seal(staging)
        hit(making.staged)
        with writer.transaction() as tx:
            final = workspace.version_folder(row.version_id)
            if (
                final.exists() or final.is_symlink()
            ):  # what is needed is asked of every version: not where nothing is in the way
                discard_orphan(workspace, final, tx, needed=needed_folders(workspace, tx))
            move_into_place(staging, final)
            hit(making.before_commit)
            tx.add_version(row)
            also(tx)
    hit(making.after_commit)
