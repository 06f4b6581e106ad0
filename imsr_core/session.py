"""The interests of somebody whom the model has never trained on, read from a list of items: nothing is learnt or kept.

A new user's interests begin as in a span (small random starts without mass, which only break the symmetry of the
routing) and are read from the items by the extractor as it is. Self-attention has a query of its own for each interest
of each user; a stranger's are the means of everybody's queries of the same rank.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from imsr_core.extractors.protocol import Prior
from imsr_core.interests import InterestStore
from imsr_core.state import ModelState


@torch.no_grad()
def session_interests(state: ModelState, items: Tensor) -> InterestStore:
    """The interests of one user (number 0) who had ``items`` (n,) int64, the most recent last.

    Reads the ``history`` most recent ones; as many interests as a new user has. Empty without items.
    """
    model = state.config.model
    recent = items[-model.history :]
    if not len(recent):
        return InterestStore.empty(model.dim, model.query_units)
    count = model.initial_interests
    generator = torch.Generator().manual_seed(state.config.training.seed)
    scale = state.config.detector.new_scale
    store = InterestStore.random(
        torch.zeros(1, dtype=torch.int64),
        count,
        model.dim,
        scale=scale,
        born=max(state.spans - 1, 0),
        generator=generator,
        query_units=model.query_units,
    )
    prior = Prior(
        start=store.vectors[None],
        mass=torch.zeros(1, count),
        mask=torch.ones(1, count, dtype=torch.bool),
        stored=torch.zeros(1, count, dtype=torch.bool),
        queries=_mean_queries(state.store, store.queries)[None],
    )
    embedded = state.item_vectors(recent)
    interests = state.extractor(embedded[None], torch.ones(1, len(recent), dtype=torch.bool), prior)[0]
    support = torch.bincount((embedded @ interests.T).argmax(1), minlength=count)
    return store.replaced(vectors=interests, support=support)


def session_state(state: ModelState, items: Tensor) -> ModelState:
    """The model as it stands for one stranger (user 0) who had ``items`` (n,): interests and all counting terms are
    read from them, and of anybody else's it keeps what goes with what."""
    score = None if state.score is None else state.score.of_items(items.numpy())
    members = tuple(
        replace(member, store=session_interests(state.member(number), items))
        for number, member in enumerate(state.members, 1)
    )
    return replace(state, store=session_interests(state, items), score=score, members=members)


def _mean_queries(store: InterestStore, fresh: Tensor) -> Tensor:
    """(K, q): the mean query of everybody's interest k, a fresh one where nobody has a k-th."""
    count = len(fresh)
    early = store.interest_id < count
    place = store.interest_id[early]
    total = torch.zeros_like(fresh).index_add_(0, place, store.queries[early])
    found = torch.bincount(place, minlength=count)[:, None]
    return torch.where(found > 0, total / found.clamp(min=1), fresh)
