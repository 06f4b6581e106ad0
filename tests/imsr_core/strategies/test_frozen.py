"""The floor: a base model that nothing moves."""

import pytest
import torch

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
        assert torch.equal(update.unseen().store.vectors, state.store.vectors)
    assert update.losses == []
    assert update.new_users == update.detected == 0
