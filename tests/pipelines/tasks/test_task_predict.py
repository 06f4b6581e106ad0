"""Predictions of users: the labels by rank, from all that users have done by now."""

import pytest
from small_world import DAYS, NASTY_ITEM, NASTY_USER, NOW, land, log, make, run_all
from task_world import add, with_tasks

from flows.holding import holding
from imsr_core.errors import ConfigError
from imsr_core.lifelong.errors import TaskError
from pipelines.interests.recommend import UnknownUserError
from pipelines.lake.item_metadata import item_table
from pipelines.tasks.data import history
from pipelines.tasks.predict import TaskPredictor
from pipelines.tasks.version import current_version
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import ParquetFileError

CLUB = f"u-{DAYS[-1]}.club"


def test_labels_are_those_of_the_scores_in_the_order_of_the_question(taught):
    workspace = taught("conure")
    version = current_version(workspace)
    table = TaskPredictor.open(workspace, "club").top_n(["u3", NASTY_USER, "u3"], 5)
    assert table["user_id"].to_pylist() == ["u3"] * 5 + [NASTY_USER] * 5
    assert table["rank"].to_pylist() == [1, 2, 3, 4, 5] * 2
    sequences = history(version.task("club").chain(workspace))
    logits = version.method.predict(version.state, "club", sequences)
    (user,) = version.vocabulary.users_of(["u3"]).tolist()
    own = logits[sequences.users.tolist().index(user)]
    expected = sorted(((float(score), f"club {n}") for n, score in enumerate(own)), reverse=True)
    assert table["label"].to_pylist()[:5] == [label for _, label in expected]
    assert table["score"].to_pylist()[:5] == pytest.approx([score for score, _ in expected])
    assert sum(table["probability"].to_pylist()[:5]) == pytest.approx(1.0)


def test_ids_are_asked_as_anywhere_and_what_a_notebook_shows_is_a_line(taught):
    predictor = TaskPredictor.open(taught("conure"), "club")
    assert repr(predictor) == f"TaskPredictor('club' of {predictor.version.row.version_id!r})"
    for ask in (predictor.top_n, predictor.known, lambda ids: predictor.histories(ids, 1)):
        with pytest.raises(ConfigError, match="where several are wanted"):
            ask("u3")
    with pytest.raises(UnknownUserError, match="called '3'"):
        predictor.top_n([3])
    with pytest.raises(ConfigError, match="0 labels"):
        predictor.top_n(["u3"], 0)


def test_t1_predicts_items_and_an_items_task_its_own(taught):
    items = {item for _, item, _ in log()}
    best = TaskPredictor.open(taught("teracon"), "T1").top_n(["u1"], 100)
    assert set(best["label"].to_pylist()) == items
    assert NASTY_ITEM in items
    shop = TaskPredictor.open(taught("teracon"), "shop").top_n(["u1"], 2)
    assert set(shop["label"].to_pylist()) <= {"s0", "s1", "s2", "s3"}
    assert shop.num_rows == 2


def test_an_earlier_version_can_be_asked(taught):
    workspace = taught("conure")
    first, last = (TaskPredictor.open(workspace, "club", version).top_n(["u1"]) for version in (CLUB, None))
    assert first.equals(last)
    with pytest.raises(TaskError, match="has no task 'shop'"):
        TaskPredictor.open(workspace, "shop", CLUB)


def test_nobody_is_made_up(taught):
    with pytest.raises(UnknownUserError, match="'stranger'") as caught:
        TaskPredictor.open(taught("conure"), "club").top_n(["u1", "stranger"])
    assert "users" in caught.value.hint


def test_one_stranger_among_others_can_be_told(taught):
    predictor = TaskPredictor.open(taught("conure"), "club")
    assert predictor.known(["u3", "stranger", NASTY_USER]) == [True, False, True]
    assert predictor.known(["stranger"]) == [False]


def test_users_who_came_after_the_task_are_predicted_from_what_they_did(tmp_path):
    workspace = with_tasks(make(tmp_path / "w", log(range(2))))
    run_all(workspace)
    add(workspace, "club")
    with pytest.raises(UnknownUserError):
        TaskPredictor.open(workspace, "club").top_n(["newcomer"])
    events = [("newcomer", "i1", "2024-03-03T01:00:00+00:00"), ("newcomer", "never seen", "2024-03-03T02:00:00+00:00")]
    land(workspace, [*log([2]), *events], "next.csv")
    run_all(workspace)
    assert TaskPredictor.open(workspace, "club").top_n(["newcomer"]).num_rows == 3
    assert current_version(workspace).row.span_id == DAYS[1]  # the line learnt nothing meanwhile


def test_histories_are_the_last_items_by_their_names(taught, copy_of):
    workspace = copy_of(taught("conure"))
    predictor = TaskPredictor.open(workspace, "club")
    events = sorted((time, item) for user, item, time in log() if user == "u3")
    expected = [item for _, item in events][::-1]
    assert sorted(predictor.histories(["u3"], 1000)["u3"]) == sorted(expected)
    two = predictor.histories(["u3", "u1"], 2)
    assert {user: len(items) for user, items in two.items()} == {"u3": 2, "u1": 2}
    assert two["u3"][0] in {item for time, item in events if time == events[-1][0]}
    with pytest.raises(TaskError, match="no metadata of items"):
        predictor.histories(["u3"], 2, "title")
    folder = workspace.root / "titles.csv"
    folder.write_text("item_id,title\n" + f"{two['u3'][0]},The last one\n")
    path = workspace.root / "imsr.toml"
    path.write_text(path.read_text() + '\n[items]\nmetadata = "titles.csv"\n')
    named = Workspace.open(workspace.root)
    with holding(named, "test", now=NOW) as writer:
        item_table(writer.workspace.settings).keep(writer)
    predictor = TaskPredictor.open(named, "club")
    assert predictor.histories(["u3"], 2, "title")["u3"] == ["The last one", two["u3"][1]]
    with pytest.raises(TaskError, match="item_id, title"):
        predictor.histories(["u3"], 2, "colour")
    for kept in (named.root / "metadata").rglob("items-*.parquet"):
        kept.write_bytes(b"damaged")
    with pytest.raises(ParquetFileError, match="items-"):
        predictor.histories(["u3"], 2, "title")
