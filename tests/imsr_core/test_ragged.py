"""Ragged sequences: every operation against a dictionary of Python lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.ragged import (
    SequenceError,
    SpanSequences,
    all_but_last,
    between,
    concatenate,
    drop_empty,
    empty_sequences,
    from_events,
    last_n,
    restrict_users,
    slice_rows,
    take_rows,
)

LOGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 6)), max_size=30)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def build(log: list[tuple[int, int, int]]) -> SpanSequences:
    columns = np.array(log, dtype=np.int64).reshape(-1, 3)
    return from_events(columns[:, 0], columns[:, 1], columns[:, 2]).validate()


def as_lists(sequences: SpanSequences) -> dict[int, list[tuple[int, int]]]:
    cuts = sequences.offsets.tolist()
    pairs = list(zip(sequences.items.tolist(), sequences.timestamps.tolist(), strict=True))
    return {u: pairs[cuts[r] : cuts[r + 1]] for r, u in enumerate(sequences.users.tolist())}


def by_hand(log: list[tuple[int, int, int]]) -> dict[int, list[tuple[int, int]]]:
    lists: dict[int, list[tuple[int, int]]] = {}
    for user, item, time in sorted(log, key=lambda row: row[2]):
        lists.setdefault(user, []).append((item, time))
    return lists


@given(LOGS)
def test_from_events_groups_by_user_and_keeps_the_order_of_equal_times(log):
    sequences = build(log)
    assert as_lists(sequences) == by_hand(log)
    assert len(sequences) == len({row[0] for row in log})
    assert sequences.n_events == len(log) == sequences.counts.sum()


@given(st.lists(LOGS, max_size=4))
def test_concatenating_spans_equals_sorting_their_logs(logs):
    joined = concatenate([build(log) for log in logs]).validate()
    assert as_lists(joined) == by_hand([row for log in logs for row in log])


@given(LOGS, st.integers(0, 8))
def test_last_n_and_all_but_last_split_each_user(log, n):
    sequences = build(log)
    expected = by_hand(log)
    assert as_lists(last_n(sequences, n)) == {u: e[max(len(e) - n, 0) :] for u, e in expected.items()}
    assert as_lists(all_but_last(sequences, n)) == {u: e[: max(len(e) - n, 0)] for u, e in expected.items()}


@given(LOGS, st.integers(0, 7), st.integers(0, 7))
def test_between_is_half_open_and_keeps_users_until_they_are_dropped(log, start, end):
    expected = {u: [e for e in events if start <= e[1] < end] for u, events in by_hand(log).items()}
    kept = between(build(log), start, end)
    assert as_lists(kept) == expected
    assert as_lists(drop_empty(kept)) == {u: events for u, events in expected.items() if events}


@given(LOGS, st.lists(st.integers(0, 9), max_size=6))
def test_restricting_to_users_ignores_order_repeats_and_strangers(log, users):
    expected = {u: events for u, events in by_hand(log).items() if u in users}
    assert as_lists(restrict_users(build(log), np.array(users, dtype=np.int64))) == expected


@given(LOGS, st.integers(-7, 7), st.integers(-7, 7))
def test_slices_follow_python_and_equal_taking_the_rows(log, start, stop):
    sequences = build(log)
    part = slice_rows(sequences, start, stop).validate()
    assert part.users.tolist() == sequences.users.tolist()[start:stop]
    rows = np.arange(len(sequences))[start:stop]
    assert as_lists(part) == as_lists(take_rows(sequences, rows))


def test_slices_share_the_events_instead_of_copying_them():
    sequences = build([(1, 2, 3), (2, 5, 1)])
    assert np.shares_memory(slice_rows(sequences, 1, 2).items, sequences.items)


def test_rows_name_the_owner_of_each_event():
    built = build([(7, 0, 0), (3, 0, 0), (7, 1, 1)])
    assert built.rows.tolist() == [0, 1, 1]
    assert built.rows is built.rows  # built once, not for every batch that asks


def test_no_user_is_a_valid_result_of_everything():
    nobody = empty_sequences().validate()
    assert len(nobody) == nobody.n_events == 0
    results = (
        concatenate([]),
        concatenate([nobody, nobody]),
        last_n(nobody, 3),
        restrict_users(nobody, ints(1)),
    )
    assert all(len(result) == 0 for result in results)


@pytest.mark.parametrize(
    ("users", "offsets", "items", "timestamps", "message"),
    [
        (ints(1), ints(0), ints(), ints(), "need 2 offsets"),
        (ints(1), ints(0, 2), ints(1), ints(1), "from 0 to 1"),
        (ints(1), ints(0, 1), ints(1), ints(1, 2), "differ in length"),
        (ints(1).astype(np.int32), ints(0, 1), ints(1), ints(1), "users must be"),
        (ints(2, 1), ints(0, 1, 2), ints(1, 1), ints(1, 1), "strictly increasing"),
        (ints(1, 1), ints(0, 1, 2), ints(1, 1), ints(1, 1), "strictly increasing"),
        (ints(1, 2), ints(0, 3, 2), ints(1, 1), ints(1, 1), "never decrease"),
        (ints(-1), ints(0, 1), ints(1), ints(1), "user index is negative"),
        (ints(1), ints(0, 1), ints(-1), ints(1), "item index is negative"),
        (ints(4), ints(0, 2), ints(1, 1), ints(2, 1), "backwards in user 4"),
    ],
)
def test_damaged_arrays_are_refused_by_name(users, offsets, items, timestamps, message):
    with pytest.raises(SequenceError, match=message):
        SpanSequences(users, offsets, items, timestamps).validate()
