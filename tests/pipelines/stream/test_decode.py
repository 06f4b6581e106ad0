import io
import json
from datetime import UTC, datetime

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.errors import ConfigError
from pipelines.lake.readers import EventFile, read_file
from pipelines.settings.source import SourceSettings
from pipelines.settings.stream import StreamSettings
from pipelines.stream.decode import decode_json, decoder
from pipelines.stream.source import Message

SOURCE = SourceSettings(user_id="user", item_id="it/em~", timestamp="at", value="price")
SCHEMA = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "user", "type": "string"},
        {"name": "it/em~".replace("/", "_").replace("~", "_"), "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": ["null", "double"], "default": None},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
AVRO_SOURCE = SourceSettings(user_id="user", item_id="it_em_", timestamp="at", value="price")


def messages(*values, first=10):
    return [Message("0", first + n, value) for n, value in enumerate(values)]


def rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def test_json_as_text_and_complaints_for_what_is_none():
    good = b'{"user": "007", "it/em~": 12, "at": 1.5, "price": null, "other": [1]}'
    found = decode_json(messages(good, b"{", b"[1]", None, b"\xff", b'"text"', b"{}"), 10, SOURCE)
    assert rows(found)[0] == (1, "007", "12", "1.5", None, None, None, None)
    assert rows(found)[6] == (7, None, None, None, None, None, None, None)
    assert found["malformed"].to_pylist()[1:6] == [
        "no JSON: {",
        "no object: [1]",
        "no value",
        "not UTF-8",
        'no object: "text"',
    ]


def test_gaps_in_the_offsets_stay():
    found = decode_json([Message("0", 7, b"{}"), Message("0", 90, b"{}")], 7, SOURCE)
    assert found["row_number"].to_pylist() == [1, 84]


scalar = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
event = st.dictionaries(st.sampled_from(["user", "it/em~", "at", "price", "x"]), scalar | st.lists(scalar, max_size=2))


@settings(deadline=None, max_examples=40)
@given(st.lists(event, min_size=1, max_size=5))
def test_an_event_gives_the_row_that_it_gives_in_a_file(tmp_path_factory, events):
    events = [*events, {"user": "u", "it/em~": "i", "at": "2024-01-01", "price": 1}]  # a file must have every column
    path = tmp_path_factory.mktemp("file") / "events.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in events))
    with duckdb.connect() as connection:
        read_file(connection, EventFile(path, path), SOURCE, "raw")
        wanted = connection.execute("SELECT * FROM raw ORDER BY row_number").fetchall()
    found = decode_json(messages(*(json.dumps(each).encode() for each in events), first=0), 0, SOURCE)
    assert rows(found) == wanted


def avro(record):
    fastavro = pytest.importorskip("fastavro")
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(SCHEMA), record)
    return data.getvalue()


def avro_decoder(tmp_path, **options):
    pytest.importorskip("fastavro")
    (tmp_path / "click.avsc").write_text(json.dumps(SCHEMA))
    return decoder(StreamSettings(format="avro", avro_schema="click.avsc", **options), AVRO_SOURCE, tmp_path)


def test_avro_without_a_registry(tmp_path):
    when = datetime(2024, 3, 1, 12, 30, tzinfo=UTC)
    record = {"user": "ann", "it_em_": 12, "at": when, "price": 3.0, "tags": ["a"]}
    good = avro(record)
    found = avro_decoder(tmp_path)(messages(good, good[:-3], good + b"\x00", None), 10)
    assert rows(found)[0] == (1, "ann", "12", "2024-03-01T12:30:00+00:00", None, "3", None, None)
    broken = found["malformed"].to_pylist()
    assert broken[1].startswith("no Avro record of this schema")
    assert broken[2:] == ["1 byte after the record: another schema?", "no value"]


def test_the_header_of_a_registry_is_skipped_when_asked(tmp_path):
    record = {"user": "ann", "it_em_": 12, "at": datetime(2024, 3, 1, tzinfo=UTC), "price": None, "tags": []}
    found = avro_decoder(tmp_path, avro_skip_bytes=5)(messages(b"\x00\x00\x00\x00\x07" + avro(record)), 10)
    assert rows(found)[0][1:3] == ("ann", "12")
    assert found["malformed"].to_pylist() == [None]


def test_a_schema_that_cannot_be_is_refused_before_anything_is_read(tmp_path):
    pytest.importorskip("fastavro")
    (tmp_path / "a.avsc").write_text('"string"')
    (tmp_path / "b.avsc").write_text("{")
    for name in ("a.avsc", "b.avsc", "c.avsc"):
        with pytest.raises(ConfigError, match=r"schema"):
            decoder(StreamSettings(format="avro", avro_schema=name), AVRO_SOURCE, tmp_path)
    with pytest.raises(ConfigError, match="avro_schema"):
        StreamSettings(format="avro")
