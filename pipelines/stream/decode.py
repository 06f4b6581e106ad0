"""Messages -> the raw columns that an event file would have given, with the complaint where one cannot be read.

JSON is read by the same engine and the same paths as JSON lines files, so that an event gives the same row whichever
way it came. Nothing is refused as a whole: one broken message is one row with a complaint.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from typing import Any

import pyarrow as pa

from imsr_core.counted import counted
from imsr_core.errors import ConfigError
from pipelines.lake.column_paths import lists_of, parsed
from pipelines.lake.delivery import DELIVERY_SCHEMA
from pipelines.lake.json_lines import values_sql
from pipelines.settings.source import EVENT_COLUMNS, SourceSettings
from pipelines.settings.stream import StreamSettings
from pipelines.stream.source import Message
from pipelines.workspace.engine import duckdb_session

#: Characters of a broken message that its complaint shows.
_SHOWN = 200

#: (messages of one partition, offset of the first) -> a table with ``DELIVERY_SCHEMA``.
Decode = Callable[[Sequence[Message], int], pa.Table]


def decoder(stream: StreamSettings, source: SourceSettings, root: Path) -> Decode:
    """How the messages of a stream are read; ``root`` is where the schema's path starts.

    Raises:
        ConfigError: no schema, not one of a record, or [source] takes a list apart.
    """
    lists = lists_of(path for paths in parsed(source.wanted()).values() for path in paths)
    if lists:
        raise ConfigError(f"[source] takes the list {lists[0]!r} apart", hint="a message of a stream is one event")
    if stream.format == "json":
        return lambda messages, first: decode_json(messages, first, source)
    schema = _avro_schema(root / stream.avro_schema)
    return lambda messages, first: decode_avro(messages, first, source, schema, stream.avro_skip_bytes)


def decode_json(messages: Sequence[Message], first: int, source: SourceSettings) -> pa.Table:
    """One JSON object a message."""
    texts, wrong = _texts([message.value for message in messages])
    return _extract(messages, first, texts, wrong, source)


def decode_avro(
    messages: Sequence[Message], first: int, source: SourceSettings, schema: Any, skip_bytes: int
) -> pa.Table:
    """One record of ``schema`` a message, without the schema, after ``skip_bytes``."""
    found = [_avro_json(message.value, schema, skip_bytes) for message in messages]
    texts, wrong = (pa.array([each[n] for each in found], pa.string()) for n in (0, 1))
    return _extract(messages, first, texts, wrong, source)


def _extract(
    messages: Sequence[Message], first: int, texts: pa.Array, wrong: pa.Array, source: SourceSettings
) -> pa.Table:
    """The wanted values of JSON texts; ``wrong`` says what is the matter where there is no text."""
    selected, complaint = values_sql(parsed(source.wanted()), EVENT_COLUMNS, {})
    numbers = pa.array([message.offset - first + 1 for message in messages], pa.int64())
    table = pa.table({"row_number": numbers, "value": texts, "wrong": wrong})
    with duckdb_session() as connection:
        connection.register("messages", table)
        read = connection.sql(f"""
            SELECT row_number, {selected}, coalesce(
                wrong, CASE WHEN json IS NULL THEN 'no JSON: ' || left(value, {_SHOWN}) END, {complaint}) AS malformed
            FROM (SELECT *, CASE WHEN json_valid(value) THEN value::JSON END AS json FROM messages)
            ORDER BY row_number""").to_arrow_table()
    return read.cast(DELIVERY_SCHEMA)


def _texts(values: Sequence[bytes | None]) -> tuple[pa.Array, pa.Array]:
    """The values as text, and what is wrong with those that are none (they are NULL)."""
    raw = pa.array(values, pa.binary())
    try:
        texts = raw.cast(pa.string())
        wrong = [None if value is not None else "no value" for value in values] if raw.null_count else None
    except pa.ArrowInvalid:
        decoded = [_utf8(value) for value in values]
        texts = pa.array(decoded, pa.string())
        wrong = [
            "no value" if v is None else "not UTF-8" if t is None else None
            for v, t in zip(values, decoded, strict=True)
        ]
    return texts, pa.array(wrong, pa.string()) if wrong else pa.nulls(len(values), pa.string())


def _utf8(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _avro_schema(path: Path) -> Any:
    from fastavro.schema import SchemaParseException, parse_schema

    try:
        schema = parse_schema(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, SchemaParseException) as error:
        hint = "[stream] avro_schema is its path from the workspace's folder"
        raise ConfigError(f"{path}: no Avro schema: {error}", hint=hint) from error
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ConfigError(f"{path}: the schema is not one of a record", hint="an event is a record with named fields")
    return schema


def _avro_json(value: bytes | None, schema: Any, skip_bytes: int) -> tuple[str | None, str | None]:
    """The record as JSON, or the complaint."""
    from fastavro import schemaless_reader

    if value is None:
        return None, "no value"
    data = io.BytesIO(value[skip_bytes:])
    try:
        text = json.dumps(_plain(schemaless_reader(data, schema, None)), allow_nan=False)
    except Exception as error:  # fastavro raises whatever the bytes lead it to
        return None, f"no Avro record of this schema: {type(error).__name__}: {error}"[:_SHOWN]
    left = len(value) - skip_bytes - data.tell()
    return (None, f"{counted(left, 'byte')} after the record: another schema?") if left else (text, None)


def _plain(value: Any) -> Any:
    """As a typed file column becomes text: a whole number of floating point is an integer, NaN is no value."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and isnan(value):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 9e15:
        return int(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
