import errno
import json
import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ingest_cases import (
    FULL,
    FULL_HEADER,
    NOW,
    ROWS,
    events,
    files_below,
    lake,
    make_workspace,
    quarantine,
    run,
    span_rows,
    write_csv,
    write_parquet,
)

from imsr_core.errors import ConfigError
from pipelines.lake import span_versions
from pipelines.lake.frozen import frozen_calendar
from pipelines.lake.ingest import IngestError
from pipelines.lake.readers import ReadError
from pipelines.lake.schemas import LAKE_SCHEMA, QUARANTINE_SCHEMA, bucket_of, tie_of
from pipelines.lake.spans import SpanError
from pipelines.lake.times import TimeUnitError
from pipelines.lake.validation import Reason
from pipelines.workspace.lease import LeaseHeld
from pipelines.workspace.ledger import SpanState
from pipelines.workspace.seal import PublishError
from pipelines.workspace.writer import writing

#: Order of the rows of a bucket file; the last two make it total.
SORT_COLUMNS = ("user_id", "timestamp", "tie", "item_id", "event_type", "event_id", "value")


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "w")


def states(workspace):
    with workspace.ledger.snapshot() as view:
        return {row.span_id: row.state.value for row in view.spans()}


def test_a_log_becomes_spans(workspace, tmp_path):
    said = []
    report = run(workspace, write_csv(tmp_path / "log.csv", ROWS), progress=said.append)
    assert (report.read, report.kept, report.duplicate, report.quarantined) == (4, 4, 0, 0)
    assert report.batch_id == "b000001"
    assert [(v.span_id, v.data_version, v.rows) for v in report.span_versions] == [
        ("2024-01", 1, 1),
        ("2024-02", 1, 2),
        ("2024-03", 1, 1),
    ]
    assert events(workspace) == [
        ("ann", "cake", "2024-02-12T08:00:00+00:00"),
        ("ann", "tea", "2024-01-10T08:00:00+00:00"),
        ("bob", "cake", "2024-02-11T09:30:00+00:00"),
        ("cyd", "tea", "2024-03-01T00:00:00+00:00"),
    ]
    assert states(workspace) == dict.fromkeys(["2024-01", "2024-02", "2024-03"], "ingested")
    assert report.files[0].time_unit == "iso8601"
    assert any("log.csv: 4 rows" in line for line in said)
    assert files_below(workspace.staging) == []


def test_the_files_keep_their_contract(workspace, tmp_path):
    run(workspace, write_csv(tmp_path / "log.csv", [(f"u{n % 40}", f"i{n}", "2024-02-01") for n in range(200)]))
    folder = workspace.span_folder("2024-02", 1)
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        assert table.schema.equals(LAKE_SCHEMA)
        rows = table.to_pylist()
        assert {f"bucket={bucket_of(row['user_id'], 16):02d}.parquet" for row in rows} == {path.name}
        for row in rows:
            assert row["tie"] == tie_of(row["user_id"], row["item_id"], 1_706_745_600_000_000)
            assert (row["source"], row["ingest_time"]) == ("log.csv", NOW)
        keys = [tuple(str(row[c]) if c == "value" else row[c] or "" for c in SORT_COLUMNS) for row in rows]
        assert keys == sorted(keys)


def test_ties_are_never_ordered_by_item_id(workspace, tmp_path):
    run(workspace, write_csv(tmp_path / "log.csv", [("u", f"{n:03d}", "2024-02-01") for n in range(50)]))
    items = [row["item_id"] for row in span_rows(workspace, "2024-02")]
    assert items != sorted(items)
    assert items != sorted(items, reverse=True)
    assert items == sorted(items, key=lambda item: tie_of("u", item, 1_706_745_600_000_000))


def test_every_reason_reaches_quarantine_with_the_row_as_it_came(tmp_path):
    cut = '[spans]\nunit = "cut"\n' + FULL
    workspace = make_workspace(tmp_path / "w", cut)
    run(workspace, write_csv(tmp_path / "first.csv", [("u", "i", "2024-01-01", "k", 1, "e")], FULL_HEADER))
    bad = {
        Reason.MISSING_USER_ID: ("", "i", "2024-01-02", "k", "1", "e1"),
        Reason.MISSING_ITEM_ID: ("u", "", "2024-01-02", "k", "1", "e2"),
        Reason.ID_CONTAINS_NUL: ("u\0", "i", "2024-01-02", "k", "1", "e3"),
        Reason.ID_TOO_LONG: ("u", "i" * 257, "2024-01-02", "k", "1", "e4"),
        Reason.UNPARSABLE_TIMESTAMP: ("u", "i", "soon", "k", "1", "e5"),
        Reason.TIMESTAMP_TOO_EARLY: ("u", "i", "1969-12-31", "k", "1", "e6"),
        Reason.TIMESTAMP_IN_FUTURE: ("u", "i", "2034-01-02", "k", "1", "e7"),
        Reason.BEFORE_FIRST_SPAN: ("u", "i", "2023-12-31", "k", "1", "e8"),
    }
    path = write_csv(tmp_path / "second.csv", bad.values(), FULL_HEADER)
    with path.open("a", newline="") as file:
        file.write("only,two\r\n")
    report = run(workspace, path)
    assert (report.read, report.kept, report.duplicate, report.quarantined) == (9, 0, 0, 9)
    assert report.reasons == dict.fromkeys(sorted(set(Reason) - {Reason.TOO_LATE}), 1)
    rows = quarantine(workspace)
    names = ("user_id", "item_id", "timestamp", "event_type", "value", "event_id")
    assert {r["reason"]: tuple(r[n] or "" for n in names) for r in rows if r["reason"] in bad} == bad
    assert [r["row_number"] for r in rows if r["reason"] in bad] == list(range(1, 9))
    malformed = next(r for r in rows if r["reason"] == Reason.MALFORMED_ROW)
    assert malformed["row_number"] == 10
    assert "only,two" in malformed["detail"]
    assert {(r["source"], r["ingest_time"]) for r in rows} == {("second.csv", NOW)}
    assert report.span_versions == ()
    assert set(states(workspace)) == {"s000"}
    with workspace.ledger.snapshot() as view:
        stored = view.batches()[-1].quarantine_path
    assert pq.read_table(workspace.resolve(stored), partitioning=None).schema.equals(QUARANTINE_SCHEMA)


def test_duplicates_inside_a_file_between_files_and_against_the_lake(workspace, tmp_path):
    one = write_csv(tmp_path / "one.csv", [*ROWS, ROWS[0], ROWS[1]])
    two = write_csv(tmp_path / "two.csv", [ROWS[3], ("ann", "tea", "2024-01-10T08:00:00.000001")])
    report = run(workspace, one, two)
    assert [(f.read, f.kept, f.duplicate) for f in report.files] == [(6, 4, 2), (2, 1, 1)]
    three = write_csv(tmp_path / "three.csv", [ROWS[0], ("ann", "tea", "2024-01-10T09:00:00+01:00")])
    report = run(workspace, three)
    assert (report.read, report.kept, report.duplicate) == (2, 0, 2)
    assert report.span_versions == ()
    assert len(events(workspace)) == 5


def test_the_first_of_two_with_one_event_id_wins_and_without_id_the_kind_counts(tmp_path):
    workspace = make_workspace(tmp_path / "w", FULL)
    day = "2024-02-01"
    rows = [
        ("u", "i", day, "view", 1, "e1"),
        ("u", "OTHER", day, "view", 2, "e1"),  # same id: the second is a duplicate, whatever it says
        ("u", "i", day, "view", 3, "e2"),  # same event, another id: kept
        ("v", "i", day, "view", 4, ""),
        ("v", "i", day, "view", 5, ""),  # no id: user, item, time and kind are the same
        ("v", "i", day, "buy", 6, ""),
        ("v", "i", day, "", 7, ""),
        ("v", "i", day, "", 8, ""),
    ]
    report = run(workspace, write_csv(tmp_path / "log.csv", rows, FULL_HEADER))
    assert (report.kept, report.duplicate) == (5, 3)
    assert sorted(row["value"] for row in span_rows(workspace, "2024-02")) == [1, 3, 4, 6, 7]
    again = [("w", "x", day, "view", 9, "e1"), ("v", "i", day, "", 9, ""), ("v", "i", day, "buy", 9, "e9")]
    report = run(workspace, write_csv(tmp_path / "late.csv", again, FULL_HEADER))
    assert (report.kept, report.duplicate) == (1, 2)
    assert sorted(row["value"] for row in span_rows(workspace, "2024-02")) == [1, 3, 4, 6, 7, 9]


def test_late_events_make_a_new_version_and_leave_the_old_one(workspace, tmp_path):
    run(workspace, write_csv(tmp_path / "log.csv", ROWS))
    before = span_rows(workspace, "2024-02")
    later = NOW + timedelta(days=1)
    report = run(workspace, write_csv(tmp_path / "late.csv", [("dan", "tea", "2024-02-20")]), now=later)
    (version,) = report.span_versions
    assert (version.span_id, version.data_version, version.rows) == ("2024-02", 2, 3)
    assert span_rows(workspace, "2024-02", 1) == before
    rows = span_rows(workspace, "2024-02")
    assert all(row in rows for row in before)  # source and ingest time of old rows stay
    assert [r["ingest_time"] for r in rows if r["user_id"] == "dan"] == [later]
    assert report.stale == ()
    assert states(workspace) == dict.fromkeys(["2024-01", "2024-02", "2024-03"], "ingested")


def test_what_rests_on_a_changed_span_becomes_stale(workspace, tmp_path):
    days = [f"2024-{month:02d}-05" for month in (1, 3, 4, 5, 6)]
    run(workspace, write_csv(tmp_path / "log.csv", [("u", "i", day) for day in days]))
    built = {"2024-01": "published", "2024-03": "rejected", "2024-04": "sequenced", "2024-05": "stale"}
    with workspace.ledger.transaction() as tx:
        for span_id, state in built.items():
            tx.set_span_state(span_id, SpanState(state), at=NOW)
    report = run(workspace, write_csv(tmp_path / "late.csv", [("u", "i", "2024-03-20")]))
    assert report.stale == ("2024-03", "2024-04")
    after = {**built, "2024-03": "stale", "2024-04": "stale", "2024-06": "ingested"}
    assert states(workspace) == after
    report = run(workspace, write_csv(tmp_path / "gap.csv", [("u", "i", "2023-12-20")]))
    assert report.stale == ("2024-01",)  # a span in front of everything: all the rest rests on it
    assert states(workspace) == {**after, "2023-12": "ingested", "2024-01": "stale"}


def test_a_file_is_ingested_once(workspace, tmp_path):
    path = write_csv(tmp_path / "log.csv", ROWS)
    run(workspace, path)
    before = files_below(workspace.root), workspace.ledger_file.read_bytes()
    copy = shutil.copy(path, tmp_path / "copy.csv")
    report = run(workspace, path, copy)
    assert report.batch_id is None
    assert report.skipped == ("log.csv", "copy.csv")
    assert report.files[0].skipped == "ingested before, in b000001"
    assert files_below(workspace.root) == before[0]
    report = run(workspace, path, copy, again=True)
    assert (report.read, report.duplicate, report.skipped) == (4, 4, ("copy.csv",))


def test_another_column_mapping_does_not_bring_a_file_twice(workspace, tmp_path):
    path = write_csv(tmp_path / "log.csv", [("u", "i", "2024-01-05", "view")], (*FULL_HEADER[:3], "kind"))
    run(workspace, path)
    workspace.settings_file.write_text('[source]\nevent_type = "kind"\n')
    workspace = type(workspace).open(workspace.root)
    assert run(workspace, path).skipped == ("log.csv",)
    report = run(workspace, path, again=True)
    assert (report.read, report.kept, report.duplicate, report.completed) == (1, 0, 1, 1)
    assert [row["event_type"] for row in span_rows(workspace, "2024-01")] == ["view"]
    report = run(workspace, path, again=True)
    assert (report.duplicate, report.completed, report.span_versions) == (1, 0, ())


@pytest.mark.parametrize("place", [0, 1])
def test_one_unreadable_file_changes_nothing(workspace, tmp_path, place):
    files = [write_csv(tmp_path / "good.csv", ROWS), write_csv(tmp_path / "bad.csv", [], ("what", "is", "this"))]
    run(workspace, write_csv(tmp_path / "first.csv", [("z", "z", "2024-01-01")]))
    before = files_below(workspace.root), workspace.ledger.path.stat().st_size, lake(workspace)
    with pytest.raises(ReadError, match=r"bad\.csv"):
        run(workspace, *(files if place else files[::-1]))
    with pytest.raises(ReadError, match="not a file"):
        run(workspace, files[0], tmp_path / "nowhere.csv")
    assert (files_below(workspace.root), workspace.ledger.path.stat().st_size, lake(workspace)) == before


def test_a_pipe_is_told_apart_from_a_mistyped_name(workspace, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, hint in ((tmp_path / "pipe", "in a pipe"), ("-", "in a pipe"), ("nowhere.csv", "name event files")):
        with pytest.raises(ReadError, match="not a file") as caught:
            run(workspace, Path(name))
        assert hint in caught.value.hint


def test_an_ambiguous_time_unit_changes_nothing(workspace, tmp_path):
    with pytest.raises(TimeUnitError):
        run(workspace, write_csv(tmp_path / "log.csv", [("u", "i", n) for n in range(9)]))
    assert states(workspace) == {}


def test_no_rows_is_no_error_and_is_remembered(workspace, tmp_path):
    path = write_csv(tmp_path / "empty.csv", [])
    report = run(workspace, path)
    assert (report.batch_id, report.read, report.span_versions) == ("b000001", 0, ())
    assert run(workspace, path).skipped == ("empty.csv",)
    assert run(workspace).batch_id is None
    with workspace.ledger.snapshot() as view:
        assert frozen_calendar(view) is None


def test_the_same_log_in_every_format_gives_the_same_lake(tmp_path):
    rng = random.Random(1)
    rows = [(str(rng.randrange(50)), str(rng.randrange(20)), 1_704_067_200 + 3_000 * n) for n in range(300)]
    columns = dict(zip(("user_id", "item_id", "timestamp"), zip(*rows, strict=True), strict=True))
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(dict(zip(columns, r, strict=True))) + "\n" for r in rows))
    (tmp_path / "e.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\n" + "".join("\t".join(map(str, r)) + "\n" for r in rows)
    )
    floats = {name: [float(v) for v in values] for name, values in columns.items()}
    stamps = {**columns, "timestamp": [datetime.fromtimestamp(t, UTC) for t in columns["timestamp"]]}
    files = [
        write_csv(tmp_path / "e.csv", rows),
        write_csv(tmp_path / "ms.csv", [(u, i, t * 1000) for u, i, t in rows]),
        tmp_path / "e.jsonl",
        tmp_path / "e.inter",
        write_parquet(tmp_path / "f.parquet", floats),
        write_parquet(tmp_path / "t.parquet", stamps),
    ]
    lakes = []
    for n, path in enumerate(files):
        workspace = make_workspace(tmp_path / f"w{n}")
        assert run(workspace, path).kept == 300
        lakes.append(lake(workspace))
    assert all(content == lakes[0] for content in lakes)


def test_a_cut_calendar_is_frozen_by_the_first_log(tmp_path):
    workspace = make_workspace(tmp_path / "w", '[spans]\nunit = "cut"\nalpha = 0.5\ncount = 2\n')
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [("u", f"i{n}", (start + timedelta(days=n)).isoformat()) for n in range(9)]
    report = run(workspace, write_csv(tmp_path / "log.csv", rows))
    assert [(v.span_id, v.rows) for v in report.span_versions] == [("s000", 4), ("s001", 3), ("s002", 2)]
    later = [("u", "i", (start + timedelta(days=n)).isoformat()) for n in (-1, 9, 10, 11)]
    report = run(workspace, write_csv(tmp_path / "later.csv", later))
    assert [(v.span_id, v.data_version) for v in report.span_versions] == [("s003", 1), ("s004", 1)]
    assert report.reasons == {Reason.BEFORE_FIRST_SPAN: 1}


@pytest.mark.parametrize(
    "settings_toml", ['[spans]\nunit = "day"\n', '[spans]\nunit = "cut"\n', "[ingest]\nbuckets = 8\n"]
)
def test_frozen_settings_cannot_change(workspace, tmp_path, settings_toml):
    run(workspace, write_csv(tmp_path / "log.csv", ROWS))
    workspace.settings_file.write_text(settings_toml)
    changed = type(workspace).open(workspace.root)
    with pytest.raises(ConfigError, match="this workspace"):
        run(changed, write_csv(tmp_path / "more.csv", [("u", "i", "2024-01-01")]))


def test_a_damaged_version_is_not_built_upon(workspace, tmp_path):
    run(workspace, write_csv(tmp_path / "log.csv", ROWS))
    path = next(workspace.span_folder("2024-02", 1).glob("*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(PublishError, match="damaged"):
        run(workspace, write_csv(tmp_path / "late.csv", [("u", "i", "2024-02-20")]))
    assert run(workspace, write_csv(tmp_path / "other.csv", [("u", "i", "2024-03-20")])).kept == 1


def test_one_ingest_at_a_time_but_a_flow_can_lend_its_lease(workspace, tmp_path):
    path = write_csv(tmp_path / "log.csv", ROWS)
    with writing(workspace, "imsr nightly", now=NOW) as writer:
        with pytest.raises(LeaseHeld, match="imsr nightly"):
            run(workspace, path)
        assert run(workspace, path, writer=writer).kept == 4


def test_a_file_that_changes_while_it_is_read_is_refused(workspace, tmp_path):
    path = write_csv(tmp_path / "log.csv", ROWS)
    other = write_csv(tmp_path / "other.csv", [("x", "y", "2024-01-01")])

    def meddle(text: str) -> None:
        if "log.csv" in text:
            write_csv(other, ROWS)

    with pytest.raises(ReadError, match=r"other\.csv: changed while it was read"):
        run(workspace, path, other, progress=meddle)
    assert states(workspace) == {}


def test_a_full_disk_is_said_and_changes_nothing(workspace, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_csv(tmp_path / "log.csv", ROWS)
    before = files_below(workspace.root)
    for step in ("seal", "move_into_place"):
        with monkeypatch.context() as patch:
            patch.setattr(span_versions, step, full)
            with pytest.raises(IngestError, match="no space left"):
                run(workspace, path)
        assert files_below(workspace.root) == before
    assert run(workspace, path).kept == 4


def test_a_naive_time_of_the_run_is_refused(workspace, tmp_path):
    with pytest.raises(SpanError, match="no time zone"):
        run(workspace, write_csv(tmp_path / "log.csv", ROWS), now=datetime(2024, 1, 1))


def test_a_workspace_whose_name_needs_quoting(tmp_path):
    workspace = make_workspace(tmp_path / "it's {a} 'space' %")
    run(workspace, write_csv(tmp_path / "log.csv", ROWS))
    run(workspace, write_csv(tmp_path / "late.csv", [("dan", "tea", "2024-02-20")]))
    assert len(events(workspace)) == 5
