"""Interests of a stranger, read from items: every extractor, any length, always the same, nothing changed."""

from __future__ import annotations

import pytest
import torch

from imsr_core.session import session_interests
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS, random_span, tensors_of, tiny_config


@pytest.fixture(params=EXTRACTORS, scope="module")
def state(request) -> ModelState:
    fresh = ModelState.initial(tiny_config(request.param))
    return strategy_named("imsr")(fresh, random_span(0, range(12), 30), 30).state


@pytest.mark.parametrize("length", [1, 2, 50])
def test_a_list_of_items_gives_as_many_interests_as_a_new_user_has(state, length):
    before = {name: tensor.clone() for name, tensor in tensors_of(state).items()}
    items = torch.arange(length) % state.n_items
    store = session_interests(state, items)
    assert len(store) == state.config.model.initial_interests
    assert bool(torch.isfinite(store.vectors).all())
    assert int(store.support.sum()) == min(length, state.config.model.history)
    assert torch.equal(store.vectors, session_interests(state, items).vectors)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(state).items())


def test_only_the_most_recent_items_are_read(state):
    recent = torch.arange(state.config.model.history) % state.n_items
    longer = torch.cat([torch.tensor([5, 6, 7]), recent])
    assert torch.equal(session_interests(state, longer).vectors, session_interests(state, recent).vectors)


def test_the_items_themselves_score_high(state):
    items = torch.tensor([3, 3, 3])
    scores = session_interests(state, items).vectors @ state.item_vectors().T
    assert int(scores.max(0).values.argmax()) == 3


def test_nothing_had_is_no_interest(state):
    assert len(session_interests(state, torch.zeros(0, dtype=torch.int64))) == 0
