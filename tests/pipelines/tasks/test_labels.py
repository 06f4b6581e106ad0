"""A task's labels: every row is used or counted with its reason, and what was used is kept."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import NASTY_USER
from task_world import write_csv

from imsr_core.lifelong.errors import TaskError
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.settings.tasks import TaskSettings
from pipelines.tasks.labels import (
    LabelReport,
    check_classes,
    keep_labels,
    kept_labels,
    label_numbers,
    label_vocabulary,
    of_known_users,
    read_labels,
    too_few_labels,
)
from pipelines.workspace.layout import Workspace

END = 1_709_500_000_000_000  # 2024-03-03T21:06:40
LATER, EARLIER = "2024-03-04", "2024-03-02"


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w", "")


def read(workspace, rows, *, header=("user_id", "label", "day"), **settings):
    write_csv(workspace.root / "labels.csv", list(header), rows)
    return read_labels(workspace, "age", TaskSettings(labels="labels.csv", **settings), END)


def pairs(table):
    return list(zip(table["user_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_rows_that_cannot_be_used_are_counted_by_their_reason(workspace):
    rows = [
        ["a", "young", EARLIER],
        ["a", "young", EARLIER],
        ["b", "old", EARLIER],
        ["b", "young", "2024-03-01"],
        ["c", "old", LATER],
        ["d", "old", "yesterday"],
        ["", "old", EARLIER],
        ["e", "  ", EARLIER],
        ["f", "old", EARLIER],
        ["f", "young", EARLIER],
    ]
    table, statuses = read(workspace, rows, time="day")
    assert pairs(table) == [("a", "young"), ("b", "old")]
    assert statuses == {
        "good": 2,
        "duplicate": 1,
        "outdated": 1,
        "not_yet": 1,
        "bad_time": 1,
        "missing_user": 1,
        "missing_label": 1,
        "conflicting": 2,
    }


def test_without_a_time_two_classes_of_a_user_conflict_and_neither_is_used(workspace):
    table, statuses = read(workspace, [["a", "young", ""], ["a", "old", ""], ["b", "old", ""]])
    assert pairs(table) == [("b", "old")]
    assert statuses == {"good": 1, "conflicting": 2}
    assert table["time"].to_pylist() == [None]


def test_a_user_has_any_number_of_items(workspace):
    rows = [["a", "x", EARLIER], ["a", "y", "2024-03-01"], ["a", "x", EARLIER], ["b", "x", LATER]]
    table, statuses = read(workspace, rows, kind="items", time="day")
    assert pairs(table) == [("a", "x"), ("a", "y")]
    assert statuses == {"good": 2, "duplicate": 1, "not_yet": 1}
    assert table["time"].to_pylist() == [1_709_337_600_000_000, 1_709_251_200_000_000]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", ""]),
            st.sampled_from(["1", "2", ""]),
            st.sampled_from([EARLIER, LATER, "?", ""]),
        ),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from(["class", "items"]),
)
def test_every_row_has_one_fate_and_a_class_is_one_a_user(tmp_path_factory, rows, kind):
    root = tmp_path_factory.mktemp("w")
    if not {EARLIER, LATER} & {day for *_, day in rows}:
        with pytest.raises(TaskError, match="not one of its"):
            read(Workspace.create(root / "w", ""), rows, kind=kind, time="day")
        return
    table, statuses = read(Workspace.create(root / "w", ""), rows, kind=kind, time="day")
    assert sum(statuses.values()) == len(rows)
    assert statuses.get("good", 0) == table.num_rows == len(set(pairs(table)))
    assert set(pairs(table)) <= {(user, label) for user, label, day in rows if day == EARLIER and user and label}
    if kind == "class":
        assert len(set(table["user_id"].to_pylist())) == table.num_rows


def test_times_and_missing_values_are_read_as_those_of_events(workspace):
    rows = [["a", "x", "1709337600"], ["b", "NULL", "1709337600"], ["nan", "x", "1709337600"]]
    table, statuses = read(workspace, rows, kind="items", time="day")
    assert (pairs(table), table["time"].to_pylist()) == ([("a", "x")], [1_709_337_600_000_000])
    assert statuses == {"good": 1, "missing_label": 1, "missing_user": 1}
    with pytest.raises(TaskError, match="not one of its 1 times can be read as iso8601; the first is '01/02/2024'"):
        read(workspace, [["a", "x", "01/02/2024"]], time="day")


def test_columns_of_other_names_and_hostile_ids_are_plain_text(workspace):
    header = ['who "is"', "l'abel", "x"]
    rows = [[NASTY_USER, "$1; DROP TABLE raw", ""], ["007", "[red]", ""]]
    table, _ = read(workspace, rows, header=header, user_id='who "is"', label="l'abel")
    assert pairs(table) == [(NASTY_USER, "$1; DROP TABLE raw"), ("007", "[red]")]


def test_a_parquet_file_is_read_like_a_csv_file(workspace):
    pq.write_table(pa.table({"user_id": [7, 8], "label": [1.5, None]}), workspace.root / "labels.parquet")
    table, statuses = read_labels(workspace, "age", TaskSettings(labels="labels.parquet"), END)
    assert pairs(table) == [("7", "1.5")]
    assert statuses == {"good": 1, "missing_label": 1}


def test_labels_come_from_a_view_of_the_workspace(learnt, copy_of):
    settings = TaskSettings(labels="view:interactions", label="item_id", time="timestamp", kind="items")
    workspace = copy_of(learnt)
    table, statuses = read_labels(workspace, "items", settings, 2**62)
    with workspace.ledger.snapshot() as view:
        assert sum(statuses.values()) == sum(row.rows for row in view.current_span_versions())
    assert NASTY_USER in set(table["user_id"].to_pylist())


def test_lines_that_do_not_fit_the_header_are_an_error_and_not_half_a_table(workspace):
    text = "user_id,label\n1000,a\n1001,b\nuser_id,label,src\n1003,b,x\n1004,a,x\n"
    (workspace.root / "labels.csv").write_text(text)
    with pytest.raises(TaskError, match=r"3 lines of its labels .* the first is line 4: .*user_id,label,src"):
        read_labels(workspace, "age", TaskSettings(labels="labels.csv"), END)


def test_ids_of_labels_are_written_as_ids_of_events(workspace):
    table, statuses = read(workspace, [["13085.0", "a", ""], ["x.0", "b", ""]])
    assert pairs(table) == [("13085", "a"), ("x.0", "b")]
    assert statuses == {"good": 2}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"labels": "nowhere.csv"}, "there is no file"),
        ({"labels": "labels.xlsx"}, "is no file of labels"),
        ({"labels": "labels.csv", "label": "age"}, "cannot be read"),
        ({"labels": "view:spans; DROP VIEW spans"}, "is no name of a view"),
        ({"labels": "view:nothing"}, r"cannot be read: there is no such view\n.*imsr sql --help"),
        (
            {"labels": "view:users", "label": "age"},
            r"cannot be read: no column 'age' for label; it has 'user_id', .*\n",
        ),
        ({"labels": "view:users", "label": "user_id", "time": "day"}, r"no column 'day' for time; .*\n.*time = \"COL"),
        ({"labels": "."}, "is a folder"),
    ],
)
def test_what_cannot_be_read_is_one_message(workspace, settings, says):
    (workspace.root / "labels.xlsx").write_text("user_id,label\n")
    write_csv(workspace.root / "labels.csv", ["user_id", "label"], [["a", "b"]])
    with pytest.raises(TaskError, match=says) as caught:
        read_labels(workspace, "age", TaskSettings(**settings), END)
    assert "task age" in str(caught.value)


def test_the_used_rows_are_kept_under_their_fingerprint(workspace):
    table = pa.table({"user_id": ["a", "b"], "label": ["x", "y"], "time": pa.array([None, 3], pa.int64())})
    fingerprint, path = keep_labels(workspace, "age", table)
    stamp = (workspace.root / path).stat().st_mtime_ns
    assert keep_labels(workspace, "age", table) == (fingerprint, path)
    assert (workspace.root / path).stat().st_mtime_ns == stamp
    assert kept_labels(workspace, path).equals(table)
    other = keep_labels(workspace, "age", table.slice(1))
    assert other[0] != fingerprint
    assert other[1] != path


def test_numbers_of_labels_never_move():
    first = label_vocabulary((), pa.chunked_array([["b", "a", "b"]]))
    second = label_vocabulary(first, pa.chunked_array([["0", "c", "a"]]))
    assert first == ("a", "b")
    assert second == ("a", "b", "0", "c")
    assert label_numbers(second, pa.chunked_array([["c", "zzz", "a"]])).tolist() == [3, -1, 0]


def test_users_whom_nobody_knows_are_left_out(learnt):
    with learnt.ledger.snapshot() as view:
        folders = [learnt.resolve(row.path) for row in view.sequences()]
    table = pa.table({"user_id": ["u1", "stranger", NASTY_USER], "label": ["x", "x", "y"]})
    known, users = of_known_users(table, Vocabulary.open(folders))
    assert known["user_id"].to_pylist() == ["u1", NASTY_USER]
    assert (users >= 0).all()


def test_a_report_says_where_all_rows_went():
    report = LabelReport(read=10, used=6, duplicate=3, unknown_user=1)
    assert report.unused() == {"duplicate": 3, "unknown_user": 1}
    assert LabelReport(**report.to_json()) == report


@pytest.mark.parametrize("name", ["{x}", "${source}", 'a "b"', "%s", "'"])
def test_columns_may_have_any_name(workspace, name):
    table, statuses = read(workspace, [["a", "young"]], header=("user_id", name), label=name)
    assert pairs(table) == [("a", "young")]
    assert statuses == {"good": 1}


@pytest.mark.parametrize("name", ["people.user", "ratings.inter"])
def test_files_of_recbole_are_read_by_their_typed_header(workspace, name):
    """Tabs, ``name:type`` above each column, and quotes that mean nothing."""
    (workspace.root / name).write_text('user_id:token\tlabel:token_seq\na\t"x y\nb\tz\n')
    table, _ = read_labels(workspace, "age", TaskSettings(labels=name), END)
    assert sorted(table["label"].to_pylist()) == ['"x y', "z"]


def test_the_name_of_a_label_file_is_no_pattern(workspace):
    write_csv(workspace.root / "[ab]*.csv", ["user_id", "label"], [["right", "1"]])
    write_csv(workspace.root / "a-other.csv", ["user_id", "label"], [["wrong", "1"]])
    table, _ = read_labels(workspace, "age", TaskSettings(labels="[ab]*.csv"), END)
    assert pairs(table) == [("right", "1")]


@pytest.mark.parametrize(
    ("report", "looks_at"),
    [
        (LabelReport(30, 0, not_yet=30), "later than the learnt spans"),
        (LabelReport(30, 0, duplicate=20, unknown_user=10), "those of the events"),
        (LabelReport(30, 0, conflicting=30), 'kind = "items"'),
        (LabelReport(30, 30), "two labels or more"),
        (LabelReport(30, 25, missing_label=5), "two labels or more"),
    ],
)
def test_too_few_labels_say_where_to_look(report, looks_at):
    error = too_few_labels("club", 1, report)
    assert looks_at in error.hint
    assert all(reason.replace("_", " ") in str(error) for reason in report.unused())


def test_a_number_for_each_user_is_no_class():
    with pytest.raises(TaskError, match="199 classes for 200 users"):
        check_classes("age", TaskSettings(labels="a.csv"), 199, 200)
    check_classes("age", TaskSettings(labels="a.csv", kind="items"), 199, 200)
    check_classes("age", TaskSettings(labels="a.csv"), 100, 200)
    check_classes("age", TaskSettings(labels="a.csv"), 12, 12)
