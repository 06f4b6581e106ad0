"""The trend: counts that fade, against loops; the weight that a new span asks for; off is off."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core import retrieval
from imsr_core.config import TrendConfig
from imsr_core.ragged import concatenate, from_events
from imsr_core.retrieval import top_items
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import random_span, span_of, store_of, tiny_config
from imsr_core.trend import DAY, ENOUGH, EPSILON, FIRST_WEIGHT, HALF_LIVES, WEIGHTS, Trend, _gain_of_popularity

EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 40 * DAY)), max_size=12)


def span_with(events: list[tuple[int, int, int]]):
    columns = torch.tensor(events, dtype=torch.int64).reshape(-1, 3).T.contiguous().numpy()
    return from_events(*columns)


@given(EVENTS, EVENTS)
def test_counts_fade_by_event_time_however_the_log_is_cut(first, second):
    spans = [span_with(first), span_with([(u, i, t + 40 * DAY) for u, i, t in second])]
    trend = Trend.empty()
    for span in spans:
        trend = trend.after(span, 6)
    log = [*first, *((u, i, t + 40 * DAY) for u, i, t in second)]
    until = max((t for _, _, t in log), default=0)
    assert trend.until == until
    for place, half_life in enumerate(HALF_LIVES):
        for item in range(6):
            count = sum(0.5 ** ((until - t) / DAY / half_life) for _, i, t in log if i == item)
            assert float(trend.counts[place, item]) == pytest.approx(count, rel=1e-4, abs=1e-6)
            popular = float(trend.popularity(6, place)[item])
            assert popular == pytest.approx(math.log(1 + count / EPSILON), rel=1e-4, abs=1e-4)
    late = Trend.empty().after(spans[1], 6).after(spans[0], 6)  # an older span that comes after a newer one
    assert late.until == until
    assert torch.allclose(late.counts, trend.counts, rtol=1e-4, atol=1e-6)
    at_once = Trend.empty().after(concatenate(spans), 6)
    assert torch.allclose(at_once.counts, trend.counts, rtol=1e-4, atol=1e-6)


def test_an_empty_span_and_new_items_leave_counts_as_they_are():
    trend = Trend.empty().after(span_of({0: [1, 2]}), 3)
    grown = trend.after(span_of({}), 5)
    assert torch.equal(grown.counts[:, :3], trend.counts)
    assert not grown.counts[:, 3:].any()
    assert grown.until == trend.until


def world(liked: bool):
    """40 users and 30 items. Everybody takes item 29 from now on, or everybody what the own interest points to."""
    generator = torch.Generator().manual_seed(3)
    items = torch.nn.functional.normalize(torch.randn(30, 8, generator=generator), dim=-1)
    favourites = [u % 29 for u in range(40)]
    store = store_of({u: [(0.9 * items[i]).tolist()] for u, i in enumerate(favourites)})
    past = span_of({u: [29] * 4 for u in range(40)})
    now = span_of({u: [i if liked else 29] * 4 for u, i in enumerate(favourites)}, start=DAY)
    return Trend.empty().after(past, 30), now, store, items


@pytest.mark.parametrize("liked", [True, False])
def test_a_span_says_whether_the_trend_or_the_interest_is_right(liked):
    trend, now, store, items = world(liked)
    judged = trend.judged(now, store, items, 12.0, torch.Generator().manual_seed(0))
    assert judged.evidence == 160 >= ENOUGH
    weight = judged.weight(TrendConfig())
    assert (weight < 1) if liked else (weight >= 4)
    found = top_items(store, store.users, items, 1, bias=judged.bias(TrendConfig(), 30, 12.0))
    assert (found.items[:, 0] == (torch.arange(40) % 29 if liked else 29)).all()
    assert torch.equal(judged.counts, trend.counts)


def test_old_evidence_fades_and_too_little_decides_nothing():
    trend, now, store, items = world(liked=False)
    few = span_of({0: [29, 29]}, start=DAY)
    judged = trend.judged(few, store, items, 12.0, torch.Generator())
    assert judged.evidence == 2
    assert judged.weight(TrendConfig()) == WEIGHTS[FIRST_WEIGHT]
    once = trend.judged(now, store, items, 12.0, torch.Generator())
    twice = once.judged(now, store, items, 12.0, torch.Generator())
    assert twice.evidence == 1.5 * once.evidence
    assert float(twice.weight_gains[6]) == pytest.approx(1.5 * float(once.weight_gains[6]))


@pytest.mark.parametrize(("evidence", "decides"), [(math.nextafter(ENOUGH, 0), False), (ENOUGH, True)])
def test_just_enough_evidence_decides(evidence, decides):
    gains = torch.zeros(len(HALF_LIVES)), torch.zeros(len(WEIGHTS))
    gains[0][-1], gains[1][-1] = 1.0, 1.0
    trend = replace(Trend.empty(), evidence=evidence, half_life_gains=gains[0], weight_gains=gains[1])
    assert (trend.half_life == len(HALF_LIVES) - 1) is decides
    assert (trend.weight(TrendConfig()) == WEIGHTS[-1]) is decides


def test_half_lives_are_judged_by_gains_that_fade():
    trend, now, store, items = world(liked=False)
    once = trend.judged(now, store, items, 12.0, torch.Generator())
    twice = once.judged(now, store, items, 12.0, torch.Generator())
    assert once.half_life_gains.min() > 0
    assert torch.allclose(twice.half_life_gains, 1.5 * once.half_life_gains)


def test_users_in_several_chunks_are_judged_as_in_one(monkeypatch):
    trend, now, store, items = world(liked=True)
    whole = trend.judged(now, store, items, 12.0, torch.Generator().manual_seed(0))
    monkeypatch.setattr(retrieval, "CHUNK_SCORES", 1)
    monkeypatch.setattr(retrieval, "FEWEST_USERS", 7)
    parts = trend.judged(now, store, items, 12.0, torch.Generator().manual_seed(0))
    assert torch.allclose(parts.weight_gains, whole.weight_gains)


def test_strangers_and_strange_items_are_no_evidence():
    trend, _, store, items = world(liked=True)
    strange = span_of({1: [30, 31], 99: [3, 4]}, start=DAY)
    assert trend.judged(strange, store, items, 12.0, torch.Generator()) is trend


def test_a_fixed_weight_is_obeyed_and_off_is_zero():
    trend = Trend.empty().after(span_of({0: [1, 1]}), 3)
    assert trend.weight(TrendConfig(weight=0.7)) == 0.7
    assert torch.allclose(trend.bias(TrendConfig(weight=0.6), 3, 12.0), 0.05 * trend.popularity(3))
    assert not trend.bias(TrendConfig(enabled=False), 3, 12.0).any()
    assert trend.bias(TrendConfig(weight=0.0), 5, 12.0).shape == (5,)


def test_a_chain_carries_it_and_full_retraining_arrives_at_the_same_counts():
    imsr = strategy_named("imsr")
    spans = [random_span(t, range(30), 24) for t in range(3)]
    state = ModelState.initial(tiny_config())
    for span in spans:
        before, state = state, imsr(state, span, 24).state
    assert state.trend.evidence > 0
    retrained = strategy_named("full_retrain")(before, spans[-1], 24, history=lambda: concatenate(spans[:2])).state
    assert torch.allclose(retrained.trend.counts, state.trend.counts, atol=1e-5)
    assert torch.equal(retrained.trend.weight_gains, state.trend.weight_gains)


def test_the_gain_of_a_popularity_is_the_ndcg_of_its_list():
    """Ties count against it: the wanted item stands last among those with its popularity."""
    popularity = torch.tensor([0.5, 2.0, 0.0, 2.0, 1.0])
    ranks = {0: 4, 1: 2, 2: 5, 3: 2, 4: 3}  # from 1
    for item, rank in ranks.items():
        gain = _gain_of_popularity(popularity, torch.tensor([item]))
        assert float(gain) == pytest.approx(1 / math.log2(rank + 1))
    both = _gain_of_popularity(popularity, torch.tensor([1, 4]))
    assert float(both) == pytest.approx(1 / math.log2(3) + 1 / math.log2(4))
