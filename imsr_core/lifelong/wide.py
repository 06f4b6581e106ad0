"""The wide part of a task: a linear model of the user's items, which the encoder's vector adds to.

    scores = head(user vector) + linear(items)              (wide and deep, Cheng et al., DLRS 2016)

Decided: the linear model is fitted first and frozen (`linear`). In a task about classes what is learnt after it, the
deep part, is a residual. While that trains, each training user is told what the linear model of the folds without this
user says: the model's own answer to users that it was fitted on is too good, and would leave nothing to learn. So every
method starts where a linear model ends, and keeps what the encoder adds where held-out users gain more than two
standard errors by it (`fitting`); else its head is silent.

In a task about items the deep part learns alone, as the papers have it, and both are weighed afterwards (`weighing`):
labels are many and each user's few, and a residual of them was found to be nothing that can be learnt.

The tensors are the task's own: nothing that another task reads changes, and no capacity is used.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from imsr_core.lifelong.config import ObjectiveConfig
from imsr_core.lifelong.landmarks import Landmarks
from imsr_core.lifelong.linear import MOST_LABELS, NEAR, Fitted, Linear, fit_linear
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.state import LifelongState, TaskRecord, named
from imsr_core.lifelong.tasks import Examples, TaskKind
from imsr_core.lifelong.training import PhaseProgress, Progress, Step, silent

PARTS = ("items", "weight", "bias")
LANDMARKS = ("directions", "places")
WIDE_PHASE = "linear part"
"""What ``progress`` calls it; a step of it is a fit with one penalty."""


def wide_length(kind: TaskKind, n_labels: int, config: ObjectiveConfig) -> int:
    """How many items the wide part of a new task reads; 0 = it has none."""
    wanted = kind == "classes" or (kind == "items" and config.wide_items and n_labels <= MOST_LABELS)
    return config.wide if wanted else 0


def learnt_wide_length(record: TaskRecord) -> int:
    """How many items the wide part of a learnt task reads; 0 = none, as in versions from before there was one."""
    return int(record.details.get("wide", 0))


def fit_wide(
    name: str,
    train: Examples,
    validation: Examples,
    n_labels: int,
    length: int,
    seed: int,
    progress: Progress = silent,
    *,
    near: bool = False,
) -> Fitted | None:
    """The wide part of a new task, and what it says of its training examples; None at ``length`` 0.

    Args:
        near: whether it may have landmarks.
    """
    if not length:
        return None

    def told(fits: int, most: int, loss: float) -> None:
        progress(PhaseProgress(name, WIDE_PHASE, Step(0, fits - 1, most), loss, fits, most, 0))

    seed = phase_seed(seed, name, "wide")
    return fit_linear(train, validation, n_labels, length, seed, told=told, near=NEAR if near else 0)


def wide_in(state: LifelongState, task_name: str) -> Linear | None:
    """The wide part of a learnt task, where it has one; with landmarks where those were worth it when it was learnt."""
    length = learnt_wide_length(state.task(task_name))
    own = state.group(f"wide/{task_name}")
    if not length or not own:
        return None
    straight = Linear(own["items"], own["weight"], own["bias"], length)
    if "near" not in own:
        return straight
    return replace(straight, landmarks=Landmarks(*(own[f"landmarks/{part}"] for part in LANDMARKS)), near=own["near"])


def wide_tensors(task_name: str, model: Linear | None) -> dict[str, Tensor]:
    """``wide/<task>/...`` for a new version; nothing without a wide part."""
    if model is None:
        return {}
    own: dict[str, Tensor] = {part: getattr(model, part) for part in PARTS}
    if model.landmarks is not None and model.near is not None:
        own |= {f"landmarks/{part}": getattr(model.landmarks, part) for part in LANDMARKS} | {"near": model.near}
    return named(f"wide/{task_name}", own)
