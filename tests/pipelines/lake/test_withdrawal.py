"""What a file brought can be taken back, replaced and completed; a span can be emptied."""

import pytest
from ingest_cases import NOW, ROWS, events, lake, make_workspace, run, span_rows, write_csv

from pipelines.lake.ingest import IngestError, withdraw
from pipelines.lake.withdrawal import WithdrawError
from pipelines.nights.plan import due_of, missing_nights
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanState

PRICED = ("user_id", "item_id", "timestamp", "price")
KINDS = ("user_id", "item_id", "timestamp", "kind", "price", "id")


def reopened(workspace, toml):
    workspace.settings_file.write_text(toml)
    return Workspace.open(workspace.root)


def spans(workspace):
    with workspace.ledger.snapshot() as view:
        return {row.span_id: (row.data_version, row.state.value) for row in view.spans()}


def test_a_corrected_file_takes_the_place_of_the_one_before(tmp_path):
    workspace = make_workspace(tmp_path / "w", '[source]\nvalue = "price"\n')
    one = write_csv(tmp_path / "v1.csv", [("u1", "i1", "2024-01-01", 10), ("u1", "WRONG", "2024-01-02", 10)], PRICED)
    two = write_csv(tmp_path / "v2.csv", [("u1", "i1", "2024-01-01", 99), ("u1", "i2", "2024-01-02", 10)], PRICED)
    run(workspace, one, write_csv(tmp_path / "other.csv", [("u2", "i1", "2024-01-01", 1)], PRICED))
    report = run(workspace, two, replace=["v1.csv"])
    assert (report.withdrawn, report.kept, report.quarantined) == (2, 2, 0)
    assert sorted((r["item_id"], r["value"], r["source"]) for r in span_rows(workspace, "2024-01")) == [
        ("i1", 1.0, "other.csv"),
        ("i1", 99.0, "v2.csv"),
        ("i2", 10.0, "v2.csv"),
    ]
    assert len(span_rows(workspace, "2024-01", 1)) == 3  # the version before is as it was
    assert run(workspace, two).skipped == ("v2.csv",)
    assert run(workspace, one).kept == 1  # it counts as never ingested; one of its events is there again


def test_a_file_that_changed_replaces_itself(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    path = write_csv(tmp_path / "log.csv", ROWS)
    run(workspace, path)
    write_csv(path, ROWS[:2])
    report = run(workspace, path, replace=[str(path)])
    assert (report.withdrawn, report.kept, report.emptied) == (4, 2, ("2024-03",))
    assert len(events(workspace)) == 2


def test_what_was_taken_back_before_is_nothing_to_do(tmp_path):
    """As a script gives it that was killed after the first time."""
    workspace = make_workspace(tmp_path / "w")
    run(workspace, write_csv(tmp_path / "v1.csv", ROWS))
    two = write_csv(tmp_path / "v2.csv", ROWS[:2])
    run(workspace, two, replace=["v1.csv"])
    before = lake(workspace), spans(workspace)
    again = run(workspace, two, replace=["v1.csv"])
    assert (again.batch_id, again.skipped) == (None, ("v2.csv",))
    assert (lake(workspace), spans(workspace)) == before
    assert withdraw(workspace, ["v2.csv"], spans=["2024-03"], now=NOW).withdrawn == 2
    assert withdraw(workspace, ["v2.csv"], spans=["2024-03"], now=NOW).batch_id is None
    with pytest.raises(WithdrawError, match=r"no file 'v3\.csv'"):
        withdraw(workspace, ["v3.csv"], now=NOW)


def test_a_name_stands_for_what_is_there_now(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    path = write_csv(tmp_path / "log.csv", ROWS)
    run(workspace, path)
    write_csv(path, ROWS[:2])
    run(workspace, path, replace=[str(path)])
    write_csv(path, ROWS)  # the content that was taken back lies there again
    assert withdraw(workspace, [str(path)], now=NOW).withdrawn == 2


def test_a_bad_replacement_changes_nothing(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    run(workspace, write_csv(tmp_path / "log.csv", ROWS))
    before = lake(workspace), spans(workspace)
    with pytest.raises(Exception, match="no column"):
        run(workspace, write_csv(tmp_path / "bad.csv", [], ("a", "b", "c")), replace=["log.csv"])
    with pytest.raises(WithdrawError, match=r"no file 'lag\.csv'") as caught:
        run(workspace, write_csv(tmp_path / "good.csv", ROWS[:1]), replace=["lag.csv"])
    assert "log.csv" in str(caught.value)
    assert (lake(workspace), spans(workspace)) == before


def test_what_rests_on_a_withdrawn_file_becomes_stale(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    run(workspace, write_csv(tmp_path / "one.csv", ROWS[:2]), write_csv(tmp_path / "two.csv", ROWS[2:]))
    with workspace.ledger.transaction() as tx:
        for span_id in spans(workspace):
            tx.set_span_state(span_id, SpanState.PUBLISHED, at=NOW)
    report = withdraw(workspace, ["two.csv"], now=NOW)
    assert (report.withdrawn, report.emptied, report.stale) == (2, ("2024-03",), ("2024-02",))
    assert spans(workspace) == {"2024-01": (1, "published"), "2024-02": (2, "stale"), "2024-03": (None, "pending")}
    assert run(workspace, tmp_path / "two.csv").kept == 2
    assert spans(workspace)["2024-03"] == (2, "ingested")


def test_a_span_of_wrong_times_is_emptied_and_is_no_span_any_more(tmp_path):
    workspace = make_workspace(tmp_path / "w", '[spans]\nunit = "hour"\n')
    rows = [("u", "i", "1999-12-31T23:00"), *(("u", f"i{n}", f"2024-01-01T{n:02d}:30") for n in range(5))]
    report = run(workspace, write_csv(tmp_path / "log.csv", rows))
    assert "imsr withdraw --span 1999-12-31T23" in report.warnings[0]
    report = withdraw(workspace, spans=["1999-12-31T23"], now=NOW)
    assert (report.withdrawn, report.emptied) == (1, ("1999-12-31T23",))
    with workspace.ledger.snapshot() as view:
        assert due_of(view.spans(), pretrain=2, now=NOW)[0].spans == ("2024-01-01T00", "2024-01-01T01")
        assert len(missing_nights(view, now=NOW)) < 24 * 180
    assert withdraw(workspace, spans=["1999-12-31T23"], now=NOW).batch_id is None
    with pytest.raises(WithdrawError, match="no span"):
        withdraw(workspace, spans=["1999-12-31T22"], now=NOW)
    with pytest.raises(WithdrawError, match="was ingested"):
        withdraw(workspace, ["other.csv"], now=NOW)


def test_a_log_with_pauses_gets_no_warning(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    report = run(workspace, write_csv(tmp_path / "log.csv", [("u", "i", f"20{y}-06-01") for y in (18, 19, 21, 24)]))
    assert report.warnings == ()


def test_a_first_delivery_that_is_one_span_names_the_shorter_unit(tmp_path):
    rows = [("u", "i", f"2024-01-{day:02d}") for day in range(1, 9)]
    workspace = make_workspace(tmp_path / "w")
    (warning,) = run(workspace, write_csv(tmp_path / "log.csv", rows)).warnings
    assert "one span, 2024-01" in warning
    assert 'unit = "day"' in warning
    assert run(workspace, write_csv(tmp_path / "more.csv", [("v", "i", "2024-01-09")])).warnings == ()
    for unit in ("day", "cut"):
        other = make_workspace(tmp_path / unit, f'[spans]\nunit = "{unit}"\n')
        assert run(other, tmp_path / "log.csv").warnings == ()


@pytest.mark.parametrize(
    ("unit", "times", "told"),
    [
        ("month", ["2024-01-03T10:00", "2024-01-03T13:00"], 'unit = "hour"'),  # a day would be one span, too
        ("month", ["2024-01-03T10:05", "2024-01-03T10:40"], "within an hour"),
        ("hour", ["2024-01-03T10:05", "2024-01-03T10:40"], "within an hour"),
        ("day", ["2024-01-03T10:05:00", "2024-01-03T10:05:00"], "All 2 are of one time, 2024-01-03 10:05:00 UTC"),
        ("day", ["2024-01-03T10:05"], "within an hour"),
    ],
)
def test_what_is_advised_parts_the_log(tmp_path, unit, times, told):
    workspace = make_workspace(tmp_path / "w", f'[spans]\nunit = "{unit}"\n')
    rows = [(f"u{n}", "i", time) for n, time in enumerate(times)]
    (warning,) = run(workspace, write_csv(tmp_path / "log.csv", rows)).warnings
    assert told in warning
    assert warning.count("unit =") == told.count("unit =")


@pytest.mark.parametrize(
    "settings",
    ['user_id = "item_id"\nitem_id = "user_id"', 'time_zone = "Asia/Tokyo"\n[spans]\ntime_zone = "UTC"'],
    ids=["other columns", "another zone"],
)
def test_again_is_no_way_to_count_events_twice(tmp_path, settings):
    path = write_csv(tmp_path / "log.csv", [("u1", "i1", "2024-01-01 10:00:00"), ("u2", "i2", "2024-01-02 10:00:00")])
    workspace = make_workspace(tmp_path / "w")
    run(workspace, path)
    before = events(workspace)
    workspace = reopened(workspace, f"[source]\n{settings}\n")
    with pytest.raises(IngestError, match="not one of its 2 events is the same now") as caught:
        run(workspace, path, again=True)
    assert "--replace log.csv" in caught.value.hint
    assert events(workspace) == before
    report = run(workspace, path, replace=["log.csv"])
    assert (report.kept, len(events(workspace))) == (2, 2)
    assert events(workspace) != before


def test_again_fills_in_what_is_new_of_the_same_events(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    day = "2024-01-01"
    rows = [
        ("u1", "i1", day, "view", 1, "a"),
        ("u1", "i1", day, "buy", 2, "b"),  # the same instant: one event without a type
        ("u2", "i2", day, "", "", ""),
        ("u3", "i3", day, "view", "x", "c"),
    ]
    path = write_csv(tmp_path / "log.csv", rows, KINDS)
    assert (run(workspace, path).kept, len(events(workspace))) == (3, 3)
    workspace = reopened(workspace, '[source]\nevent_type = "kind"\n')
    report = run(workspace, path, again=True)
    assert (report.kept, report.duplicate, report.completed) == (1, 3, 2)
    workspace = reopened(workspace, '[source]\nevent_type = "kind"\nvalue = "price"\nevent_id = "id"\n')
    report = run(workspace, path, again=True)
    assert (report.kept, report.duplicate, report.completed) == (0, 4, 3)
    found = sorted(
        (r["user_id"], r["event_type"] or "", r["value"], r["event_id"]) for r in span_rows(workspace, "2024-01")
    )
    assert found == [
        ("u1", "buy", 2.0, "b"),
        ("u1", "view", 1.0, "a"),
        ("u2", "", None, None),
        ("u3", "view", None, "c"),
    ]
    report = run(workspace, path, again=True)
    assert (report.kept, report.duplicate, report.completed, report.span_versions) == (0, 4, 0, ())


def test_a_value_is_filled_in_alone(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    path = write_csv(tmp_path / "log.csv", [("u", "i", "2024-01-01", 7), ("v", "i", "2024-01-01", "")], PRICED)
    run(workspace, path)
    report = run(reopened(workspace, '[source]\nvalue = "price"\n'), path, again=True)
    assert (report.duplicate, report.completed) == (2, 1)
    assert sorted((r["user_id"], r["value"]) for r in span_rows(workspace, "2024-01")) == [("u", 7.0), ("v", None)]
