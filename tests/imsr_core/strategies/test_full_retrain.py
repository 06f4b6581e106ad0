"""Full retraining: from nothing, on everything, with as many interests as the chain has."""

from dataclasses import replace

import pytest
import torch

from imsr_core.errors import ConfigError
from imsr_core.ragged import concatenate
from imsr_core.state import ModelState
from imsr_core.strategies import Change, strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS, assert_equal, copy_of, random_span, tensors_of, tiny_config

ITEMS = 24
SPANS = [random_span(seed, range(seed, 12 + seed), ITEMS) for seed in range(3)]
imsr, full_retrain = strategy_named("imsr"), strategy_named("full_retrain")


def chain(extractor: str = "comirec-dr") -> ModelState:
    """M_1: two spans learnt."""
    state = ModelState.initial(tiny_config(extractor, detector={"c1": 0.9}, trimmer={"c2": 0.0}))
    for span in SPANS[:2]:
        state = imsr(state, span, ITEMS).state
    return state


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_it_has_the_interests_of_the_chain_and_starts_over(extractor):
    state = chain(extractor)
    before = copy_of(state)
    update = full_retrain(state, SPANS[2], ITEMS, history=lambda: concatenate(SPANS[:2]))
    assert_equal(tensors_of(state), before)
    store, users = update.state.store, torch.from_numpy(concatenate(SPANS).users)
    known = state.store.counts_of(users)
    assert int(known.max()) > state.config.model.initial_interests
    wanted = known.where(known > 0, torch.full_like(known, state.config.model.initial_interests))
    assert torch.equal(store.users, users)
    assert torch.equal(store.counts, wanted)
    assert set(store.born.tolist()) == {0}
    assert update.state.spans == 1
    assert update.new_users == len(users)
    assert update.changes.count(Change.BORN) == len(store) == len(update.interests)


def test_it_is_pre_training_on_the_concatenated_log_where_nothing_has_grown():
    initial = ModelState.initial(tiny_config())
    update = full_retrain(initial, SPANS[2], ITEMS, history=lambda: concatenate(SPANS[:2]))
    assert_equal(tensors_of(update.state), tensors_of(imsr(initial, concatenate(SPANS), ITEMS).state))


def test_nothing_of_the_old_weights_is_left():
    one, other = chain(), chain()
    other.items.weight.mul_(-3.0)
    other.store.vectors.mul_(2.0)
    results = [full_retrain(s, SPANS[2], ITEMS, history=lambda: concatenate(SPANS[:2])).state for s in (one, other)]
    same_trend = replace(results[1], trend=results[0].trend)
    assert_equal(tensors_of(results[0]), tensors_of(same_trend))
    assert torch.equal(results[0].trend.counts, results[1].trend.counts)


def test_without_a_history_it_is_refused_unless_there_is_none():
    with pytest.raises(ConfigError, match="before the span"):
        full_retrain(chain(), SPANS[2], ITEMS)
    initial = ModelState.initial(tiny_config())
    assert_equal(
        tensors_of(full_retrain(initial, SPANS[0], ITEMS).state), tensors_of(imsr(initial, SPANS[0], ITEMS).state)
    )
