"""Versions of the `users` line: what a version folder holds, how one is written and read.

    versions/u-<span>.<task>[.<attempt>]/
        state.safetensors, state.json    all tensors by name, and the facts that serving needs (imsr_core.lifelong)
        tasks.json                       each task's labels: where the copy is, their numbers, the data they went with
        lineage.json                     parent, data, vocabulary, configuration, packages
        READY                            size and hash of every file

A version is a pure function of its lineage's fingerprint: the same parent, labels, data, configuration and seed give
the same tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from imsr_core.checkpoint import write_tensors
from imsr_core.errors import CheckpointError
from imsr_core.lifelong.config import LifelongConfig, to_json
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.state import LifelongState, from_tensors
from imsr_core.lifelong.tasks import BASE_TASK
from pipelines.sequences.chain import ChainLink, chain_of
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.versions.line import Line
from pipelines.versions.lineage import Lineage
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow

LINE = Line.USERS
#: Raise when the same inputs would give another state.
USERS_FORMAT = 1
DAMAGED = "run `imsr doctor`, or roll back with `imsr rollback --line users`"


@dataclass(frozen=True)
class LearntTask:
    """A task as a version learnt it: which labels, by which numbers, of which data, first in which version.

    ``labels`` is the path of the copied rows, None for T1, whose labels are the items. ``sequences`` is the fingerprint
    of the last span's sequences: with ``span_id`` it names the whole chain. ``rows`` counts labels.
    """

    name: str
    kind: str
    span_id: str
    sequences: str
    version_id: str
    rows: int = 0
    labels: str | None = None
    fingerprint: str | None = None
    vocabulary: tuple[str, ...] = ()

    def chain(self, workspace: Workspace) -> list[ChainLink]:
        """The data that the task was learnt on, and is measured on for ever."""
        return chain_of(workspace, self.span_id, self.sequences)


def fingerprint_of(
    parent: str | None, task: LearntTask, method: str, config: LifelongConfig, seed: int, how: str = "learn"
) -> str:
    """What determines a version: ``parent`` is the parent's fingerprint; ``how`` is "learn" or "remove"."""
    facts, settings = asdict(task), to_json(config) | {"device": ""}
    if task.name != BASE_TASK:
        del settings["objective"]["wide_next"]  # a setting of T1 alone, younger than the tasks of earlier lines
    if task.name == BASE_TASK or method != "teracon":
        for younger in ("held_places", "least_gain"):  # than earlier lines, and nothing to these
            del settings["teracon"][younger]
    content = {
        "format": USERS_FORMAT,
        "how": how,
        "parent": parent,
        "task": {key: facts[key] for key in facts if key not in ("version_id", "labels")},
        "method": method,
        "config": settings,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class UserVersion:
    """A version of the `users` line, opened for reading."""

    workspace: Workspace
    row: VersionRow
    lineage: Lineage
    tasks: tuple[LearntTask, ...]

    @classmethod
    def open(cls, workspace: Workspace, version_id: str | None = None) -> UserVersion:
        """The version of this id, or the current one.

        Raises:
            VersionError: there is no such version, or no current one yet.
            CheckpointError: its files are damaged.
        """
        with workspace.ledger.snapshot() as view:
            row = LINE.row(view, version_id)
        folder = workspace.resolve(row.path)
        return cls(workspace, row, Lineage.read(folder), _read_tasks(folder))

    @property
    def folder(self) -> Path:
        """The version's folder."""
        return self.workspace.resolve(self.row.path)

    @property
    def method(self) -> LifelongMethod:
        """The method that made it, and serves it."""
        return get_method(self.lineage.strategy)

    @cached_property
    def state(self) -> LifelongState:
        """The tensors and facts."""
        return read_state(self.folder)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids that the version knows."""
        return Vocabulary.open([self.workspace.resolve(path) for path in self.lineage.vocabulary])

    def task(self, name: str) -> LearntTask:
        """One of its tasks.

        Raises:
            TaskError: it has no such task.
        """
        found = next((task for task in self.tasks if task.name == name), None)
        if found is None:
            names = ", ".join(task.name for task in self.tasks)
            raise TaskError(f"version {self.row.version_id} has no task {name!r}", hint=f"it has {names}")
        return found

    def numbers_like(self, chain: Sequence[ChainLink]) -> bool:
        """Whether users and items have the indices in ``chain`` that they have here."""
        folders = [self.workspace.relative(link.folder) for link in chain]
        known = list(self.lineage.vocabulary)
        if folders[: len(known)] == known:
            return True
        return _begins(Vocabulary.open([link.folder for link in chain]), self.vocabulary)


def current_version(workspace: Workspace) -> UserVersion | None:
    """The current version of the line, None before the first."""
    with workspace.ledger.snapshot() as view:
        current = view.pointer(LINE)
    return UserVersion.open(workspace, current) if current else None


def write_user_version(folder: Path, state: LifelongState, lineage: Lineage, tasks: Sequence[LearntTask]) -> None:
    """Write all files of a version but READY into ``folder``."""
    tensors, facts = state.to_tensors()
    write_tensors(tensors, folder / "state.safetensors")
    _write_json(folder / "state.json", facts)
    _write_json(folder / "tasks.json", [asdict(task) for task in tasks])
    (folder / "lineage.json").write_text(lineage.to_json(), encoding="utf-8")


def read_state(folder: Path) -> LifelongState:
    """The state in a version folder.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the others.
    """
    try:
        facts = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        # In memory of their own: where a tensor lies in the file, which moves with each task, decides a last bit
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / "state.safetensors").items()}
        return from_tensors(tensors, facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, RecursionError) as error:
        raise CheckpointError(f"{folder}: not a readable version: {error}", hint=DAMAGED) from error


def base_of(chain: Sequence[ChainLink], version_id: str, n_items: int) -> LearntTask:
    """T1 of a new line."""
    return LearntTask(BASE_TASK, "next_item", chain[-1].span_id, chain[-1].fingerprint, version_id, n_items)


def _begins(longer: Vocabulary, known: Vocabulary) -> bool:
    if longer.n_users < known.n_users or longer.n_items < known.n_items:
        return False
    users, items = np.arange(known.n_users), np.arange(known.n_items)
    same_users = longer.user_ids(users).equals(known.user_ids(users))
    return same_users and longer.item_ids(items).equals(known.item_ids(items))


def _read_tasks(folder: Path) -> tuple[LearntTask, ...]:
    path = folder / "tasks.json"
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        if not rows or not isinstance(rows, list):
            raise ValueError("no list of tasks")
        return tuple(LearntTask(**(row | {"vocabulary": tuple(row["vocabulary"])})) for row in rows)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable list of tasks: {error}", hint=DAMAGED) from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
