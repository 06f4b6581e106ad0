"""Interests that have become one, against a loop over users."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.overlap import overlap
from imsr_core.state import ModelState
from imsr_core.strategies import Change, strategy_named
from imsr_core.strategies.merging import merge_twins
from imsr_core.strategies.shrinking import Reason
from imsr_core.testing.planted_logs import random_span, span_of, store_of, tiny_config

INTEREST = st.tuples(st.integers(0, 24), st.integers(0, 5), st.booleans())


def by_hand(rows: list[dict], cosine: float) -> None:
    """One user's interests, oldest first: the closest pair is merged while it is close enough."""
    while True:
        left = [row for row in rows if row["reason"] == -1]
        pairs = []
        for i, a in enumerate(left):
            for j, b in enumerate(left[i + 1 :], i + 1):
                lengths = math.hypot(*a["vector"]) * math.hypot(*b["vector"])
                pairs.append((sum(x * y for x, y in zip(a["vector"], b["vector"], strict=True)) / lengths, -i, -j))
        if not pairs or max(pairs)[0] < cosine:
            return
        _, i, j = max(pairs)
        heir, row = left[-i], left[-j]
        own, other = heir["support"] + 1, row["support"] + 1
        heir["vector"] = [
            (own * x + other * y) / (own + other) for x, y in zip(heir["vector"], row["vector"], strict=True)
        ]
        heir["support"] += row["support"]
        row["reason"] = list(Reason).index(Reason.MERGED)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(INTEREST, min_size=1, max_size=6), min_size=1, max_size=4), st.sampled_from([0.3, 0.8, 0.95]))
def test_as_a_loop_would(users, cosine):
    rows = {
        user: [
            {
                "vector": [math.cos(0.21 * angle), math.sin(0.21 * angle)],
                "support": support,
                "reason": -1 if keep else 0,
            }
            for angle, support, keep in interests
        ]
        for user, interests in enumerate(users)
    }
    flat = [row for own in rows.values() for row in own]
    store = store_of({user: [row["vector"] for row in own] for user, own in rows.items()}).replaced(
        support=torch.tensor([row["support"] for row in flat])
    )
    keep = torch.tensor([row["reason"] < 0 for row in flat])
    for own in rows.values():
        by_hand(own, cosine)
    found = merge_twins(store, keep, 1, torch.zeros(len(flat), dtype=torch.int64), cosine)
    assert found.keep.tolist() == [row["reason"] < 0 for row in flat]
    assert found.reason.tolist() == [row["reason"] for row in flat]
    for place, row in enumerate(flat):
        if row["reason"] < 0:
            assert found.store.vectors[place].tolist() == pytest.approx(row["vector"], abs=1e-5)
            assert int(found.store.support[place]) == row["support"]


def test_nobody_has_twins_after_a_span_and_no_id_is_given_twice():
    state = ModelState.initial(tiny_config(detector={"c1": 1.0}, trimmer={"c2": 0.0, "merge_cosine": 0.5}))
    ever, merged = {}, 0
    for t in range(6):
        update = strategy_named("imsr")(state, random_span(t, range(10), 20), 20)
        state = update.state
        store = state.store
        first = torch.repeat_interleave(store.counts.cumsum(0) - store.counts, store.counts)
        assert float(overlap(store.vectors, first).nan_to_num(0).max()) < 0.5
        for user, number, born in zip(
            store.user.tolist(), store.interest_id.tolist(), store.born.tolist(), strict=True
        ):
            assert ever.setdefault((user, number), born) == born
        merged += int((update.changes.reason == list(Reason).index(Reason.MERGED)).sum())
    assert merged > 5


def test_a_user_with_one_item_starts_with_one_interest():
    kept = {}
    for cosine in (0.0, 0.9):
        state = ModelState.initial(tiny_config(trimmer={"merge_cosine": cosine}))
        update = strategy_named("imsr")(state, span_of({0: [1], 1: [1, 2, 3, 4, 5, 6]}), 20)
        kept[cosine] = update.state.store.counts.tolist()
        assert update.changes.count(Change.FORGOTTEN) == 0
    assert kept[0.9][0] == 1 < kept[0.0][0]


def test_without_pit_nothing_is_merged():
    config = tiny_config(trimmer={"enabled": False, "merge_cosine": 0.01})
    update = strategy_named("imsr")(ModelState.initial(config), span_of({0: [1, 2, 3]}), 20)
    assert update.state.store.counts.tolist() == [config.model.initial_interests]
