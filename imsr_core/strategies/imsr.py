"""IMSR: learn a span from the span alone (Wang and Shen, ICDE 2023, algorithm 2).

    detect    which users have new interests            NID   detector.py
    propose   delta K random vectors for each of them
    train     L_SS + lambda L_EIR on the span           EIR   retainer.py, trainer.py
    extract   H^t from the span and the stored H^{t-1}        extraction.py
    trim      what the existing interests explain       PIT   trimmer.py
    append    what is left

What the paper leaves open, decided: a new user starts with K_0 random vectors without prior mass; a new item gets a
random row; a user with one interaction trains on it if interests are stored (they stand in for the history); a user
without interactions is not touched; an empty span gives M_t = M_{t-1}. Pre-training is the same code with every user
new, its own learning rate and early stopping.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from imsr_core.batches import TargetSampler
from imsr_core.config import TrimmerConfig
from imsr_core.detector import clarity, detect, threshold
from imsr_core.devices import carried, training_device
from imsr_core.draws import Purpose, seeded
from imsr_core.extraction import extract_interests
from imsr_core.interests import InterestStore
from imsr_core.letting_go import laid_aside, let_go
from imsr_core.ragged import SpanSequences, concatenate, drop_empty, empty_sequences
from imsr_core.score import Score
from imsr_core.score.serving import Remembering
from imsr_core.sorted_keys import numbered
from imsr_core.state import ModelState
from imsr_core.strategies.merging import merge_twins
from imsr_core.strategies.protocol import (
    History,
    InterestChanges,
    Progress,
    SpanUpdate,
    quantiles,
    silent,
    visible_part,
)
from imsr_core.strategies.settling import Shrink, given_ids, settle
from imsr_core.strategies.shrinking import as_it_is
from imsr_core.trainer import SpanTrainer, WorkingInterests
from imsr_core.trend import Trend
from imsr_core.trimmer import orthonormal_basis

#: Makes the trainer of a span from the state that it trains, the sequences, the interests, the step size and the draws.
MakeTrainer = Callable[[ModelState, SpanSequences, WorkingInterests, float, torch.Generator], SpanTrainer]


def imsr(
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    *,
    visible: SpanSequences | None = None,
    history: History | None = None,
    like: InterestStore | None = None,
    make_trainer: MakeTrainer = SpanTrainer,
    shrink: Shrink = as_it_is,
) -> SpanUpdate:
    """Learn one span.

    ``state`` is M_{t-1}; its store must hold the interests of the span's users (others may be absent). ``span`` holds
    the span's interactions; ``n_items`` is the size of the catalogue after it. With ``visible``, only its events are
    learnt from (see `Strategy`). ``history`` is never read: a span is learnt from the span alone. A new user starts
    with as many interests as it has in ``like``, K_0 where it has none or there is no ``like``. Other strategies train
    with a trainer of their own (``make_trainer``), or forget interests (``shrink``).

    Returns M_t and what changed; ``state`` is left as it was. Raises `NonFiniteError` if training diverges and
    `SequenceError` if ``visible`` does not have the users of the span.
    """
    span = drop_empty(span)
    seen = span if visible is None else visible_part(span, visible)
    before, known_items = state, state.n_items
    before.require_finite(f"before span {before.spans}")
    state = replace(state.clone().with_items(n_items), missed=empty_sequences())
    state.trend = trend_after(before, seen, state.n_items)
    detection = _detect(before, seen, known_items)
    working = _working_interests(state, detection, before, like)
    shrink = _shrinking(state.config.trimmer, shrink)
    trainer, losses = _train(state, seen, working, before, progress, make_trainer)
    trainer.finish()
    blind = None if visible is None else _blind(before, trainer, span, seen, detection, shrink)
    base = _is_base(before, trainer)
    # a base model's random starts are of no use once the interests are read: they make room for them
    vectors, support = extract_interests(state, span, working, trainer.queries.weight, in_place=base)
    read = working.store.replaced(vectors=trainer.settled(vectors), support=support)
    kept, changes = settle(before, working, read, trainer.queries, detection.clarity, shrink)
    remembered = trainer.remembered() if seen.n_events else ({}, {})
    _put(state, before, kept, changes, remembered)
    if base:
        kept = state.store = kept.replaced(vectors=laid_aside(kept.vectors))
    del trainer, working, read, vectors, support  # counts of a first span are as large as all of that
    state.score, blind_score = scores_after(before, span, None if visible is None else seen, state.n_items)
    state.require_finite_score(f"span {before.spans}")
    return SpanUpdate(
        state=state,
        interests=kept,
        changes=changes,
        losses=losses,
        blind=blind,
        blind_score=blind_score,
        new_users=int(detection.new.sum()),
        detected=int(detection.fired.sum()),
        threshold=detection.threshold,
        clarity_quantiles=quantiles(detection.clarity),
    )


def _put(
    state: ModelState,
    before: ModelState,
    kept: InterestStore,
    changes: InterestChanges,
    remembered: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> None:
    """Put what a span leaves into ``state``, but for the score. Raises `NonFiniteError` if it holds NaN."""
    memory, own = remembered
    state.memory, state.user_memory = state.memory | memory, state.user_memory | given_ids(before, kept, changes) | own
    state.spans = before.spans + 1
    state.store = before.store.updated(kept) if len(kept) else before.store
    state.require_finite(f"span {before.spans}")


def _shrinking(trimmer: TrimmerConfig, shrink: Shrink) -> Shrink:
    """What forgets interests: the strategy's own way, or merging what has become one."""
    if trimmer.enabled and trimmer.merge_cosine and shrink is as_it_is:
        return partial(merge_twins, cosine=trimmer.merge_cosine)
    return shrink


def _is_base(before: ModelState, trainer: SpanTrainer) -> bool:
    return before.spans == 0 and type(trainer) is SpanTrainer


def _blind(
    before: ModelState,
    trainer: SpanTrainer,
    span: SpanSequences,
    seen: SpanSequences,
    detection: _Detection,
    shrink: Shrink,
) -> InterestStore:
    """The interests of users of the span with hidden events, read from what was ``seen`` alone."""
    state, working = trainer.state, trainer.working
    hidden = torch.from_numpy(seen.users[seen.counts != span.counts])
    part = working.of_users(hidden)
    vectors, support = extract_interests(state, seen, working, trainer.queries.weight, hidden)
    rows = torch.isin(working.store.user, hidden)
    read = part.store.replaced(vectors=trainer.settled(vectors, rows), support=support)
    clarity = detection.clarity[torch.isin(detection.users, hidden)]
    return settle(before, part, read, trainer.queries.take(rows), clarity, shrink)[0]


def trend_after(before: ModelState, span: SpanSequences, n_items: int) -> Trend:
    """The trend with a span: first what the span says of its weight, then the span's counts.

    A model that was only pre-trained is not asked: its interests are a blend of many spans, and what makes up for
    that (a weight of 1 on the grocery sample) harms the first update's.
    """
    trend, config = before.trend, before.config
    asked = config.trend.enabled and config.trend.weight is None and before.score is None
    if asked and before.spans > 1:
        generator = seeded(config.training.seed, before.spans, Purpose.TREND_SAMPLE)
        trend = trend.judged(span, before.store, before.item_vectors(), config.model.logit_scale, generator)
    return trend.after(concatenate([before.missed, span]), n_items)


def scores_after(
    before: ModelState, span: SpanSequences, visible: SpanSequences | None, n_items: int
) -> tuple[Score | None, Score | None]:
    """The score with a span; and for the gate without the events that are not in ``visible`` (None if all are).

    First what the events that may be learnt from say of the weights, asked of the model that has not learnt them; then
    all counts, with them those of what was ``missed`` before. A model that has learnt nothing keeps the last stretch of
    its first span back for that; its score for the gate is of the users with hidden events alone.
    """
    score, seen = before.score, span if visible is None else visible
    if score is None:
        return None, None
    seed = before.config.training.seed * 1_000_003 + before.spans
    counted = concatenate([before.missed, span])
    shown = None if visible is None else concatenate([before.missed, visible])
    if before.spans == 0:
        span.forget_rows()
        seen.forget_rows()
        let_go()
        weighed, hidden = score.weighed_by(seen, n_items, seed), seen.users[seen.counts != span.counts]
        let_go()
        blind = None if shown is None else weighed.after(shown, n_items).only_of(hidden).found()
        let_go()
        after = weighed.after(counted, n_items)
        let_go()
        return after, blind
    blind = None if shown is None else score.asked_after(shown, n_items)
    weighed = score.asked(seen, before.interest_term(), seed)
    return weighed.after(counted, n_items), None if blind is None else blind.weighed_as(weighed)


@dataclass(frozen=True)
class _Detection:
    """Of the span's users (U,): their index, who is new, their clarity, who gets proposals."""

    users: Tensor
    new: Tensor
    clarity: Tensor
    fired: Tensor
    threshold: float


def _detect(before: ModelState, span: SpanSequences, known_items: int) -> _Detection:
    users = torch.from_numpy(span.users)
    new = before.store.counts_of(users) == 0
    config = before.config.detector
    if not config.enabled or before.spans == 0:
        unknown = torch.full((len(users),), math.nan, dtype=torch.float64)
        return _Detection(users, new, unknown, torch.zeros_like(new), math.nan)
    known = span.items < known_items
    items, place = numbered(span.items[known])
    values = clarity(
        before.store,
        users,
        torch.from_numpy(span.rows[known]),
        torch.from_numpy(place),
        before.item_vectors(torch.from_numpy(items)),
        before.config.model.logit_scale,
        config.min_items,
    )
    return _Detection(users, new, values, detect(values, config), threshold(values, config))


def _working_interests(
    state: ModelState, detection: _Detection, before: ModelState, like: InterestStore | None
) -> WorkingInterests:
    """Stored interests, K_0 for each new user, and the proposals, in one store."""
    config, ordinal = state.config, state.spans
    model, detector = config.model, config.detector
    generator = seeded(config.training.seed, ordinal, Purpose.INTERESTS)
    stored = state.store.of_users(detection.users)
    draw = partial(
        InterestStore.random,
        dim=model.dim,
        query_units=model.query_units,
        scale=detector.new_scale,
        born=ordinal,
        generator=generator,
    )
    newcomers = detection.users[detection.new]
    wanted = _starting_counts(newcomers, model.initial_interests, like)
    fresh = draw(newcomers, int(wanted.max())) if len(newcomers) else draw(newcomers, 0)
    if like is not None:
        fresh = fresh.take(fresh.interest_id < wanted.repeat_interleave(fresh.counts))
    chosen = detection.users[detection.fired]
    room = (model.max_interests - stored.counts_of(chosen)).clamp(min=0, max=detector.new_interests)
    proposals = draw(chosen, detector.new_interests, first_id=stored.next_ids(chosen))
    order = torch.arange(detector.new_interests).repeat(len(chosen))
    proposals = proposals.take(order < room.repeat_interleave(detector.new_interests))
    store = stored.union(fresh).union(proposals)
    old = store.born < ordinal
    proposed = ~old & torch.isin(store.user, chosen)
    basis = _stored_basis(store, old, chosen) if config.trimmer.enabled and len(chosen) else None
    teacher = before.items.weight if config.retainer.enabled and len(stored) else None
    return WorkingInterests(store, old * model.mass, old, proposed, basis, teacher)


def _starting_counts(users: Tensor, default: int, like: InterestStore | None) -> Tensor:
    """Interests (n,) that each of ``users`` (n,) starts with."""
    wanted = torch.full_like(users, default)
    if like is None:
        return wanted
    counts = like.counts_of(users)
    return counts.where(counts > 0, wanted)


def _stored_basis(store: InterestStore, old: Tensor, users: Tensor) -> Tensor:
    """An orthonormal basis (R, d) of each user's stored interests, in the rows of those interests."""
    basis = torch.zeros_like(store.vectors)
    for part in users.split(4096):
        found = store.rows_of(part)
        real = found.mask & old[found.rows]
        basis[found.rows[real]] = orthonormal_basis(store.vectors[found.rows], real)[real]
    return basis


def _train(
    state: ModelState,
    span: SpanSequences,
    working: WorkingInterests,
    before: ModelState,
    progress: Progress,
    make_trainer: MakeTrainer,
) -> tuple[SpanTrainer, list[float]]:
    training, model = state.config.training, state.config.model
    generator = seeded(training.seed, state.spans, Purpose.TRAINING)
    rng = np.random.default_rng([training.seed, state.spans])
    base = before.spans == 0
    rate = training.base_learning_rate if base else training.learning_rate
    trainer = make_trainer(state, span, working, rate, generator)
    if training.residual and before.score is not None and not base:
        trainer.counters = Remembering(before.score.scorer(None), span.users)
    has_prior = torch.zeros(len(span), dtype=torch.bool)
    has_prior[torch.isin(trainer.users, working.store.user[working.mass > 0])] = True
    sampler = TargetSampler.of(
        span,
        has_prior.numpy(),
        working.store.counts_of(trainer.users).numpy(),
        history=model.history,
        window=training.window,
        per_user=training.targets_per_user,
        batch_size=training.batch_size,
    )
    if not len(sampler.positions):
        return trainer, []
    with carried(trainer, training_device(training.device)):
        if base:
            epochs, patience = training.base_epochs, training.patience
            return trainer, trainer.fit_until_flat(sampler, epochs, patience, rng, progress)
        return trainer, trainer.fit(sampler, training.epochs, rng, progress)
