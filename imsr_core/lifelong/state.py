"""A version of the `users` line: plain tensors by name, and JSON-able facts about them. Never pickled.

Tensor names say what they are: ``encoder/<parameter>``, ``head/<task>/weight``, ``owner/<parameter>`` (Conure),
``patch/<task>/...`` (PeterRec), ``tuned/<task>/<parameter>`` (fine-tuned copies), ``relation/<task>/...`` (TERACON),
``wide/<task>/...`` (the linear model of items beside a task's encoder, or T1's counts).
A state is never edited; a new version shares the tensors that did not change.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from imsr_core.counted import counted
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.protocol import ITEM_TABLE
from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.errors import CheckpointError
from imsr_core.lifelong.config import SplitConfig, from_json, to_json
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.heads import Head
from imsr_core.lifelong.tasks import TaskKind

FORMAT, LANDMARKS_FORMAT = 1, 2
"""A version in which a task has `landmarks` says so: a program from before them would leave them out."""


@dataclass(frozen=True)
class TaskRecord:
    """What a version remembers of one task.

    Attributes:
        n_items: how many items existed when the task was learnt; a frozen task reads newer ones as UNKNOWN.
        phases: phase -> metric, log_likelihood, best_epoch, epochs on validation.
        details: facts of the method that serving or the next task needs.
    """

    name: str
    kind: TaskKind
    n_labels: int
    n_items: int
    seed: int
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LifelongState:
    """One version: the encoder's shape, the split, the tasks learnt so far in their order, the tensors."""

    method: str
    encoder: EncoderConfig
    split: SplitConfig
    n_items: int
    tasks: tuple[TaskRecord, ...]
    tensors: Mapping[str, Tensor]

    @property
    def task_names(self) -> tuple[str, ...]:
        """All tasks, T1 first."""
        return tuple(task.name for task in self.tasks)

    def position(self, name: str) -> int:
        """Where a task stands in the order of learning, from 0.

        Raises:
            TaskError: the version has no such task.
        """
        if name not in self.task_names:
            raise TaskError(f"no task {name!r} in this version", hint=f"it has {', '.join(self.task_names)}")
        return self.task_names.index(name)

    def task(self, name: str) -> TaskRecord:
        """The record of a task."""
        return self.tasks[self.position(name)]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """All tensors under ``prefix/``, by the rest of their names."""
        start = prefix + "/"
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}

    def head(self, name: str) -> Head:
        """A task's head."""
        return head_in(self.tensors, name)

    def replaced(
        self, tensors: Mapping[str, Tensor], *, task: TaskRecord | None = None, n_items: int | None = None
    ) -> LifelongState:
        """A new version with these tensors added or replaced and, where given, one more task."""
        tasks = self.tasks if task is None else (*self.tasks, task)
        return dataclasses.replace(
            self,
            tensors={**self.tensors, **tensors},
            tasks=tasks,
            n_items=self.n_items if n_items is None else n_items,
        )

    def to(self, device: str) -> LifelongState:
        """The same version on another device; tensors already there are shared."""
        return dataclasses.replace(self, tensors={name: t.to(device) for name, t in self.tensors.items()})

    def fingerprints(self) -> dict[str, str]:
        """sha256 of every tensor's type, shape and bytes: equal for versions that are the same bit for bit."""
        return {name: fingerprint([tensor]) for name, tensor in sorted(self.tensors.items())}

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors for safetensors, facts for JSON); ``from_tensors`` is the inverse."""
        tensors = {name: t.detach().cpu().contiguous() for name, t in sorted(self.tensors.items())}
        meta = {
            "format": LANDMARKS_FORMAT if any(_is_near(name) for name in tensors) else FORMAT,
            "method": self.method,
            "encoder": to_json(self.encoder),
            "split": to_json(self.split),
            "n_items": self.n_items,
            "tasks": [dataclasses.asdict(task) for task in self.tasks],
            "tensors": {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()},
        }
        return tensors, meta


def from_tensors(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> LifelongState:
    """Rebuild a version from what ``to_tensors`` gave.

    Raises:
        CheckpointError: another format, or tensors that are missing, unexpected or of another type or shape.
    """
    if meta.get("format") not in (FORMAT, LANDMARKS_FORMAT):
        raise CheckpointError(
            f"users line: format {meta.get('format')!r}, this program reads {FORMAT} and {LANDMARKS_FORMAT}",
            hint="use the program that wrote it",
        )
    promised: dict[str, list[Any]] = meta["tensors"]
    found = {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()}
    for name in sorted(set(promised) | set(found)):
        if promised.get(name) != found.get(name):
            raise CheckpointError(
                f"users line: tensor {name} is {found.get(name, 'missing')}, "
                f"the version says {promised.get(name, 'nothing of it')}",
                hint="restore the version's folder from a backup, or roll back to its parent",
            )
    state = LifelongState(
        method=meta["method"],
        encoder=from_json(EncoderConfig, meta["encoder"]),
        split=from_json(SplitConfig, meta["split"]),
        n_items=meta["n_items"],
        tasks=tuple(TaskRecord(**task) for task in meta["tasks"]),
        tensors=dict(tensors),
    )
    table = state.tensors.get(f"encoder/{ITEM_TABLE}")
    if table is None or len(table) != FIRST_ITEM + state.n_items:
        raise CheckpointError(f"users line: the item table does not have {counted(state.n_items, 'item')}")
    return state


def _is_near(name: str) -> bool:
    """Whether a tensor of this name holds what being near to a task's landmarks weighs."""
    return name.startswith("wide/") and name.endswith("/near")


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """One sha256 over several tensors, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def head_in(tensors: Mapping[str, Tensor], task_name: str) -> Head:
    """The head of a task among these tensors; T1's may be tied: its weights are then the item table's rows."""
    own = subset(f"head/{task_name}", tensors)
    bias = own.get("bias")
    if "weight" in own or bias is None:
        return Head(own["weight"], bias)
    return Head(tensors[f"encoder/{ITEM_TABLE}"][FIRST_ITEM : FIRST_ITEM + len(bias)], bias)


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with ``prefix/`` before their names."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def subset(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under ``prefix/``, without it: the inverse of ``named``."""
    start = prefix + "/"
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}
