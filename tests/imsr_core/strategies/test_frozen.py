"""The floor: a base model that nothing moves."""

import pytest
import torch

from imsr_core.holdout import hide_last
from imsr_core.state import ModelState
from imsr_core.strategies import Change, strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS, assert_equal, copy_of, random_span, tensors_of, tiny_config

ITEMS = 24
BASE, NEXT = random_span(1, range(12), ITEMS), random_span(2, range(4, 16), ITEMS + 6)
imsr, frozen = strategy_named("imsr"), strategy_named("frozen")


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_the_base_is_everybodys_and_nothing_moves_it(extractor):
    initial = ModelState.initial(tiny_config(extractor))
    base = frozen(initial, BASE, ITEMS).state
    assert_equal(tensors_of(base), tensors_of(imsr(initial, BASE, ITEMS).state))
    before, state = copy_of(base), base
    for spans in range(2, 7):
        update = frozen(state, NEXT, ITEMS + 6, visible=NEXT)
        state = update.state
        assert state.spans == spans
        assert state.n_items == ITEMS
        assert_equal(tensors_of(state) | {"spans": before["spans"]}, before)
        assert update.changes.count(Change.KEPT) == len(update.interests) == len(update.changes.user)
        assert_equal(tensors_of(update.unseen()), tensors_of(state))
    assert update.losses == []
    assert update.new_users == update.detected == 0


def test_what_hidden_events_say_changes_no_score():
    config = tiny_config(score={"enabled": True})
    base = frozen(ModelState.initial(config), BASE, ITEMS).state
    visible, hidden = hide_last(NEXT, 0.2, salt=0)
    assert len(hidden)
    update = frozen(base, NEXT, ITEMS + 6, visible=visible)
    for users in (None, torch.from_numpy(hidden.users)):
        assert update.unseen(users).score is base.score is not None
