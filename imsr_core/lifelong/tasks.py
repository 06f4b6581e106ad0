"""A task's labels, and the examples that training and evaluation run over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.counted import counted
from imsr_core.encoders.tokens import FIRST_ITEM, PAD, left_pad
from imsr_core.lifelong.config import SplitConfig
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.splits import PARTS, Part, parts_of
from imsr_core.ragged import SpanSequences
from imsr_core.sorted_keys import is_in

BASE_TASK = "T1"
"""The name of the self-supervised first task, next-item prediction."""

TaskKind = Literal["next_item", "items", "classes"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, eq=False)
class TaskData:
    """Labels of users, and the sequences they are predicted from.

    Attributes:
        name: of the task; letters, digits, ``_.-``; it becomes part of tensor names.
        sequences: inputs; may hold users without a label.
        users: (N,) user index of each label; a user with m labels appears m times.
        labels: (N,) int64 in 0 .. n_labels - 1.
        n_labels: |Y|.
        kind: "classes" is judged by accuracy, "items" by the full ranking.
    """

    name: str
    sequences: SpanSequences
    users: NDArray[np.int64]
    labels: NDArray[np.int64]
    n_labels: int
    kind: Literal["items", "classes"] = "classes"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise TaskError(f"task name {self.name!r}", hint="use letters, digits and _ . - (64 at most)")
        if len(self.users) != len(self.labels):
            raise TaskError(
                f"task {self.name}: {counted(len(self.users), 'user')} but {counted(len(self.labels), 'label')}"
            )
        if self.n_labels < 2:
            raise TaskError(f"task {self.name}: {counted(self.n_labels, 'label')}", hint="a task needs at least two")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= self.n_labels))
        if len(wrong):
            raise TaskError(
                f"task {self.name}: row {wrong[0]} has label {self.labels[wrong[0]]}, outside 0 .. {self.n_labels - 1}",
                hint="map labels to dense numbers first",
            )
        absent = np.flatnonzero(~is_in(self.users, self.sequences.users))
        if len(absent):
            raise TaskError(
                f"task {self.name}: {counted(len(absent), 'label')} belong to users without a sequence, "
                f"the first is user {self.users[absent[0]]} in row {absent[0]}",
                hint="drop those labels, or give sequences that cover the users",
            )


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and labels. Inputs are stored once a user, however many labels the user has.

    Attributes:
        inputs: (U, L) int64 table rows, left-padded.
        rows: (N,) int64 position in ``inputs`` of each example.
        labels: (N,) int64.
        users: (N,) int64 user index of each example.
    """

    inputs: Tensor
    rows: Tensor
    labels: Tensor
    users: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: str) -> Examples:
        """The same examples on another device."""
        return Examples(self.inputs.to(device), self.rows.to(device), self.labels.to(device), self.users)

    def part(self, part: Part, split: SplitConfig) -> Examples:
        """The examples of the users in one part of the split."""
        return self._take(np.flatnonzero(parts_of(self.users, split) == PARTS.index(part)))

    def with_labels_below(self, n_labels: int) -> Examples:
        """The examples whose label is one of the first ``n_labels``."""
        return self._take(np.flatnonzero((self.labels < n_labels).cpu().numpy()))

    def _take(self, keep: NDArray[np.intp]) -> Examples:
        index = torch.from_numpy(keep).to(self.rows.device)
        return Examples(self.inputs, self.rows[index], self.labels[index], self.users[keep])


def task_examples(task: TaskData, length: int, at_least: int = 0) -> Examples:
    """One example a label; inputs are each user's ``length`` most recent items.

    Args:
        at_least: where no user has as many as ``length``, inputs are as wide as the longest history or as this.
    """
    rows = np.searchsorted(task.sequences.users, task.users).astype(np.int64)
    labels = torch.from_numpy(task.labels.astype(np.int64))
    longest = int(task.sequences.counts.max(initial=1))
    width = min(length, max(longest, at_least)) if at_least else length
    return Examples(left_pad(task.sequences, width), torch.from_numpy(rows), labels, task.users)


def next_item_examples(sequences: SpanSequences, length: int, steps: int = 1) -> Examples:
    """T1's evaluation: from all items before it, the last; and the ``steps`` - 1 before that one in the same way.

    Users with one item or none have no example.
    """
    parts = [_step_back(sequences, length, back) for back in range(steps)]
    starts = np.cumsum([0, *(len(part.inputs) for part in parts[:-1])])
    rows = torch.cat([part.rows + int(start) for part, start in zip(parts, starts, strict=True)])
    inputs, labels = torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts])
    return Examples(inputs, rows, labels, np.concatenate([part.users for part in parts]))


def _step_back(sequences: SpanSequences, length: int, back: int) -> Examples:
    """The example of each user's last item but ``back``."""
    padded = left_pad(sequences, length + 1 + back)[:, : length + 1]
    rows = torch.nonzero(padded[:, -2] != PAD).squeeze(1)
    labels = padded[rows, -1] - FIRST_ITEM
    return Examples(padded[:, :-1].contiguous(), rows, labels, sequences.users[rows.numpy()])
