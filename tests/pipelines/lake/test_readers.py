import gzip
import json
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_cases import write_csv, write_parquet

from pipelines.lake.readers import EventFile, ReadError, read_file
from pipelines.settings.source import SourceSettings

STRANGE_IDS = [
    "'; DROP TABLE raw;--",
    "../../x",
    "🦊 fox",
    "two\nlines",
    "007",
    'with "quotes"',
    "a,b;c|d\te",
    "{user}",
    "null",
    "0",
    " spaced ",
    "e\u0301",
    "\u00e9",
    "-9223372036854775808",
    "'quoted'",
]


def read(path, source=None, link=None):
    """(row number, user, item, time, ...) of every record."""
    link = link or path.with_name("plain-link")
    if not link.exists():
        link.symlink_to(path)
    with duckdb.connect() as connection:
        read_file(connection, EventFile(path, link), source or SourceSettings(), "raw")
        return connection.execute("SELECT * FROM raw ORDER BY row_number").fetchall()


def users(rows):
    return [row[1] for row in rows]


def test_strange_ids_come_through_every_format_unchanged(tmp_path):
    times = ["2024-01-01"] * len(STRANGE_IDS)
    table = {"user_id": STRANGE_IDS, "item_id": STRANGE_IDS[::-1], "timestamp": times}
    rows = list(zip(*table.values(), strict=True))
    lines = "".join(json.dumps(dict(zip(table, row, strict=True))) + "\n" for row in rows)
    (tmp_path / "e.jsonl").write_text(lines)
    with gzip.open(tmp_path / "e.jsonl.gz", "wt") as file:
        file.write(lines)
    paths = [
        write_csv(tmp_path / "e.csv", rows),
        write_parquet(tmp_path / "e.parquet", table),
        tmp_path / "e.jsonl",
        tmp_path / "e.jsonl.gz",
    ]
    for n, path in enumerate(paths):
        found = read(path, link=tmp_path / f"link{n}")
        assert [row[1:4] for row in found] == rows
        lines = [2, 3, 4, 5, 7]  # a field of the fourth row has two lines: rows are numbered by their lines then
        assert [row[0] for row in found][:5] == (lines if path.suffix == ".csv" else [1, 2, 3, 4, 5])
        assert len({row[0] for row in found}) == len(rows)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_found_in_the_header(tmp_path, delimiter):
    lines = [["user_id", "note, or; not", "item_id", "timestamp"], ["u;1", "", "i,1", "5"]]
    path = tmp_path / "e.csv"
    path.write_text("\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in lines))
    assert [row[1:4] for row in read(path)] == [("u;1", "i,1", "5")]


def test_a_gzipped_csv_with_a_byte_order_mark_and_windows_lines(tmp_path):
    path = tmp_path / "events.CSV.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfuser_id,item_id,timestamp\r\nu1,i1,1\r\nu2,i2,2\r\n"))
    assert users(read(path)) == ["u1", "u2"]


def test_recbole_inter(tmp_path):
    path = tmp_path / "ml.inter"
    path.write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t0050\t3\t881250949.0\n")
    assert read(path, SourceSettings(value="rating")) == [(1, "1", "0050", "881250949.0", None, "3", None, None)]


def test_names_that_duckdb_would_take_for_patterns(tmp_path):
    write_csv(tmp_path / "a1.csv", [("other", "i", 1)])
    path = write_csv(tmp_path / "a[1]*'.csv", [("this", "i", 1)])
    assert users(read(path)) == ["this"]


def test_columns_are_mapped_and_others_ignored(tmp_path):
    path = write_csv(
        tmp_path / "e.csv", [("x", "b", "a", "v", "3.5", "e1")], ("junk", "what", "who", "kind", "n", "id")
    )
    (tmp_path / "e2.csv").write_text("")
    source = SourceSettings("who", "what", "id", "kind", "n", "junk")
    assert read(path, source) == [(1, "a", "b", "e1", "v", "3.5", "x", None)]


def test_malformed_csv_records_are_rows_of_their_own(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b'user_id,item_id,timestamp\nu1,i1,1\nshort,row\nlong,row,1,2\n"a"b,i,1\nu\xff,i,1\n\nu2,i2,2\n')
    rows = read(path)
    good = [row for row in rows if row[7] is None]
    bad = [row for row in rows if row[7] is not None]
    assert users(good) == ["u1", "u2"]
    assert [row[0] for row in bad] == [3, 4, 5, 6]  # lines of the file
    assert "Expected Number of Columns: 3 Found: 2" in bad[0][7]
    assert "short,row" in bad[0][7]


def test_json_values_keep_their_text(tmp_path):
    path = tmp_path / "e.ndjson"
    path.write_text(
        '{"user_id": 12345678901234567890, "item_id": "007", "timestamp": 1.25}\n'
        "broken\n[1]\n\n"
        '{"user_id": null, "timestamp": "2024"}\n'
        '{"user_id": "a\\u0000b", "item_id": "i"}\n'
        '{"user_id": "cut'
    )
    rows = read(path)
    assert rows[0][1:4] == ("12345678901234567890", "007", "1.25")
    assert [row[7] is not None for row in rows] == [False, True, True, False, False, True]
    assert rows[3][1:4] == (None, None, "2024")
    assert rows[4][1] == "a\0b"


def test_json_keys_with_dots_and_slashes(tmp_path):
    path = tmp_path / "e.json"
    path.write_text('{"a.b": "u", "c/d~e\'": "i", "timestamp": 1}\n')
    assert read(path, SourceSettings("a.b", "c/d~e'"))[0][1:3] == ("u", "i")


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array([7, 17850], pa.int64()), ["7", "17850"]),
        (pa.array([7, 17850], pa.int32()), ["7", "17850"]),
        (pa.array([2**64 - 1, 0], pa.uint64()), ["18446744073709551615", "0"]),
        (pa.array([17850.0, None]), ["17850", None]),
        (pa.array([17850.0, 0.5], pa.float32()), ["17850", "0.5"]),
        (pa.array([float("nan"), -3.0]), [None, "-3"]),
        (pa.array([1e300, float("inf")]), ["1e+300", "inf"]),
        (pa.array([Decimal("12.00"), Decimal("0.50")]), ["12", "0.50"]),
        (pa.array(["007", "x"]).dictionary_encode(), ["007", "x"]),
        (pa.array([7, 8]).dictionary_encode(), ["7", "8"]),
        (pa.array(["007", None], pa.large_string()), ["007", None]),
        (pa.array(["007", "x"], pa.string_view()), ["007", "x"]),
    ],
)
def test_parquet_ids_of_any_type(tmp_path, array, text):
    path = write_parquet(tmp_path / "e.parquet", {"user_id": array, "item_id": array, "timestamp": [1, 2]})
    assert users(read(path)) == text


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array([0, 1500], pa.timestamp("ms")), ["1970-01-01 00:00:00", "1970-01-01 00:00:01.5"]),
        (pa.array([1_500], pa.timestamp("ns")), ["1970-01-01 00:00:00.0000015"]),
        (pa.array([0], pa.timestamp("us", "Europe/Paris")), ["1970-01-01 00:00:00+00"]),
        (pa.array([None], pa.timestamp("us")), [None]),
        (pa.array([1], pa.date32()), ["1970-01-02"]),
    ],
)
def test_parquet_times_of_any_type(tmp_path, array, text):
    ids = ["x"] * len(array)
    path = write_parquet(tmp_path / "e.parquet", {"user_id": ids, "item_id": ids, "timestamp": array})
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        read_file(connection, EventFile(path, path), SourceSettings(), "raw")
        found = [row[0] for row in connection.execute("SELECT timestamp FROM raw ORDER BY row_number").fetchall()]
    assert [f and f.rstrip("0") for f in found] == [t and t.rstrip("0") for t in text]


def test_a_parquet_file_of_many_batches_keeps_its_row_numbers(tmp_path):
    ids = [str(n) for n in range(150_000)]
    path = write_parquet(tmp_path / "e.pq", {"user_id": ids, "item_id": ids, "timestamp": np.zeros(150_000)})
    assert [(row[0], row[1]) for row in read(path)] == [(n + 1, str(n)) for n in range(150_000)]


def test_files_without_rows(tmp_path):
    (tmp_path / "h.csv").write_text("user_id,item_id,timestamp")
    assert read(tmp_path / "h.csv") == []
    empty = pa.table({name: pa.array([], pa.string()) for name in ("user_id", "item_id", "timestamp")})
    pq.write_table(empty, tmp_path / "h.parquet")
    assert read(tmp_path / "h.parquet", link=tmp_path / "l2") == []
    (tmp_path / "h.jsonl").write_text("\n\n")
    assert read(tmp_path / "h.jsonl", link=tmp_path / "l3") == []


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.parquet", "e.inter"])
def test_a_missing_column_names_file_column_found_and_nearest(tmp_path, name):
    path = tmp_path / name
    match path.suffix:
        case ".csv":
            path.write_text("user,item_id,timestamp\n1,2,3\n")
        case ".inter":
            path.write_text("user:token\titem_id:token\ttimestamp:float\n1\t2\t3\n")
        case ".jsonl":
            path.write_text('{"user": 1, "item_id": 2, "timestamp": 3}\n')
        case ".parquet":
            write_parquet(path, {"user": [1], "item_id": [2], "timestamp": [3]})
    with pytest.raises(ReadError) as caught:
        read(path)
    for words in (name, "no column 'user_id'", "'user'", "'item_id'", "did you mean 'user'?"):
        assert words in str(caught.value)


def test_a_json_column_that_is_null_throughout_is_there(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text('{"user_id": "u", "item_id": "i", "timestamp": 1, "kind": null}\n')
    assert read(path, SourceSettings(event_type="kind"))[0][4] is None
    with pytest.raises(ReadError, match="no column 'price'"):
        read(path, SourceSettings(value="price"))


def test_a_line_that_is_no_json_stands_in_its_complaint(tmp_path):
    path = tmp_path / "e.jsonl"
    good = '{"user_id": "u", "item_id": "i", "timestamp": 1}\n'
    path.write_bytes(f'{good}{{"user_id": "v", "item\n{good}'.encode() + b'{"user_id": "\xff"}\n')
    complaints = [row[-1] for row in read(path)]
    assert complaints == [None, 'no JSON: {"user_id": "v", "item', None, 'no JSON: {"user_id": "\\xff"}']


def test_a_missing_key_advises_what_json_has(tmp_path):
    path = tmp_path / "e.json"
    path.write_text('{"data": [{"user_id": 1}]}\n')
    with pytest.raises(ReadError, match="no column 'user_id'") as caught:
        read(path)
    assert "did you mean 'data[].user_id'?" in caught.value.hint
    assert "delimiter" not in caught.value.hint


def test_bytes_that_a_parquet_file_calls_text(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff\xfe", b"b"]).buffers())
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"user_id": bad, "item_id": ["i", "i"], "timestamp": [1, 2]}), path)
    with pytest.raises(ReadError, match="'user_id' holds string that is no UTF-8 text") as caught:
        read(path)
    assert caught.value.hint


def _damage(path, how):
    data = bytearray(path.read_bytes())
    match how:
        case "truncated":
            data = data[: len(data) // 2]
        case "magic":
            data[:4] = b"ELF\x7f"
            data[-4:] = b"ELF\x7f"
        case "flipped":
            data[len(data) // 3] ^= 0x10
        case "footer":
            data[-40] ^= 0xFF
            data[-30] ^= 0xFF
        case "zero":
            data = b""
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["truncated", "magic", "flipped", "zero"])
def test_damaged_parquet_is_refused_by_name(tmp_path, how):
    ids = [f"user-{n}" for n in range(5000)]
    columns = {"user_id": ids, "item_id": ids, "timestamp": list(range(5000))}
    path = write_parquet(tmp_path / "e.parquet", columns, write_page_checksum=True, use_dictionary=False)
    assert len(read(path)) == 5000
    _damage(path, how)
    with pytest.raises(ReadError, match=r"e\.parquet"):
        read(path)


@pytest.mark.parametrize("how", ["truncated", "flipped", "zero"])
def test_damaged_gzip_is_refused_by_name(tmp_path, how):
    path = tmp_path / "e.csv.gz"
    path.write_bytes(gzip.compress(b"user_id,item_id,timestamp\n" + b"".join(b"u%d,i,1\n" % n for n in range(9000))))
    _damage(path, how)
    with pytest.raises(ReadError, match=r"e\.csv\.gz"):
        read(path)


def test_files_that_are_not_what_they_are_called(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "text.parquet").write_text("user_id,item_id,timestamp\n1,2,3\n")
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)))
    (tmp_path / "csv.jsonl").write_text("user_id,item_id,timestamp\n1,2,3\n")
    (tmp_path / "events.xlsx").write_text("x")
    (tmp_path / "e.parquet.gz").write_text("x")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ReadError, match=path.name):
            read(path, link=tmp_path / f"link-{path.name}")
    with pytest.raises(ReadError, match="not a file"):
        read(tmp_path / "none.csv", link=tmp_path / "folder.csv")


@pytest.mark.parametrize("ends", [("\r\n", "\n", "\r\n"), ("\n", "\r\n", ""), ("\r", "\r", "\r"), ("\r", "\r", "")])
def test_lines_may_end_as_they_like(tmp_path, ends):
    lines = ("user_id,item_id,timestamp", "u,i,1", "v,i,2")
    (tmp_path / "e.csv").write_bytes("".join(map("".join, zip(lines, ends, strict=True))).encode())
    assert [row[1:4] for row in read(tmp_path / "e.csv")] == [("u", "i", "1"), ("v", "i", "2")]


def test_nested_columns_and_doubled_names_are_refused(tmp_path):
    path = write_parquet(tmp_path / "e.parquet", {"user_id": [["a"]], "item_id": ["i"], "timestamp": [1]})
    with pytest.raises(ReadError, match="'user_id' is list"):
        read(path)
    (tmp_path / "e.csv").write_text("user_id,user_id,item_id,timestamp\n1,2,3,4\n")
    with pytest.raises(ReadError, match="two columns"):
        read(tmp_path / "e.csv", link=tmp_path / "another")
