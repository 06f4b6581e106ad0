"""Taking a task out again: possible where its tensors are its own, refused where other tasks compute with them."""

from __future__ import annotations

import dataclasses

from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.state import LifelongState
from imsr_core.parts import METHODS

#: The first part of the names of tensors that belong to one task.
_OWN = ("patch", "norm", "head", "token", "tuned", "wide")


def remove_task(state: LifelongState, name: str) -> LifelongState:
    """The version without one task; all others are the same bit for bit.

    Rows of the item table that the task brought in stay as they are: later tasks may read them.

    Raises:
        TaskError: there is no such task, it is T1, or the method cannot take it out.
    """
    position = state.position(name)
    if position == 0:
        raise TaskError(f"{name} cannot be removed: all other tasks stand on it", hint="pre-train the line anew")
    if not METHODS[state.method].star:
        raise TaskError(_why_not(state, name), hint="roll back to the version before it, or pre-train the line anew")
    own = tuple(f"{part}/{name}" for part in _OWN)
    tensors = {
        key: tensor
        for key, tensor in state.tensors.items()
        if key not in own and not key.startswith(tuple(f"{part}/" for part in own))
    }
    return dataclasses.replace(state, tensors=tensors, tasks=tuple(task for task in state.tasks if task.name != name))


def _why_not(state: LifelongState, name: str) -> str:
    if state.method == "conure":
        later = state.task_names[state.position(name) + 1 :]
        return (
            f"conure cannot take task {name} out: the later tasks {', '.join(later)} compute with its weights"
            if later
            else f"conure cannot take task {name} out of a version: the weights that it freed are trained by now"
        )
    return f"{state.method} cannot take task {name} out: all tasks share every weight, so nothing is the task's alone"
