"""What lies in a workspace and belongs to nobody: folders that the ledger does not name, and unfinished files."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.versions.dependencies import needed_folders
from pipelines.workspace.editions import plain, stored_files
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.parquet_files import TEMPORARY_SUFFIX
from pipelines.workspace.publish import clear_staging, discard_orphan
from pipelines.workspace.writer import Writer

#: Where published folders and files lie, as patterns below the workspace.
PUBLISHED = ("lake/span=*/v=*", "quarantine/*", "sequences/span=*/*", "versions/*")
#: Where files are written aside and renamed; what is left of them is rubbish.
WRITTEN_ASIDE = ("", "recommendations/", "explanations/", "matrix/", "metadata/", "labels/", "reports/")
UNFINISHED = tuple(f"{folder}*{TEMPORARY_SUFFIX}" for folder in WRITTEN_ASIDE)
#: What was written of a version for SQL, by the command that writes it again.
LISTS = {
    "recommendations": "imsr recommend --all --version {}",
    "explanations": "imsr explain --all --version {}",
    "matrix": "imsr report {}",
}


def orphans(workspace: Workspace, view: Snapshot) -> list[Path]:
    """Published folders and files that the ledger does not name, and unfinished ones; staging apart.

    What is still in use is not among them: the row was lost from the ledger then, and the folder may be all there is.
    """
    named, needed = view.paths(), needed_folders(workspace, view)
    found = [path for pattern in PUBLISHED for path in sorted(workspace.root.glob(pattern))]
    unnamed = [path for path in found if workspace.relative(path) not in named and path not in needed]
    aside = [path for pattern in UNFINISHED for path in sorted(workspace.root.glob(pattern))]
    # a folder is none of ours: DuckDB's sessions spill to catalog.duckdb.tmp, and clear what a dead one left there
    unfinished = [path for path in aside if path.is_file()]
    return [*unnamed, *unfinished]


def remove_orphans(writer: Writer) -> int:
    """Remove all of them, and everything in ``staging/``; returns how many there were. Only for the lease's holder."""
    workspace = writer.workspace
    clear_staging(workspace)
    with workspace.ledger.snapshot() as view:
        found = orphans(workspace, view)
    for path in found:  # one transaction each: a long one would keep others from saying that they are alive
        with writer.transaction() as tx:
            discard_orphan(workspace, path, tx)
        hit(FailPoint.PRUNE_REMOVED_ONE)
    for folder in (*workspace.root.glob("lake/span=*"), *workspace.root.glob("sequences/span=*")):
        if not any(folder.iterdir()):
            folder.rmdir()
    return len(found)


def version_of_list(path: Path) -> str:
    """The version whose lists (``LISTS``) a file holds."""
    return re.sub(r"(~[a-z0-9_]+)?\.parquet$", "", plain(path).name)


def lists_of_versions(workspace: Workspace) -> list[Path]:
    """All files of ``LISTS``."""
    return [path for folder in LISTS for path in stored_files(workspace.root / folder, "*.parquet")]
