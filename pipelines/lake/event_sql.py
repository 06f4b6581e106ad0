"""SQL over the raw table: the columns of an event, and which rows are wanted as events."""

from __future__ import annotations

import re

from pipelines.lake.times import with_point
from pipelines.lake.validation import id_sql, present_sql
from pipelines.settings.source import SourceSettings
from pipelines.workspace.engine import literal

#: The lake, as long as there is nothing in it.
EMPTY_LAKE = """(SELECT NULL::VARCHAR AS user_id, NULL::VARCHAR AS item_id, NULL::TIMESTAMPTZ AS timestamp,
    NULL::VARCHAR AS event_type, NULL::DOUBLE AS value, NULL::VARCHAR AS event_id, NULL::UBIGINT AS tie,
    NULL::VARCHAR AS source, NULL::TIMESTAMPTZ AS ingest_time WHERE false)"""


def columns_sql(source: SourceSettings, whole_numbers: bool) -> str:
    """The columns of ``good`` after the ordinal, from the raw ones."""
    nulls = source.null_values
    kind = present_sql("event_type", nulls)
    item = id_sql("item_id", nulls, whole_numbers)
    if source.item_pattern and re.compile(source.item_pattern).groups:
        item = f"regexp_extract({item}, {literal(source.item_pattern)}, 1)"
    return f"""{id_sql("user_id", nulls, whole_numbers)}, {item}, us, {kind}, {_value_sql(source)},
        {id_sql("event_id", nulls, whole_numbers)}"""


def number_sql(decimal: str) -> str:
    """SQL for the raw value as a finite DOUBLE, true and false as 1 and 0; NULL if it is none."""
    number = f"TRY_CAST({'value' if decimal == '.' else with_point('value')} AS DOUBLE)"
    words = "CASE lower(trim(value)) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 END"
    return f"CASE WHEN isfinite({number}) THEN {number} ELSE {words} END"


def _value_sql(source: SourceSettings) -> str:
    """SQL for an event's value: the number in its column, else the weight of its type."""
    value = number_sql(source.decimal) if source.value else "NULL"
    if not source.weight:
        return value
    weights = " ".join(f"WHEN {literal(name)} THEN {weight!r}" for name, weight in source.weight.items())
    return f"coalesce({value}, CASE event_type {weights} END)"


def wanted_sql(source: SourceSettings) -> tuple[str, str] | None:
    """WHERE for the rows that are taken, and the condition of the others; None if all are."""
    conditions = []
    if source.keep_events:
        kinds = ", ".join(map(literal, source.keep_events))
        conditions.append(f"coalesce(event_type IN ({kinds}), false)")
    if source.min_value is not None:
        conditions.append(f"coalesce({_value_sql(source)} >= {source.min_value!r}, false)")
    if source.item_pattern:
        conditions.append(f"coalesce(regexp_full_match(item_id, {literal(source.item_pattern)}), true)")
    if not conditions:
        return None
    taken = f"(malformed IS NOT NULL OR ({' AND '.join(conditions)}))"
    return f"WHERE {taken}", f"NOT {taken}"
