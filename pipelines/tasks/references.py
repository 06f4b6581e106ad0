"""What each task of a version scores without an encoder, kept beside its score: what there is to beat."""

from __future__ import annotations

from typing import Any

from imsr_core.lifelong.evaluation import main_metric
from imsr_core.lifelong.pooling import learnt_pooling
from imsr_core.lifelong.references import main_values, next_item_references, task_references
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import BASE_TASK
from imsr_core.lifelong.wide import learnt_wide_length
from pipelines.tasks.data import history
from pipelines.tasks.gate import task_data
from pipelines.tasks.version import LearntTask, UserVersion
from pipelines.workspace.layout import Workspace


def references_of(
    workspace: Workspace, state: LifelongState, tasks: tuple[LearntTask, ...], parent: UserVersion | None
) -> dict[str, dict[str, float]]:
    """Task -> reference -> its main metric on the task's test users; what the parent knows is taken from there."""
    known: dict[str, Any] = {}
    for task in parent.row.summary["tasks"] if parent else ():
        known[task["name"]] = task.get("references") or {}
    return {task.name: known.get(task.name) or _measure(workspace, state, task) for task in tasks}


def _measure(workspace: Workspace, state: LifelongState, task: LearntTask) -> dict[str, float]:
    record, split = state.task(task.name), state.split
    length = max(state.encoder.length * learnt_pooling(record).windows, learnt_wide_length(record))
    if task.name == BASE_TASK:
        sequences = history(task.chain(workspace))
        found = next_item_references(sequences, record.n_labels, split, length)
        return main_values(found, main_metric("next_item"))
    data, wide = task_data(workspace, task), bool(learnt_wide_length(record))
    found = task_references(data, split, length, linear=wide or data.kind == "classes")
    return main_values(found, main_metric(data.kind))
