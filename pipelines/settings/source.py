"""The ``[source]`` section: how the incoming files are written, and which of their columns is what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from imsr_core.fields import Section, documented

#: A column, or the names that it had in the course of time.
Names = str | tuple[str, ...]
#: What DuckDB's strptime understands.
_FORMAT = re.compile(r"([^%]|%-?[aAbBcdfgGHIjmMnpSuUVwWxXyYzZ%])*", re.DOTALL)
#: What stands for "no value" in any column.
NULL_WORDS = ("NULL", "null", "\\N", "NaN", "nan", "NaT", "None", "NA", "N/A", "#N/A", "<NA>")

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "ticks", "excel", "iso8601"]
EVENT_COLUMNS = ("user_id", "item_id", "timestamp", "event_type", "value", "event_id")


@dataclass(frozen=True)
class SourceSettings(Section):
    """How the incoming files are written, and which column is what (docs/datasets.md: well-known data sets).

    A column's name may be a list of names (the first that a file has is taken), a dotted path into nested fields
    (user.id), or a list that is taken apart, one event an element: items[], or events[].item for a list of records. An
    empty name means that the files have no such column.
    """

    user_id: Names = documented("user_id", "column with the user's id (any text; leading zeros and case are kept)")
    item_id: Names = documented("item_id", "column with the item's id")
    timestamp: Names = documented("timestamp", "column with the time of the event")
    event_type: Names = documented("", "column with the kind of event (view, purchase, ...)")
    value: Names = documented(
        "",
        "column with a number (rating, quantity, price), for min_value and SQL; to the model all events that are taken "
        "count the same",
    )
    event_id: Names = documented(
        "", "column with an id of the event; if set, it tells which events of a span are the same"
    )
    time_unit: TimeUnit = documented(
        "auto",
        "what the time column holds; auto: typed columns as they are, ISO 8601 text, or numbers whose size fits one "
        "unit only; ticks = of .NET, 100 ns since the year 1; excel = its days since the end of 1899",
    )
    time_format: Names = documented(
        (),
        'how times are written, as strptime has it: "%d/%m/%Y %H:%M"; of several, the first that fits is taken. Also '
        "iso8601, s, ms, us, ns, ticks, excel",
    )
    time_zone: str = documented(
        "UTC", "zone of times without an offset, and of the borders of days, weeks and months (see [spans] time_zone)"
    )
    format: Literal["auto", "csv", "inter", "json", "parquet", "python"] = documented(
        "auto", "of every file, whatever its ending; auto: by the ending. python = one Python literal a line"
    )
    columns: tuple[str, ...] = documented((), "names of all columns, in order, where the files have no header")
    delimiter: str = documented(
        "",
        'what stands between columns, 4 bytes at most: "::", "\\t"; empty: found by itself',
        like=('[^"\n\r]{0,4}', "4 characters at most, none of them a quote or an end of line"),
    )
    quote: Literal["auto", '"', "'", "none"] = documented(
        "auto", 'auto: " in files with commas and the like; none where tabs separate, and in .inter files'
    )
    escape: Literal["doubled", "backslash"] = documented(
        "doubled", 'how a quote is written inside quotes: twice, or \\" as MySQL, Hive and Spark have it'
    )
    encoding: str = documented("utf-8", "of text files: utf-8, utf-16, latin-1, cp1252, ...")
    decimal: Literal[".", ","] = documented(".", 'the decimal mark of numbers; with "," a "." groups thousands')
    null_values: tuple[str, ...] = documented(NULL_WORDS, "words that stand for a missing value")
    list_separator: str = documented("", "what stands between the elements of a list that is one text column")
    whole_number_ids: bool = documented(
        True, "an id such as 13085.0 is 13085 (a nullable whole number as pandas writes it); frozen at the first ingest"
    )
    item_pattern: str = documented(
        "", "regular expression: only items that it matches are events, and its first group, if any, is the id"
    )
    keep_events: tuple[str, ...] = documented((), "only events of these types are taken; empty = all")
    min_value: float | None = documented(None, "only events with at least this value are taken")
    weight: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "doc": "value of an event by its type where it has none of its own: { view = 1, buy = 5 }; for min_value "
            "and SQL, too",
            "fresh": {},
        },
    )

    def clashes(self) -> Iterator[tuple[str, str]]:
        """What cannot be said by a range: names of columns, encodings, zones, patterns, and what needs another key."""
        for key in ("user_id", "item_id", "timestamp"):
            if not self.names(key) or not all(self.names(key)):
                yield key, "the name of a column"
        if self.names("item_id") == self.names("user_id"):
            yield "item_id", "another column than user_id"
        if len(set(self.columns)) < len(self.columns):
            yield "columns", "names that differ"
        if not is_encoding(self.encoding):
            yield "encoding", "an encoding, such as utf-8, utf-16, latin-1, cp1252"
        if not is_zone(self.time_zone):
            yield "time_zone", "the name of a time zone, such as UTC or Europe/Paris"
        if not _is_pattern(self.item_pattern):
            yield "item_pattern", "a regular expression, without looking ahead or back"
        if not all(map(_FORMAT.fullmatch, self.time_formats)):
            yield (
                "time_format",
                "a format of strptime, such as %d/%m/%Y %H:%M, or one of s, ms, us, ns, ticks, excel, iso8601",
            )
        if not all(map(isfinite, self.weight.values())):
            yield "weight", "finite numbers"
        if self.min_value is not None and not isfinite(self.min_value):
            yield "min_value", "a finite number"
        for key in ("keep_events", "weight"):
            if getattr(self, key) and not self.event_type:
                yield key, "empty, as long as event_type names no column"
        if self.min_value is not None and not (self.value or self.weight):
            yield "min_value", "unset, as long as value names no column"

    def names(self, key: str) -> tuple[str, ...]:
        """The names that the files have for one of our columns, the preferred one first."""
        value: Names = getattr(self, key)
        return (value,) if isinstance(value, str) and value else tuple(value)

    def wanted(self) -> dict[str, tuple[str, ...]]:
        """Our name -> the files' names, for the columns that the files have."""
        return {key: names for key in EVENT_COLUMNS if (names := self.names(key))}

    @property
    def time_formats(self) -> tuple[str, ...]:
        """``time_format`` as a tuple."""
        return self.names("time_format")


def is_encoding(name: str) -> bool:
    """Whether Python knows an encoding of text by this name."""
    try:
        return bool("".encode(name) is not None)
    except (LookupError, ValueError):
        return False


def is_zone(name: str) -> bool:
    """Whether this machine knows a time zone of this name."""
    try:
        return name == "UTC" or ZoneInfo(name) is not None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _is_pattern(text: str) -> bool:
    """Whether RE2 takes it, which knows less than Python; it is what the engine has."""
    if not text:
        return True
    import pyarrow as pa  # with such a pattern only: every command reads the settings
    import pyarrow.compute as pc

    try:
        return pc.match_substring_regex(pa.array([""]), text) is not None
    except pa.ArrowInvalid:
        return False
