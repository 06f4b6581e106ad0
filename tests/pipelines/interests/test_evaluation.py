"""Scores against a ranking of the whole catalogue in plain Python, and slices against a loop."""

import dataclasses
import math
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import DAYS, LATER, TOML, VERSIONS, log, make, run_all

from imsr_core.config import InterestsConfig, ModelConfig
from imsr_core.interests import InterestStore
from imsr_core.ragged import all_but_last, from_events
from imsr_core.rows import RowTable
from imsr_core.state import ModelState
from pipelines.interests.evaluation import evaluate, files_of_its_buckets, rank_events, seen_before
from pipelines.interests.rank_job import asked_of, score
from pipelines.interests.version import Version
from pipelines.sequences.chain import chain_of, latest_rows
from pipelines.sequences.loader import load_history, load_sequences
from pipelines.workspace.layout import Workspace


def state_with(vectors: dict[int, list[list[float]]], items: list[list[float]]) -> ModelState:
    """A state of 2 dimensions with these interests and items, not normalised: whole numbers make exact ties."""
    state = ModelState.initial(InterestsConfig(model=ModelConfig(dim=2, normalize_items=False)))
    owners = [user for user, rows in vectors.items() for _ in rows]
    flat = torch.tensor([row for rows in vectors.values() for row in rows], dtype=torch.float32).view(-1, 2)
    ids = [n for rows in vectors.values() for n, _ in enumerate(rows)]
    zeros = torch.zeros(len(owners), dtype=torch.int64)
    no_query = torch.zeros(len(owners), 0), torch.zeros(len(owners), 2, 0), torch.zeros(len(owners))
    state.store = InterestStore(torch.tensor(owners), torch.tensor(ids), zeros, zeros, zeros, flat, *no_query)
    state.items = RowTable.of(torch.tensor(items, dtype=torch.float32).view(-1, 2))
    return state


def naive_rank(state: ModelState, user: int, item: int, top_n: int) -> tuple[int, bool]:
    """The number of other items that score at least as much, at most ``top_n``."""
    mine = state.store.vectors[state.store.user == user].tolist()
    items, bias = state.item_vectors().tolist(), state.item_bias().tolist()
    if not mine or item >= len(items):
        return top_n, False
    best = [max(sum(a * b for a, b in zip(h, e, strict=True)) for h in mine) for e in items]
    scores = [score + trend for score, trend in zip(best, bias, strict=True)]
    better = sum(score >= scores[item] for n, score in enumerate(scores) if n != item)
    return min(better, top_n), True


VECTOR = st.lists(st.integers(-2, 2), min_size=2, max_size=2)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.integers(0, 5), st.lists(VECTOR, min_size=1, max_size=3), min_size=1).map(
        lambda d: dict(sorted(d.items()))
    ),
    st.lists(VECTOR, min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), max_size=20),
    st.integers(1, 10),
)
def test_ranks_equal_a_full_ranking_with_ties_counted_against(vectors, items, events, top_n):
    state = state_with(vectors, items)
    users = np.array([user for user, _ in events], dtype=np.int64)
    span = from_events(users, np.array([i for _, i in events], dtype=np.int64), np.arange(len(events)))
    ranks, known = rank_events(state, span, top_n)
    owners = span.users[span.rows].tolist()
    naive = [naive_rank(state, user, item, top_n) for user, item in zip(owners, span.items.tolist(), strict=True)]
    assert ranks.tolist() == [rank for rank, _ in naive]
    assert known.tolist() == [found for _, found in naive]


def test_a_model_that_scores_everything_alike_finds_nothing():
    state = state_with({0: [[1, 0]]}, [[1, 0]] * 30)
    span = from_events(np.zeros(30, dtype=np.int64), np.arange(30), np.arange(30))
    ranks, known = rank_events(state, span, 20)
    assert known.all()
    assert set(ranks.tolist()) == {20}


def test_slices_of_a_small_span_by_hand():
    # user 0: items 0 0 1 9(unknown); user 1 has no interests; item 1 was seen by user 0 before
    state = state_with({0: [[1, 0]]}, [[3, 0], [2, 0], [1, 0]])
    span = from_events(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 9, 0]), np.arange(5))
    seen = torch.tensor([False, True, True, False, False])
    found = evaluate(state, span, seen, top_n=2, protocol="prequential")
    slices = {name: member.tolist() for name, member in found.slices.items()}
    assert slices == {
        "all": [True, True, True, False, False],
        "last": [False] * 5,  # the last events of both are of an unknown item and of an unknown user
        "repeat": [False, True, True, False, False],
        "explore": [True, False, False, False, False],
        "everything": [True] * 5,
    }
    rows = {(row.slice, row.metric): (row.value, row.n) for row in found.rows("v", "s", "prequential")}
    third = 1 / math.log2(3)
    assert rows == {
        ("all", "hr@2"): (1.0, 3),
        ("all", "ndcg@2"): (pytest.approx((1 + 1 + third) / 3), 3),
        ("all", "mrr@2"): (pytest.approx((1 + 1 + 0.5) / 3), 3),
        ("repeat", "hr@2"): (1.0, 2),
        ("repeat", "ndcg@2"): (pytest.approx((1 + third) / 2), 2),
        ("repeat", "mrr@2"): (pytest.approx(0.75), 2),
        ("explore", "hr@2"): (1.0, 1),
        ("explore", "ndcg@2"): (1.0, 1),
        ("explore", "mrr@2"): (1.0, 1),
        ("everything", "hr@2"): (0.6, 5),
        ("everything", "ndcg@2"): (pytest.approx((2 + third) / 5), 5),
        ("everything", "mrr@2"): (pytest.approx(2.5 / 5), 5),
    }


def test_holdout_scores_the_last_and_the_second_last():
    state = state_with({0: [[1, 0]], 1: [[1, 0]], 2: [[1, 0]]}, [[3, 0], [2, 0], [1, 0]])
    span = from_events(np.array([0, 0, 0, 1, 1, 2, 3]), np.array([0, 1, 2, 0, 1, 2, 0]), np.arange(7))
    found = evaluate(state, span, torch.zeros(7, dtype=torch.bool), top_n=2, protocol="holdout")
    assert {name: member.tolist() for name, member in found.slices.items()} == {
        "last": [False, False, True, False, True, True, False],
        "validation": [False, True, False, True, False, False, False],
        "everything": [False, False, True, False, True, True, True],
    }


def test_ledger_metrics_equal_a_naive_evaluation_of_the_version_before(learnt):
    top_n = learnt.settings.evaluation.top_n
    for parent, day in zip(VERSIONS, LATER, strict=False):
        with learnt.ledger.snapshot() as view:
            stored = {(m.slice, m.metric): (m.value, m.n) for m in view.metrics(parent)}
            row = view.sequences(day)[-1]
        state = Version.open(learnt, parent).load()
        span = load_sequences(learnt.resolve(row.path))
        owners = span.users[span.rows].tolist()
        items = span.items.tolist()
        naive = [naive_rank(state, user, item, top_n) for user, item in zip(owners, items, strict=True)]
        seen = naive_seen(learnt, day)
        members = {
            "all": [known for _, known in naive],
            "repeat": [known and again for (_, known), again in zip(naive, seen, strict=True)],
            "explore": [known and not again for (_, known), again in zip(naive, seen, strict=True)],
            "everything": [True] * len(naive),
        }
        for name, member in members.items():
            ranks = [rank for (rank, _), inside in zip(naive, member, strict=True) if inside]
            hits = sum(rank < top_n for rank in ranks) / len(ranks)
            assert stored[name, f"hr@{top_n}"] == (pytest.approx(hits, abs=1e-12), len(ranks))
            gain = sum(1 / math.log2(rank + 2) for rank in ranks if rank < top_n) / len(ranks)
            assert stored[name, f"ndcg@{top_n}"][0] == pytest.approx(gain, abs=1e-12)
        assert "validation" not in {name for name, _ in stored}


def naive_seen(workspace, day):
    """Whether each event's item was seen by its user before: a set that grows."""
    with workspace.ledger.snapshot() as view:
        row = view.sequences(day)[-1]
    *earlier, this = [link.folder for link in chain_of(workspace, row.span_id, row.fingerprint)]
    history, span = load_history(earlier), load_sequences(this)
    had = set(zip(history.users[history.rows].tolist(), history.items.tolist(), strict=True))
    seen = []
    for pair in zip(span.users[span.rows].tolist(), span.items.tolist(), strict=True):
        seen.append(pair in had)
        had.add(pair)
    return seen


@pytest.mark.parametrize("day", DAYS)
def test_seen_before_equals_a_growing_set(learnt, day):
    with learnt.ledger.snapshot() as view:
        row = view.sequences(day)[-1]
    *earlier, this = [link.folder for link in chain_of(learnt, row.span_id, row.fingerprint)]
    seen = seen_before(load_sequences(this), earlier).tolist()
    assert seen == naive_seen(learnt, day)
    assert any(seen)
    assert not all(seen)
    assert seen_before(load_sequences(this), earlier, this).tolist() == seen


def test_only_the_buckets_of_a_spans_users_are_looked_at(learnt, tmp_path):
    with learnt.ledger.snapshot() as view:
        row = view.sequences(DAYS[-1])[-1]
    *earlier, this = [link.folder for link in chain_of(learnt, row.span_id, row.fingerprint)]
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(this / "bucket=01.parquet", few)
    files = files_of_its_buckets(earlier, few)
    assert {path.name for path in files} == {"bucket=01.parquet"}
    assert len(files) == len(earlier) < len(files_of_its_buckets(earlier, None))
    everything = seen_before(load_sequences(few), earlier).tolist()
    assert seen_before(load_sequences(few), earlier, few).tolist() == everything
    assert any(everything)


def test_seen_before_of_nothing(learnt):
    nothing = from_events(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    assert seen_before(nothing, []).tolist() == []
    one = from_events(np.array([3]), np.array([4]), np.array([5]))
    assert seen_before(one, []).tolist() == [False]


@pytest.fixture(scope="module")
def heldout(tmp_path_factory):
    """The paper's protocol on the first three days."""
    toml = TOML + 'protocol = "holdout"\n'
    workspace = make(tmp_path_factory.mktemp("holdout") / "w", log(range(3)), toml)
    return workspace, run_all(workspace)


def test_the_papers_protocol_trains_without_each_users_last_two(heldout):
    workspace, outcomes = heldout
    with workspace.ledger.snapshot() as view:
        parts = [load_sequences(workspace.resolve(view.sequences(day)[-1].path)) for day in DAYS[:3]]
    kept = [all_but_last(part, 2) for part in parts]
    assert [part.n_events - rest.n_events for part, rest in zip(parts, kept, strict=True)] == [
        int(np.minimum(part.counts, 2).sum()) for part in parts
    ]
    touched = outcomes[-1].version.summary["active_users"]
    assert touched == int((kept[2].counts > 0).sum()) < len(parts[2])
    assert outcomes[0].version.summary["active_users"] == len(
        {*kept[0].users[kept[0].counts > 0], *kept[1].users[kept[1].counts > 0]}
    )
    by_user = {"old_users", "new_users", "strangers"}
    assert {row.slice for row in outcomes[-1].metrics} - by_user <= {"last", "validation", "everything"}
    everything = {row.n for row in outcomes[-1].metrics if row.slice == "everything"}
    assert everything == {len(parts[2])}


def test_the_last_two_do_not_reach_the_model(tmp_path):
    events = log(range(3))
    changed, left = [], {}
    for user, item, time in sorted(events, key=lambda e: e[2], reverse=True):
        done = left.get((user, time[:10]), 0)
        left[user, time[:10]] = done + 1
        changed.append((user, "i1" if done < 2 else item, time))
    assert sorted(changed) != sorted(events)
    times = [time for _, _, time in events]
    assert len({(user, time) for user, _, time in events}) == len(times)
    keep_items = [("keeper", item, "2024-03-01T00:00:00Z") for item in sorted({item for _, item, _ in events})]
    toml = TOML + 'protocol = "holdout"\n'
    states = []
    for name, rows in (("a", events), ("b", changed)):
        # a user who names every item at the start: both logs number the catalogue alike
        spread = [(user, item, f"2024-03-01T00:00:00.{n:06d}Z") for n, (user, item, _) in enumerate(keep_items)]
        other = make(tmp_path / name, spread + rows, toml)
        run_all(other)
        states.append([Version.open(other, f"{day}.1").load() for day in DAYS[1:3]])
    for one, two in zip(*states, strict=True):
        assert torch.equal(one.items.weight, two.items.weight)
        assert torch.equal(one.store.vectors, two.store.vectors)
        assert one.spans == two.spans


def test_versions_of_later_spans_differ(learnt):
    """The comparisons above would be empty if learning changed nothing."""
    weights = [Version.open(learnt, version_id).load().items.weight for version_id in VERSIONS]
    for one, two in pairwise(weights):
        assert not torch.equal(one, two[: len(one)])
    assert dataclasses.is_dataclass(Version)


def test_a_test_of_some_users_is_of_the_same_ones_for_every_version(learnt, copy_of):
    workspace = copy_of(learnt)
    with workspace.ledger.snapshot() as view:
        row = latest_rows(view)[DAYS[3]]
    sequences = load_sequences(workspace.resolve(row.path))
    assert asked_of(sequences, 0, row.span_id) is sequences
    assert asked_of(sequences, len(sequences), row.span_id) is sequences
    some = asked_of(sequences, 4, row.span_id)
    assert len(some.validate()) == 4
    assert some.users.tolist() == asked_of(sequences, 4, row.span_id).users.tolist()
    everything = {row.slice: row.n for row in score(workspace, VERSIONS[1], row, "prequential")}
    workspace.settings_file.write_text(f"{TOML}test_users = 4\n")
    asked = Workspace.open(workspace.root)
    found = {row.slice: row.n for row in score(asked, VERSIONS[1], row, "prequential")}
    assert found["everything"] == some.n_events < everything["everything"]
