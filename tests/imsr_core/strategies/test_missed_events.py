"""Spans that were rejected: what happened in them is counted with the next span, and not learnt."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imsr_core.ragged import SpanSequences, concatenate
from imsr_core.state import ModelState
from imsr_core.strategies import SpanUpdate, strategy_named
from imsr_core.testing.planted_logs import assert_equal, random_span, tensors_of, tiny_config

ITEMS = 30


def later(span: SpanSequences, start: int) -> SpanSequences:
    return replace(span, timestamps=span.timestamps + start)


BASE = random_span(1, range(14), ITEMS)
MISSED = later(random_span(2, range(4, 20), ITEMS + 2), 10_000)
SPAN = later(random_span(3, range(2, 12), ITEMS + 3), 20_000)
COUNTED = {"enabled": True, "factors": False}


def learn(missed, name="imsr", score=COUNTED) -> SpanUpdate:
    base = strategy_named("imsr")(ModelState.initial(tiny_config("comirec-dr", score=score)), BASE, ITEMS).state
    if missed is not None:
        base.missed = missed
    return strategy_named(name)(base, SPAN, ITEMS + 3, history=lambda: BASE)


@pytest.mark.parametrize("name", ["imsr", "fine_tune", "sml", "full_retrain"])
def test_what_was_missed_is_counted_as_if_it_had_been_in_the_chain(name):
    score = learn(MISSED, name).state.score
    counted = ModelState.initial(tiny_config("comirec-dr", score=COUNTED)).score
    counted = counted.after(concatenate([BASE, MISSED, SPAN]), ITEMS + 3)
    users = counted.personal.pairs.owners
    assert set(MISSED.users) <= set(users)
    items = np.tile(np.arange(ITEMS + 3), (len(users), 1))
    for term in ("trend", "personal", "neighbours"):
        one, other = getattr(score, term), getattr(counted, term)
        torch.testing.assert_close(one.at(users, items), other.at(users, items), rtol=2e-3, atol=1e-3)


def test_it_changes_neither_the_model_nor_the_interests_nor_the_weights():
    plain, update = learn(None), learn(MISSED)
    mine = {name: tensor for name, tensor in tensors_of(update.state).items() if not name.startswith("trend")}
    assert_equal(mine, {name: tensor for name, tensor in tensors_of(plain.state).items() if name in mine})
    assert torch.equal(plain.state.score.weights.values, update.state.score.weights.values)
    assert plain.losses == update.losses
    assert not np.array_equal(plain.state.score.trend.counts, update.state.score.trend.counts)


def test_it_is_counted_once():
    state = learn(MISSED).state
    assert state.missed.n_events == 0
    again = later(random_span(4, range(3), ITEMS), 30_000)
    counts = strategy_named("imsr")(state, again, ITEMS + 3).state.score.personal.pairs.values[:, 0].sum()
    assert counts == sum(part.n_events for part in (BASE, MISSED, SPAN, again))


def test_a_trend_without_a_score_counts_it_too():
    plain, update = learn(None, score={"enabled": False}), learn(MISSED, score={"enabled": False})
    assert update.state.trend.counts.sum() > plain.state.trend.counts.sum() + 1
