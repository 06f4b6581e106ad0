"""What the `users` line learns from: sequences of all learnt spans, ended before a label is known."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import DAYS, NASTY_USER, day_of_events, land, log, make, run_all

from imsr_core.lifelong.errors import TaskError
from imsr_core.ragged import SpanSequences
from pipelines.tasks.data import before_labels, end_of, history, labelled, learnt_chain, vocabulary_of
from pipelines.workspace.ledger import SpanState


def chain_of(workspace):
    with workspace.ledger.snapshot() as view:
        return learnt_chain(workspace, view)


def test_the_chain_is_every_learnt_span_and_holds_every_event(learnt):
    chain = chain_of(learnt)
    assert [link.span_id for link in chain] == DAYS
    sequences = history(chain)
    assert len(sequences.items) == len(log())
    vocabulary = vocabulary_of(chain)
    assert set(vocabulary.user_ids(sequences.users).to_pylist()) == {user for user, *_ in log()}
    for start, end in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        assert (np.diff(sequences.timestamps[start:end]) >= 0).all()


def test_some_users_have_the_same_sequences_as_among_all(learnt):
    chain = chain_of(learnt)
    everybody, some = history(chain), history(chain, np.array([2, 5], dtype=np.int64))
    assert some.users.tolist() == [2, 5]
    for place, user in enumerate(some.users):
        row = int(np.searchsorted(everybody.users, user))
        assert (
            some.items[some.offsets[place] : some.offsets[place + 1]].tolist()
            == everybody.items[everybody.offsets[row] : everybody.offsets[row + 1]].tolist()
        )


def test_without_a_learnt_span_there_is_nothing_to_learn_from(ingested):
    with pytest.raises(TaskError, match="no span is learnt yet"):
        chain_of(ingested)


def test_late_events_are_in_the_chain_once_they_are_learnt(learnt, copy_of):
    workspace = copy_of(learnt)
    land(workspace, day_of_events(3, seed=9), "late.csv")
    with workspace.ledger.snapshot() as view:
        assert view.span(DAYS[3]).state == SpanState.STALE
    run_all(workspace)
    assert [link.span_id for link in chain_of(workspace)] == DAYS
    assert len(history(chain_of(workspace)).items) > len(log())


def test_spans_that_are_not_learnt_yet_are_not_in_the_chain(tmp_path):
    workspace = make(tmp_path / "w", log(range(3)))
    run_all(workspace)
    land(workspace, day_of_events(3), "next.csv")
    assert [link.span_id for link in chain_of(workspace)] == DAYS[:3]
    with workspace.ledger.snapshot() as view:
        assert end_of(view, DAYS[0]) - view.span(DAYS[0]).start_us == 86_400_000_000
        with pytest.raises(TaskError, match="not in the ledger"):
            end_of(view, "1999-01-01")


def table_of(users, labels, times=None):
    times = pa.array(times if times else [None] * len(users), pa.int64())
    return pa.table({"user_id": pa.array(users), "label": pa.array(labels), "time": times})


def test_labels_are_joined_to_sequences_and_what_has_none_is_left_out(learnt):
    chain = chain_of(learnt)
    table = table_of([NASTY_USER, "u1", "stranger"], ["x", "y", "x"])
    task, kept = labelled("club", "class", chain, table, ("y", "x"))
    ids = vocabulary_of(chain).user_ids(task.users).to_pylist()
    assert dict(zip(ids, task.labels.tolist(), strict=True)) == {NASTY_USER: 1, "u1": 0}
    assert kept["user_id"].to_pylist() == [NASTY_USER, "u1"]
    assert set(task.sequences.users) == set(task.users)
    assert (task.kind, task.n_labels) == ("classes", 2)


def test_a_sequence_ends_before_the_first_label(learnt):
    chain = chain_of(learnt)
    everybody = history(chain)
    user = int(everybody.users[3])
    times = everybody.timestamps[everybody.offsets[3] : everybody.offsets[4]]
    (name,) = vocabulary_of(chain).user_ids(np.array([user])).to_pylist()
    middle = int(times[len(times) // 2])
    table = table_of([name, name, "u1"], ["a", "b", "a"], [middle, middle + 10**12, int(times[0]) - 10**13])
    task, kept = labelled("shop", "items", chain, table, ("a", "b"))
    assert kept["user_id"].to_pylist() == [name, name]  # u1 had no event before its label
    assert task.sequences.users.tolist() == [user]
    assert task.sequences.timestamps.max() < middle
    assert task.sequences.timestamps.tolist() == times[times < middle].tolist()


def test_labels_of_strangers_only_are_refused(learnt):
    with pytest.raises(TaskError, match="no label belongs to a user with events"):
        labelled("club", "class", chain_of(learnt), table_of(["x", "y"], ["a", "b"]), ("a", "b"))


def test_labels_of_before_all_events_are_refused_for_their_time(learnt):
    with pytest.raises(TaskError, match="no user had an event before the label became known"):
        labelled("club", "class", chain_of(learnt), table_of(["u1", "u2"], ["a", "b"], [0, 0]), ("a", "b"))


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6), st.data())
def test_before_labels_is_the_plain_definition(rows, data):
    rows = [sorted(row) for row in rows]
    users = np.arange(len(rows), dtype=np.int64) * 3
    flat = np.array([time for row in rows for time in row], dtype=np.int64)
    sequences = SpanSequences(users, np.cumsum([0, *map(len, rows)]).astype(np.int64), flat, flat)
    known = data.draw(st.lists(st.tuples(st.sampled_from([*users.tolist(), 1]), st.integers(0, 9)), max_size=8))
    owners = np.array([user for user, _ in known], dtype=np.int64)
    times = np.array([time for _, time in known], dtype=np.int64)
    cut = before_labels(sequences, owners, times)
    expected = {}
    for user, row in zip(users.tolist(), rows, strict=True):
        first = min((time for owner, time in known if owner == user), default=99)
        if any(time < first for time in row):
            expected[user] = [time for time in row if time < first]
    found = {
        int(user): cut.items[cut.offsets[n] : cut.offsets[n + 1]].tolist() for n, user in enumerate(cut.users.tolist())
    }
    assert found == expected
