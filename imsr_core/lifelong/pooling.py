"""What a task reads of a user: decided when it is learnt, and kept with it."""

from __future__ import annotations

from imsr_core.lifelong.config import ObjectiveConfig
from imsr_core.lifelong.state import TaskRecord
from imsr_core.lifelong.tasks import TaskKind
from imsr_core.lifelong.view import Pooled


def wanted_pooling(kind: TaskKind, config: ObjectiveConfig) -> Pooled:
    """How a new task reads the states: as the papers do at the end of the sequence, or all states of some windows."""
    if config.pooling == "last" or (config.pooling == "auto" and kind != "classes"):
        return Pooled()
    return Pooled("mean" if config.pooling == "mean" else "root", config.windows)


def learnt_pooling(record: TaskRecord) -> Pooled:
    """How a learnt task reads the states.

    Versions from before there was a choice read at the end; those from before there were windows read one.
    """
    return Pooled(record.details.get("pooling"), record.details.get("windows", 1))
