"""The interests of a first span are out of the way while its score is counted, and the very same afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from imsr_core.holdout import hide_last
from imsr_core.letting_go import given_back_by, laid_aside
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies import SpanUpdate, imsr, strategy_named
from imsr_core.testing.planted_logs import (
    EXTRACTORS,
    assert_equal,
    random_span,
    tensors_of,
    tensors_of_store,
    tiny_config,
)

ITEMS = 30
BASE, SPAN = random_span(1, range(14), ITEMS), random_span(2, range(2, 18), ITEMS)


class Shelf:
    """Copies of what was laid aside, and how many of the originals were still there when a score was counted."""

    def __init__(self) -> None:
        self.originals: list[weakref.ref[torch.Tensor]] = []
        self.there: list[int] = []

    def aside(self, values: torch.Tensor) -> torch.Tensor:
        self.originals.append(weakref.ref(values))
        return values.clone()

    def counting(self) -> None:
        gc.collect()
        self.there.append(sum(original() is not None for original in self.originals))


@pytest.fixture
def shelf(monkeypatch) -> Iterator[Shelf]:
    shelf = Shelf()
    monkeypatch.setattr(imsr, "laid_aside", shelf.aside)
    with given_back_by(shelf.counting):
        yield shelf


def first_span(config: Any, visible: SpanSequences | None = None) -> SpanUpdate:
    return strategy_named("imsr")(ModelState.initial(config), BASE, ITEMS, visible=visible)


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("hidden", [0.0, 0.2])
def test_of_a_first_span_they_are_let_go_of_before_its_score_is_counted(extractor, hidden, shelf):
    config = tiny_config(extractor, model={"members": 2}, score={"enabled": True})
    first_span(config, hide_last(BASE, hidden, salt=5)[0] if hidden else None)
    assert len(shelf.originals) == 2  # of each member
    assert shelf.there
    assert not any(shelf.there)


def test_afterwards_they_are_the_same():
    config = tiny_config(model={"members": 2}, score={"enabled": True})
    visible, _ = hide_last(BASE, 0.2, salt=5)
    kept = first_span(config, visible)
    with given_back_by(gc.collect, np.copy):
        aside = first_span(config, visible)
    assert_equal(tensors_of(aside.state), tensors_of(kept.state))
    for mine, other in ((aside, kept), (aside.members[0], kept.members[0])):
        assert_equal(tensors_of_store(mine.interests), tensors_of_store(other.interests))
        assert_equal(tensors_of_store(mine.unseen().store), tensors_of_store(other.unseen().store))


def test_of_a_later_span_they_stay(shelf):
    state = first_span(tiny_config()).state
    shelf.originals.clear()
    strategy_named("imsr")(state, SPAN, ITEMS)
    assert not shelf.originals


def test_without_a_place_for_them_they_are_as_they_were():
    values = torch.ones(3, 2)
    assert laid_aside(values) is values
    with given_back_by(gc.collect):
        assert laid_aside(values) is values


def test_what_is_asked_without_the_hidden_events_reads_no_interests_of_those_who_have_them():
    visible, hidden = hide_last(BASE, 0.2, salt=5)
    update, users = first_span(tiny_config(), visible), torch.from_numpy(hidden.users)
    expected = tensors_of_store(update.unseen(users).store)
    update.state.store.vectors[torch.isin(update.state.store.user, users)] = np.nan
    assert_equal(tensors_of_store(update.unseen(users).store), expected)
