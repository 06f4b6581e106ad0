"""A stranger's items are read as a user's: the same columns as of a user who had them at these times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_terms import LOGS, N_ITEMS, USERS, learnt, log_of

from imsr_core.ragged import from_events
from imsr_core.score.score import SECOND


@settings(deadline=None, max_examples=40)
@given(LOGS, st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=8))
def test_the_columns_are_those_of_a_user_who_had_them_just_now(events, items):
    score = learnt([log_of(events)])
    given_items = np.array(items, dtype=np.int64)
    times = score.personal.until - SECOND * np.arange(len(items))[::-1]
    user = np.full(len(items), USERS, dtype=np.int64)
    personal = replace(score.personal.after(from_events(user, given_items, times), N_ITEMS), until=score.personal.until)
    expected = replace(score, personal=personal, neighbours=replace(score.neighbours, personal=personal))
    catalogue = np.arange(N_ITEMS)[None]
    voters = set(score.personal.pairs.other.tolist())  # of the rest of a session nobody knows what goes with it
    for one, other in zip(score.of_items(given_items).counters(), expected.counters(), strict=True):
        if set(items) <= voters:
            np.testing.assert_allclose(
                one.at(np.array([0]), catalogue), other.at(np.array([USERS]), catalogue), rtol=1e-4, atol=1e-6
            )


def test_the_score_itself_is_left_as_it_was():
    score = learnt([log_of([(0, 1), (0, 2), (1, 2), (1, 3)])])
    before = score.neighbours.at(np.array([0, 1]), np.tile(np.arange(N_ITEMS), (2, 1)))
    score.of_items(np.array([1, 3]))
    after = score.neighbours.at(np.array([0, 1]), np.tile(np.arange(N_ITEMS), (2, 1)))
    np.testing.assert_array_equal(before, after)
    assert score.personal.pairs.owners.tolist() == [0, 1]
