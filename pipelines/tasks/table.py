"""What `imsr task list` and `imsr task compare` show: every task and how it stands, and what versions did to tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imsr_core.lifelong.transfer_matrix import backward_transfer, forgetting
from pipelines.tasks.due import DUE, LEARNT, standings
from pipelines.tasks.gate import TransferMatrix, main_metric_of, matrix_of
from pipelines.tasks.version import LINE
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, VersionRow
from pipelines.workspace.states import VersionState


@dataclass(frozen=True)
class TaskLine:
    """One task. ``score`` is R[current, task], ``forgotten`` the share of R[first, task] that is gone.

    ``capacity_left`` (Conure) is the share of weights that were free after the task; ``parameter_share`` (PeterRec)
    the patches' share of the backbone. ``references`` are scores without an encoder, on the same test users. ``why``
    says why it is not learnt.
    """

    name: str
    state: str
    kind: str | None = None
    version: str | None = None
    span_id: str | None = None
    labels: int | None = None
    n_labels: int | None = None
    metric: str | None = None
    score: float | None = None
    forgotten: float | None = None
    capacity_left: float | None = None
    parameter_share: float | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    why: str | None = None

    @property
    def to_beat(self) -> str | None:
        """The best reference and its score."""
        if not self.references:
            return None
        name, value = max(self.references.items(), key=lambda item: item[1])
        return f"{value:.4f} {name}"


@dataclass(frozen=True)
class TaskPair:
    """The score of one task in two versions; ``change`` is relative to the first."""

    name: str
    metric: str
    first: float | None
    second: float | None

    @property
    def change(self) -> float | None:
        """(second - first) / first; None where either is missing or the first is 0."""
        if self.first is None or self.second is None or self.first == 0:
            return None
        return (self.second - self.first) / self.first


@dataclass(frozen=True)
class Transfer:
    """R of a version with what it says of each task: how much it changed since it was learnt, and what it is up to."""

    matrix: TransferMatrix
    backward: NDArray[np.float64]
    forgotten: NDArray[np.float64]
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def list_tasks(workspace: Workspace) -> list[TaskLine]:
    """Tasks of the current version in the order of learning, then the declared ones that it does not have."""
    with workspace.ledger.snapshot() as view:
        current = view.version(view.pointer(LINE) or "")
        lines = _learnt(view, current) if current else []
        rejected = _rejected(view)
    for each in standings(workspace):
        why = each.why or rejected.get(each.name) if each.state == DUE else each.why
        lines.append(TaskLine(each.name, each.state, workspace.settings.tasks[each.name].kind, why=why or None))
    return lines


def transfer_of(workspace: Workspace, version_id: str | None = None) -> Transfer:
    """R of the current version, or of another, and the versions that it was learnt from.

    Raises:
        VersionError: there is no such version of the `users` line.
    """
    with workspace.ledger.snapshot() as view:
        row = LINE.known(view, version_id)
        matrix = matrix_of(view, row.version_id)
    references = {task["name"]: task.get("references") or {} for task in row.summary["tasks"]}
    return Transfer(matrix, backward_transfer(matrix.values), forgetting(matrix.values), references)


def compare_tasks(workspace: Workspace, first: str, second: str) -> list[TaskPair]:
    """Two versions of the line side by side, task by task (the same only where both learnt the same labels).

    Raises:
        VersionError: one of them is not there.
    """
    with workspace.ledger.snapshot() as view:
        scores = [_scores(LINE.known(view, version_id)) for version_id in (first, second)]
    names = dict.fromkeys([*scores[0], *scores[1]])
    values = [[table.get(name, (None, None)) for table in scores] for name in names]
    return [
        TaskPair(name, str(one[0] or two[0]), one[1], two[1]) for name, (one, two) in zip(names, values, strict=True)
    ]


def _scores(row: VersionRow) -> dict[str, tuple[str, float | None]]:
    return {task["name"]: (main_metric_of(task["kind"]), task.get("score")) for task in row.tasks}


def _learnt(view: Snapshot, current: VersionRow) -> list[TaskLine]:
    matrix = matrix_of(view, current.version_id)
    lost = dict(zip(matrix.tasks, forgetting(matrix.values), strict=True))
    return [
        TaskLine(
            name=task["name"],
            state=LEARNT,
            kind=task["kind"],
            version=task["learnt_in"],
            span_id=task["span_id"],
            labels=task["labels"],
            n_labels=task["n_labels"],
            metric=main_metric_of(task["kind"]),
            score=task.get("score"),
            forgotten=None if math.isnan(lost[task["name"]]) else float(lost[task["name"]]),
            capacity_left=task["capacity_left"],
            parameter_share=task["parameter_share"],
            references=task.get("references") or {},
        )
        for task in current.tasks
    ]


def _rejected(view: Snapshot) -> dict[str, str]:
    """Task -> why the newest version that tried to learn it was rejected."""
    rows = [row for row in view.versions(LINE) if row.state is VersionState.REJECTED]
    return {row.summary["task"]: "; ".join((row.verdict or {})["reasons"]) for row in rows}
