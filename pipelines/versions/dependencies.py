"""What a version needs besides its own folder, whichever line it is of; read from its own files."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imsr_core.errors import CheckpointError, ImsrError
from pipelines.lake.lost import lost_data
from pipelines.sequences.chain import chain_of, parent_folder
from pipelines.versions.lineage import Lineage
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.states import GONE

#: Of the `users` line: the tasks and the data that each is measured on (see `user_versions`).
TASKS_FILE = "tasks.json"


@dataclass(frozen=True)
class Reads:
    """Paths of sequences, and ids of other versions that are read; of ``models`` among them the checkpoints, too."""

    sequences: tuple[str, ...]
    versions: tuple[str, ...]
    models: tuple[str, ...] = ()


def read_by(workspace: Workspace, folder: Path) -> Reads:
    """What the version in ``folder`` reads.

    Raises:
        CheckpointError, SequenceChainError: its files, or a chain of sequences that it names, are damaged.
    """
    lineage = Lineage.read(folder)
    sequences = list(lineage.vocabulary)
    for span_id, fingerprint in _task_data(folder):
        sequences += [workspace.relative(link.folder) for link in chain_of(workspace, span_id, fingerprint)]
    models = tuple(name for name in lineage.model_versions if name != lineage.version_id)
    others = (name for name in dict.fromkeys((*lineage.interest_versions, *models)) if name != lineage.version_id)
    return Reads(tuple(dict.fromkeys(sequences)), tuple(others), models)


def needed_folders(workspace: Workspace, view: Snapshot) -> set[Path]:
    """Folders that something in the ledger needs, whether it names them or not; nobody may remove them.

    Data in force, sequences that others continue, what versions take ids or interests from, and versions that were
    live or learnt from. If the ledger does not name one of them, its row was lost, and the folder may be all there is.
    Damaged folders say nothing here.
    """
    needed = {*lost_data(workspace, view), *_lost_versions(workspace, view)}
    for row in view.sequences():
        with suppress(ImsrError):
            needed |= {parent_folder(workspace, workspace.resolve(row.path)) or workspace.root}
    for version in view.versions():
        with suppress(ImsrError):
            if version.state not in GONE:
                reads = read_by(workspace, workspace.resolve(version.path))
                needed |= {workspace.resolve(path) for path in reads.sequences}
                needed |= {workspace.version_folder(name) for name in reads.versions}
    return needed


def _lost_versions(workspace: Workspace, view: Snapshot) -> set[Path]:
    rows = {row.version_id: row for row in view.versions()}
    named = {row.parent for row in rows.values()} | {move.version_id for move in view.promotions()}
    return {workspace.version_folder(name) for name in named if name and name not in rows}


def _task_data(folder: Path) -> list[tuple[str, str]]:
    path = folder / TASKS_FILE
    if not path.exists():
        return []
    try:
        return [(task["span_id"], task["sequences"]) for task in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable list of tasks: {error}", hint="run: imsr doctor") from error
