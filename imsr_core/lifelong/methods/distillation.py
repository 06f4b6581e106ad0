"""TERACON's knowledge retention: the parent version labels the new task's users for every past task.

    L_KR = sum_i (rho_i / sum_j rho_j) * D(teacher_i(x), student_i(x)) over a random rho_i of the batch's users

D is the paper's mean squared difference of raw scores, or KL(softmax teacher || softmax student), Hinton et al.'s
distillation: it holds what a past task answers, most of all its first places, where the squares hold the scores of
thousands of labels alike, most of which nobody asks for.

No old data is kept. Users whose sequence holds items newer than the teacher are left out (DITTO, the same group's
successor for a growing vocabulary), but at least ``min_sampled`` users are always taken: the released code may
take none, whose mean is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.config import TeraconConfig
from imsr_core.lifelong.heads import Head
from imsr_core.lifelong.methods.relation_masks import sampling_rate, task_mask
from imsr_core.lifelong.training import Tensors
from imsr_core.lifelong.view import View

ViewAt = Callable[[Mapping[str, Tensor], str, float], View]
"""(tensors, task, s) -> the task as it is served with mask steepness s."""


class Retention:
    """The retention term of one training phase; holds rho, which each step renews.

    Attributes:
        rates: past task -> rho.
        sampled: past task -> users taken in the last batch.
    """

    def __init__(
        self,
        teacher: Mapping[str, Tensor],
        past: Sequence[str],
        teacher_view: ViewAt,
        student_view: ViewAt,
        n_items: int,
        config: TeraconConfig,
        generator: torch.Generator,
    ) -> None:
        self._teacher = {name: tensor.detach() for name, tensor in teacher.items()}
        self._past, self._n_items, self._config, self._generator = tuple(past), n_items, config, generator
        self._teacher_view, self._student_view = teacher_view, student_view
        self.rates = dict.fromkeys(past, config.start_rate)
        self.sampled: dict[str, int] = {}

    def loss(self, student: Tensors, inputs: Tensor, s: float) -> Tensor:
        """alpha L_KR on one batch of input rows (B, L), teacher and student both at ``s``."""
        total = sum(self.rates.values())
        candidates = old_users(inputs, self._n_items)
        terms = []
        for task in self._past:
            users = draw_users(candidates, len(inputs), self.rates[task], self._config.min_sampled, self._generator)
            self.sampled[task] = len(users)
            error = self._error(student, task, inputs[users.to(inputs.device)], s)
            terms.append(self.rates[task] / total * error)
        return self._config.distillation * torch.stack(terms).sum()

    def renew_rates(self, student: Tensors, tasks: Sequence[str], s: float) -> None:
        """rho of every past task from how alike its teacher mask and the newest task's mask are."""
        new = task_mask(student, tasks, tasks[-1], s)
        for task in self._past:
            old = task_mask(self._teacher, self._past, task, s)
            self.rates[task] = sampling_rate(old, new, self._config.gate_factor)

    def _error(self, student: Tensors, task: str, inputs: Tensor, s: float) -> Tensor:
        """How far the student is from the teacher in one past task, over all labels or a random subset: a mean."""
        view = self._student_view(student, task, s)
        view.encoder.train()
        with torch.no_grad():
            teacher = self._teacher_view(self._teacher, task, s)
            target = teacher.vectors(inputs)
        columns = self._columns(len(teacher.head.weight))
        vectors = view.vectors(inputs)
        ours, theirs = _logits(view.head, vectors, columns), _logits(teacher.head, target, columns).detach()
        if self._config.retention == "mse":
            return F.mse_loss(ours, theirs)
        likely, wanted = F.log_softmax(ours, dim=1), F.log_softmax(theirs, dim=1)
        return F.kl_div(likely, wanted, log_target=True, reduction="batchmean")

    def _columns(self, n_labels: int) -> Tensor | None:
        limit = self._config.distilled_labels
        if n_labels <= limit:
            return None
        return torch.randint(n_labels, (limit,), generator=self._generator)


def old_users(inputs: Tensor, n_items: int) -> Tensor:
    """Positions of the rows (B, L) without an item from index ``n_items`` on, on the CPU."""
    return torch.nonzero((inputs < FIRST_ITEM + n_items).all(dim=1).cpu()).squeeze(1)


def draw_users(candidates: Tensor, batch: int, rate: float, at_least: int, generator: torch.Generator) -> Tensor:
    """int(batch * rate) of the candidates without replacement, ``at_least`` at least.

    Fewer candidates than that: all of them. None at all: any row of the batch (the teacher reads what it does not
    know as UNKNOWN), because a term without users has no mean.
    """
    pool = candidates if len(candidates) else torch.arange(batch)
    count = min(len(pool), max(at_least, int(batch * rate)))
    return pool[torch.randperm(len(pool), generator=generator)[:count]]


def _logits(head: Head, vectors: Tensor, columns: Tensor | None) -> Tensor:
    return head.logits(vectors) if columns is None else head.some_logits(vectors, columns.to(vectors.device))
