"""The one protocol of every lifelong method: pretrain, add_task, predict.

    state = method.pretrain(sequences, config, seed)
    state = method.add_task(state, task, config, seed)      # a new version; the parent is never edited
    logits = method.predict(state, "age", sequences)        # (U, Y)

A method is a stateless object: everything it learnt is in the ``LifelongState``. A new method implements
``learn_base``, ``learn_task`` and ``deep_view``; training, splitting, serving and evaluation come with this class.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.encoders.tokens import left_pad
from imsr_core.errors import CheckpointError
from imsr_core.lifelong.backbone import silent_version
from imsr_core.lifelong.config import LifelongConfig
from imsr_core.lifelong.evaluation import evaluate, main_values, metrics_of_ranks, ranks_and_likelihood
from imsr_core.lifelong.problems import BaseProblem, TaskProblem, base_problem, task_problem
from imsr_core.lifelong.splits import PARTS, Part, parts_of
from imsr_core.lifelong.state import LifelongState, TaskRecord
from imsr_core.lifelong.tasks import BASE_TASK, TaskData, next_item_examples, task_examples
from imsr_core.lifelong.training import Progress, silent
from imsr_core.lifelong.view import View, batched_vectors
from imsr_core.lifelong.weighing import deep_share, weighed
from imsr_core.lifelong.wide import wide_in, wide_tensors
from imsr_core.lifelong.wide_next import counts_in, with_counts
from imsr_core.ragged import SpanSequences, slice_rows, take_rows

_CELLS = 20_000_000  # items of users held at once


class LifelongMethod(ABC):
    """One way to keep learning tasks on one encoder."""

    name: ClassVar[str]

    exact: ClassVar[bool] = True
    """True: adding a task leaves every older task's scores bit for bit as they were."""

    star: ClassVar[bool] = False
    """True: every task's tensors are its own, so that it can be taken out again (see `removing`)."""

    def left_after(self, state: LifelongState) -> dict[str, float]:
        """The share of weights that were free after each task, where tasks share one budget; else nothing."""
        return {}

    def share_of(self, state: LifelongState, task_name: str) -> float | None:
        """What a task costs as a share of the backbone, where it costs parameters of its own; else None."""
        return None

    @abstractmethod
    def learn_base(self, problem: BaseProblem) -> LifelongState:
        """Learn T1 from scratch."""

    @abstractmethod
    def learn_task(self, state: LifelongState, problem: TaskProblem) -> LifelongState:
        """Learn one more task; tensors of ``state`` must not be written to."""

    def give_back(
        self, state: LifelongState, problem: TaskProblem, tensors: Mapping[str, Tensor], record: TaskRecord
    ) -> LifelongState:
        """The version after ``state`` where the encoder adds nothing to the task that it just learnt.

        Args:
            tensors: what was learnt, of which nothing is kept.
            record: of the task as it was learnt.
        """
        return silent_version(state, problem, tensors, record)

    @abstractmethod
    def deep_view(self, state: LifelongState, task_name: str) -> View:
        """How this version serves one of its tasks, but for the task's wide part."""

    def view(self, state: LifelongState, task_name: str) -> View:
        """How this version serves one of its tasks."""
        wide = counts_in(state) if task_name == BASE_TASK else wide_in(state, task_name)
        return dataclasses.replace(self.deep_view(state, task_name), wide=wide)

    def configure(self, config: LifelongConfig) -> LifelongConfig:
        """The configuration as this method uses it."""
        return config

    def pretrain(
        self,
        sequences: SpanSequences,
        config: LifelongConfig,
        seed: int,
        n_items: int | None = None,
        progress: Progress = silent,
    ) -> LifelongState:
        """Learn T1, next-item prediction, and fix the encoder's shape and the split by user.

        Args:
            sequences: each user's items, the whole history: it is cut into windows of ``encoder.length`` steps.
            n_items: size of the vocabulary; None takes the largest item seen.
            progress: is told of every step.
        """
        problem = base_problem(sequences, self.configure(config), seed, n_items, progress)
        state = self.learn_base(problem)
        return with_counts(state, self.deep_view(state, BASE_TASK), sequences, problem).to("cpu")

    def add_task(
        self, state: LifelongState, task: TaskData, config: LifelongConfig, seed: int, progress: Progress = silent
    ) -> LifelongState:
        """Learn ``task`` and return the new version; ``state`` is left as it is, also when this fails.

        The version's own encoder and split are used, not the configuration's.

        Raises:
            TaskError: the task's name is taken, or it has no training user.
            CapacityError: (Conure) no free weights are left.
        """
        self._check_owner(state)
        problem = task_problem(state, task, self.configure(config), seed, progress)
        parent = state.to(config.device)
        learnt = self.learn_task(parent, problem)
        wide = problem.wide.model if problem.wide else None
        if wide is None or problem.residual is not None:
            return learnt.replaced(wide_tensors(problem.name, wide)).to("cpu")
        share = deep_share(self.deep_view(learnt, problem.name), wide, problem.validation)
        if not share:
            learnt = self.give_back(parent, problem, learnt.tensors, learnt.tasks[-1])
        return weighed(learnt, problem, wide, share).to("cpu")

    def user_vectors(self, state: LifelongState, task_name: str, sequences: SpanSequences) -> Tensor:
        """Each user's vector as the task sees it, (U, d)."""
        self._check_owner(state)
        view = self.view(state, task_name)
        return batched_vectors(view, left_pad(sequences, view.encoded).to(view.head.weight.device))

    @torch.no_grad()
    def predict(self, state: LifelongState, task_name: str, sequences: SpanSequences) -> Tensor:
        """Scores of all labels of one task, (U, Y); of T1: of the item that follows each sequence."""
        view, vectors = self.view(state, task_name), self.user_vectors(state, task_name, sequences)
        return view.scores(vectors, left_pad(sequences, _width(view, sequences)).to(vectors.device))

    def evaluate(self, state: LifelongState, task: TaskData, part: Part = "test") -> dict[str, float]:
        """Metrics of a task on one part of its labelled users; empty where the part is."""
        view = self.view(state, task.name)
        examples = task_examples(task, view.length, view.encoded).part(part, state.split)
        return evaluate(view, examples.to(str(view.head.weight.device)), task.kind)

    def evaluate_base(self, state: LifelongState, sequences: SpanSequences, part: Part = "test") -> dict[str, float]:
        """Metrics of T1: the last item of each user of one part, from the items before it.

        A user whose last item is newer than T1's head has no example: T1's output layer is closed.
        """
        return metrics_of_ranks(self._base_ranks(state, sequences, part)[1], "next_item")

    def example_scores(
        self, state: LifelongState, task: TaskData | SpanSequences, part: Part = "test"
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(users, main metric) of every example of a task, or of T1 where only sequences are given, of one part."""
        if not isinstance(task, TaskData):
            users, ranks = self._base_ranks(state, task, part)
            return users, main_values(ranks, "next_item").numpy()
        view = self.view(state, task.name)
        examples = task_examples(task, view.length, view.encoded).part(part, state.split)
        ranks, _ = ranks_and_likelihood(view, examples.to(str(view.head.weight.device)))
        return examples.users, main_values(ranks, task.kind).numpy()

    def _base_ranks(
        self, state: LifelongState, sequences: SpanSequences, part: Part
    ) -> tuple[NDArray[np.int64], Tensor]:
        """(N,) user and (N,) rank of T1's examples of one part, a few users at a time: long histories are read."""
        view, own = self.view(state, BASE_TASK), parts_of(sequences.users, state.split) == PARTS.index(part)
        asked, found = take_rows(sequences, np.flatnonzero(own)), []
        width = _width(view, asked)
        for start in range(0, len(asked), max(1, _CELLS // width)):
            few = slice_rows(asked, start, start + max(1, _CELLS // width))
            examples = next_item_examples(few, width).with_labels_below(len(view.head.weight))
            ranks, _ = ranks_and_likelihood(view, examples.to(str(view.head.weight.device)))
            found.append((examples.users, ranks))
        if not found:
            return np.zeros(0, dtype=np.int64), torch.zeros(0, dtype=torch.int64)
        return np.concatenate([users for users, _ in found]), torch.cat([ranks for _, ranks in found])

    def _check_owner(self, state: LifelongState) -> None:
        if state.method != self.name:
            raise CheckpointError(
                f"this version was made by {state.method}, not by {self.name}",
                hint=f"use the method {state.method}, or pre-train a new version with {self.name}",
            )


def _width(view: View, sequences: SpanSequences) -> int:
    """How many items of these users a view reads: no more than anybody has, but at least what its encoder reads."""
    return max(view.encoded, min(view.length, int(sequences.counts.max(initial=0))))
