"""Spans that are empty, lonely, enormous or degenerate; and models that diverge."""

import math
from contextlib import suppress

import numpy as np
import pytest
import torch

from imsr_core.errors import NonFiniteError
from imsr_core.ragged import SpanSequences, empty_sequences
from imsr_core.retrieval import top_items
from imsr_core.state import ModelState
from imsr_core.strategies import STRATEGIES, SpanUpdate
from imsr_core.testing.planted_logs import (
    EXTRACTORS,
    INCREMENTAL,
    assert_equal,
    copy_of,
    random_span,
    span_of,
    tensors_of,
    tensors_of_store,
    tiny_config,
)
from imsr_core.trainer import SpanTrainer

ITEMS = 16
EACH = pytest.mark.parametrize(("strategy", "extractor"), [(s, e) for s in INCREMENTAL for e in EXTRACTORS])


def learn(state: ModelState, span: SpanSequences, items: int, strategy: str = "imsr") -> SpanUpdate:
    """One span, with what must hold after any."""
    update = STRATEGIES[strategy](state, span, items)
    after = update.state
    assert after.spans == state.spans + 1
    assert after.n_items == max(items, state.n_items)
    assert all(bool(t.isfinite().all()) for t in tensors_of(after).values() if t.is_floating_point())
    assert not len(after.store) or int(after.store.counts.max()) <= state.config.model.max_interests
    return update


def learnt(extractor: str = "comirec-dr", **changes: dict) -> ModelState:
    config = tiny_config(extractor, **({"detector": {"c1": 1.0}, "trimmer": {"c2": 0.0}} | changes))
    return learn(ModelState.initial(config), random_span(3, range(9), ITEMS), ITEMS).state


@EACH
def test_an_empty_span_changes_nothing_but_the_count(strategy, extractor):
    state = learnt(extractor)
    without_events = span_of({1: [], 4: []})
    for span in (empty_sequences(), without_events):
        update = learn(state, span, ITEMS, strategy)
        before, after = tensors_of(state), tensors_of(update.state)
        del before["spans"], after["spans"]
        assert_equal(after, before)
        assert len(update.interests) == len(update.changes.user) == update.new_users == update.detected == 0
        assert update.losses == []


@EACH
def test_an_empty_first_span_is_no_error(strategy, extractor):
    state = learn(ModelState.initial(tiny_config(extractor)), empty_sequences(), 0, strategy).state
    state = learn(state, empty_sequences(), 5, strategy).state
    assert len(learn(state, random_span(1, range(5), ITEMS), ITEMS, strategy).state.store)


@EACH
def test_users_without_events_are_left_alone_beside_those_with_some(strategy, extractor):
    state = learnt(extractor)
    full = span_of({0: [1, 2], 1: [], 5: [3, 4, 5], 50: []})
    only = span_of({0: [1, 2], 5: [3, 4, 5]})
    left, right = learn(state, full, ITEMS, strategy), learn(state, only, ITEMS, strategy)
    assert_equal(tensors_of(left.state), tensors_of(right.state))
    assert left.interests.users.tolist() == [0, 5]


@EACH
def test_only_new_users(strategy, extractor):
    state = learnt(extractor)
    update = learn(state, random_span(5, range(100, 108), ITEMS), ITEMS, strategy)
    assert update.new_users == len(update.interests.users)
    assert update.detected == 0
    assert set(update.interests.counts.tolist()) == {2}
    assert set(update.interests.born.tolist()) == {1}
    old = update.state.store.take(update.state.store.user < 100)
    assert_equal(tensors_of_store(old), tensors_of_store(state.store))


@EACH
def test_only_new_items(strategy, extractor):
    state = learnt(extractor)
    users = state.store.users.tolist()
    span = span_of({u: [ITEMS + (u + j) % 6 for j in range(5)] for u in users})
    update = learn(state, span, ITEMS + 6, strategy)
    assert update.detected == 0  # nothing is known of these items, so nobody is puzzled
    assert math.isnan(update.threshold) or update.threshold == 0
    assert update.clarity_quantiles == {}


@EACH
@pytest.mark.parametrize("stored", [True, False])
def test_one_user_with_one_event(strategy, extractor, stored):
    state = learnt(extractor)
    user = int(state.store.users[0]) if stored else 77
    update = learn(state, span_of({user: [3]}), ITEMS, strategy)
    assert update.interests.users.tolist() == [user]
    assert int(update.interests.support.sum()) == 1
    assert bool(update.losses) == stored  # a new user's only event has no history to be predicted from
    if not stored:
        assert torch.equal(update.state.items.weight, state.items.weight)


@EACH
def test_twenty_thousand_events_of_one_user(strategy, extractor):
    items = np.random.default_rng(0).integers(0, ITEMS, 20_000).tolist()
    state = learnt(extractor, training={"targets_per_user": 40, "window": 5})
    update = learn(state, span_of({2: items, 3: [1, 2]}), ITEMS, strategy)
    assert int(update.interests.support[update.interests.user == 2].sum()) == state.config.model.history


@EACH
def test_nothing_but_one_item(strategy, extractor):
    """All interests that are read from it are collinear: PIT projects on a space of one dimension."""
    state = ModelState.initial(tiny_config(extractor, model={"prior_mass": 0.0}, detector={"c1": 1.0}))
    span = span_of({u: [7] * 6 for u in range(6)})
    for _ in range(3):
        state = learn(state, span, ITEMS, strategy).state
    vectors = state.store.vectors[state.store.user == 0].double()
    assert int(torch.linalg.matrix_rank(vectors, rtol=1e-3)) <= 2


@EACH
def test_a_catalogue_of_one_item(strategy, extractor):
    state = ModelState.initial(tiny_config(extractor, training={"negatives": 0}))
    for _ in range(2):
        state = learn(state, span_of({0: [0, 0, 0], 1: [0]}), 1, strategy).state


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("cap", [2, 3, 8, 12])
def test_growth_stops_at_the_cap(extractor, cap):
    """c2 = 0 keeps every proposal, all users fire: K reaches the cap, also one above d = 8."""
    state = learnt(extractor, model={"max_interests": cap})
    span = span_of({u: [(u + j) % ITEMS for j in range(5)] for u in range(4)})
    for _ in range(5):
        update = learn(state, span, ITEMS)
        state = update.state
    assert set(update.interests.counts.tolist()) == {cap}
    assert update.interests.interest_id.tolist() == list(range(cap)) * 4
    assert not update.changes.residual[update.changes.change == 1].isfinite().any()


# ---- divergence ------------------------------------------------------------------------------------------------


def refused(state: ModelState, strategy: str, words: str) -> None:
    before = copy_of(state)
    with pytest.raises(NonFiniteError, match=words) as caught:
        STRATEGIES[strategy](state, random_span(5, range(12), ITEMS), ITEMS)
    assert caught.value.hint
    after = copy_of(state)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[n].double(), after[n].double(), rtol=0, atol=0, equal_nan=True) for n in before)


@EACH
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_planted_nan_is_found_by_name(strategy, extractor, value):
    state = learnt(extractor)
    state.items.weight[ITEMS - 1, 3] = value
    refused(state, strategy, "item table")
    state = learnt(extractor)
    state.store.vectors[2, 0] = value
    refused(state, strategy, "interests")


@EACH
@pytest.mark.parametrize("rate", [1e3, 1e20, 1e30])
def test_a_huge_learning_rate_is_an_error_or_stays_finite(strategy, extractor, rate):
    """Normalised items survive much; whatever comes back must be finite, and nothing else may be raised."""
    state = learnt(extractor, training={"learning_rate": rate, "epochs": 3})
    before = copy_of(state)
    with suppress(NonFiniteError):
        learn(state, random_span(5, range(12), ITEMS), ITEMS, strategy)
    assert_equal(tensors_of(state), before)


@EACH
def test_divergence_is_a_named_error_where_nothing_is_normalised(strategy, extractor):
    state = learnt(extractor, model={"normalize_items": False}, training={"learning_rate": 1e30})
    refused(state, strategy, "lower|span 1")


@EACH
def test_a_model_that_breaks_in_its_last_step_is_not_handed_on(strategy, extractor, monkeypatch):
    """A gradient may be NaN where the loss is not: no later loss would tell."""
    state, whole = learnt(extractor), SpanTrainer.fit

    def broken(self: SpanTrainer, *arguments: object) -> list[float]:
        losses = whole(self, *arguments)
        self.state.items.weight[ITEMS, 0] = math.nan  # an item of the catalogue that nobody touched
        return losses

    monkeypatch.setattr(SpanTrainer, "fit", broken)
    with pytest.raises(NonFiniteError, match="item table"):
        STRATEGIES[strategy](state, random_span(5, range(12), ITEMS), ITEMS + 1)


# ---- growth ----------------------------------------------------------------------------------------------------


@EACH
def test_new_items_leave_old_rows_clocks_and_scores(strategy, extractor):
    state = learnt(extractor)
    grown = state.with_items(ITEMS + 5)
    for name, tensor in state.items.tensors().items():
        assert torch.equal(grown.items.tensors()[name][:ITEMS], tensor)
    assert not grown.items.steps[ITEMS:].any()
    users = state.store.users
    old = top_items(state.store, users, state.item_vectors(), ITEMS)
    new = top_items(grown.store, users, grown.item_vectors()[:ITEMS], ITEMS)
    assert torch.equal(old.items, new.items)
    assert torch.equal(old.scores, new.scores)
    assert len(grown.items.weight.unique(dim=0)) == ITEMS + 5
    assert state.n_items == ITEMS
    assert state.with_items(3) is state


def test_growing_twice_draws_new_vectors_each_time():
    twice = ModelState.initial(tiny_config()).with_items(10).with_items(20)
    assert len(twice.items.weight.unique(dim=0)) == 20
    assert 0.5 < float(twice.items.weight.norm(dim=-1).mean()) < 1.5
