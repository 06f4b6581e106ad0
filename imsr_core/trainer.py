"""The visible loop of one span: gather, extract, L_SS + L_EIR, step (paper, algorithm 2).

A step touches the rows of the items and interests in its batch and nothing else, so its cost does not depend on the
size of the catalogue or the number of users.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.batches import TargetBatch, TargetSampler
from imsr_core.config import InterestsConfig
from imsr_core.counted import counted
from imsr_core.dense_adam import DenseAdam
from imsr_core.devices import moved, reduced
from imsr_core.errors import NonFiniteError
from imsr_core.extractors import Prior
from imsr_core.interests import InterestStore
from imsr_core.objectives import full_softmax, label_aware, sampled_softmax, unit
from imsr_core.ragged import SpanSequences
from imsr_core.retainer import Distillation, retainer_loss
from imsr_core.rows import RowTable, rows_at
from imsr_core.score.serving import Remembering
from imsr_core.state import ModelState

#: Called after each step with (steps done, steps in all at most, loss of the step).
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class WorkingInterests:
    """The interests of a span's users while the span trains.

    ``store`` holds stored interests, those of new users, and the ones that the detector proposed. ``mass`` (R,) is
    the prior mass: m for stored ones, 0 for new ones; ``stored`` (R,) tells them apart where m is 0. ``proposed`` (R,)
    marks the detector's. ``basis`` (R, d) spans each user's stored interests (zero rows elsewhere); None if the trimmer
    is off. ``teacher_items`` (N, d) are the items' rows as they were before the span; None if the retainer is off.
    """

    store: InterestStore
    mass: Tensor
    stored: Tensor
    proposed: Tensor
    basis: Tensor | None
    teacher_items: Tensor | None

    def prior(self, users: Tensor, queries: Tensor | None = None) -> tuple[Prior, Tensor, Tensor]:
        """Prior, ``proposed`` (B, K) and store rows (B, K) of ``users`` (B,)."""
        found = self.store.rows_of(users)
        keep = found.mask[..., None]
        source = self.store.queries if queries is None else queries
        prior = Prior(
            start=functional.embedding(found.rows, self.store.vectors) * keep,
            mass=self.mass[found.rows] * found.mask,
            mask=found.mask,
            stored=self.stored[found.rows] & found.mask,
            queries=functional.embedding(found.rows, source) * keep,
        )
        return prior, self.proposed[found.rows] & found.mask, found.rows

    def of_users(self, users: Tensor) -> WorkingInterests:
        """Those of ``users`` only."""
        rows = torch.isin(self.store.user, users)
        columns = (self.mass[rows], self.stored[rows], self.proposed[rows])
        basis = None if self.basis is None else self.basis[rows]
        return WorkingInterests(self.store.take(rows), *columns, basis, self.teacher_items)

    def separate(self, interests: Tensor, proposed: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
        """Interests (B, K, d) with the proposed ones made orthogonal to the stored ones (PIT, step 1)."""
        if self.basis is None or not bool(proposed.any()):
            return interests
        basis = functional.embedding(rows, self.basis)
        # what a proposed interest shares with each stored one; 0 of all others, which stay as they are
        shared = (interests @ basis.transpose(1, 2)) * (proposed[:, :, None] & mask[:, None, :])
        return torch.baddbmm(interests, shared, basis, alpha=-1).to(interests.dtype)


class Leaf(NamedTuple):
    """Rows (n, d) of a table, taken out under their ``ids`` (n,) for one step: gradients arrive here."""

    table: RowTable
    ids: Tensor
    rows: Tensor


@dataclass
class SpanTrainer:
    """Trains a state in place on one span's sequences, on the device that it was carried `to`."""

    state: ModelState
    sequences: SpanSequences
    working: WorkingInterests
    learning_rate: float
    generator: torch.Generator
    queries: RowTable = field(init=False)
    optimizer: DenseAdam = field(init=False)
    #: What counts say of an item without the interests, as of before the span; None: interests learn all of it.
    counters: Remembering | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        store = self.working.store
        self.queries = RowTable(
            store.queries.clone(),
            store.query_moments[:, 0].clone(),
            store.query_moments[:, 1].clone(),
            store.query_steps.clone(),
        )
        self.optimizer = DenseAdam(self.state.extractor.named_parameters(), self.learning_rate)
        self.users = torch.from_numpy(self.sequences.users)
        self.device, self.here = torch.device("cpu"), self.state.items
        if self.config.training.moments == "reset":
            self.state.items.reset_moments()
            self.queries.reset_moments()
        else:
            self.optimizer.restore(self.state.extractor_optimizer)

    @property
    def config(self) -> InterestsConfig:
        return self.state.config

    @property
    def distils(self) -> bool:
        """Whether interests of the span before teach those of this one."""
        retainer = self.config.retainer
        return retainer.enabled and retainer.weight > 0 and self.working.teacher_items is not None

    def to(self, device: torch.device) -> None:
        """Carry all that a step touches to a device: the state's tables and extractor, interests, optimiser."""
        if device.type == "cpu":
            self.here.take_stepped(self.state.items)
            self.state.items = self.here
        else:
            self.here, self.state.items = self.state.items, moved(self.state.items, device)
        self.device = device
        self.working, self.queries = moved(self.working, device), moved(self.queries, device)
        self.state.extractor.to(device)
        self.state.extractor_optimizer = moved(self.state.extractor_optimizer, device)
        self.optimizer.to(device)
        self.users = self.users.to(device)

    def fit(self, sampler: TargetSampler, epochs: int, rng: np.random.Generator, progress: Progress) -> list[float]:
        """``epochs`` passes over the sampler's targets; the mean loss of each."""
        total = epochs * sampler.batches_per_epoch()
        losses, done = [], 0
        for _ in range(epochs):
            sums = [0.0, 0]
            for batch in sampler.epoch(rng):
                loss = self.step(batch)
                done += 1
                sums[0] += loss * len(batch)
                sums[1] += len(batch)
                progress(done, total, loss)
            losses.append(sums[0] / max(sums[1], 1))
        self._store_moments()
        return losses

    def fit_until_flat(
        self, sampler: TargetSampler, epochs: int, patience: int, rng: np.random.Generator, progress: Progress
    ) -> list[float]:
        """At most ``epochs`` passes; stops after ``patience`` epochs without a better loss on held-out targets and
        goes back to the best weights. Returns the held-out losses."""
        train, held = sampler.split(0.05, 5_000, rng)
        if not patience or not len(held.positions):
            return self.fit(sampler, epochs, rng, progress)
        total, done = epochs * train.batches_per_epoch(), 0
        best, losses = None, []
        for _ in range(epochs):
            for batch in train.epoch(rng):
                loss = self.step(batch)
                done += 1
                progress(done, total, loss)
            losses.append(self.validation_loss(held))
            if losses[-1] <= min(losses):
                self._store_moments()
                best = (self.state.clone(), copy.deepcopy(self.queries))
            if len(losses) - 1 - int(np.argmin(losses)) >= patience:
                break
        if best is not None:
            kept, self.queries = best
            self.state.items, self.state.extractor_optimizer = kept.items, kept.extractor_optimizer
            self.state.extractor.load_state_dict(kept.extractor.state_dict())
        return losses

    @torch.no_grad()
    def validation_loss(self, held: TargetSampler) -> float:
        """Mean loss over held-out targets, with draws that are the same in every epoch."""
        rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        losses = [(float(self.loss(batch, generator)[0]), len(batch)) for batch in held.epoch(rng)]
        return sum(loss * n for loss, n in losses) / sum(n for _, n in losses)

    def step(self, batch: TargetBatch) -> float:
        """One optimiser step; the loss before it. Raises `NonFiniteError` and leaves the step undone."""
        self.optimizer.zero_grad()
        loss, leaves = self.loss(batch, self.generator)
        loss.backward()
        value = float(loss.detach())
        if not np.isfinite(value):
            raise NonFiniteError(
                f"the loss became {value} in span {self.state.spans} (a batch of {counted(len(batch), 'target')})",
                hint="the current version stays in place; try a lower [training] learning_rate",
            )
        for leaf in leaves:
            if leaf.rows.grad is not None:
                leaf.table.step(leaf.ids, leaf.rows.grad, self.learning_rate)
        self.optimizer.step()
        return value

    def loss(self, batch: TargetBatch, generator: torch.Generator) -> tuple[Tensor, list[Leaf]]:
        """L_SS + lambda L_EIR of a batch, and the rows that the step must update."""
        negatives, extra = self._negatives(generator, len(batch)), self.extra_items(batch, generator)
        given = (batch, negatives, extra, self._offsets(batch, negatives))  # the counts stay with the processor
        if self.device.type != "cpu":
            given = moved(given, self.device)
        with reduced(self.config.training.precision, self.device):
            return self._loss(*given, generator)

    def _loss(
        self,
        batch: TargetBatch,
        negatives: Tensor,
        extra: Tensor,
        offsets: tuple[Tensor, Tensor] | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, list[Leaf]]:
        model = self.config.model
        # a padded place stands for the target, which is in the batch anyway: no other row may be touched
        history = batch.history.where(batch.mask, batch.target[:, None])
        ids, place = torch.unique(torch.cat([history.flatten(), batch.target, negatives, extra]), return_inverse=True)
        leaf = self.state.items.leaf(ids)
        vectors = unit(self.item_rows(ids, leaf), model.normalize_items)
        places = place.split([batch.history.numel(), len(batch), len(negatives), len(extra)])
        ranked = self.config.retainer.items if self.distils else 0  # of the negatives, by the retainer
        history, target, negative, more, listed = rows_at(vectors, *places, places[2][:ranked])
        history = history.view(*batch.history.shape, -1)
        leaves = [Leaf(self.state.items, ids, leaf)]
        interests, prior, stored = self._extract(batch, history, leaves)
        user = label_aware(interests, prior.mask, target, model.logit_scale, model.label_attention == "hard")
        if len(negatives) == self.state.n_items:  # all of them
            order = torch.empty_like(negatives)
            order[negatives] = torch.arange(len(negatives), device=order.device)
            known = None if offsets is None else offsets[1]
            loss = full_softmax(user, negative, order[batch.target], model.logit_scale, known)
        else:
            hits = batch.target[:, None] == negatives
            loss = sampled_softmax(user, target, negative, hits, model.logit_scale, offsets)
        if self.distils:
            distilled = self._distillation(batch, interests, prior, stored, target, negatives[:ranked], listed)
            loss = loss + self.config.retainer.weight * retainer_loss(distilled, self.config.retainer, generator)
        if len(extra):
            loss = loss + self.extra_loss(more)
        return self.regularised(loss, leaf, len(batch)), leaves

    def item_rows(self, ids: Tensor, leaf: Tensor) -> Tensor:
        """The rows (n, d) of the items ``ids`` that the loss sees, from those that are trained, ``leaf`` (n, d)."""
        return leaf

    def read(self, history: Tensor, mask: Tensor, prior: Prior) -> Tensor:
        """Interests (B, K, d) from items (B, n, d), their mask (B, n) and what is known before."""
        return self.state.extractor(history, mask, prior)

    def extra_items(self, batch: TargetBatch, generator: torch.Generator) -> Tensor:
        """Items (x,) beside those of the batch that `extra_loss` needs; none by default."""
        return batch.target[:0]

    def extra_loss(self, vectors: Tensor) -> Tensor:
        """What is added to the loss of a step, from the vectors (x, d) of `extra_items`."""
        return vectors.sum() * 0.0

    def regularised(self, loss: Tensor, rows: Tensor, size: int) -> Tensor:
        """The loss of a batch of ``size`` targets, given the item rows (n, d) that it trains; as it is by default."""
        return loss

    def finish(self) -> None:
        """Called once, after the last step and before interests are read."""

    def settled(self, vectors: Tensor, rows: Tensor | None = None) -> Tensor:
        """The interests (R, d) that are stored, from those that were read, row for row of the working store; first
        asked for the ``rows`` (a mask) of users with hidden events, as they were read without those."""
        return vectors

    def remembered(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the strategy carries to the next span, as `ModelState.memory` and `user_memory`; asked at the very end,
        of a span that had events. Nothing by default."""
        return {}, {}

    def _negatives(self, generator: torch.Generator, targets: int) -> Tensor:
        """Items (n,) that a batch of so many ``targets`` is told from."""
        training, known = self.config.training, self.state.n_items
        most = training.negatives_per_target * targets
        wanted = min(training.negatives, most) if most else training.negatives
        if not wanted or max(wanted, training.full_softmax) >= known:
            # shuffled, since the retainer distils the first few: in order it would only ever see the oldest items
            return torch.randperm(known, generator=generator)
        return torch.randint(known, (wanted,), generator=generator)

    def _offsets(self, batch: TargetBatch, negatives: Tensor) -> tuple[Tensor, Tensor] | None:
        """What is added to the logits of the batch's targets (B, 1) and of ``negatives`` (B, n), if anything."""
        correction = 0.0
        if self.config.training.full_softmax and len(negatives) < self.state.n_items:
            correction = math.log((self.state.n_items - 1) / len(negatives))
        if self.counters is None:
            return (torch.zeros(1, 1), torch.full((1, 1), correction).expand(1, len(negatives))) if correction else None
        items = torch.cat([batch.target[:, None], negatives.expand(len(batch), -1)], 1)
        known = self.counters.at(self.sequences.users[batch.user_row.numpy()], items)
        return known[:, :1], known[:, 1:] + correction

    def _extract(self, batch: TargetBatch, history: Tensor, leaves: list[Leaf]) -> tuple[Tensor, Prior, Tensor]:
        users = self.users[batch.user_row]
        if not self.queries.weight.shape[1]:
            prior, proposed, rows = self.working.prior(users)
        else:
            found = self.working.store.rows_of(users)
            # a padded place stands for the user's own first interest: nobody else's row may be touched
            own = found.rows.where(found.mask, found.rows[:, :1])
            ids, place = torch.unique(own, return_inverse=True)
            leaf = self.queries.leaf(ids)
            leaves.append(Leaf(self.queries, ids, leaf))
            prior, proposed, rows = self.working.prior(users)
            queries = functional.embedding(place, leaf) * found.mask[..., None]
            prior = replace(prior, queries=queries)
        interests = self.read(history, batch.mask, prior)
        interests = self.working.separate(interests, proposed, rows, prior.mask)
        return interests, prior, prior.stored

    def _distillation(
        self,
        batch: TargetBatch,
        interests: Tensor,
        prior: Prior,
        stored: Tensor,
        target: Tensor,
        items: Tensor,
        vectors: Tensor,
    ) -> Distillation:
        teacher = self.working.teacher_items
        assert teacher is not None
        ids = torch.cat([batch.target, items])
        known = ids < len(teacher)
        before = unit(functional.embedding(ids.where(known, 0), teacher), self.config.model.normalize_items)
        here = len(batch)
        return Distillation(
            student=interests,
            teacher=prior.start,
            existing=stored,
            student_target=target,
            teacher_target=before[:here],
            student_items=vectors,
            teacher_items=before[here:],
            known_target=known[:here],
            known_items=known[here:],
            scale=self.config.model.logit_scale,
        )

    def _store_moments(self) -> None:
        self.state.extractor_optimizer = self.optimizer.copied_moments()
