"""What is shown of tasks: the list, R of a version, two versions side by side, and the views."""

import numpy as np
import pytest
from small_world import DAYS, NOW, log, make, run_all
from task_world import TASKS, add, matrix, users_current, users_rows, with_tasks

from flows.holding import holding
from pipelines.tasks.adding import add_due_tasks
from pipelines.tasks.moves import roll_users_back
from pipelines.tasks.table import TaskLine, compare_tasks, list_tasks, transfer_of
from pipelines.versions.lineage import VersionError
from pipelines.warehouse.catalog import connect, publish_catalog

T1, CLUB, SHOP = (f"u-{DAYS[-1]}.{name}" for name in ("T1", "club", "shop"))


def states(workspace):
    return {line.name: line.state for line in list_tasks(workspace)}


def query(workspace, sql):
    publish_catalog(workspace)
    with connect(workspace) as connection:
        return connection.sql(sql).fetchall()


def test_tasks_are_learnt_due_waiting_failed_or_held(tmp_path):
    workspace = with_tasks(
        make(tmp_path / "w", log(range(2))), tasks=TASKS + '[tasks.broken]\nlabels = "nowhere.csv"\n'
    )
    run_all(workspace)
    assert states(workspace) == {"club": "due", "shop": "waiting", "broken": "due"}
    with holding(workspace, "test", now=NOW) as writer:
        add_due_tasks(writer)
        assert states(workspace) == {"T1": "learnt", "club": "learnt", "shop": "waiting", "broken": "failed"}
        roll_users_back(writer)
    lines = {line.name: line for line in list_tasks(workspace)}
    assert {name: line.state for name, line in lines.items()} == {
        "T1": "learnt",
        "club": "held",
        "shop": "waiting",
        "broken": "failed",
    }
    assert "put live by hand" in lines["club"].why
    assert DAYS[2] in lines["shop"].why
    assert "no file" in lines["broken"].why


@pytest.mark.parametrize("method", ["conure", "peterrec", "teracon"])
def test_a_learnt_task_shows_its_score_and_what_it_costs(taught, method):
    lines = {line.name: line for line in list_tasks(taught(method))}
    assert list(lines) == ["T1", "club", "shop"]
    assert {line.version for line in lines.values()} == {T1, CLUB, SHOP}
    assert lines["club"].labels == len({user for user, *_ in log()})
    assert lines["club"].n_labels == 5
    assert lines["shop"].metric == "mrr@5"
    assert lines["shop"].score == matrix(taught(method), SHOP)[-1][2]
    left = [line.capacity_left for line in lines.values()]
    if method == "conure":
        assert left == sorted(left, reverse=True)
        assert 0 < left[-1] < left[0] < 1
    else:
        assert left == [None] * 3
    assert (lines["club"].parameter_share is not None) == (method == "peterrec")
    assert set(lines["T1"].references) == {"popular", "popular last", "table of pairs"}
    assert set(lines["club"].references) == {"most frequent", "linear on items"}
    assert set(lines["shop"].references) == {"most frequent", "linear on items"}
    best = max(lines["club"].references.values())
    assert lines["club"].to_beat.startswith(f"{best:.4f} ")
    assert TaskLine("new", "due").to_beat is None


def test_transfer_is_what_the_matrix_says(taught):
    found = transfer_of(taught("teracon"))
    first, last = matrix(taught("teracon"), SHOP)[0][0], matrix(taught("teracon"), SHOP)[-1][0]
    assert found.matrix.versions == (T1, CLUB, SHOP)
    assert found.references["club"] == {line.name: line for line in list_tasks(taught("teracon"))}["club"].references
    if first:
        assert found.backward[0] == pytest.approx((last - first) / first)
    assert found.forgotten[-1] in (0.0, pytest.approx(np.nan, nan_ok=True))
    assert transfer_of(taught("teracon"), CLUB).matrix.versions == (T1, CLUB)
    with pytest.raises(VersionError, match="users line has no version"):
        transfer_of(taught("teracon"), "2024-03-06.1")


def test_a_line_without_a_version_has_no_matrix(learnt):
    with pytest.raises(VersionError, match="has no current version yet"):
        transfer_of(learnt)
    assert list_tasks(learnt) == []


def test_two_versions_side_by_side(taught):
    pairs = {pair.name: pair for pair in compare_tasks(taught("teracon"), CLUB, SHOP)}
    r = matrix(taught("teracon"), SHOP)
    assert (pairs["club"].first, pairs["club"].second) == (r[1][1], r[2][1])
    assert (pairs["shop"].first, pairs["shop"].change) == (None, None)
    if r[1][1]:
        assert pairs["club"].change == pytest.approx((r[2][1] - r[1][1]) / r[1][1])


def test_the_views_equal_the_summaries_and_the_ledger(taught, copy_of):
    workspace = copy_of(taught("conure"))
    rows = users_rows(workspace)
    expected = [
        (task["name"], row.version_id, task["learnt_in"], task["score"], task["capacity_left"], task["labels"])
        for row in rows.values()
        for task in row.summary["tasks"]
    ]
    columns = "task, version_id, learnt_in, score, capacity_left, labels"
    assert sorted(query(workspace, f"SELECT {columns} FROM tasks")) == sorted(expected)
    assert query(workspace, "SELECT DISTINCT version_id FROM tasks WHERE current") == [(users_current(workspace),)]
    with workspace.ledger.snapshot() as view:
        metrics = [(m.slice, m.version_id, m.metric, m.value, m.n) for m in view.metrics() if m.version_id in rows]
    assert sorted(query(workspace, "SELECT task, version_id, metric, value, n FROM task_metrics")) == sorted(metrics)
    assert query(workspace, "SELECT count(*) FROM task_metrics WHERE change <> 0") == [(0,)]  # conure forgets nothing


def test_scores_of_tasks_are_not_among_those_of_spans(taught, copy_of):
    workspace = copy_of(taught("conure"))
    assert query(workspace, "SELECT count(*) FROM metrics WHERE slice IN ('T1', 'club', 'shop')") == [(0,)]
    assert query(workspace, "SELECT count(*) > 0 FROM metrics") == [(True,)]


def test_a_workspace_without_tasks_has_empty_views(learnt, copy_of):
    workspace = copy_of(learnt)
    assert query(workspace, "FROM tasks") == query(workspace, "FROM task_metrics") == []
    add(with_tasks(workspace), "club")
    assert len(query(workspace, "FROM tasks WHERE current")) == 2
