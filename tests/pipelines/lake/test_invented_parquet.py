"""Parquet files as other systems write them: columns of any type give the right rows, or say what is wrong."""

import datetime as dt
import io
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_cases import events, lake, make_workspace, quarantine, run

from imsr_core.errors import ImsrError
from pipelines.lake.engine_death import EngineDied

USERS, ITEMS = ["u1", "u2"], ["i1", "i2"]
MOMENTS = [dt.datetime(2024, 1, day, 12, 30, 15, 123456) for day in (1, 2)]
TIMES = ["2024-01-01T12:30:15", "2024-01-02T12:30:15"]
ZONES = [None, "UTC", "America/New_York", "+05:30"]


def moments(unit, zone=None):
    return pa.array(MOMENTS, pa.timestamp("us")).cast(pa.timestamp(unit), safe=False).cast(pa.timestamp(unit, zone))


#: A time of day that no day has: the engine gives up on it, as a whole.
DEADLY = pa.array([2**31 - 1, 1], pa.int32()).view(pa.time32("s"))
#: Columns beside those of u1 and u2 -> (rows that are kept, reasons of the others), or words of an error.
CASES = {
    "dates": ({"timestamp": pa.array([m.date() for m in MOMENTS])}, (2, [])),
    "dates in milliseconds": ({"timestamp": pa.array([m.date() for m in MOMENTS], pa.date64())}, (2, [])),
    "times of the day": ({"timestamp": [m.time() for m in MOMENTS]}, "the first is '12:30:15.123456'"),
    "durations": ({"timestamp": pa.array([1, 2], pa.duration("s"))}, "not one of its 2 times"),
    "decimal seconds": ({"timestamp": [Decimal("1704067200.5"), Decimal("1704067201.5")]}, (2, [])),
    "categories": (
        {"user_id": pa.array(USERS).dictionary_encode(), "item_id": pa.array([7, None]).dictionary_encode()},
        (1, ["missing_item_id"]),
    ),
    "times as categories": ({"timestamp": moments("ms").dictionary_encode()}, (2, [])),
    "years without end": ({"timestamp": pa.array([2**62, -(2**62)], pa.timestamp("ms"))}, "not one of its 2 times"),
    "one year without end": (
        {"timestamp": pa.array([2**62, 1704067200000], pa.timestamp("ms", "UTC"))},
        (1, ["unparsable_timestamp"]),
    ),
    "years 1 and 9999": (
        {"timestamp": pa.array([-62135596800, 253402300799], pa.timestamp("s"))},
        (0, ["timestamp_too_early", "timestamp_in_future"]),
    ),
    "no time": ({"timestamp": pa.array([None, MOMENTS[0]], pa.timestamp("ms"))}, (1, ["unparsable_timestamp"])),
    "unsigned ids": ({"user_id": pa.array([2**64 - 1, 2**63], pa.uint64())}, (2, [])),
    "ids of nothing": ({"user_id": pa.nulls(2)}, (0, ["missing_user_id"] * 2)),
    "views of text": (
        {"user_id": pa.array(USERS, pa.string_view()), "item_id": pa.array(ITEMS, pa.large_string())},
        (2, []),
    ),
    "a list": ({"item_id": [["a"], ["b"]]}, 'a list is taken apart as "item_id[]"'),
    "a structure": ({"item_id": [{"x": 1}] * 2}, "name one field of it"),
    "a map": ({"item_id": pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int64()))}, "not one value a row"),
    "bytes that are no text": ({"user_id": pa.array([b"\xff", b"a"])}, "no UTF-8 text"),
    "names in capitals": ({"user_id": None, "USER_ID": USERS}, "did you mean 'USER_ID'?"),
}


def written(path, columns, **options):
    table = {"user_id": USERS, "item_id": ITEMS, "timestamp": MOMENTS} | columns
    pq.write_table(pa.table({name: column for name, column in table.items() if column is not None}), path, **options)
    return path


@pytest.mark.parametrize("case", CASES)
def test_columns_of_any_type(tmp_path, case):
    columns, expected = CASES[case]
    workspace = make_workspace(tmp_path / "w")
    path = written(tmp_path / "e.parquet", columns)
    if isinstance(expected, str):
        with pytest.raises(ImsrError) as caught:
            run(workspace, path)
        assert expected in str(caught.value)
        assert lake(workspace) == {}
        return
    report = run(workspace, path)
    assert (report.kept, [row["reason"] for row in quarantine(workspace)]) == expected
    assert report.read == 2


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_in_any_unit_and_zone(tmp_path, unit, zone):
    workspace = make_workspace(tmp_path / "w")
    run(workspace, written(tmp_path / "e.parquet", {"timestamp": moments(unit, zone)}))
    assert [time[:19] for _, _, time in events(workspace)] == TIMES


def test_times_without_a_zone_are_of_the_zone_of_the_settings(tmp_path):
    workspace = make_workspace(tmp_path / "w", '[source]\ntime_zone = "America/New_York"\n')
    run(workspace, written(tmp_path / "a.parquet", {"timestamp": moments("ms")}))
    run(workspace, written(tmp_path / "b.parquet", {"timestamp": moments("ms", "Asia/Tokyo"), "user_id": ["t1", "t2"]}))
    assert [(user, time[11:19]) for user, _, time in events(workspace)] == [
        ("t1", "12:30:15"), ("t2", "12:30:15"), ("u1", "17:30:15"), ("u2", "17:30:15")
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [4, 20, 300])
def test_a_file_that_was_cut_off(tmp_path, cut):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"user_id": USERS, "item_id": ITEMS, "timestamp": MOMENTS}), buffer)
    (tmp_path / "e.parquet").write_bytes(buffer.getvalue()[:-cut])
    with pytest.raises(ImsrError, match="cannot be read as parquet"):
        run(make_workspace(tmp_path / "w"), tmp_path / "e.parquet")


def test_a_file_that_ends_the_engine_is_refused_and_the_others_are_ingested(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    files = [
        written(tmp_path / "a.parquet", {}),
        written(tmp_path / "b.parquet", {"user_id": DEADLY}),
        written(tmp_path / "c.parquet", {"user_id": ["u3", "u4"]}),
    ]
    with pytest.raises(EngineDied, match=r"b\.parquet: the engine broke off"):
        run(workspace, *files)
    assert lake(workspace) == {}
    report = run(workspace, *files, tolerant=True)
    assert (report.kept, [file.name for file in report.refused]) == (4, ["b.parquet"])
    assert [event[0] for event in events(workspace)] == ["u1", "u2", "u3", "u4"]


def test_one_of_many_small_files_that_ends_the_engine(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    hours = [pa.array([n, n], pa.int32()).view(pa.time32("s")) for n in range(9)]
    files = [written(tmp_path / f"{n}.parquet", {"user_id": column}) for n, column in enumerate([*hours, DEADLY])]
    report = run(workspace, *files, tolerant=True)
    assert (report.kept, [file.name for file in report.refused]) == (18, ["9.parquet"])
