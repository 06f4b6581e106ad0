"""The contract of every term: cut the log as you like, the counts are the same; `add` says what `at` says."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.config import ScoreConfig
from imsr_core.ragged import between, concatenate, empty_sequences, from_events
from imsr_core.score import InterestTerm, Score, neighbours
from imsr_core.score.bias import BiasTerm
from imsr_core.score.contexts import CONTEXT, PARTNERS, TASTE, WINDOW
from imsr_core.score.pairs import Pairs
from imsr_core.score.trend import EPSILON, HALF_LIVES
from imsr_core.testing.planted_logs import random_span, store_of

UNIT, N_ITEMS, USERS = 100, 9, 5
ON = ScoreConfig(enabled=True)
COUNTED = ScoreConfig(enabled=True, factors=False)
#: Events at distinct times, so that a cut in time is a cut of the log.
LOGS = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=1, max_size=60)
CUTS = st.lists(st.integers(0, 600), max_size=4)


def log_of(events):
    users, items = (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
    return from_events(users, items, np.arange(1, len(events) + 1, dtype=np.int64) * 10)


def pieces(log, cuts):
    edges = [0, *sorted(cuts), 10_000]
    return [between(log, first, last) for first, last in pairwise(edges)]


def learnt(spans, config=COUNTED):
    score = Score.empty(config, UNIT)
    for span in spans:
        score = score.after(span, N_ITEMS)
    return score


@settings(deadline=None)
@given(LOGS, CUTS)
def test_span_by_span_or_at_once(events, cuts):
    log = log_of(events)
    once, stepwise = learnt([log]), learnt(pieces(log, cuts))
    users = np.arange(USERS)
    items = np.tile(np.arange(N_ITEMS), (USERS, 1))
    for one, other in zip(once.counters(), stepwise.counters(), strict=True):
        np.testing.assert_allclose(one.at(users, items), other.at(users, items), rtol=1e-4, atol=1e-6)
    for name in ("trend", "degree"):
        torch.testing.assert_close(once.tensors()[name], stepwise.tensors()[name])


@settings(deadline=None, max_examples=30)
@given(LOGS, CUTS, st.integers(0, 99))
def test_serving_adds_what_the_columns_say(events, cuts, seed):
    score = learnt(pieces(log_of(events), cuts), ON)
    generator = torch.Generator().manual_seed(seed)
    store = store_of({0: [[0.2, 0.9], [1.0, 0.1]], 3: [[-0.5, 0.5]]})
    interest = InterestTerm(store, torch.randn(N_ITEMS, 2, generator=generator), 3.0)
    users = np.array([3, 0, 4])
    items = np.tile(np.arange(N_ITEMS), (3, 1))
    for term in [*score.terms(interest), BiasTerm(torch.randn(N_ITEMS, generator=generator))]:
        weights = torch.randn(len(term.columns), generator=generator)
        served = torch.ones(3, N_ITEMS)
        term.add(served, users, weights)
        torch.testing.assert_close(served - 1, term.at(users, items) @ weights, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(LOGS, CUTS, st.integers(0, 99))
def test_what_a_fit_asks_is_what_the_columns_say(events, cuts, seed):
    score = learnt(pieces(log_of(events), cuts), ON)
    generator = torch.Generator().manual_seed(seed)
    store = store_of({0: [[0.2, 0.9], [1.0, 0.1]], 3: [[-0.5, 0.5]]})
    interest = InterestTerm(store, torch.randn(N_ITEMS, 2, generator=generator), 3.0)
    users, shared = np.array([0, 3, 4]), np.arange(N_ITEMS)
    place, own = np.random.default_rng(seed).integers(0, (3, N_ITEMS), (7, 2)).T
    items = np.tile(shared, (3, 1))
    had = torch.from_numpy(score.personal.pairs.find(np.broadcast_to(users[:, None], items.shape), items) >= 0)
    for term in [*score.terms(interest), BiasTerm(torch.randn(N_ITEMS, generator=generator))]:
        everybody, mine = term.asked(users, shared, place, own)
        whole = term.at(users, items)
        torch.testing.assert_close(mine, whole[place, own], rtol=1e-4, atol=1e-5)
        whole = torch.where(had[..., None], torch.zeros(()), whole)  # what the user had is not asked about here
        everybody = torch.where(had[..., None], torch.zeros(()), everybody.expand(3, -1, -1))
        width = everybody.shape[2]
        torch.testing.assert_close(everybody, whole[..., :width], rtol=1e-4, atol=1e-5)
        assert not whole[..., width:].any()


def test_votes_are_the_same_wherever_they_are_gone_through(monkeypatch):
    rng = np.random.default_rng(3)
    term = learnt([log_of([(rng.integers(USERS), rng.integers(N_ITEMS)) for _ in range(60)])]).neighbours
    found = []
    for share in (0, 10_000):
        monkeypatch.setattr(neighbours, "SPARSE", share)
        found.append(torch.zeros(USERS, N_ITEMS))
        term.add(found[-1], np.arange(USERS), torch.tensor([0.7, -0.3]))
    torch.testing.assert_close(*found)
    assert bool(found[0].any())


@given(LOGS)
def test_counts_are_what_a_loop_counts(events):
    log, now = log_of(events), 10 * len(events)
    score = learnt([log])
    for item in range(N_ITEMS):
        ages = [(now - 10 * (n + 1)) / UNIT for n, (_, i) in enumerate(events) if i == item]
        wanted = [np.log1p(sum(0.5 ** (age / h) for age in ages) / EPSILON) for h in HALF_LIVES]
        np.testing.assert_allclose(score.trend.values()[item], wanted, rtol=1e-4, atol=1e-5)
        for user in range(USERS):
            times = sum(1 for u, i in events if (u, i) == (user, item))
            columns = dict(
                zip(score.personal.columns, score.personal.at(np.array([user]), np.array([[item]]))[0, 0], strict=True)
            )
            assert float(columns["personal_ever"]) == pytest.approx(np.log1p(times / 0.1), rel=1e-5)
            assert float(columns["had"]) == (times > 0)


@given(LOGS)
def test_neighbours_are_within_a_few_steps(events):
    score = learnt([log_of(events)])
    together = np.zeros((N_ITEMS, N_ITEMS))
    for user in range(USERS):
        own = [i for u, i in events if u == user]
        for n, later in enumerate(own):
            for earlier in own[max(0, n - WINDOW) : n]:
                if earlier != later:
                    together[earlier, later] += 1
                    together[later, earlier] += 1
    pairs = score.neighbours.pairs
    found = np.zeros_like(together)
    found[pairs.owner, pairs.other] = pairs.values[:, 0]
    np.testing.assert_array_equal(found, together)
    np.testing.assert_array_equal(score.neighbours.degree[:, 0], together.sum(1))


def tastes(events, n_items):
    together = np.zeros((n_items, n_items))
    for user in {u for u, _ in events}:
        own = list(dict.fromkeys(i for u, i in events if u == user))
        for n, new in enumerate(own):
            back, shares = min(n, CONTEXT), min(n, PARTNERS[TASTE])
            for part in range(shares):  # the middle of each part of what lies back
                earlier = own[n - 1 - int((part + 0.5) * back / shares)]
                together[earlier, new] += 1 / shares
                together[new, earlier] += 1 / shares
    return together


@given(LOGS)
def test_tastes_share_the_vote_of_what_is_new(events):
    pairs = learnt([log_of(events)]).neighbours.pairs
    found = np.zeros((N_ITEMS, N_ITEMS))
    found[pairs.owner, pairs.other] = pairs.values[:, 1]
    np.testing.assert_allclose(found, tastes(events, N_ITEMS))


@pytest.mark.parametrize("cut", [0, 30, 500])
def test_tastes_of_a_long_list_are_spread_over_it(cut):
    n_items, rng = 140, np.random.default_rng(0)
    events = [(user, int(item)) for user in range(2) for item in rng.permutation(n_items)]
    score = Score.empty(ON, UNIT)
    for span in pieces(log_of(events), [10 * cut]):
        score = score.after(span, n_items)
    pairs = score.neighbours.pairs
    found = np.zeros((n_items, n_items))
    found[pairs.owner, pairs.other] = pairs.values[:, 1]
    np.testing.assert_allclose(found, tastes(events, n_items))


def test_a_user_without_events_and_an_empty_span_change_nothing():
    score = learnt([random_span(0, range(6), N_ITEMS)])
    same = score.after(empty_sequences(), N_ITEMS)
    np.testing.assert_array_equal(same.trend.counts, score.trend.counts)
    span = random_span(5, range(2), N_ITEMS)
    later = score.after(span, N_ITEMS)
    others = ~np.isin(score.personal.pairs.owner, span.users)
    kept = later.personal.pairs.take(~np.isin(later.personal.pairs.owner, span.users))
    np.testing.assert_array_equal(kept.values, score.personal.pairs.values[others])


def test_a_limit_keeps_the_newest_items_and_the_closest_neighbours():
    score = Score.empty(ScoreConfig(enabled=True, history=2, neighbours_kept=1), UNIT)
    score = score.after(log_of([(0, 1), (0, 2), (0, 3), (0, 2)]), N_ITEMS)
    assert score.personal.pairs.other.tolist() == [2, 3]
    # by steps 1 went with 2 twice, 2 with 3 twice; by taste 2 with 1 the most, and 3 with 1 as much as with 2
    pairs = score.neighbours.settled.pairs
    kept = list(zip(pairs.owner.tolist(), pairs.other.tolist(), strict=True))
    assert kept == [(1, 2), (2, 1), (3, 1), (3, 2)]


def test_pairs_of_some_owners_and_of_changes():
    table = Pairs(np.array([1, 1, 4]), np.array([2, 5, 2]), np.zeros(3, np.int64), np.ones((3, 1)))
    assert table.find(np.array([1, 1, 4, 9]), np.array([5, 4, 2, 2])).tolist() == [1, -1, 2, -1]
    place, rows = table.rows_of(np.array([4, 7, 1]))
    assert place.tolist() == [0, 2, 2]
    assert rows.tolist() == [2, 0, 1]
    changed = table.updated(Pairs(np.array([1]), np.array([3]), np.zeros(1, np.int64), np.ones((1, 1))))
    assert list(zip(changed.owner.tolist(), changed.other.tolist(), strict=True)) == [(1, 3), (4, 2)]


def test_joining_spans_of_equal_times_keeps_their_order():
    first, second = log_of([(0, 1), (0, 2)]), log_of([(0, 3)])
    assert concatenate([first, second]).items.tolist() == [1, 3, 2]


@settings(deadline=None)
@given(LOGS, CUTS, st.integers(1, 4))
def test_neighbours_are_the_same_however_often_they_are_counted(events, cuts, pieces_a_base):
    spans = pieces(log_of(events), cuts)
    lazy = counted = Score.empty(ON, UNIT)
    for n, span in enumerate(spans):
        lazy, counted = lazy.after(span, N_ITEMS), counted.after(span, N_ITEMS)
        if n % pieces_a_base == 0:
            counted = replace(counted, neighbours=counted.neighbours.settled)
    assert len(lazy.neighbours.since) == len(spans)
    one, other = lazy.neighbours.pairs, counted.neighbours.pairs
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_allclose(one.values, other.values)
    np.testing.assert_array_equal(lazy.neighbours.settled.base.keys, one.keys)


def test_neighbours_are_counted_a_few_items_at_a_time(monkeypatch):
    score = learnt([random_span(seed, range(6), N_ITEMS) for seed in range(3)])
    users, items = np.arange(6), np.tile(np.arange(N_ITEMS), (6, 1))
    whole, served = score.neighbours.settled.base, score.neighbours.at(users, items)
    monkeypatch.setattr("imsr_core.score.contexts.PIECE", 7)
    monkeypatch.setattr("imsr_core.score.neighbours.ENTRIES", 20)
    again = replace(score.neighbours)
    np.testing.assert_array_equal(again.settled.base.keys, whole.keys)
    np.testing.assert_allclose(again.settled.base.values, whole.values)
    torch.testing.assert_close(again.at(users, items), served)


def test_a_base_that_is_outgrown_is_counted_anew(monkeypatch):
    monkeypatch.setattr("imsr_core.score.neighbours.FEW", 0)
    spans = [random_span(seed, range(6), N_ITEMS) for seed in range(8)]
    score, lengths = Score.empty(ON, UNIT), []
    for span in spans:
        score = score.after(span, N_ITEMS)
        lengths.append(len(score.neighbours.since))
    assert max(lengths) < len(spans)
    part = replace(score.neighbours, whole=False)
    assert len(part.after(spans[0], N_ITEMS).since) == lengths[-1] + 1, "a part of a base is no base to count anew"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 3)), unique_by=lambda row: row[:2]))
def test_the_strongest_are_those_of_a_sort(rows):
    rows = sorted(rows)
    owner, other, value = (np.array([row[n] for row in rows], dtype=np.int64) for n in range(3))
    table = Pairs(owner, other, np.zeros(len(rows), np.int64), value[:, None] / 3)
    for limit in (1, 2, 5):
        expected = [
            row in sorted((r for r in rows if r[0] == row[0]), key=lambda r: (-r[2], r[1]))[:limit] for row in rows
        ]
        assert table.strongest(limit).tolist() == expected


def test_a_score_that_is_only_asked_has_the_counts_of_users_and_the_neighbours_of_before():
    before = learnt([random_span(seed, range(6), N_ITEMS) for seed in range(3)])
    span = random_span(7, range(4, 9), N_ITEMS + 3)
    after, asked = before.after(span, N_ITEMS + 3), before.asked_after(span, N_ITEMS + 3)
    users, items = np.arange(9), np.tile(np.arange(N_ITEMS + 3), (9, 1))
    for name in ("trend", "personal"):
        torch.testing.assert_close(getattr(asked, name).at(users, items), getattr(after, name).at(users, items))
    known = items[:, :N_ITEMS]
    alone = replace(before.neighbours, personal=after.personal)
    torch.testing.assert_close(asked.neighbours.at(users, known), alone.at(users, known))
    assert float(asked.neighbours.at(users, items)[:, N_ITEMS:].abs().sum()) == 0
    fresh = replace(before.neighbours)
    torch.testing.assert_close(before.neighbours.at(users[:6], known[:6]), fresh.at(users[:6], known[:6]))
