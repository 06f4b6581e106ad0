"""Files as they were found in reports and published logs, reduced to their essence; all values are invented."""

import gzip
import json
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_cases import NOW, events, make_workspace, quarantine, run, span_rows, write_csv, write_parquet

from pipelines.lake.ingest import ingest
from pipelines.lake.readers import ReadError
from pipelines.lake.times import TimeUnitError
from pipelines.workspace.layout import Workspace

DAYS = ["2024-01-01", "2024-01-02"]


def ingested(tmp_path, file, settings=""):
    """Ingest one file into a new workspace."""
    workspace = make_workspace(tmp_path / "w", f"[source]\n{settings}\n" if settings else "")
    return workspace, run(workspace, file)


def pairs(workspace):
    return [event[:2] for event in events(workspace)]


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        (pa.array([b"u1", b"u2"]), ["u1", "u2"]),
        (pa.array([b"u1", b"u2"], pa.binary(2)), ["u1", "u2"]),
        (pa.array([b"u1", b"u2"], pa.large_binary()).dictionary_encode(), ["u1", "u2"]),
        (pa.array([Decimal(12345678901234567890), Decimal(7)], pa.decimal256(40)), ["12345678901234567890", "7"]),
        (pa.array(np.array([1, 2], np.float16)), ["1", "2"]),
        (pa.array([uuid.UUID(int=n).bytes for n in (1, 2)], pa.binary(16)), [str(uuid.UUID(int=n)) for n in (1, 2)]),
        (pa.array([uuid.UUID(int=n).bytes for n in (1, 2)], pa.uuid()), [str(uuid.UUID(int=n)) for n in (1, 2)]),
        (pa.array([True, False]), ["false", "true"]),
    ],
)
def test_parquet_ids_of_rare_types(tmp_path, users, expected):
    path = write_parquet(tmp_path / "e.parquet", {"user_id": users, "item_id": ["i", "i"], "timestamp": DAYS})
    workspace, _ = ingested(tmp_path, path)
    assert sorted(user for user, _ in pairs(workspace)) == sorted(expected)


def test_bytes_that_are_no_text_are_one_message(tmp_path):
    columns = {"user_id": pa.array([b"\xff\xfe", b"x"]), "item_id": ["i", "i"], "timestamp": DAYS}
    with pytest.raises(ReadError, match="column 'user_id' holds binary that is no UTF-8 text"):
        ingested(tmp_path, write_parquet(tmp_path / "e.parquet", columns))


def test_times_of_the_far_future_do_not_wrap(tmp_path):
    far = pa.array([np.datetime64("2600-01-01", "us"), np.datetime64("2024-01-01", "us")])
    table = pa.table({"user_id": ["a", "b"], "item_id": ["i", "i"], "timestamp": far})
    pq.write_table(table, tmp_path / "e.parquet", use_deprecated_int96_timestamps=True)
    _, report = ingested(tmp_path, tmp_path / "e.parquet")
    assert (report.kept, report.reasons) == (1, {"timestamp_in_future": 1})


def test_nested_parquet_and_lists(tmp_path):
    table = pa.table(
        {
            "user": [{"id": "a"}, {"id": "b"}, {"id": "c"}],
            "events": [[{"item": 1, "ts": DAYS[0]}, {"item": 2, "ts": DAYS[1]}], [], None],
        }
    )
    pq.write_table(table, tmp_path / "e.parquet")
    settings = 'user_id = "user.id"\nitem_id = "events[].item"\ntimestamp = "events[].ts"'
    workspace, report = ingested(tmp_path, tmp_path / "e.parquet", settings)
    assert pairs(workspace) == [("a", "1"), ("a", "2")]
    assert (report.read, report.reasons) == (4, {"missing_item_id": 2})  # a row without an element stays a row


def test_parallel_lists_are_taken_apart_together(tmp_path):
    table = {"user_id": ["a"], "items": [["x", "y"]], "times": [DAYS]}
    path = write_parquet(tmp_path / "e.parquet", table)
    workspace, _ = ingested(tmp_path, path, 'item_id = "items[]"\ntimestamp = "times[]"')
    assert events(workspace) == [("a", item, f"{day}T00:00:00+00:00") for item, day in zip("xy", DAYS, strict=True)]


def test_json_of_every_shape(tmp_path):
    one = {"user": {"id": "u1"}, "properties": {"product": 7.0}, "timestamp": DAYS[0]}
    settings = 'user_id = "user.id"\nitem_id = "properties.product"'
    files = {
        "array.json": json.dumps([one]),
        "pretty.json": json.dumps([one], indent=2),
        "lines.jsonl": json.dumps(one) + "\n",
        "mark.jsonl": "\ufeff" + json.dumps(one) + "\n",
    }
    for n, (name, content) in enumerate(files.items()):
        (tmp_path / str(n)).mkdir()
        workspace, _ = ingested(tmp_path / str(n), written(tmp_path / name, content), settings)
        assert pairs(workspace) == [("u1", "7")]
    (tmp_path / "cut").mkdir()
    with pytest.raises(ReadError, match="its list has no end"):
        ingested(tmp_path / "cut", written(tmp_path / "cut.json", "[" + json.dumps(one) + ","), settings)


def test_an_object_is_no_id(tmp_path):
    lines = [{"user_id": {"id": 1}}, {"user_id": [1]}, {"user_id": "{ok}"}]
    content = "".join(json.dumps({"item_id": "i", "timestamp": DAYS[0], **line}) + "\n" for line in lines)
    workspace, report = ingested(tmp_path, written(tmp_path / "e.jsonl", content))
    assert (pairs(workspace), report.reasons) == ([("{ok}", "i")], {"malformed_row": 2})
    assert quarantine(workspace)[0]["detail"] == 'user_id is no single value: {"id":1}'


def test_an_object_of_many_megabytes(tmp_path):
    lines = [
        {"user_id": f"u{n}", "item_id": "i", "timestamp": DAYS[0], "text": "x" * size}
        for n, size in ((1, 17 << 20), (2, 1))
    ]
    workspace, _ = ingested(tmp_path, written(tmp_path / "e.jsonl", "\n".join(map(json.dumps, lines))))
    assert pairs(workspace) == [("u1", "i"), ("u2", "i")]


def test_python_literals(tmp_path):
    content = (
        "{'user_id': 'u', 'reviews': [{'posted': 'Posted November 5, 2011.', 'item_id': '1250', 'ok': True}]}\n{'x'\n"
    )
    settings = 'format = "python"\nitem_id = "reviews[].item_id"\ntimestamp = "reviews[].posted"\n'
    settings += 'time_format = "Posted %B %d, %Y."'
    workspace, report = ingested(tmp_path, written(tmp_path / "reviews.json", content), settings)
    assert events(workspace) == [("u", "1250", "2011-11-05T00:00:00+00:00")]
    assert report.reasons == {"malformed_row": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "cp1252"])
def test_other_encodings(tmp_path, encoding):
    path = written(tmp_path / "log.csv", f"user_id,item_id,timestamp\nZoë,i,{DAYS[0]}\n".encode(encoding))
    workspace, _ = ingested(tmp_path, path, f'encoding = "{encoding}"')
    assert pairs(workspace) == [("Zoë", "i")]


def test_an_encoding_is_named_where_the_file_says_it(tmp_path):
    path = written(tmp_path / "log.csv", "user_id,item_id,timestamp\n".encode("utf-16"))
    with pytest.raises(ReadError) as caught:
        ingested(tmp_path, path)
    assert 'encoding = "utf-16"' in str(caught.value)


def test_a_first_line_that_is_a_document_is_one_message(tmp_path):
    path = written(tmp_path / "log.csv", '{"x":"' + "a" * 200_000 + '"}\n')
    with pytest.raises(ReadError, match="no column 'user_id'") as caught:
        ingested(tmp_path, path)
    assert len(str(caught.value)) < 500


def test_columns_named_after_the_first_row_are_refused(tmp_path):
    path = written(tmp_path / "u.tsv", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    with pytest.raises(ReadError, match=r"columns = \["):
        ingested(tmp_path, path, 'user_id = "196"\nitem_id = "242"\ntimestamp = "881250949"')


@pytest.mark.parametrize("delimiter", ["::", "\x01", "|~|", " ", "\t"])
def test_delimiters_of_any_length_without_a_header(tmp_path, delimiter):
    content = "".join(delimiter.join((f"u{n}", "i", "x", f"170410320{n}")) + "\n" for n in range(3))
    columns = 'columns = ["user_id", "item_id", "x", "timestamp"]\nformat = "csv"\n'
    path = written(tmp_path / "000000_0", content)
    workspace, _ = ingested(tmp_path, path, columns + f"delimiter = {json.dumps(delimiter)}")
    assert pairs(workspace) == [(f"u{n}", "i") for n in range(3)]


def test_a_column_that_was_renamed(tmp_path):
    workspace = make_workspace(tmp_path / "w", '[source]\nuser_id = ["user_id", "uid"]\n')
    one = write_csv(tmp_path / "m1.csv", [("u1", "i", DAYS[0])])
    two = write_csv(tmp_path / "m2.csv", [("u2", "i", DAYS[1])], ("uid", "item_id", "timestamp"))
    assert run(workspace, one, two).kept == 2
    rest = '"item_id": "i", "timestamp": 1704067200}\n'
    mixed = f'{{"user_id": "u3", {rest}{{"uid": "u4", {rest}'
    assert run(workspace, written(tmp_path / "m3.jsonl", mixed)).kept == 2
    assert [user for user, _ in pairs(workspace)] == ["u1", "u2", "u3", "u4"]


def test_values_that_cannot_be_read_do_not_cost_the_event(tmp_path):
    rows = [(f"u{n}", "i", DAYS[0], value) for n, value in enumerate(["NaN", "NULL", "\\N", "", "12,5", "7"])]
    path = write_csv(tmp_path / "log.csv", rows, ("user_id", "item_id", "timestamp", "rating"))
    workspace, report = ingested(tmp_path, path, 'value = "rating"')
    assert (report.kept, report.files[0].without_value) == (6, 1)
    assert 'decimal = ","' in report.warnings[0]
    assert [row["value"] for row in span_rows(workspace, "2024-01") if row["value"] is not None] == [7.0]


def test_true_and_false_are_a_number_in_every_format(tmp_path):
    clicks = [True, False, None]
    rows = [(f"u{n}", "i", DAYS[0]) for n in range(3)]
    names = ("user_id", "item_id", "timestamp")
    table = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    files = {
        "p.parquet": lambda path: write_parquet(path, table | {"clicked": clicks}),
        "c.csv": lambda path: write_csv(
            path, [(*row, said) for row, said in zip(rows, ["True", " false", ""], strict=True)], (*names, "clicked")
        ),
        "j.jsonl": lambda path: written(
            path,
            "".join(
                json.dumps(dict(zip(names, row, strict=True)) | {"clicked": each}) + "\n"
                for row, each in zip(rows, clicks, strict=True)
            ),
        ),
    }
    for name, write in files.items():
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        workspace, report = ingested(folder, write(folder / name), 'value = "clicked"')
        assert (report.kept, report.files[0].without_value) == (3, 0), name
        found = {row["user_id"]: row["value"] for row in span_rows(workspace, "2024-01")}
        assert found == {"u0": 1.0, "u1": 0.0, "u2": None}, name
        workspace, report = ingested(folder / "1", folder / name, 'value = "clicked"\nmin_value = 1')
        assert (report.kept, report.files[0].left_out) == (1, 2), name


@pytest.mark.parametrize("files", [1, 3])
def test_values_of_which_none_can_be_compared_with_min_value_are_refused(tmp_path, files):
    names = ("user_id", "item_id", "timestamp", "stars")
    settings = 'value = "stars"\nmin_value = 3'
    commas = [
        write_csv(tmp_path / f"{n}.csv", [(f"u{n}", "i", DAYS[0], "4,5"), ("v", "i", DAYS[0], "")], names)
        for n in range(files)
    ]
    with pytest.raises(ReadError, match=r"not one of its 1 values .* '4,5'") as error:
        run(make_workspace(tmp_path / "w", f"[source]\n{settings}\n"), *commas)
    assert error.value.hint == 'set decimal = "," under [source] in imsr.toml'
    german = f'[source]\n{settings}\ndecimal = ","\n'
    assert run(make_workspace(tmp_path / "german", german), *commas).kept == files
    words = write_csv(tmp_path / "words.csv", [("u", "i", DAYS[0], "good"), ("v", "i", DAYS[0], "bad")], names)
    with pytest.raises(ReadError) as error:
        ingested(tmp_path / "2", words, settings)
    assert "column of numbers" in error.value.hint
    some = write_csv(tmp_path / "some.csv", [("u", "i", DAYS[0], "4,5"), ("v", "i", DAYS[0], "4")], names)
    report = ingested(tmp_path / "3", some, settings)[1]
    assert (report.kept, report.files[0].without_value, report.files[0].left_out) == (1, 1, 1)
    assert "left out" in report.warnings[0]


def test_seconds_mixed_with_milliseconds_are_read_by_the_setting_that_the_error_names(tmp_path):
    times = [1_704_067_200 + 60 * n for n in range(20)]
    rows = [(f"u{n}", "i", at * 1000 if n % 2 else at) for n, at in enumerate(times)]
    path = write_csv(tmp_path / "log.csv", rows)
    with pytest.raises(TimeUnitError, match="10 as s, 10 as ms") as error:
        ingested(tmp_path, path)
    setting = error.value.hint.split("set ")[1].split(" under")[0]
    workspace, report = ingested(tmp_path / "1", path, setting)
    assert (setting, report.kept) == ('time_format = ["s", "ms"]', 20)
    assert sorted(row["timestamp"].timestamp() for row in span_rows(workspace, "2024-01")) == times


def test_an_ingest_that_leaves_every_row_out_says_so(tmp_path):
    path = write_csv(tmp_path / "log.csv", [("u", "i", DAYS[0], "2")], ("user_id", "item_id", "timestamp", "rating"))
    _, report = ingested(tmp_path, path, 'value = "rating"\nmin_value = 4')
    assert (report.kept, report.files[0].left_out) == (0, 1)
    assert "log.csv: not one of its 1 rows is wanted" in report.warnings[0]


def test_damage_inside_a_parquet_file_is_said_in_our_words(tmp_path):
    table = {"user_id": [f"u{n}" for n in range(5000)], "item_id": ["i"] * 5000, "timestamp": list(range(5000))}
    path = write_parquet(tmp_path / "e.parquet", table)
    whole = path.read_bytes()
    path.write_bytes(whole[:3000] + b"\xff\0\xff\0" * 20 + whole[3080:])
    with pytest.raises(ReadError) as caught:
        ingested(tmp_path, path)
    assert "stream" not in caught.value.message
    assert "Traceback" not in caught.value.message


def test_whole_numbers_with_a_point_are_the_same_ids_in_every_format(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    files = [
        write_csv(tmp_path / "a.csv", [("13085.0", "i", DAYS[0])]),
        write_parquet(tmp_path / "b.parquet", {"user_id": [13085.0], "item_id": ["i"], "timestamp": [DAYS[0]]}),
        written(tmp_path / "c.jsonl", f'{{"user_id": 13085.0, "item_id": "i", "timestamp": "{DAYS[0]}"}}\n'),
    ]
    report = run(workspace, *files)
    assert (report.kept, report.duplicate, pairs(workspace)) == (1, 2, [("13085", "i")])


def test_a_workspace_from_before_keeps_its_ids(tmp_path):
    workspace, _ = ingested(tmp_path, write_csv(tmp_path / "a.csv", [("7", "i", DAYS[0])]))
    with workspace.ledger.transaction() as tx:
        tx.delete("meta", key="whole_number_ids")
    run(workspace, write_csv(tmp_path / "b.csv", [("13085.0", "i", DAYS[0])]))
    assert ("13085.0", "i") in pairs(workspace)


def test_events_of_no_interest_are_left_out_and_counted_apart(tmp_path):
    rows = [
        ("u1", "i", DAYS[0], "view", 1),
        ("u2", "i", DAYS[0], "buy", 5),
        ("u3", "i", DAYS[0], "buy", 2),
        ("", "i", DAYS[0], "buy", 9),
    ]
    path = write_csv(tmp_path / "log.csv", rows, ("user_id", "item_id", "timestamp", "kind", "n"))
    settings = 'event_type = "kind"\nvalue = "n"\nkeep_events = ["buy"]\nmin_value = 3'
    workspace, report = ingested(tmp_path, path, settings)
    assert (report.read, report.kept, report.quarantined, report.files[0].left_out) == (2, 1, 1, 2)
    assert pairs(workspace) == [("u2", "i")]


def test_days_of_another_zone(tmp_path):
    path = write_csv(tmp_path / "log.csv", [("u", "i", "2024-01-01T00:30"), ("u", "i", "2023-12-31T23:00Z")])
    workspace = make_workspace(tmp_path / "w", '[source]\ntime_zone = "Asia/Shanghai"\n[spans]\nunit = "day"\n')
    report = run(workspace, path)
    assert [row.span_id for row in report.span_versions] == ["2024-01-01"]
    assert [time for _, _, time in events(workspace)] == ["2023-12-31T16:30:00+00:00", "2023-12-31T23:00:00+00:00"]
    workspace.settings_file.write_text('[spans]\nunit = "day"\n')
    with pytest.raises(Exception, match="time_zone = 'UTC'"):
        run(Workspace.open(workspace.root), write_csv(tmp_path / "b.csv", [("u", "i", "2024-01-01")]))


@pytest.mark.parametrize("name", ["e.parquet", "e.csv.gz"])
def test_a_small_file_that_unpacks_into_gigabytes_is_refused_early(tmp_path, name):
    workspace = make_workspace(tmp_path / "w", "[ingest]\nmax_unpacked_mb = 8\n")
    if name == "e.parquet":
        ids = pa.array(["x" * 1_000]).take(pa.array(np.zeros(20_000, np.int32)))
        write_parquet(tmp_path / name, {"user_id": ids, "item_id": ids, "timestamp": [DAYS[0]] * 20_000})
    else:
        (tmp_path / name).write_bytes(gzip.compress(b"user_id,item_id,timestamp\n" + b"x" * (9 << 20)))
    with pytest.raises(ReadError, match="unpacks to more than 8 MB") as caught:
        run(workspace, tmp_path / name)
    assert "max_unpacked_mb" in str(caught.value)


def test_a_file_without_one_readable_time_changes_nothing(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    with pytest.raises(TimeUnitError, match="not one of its 2 times"):
        run(
            workspace, write_csv(tmp_path / "log.csv", [("u", "i", "20240101T100000Z"), ("v", "i", "20240101T100000Z")])
        )
    assert ingest(workspace, [], now=NOW).batch_id is None


def _nested(folder, kind):
    rows = [{"user": {"id": "u"}, "events": [{"what": {"item": "i"}, "at": day} for day in DAYS], "ts": DAYS[0]}] * 2
    if kind == "parquet":
        path = folder / "e.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    return written(folder / "e.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_missing_column_is_looked_for_inside_objects_and_lists(tmp_path, kind):
    path = _nested(tmp_path, kind)
    with pytest.raises(ReadError, match=r"'events\[\].what.item'") as caught:
        ingested(tmp_path, path)
    assert "did you mean 'user.id'?" in caught.value.hint
    settings = 'user_id = "user.id"\nitem_id = "events[].what.item"\ntimestamp = "events[].at"'
    workspace, _ = ingested(tmp_path / "named", path, settings)
    assert pairs(workspace) == [("u", "i"), ("u", "i")]
