"""Lists with reasons: every reason is true, and what may not be shown is not."""

import re

import pyarrow as pa
import pytest
from small_world import log, make, run_all
from test_score_on_disk import SCORED

from imsr_core.errors import ConfigError
from pipelines.interests.recommend import Recommender
from pipelines.warehouse.catalog import connect

KINDS = (
    r"had once, last .*|had \d+ times, last .*|interest \d+|rising|popular of late|goes with .*|new to the user|"
    "liked by similar users"
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    made = make(tmp_path_factory.mktemp("reasons"), log(), SCORED)
    run_all(made)
    return made


@pytest.fixture(scope="module")
def recommender(workspace):
    return Recommender.open(workspace)


def had(workspace) -> dict[tuple[str, str], int]:
    with connect(workspace) as connection:
        return {(u, i): n for u, i, n in connection.sql("SELECT user_id, item_id, times FROM user_items").fetchall()}


def everybody(recommender, **how) -> pa.Table:
    users = recommender.version.vocabulary.user_ids(recommender.state.store.users.numpy()).to_pylist()
    return recommender.top_n(users, 10, **how)


def test_reasons_are_of_a_kind_and_those_that_name_a_number_are_true(workspace, recommender):
    times = had(workspace)
    rows = everybody(recommender).to_pylist()
    assert rows
    for row in rows:
        assert re.fullmatch(KINDS, row["reason"], re.DOTALL), row
        pair = (row["user_id"], row["item_id"])
        if found := re.match(r"had (\d+) times", row["reason"]):
            assert times[pair] == int(found[1])
        elif row["reason"].startswith("had once"):
            assert times[pair] == 1
        elif row["reason"].startswith("interest "):
            assert row["reason"] == f"interest {row['interest_id']}"
        elif row["reason"].startswith("goes with ") and row["reason"] != "goes with what the user had":
            assert (row["user_id"], row["reason"].removeprefix("goes with ")) in times


def test_what_the_user_had_is_left_out(workspace, recommender):
    times = had(workspace)
    rows = everybody(recommender, exclude_seen=True).to_pylist()
    assert not {(row["user_id"], row["item_id"]) for row in rows} & times.keys()
    assert not any(row["reason"].startswith("had ") for row in rows)


def test_excluded_items_and_only_these(recommender):
    rows = everybody(recommender)
    some = sorted(set(rows["item_id"].to_pylist()))[:5]
    assert not set(everybody(recommender, exclude=some)["item_id"].to_pylist()) & set(some)
    assert set(everybody(recommender, only=some)["item_id"].to_pylist()) <= set(some)
    assert set(everybody(recommender, only=some, exclude=some[:4])["item_id"].to_pylist()) == set(some[4:])
    stranger = recommender.top_n(["nobody"], 10, only=some)["item_id"].to_pylist()
    assert set(stranger) <= set(some)
    with pytest.raises(ConfigError, match="no item is left"):
        everybody(recommender, only=["what is that"])


def test_places_that_are_kept_for_what_is_new(workspace, recommender):
    times = had(workspace)
    plain, mixed = everybody(recommender), everybody(recommender, new_share=0.3)
    new = [(r["user_id"], r["rank"]) for r in mixed.to_pylist() if (r["user_id"], r["item_id"]) not in times]
    users = set(plain["user_id"].to_pylist())
    for user in users:
        assert {4, 7, 10} <= {rank for u, rank in new if u == user}
        mine = [r["item_id"] for r in mixed.to_pylist() if r["user_id"] == user]
        assert len(mine) == len(set(mine)) == 10
    with pytest.raises(ConfigError):
        everybody(recommender, new_share=2)


def test_all_lists_are_in_the_view_with_their_reasons(workspace, recommender):
    recommender.write_all(5)
    from pipelines.warehouse.catalog import publish_catalog

    publish_catalog(workspace)
    with connect(workspace) as connection:
        rows = connection.sql("SELECT count(*), count(DISTINCT reason) FROM recommendations").fetchall()
    assert rows[0][0] == 5 * len(recommender.state.store.users)
    assert rows[0][1] > 1
