"""What lies in a workspace and belongs to nobody: folders that the ledger does not name, and unfinished files."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.sequences.chain import parent_folder
from pipelines.versions.dependencies import read_by
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import Lease
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.parquet_files import TEMPORARY_SUFFIX
from pipelines.workspace.publish import clear_staging, discard_orphan
from pipelines.workspace.states import GONE

#: Where published folders and files lie, as patterns below the workspace.
PUBLISHED = ("lake/span=*/v=*", "quarantine/*", "sequences/span=*/*", "versions/*")
#: Files that are written aside and renamed; what is left of them is rubbish.
UNFINISHED = tuple(f"{folder}*{TEMPORARY_SUFFIX}" for folder in ("", ".", "recommendations/", "labels/"))


def orphans(workspace: Workspace, view: Snapshot) -> list[Path]:
    """Published folders and files that the ledger does not name, and unfinished ones; staging apart.

    What is still in use is not among them: the row was lost from the ledger then, and the folder may be all there is.
    """
    named = view.paths()
    found = [path for pattern in PUBLISHED for path in sorted(workspace.root.glob(pattern))]
    used = {*lost_data(workspace, view), *_in_use(workspace, view)}
    unnamed = [path for path in found if workspace.relative(path) not in named and path not in used]
    unfinished = [path for pattern in UNFINISHED for path in sorted(workspace.root.glob(pattern))]
    return [*unnamed, *unfinished]


def lost_data(workspace: Workspace, view: Snapshot) -> dict[Path, str]:
    """Folder -> span of the data versions that are in force by their span, but have no row in the ledger."""
    known = {(row.span_id, row.data_version) for row in view.span_versions()}
    spans = [row for row in view.spans() if row.data_version and (row.span_id, row.data_version) not in known]
    return {workspace.span_folder(row.span_id, row.data_version or 0): row.span_id for row in spans}


def _in_use(workspace: Workspace, view: Snapshot) -> set[Path]:
    """Folders that sequences continue, or that versions take ids or interests from. Damaged ones say nothing here."""
    used: set[Path] = set()
    for row in view.sequences():
        with suppress(ImsrError):
            used |= {parent_folder(workspace, workspace.resolve(row.path)) or workspace.root}
    for version in view.versions():
        with suppress(ImsrError):
            if version.state not in GONE:
                reads = read_by(workspace, workspace.resolve(version.path))
                used |= {workspace.resolve(path) for path in reads.sequences}
                used |= {workspace.version_folder(name) for name in reads.versions}
    return used


def remove_orphans(workspace: Workspace, lease: Lease) -> int:
    """Remove all of them, and everything in ``staging/``; returns how many there were. Only for the lease's holder."""
    clear_staging(workspace)
    with workspace.ledger.snapshot() as view:
        found = orphans(workspace, view)
    for path in found:
        with workspace.ledger.transaction(fence=lease.token) as tx:
            discard_orphan(workspace, path, tx)
        hit(FailPoint.PRUNE_REMOVED_ONE)
    for folder in (*workspace.root.glob("lake/span=*"), *workspace.root.glob("sequences/span=*")):
        if not any(folder.iterdir()):
            folder.rmdir()
    return len(found)


def version_of_list(path: Path) -> str:
    """The version whose lists a file in ``recommendations/`` holds."""
    return re.sub(r"\.parquet$", "", path.name)
