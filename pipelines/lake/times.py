"""How a file's times are read: in which unit or format, in which time zone.

``iso8601``: ``YYYY-MM-DD``, optionally followed by ``T`` or a space, a time of day and an offset (``Z``, ``+02:00``, at
most 14 hours); without an offset it is in the source's time zone. ``s ms us ns``: numbers since 1970, whole or not;
``ticks``: of 100 ns since the year 1, as .NET counts them; fractions of a microsecond are cut off downwards; ``excel``:
days since the end of 1899 in the source's time zone, to the nearest millisecond. ``auto`` chooses one of these, but for
the last, for a whole file: text of the ISO form is iso8601; a number is taken for the one unit in which it lies between
1980 and ten years from now (these ranges do not overlap, but that ticks of today are nanoseconds of 1990). At least 90
% of a file's times must agree on one unit; else it is refused as ambiguous. Everything else is written down with
``time_format``; a file of which not one time can be read is refused with a format that reads it, if one of the common
ones does. Space around a time is none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from pipelines.settings.source import SourceSettings
from pipelines.workspace.engine import literal

AGREEMENT = 0.9

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000, "ticks": 10_000_000}
#: Seconds from the year 1, where ticks begin, to 1970.
_YEAR_1 = 62_135_596_800
#: Days from Excel's day 0, 1899-12-30, to 1970; and its days from 1980 to 2050, between which a number may be one.
_EXCEL_1970, _EXCEL_FIRST, _EXCEL_LAST = 25_569, 29_221, 54_789
_TEXT = "trim(timestamp, ' \t\r')"
#: Of "2024-01-01 10:00:00 +02:00" the second space is known to the pattern of a time, and not to the engine.
_CLOSE = f"replace(replace(replace({_TEXT}, ' +', '+'), ' -', '-'), ' Z', 'Z')"
_EARLIEST_AUTO = datetime(1980, 1, 1, tzinfo=UTC)
_FUTURE_AUTO = timedelta(days=3653)
#: Microseconds within which a datetime exists at all (years 1 .. 9999, roughly).
_DATETIME_US = 250_000_000_000_000_000

_OFFSET = r"(Z|[+-](0\d|1[0-3])(:?[0-5]\d)?|[+-]14(:?00)?)"
_ISO = rf"\d{{4}}-\d{{2}}-\d{{2}}([T ]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?( ?{_OFFSET})?)?"

#: Formats that an error may advise, the most common first.
_COMMON = (
    "%Y-%m-%d %H:%M:%S %Z",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%Y.%m.%d %H:%M:%S",
    "%Y.%m.%d",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %I:%M %p",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y %H:%M",
    "%d/%m/%y %H:%M",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%d-%m-%Y %H:%M:%S",
    "%d-%m-%Y %H:%M",
    "%d-%m-%Y",
    "%m %d, %Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%d %b %Y",
    "%d %B %Y",
    "%d-%b-%Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%Y%m%dT%H%M%SZ",
    "%Y%m%dT%H%M%S",
    "%Y%m%d%H%M%S",
    "%Y%m%d%H%M",
    "%Y%m%d",
    "%y%m%d%H",
    "%y%m%d",
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%dT%H:%M",
    "%Y-%m",
)
_SAMPLE = 1_000
#: A format is advised if it reads this share of a sample, all of it plausible.
_ADVISED = 0.98


class TimeUnitError(ImsrError):
    """The unit of a file's time column cannot be told from its values, or none of its times can be read."""


@dataclass(frozen=True)
class TimeReading:
    """How times are read. ``forms``: of iso8601, s, ms, us, ns, ticks, excel and formats of strptime, the first that
    fits."""

    forms: tuple[str, ...]
    zone: str = "UTC"
    decimal: str = "."

    def __str__(self) -> str:
        return " or ".join(self.forms)


def decide_times(
    connection: duckdb.DuckDBPyConnection, table: str, source: SourceSettings, now: datetime, name: str
) -> TimeReading:
    """How the times of a raw table are read: as the settings say, or what ``auto`` finds (see the module's text).

    Raises:
        TimeUnitError: auto, and less than 90 % of the times agree on one unit; ``name`` is the file's.
    """
    if source.time_formats:
        return TimeReading(source.time_formats, source.time_zone, source.decimal)
    unit = source.time_unit
    if unit == "auto":
        unit = _find_unit(connection, table, source, now, name)  # type: ignore[assignment]
    return TimeReading((unit,), source.time_zone, source.decimal)


def readings_by_file(
    connection: duckdb.DuckDBPyConnection, table: str, source: SourceSettings, now: datetime
) -> dict[int, TimeReading | None]:
    """How the times of each ``file`` of a raw table are read; None where it cannot be told, or none can be read."""
    files = [number for (number,) in connection.execute(f"SELECT DISTINCT file FROM {table}").fetchall()]
    if source.time_formats or source.time_unit != "auto":
        readings = dict.fromkeys(files, decide_times(connection, table, source, now, ""))
    else:
        votes = connection.execute(f"SELECT file, {_votes_sql(source, now)} GROUP BY file".format(table=table))
        units = {number: _elected(*counts)[0] for number, *counts in votes.fetchall()}
        readings = {n: TimeReading((unit,), source.time_zone, source.decimal) for n, unit in units.items() if unit}
    found: dict[int, TimeReading | None] = dict.fromkeys(files)
    for reading in set(readings.values()):
        _, coarse = timestamp_sql(reading)
        times = f"malformed IS NULL AND {coarse} IS NOT NULL AND isfinite({coarse})"
        readable = connection.execute(f"SELECT file FROM {table} WHERE {times} GROUP BY file")
        found |= {number: reading for (number,) in readable.fetchall() if readings.get(number) == reading}
    return found


def _votes_sql(source: SourceSettings, now: datetime) -> str:
    """SQL, but for ``{table}``: how many times are ISO, how many are readable, and how many lie where in each unit."""
    low, high = _EARLIEST_AUTO.timestamp(), (now + _FUTURE_AUTO).timestamp()
    counts = ", ".join(
        f"count(*) FILTER (number BETWEEN {(low + since) * factor} AND {(high + since) * factor})"
        for factor, since in ((factor, _YEAR_1 * (unit == "ticks")) for unit, factor in _PER_SECOND.items())
    )
    iso = _ISO.replace("{", "{{").replace("}", "}}")
    return f"""count(*) FILTER (iso), count(*) FILTER (iso OR number IS NOT NULL), {counts}
        FROM (SELECT {_number(source.decimal, "DOUBLE")} AS number,
                     number IS NULL AND regexp_full_match({_TEXT}, '{iso}') AS iso, *
              FROM {{table}})"""


def _elected(iso: int, readable: int, *by_unit: int) -> tuple[str | None, dict[str, int]]:
    """The unit on which enough times agree, and the votes."""
    votes = {"iso8601": iso, **dict(zip(_PER_SECOND, by_unit, strict=True))}
    best = max(votes, key=lambda unit: votes[unit])
    enough = [unit for unit, count in votes.items() if count >= AGREEMENT * readable]
    return best if readable == 0 or enough == [best] else None, votes


def _find_unit(
    connection: duckdb.DuckDBPyConnection, table: str, source: SourceSettings, now: datetime, name: str
) -> str:
    ((iso, readable, *by_unit),) = connection.execute(
        f"SELECT {_votes_sql(source, now)}".format(table=table)
    ).fetchall()
    best, votes = _elected(iso, readable, *by_unit)
    if best is not None:
        return best
    found = ", ".join(f"{count} as {unit}" for unit, count in votes.items() if count) or "none in any unit"
    both = 'set time_unit under [source] in imsr.toml: "ticks" (.NET, 100 ns since the year 1) or "ns"'
    raise TimeUnitError(
        f"{name}: the time unit is ambiguous: of {counted(readable, 'time')}, {found} fall between 1980 and now; "
        f"the first is {_example(connection, table, source.null_values)!r}",
        hint=(both if votes["ticks"] else _mixed(votes, readable) or _advice(connection, table, now))
        or 'set time_unit under [source] in imsr.toml: "s", "ms", "us", "ns" or "iso8601"; or time_format, as "%Y%m%d"',
    )


def _mixed(votes: dict[str, int], readable: int) -> str:
    """The setting that reads times of which some are in one unit and some in another; "" if that is not it."""
    found = [unit for unit, count in votes.items() if count]
    if len(found) < 2 or sum(votes.values()) < AGREEMENT * readable:
        return ""
    forms = ", ".join(f'"{unit}"' for unit in found)
    return f"are they mixed? set time_format = [{forms}] under [source] in imsr.toml: of several, the first that fits"


def check_readable(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    reading: TimeReading,
    now: datetime,
    name: str,
    nulls: Sequence[str],
) -> None:
    """Raise TimeUnitError if a raw table has records, and not one of their times can be read."""
    _, coarse = timestamp_sql(reading)
    ((records, readable),) = connection.execute(f"""
        SELECT count(*), count(*) FILTER ({coarse} IS NOT NULL AND isfinite({coarse}))
        FROM {table} WHERE malformed IS NULL""").fetchall()
    if not records or readable:
        return
    example = _example(connection, table, nulls)
    if example is None:
        raise TimeUnitError(
            f"{name}: not one of its {records:,} times can be read: all are missing",
            hint="set timestamp under [source] in imsr.toml to the column with the time",
        )
    raise TimeUnitError(
        f"{name}: not one of its {records:,} times can be read as {reading}; the first is {example!r}",
        hint=_quoted(example)
        or _advice(connection, table, now)
        or 'write down how it is written: time_format = "%d/%m/%Y %H:%M" under [source] in imsr.toml',
    )


def _example(connection: duckdb.DuckDBPyConnection, table: str, nulls: Sequence[str]) -> str | None:
    found = connection.execute(
        f"""SELECT left(timestamp, 100) FROM {table} WHERE malformed IS NULL AND coalesce(trim(timestamp), '') <> ''
            AND NOT list_contains(?, timestamp) ORDER BY row_number LIMIT 1""",
        [list(nulls)],
    ).fetchone()
    return found[0] if found else None


def _quoted(example: str) -> str:
    """The setting that takes the quotes away which stand around a time, or nothing."""
    mark = example[0]
    if mark not in "\"'" or len(example) < 2 or not example.endswith(mark):
        return ""
    other = "'" if mark == '"' else '"'
    return f"are columns quoted? set quote = {other}{mark}{other} under [source] in imsr.toml"


def _advice(connection: duckdb.DuckDBPyConnection, table: str, now: datetime) -> str:
    """The setting that reads a sample of the times, or nothing."""
    sample = f"""(SELECT timestamp FROM {table} WHERE malformed IS NULL AND coalesce(trim(timestamp), '') <> ''
        ORDER BY row_number LIMIT {_SAMPLE})"""
    plausible = f"BETWEEN '1980-01-01' AND '{now + timedelta(days=366):%Y-%m-%d}'"
    read = "avg(CAST(coalesce(try_strptime(trim(timestamp), '{}') {}, false) AS INTEGER))"
    reads = ", ".join(read.format(form, plausible) for form in _COMMON)
    shares = connection.execute(f"SELECT {reads} FROM {sample}").fetchall()[0]
    good = [form for form, share in zip(_COMMON, shares, strict=True) if share and share >= _ADVISED]
    if not good:
        return _excel(connection, sample)
    also = f' (or "{good[1]}", if the day comes first)' if len(good) > 1 and _swapped(*good[:2]) else ""
    return f'set time_format = "{good[0]}"{also} under [source] in imsr.toml'


def _excel(connection: duckdb.DuckDBPyConnection, sample: str) -> str:
    """The setting that reads a sample of times as days that Excel counts, or nothing."""
    for decimal, more in ((".", ""), (",", ' and decimal = ","')):
        days = f"coalesce({_number(decimal, 'DOUBLE')} BETWEEN {_EXCEL_FIRST} AND {_EXCEL_LAST}, false)"
        ((share,),) = connection.execute(f"SELECT avg(CAST({days} AS INTEGER)) FROM {sample}").fetchall()
        if share is not None and share >= _ADVISED:
            return f'are they days as Excel counts them? set time_unit = "excel"{more} under [source] in imsr.toml'
    return ""


def _swapped(first: str, second: str) -> bool:
    """Whether two formats differ in the order of day and month."""
    return sorted(first) == sorted(second) and first.index("%m") < first.index("%d")


def timestamp_sql(reading: TimeReading) -> tuple[str, str]:
    """SQL for a raw ``timestamp``: (microseconds since 1970 or NULL, a coarse DOUBLE of the same).

    The second one also exists where the first would overflow, and says on which side.
    """
    exact, coarse = zip(*(_form_sql(form, reading) for form in reading.forms), strict=True)
    if len(exact) == 1:
        return exact[0], coarse[0]
    return f"coalesce({', '.join(exact)})", f"coalesce({', '.join(coarse)})"


def _form_sql(form: str, reading: TimeReading) -> tuple[str, str]:
    zone = literal(reading.zone)
    if form == "iso8601":
        # a text without an offset is a TIMESTAMP in the zone; DuckDB's own cast takes the session's zone, which is UTC
        aware = f"regexp_full_match({_TEXT}, '{_ISO}')"
        moment = f"TRY_CAST({_CLOSE} AS TIMESTAMPTZ)"
        if reading.zone != "UTC":
            offset = f"regexp_matches({_TEXT}, '[T ].*{_OFFSET}$')"
            moment = f"CASE WHEN {offset} THEN {moment} ELSE timezone({zone}, TRY_CAST({_TEXT} AS TIMESTAMP)) END"
        microseconds = f"epoch_us(CASE WHEN {aware} THEN {moment} END)"
        return microseconds, f"CAST({microseconds} AS DOUBLE)"
    if form == "excel":
        return _excel_sql(reading)
    if form in _PER_SECOND:
        return _number_sql(form, reading.decimal)
    moment = f"try_strptime(trim(timestamp), {literal(form)})"
    if not any(mark in form for mark in ("%z", "%Z")):
        moment = f"timezone({zone}, CAST({moment} AS TIMESTAMP))" if reading.zone != "UTC" else moment
    microseconds = f"epoch_us({moment})"
    return microseconds, f"CAST({microseconds} AS DOUBLE)"


def _excel_sql(reading: TimeReading) -> tuple[str, str]:
    days = f"({_number(reading.decimal, 'DOUBLE')} - {_EXCEL_1970})"
    coarse = f"({days} * 86_400_000_000)"
    moment = f"make_timestamp(CAST(round({days} * 86_400_000) AS BIGINT) * 1000)"
    local = f"timezone({literal(reading.zone)}, {moment})" if reading.zone != "UTC" else moment
    return f"CASE WHEN abs({coarse}) < {_DATETIME_US} THEN epoch_us({local}) END", coarse


def _number_sql(unit: str, decimal: str) -> tuple[str, str]:
    coarse = f"({_number(decimal, 'DOUBLE')} * {1_000_000 / _PER_SECOND[unit]!r})"
    number = _number(decimal, "DECIMAL(38, 6)")
    if unit == "ticks":
        coarse = f"({coarse} - {_YEAR_1 * 1_000_000})"
        exact = f"{_whole_parts(number, 10)} - {_YEAR_1 * 1_000_000}"
    elif unit == "ns":
        exact = _whole_parts(number, 1000)
    else:
        exact = f"floor({number} * {1_000_000 // _PER_SECOND[unit]})"
    return f"CASE WHEN abs({coarse}) < {_DATETIME_US} THEN CAST({exact} AS BIGINT) END", coarse


def _whole_parts(number: str, parts: int) -> str:
    """SQL for a number divided by ``parts``, downwards: // cuts towards zero, and time before 1970 has to go down."""
    whole = f"CAST(floor({number}) AS HUGEINT)"
    return f"({whole} - (({whole} % {parts}) + {parts}) % {parts}) // {parts}"


def _number(decimal: str, kind: str) -> str:
    return f"TRY_CAST({'timestamp' if decimal == '.' else with_point('timestamp')} AS {kind})"


def with_point(text: str) -> str:
    """SQL for a number with a decimal comma as one with a point; points group thousands, so they go."""
    return f"replace(replace({text}, '.', ''), ',', '.')"
