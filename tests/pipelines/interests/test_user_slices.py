"""Slices by user equal what a set of names says: who is old, new, a stranger, and in which segment."""

from __future__ import annotations

import csv
from collections import Counter

import pytest
from small_world import DAYS, NOW, TOML, VERSIONS, day_of_events, user_name

from pipelines.interests import user_slices as slicing
from pipelines.interests.comparison import compare
from pipelines.interests.rank_job import score
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.lake.tables_beside import table_problems
from pipelines.sequences.chain import latest_rows
from pipelines.sequences.vocabulary import USERS_FILE
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import read_table, write_table
from pipelines.workspace.writer import writing

SEGMENTS = '[segments]\nusers = "people.csv"\nuser_id = "who"\ncolumns = ["plan"]\n'


def came_by(day: int) -> set[str]:
    """Users with an event on the first days, up to this one."""
    return {user for each in range(day + 1) for user, _, _ in day_of_events(each)}


def scores(workspace, version_id, day) -> dict[str, dict[str, float]]:
    """slice -> {"n", metric: value} of a version on a day that it has not learnt."""
    with workspace.ledger.snapshot() as view:
        row = latest_rows(view)[DAYS[day]]
    found: dict[str, dict[str, float]] = {}
    for each in score(workspace, version_id, row, "prequential"):
        found.setdefault(each.slice, {"n": each.n})[each.metric] = each.value
    return found


@pytest.fixture
def segmented(learnt, copy_of):
    """Two thirds of the users have a plan, one of them twice; of the others nothing is known."""
    workspace = copy_of(learnt)
    with (workspace.root / "people.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["who", "plan", "phone"])
        rows.writerows([user_name(n), "gold" if n % 3 else "free", "555"] for n in range(20))
        rows.writerow([user_name(1), "free", ""])
    workspace.settings_file.write_text(TOML + SEGMENTS)
    opened = Workspace.open(workspace.root)
    with writing(opened, "test", now=NOW) as writer:
        assert table_problems(writer) == []
    return opened


@pytest.mark.parametrize("day", [2, 3, 4])
def test_old_and_new_users_and_strangers_are_who_came_when(learnt, day):
    found = scores(learnt, VERSIONS[day - 2], day)
    before, known = came_by(day - 2), came_by(day - 1)
    events = Counter(
        "old_users" if user in before else "new_users" if user in known else "strangers"
        for user, _, _ in day_of_events(day)
    )
    assert events["strangers"] > 0
    assert found["strangers"]["n"] == events["strangers"]
    assert found["old_users"]["n"] + found["new_users"]["n"] == found["all"]["n"]
    assert found["old_users"]["n"] <= events["old_users"]
    assert found["new_users"]["n"] <= events["new_users"]
    n, whole = [found[name]["n"] for name in ("old_users", "new_users")], found["all"]["hr@10"]
    parts = [found[name]["hr@10"] for name in ("old_users", "new_users")]
    assert sum(a * b for a, b in zip(n, parts, strict=True)) / sum(n) == pytest.approx(whole)


def test_a_span_that_brought_nobody_new_has_no_new_users(learnt, copy_of):
    workspace = copy_of(learnt)
    version = Version.open(workspace, VERSIONS[1])
    first, end = slicing._newest_users(version)
    assert first < end == version.vocabulary.n_users
    newest = workspace.resolve(version.lineage.vocabulary[-1]) / USERS_FILE
    write_table(read_table(newest, ["user_id", "user_index"]).slice(0, 0), newest)
    assert slicing._newest_users(Version.open(workspace, VERSIONS[1])) == (first, first)


def test_strangers_are_ranked_in_the_list_that_they_are_served(learnt):
    served = Recommender.open(learnt, VERSIONS[1]).top_n(["nobody"], 10)
    shown, known = set(served["item_id"].to_pylist()), came_by(2)
    events = [item for user, item, _ in day_of_events(3) if user not in known]
    hits = sum(item in shown for item in events)
    assert hits > 0
    assert scores(learnt, VERSIONS[1], 3)["strangers"]["hr@10"] == pytest.approx(hits / len(events))


def test_they_are_in_the_ledger_and_without_a_table_there_are_no_segments(learnt):
    with learnt.ledger.snapshot() as view:
        stored = {row.slice for row in view.metrics(VERSIONS[1])}
    assert {"old_users", "new_users", "strangers"} <= stored
    assert not [name for name in stored if "=" in name]


def test_segments_are_slices_of_all(segmented):
    found = scores(segmented, VERSIONS[2], 4)
    known = came_by(3)
    events = Counter(plan_of(user) for user, _, _ in day_of_events(4) if user in known)
    names = {name for name in found if "=" in name}
    assert names == {f"plan={plan}" for plan in events} == {"plan=gold", "plan=free", "plan=unknown"}
    assert sum(found[name]["n"] for name in names) == found["all"]["n"]
    assert all(found[f"plan={plan}"]["n"] <= n for plan, n in events.items())


def plan_of(user: str) -> str:
    number = next(n for n in range(30) if user_name(n) == user)
    return "unknown" if number >= 20 else "gold" if number % 3 else "free"


def test_of_many_values_the_most_frequent_are_slices(segmented, monkeypatch):
    monkeypatch.setattr(slicing, "MOST_VALUES", 1)
    names = {name for name in scores(segmented, VERSIONS[2], 4) if "=" in name}
    assert names == {"plan=gold", "plan=other", "plan=unknown"}


def test_the_view_has_the_wanted_columns_and_no_others(segmented):
    publish_catalog(segmented)
    with connect(segmented) as connection:
        rows = connection.execute("FROM user_segments ORDER BY user_id").fetchall()
        columns = [each[0] for each in connection.execute("DESCRIBE user_segments").fetchall()]
    assert columns == ["user_id", "plan"]
    assert len(rows) == 20
    assert dict(rows)["u1"] == "gold"  # what stands first of a user


def test_a_table_that_is_gone_or_of_another_form_leaves_the_one_before_in_force(segmented):
    before = scores(segmented, VERSIONS[2], 4)
    (segmented.root / "people.csv").write_text("who,other\nu1,x\n")
    with writing(segmented, "test", now=NOW) as writer:
        (problem,) = table_problems(writer)
    assert "no column 'plan'" in problem
    (segmented.root / "people.csv").unlink()
    with writing(segmented, "test", now=NOW) as writer:
        (problem,) = table_problems(writer)
    assert "there is no file" in problem
    assert scores(segmented, VERSIONS[2], 4) == before


def test_two_versions_are_not_compared_on_different_people(learnt):
    found = compare(learnt, VERSIONS[1], VERSIONS[0], DAYS[3])
    pairs = {(each.slice, each.metric): each for each in found.metrics}
    assert pairs["everything", "hr@10"].first_n == pairs["everything", "hr@10"].n
    assert pairs["all", "hr@10"].first_n > pairs["all", "hr@10"].n  # the earlier version knows fewer users and items
    assert not {name for name, _ in pairs} & {"new_users", "old_users", "strangers"}
    same = compare(learnt, VERSIONS[1], VERSIONS[1], DAYS[3])
    assert {"new_users", "old_users", "strangers"} <= {each.slice for each in same.metrics}
