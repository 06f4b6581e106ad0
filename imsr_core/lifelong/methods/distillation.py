"""TERACON's knowledge retention: the parent version labels the new task's users for every past task.

    L_KR = sum_i (rho_i / sum_j rho_j) * D(teacher_i(x), student_i(x)) over a random rho_i of the batch's users

A past task that reads the last state of a causal encoder (T1 does) is held at ``held_places`` states, drawn from random
windows of the batch's whole histories: where a history ends is one place of a user, and what is held there alone moves
everywhere else.

D is the paper's mean squared difference of raw scores, or KL(softmax teacher || softmax student), Hinton et al.'s
distillation: it holds what a past task answers, most of all its first places, where the squares hold the scores of
thousands of labels alike, most of which nobody asks for.

No old data is kept. Users whose sequence holds items newer than the teacher are left out (DITTO, the same group's
successor for a growing vocabulary), and of windows the places from the first such item on; but at least
``min_sampled`` users are always taken: the released code may take none, whose mean is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.encoders.tokens import FIRST_ITEM, PAD
from imsr_core.lifelong.config import TeraconConfig
from imsr_core.lifelong.heads import Head
from imsr_core.lifelong.methods.relation_masks import sampling_rate, task_mask
from imsr_core.lifelong.training import Tensors
from imsr_core.lifelong.view import View

ViewAt = Callable[[Mapping[str, Tensor], str, float], View]
"""(tensors, task, s) -> the task as it is served with mask steepness s."""

MOST_SCORES = 2_000_000
"""Scores of a past task that are compared in a step, where more than one place of a user is held."""


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
        old, everybody = old_users(inputs, self._n_items), torch.arange(len(inputs))
        terms = []
        for task in self._past:
            view = self._student_view(student, task, s)
            everywhere = self._config.held_places > 0 and reads_the_last_state(view)
            candidates, rate = everybody if everywhere else old, self.rates[task]
            users = draw_users(candidates, len(inputs), rate, self._config.min_sampled, self._generator)
            self.sampled[task] = len(users)
            error = self._error(view, task, inputs[users.to(inputs.device)], s, everywhere)
            terms.append(rate / total * error)
        return self._config.distillation * torch.stack(terms).sum()

    def renew_rates(self, student: Tensors, tasks: Sequence[str], s: float) -> None:
        """rho of every past task from how alike its teacher mask and the newest task's mask are."""
        new = task_mask(student, tasks, tasks[-1], s)
        for task in self._past:
            old = task_mask(self._teacher, self._past, task, s)
            self.rates[task] = sampling_rate(old, new, self._config.gate_factor)

    def _error(self, view: View, task: str, inputs: Tensor, s: float, everywhere: bool) -> Tensor:
        """How far the student is from the teacher in one past task, over all labels or a random subset: a mean."""
        view.encoder.train()
        teacher = self._teacher_view(self._teacher, task, s)
        columns, places = self._columns(len(teacher.head.weight)), None
        if everywhere:
            inputs = random_windows(inputs, view.encoded, self._generator)
            most = MOST_SCORES // (len(teacher.head.weight) if columns is None else len(columns))
            most = max(len(inputs), min(self._config.held_places, most))
            places = random_places(inputs, self._n_items, most, self._generator)
        with torch.no_grad():
            target = _answering(teacher, inputs, places)
        vectors = _answering(view, inputs, places)
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


def reads_the_last_state(view: View) -> bool:
    """Whether each state of a window is the vector of a user whose history ends there."""
    return view.encoder.causal and view.reading == "items" and view.pooling.how is None


def random_windows(inputs: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """A window of ``length`` items from anywhere in each history: (B, N) left-padded rows -> (B, length)."""
    spare = ((inputs != PAD).sum(dim=1) - length).clamp(min=0).cpu()
    back = (torch.rand(len(inputs), generator=generator) * (spare + 1)).long().clamp(max=spare)  # 0 = the most recent
    rows = F.pad(inputs, (max(0, length - inputs.shape[1]), 0), value=PAD)
    places = torch.arange(rows.shape[1] - length, rows.shape[1]) - back.unsqueeze(1)
    return rows.gather(1, places.to(rows.device))


def random_places(windows: Tensor, n_items: int, most: int, generator: torch.Generator) -> Tensor:
    """(n,) up to ``most`` places of these windows (B, L), counted along the rows: up to which a user had no other items
    than the first ``n_items``; any that hold an item where there is no such place."""
    held = windows != PAD
    known = held & (windows < FIRST_ITEM + n_items).int().cumprod(dim=1).bool()
    places = torch.nonzero((known if known.any() else held).flatten().cpu()).squeeze(1)
    return places[torch.randperm(len(places), generator=generator)[:most]].to(windows.device)


def _answering(view: View, inputs: Tensor, places: Tensor | None) -> Tensor:
    """(n, d) the states at these places of the rows (B, L), or (B, d) the users' vectors."""
    return view.vectors(inputs) if places is None else view.hidden(inputs).flatten(0, 1)[places]


def _logits(head: Head, vectors: Tensor, columns: Tensor | None) -> Tensor:
    return head.logits(vectors) if columns is None else head.some_logits(vectors, columns.to(vectors.device))
