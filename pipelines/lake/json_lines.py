"""Files of JSON: one object a line, or one array of objects; and lines that are Python literals (``{'a': True}``).

Values come as text; a value that is an object or a list is none, and a row whose id or time is one is malformed.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import duckdb
import pyarrow as pa

from pipelines.lake.careful_lines import SHOWN
from pipelines.lake.column_paths import ColumnPath, lists_of
from pipelines.lake.delimited import missing_column
from pipelines.lake.event_files import ReadError
from pipelines.lake.plain_text import PlainText, physical_lines
from pipelines.workspace.engine import literal, registered

#: DuckDB takes objects of 16 MiB; a file with a longer line is fed to it line by line.
_OBJECT_BYTES = 1 << 24
_BATCH = 1 << 14
#: Objects that are looked into for the names of their values.
_LOOKED_INTO = 1000
_SHOWN_BYTES = 4 * SHOWN
_LINES = pa.schema([pa.field("json", pa.string()), pa.field("line", pa.string())])
#: Columns without which a row is no event.
_REQUIRED = ("user_id", "item_id", "timestamp")


def read_json(
    connection: duckdb.DuckDBPyConnection,
    text: PlainText,
    wanted: Mapping[str, Sequence[ColumnPath]],
    columns: Sequence[str],
    constants: Mapping[str, str | None],
    table: str,
    *,
    python: bool = False,
) -> None:
    """Make ``table(row_number BIGINT, <columns> VARCHAR, malformed VARCHAR)``; one row a line, or a list's element.

    Raises:
        ReadError: no line is an object, a list is not closed, or a wanted key is nowhere.
    """
    packed = text.packing or "uncompressed"
    scan = f"read_json_objects({literal(str(text.link))}, compression = '{packed}'"
    if not python and text.first_line(1 << 16).lstrip().startswith("["):
        if text.last != b"]":
            raise ReadError(f"{text.path}: its list has no end: the file is cut off", hint="nothing was ingested")
        relation = f"(SELECT json, '' AS line FROM {scan}, format = 'array'))"
        _extract(connection, text, wanted, columns, constants, relation, table)
        return
    if not python and text.longest < _OBJECT_BYTES:
        relation = f"(SELECT json, '' AS line FROM {scan}, format = 'newline_delimited', ignore_errors = true))"
        if connection.execute(f"SELECT count(json) FROM {relation}").fetchall() == [(text.lines,)]:
            _extract(connection, text, wanted, columns, constants, relation, table)
            return
    lines = pa.RecordBatchReader.from_batches(_LINES, _batches(text, _of_python if python else _plain))
    with registered(connection, "json_text", lines):
        connection.execute(f"""
            CREATE TABLE {table}_lines AS SELECT TRY_CAST(json AS JSON) AS json, left(line, {SHOWN}) AS line
            FROM json_text""")
    _extract(connection, text, wanted, columns, constants, f"{table}_lines", table)
    connection.execute(f"DROP TABLE {table}_lines")


def _extract(
    connection: duckdb.DuckDBPyConnection,
    text: PlainText,
    wanted: Mapping[str, Sequence[ColumnPath]],
    columns: Sequence[str],
    constants: Mapping[str, str | None],
    relation: str,
    table: str,
) -> None:
    """Take the wanted values out of the objects of a relation.

    It has the columns ``json``, and ``line``, the text of one that is no JSON.
    """
    lists = lists_of(path for paths in wanted.values() for path in paths)
    elements = "".join(f", {_elements(name)} AS list{n}" for n, name in enumerate(lists))
    selected, complaint = values_sql(wanted, columns, constants)
    connection.execute(f"""
        CREATE TABLE {table} AS
        SELECT row_number() OVER () AS row_number, {selected},
            CASE WHEN json IS NULL THEN 'no JSON: ' || line ELSE {complaint} END AS malformed
        FROM (SELECT json, line{elements} FROM {relation})""")
    _check_keys(connection, text, wanted, relation, table)


def values_sql(
    wanted: Mapping[str, Sequence[ColumnPath]], columns: Sequence[str], constants: Mapping[str, str | None]
) -> tuple[str, str]:
    """(the columns, what is wrong with the row or NULL) of objects in a column ``json``, as SQL; the elements of the
    lists that paths go through are the columns ``list0``, ``list1``, ...
    """
    lists = lists_of(path for paths in wanted.values() for path in paths)
    values = {ours: _text(paths, lists) for ours, paths in wanted.items()}
    nested = {ours: _is_nested(values[ours], paths, lists) for ours, paths in wanted.items()}
    complaint = " ".join(
        f"WHEN {nested[ours]} THEN '{ours} is no single value: ' || left({values[ours]}, 200)"
        for ours in _REQUIRED
        if ours in nested
    )
    selected = ", ".join(f'{_column(name, values, nested, constants)} AS "{name}"' for name in columns)
    malformed = f"""CASE WHEN json IS NULL THEN 'no JSON'
        WHEN json_type(json) <> 'OBJECT' THEN 'no object: ' || left(CAST(json AS VARCHAR), 200) {complaint} END"""
    return selected, malformed


def _column(name: str, values: dict[str, str], nested: dict[str, str], constants: Mapping[str, str | None]) -> str:
    if name in values:
        return f"CASE WHEN {nested[name]} THEN NULL ELSE {values[name]} END"
    constant = constants.get(name)
    return "NULL::VARCHAR" if constant is None else literal(constant)


def _check_keys(
    connection: duckdb.DuckDBPyConnection,
    text: PlainText,
    wanted: Mapping[str, Sequence[ColumnPath]],
    relation: str,
    table: str,
) -> None:
    present = ", ".join(f'count("{ours}")' for ours in wanted)
    ((rows, objects, *found),) = connection.execute(
        f"SELECT count(*), count(*) FILTER (malformed IS NULL OR malformed NOT LIKE 'no %'), {present} FROM {table}"
    ).fetchall()
    if rows and not objects:
        hint = 'write one object a line, as `jq -c ".[]"` does; lines of {\'a\': True} need format = "python"'
        raise ReadError(f"{text.path}: no line of it is a JSON object", hint=hint)
    if not objects or all(found):
        return
    is_object = "json IS NOT NULL AND json_type(json) = 'OBJECT'"
    keys = connection.execute(
        f"SELECT DISTINCT unnest(json_keys(json)) AS name FROM {relation} WHERE {is_object} ORDER BY name"
    )
    names = [name for (name,) in keys.fetchall()]
    for ours, paths in wanted.items():  # a key that is null throughout is there
        if not any(path.whole in names or path.outer[0] in names for path in paths):
            inside = _leaves(connection, relation, is_object) or names
            raise missing_column(text.path, ours, paths, inside, "inside objects and lists: user.id, events[].item; ")


def _leaves(connection: duckdb.DuckDBPyConnection, relation: str, is_object: str) -> list[str]:
    """The names of the values in the first objects, as ``[source]`` calls them, also inside objects and lists."""
    ((structure,),) = connection.execute(f"""
        SELECT json_group_structure(json) FROM (SELECT json FROM {relation} WHERE {is_object} LIMIT {_LOOKED_INTO})
        """).fetchall()
    return sorted(_names_in("", json.loads(structure))) if structure else []


def _names_in(name: str, structure: object) -> Iterator[str]:
    if isinstance(structure, list) and "[]" not in name:  # one list at most
        yield from _names_in(f"{name}[]", structure[0])
    elif isinstance(structure, dict):
        for key, inner in structure.items():
            yield from _names_in(f"{name}.{key}" if name else key, inner)
    else:
        yield name


def _pointers(path: ColumnPath) -> list[str]:
    """JSON pointers to the value or the list: the name as one key, then as a path."""
    return list(dict.fromkeys([_pointer((path.whole,)), _pointer(path.outer)]))


def _pointer(parts: Sequence[str]) -> str:
    escaped = (part.replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)


def _elements(name: str) -> str:
    """The elements of a list; an empty list, or none, has one element that is NULL, so that its row stays."""
    path = ColumnPath.parse(name)
    values = ", ".join(f"json_extract(json, {literal(pointer)})" for pointer in _pointers(path))
    found = f"coalesce({values})"
    filled = f"json_type({found}) = 'ARRAY' AND json_array_length({found}) > 0"
    return f"unnest(CASE WHEN {filled} THEN CAST({found} AS JSON[]) ELSE [NULL::JSON] END)"


def _places(path: ColumnPath, lists: Sequence[str]) -> list[tuple[str, str]]:
    """(SQL of the JSON value to look in, where in it) of a path."""
    if path.inner is None:
        return [("json", pointer) for pointer in _pointers(path)]
    element = f"list{lists.index(path.whole)}"
    return [(element, _pointer(path.inner) if path.inner else "$")]


def _text(paths: Sequence[ColumnPath], lists: Sequence[str]) -> str:
    found = [f"({value} ->> {literal(where)})" for path in paths for value, where in _places(path, lists)]
    return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"


def _is_nested(text: str, paths: Sequence[ColumnPath], lists: Sequence[str]) -> str:
    """SQL: whether the value is an object or a list. Most texts tell by their first character that they are none."""
    kinds = [f"nullif(json_type({v}, {literal(w)}), 'NULL')" for path in paths for v, w in _places(path, lists)]
    return f"(left({text}, 1) IN ('{{', '[') AND coalesce({', '.join(kinds)}) IN ('OBJECT', 'ARRAY'))"


def _batches(text: PlainText, convert: Callable[[bytes], str | None]) -> Iterator[pa.RecordBatch]:
    with text.open() as stream:
        lines = (line for line in physical_lines(stream) if line.strip())
        while some := list(islice(lines, _BATCH)):
            shown = [line[:_SHOWN_BYTES].decode("utf-8", "backslashreplace") for line in some]
            columns = [pa.array(map(convert, some), pa.string()), pa.array(shown, pa.string())]
            yield pa.record_batch(columns, schema=_LINES)


def _plain(line: bytes) -> str | None:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _of_python(line: bytes) -> str | None:
    """A Python literal (no code: only constants, lists, dictionaries) as JSON."""
    try:
        return json.dumps(ast.literal_eval(line.decode("utf-8-sig")), ensure_ascii=False)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
