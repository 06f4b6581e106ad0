"""What a version needs besides its own folder, whichever line it is of; read from its own files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from imsr_core.errors import CheckpointError
from pipelines.sequences.chain import chain_of
from pipelines.versions.lineage import Lineage
from pipelines.workspace.layout import Workspace

#: Of the `users` line: the tasks and the data that each is measured on (see `user_versions`).
TASKS_FILE = "tasks.json"


@dataclass(frozen=True)
class Reads:
    """Paths of sequences, and ids of other versions whose interests are read."""

    sequences: tuple[str, ...]
    versions: tuple[str, ...]


def read_by(workspace: Workspace, folder: Path) -> Reads:
    """What the version in ``folder`` reads.

    Raises:
        CheckpointError, SequenceChainError: its files, or a chain of sequences that it names, are damaged.
    """
    lineage = Lineage.read(folder)
    versions = [path.split("/")[1] for path in lineage.interests]
    sequences = list(lineage.vocabulary)
    for span_id, fingerprint in _task_data(folder):
        sequences += [workspace.relative(link.folder) for link in chain_of(workspace, span_id, fingerprint)]
    others = tuple(name for name in dict.fromkeys(versions) if name != lineage.version_id)
    return Reads(tuple(dict.fromkeys(sequences)), others)


def _task_data(folder: Path) -> list[tuple[str, str]]:
    path = folder / TASKS_FILE
    if not path.exists():
        return []
    try:
        return [(task["span_id"], task["sequences"]) for task in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: not a readable list of tasks: {error}", hint="run: imsr doctor") from error
