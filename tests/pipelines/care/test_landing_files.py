"""A user's records are taken out of files of every format; all others stay byte for byte."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.care import landing_files
from pipelines.care.landing_files import LandingError, find_user, mention_pattern, without_user
from pipelines.settings.imsr_toml import SourceSettings

SOURCE = SourceSettings()
CSV = 'user_id,item_id,timestamp\nann,"a, ""b""",2024-01-01\n"bob",x,2024-01-02\nann,"two\nlines",2024-01-03\ncyd,ann,3'
LEFT = 'user_id,item_id,timestamp\n"bob",x,2024-01-02\ncyd,ann,3'


def written(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def cleaned(path, user="ann", source=SOURCE):
    out = path.with_name(f"new-{path.name}")
    without_user(path, source, user, out)
    return out


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_keeps_every_other_byte(tmp_path, end):
    path = written(tmp_path, "log.csv", CSV.replace("\n", end).encode())
    assert [file.rows for file in find_user([path], SOURCE, "ann")] == [2]
    assert cleaned(path).read_bytes() == LEFT.replace("\n", end).encode()


def test_of_many_files_only_those_that_may_name_the_user_are_read(tmp_path, monkeypatch):
    quoted, nested = SourceSettings(quote='"'), SourceSettings(user_id="user")
    folder = tmp_path / "user=ann"
    folder.mkdir()
    hidden = [
        (written(tmp_path, "a.jsonl", b'{"user_id":"\\u0061nn"}\n'), SOURCE, "ann"),
        (written(tmp_path, "b.csv", b'user_id,item_id,timestamp\n"a""n",x,2024-01-01\n'), quoted, 'a"n'),
        (written(folder, "c.csv", b"item_id,timestamp\nx,2024-01-01\n"), nested, "ann"),
        (written(tmp_path, "d.csv.gz", gzip.compress(CSV.encode())), SOURCE, "ann"),
        (written(tmp_path, "e.csv", b"user_id,item_id,timestamp\n7.0,x,2024-01-01\n"), SOURCE, "7"),
    ]
    for path, source, user in hidden:
        assert [file.path for file in find_user([path], source, user)] == [path]
    few = [written(tmp_path, f"part-{n}.csv", f"user_id,item_id,timestamp\nu{n},x,1\n".encode()) for n in range(9)]
    few += [written(tmp_path, f"like-{n}.csv", f"user_id,item_id,timestamp\nu7{n},xu7,1\n".encode()) for n in range(9)]
    read, inner = [], landing_files.read_columns
    monkeypatch.setattr(
        landing_files,
        "read_columns",
        lambda session, file, *rest: read.append(file.path) or inner(session, file, *rest),
    )
    assert [file.path for file in find_user(few, SOURCE, "u7")] == [few[7]]
    assert read == [few[7]]


def test_lines_that_end_differently_keep_their_ends(tmp_path):
    mixed = written(
        tmp_path, "log.csv", b"user_id,item_id,timestamp\nann,x,2024-01-01\r\nbob,x,2024-01-02\r\ncyd,x,3\n"
    )
    assert [(file.path, file.rows) for file in find_user([mixed], SOURCE, "ann")] == [(mixed, 1)]
    assert cleaned(mixed).read_bytes() == b"user_id,item_id,timestamp\nbob,x,2024-01-02\r\ncyd,x,3\n"


def test_a_file_that_ingestion_refuses_is_named_with_no_rows(tmp_path):
    other = written(tmp_path, "log.csv", b"who,item_id,timestamp\nann,x,2024-01-01\n")
    assert [(file.path, file.rows) for file in find_user([other], SOURCE, "ann")] == [(other, None)]


def test_files_that_settings_describe(tmp_path):
    source = SourceSettings(
        user_id=("uid", "user"), columns=("item", "user", "time"), delimiter="::", encoding="latin-1"
    )
    path = written(tmp_path, "log.dat", "x::Zoë::1\nx::27.0::2\n\ny::bob::3\n".encode("latin-1"))
    assert cleaned(path, "27", source).read_bytes() == "x::Zoë::1\n\ny::bob::3\n".encode("latin-1")
    assert cleaned(path, "Zoë", source).read_bytes() == b"x::27.0::2\n\ny::bob::3\n"
    nested = SourceSettings(user_id="user.id")
    lines = '{"user":{"id":"ann"}}\n{"user":{"id":"bob"}}\n{"user":null}\n'
    assert cleaned(written(tmp_path, "log.jsonl", lines.encode()), source=nested).read_text() == lines[22:]


def test_quotes_that_belong_to_the_text_take_no_other_record_with_them(tmp_path):
    text = (
        'user_id,item_id,timestamp,title\nann,a,1704067200,"Heroes\nbob,b,1704067201,Low\nann,c,1704067202,Blackstar"\n'
    )
    left = "user_id,item_id,timestamp,title\nbob,b,1704067201,Low\n"
    assert cleaned(written(tmp_path, "log.csv", text.encode())).read_text() == left


def test_compressed_csv_is_the_same_every_time(tmp_path):
    path = written(tmp_path, "log.csv.gz", gzip.compress(CSV.encode()))
    first = cleaned(path).read_bytes()
    assert gzip.decompress(first) == LEFT.encode()
    assert cleaned(path).read_bytes() == first


def test_malformed_lines_that_mention_the_user_go_too(tmp_path):
    path = written(tmp_path, "log.csv", b"user_id,item_id,timestamp\nbob,x,2024-01-01\nann,too,many,cells\ncyd,few\n")
    assert cleaned(path).read_bytes() == b"user_id,item_id,timestamp\nbob,x,2024-01-01\ncyd,few\n"


def test_json_lines_with_numbers_as_ids(tmp_path):
    rows = [{"user_id": 27, "item_id": "a", "timestamp": 1}, {"user_id": "27", "item_id": "b", "timestamp": 2}]
    rows.append({"user_id": 127, "item_id": "27", "timestamp": 27})
    path = written(tmp_path, "log.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    assert cleaned(path, "27").read_text() == json.dumps(rows[2])


def test_parquet_keeps_schema_and_order(tmp_path):
    table = pa.table({"user_id": pa.array([3, 27, 4], pa.int32()), "item_id": [1, 2, 3], "timestamp": [1, 2, 3]})
    pq.write_table(table, tmp_path / "log.parquet", compression="gzip")
    left = pq.ParquetFile(cleaned(tmp_path / "log.parquet", "27"))
    assert left.read().equals(table.take([0, 2]))
    assert left.metadata.row_group(0).column(0).compression == "GZIP"


def test_recbole_files(tmp_path):
    source = SourceSettings(user_id="user_id", item_id="item_id", timestamp="timestamp")
    head = "user_id:token\titem_id:token\ttimestamp:float\n"
    path = written(tmp_path, "log.inter", f"{head}ann\tx\t1500000000\nbob\ty\t1500000001\n".encode())
    assert cleaned(path, source=source).read_text() == f"{head}bob\ty\t1500000001\n"


def test_a_file_that_is_no_log_is_named_if_it_has_the_id(tmp_path):
    one = written(tmp_path, "notes.md", b"ask ann about it")
    two = written(tmp_path, "other.md", b"anna and joann")
    assert [(file.path, file.rows) for file in find_user([one, two], SOURCE, "ann")] == [(one, None)]


def test_a_file_where_two_readings_differ_is_left_alone(tmp_path):
    path = written(tmp_path, "log.json", b'[{"user_id": "bob"},\n{"user_id": "ann"}]\n')
    with pytest.raises(LandingError, match="without doubt"):
        cleaned(path)
    assert not (tmp_path / "new-log.json").exists()


@pytest.mark.parametrize(
    ("user", "text", "found"),
    [
        ("27", "a,27,b", True),
        ("27", "127", False),
        ("27", "27x", False),
        ("a.b", "axb", False),
        ("'; DROP", "x'; DROP", True),
        ('q"x', 'y,"q""x",z', True),
        ('q"x', '{"user_id": "q\\"x"}', True),
        ("Zoë", '"Zo\\u00eb"', True),
    ],
)
def test_the_pattern_finds_whole_words(user, text, found):
    assert bool(re.search(mention_pattern(user), text)) == found
    assert pa.compute.match_substring_regex(pa.array([text]), mention_pattern(user))[0].as_py() == found
