"""A task made ready for training: split by user, cut to the encoder's length, on the right device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.tokens import windows
from imsr_core.lifelong.config import LifelongConfig, SplitConfig
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.heads import head_loss
from imsr_core.lifelong.linear import Fitted
from imsr_core.lifelong.pooling import wanted_pooling
from imsr_core.lifelong.pretraining import next_item_loss
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import BASE_TASK, Examples, TaskData, TaskKind, next_item_examples, task_examples
from imsr_core.lifelong.training import Progress, silent
from imsr_core.lifelong.view import View
from imsr_core.lifelong.wide import fit_wide, wide_length
from imsr_core.ragged import SpanSequences, take_rows

VALIDATION_STEPS, VALIDATION_EXAMPLES = 10, 20_000
"""T1 is selected on the last 10 items of each validation user: fewer where that would be more examples than this."""


@dataclass(frozen=True, eq=False)
class BaseProblem:
    """T1: next-item prediction.

    Attributes:
        rows: (W, L + 1) windows over the whole histories of the training users, left-padded, two items at least.
        validation: the last few items of each validation user, each from the items before it.
        validated_on: "validation", or "train" where the split left nobody to validate on.
        progress: is told of every step of training.
    """

    encoder: EncoderConfig
    n_items: int
    rows: Tensor
    validation: Examples
    validated_on: str
    config: LifelongConfig
    seed: int
    progress: Progress = silent
    name: str = BASE_TASK
    kind: TaskKind = "next_item"

    @property
    def n_labels(self) -> int:
        """|X|: every item is a label."""
        return self.n_items

    def __len__(self) -> int:
        return len(self.rows)

    def inputs(self, positions: Tensor) -> Tensor:
        """The rows (B, L + 1) of these examples (B,)."""
        return self.rows[positions.to(self.rows.device)]

    def loss(self, view: View, positions: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss of these examples."""
        return next_item_loss(view, self.inputs(positions), self.config.objective, generator)

    def served(self, view: View) -> View:
        """As it is: T1 has no wide part."""
        return view


@dataclass(frozen=True, eq=False)
class TaskProblem:
    """A later task; attributes as of ``BaseProblem`` and ``TaskData``.

    ``wide`` is its wide part, fitted already, and what that says of the training examples; ``residual`` is that where
    the deep part learns what is left by it (classes), and None where it learns alone (items; see `wide`).
    """

    dim: int
    name: str
    kind: TaskKind
    n_labels: int
    n_items: int
    train: Examples
    validation: Examples
    validated_on: str
    config: LifelongConfig
    seed: int
    wide: Fitted | None
    progress: Progress = silent

    def __len__(self) -> int:
        return len(self.train)

    def inputs(self, positions: Tensor) -> Tensor:
        """The rows (B, N) of these examples (B,)."""
        return self.train.inputs[self.train.rows[positions.to(self.train.rows.device)]]

    def loss(self, view: View, positions: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss of these examples."""
        labels = self.train.labels[positions.to(self.train.labels.device)]
        vectors, head = view.vectors(self.inputs(positions)), view.head
        if self.residual is not None:
            head = replace(head, wide=self.residual.unseen[positions.to(self.residual.unseen.device)])
        return head_loss(vectors, labels, head, self.config.objective, generator)

    @property
    def residual(self) -> Fitted | None:
        return self.wide if self.kind == "classes" else None

    def served(self, view: View) -> View:
        """The view as held-out users are scored while it learns: beside the wide part where it learns what is left."""
        return view if self.residual is None else replace(view, wide=self.residual.model)


Problem = BaseProblem | TaskProblem


def base_problem(
    sequences: SpanSequences, config: LifelongConfig, seed: int, n_items: int | None, progress: Progress = silent
) -> BaseProblem:
    """Prepare T1.

    Raises:
        TaskError: no training user has two items, or the sequences hold items beyond ``n_items``.
    """
    length, largest = config.encoder.length, int(sequences.items.max(initial=-1))
    n_items = largest + 1 if n_items is None else n_items
    if largest >= n_items:
        raise TaskError(f"{BASE_TASK}: item {largest} in a catalogue of {n_items}", hint="pass the whole vocabulary")
    parts = parts_of(sequences.users, config.split)
    rows, _ = windows(take_rows(sequences, np.flatnonzero(parts == 0)), length)
    if not len(rows):
        raise TaskError(f"{BASE_TASK}: no training user has two items", hint="pre-train on a longer span")
    judges = take_rows(sequences, np.flatnonzero(parts == 1))
    steps = min(VALIDATION_STEPS, max(1, VALIDATION_EXAMPLES // max(1, len(judges))))
    validation, validated_on = next_item_examples(judges, length, steps), "validation"
    if not len(validation):
        validation, validated_on = next_item_examples(take_rows(sequences, np.flatnonzero(parts == 0)), length), "train"
    device = config.device
    return BaseProblem(
        config.encoder, n_items, rows.to(device), validation.to(device), validated_on, config, seed, progress
    )


def task_problem(
    state: LifelongState, task: TaskData, config: LifelongConfig, seed: int, progress: Progress = silent
) -> TaskProblem:
    """Prepare a later task with the version's own encoder length and split.

    Raises:
        TaskError: the version has the task already, or no labelled user is in the training part.
    """
    if task.name in state.task_names:
        raise TaskError(f"task {task.name} is already in this version", hint="choose another name")
    windows = wanted_pooling(task.kind, config.objective).windows
    encoded, wide = state.encoder.length * windows, wide_length(task.kind, task.n_labels, config.objective)
    length = max(encoded, wide, state.encoder.length * config.objective.windows)  # older tasks are held all over it
    examples = task_examples(task, length, encoded)
    train = examples.part("train", state.split)
    if not len(train):
        raise TaskError(f"task {task.name}: no labelled user is in the training part", hint="label more users")
    validation, validated_on = _validation(examples, state.split)
    device = config.device
    train, validation = train.to(device), validation.to(device)
    return TaskProblem(
        state.encoder.dim,
        task.name,
        task.kind,
        task.n_labels,
        state.n_items,
        train,
        validation,
        validated_on,
        config,
        seed,
        fit_wide(task.name, train, validation, task.n_labels, wide, seed, progress, near=task.kind == "classes"),
        progress,
    )


def _validation(examples: Examples, split: SplitConfig) -> tuple[Examples, str]:
    """The validation part or, where it is empty, the training part, and its name."""
    validation = examples.part("validation", split)
    return (validation, "validation") if len(validation) else (examples.part("train", split), "train")
