"""ADER: fine-tune, and replay exemplars with adaptive distillation (Mi, Lin and Faltings, RecSys 2020).

    L = L_SS(span) + lambda_t CE( softmax(logits that were kept), softmax(logits now) )       on a batch of exemplars
    lambda_t = lambda_0 sqrt( items before / items now x exemplars / training examples )

As published: one epoch passes over the span and the pool once; the loss of an exemplar runs over items that were
known when its logits were kept; after the span the trained model chooses the next pool by herding from the span's
sequences and the old pool, and keeps its own logits.

Adapted: the base model and L_SS are ours as for every strategy, where ADER has SASRec and a full softmax; how an
exemplar is read and which logits are kept, see `imsr_core.strategies.exemplars`; a user gives at most ``cuts``
candidates a span, as in IMSR's comparison (which draws replayed samples by cosine similarity instead; the published
selection is used here); an incremental span has its fixed number of epochs instead of early stopping. The pool is
bounded and part of the version.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from imsr_core.batches import TargetBatch, TargetSampler
from imsr_core.devices import moved
from imsr_core.ragged import SpanSequences, drop_empty
from imsr_core.state import ModelState
from imsr_core.strategies.exemplars import OWNER, Exemplars, Reader, adaptive_weight, choose_exemplars
from imsr_core.strategies.fine_tune import without_modules
from imsr_core.strategies.imsr import imsr
from imsr_core.strategies.protocol import History, Progress, SpanUpdate, silent, visible_part
from imsr_core.trainer import SpanTrainer


def ader(
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    *,
    visible: SpanSequences | None = None,
    history: History | None = None,
) -> SpanUpdate:
    """One span with replay; see `imsr_core.strategies.imsr.imsr` for arguments and result.

    A chain that another strategy began has no exemplars: ``history``, if it is given, is where they come from once.
    """
    span = drop_empty(span)
    seen = span if visible is None else visible_part(span, visible)
    pool = Exemplars.of(state)
    if state.spans and history is not None and f"{OWNER}.user" not in state.user_memory:
        pool = choose_exemplars(state, history(), pool)
    plain = replace(state, config=without_modules(state.config))
    trainer = partial(ReplayTrainer, pool=pool, known_items=state.n_items)
    update = imsr(plain, span, n_items, progress, visible=visible, make_trainer=trainer)
    update.state.config = state.config
    if seen.n_events:
        update.state.user_memory |= choose_exemplars(update.state, seen, pool).memory()
    return update


@dataclass
class ReplayTrainer(SpanTrainer):
    """A trainer whose steps also distil a share of the ``pool``; ``known_items`` were known before the span."""

    pool: Exemplars
    known_items: int
    share: int = field(init=False, default=0)
    weight: float = field(init=False, default=0.0)
    queue: Tensor = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queue = torch.zeros(0, dtype=torch.int64)
        self.reader = Reader.of(self.config)

    def to(self, device: torch.device) -> None:
        """With the starts that exemplars are read from; the pool stays where it is, and goes over by the batch."""
        super().to(device)
        self.reader = moved(self.reader, device)

    def fit(self, sampler: TargetSampler, epochs: int, rng: np.random.Generator, progress: Progress) -> list[float]:
        """As for every strategy, with the pool spread over the batches of an epoch."""
        batches = sampler.batches_per_epoch()
        self.share = -(-len(self.pool) // max(batches, 1))
        examples = min(batches * sampler.batch_size, len(sampler.positions))
        sizes = (self.known_items, self.state.n_items, len(self.pool), examples)
        self.weight = adaptive_weight(self.config.ader, *sizes)
        return super().fit(sampler, epochs, rng, progress)

    def extra_items(self, batch: TargetBatch, generator: torch.Generator) -> Tensor:
        """The items of the next exemplars: histories, targets and lists, one behind the other."""
        if not self.share:
            return batch.target[:0]
        while len(self.queue) < self.share:
            self.queue = torch.cat([self.queue, torch.randperm(len(self.pool), generator=generator)])
        self.replayed, self.queue = self.pool.take(self.queue[: self.share]), self.queue[self.share :]
        # a padded place stands for the target: no other row may be touched
        target = self.replayed.target[:, None]
        history = self.replayed.history.where(self.replayed.history >= 0, target)
        return torch.cat([history, target, self.replayed.items], 1).flatten()

    def extra_loss(self, vectors: Tensor) -> Tensor:
        """lambda_t times the mean cross entropy of the exemplars' logits now, given the vectors of `extra_items`."""
        pool = moved(self.replayed, vectors.device)
        history, target, items = vectors.view(len(pool), -1, vectors.shape[-1]).split(
            [pool.history.shape[1], 1, pool.items.shape[1]], 1
        )
        users = self.reader.users(self.state, history, pool.history >= 0, target[:, 0])
        listed = torch.cat([target, items], 1)
        logits = self.config.model.logit_scale * (listed @ users[..., None]).squeeze(-1)
        return -self.weight * (pool.logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
