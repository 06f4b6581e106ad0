"""Tasks added one after the other: once each, in versions of their own, and safe where something is wrong."""

import pytest
from small_world import DAYS, NASTY_USER, NOW, land, log, make, run_all, tree, user_name
from task_world import TASKS, add, matrix, predictions, pretrain, users_current, users_rows, with_tasks, write_csv

from flows.holding import holding
from imsr_core.errors import ConfigError
from imsr_core.lifelong.errors import CapacityError, TaskError
from pipelines.tasks import learning as task_learning
from pipelines.tasks.adding import add_due_tasks, note, try_task
from pipelines.tasks.due import DUE, FAILED, HELD, WAITING, Standing, due_tasks, notes, standings
from pipelines.tasks.labels import kept_labels
from pipelines.tasks.moves import take_out
from pipelines.tasks.version import UserVersion, current_version
from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanRow, SpanState

T1, CLUB, SHOP = (f"u-{DAYS[-1]}.{name}" for name in ("T1", "club", "shop"))


def add_due(workspace):
    with holding(workspace, "test", now=NOW) as writer:
        return add_due_tasks(writer)


def notes_of(workspace):
    with workspace.ledger.snapshot() as view:
        return notes(view, workspace)


def settings(workspace, old, new):
    text = workspace.settings_file.read_text()
    assert old in text
    workspace.settings_file.write_text(text.replace(old, new))
    return Workspace.open(workspace.root)


def test_each_task_makes_a_version_with_its_parent_scores_and_promotion(taught):
    rows = users_rows(taught("conure"))
    assert list(rows) == [T1, CLUB, SHOP]
    assert [row.parent for row in rows.values()] == [None, T1, CLUB]
    assert {row.state for row in rows.values()} == {"published"}
    with taught("conure").ledger.snapshot() as view:
        moves = [(move.previous, move.version_id) for move in view.promotions("users")]
        names = {(m.version_id, m.slice) for m in view.metrics() if m.version_id in rows}
    assert moves == [(None, T1), (T1, CLUB), (CLUB, SHOP)]
    assert names == {(T1, "T1"), *((CLUB, n) for n in ("T1", "club")), *((SHOP, n) for n in ("T1", "club", "shop"))}
    summary = rows[SHOP].summary
    assert summary["labels"] | {"read": 60, "not_yet": 0} == summary["labels"]
    assert [task["learnt_in"] for task in summary["tasks"]] == [T1, CLUB, SHOP]


@pytest.mark.parametrize("method", ["conure", "peterrec"])
def test_old_tasks_answer_bit_for_bit_as_before(taught, method):
    workspace = taught(method)
    assert users_current(workspace) == SHOP
    for task, first in (("T1", T1), ("club", CLUB)):
        assert predictions(workspace, SHOP, task, SHOP) == predictions(workspace, first, task, SHOP)
    r = matrix(workspace, SHOP)
    assert r[0][0] == r[1][0] == r[2][0]
    assert r[1][1] == r[2][1]


def test_a_second_time_nothing_is_done(taught, copy_of, monkeypatch):
    workspace = copy_of(taught("conure"))
    monkeypatch.setattr(task_learning, "get_method", None)
    publish_catalog(workspace)  # a copy's views name the folder that it was copied from
    before = tree(workspace.root)
    assert add(workspace, "club").already
    assert pretrain(workspace).already
    assert due_tasks(workspace) == []
    assert tree(workspace.root) == before


def test_a_learnt_task_whose_table_has_changed_since_is_left_alone_and_called_outdated(taught, copy_of):
    workspace = copy_of(taught("peterrec"))
    assert [add(workspace, name).outdated for name in ("club", "shop")] == [False, False]
    table = workspace.root / "club.csv"
    text = table.read_text()
    table.write_text(text + "somebody new,club 1\n")  # nobody in the events
    assert not add(workspace, "club").outdated
    table.write_text(text.replace("club 4", "club four"))
    found = add(workspace, "club")
    assert (found.already, found.outdated) == (True, True)
    table.unlink()
    assert not add(workspace, "club").outdated


def test_the_same_parent_labels_and_seed_give_the_same_bits(taught, learnt, copy_of):
    workspace = with_tasks(copy_of(learnt))
    assert {name: error.message for name, error in add_due(workspace)[1].items()} == {}
    ours, theirs = (current_version(each).state for each in (workspace, taught("conure")))
    assert ours.fingerprints() == theirs.fingerprints()
    assert list(users_rows(workspace)) == [T1, CLUB, SHOP]


def test_a_task_waits_for_its_span(tmp_path):
    workspace = with_tasks(make(tmp_path / "w", log(range(2))))
    run_all(workspace)
    assert due_tasks(workspace) == ["club"]
    with pytest.raises(TaskError, match=f"waits for span {DAYS[2]}"):
        add(workspace, "shop")
    assert users_rows(workspace) == {}


@pytest.mark.parametrize("span_id", ["2024-3-3", "2024-03", "2024-02-30", "March"])
def test_a_misspelt_span_is_told_and_stops_no_other_task(tmp_path, span_id):
    workspace = with_tasks(make(tmp_path / "w", log(range(4))), tasks=TASKS.replace("2024-03-03", span_id))
    run_all(workspace)
    never = Standing(
        "shop", FAILED, f"from_span = '{span_id}' is no span of a calendar by day; the newest is {DAYS[3]}"
    )
    assert standings(workspace) == [Standing("club", DUE), never]  # also before anybody tried
    outcomes, failures = add_due(workspace)
    assert [outcome.name for outcome in outcomes] == ["club"]
    assert failures["shop"].message == f"task shop: {never.why}"
    assert "[tasks.shop] in imsr.toml" in failures["shop"].hint
    assert standings(workspace) == [never]
    later = settings(workspace, span_id, "2024-03-09")
    assert standings(later) == [Standing("shop", WAITING, f"waits for span 2024-03-09; the newest is {DAYS[3]}")]


def test_a_task_that_is_asked_for_by_name_and_fails_is_noted_as_in_a_night(taught, copy_of):
    workspace = copy_of(taught("peterrec"))
    workspace = settings(workspace, "[tasks.shop]", '[tasks.gone]\nlabels = "gone.csv"\n[tasks.shop]')
    assert standings(workspace) == [Standing("gone", DUE)]
    with holding(workspace, "test", now=NOW) as writer:
        assert try_task(writer, "gone").message.startswith("task gone: there is no file")
        assert standings(workspace) == [Standing("gone", FAILED, f"there is no file {workspace.root / 'gone.csv'}")]
        note(writer, "gone", HELD, "taken back")
        assert try_task(writer, "gone").message.startswith("task gone: there is no file")
    assert standings(workspace) == [Standing("gone", HELD, "taken back")]  # no night tries it by itself


def test_a_task_that_is_asked_for_too_early_waits_as_before(tmp_path):
    workspace = with_tasks(make(tmp_path / "w", log(range(2))))
    run_all(workspace)
    before = standings(workspace)
    with holding(workspace, "test", now=NOW) as writer:
        assert "waits for span" in try_task(writer, "shop").message
    assert standings(workspace) == before


def test_one_label_a_user_says_what_became_of_the_rows_of_those_who_have_several(learnt, copy_of):
    workspace = with_tasks(copy_of(learnt))
    rows = [[user_name(n), label] for n in range(30) for label in ("a", "b")[: 1 + n % 2]]
    write_csv(workspace.root / "club.csv", ["who", "club"], rows)
    with pytest.raises(TaskError, match=r"1 label among 15 usable rows of 45 \(conflicting 30\)") as caught:
        add(workspace, "club")
    assert 'kind = "items"' in caught.value.hint


def test_labels_of_an_earlier_table_are_no_second_label(taught, copy_of):
    workspace = copy_of(taught("peterrec"))
    with holding(workspace, "test", now=NOW) as writer:
        take_out(writer, "club")
    write_csv(workspace.root / "club.csv", ["who", "club"], [[user_name(n), "everybody"] for n in range(30)])
    with pytest.raises(TaskError, match="1 label among 28 usable rows of 30"):
        add(workspace, "club")


def test_labels_from_after_the_learnt_spans_wait(tmp_path):
    workspace = with_tasks(make(tmp_path / "w", log(range(4))))  # days 1 .. 4; shop's labels are of days 4 and 5
    run_all(workspace)
    report = add(workspace, "shop").report
    assert report.not_yet == 30
    assert report.read == report.used + sum(report.unused().values())


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (('labels = "club.csv"', 'labels = "none.csv"'), TaskError, "there is no file"),
        (('label = "club"', 'label = "age"'), TaskError, "cannot be read"),
        (('user_id = "who"', 'user_id = "club"'), TaskError, r"0 usable rows of 30 \(dupl.*\n.*are the"),
    ],
)
def test_labels_that_cannot_be_used_stop_it_before_anything_is_learnt(taught, copy_of, learnt, change, error, says):
    workspace = with_tasks(copy_of(learnt))
    pretrain(workspace)
    workspace = settings(workspace, *change)
    before = tree(workspace.root / "versions")
    with pytest.raises(error, match=says):
        add(workspace, "club")
    assert tree(workspace.root / "versions") == before
    assert users_current(workspace) == T1


def test_labels_that_cannot_be_used_are_found_before_t1_is_learnt_for_them(learnt, copy_of):
    workspace = settings(with_tasks(copy_of(learnt)), 'label = "club"', 'label = "age"')
    with pytest.raises(TaskError, match="cannot be read") as caught:
        add(workspace, "club")
    assert 'under [tasks.club]: user_id = "who", label = "age"' in caught.value.hint
    assert users_rows(workspace) == {}


@pytest.mark.parametrize(("span_id", "is_due"), [("s998", True), ("s999", True), ("s1000", False), ("s1001", False)])
def test_spans_of_a_cut_are_in_the_order_of_their_numbers(tmp_path, span_id, is_due):
    tasks = TASKS.replace("2024-03-03", span_id)
    workspace = with_tasks(Workspace.create(tmp_path / "w", ""), tasks=tasks)
    with workspace.ledger.transaction() as tx:
        tx.put_span(SpanRow("s999", 0, 1, 1, SpanState.PUBLISHED))
        tx.put_span(SpanRow("s1000", 1, 2, 1, SpanState.INGESTED))
    assert due_tasks(workspace) == ["club", *["shop"] * is_due]


def test_a_task_that_nobody_declared_is_refused_with_what_is(learnt, copy_of):
    with pytest.raises(TaskError, match="no task 'clubs'") as caught:
        add(with_tasks(copy_of(learnt)), "clubs")
    assert "club, shop" in caught.value.hint
    with pytest.raises(TaskError, match="no task 'clubs'"):
        add(copy_of(learnt, "none"), "clubs")


def test_without_a_learnt_span_nothing_can_be_learnt(ingested, copy_of):
    workspace = with_tasks(copy_of(ingested))
    assert due_tasks(workspace) == []
    with pytest.raises(TaskError, match="club waits for a first span") as caught:
        add(workspace, "club")
    assert "imsr run" in caught.value.hint


def test_one_task_that_fails_is_noted_and_stops_no_other(learnt, copy_of):
    workspace = with_tasks(copy_of(learnt), tasks=TASKS.replace("club.csv", "gone.csv"))
    outcomes, failures = add_due(workspace)
    assert [outcome.name for outcome in outcomes] == ["shop"]
    assert "there is no file" in failures["club"].message
    assert notes_of(workspace)["club"]["state"] == FAILED
    assert due_tasks(workspace) == ["club"]  # it is tried again
    write_csv(workspace.root / "gone.csv", ["who", "club"], [[user_name(n), f"{n % 3}"] for n in range(30)])
    assert add_due(workspace)[1] == {}
    assert notes_of(workspace) == {}
    assert [task.name for task in current_version(workspace).tasks] == ["T1", "shop", "club"]


def test_a_full_encoder_refuses_and_the_current_version_stays(learnt, copy_of):
    workspace = with_tasks(copy_of(learnt))
    workspace = settings(workspace, "[users.encoder]", "[users.conure]\npruning_rate = 0.0\n[users.encoder]")
    pretrain(workspace)  # T1 keeps every weight
    with pytest.raises(CapacityError, match="no capacity left"):
        add(workspace, "club")
    assert users_current(workspace) == T1
    assert list(workspace.staging.iterdir()) == []


def test_a_line_keeps_its_method_until_it_is_begun_anew(taught, copy_of):
    workspace = settings(copy_of(taught("conure")), 'method = "conure"', 'method = "peterrec"')
    workspace = settings(workspace, "[tasks.shop]", '[tasks.more]\nlabels = "shop.csv"\nkind = "items"\n[tasks.shop]')
    with pytest.raises(ConfigError, match="begun with 'conure'"):
        add(workspace, "more")
    begun = pretrain(workspace, anew=True)
    assert begun.version.parent is None
    assert users_current(workspace) == f"{T1}.2"
    assert due_tasks(workspace) == ["club", "more", "shop"]


def test_new_spans_grow_the_items_and_change_nothing_old(tmp_path):
    workspace = with_tasks(make(tmp_path / "w", log(range(3))))
    run_all(workspace)
    add(workspace, "club")
    before = users_current(workspace)
    land(workspace, log(range(3, 6)), "later.csv")
    run_all(workspace)
    add(workspace, "shop")
    old, new = UserVersion.open(workspace, before), current_version(workspace)
    assert new.state.n_items > old.state.n_items
    assert new.row.version_id == SHOP
    assert new.task("club") == old.task("club")
    assert predictions(workspace, SHOP, "club", before) == predictions(workspace, before, "club", before)
    assert matrix(workspace, SHOP)[0][0] == matrix(workspace, SHOP)[-1][0]


def test_restated_numbers_ask_for_a_new_line(tmp_path):
    workspace = with_tasks(make(tmp_path / "w", log(range(3))))
    run_all(workspace)
    add(workspace, "club")
    land(workspace, [("newcomer", "first item", "2024-03-01T00:00:00+00:00")], "late.csv")
    run_all(workspace)
    with pytest.raises(TaskError, match="before the data of an earlier span changed") as caught:
        add(workspace, "shop")
    assert "--anew" in caught.value.hint
    pretrain(workspace, anew=True)
    assert add(workspace, "club").version is not None


def test_numbers_of_labels_are_those_of_the_version_before(taught, copy_of):
    workspace = copy_of(taught("conure"))
    rows = [[user_name(n), "a new club" if n % 2 else "club 0"] for n in range(30)]
    write_csv(workspace.root / "club.csv", ["who", "club"], rows)
    pretrain(workspace, anew=True)
    learnt = add(workspace, "club")
    vocabulary = UserVersion.open(workspace, learnt.version.version_id).task("club").vocabulary
    assert vocabulary == (*(f"club {n}" for n in range(5)), "a new club")


def test_a_nasty_id_is_a_user_like_any_other(taught):
    version = current_version(taught("conure"))
    assert NASTY_USER in kept_labels(version.workspace, version.task("club").labels)["user_id"].to_pylist()
