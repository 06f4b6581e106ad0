"""Spans of event time: pure interval arithmetic, the same in Python and in SQL. Days, weeks and months begin at
midnight of the calendar's time zone; everything else is UTC.

A ``Calendar`` cuts time into half-open spans [start, end) that touch and never overlap. The id of a span is
read from its start, never from the clock of the run:

    hour 2017-03-14T06    day 2017-03-14    week 2017-W11 (ISO 8601)    month 2017-03    cut s000, s001, ...

``cut`` is the protocol of the papers: s000 holds the first part ``alpha`` of the log's time, then ``count``
spans of equal length follow. Later time goes on in spans of that length. Time before s000 has no span. A number has
three digits, or more where ``count`` has more, so that ids sort as their spans do; what comes after s999 is s1000.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from imsr_core.errors import ImsrError

Unit = Literal["hour", "day", "week", "month", "cut"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

_FORMATS = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
_LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


class SpanError(ImsrError):
    """A span id or a time that the calendar does not have."""


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exact. Raises SpanError for a naive one."""
    if moment.tzinfo is None:
        raise SpanError(f"{moment} has no time zone", hint="times are UTC; give tzinfo=UTC")
    return (moment - EPOCH) // MICROSECOND


def from_us(microseconds: int) -> datetime:
    """The UTC datetime of microseconds since 1970."""
    return EPOCH + microseconds * MICROSECOND


@dataclass(frozen=True, order=True)
class Span:
    """[start, end) in UTC; spans sort by time."""

    start: datetime
    end: datetime
    id: str

    @property
    def start_us(self) -> int:
        """Start in microseconds since 1970."""
        return to_us(self.start)

    @property
    def end_us(self) -> int:
        """End (not inside) in microseconds since 1970."""
        return to_us(self.end)

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


@dataclass(frozen=True)
class Calendar:
    """How time is cut. For ``cut`` use ``Calendar.cut``; the other units need nothing but their name.

    Attributes:
        unit: hour, day, week, month or cut.
        origin_us, base_us, step_us: of a cut calendar: start of s000, length of s000, length of the others
            (microseconds).
        alpha, count: what the cut was made from.
        digits: of the number in the id of a cut's span, at least.
        zone: time zone of the borders of days, weeks and months; hours and cuts know none.
    """

    unit: Unit
    origin_us: int = 0
    base_us: int = 0
    step_us: int = 0
    alpha: float = 0.0
    count: int = 0
    digits: int = 3
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise SpanError(f"no calendar unit {self.unit!r}", hint=f"one of {', '.join(get_args(Unit))}")
        if self.unit == "cut" and (self.base_us < 1 or self.step_us < 1):
            raise SpanError("a cut calendar needs lengths", hint="make it with Calendar.cut(first, last, alpha, count)")

    @classmethod
    def cut(cls, first: datetime, last: datetime, alpha: float, count: int) -> Calendar:
        """s000 = [first, first + alpha (last - first)), then ``count`` equal spans that reach past ``last``.

        Lengths are whole microseconds, rounded so that ``last`` itself lies in a span.

        Raises:
            SpanError: ``last`` before ``first``, ``alpha`` not inside (0, 1), or ``count`` below 1.
        """
        if last < first or not 0 < alpha < 1 or count < 1:
            raise SpanError(
                f"cannot cut [{first}, {last}] at alpha={alpha} into {count}", hint="0 < alpha < 1 <= count"
            )
        total = to_us(last) - to_us(first)
        base = max(1, int(alpha * total))
        step = max(1, -(-(total + 1 - base) // count))
        return cls("cut", to_us(first), base, step, alpha, count, max(cls.digits, len(str(count))))

    @property
    def ordinary_us(self) -> int:
        """Microseconds that a span lasts after the first: a month counts as 30 days."""
        if self.unit == "cut":
            return self.step_us
        return _LENGTHS.get(self.unit, timedelta(days=30)) // MICROSECOND

    def span_of(self, moment: datetime) -> Span:
        """The span that holds ``moment``.

        Raises:
            SpanError: naive, or before s000 of a cut calendar.
        """
        moment_us = to_us(moment)
        moment = from_us(moment_us)
        if self.unit == "cut":
            if moment_us < self.origin_us:
                raise SpanError(f"{moment} is before the first span, which starts {from_us(self.origin_us)}")
            return self._cut_span(max(0, (moment_us - self.origin_us - self.base_us) // self.step_us + 1))
        return self._calendar_span(moment)

    def span(self, span_id: str) -> Span:
        """The span of an id. Raises SpanError if the id is not one of this calendar."""
        span = self._parse(span_id)
        if span is None or span.id != span_id:
            raise SpanError(f"{span_id!r} is no span of a calendar by {self.unit}", hint="run: imsr status")
        return span

    def next(self, span: Span) -> Span:
        """The span after ``span``."""
        return self.span_of(span.end)

    def spans_between(self, start: datetime, end: datetime) -> list[Span]:
        """The spans that [start, end) touches, in order; empty if ``end <= start``."""
        return list(self._walk(start, end))

    def _walk(self, start: datetime, end: datetime) -> Iterator[Span]:
        if start >= end:
            return
        span = self.span_of(start)
        yield span
        while span.end < end:
            span = self.next(span)
            yield span

    def duckdb_expression(self, column: str) -> str:
        """SQL for the span id of a TIMESTAMP (UTC) column; NULL where a cut calendar has no span."""
        if self.unit != "cut":
            local = f"timezone('{self.zone}', timezone('UTC', {column}))" if self.zone != "UTC" else column
            return f"strftime({local}, '{_FORMATS[self.unit]}')"
        since = f"(epoch_us({column}) - {self.origin_us})"
        later = f"printf('s%0{self.digits}d', ({since} - {self.base_us}) // {self.step_us} + 1)"
        first = self._cut_span(0).id
        return f"CASE WHEN {since} < 0 THEN NULL WHEN {since} < {self.base_us} THEN '{first}' ELSE {later} END"

    def to_json(self) -> str:
        """The calendar as it is frozen in the ledger."""
        later = {"zone": "UTC", "digits": 3}  # what earlier releases do not know is left out where it says nothing
        record = {key: value for key, value in asdict(self).items() if later.get(key) != value}
        return json.dumps(record, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Calendar:
        """The inverse of ``to_json``."""
        return cls(**json.loads(text))

    def _calendar_span(self, moment: datetime) -> Span:
        if self.zone == "UTC":
            return self._span_at(moment)
        zone = ZoneInfo(self.zone)
        local = self._span_at(moment.astimezone(zone).replace(tzinfo=UTC))  # as a clock on the wall there shows it
        start, end = (border.replace(tzinfo=zone).astimezone(UTC) for border in (local.start, local.end))
        return Span(start, end, local.id)

    def _span_at(self, moment: datetime) -> Span:
        if self.unit == "month":
            start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            year, month = (start.year + 1, 1) if start.month == 12 else (start.year, start.month + 1)
            return Span(start, start.replace(year=year, month=month), _label(start, "month"))
        start = moment.replace(minute=0, second=0, microsecond=0)
        if self.unit != "hour":
            start = start.replace(hour=0)
        if self.unit == "week":
            start -= timedelta(days=start.weekday())
        return Span(start, start + _LENGTHS[self.unit], _label(start, self.unit))

    def _cut_span(self, number: int) -> Span:
        end = self.origin_us + self.base_us + number * self.step_us
        start = end - self.step_us if number else self.origin_us
        return Span(from_us(start), from_us(end), f"s{number:0{self.digits}d}")

    def _parse(self, span_id: str) -> Span | None:
        if self.unit == "cut":
            return self._cut_span(int(span_id[1:])) if re.fullmatch(r"s[0-9]{3,9}", span_id) else None
        text, form = (f"{span_id}-1", "%G-W%V-%u") if self.unit == "week" else (span_id, _FORMATS[self.unit])
        zone = UTC if self.zone == "UTC" else ZoneInfo(self.zone)
        try:
            return self._calendar_span(datetime.strptime(text, form).replace(tzinfo=zone))
        except ValueError:
            return None


def _label(start: datetime, unit: str) -> str:
    # strftime does not pad years below 1000 on every platform, isoformat does
    if unit == "week":
        year, week, _ = start.isocalendar()
        return f"{year:04d}-W{week:02d}"
    return start.isoformat()[: {"hour": 13, "day": 10, "month": 7}[unit]]
