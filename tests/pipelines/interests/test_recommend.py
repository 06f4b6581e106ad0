"""Lists equal the paper's inference done naively: the lists of all interests, united, best score first."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_world import DAYS, NASTY_USER, VERSIONS, log, make, run_all

from imsr_core.errors import ConfigError
from pipelines.interests.recommend import Recommender, UnknownUserError
from pipelines.sequences.loader import load_history
from pipelines.warehouse.catalog import connect, publish_catalog

N = 5


@pytest.fixture(scope="module")
def recommender(learnt):
    return Recommender.open(learnt)


def everybody(recommender) -> list[str]:
    return recommender.version.vocabulary.user_ids(recommender.state.store.users.numpy()).to_pylist()


def naive_list(recommender, user_id, n, without=()):
    """item -> best score with the trend's share, of the union of the top-n lists of each interest."""
    state, vocabulary = recommender.state, recommender.version.vocabulary
    index = int(vocabulary.users_of([user_id])[0])
    items, bias = state.item_vectors(), state.item_bias()
    ids = vocabulary.item_ids(torch.arange(state.n_items).numpy()).to_pylist()
    best: dict[str, float] = {}
    for vector in state.store.vectors[state.store.user == index]:
        scores = [(float(score), ids[n]) for n, score in enumerate(items @ vector + bias) if ids[n] not in without]
        for score, item in sorted(scores, reverse=True)[:n]:
            best[item] = max(best.get(item, -9e9), score)
    return sorted(best.items(), key=lambda pair: -pair[1])[:n]


def lists_of(table):
    lists: dict[str, list[tuple[str, float]]] = {}
    for row in table.to_pylist():
        lists.setdefault(row["user_id"], []).append((row["item_id"], row["score"]))
        assert row["rank"] == len(lists[row["user_id"]])
    return lists


@pytest.mark.parametrize("version_id", [VERSIONS[0], VERSIONS[-1]])
def test_lists_equal_the_naive_union(learnt, version_id):
    recommender = Recommender.open(learnt, version_id)
    users = everybody(recommender)
    lists = lists_of(recommender.top_n(users, N))
    assert list(lists) == users
    for user, found in lists.items():
        wanted = naive_list(recommender, user, N)
        assert [item for item, _ in found] == [item for item, _ in wanted]
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted], rel=1e-5)


def test_the_interest_named_is_the_one_that_scores(recommender):
    table = recommender.top_n(everybody(recommender), N)
    items = recommender.state.item_vectors()
    for row in table.to_pylist()[::7]:
        interests = recommender.interests(row["user_id"]).to_pylist()
        vector = next(i["vector"] for i in interests if i["interest_id"] == row["interest_id"])
        item = int(recommender.version.vocabulary.items_of([row["item_id"]])[0])
        score = items[item] @ torch.tensor(vector) + recommender.state.item_bias()[item]
        assert float(score) == pytest.approx(row["score"], rel=1e-5)
        assert row["reason"] == "interest"


def test_new_leaves_out_all_that_the_user_had_and_nothing_else(recommender):
    users = everybody(recommender)
    had: dict[str, set[str]] = {}
    for user, item, _ in log():
        had.setdefault(user, set()).add(item)
    lists = lists_of(recommender.top_n(users, N, exclude_seen=True))
    for user in users:
        found = [item for item, _ in lists.get(user, [])]
        assert not set(found) & had[user]
        assert found == [item for item, _ in naive_list(recommender, user, N, had[user])]


def test_an_older_version_leaves_out_only_what_it_knew(learnt):
    recommender = Recommender.open(learnt, VERSIONS[0])
    had = {(user, item) for user, item, time in log() if time[:10] in DAYS[:2]}
    for user, found in lists_of(recommender.top_n(everybody(recommender), 99, exclude_seen=True)).items():
        assert not {(user, item) for item, _ in found} & had
        assert len(found) == recommender.state.n_items - len({item for u, item in had if u == user})


def test_a_user_named_twice_is_answered_once(recommender):
    once = recommender.top_n(["u1", NASTY_USER], N, exclude_seen=True)
    assert recommender.top_n(["u1", NASTY_USER, "u1", "u1"], N, exclude_seen=True).equals(once)


def test_strangers_get_what_is_popular_in_the_last_span(learnt, recommender):
    counts: dict[str, int] = {}
    for _, item, time in log():
        if time[:10] == DAYS[-1]:
            counts[item] = counts.get(item, 0) + 1
    table = recommender.top_n(["stranger", "u1", "another", ""], N)
    assert recommender.known(["stranger", "u1"]).tolist() == [False, True]
    for stranger in ("stranger", "another", ""):
        rows = [row for row in table.to_pylist() if row["user_id"] == stranger]
        assert [counts[row["item_id"]] for row in rows] == sorted(counts.values(), reverse=True)[:N]
        assert [row["rank"] for row in rows] == list(range(1, N + 1))
        assert {(row["reason"], row["score"], row["interest_id"]) for row in rows} == {("popular", None, None)}
    assert [item for item, _ in lists_of(table)["u1"]] == [item for item, _ in naive_list(recommender, "u1", N)]


def test_strangers_are_shown_what_may_be_shown_of_what_somebody_took(recommender):
    taken = {item for _, item, time in log() if time[:10] == DAYS[-1]}
    whole = recommender.top_n(["stranger"], 10_000)["item_id"].to_pylist()
    assert set(whole) == taken
    assert len(taken) < recommender.state.n_items
    assert recommender.top_n(["stranger"], N, exclude=whole[:2])["item_id"].to_pylist() == whole[2 : N + 2]
    assert recommender.top_n(["stranger"], N, only=whole[3:5])["item_id"].to_pylist() == whole[3:5]


def test_a_list_longer_than_the_catalogue_is_the_catalogue(recommender):
    rows = recommender.top_n(["u1"], 10_000)
    assert rows.num_rows == recommender.state.n_items
    assert len(set(rows["item_id"].to_pylist())) == rows.num_rows


@pytest.mark.parametrize("n", [0, -1, 1.5, "5", True, None])
def test_a_list_of_no_items_or_of_no_number_of_them_is_refused(recommender, n):
    with pytest.raises(ConfigError, match=f"{n!r} items"):
        recommender.top_n(["u1"], n)


def test_what_a_notebook_shows_of_it_is_a_line_and_not_all_tensors(recommender):
    assert repr(recommender) == (
        f"Recommender({VERSIONS[-1]!r} of {str(recommender.version.workspace.root)!r}: "
        f"{len(recommender.state.store.users)} users, {recommender.state.n_items} items)"
    )


def test_nobody_gets_no_list(recommender):
    assert recommender.top_n([], N).num_rows == 0
    assert recommender.top_n([], N, exclude_seen=True).num_rows == 0


def test_interests_of_a_user(recommender):
    table = recommender.interests(NASTY_USER)
    assert table.column_names == ["interest_id", "born_span", "active_span", "support", "norm", "vector"]
    index = int(recommender.version.vocabulary.users_of([NASTY_USER])[0])
    mine = recommender.state.store.of_users(torch.tensor([index]))
    assert table["vector"].to_pylist() == mine.vectors.tolist()
    assert table["interest_id"].to_pylist() == mine.interest_id.tolist()
    assert set(table["born_span"].to_pylist()) <= set(DAYS)


def test_ids_may_be_whole_numbers_and_one_text_is_not_taken_apart(tmp_path):
    workspace = make(tmp_path / "w", [(str(n % 3), str(n % 5), f"{DAYS[n % 2]}T0{n % 10}:00:00Z") for n in range(40)])
    run_all(workspace)
    numbered = Recommender.open(workspace, users=[1, 2])
    wanted = numbered.top_n(["1", "2"], 3, only=["0", "1", "2"], exclude=["2"])
    for asked in ([1, 2], np.array([1, 2]), pa.array([1, 2]), pa.array(["1", "2"])):
        assert numbered.top_n(asked, 3, only=[0, 1, 2], exclude=np.array([2])).equals(wanted)
    assert numbered.interests(1).equals(numbered.interests("1"))
    for one in ("12", b"12"):
        with pytest.raises(ConfigError, match="where several are wanted"):
            numbered.top_n(one)
    for exclude in ("12", [1.5], [True], [None]):
        with pytest.raises(ConfigError):
            numbered.top_n(["1"], exclude=exclude)


def test_interests_of_a_stranger_are_refused(recommender):
    with pytest.raises(UnknownUserError, match=r"version 2024-03-06\.1 does not know user 'U1'") as caught:
        recommender.interests("U1")
    assert "letter by letter" in caught.value.hint


@pytest.mark.parametrize("chunk", [3, 4096])
def test_everybodys_lists_are_behind_the_view(learnt, copy_of, chunk):
    workspace = copy_of(learnt)
    recommender = Recommender.open(workspace)
    path = recommender.write_all(N, exclude_seen=True, chunk=chunk)
    assert path == workspace.root / "recommendations" / f"{VERSIONS[-1]}.parquet"
    publish_catalog(workspace)
    columns = "user_id, rank, item_id, score, interest_id, reason"
    with connect(workspace) as connection:
        rows = connection.execute(f"SELECT {columns} FROM recommendations ORDER BY user_id, rank").fetchall()
        versions = connection.execute("SELECT DISTINCT version_id FROM recommendations").fetchall()
    assert versions == [(VERSIONS[-1],)]
    wanted = recommender.top_n(everybody(recommender), N, exclude_seen=True).to_pylist()
    wanted = sorted((tuple(row.values()) for row in wanted), key=lambda row: row[:2])
    assert [(*row[:3], *row[4:]) for row in rows] == [(*row[:3], *row[4:]) for row in wanted]
    assert [row[3] for row in rows] == pytest.approx([row[3] for row in wanted], rel=1e-5)
    Recommender.open(workspace).write_all(2)
    assert pq.read_metadata(path).num_rows == 2 * len(everybody(recommender))


def test_seen_is_what_the_sequences_say(recommender):
    lineage, workspace = recommender.version.lineage, recommender.version.workspace
    history = load_history([workspace.resolve(path) for path in lineage.vocabulary])
    assert history.n_events == len(set(log()))


def test_opened_for_a_few_users_it_gives_them_the_same_and_holds_no_others(learnt):
    everybody, few = Recommender.open(learnt), Recommender.open(learnt, users=["u1", "u2", "nobody"])
    for how in ({}, {"exclude_seen": True}, {"new_share": 0.3}):
        assert few.top_n(["u2", "u1", "nobody"], 7, **how).equals(everybody.top_n(["u2", "u1", "nobody"], 7, **how))
    assert few.interests("u1").equals(everybody.interests("u1"))
    assert len(few.state.store.users) == 2 < len(everybody.state.store.users)
