"""Forgetting against a loop over users, and ids that are never given twice."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.config import ElasticConfig
from imsr_core.state import ModelState
from imsr_core.strategies import Change, shrinking, strategy_named
from imsr_core.strategies.shrinking import Reason
from imsr_core.strategies.visits import Visits
from imsr_core.testing.planted_logs import random_span, span_of, store_of, tiny_config

NOW = 10
NOTHING_NOTED = Visits.of(ModelState.initial(tiny_config()))


def shrink(*of):
    return shrinking.shrink(*of, NOTHING_NOTED)


def by_hand(rows: list[dict], config: ElasticConfig) -> None:
    """One user's interests, oldest first: sets ``reason`` of those that go and hands on what they had."""

    def go(row: dict, reason: Reason, heir: dict | None = None) -> None:
        row["reason"] = reason
        if heir is not None:
            heir["support"] += row["support"]
            heir["active"] = max(heir["active"], row["active"])

    def cosine(a: dict, b: dict) -> float:
        lengths = math.hypot(*a["vector"]) * math.hypot(*b["vector"])
        return sum(x * y for x, y in zip(a["vector"], b["vector"], strict=True)) / lengths

    last_visit = max(row["last"] for row in rows)
    for row in rows:
        if config.idle_spans and row["active"] < NOW and last_visit - row["active"] + 1 >= config.idle_spans:
            go(row, Reason.RESTED)
    while config.budget and len(left := [row for row in rows if row["reason"] is None]) > config.budget:
        pairs = [(cosine(a, b), -i, -j) for i, a in enumerate(left) for j, b in enumerate(left) if i < j]
        best, i, j = max(pairs)
        if best >= config.merge_cosine:
            heir, row = left[-i], left[-j]
            own, other = heir["support"] + 1, row["support"] + 1
            heir["vector"] = [
                (own * x + other * y) / (own + other) for x, y in zip(heir["vector"], row["vector"], strict=True)
            ]
            go(row, Reason.MERGED, heir)
        else:
            row = min(left, key=lambda r: (r["active"], r["support"], math.hypot(*r["vector"])))
            go(row, Reason.BUDGET, max((r for r in left if r is not row), key=lambda r: cosine(row, r)))


INTEREST = st.tuples(st.integers(0, NOW), st.integers(0, 5), st.integers(0, 10_000))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(INTEREST, min_size=1, max_size=6), min_size=1, max_size=4),
    st.integers(0, 6),
    st.integers(0, 4),
    st.sampled_from([-1.0, 0.2, 0.8, 2.0]),
)
def test_it_forgets_what_the_loop_forgets(users, idle_spans, budget, merge_cosine):
    config = ElasticConfig(idle_spans=idle_spans, budget=budget, merge_cosine=merge_cosine)
    generator = torch.Generator().manual_seed(sum(seed for user in users for *_, seed in user))
    vectors = {u: torch.randn(len(rows), 5, generator=generator).tolist() for u, rows in enumerate(users)}
    flat = [row for rows in users for row in rows]
    store = store_of(vectors).replaced(
        active=torch.tensor([active for active, _, _ in flat]), support=torch.tensor([n for _, n, _ in flat])
    )
    last = torch.tensor([max(min(a, NOW - 1) for a, _, _ in rows) for rows in users for _ in rows])
    found = shrink(store, torch.ones(len(store), dtype=torch.bool), NOW, last, config)
    place = 0
    for u, rows in enumerate(users):
        mine = [
            {"active": a, "support": n, "vector": v, "last": min(a, NOW - 1), "reason": None}
            for (a, n, _), v in zip(rows, vectors[u], strict=True)
        ]
        by_hand(mine, config)
        for row in mine:
            wanted = -1 if row["reason"] is None else list(Reason).index(row["reason"])
            assert int(found.reason[place]) == wanted
            assert bool(found.keep[place]) == (wanted < 0)
            if wanted < 0:
                assert found.store.vectors[place].tolist() == pytest.approx(row["vector"], abs=1e-5)
                assert int(found.store.support[place]) == row["support"]
                assert int(found.store.active[place]) == row["active"]
            place += 1


def test_a_user_who_was_away_has_lost_interest_in_nothing():
    store = store_of({0: [[1.0, 0.0], [0.0, 1.0]]}).replaced(
        active=torch.tensor([2, NOW]), support=torch.tensor([0, 1])
    )
    keep, last_visit = torch.ones(2, dtype=torch.bool), torch.tensor([2, 2])
    assert shrink(store, keep, NOW, last_visit, ElasticConfig(idle_spans=2)).keep.all()
    stayed = torch.tensor([3, 3])  # nothing is noted, as in versions from before: one visit a span
    assert shrink(store, keep, NOW, stayed, ElasticConfig(idle_spans=2)).keep.tolist() == [False, True]


def test_an_absence_is_no_rest_whenever_the_user_comes_back_and_however_often():
    """Two tastes; one rests in two visits, then the user is away for eight spans and comes twice."""
    config = tiny_config(
        model={"initial_interests": 2}, detector={"enabled": False}, elastic={"idle_spans": 5, "budget": 0}
    )
    state = ModelState.initial(config)
    other = {u: [3, 4] for u in range(1, 6)}  # somebody is here in every span
    elastic, left = strategy_named("elastic"), []
    here = {0, 1, 2, 11, 12, 13}
    for t in range(14):
        update = elastic(state, span_of(other | ({0: [7, 7, 7]} if t in here else {})), 20)
        state = update.state
        if t == 0:  # both tastes had an item in the first span
            state.store = state.store.replaced(active=torch.zeros_like(state.store.active))
        if t in here:
            mine = state.store.user == 0
            resting = bool((state.store.active[mine] < t).any())
            left.append((t, int(mine.sum()), resting))
    counts = {t: count for t, count, _ in left}
    assert counts == {0: 2, 1: 2, 2: 2, 11: 2, 12: 2, 13: 1}  # the fifth visit in which it rests is the one of span 13
    assert all(resting for t, _, resting in left if 0 < t < 13)
    noted = Visits.of(state)
    assert 0 not in noted.user.tolist()  # nothing of this user rests any more


def test_visits_of_users_who_are_not_noted_count_as_one_a_span():
    noted = Visits(torch.tensor([4, 9]), torch.tensor([[7, 2, 1], [8, 7, -1]]))
    found = noted.before(torch.tensor([4, 5, 9, 10]), torch.tensor([7, 6, 8, 3]), 4)
    assert found.tolist() == [[7, 2, 1, -1], [6, 5, 4, 3], [8, 7, -1, -1], [3, 2, 1, 0]]
    assert noted.before(torch.tensor([9]), torch.tensor([8]), 1).tolist() == [[8]]


def test_an_id_is_never_given_twice():
    """A budget of one interest, and proposals in every span: the newest interest often wins."""
    config = tiny_config(
        model={"initial_interests": 1},
        detector={"c1": 1.0},
        trimmer={"c2": 0.0},
        elastic={"budget": 1, "merge_cosine": 2.0, "idle_spans": 1},
    )
    state, ever, forgotten = ModelState.initial(config), {}, 0
    for t in range(8):
        update = strategy_named("elastic")(state, random_span(t, range(10), 20), 20)
        state = update.state
        for user, number, born in zip(
            state.store.user.tolist(), state.store.interest_id.tolist(), state.store.born.tolist(), strict=True
        ):
            assert ever.setdefault((user, number), born) == born
        forgotten += update.changes.count(Change.FORGOTTEN)
    assert forgotten > 5
    assert max(number for _, number in ever) > 1
    assert set(state.store.counts.tolist()) == {1}


def test_imsr_never_forgets_and_says_why_it_trimmed():
    state = ModelState.initial(tiny_config(detector={"c1": 1.0}, trimmer={"c2": 0.3}, elastic={"budget": 1}))
    imsr = strategy_named("imsr")
    for t in range(3):
        update = imsr(state, span_of({u: [(u + t + j) % 20 for j in range(6)] for u in range(8)}), 20)
        state = update.state
    assert update.changes.count(Change.FORGOTTEN) == 0
    assert state.user_memory == {}
    trimmed = update.changes.change == list(Change).index(Change.TRIMMED)
    assert set(update.changes.reason[trimmed].tolist()) <= {list(Reason).index(Reason.REDUNDANT)}
    assert (update.changes.reason[~trimmed] == -1).all()
