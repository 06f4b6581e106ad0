"""What a chain's first weights are asked about: whole events, each in one half, the best stretch first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.holdout import kept_back
from imsr_core.ragged import concatenate, empty_sequences, from_events, split_at
from imsr_core.testing.planted_logs import random_span


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("items", "timestamps", "rows"))


@given(seed=st.integers(0, 100), length=st.integers(1, 10_000))
def test_every_split_has_every_event_once(seed, length):
    log = random_span(seed, range(8), items=20)
    for past, last in kept_back(log, length):
        assert past.n_events + last.n_events == log.n_events
        assert same(concatenate([past, last]), log)


def test_the_last_span_comes_first_then_a_quarter_then_a_fifth_of_each_user():
    users, times = np.repeat([3, 7], 20), np.concatenate([np.arange(20), 20 + np.arange(20)])
    log = from_events(users, np.arange(40), times)
    sizes = [(past.n_events, last.n_events) for past, last in kept_back(log, 5)]
    assert sizes == [(35, 5), (30, 10), (32, 8)]
    assert [last.n_events for _, last in kept_back(log, 1_000)] == [10, 8]  # no longer than a span
    *_, (_, last) = kept_back(log, 5)
    assert last.timestamps.tolist() == [16, 17, 18, 19, 36, 37, 38, 39]


def test_nothing_is_kept_back_of_nothing():
    assert not list(kept_back(empty_sequences(), 5))


@pytest.mark.parametrize("first", [0, 2])
def test_users_stay_when_all_of_theirs_is_on_one_side(first):
    log = from_events(np.array([1, 1]), np.array([5, 6]), np.array([0, 1]))
    heads, rest = split_at(log, np.array([first]))
    assert heads.users.tolist() == rest.users.tolist() == [1]
    assert (heads.n_events, rest.n_events) == (first, 2 - first)
