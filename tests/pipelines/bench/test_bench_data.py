"""Which events a bench scores, against plain Python, and what the filters keep."""

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from bench_cases import LENGTH, NAMES, bench_data, spans
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from imsr_core.errors import ConfigError
from imsr_core.ragged import SpanSequences, from_events
from pipelines.bench.data import BenchError, cut, filtered, load_bench_data, renumbered
from pipelines.settings.bench import BenchSettings
from pipelines.settings.imsr_toml import load_settings

NOW = datetime(2024, 3, 10, tzinfo=UTC)


def pairs(part: SpanSequences) -> list[tuple[int, int]]:
    return list(zip(part.users[part.rows].tolist(), part.items.tolist(), strict=True))


def naive_slices(parts: list[SpanSequences]) -> list[dict[str, list[bool]]]:
    """The slices of every span after the first, event by event."""
    users, items, had, found = set(), set(), set(), []
    for part in parts:
        rows: dict[str, list[bool]] = {name: [] for name in ("all", "last", "repeat", "explore", "everything")}
        events, seen = pairs(part), set(had)
        for place, (user, item) in enumerate(events):
            known = user in users and item in items
            last = place + 1 == len(events) or events[place + 1][0] != user
            again = (user, item) in seen
            seen.add((user, item))
            values = (known, known and last, known and again, known and not again, True)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
        found.append(rows)
        users |= {user for user, _ in events}
        items |= set(range(max(item for _, item in events) + 1))
        had |= set(events)
    return found[1:]


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_slices_equal_a_loop_over_events(seed):
    parts = renumbered(spans(seed, users=12))
    found = cut(NAMES, parts, "prequential", 2, LENGTH)
    for span, naive in zip(found.tested, naive_slices(parts), strict=True):
        assert {name: member.tolist() for name, member in span.slices.items()} == naive


def test_items_are_numbered_by_the_span_of_their_first_event():
    parts = spans()
    new = renumbered(parts)
    sizes = [int(part.items.max()) + 1 for part in new]
    seen: set[int] = set()
    for part, size in zip(new, np.maximum.accumulate(sizes), strict=True):
        seen |= set(part.items.tolist())
        assert seen == set(range(size))
    names = {}
    for old, fresh in zip(parts, new, strict=True):
        for before, after in zip(old.items.tolist(), fresh.items.tolist(), strict=True):
            assert names.setdefault(before, after) == after


def test_the_papers_protocol_keeps_the_last_two_of_each_user_from_learning():
    data = bench_data(protocol="holdout")
    assert data.main_slice == "last"
    for span in data.tested:
        assert span.learnt.n_events == int(np.maximum(span.sequences.counts - 2, 0).sum())
        ends = span.sequences.offsets[1:] - 1
        assert span.slices["everything"].nonzero()[0].tolist() == ends.tolist()
        assert set(span.slices["validation"].nonzero()[0].tolist()) <= set((ends - 1).tolist())
        assert not (span.slices["validation"] & span.slices["last"]).any()


def test_filters_keep_frequent_items_of_active_users_and_lose_nothing_else():
    parts = spans()
    kept = filtered(parts, BenchSettings(max_items=20, min_user_events=8))
    events = [pair for part in parts for pair in pairs(part)]
    counts = Counter(item for _, item in events)
    items = {item for _, item in (pair for part in kept for pair in pairs(part))}
    assert len(items) <= 20
    assert min(counts[item] for item in items) >= max(counts[item] for item in set(counts) - items) - 0
    left = Counter(user for user, item in events if item in items)
    expected = [(user, item) for user, item in events if item in items and left[user] >= 8]
    assert sorted(pair for part in kept for pair in pairs(part)) == sorted(expected)
    assert len(expected) < len(events)


def test_a_sample_of_users_is_the_same_every_time():
    one, two, other = (filtered(spans(), BenchSettings(max_users=7, seed=seed)) for seed in (0, 0, 1))
    users = [{user for part in parts for user in part.users.tolist()} for parts in (one, two, other)]
    assert users[0] == users[1] != users[2]
    assert {len(each) for each in users} == {7}


def test_the_fingerprint_follows_the_events():
    parts = spans()
    changed = [*parts[:-1], from_events(parts[-1].users[parts[-1].rows], parts[-1].items[::-1], parts[-1].timestamps)]
    prints = {
        bench_data(parts).fingerprint,
        bench_data(changed).fingerprint,
        bench_data(protocol="holdout").fingerprint,
    }
    assert len(prints) == 3
    assert bench_data(spans()).fingerprint in prints


@pytest.mark.slow
def test_sequences_are_built_where_they_are_missing(ingested, learnt, copy_of):
    settings = BenchSettings()
    one, two = (load_bench_data(copy_of(w, name), settings, now=NOW) for w, name in ((ingested, "a"), (learnt, "b")))
    assert one.fingerprint == two.fingerprint


def test_a_workspaces_spans(learnt, copy_of):
    """From sequences to slices: all events are there."""
    workspace = copy_of(learnt)
    data = load_bench_data(workspace, BenchSettings(tuning_spans=1), now=NOW)
    with workspace.ledger.snapshot() as view:
        rows = {row.span_id: row.rows for row in view.current_span_versions()}
    assert [span.id for span in data.spans] == list(rows)[1:]
    assert [span.sequences.n_events for span in data.spans] == [sum(list(rows.values())[:2]), *list(rows.values())[2:]]
    assert [span.id for span in data.reported] == list(rows)[3:]


def test_too_few_spans_and_filters_that_leave_nothing_are_refused(learnt, copy_of):
    workspace = copy_of(learnt)
    with pytest.raises(BenchError, match="leave none to report"):
        load_bench_data(workspace, BenchSettings(tuning_spans=4), now=NOW)
    with pytest.raises(BenchError, match="leave no event"):
        load_bench_data(workspace, BenchSettings(min_user_events=10_000), now=NOW)


def test_the_section_of_the_settings():
    settings = load_settings(text="[bench]\nmax_items = 5\n")
    assert settings.bench == BenchSettings(max_items=5)
    with pytest.raises(ConfigError, match="tuning_spans"):
        load_settings(text="[bench]\ntuning_spans = -1\n")
