from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake.spans import MICROSECOND, Calendar, Span, SpanError, from_us, to_us

FIRST, LAST = datetime(2017, 1, 1, tzinfo=UTC), datetime(2017, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
DATABASE = duckdb.connect(config={"threads": 1})
CUT = Calendar.cut(FIRST, LAST, 0.5, 6)
CALENDARS = [*(Calendar(unit) for unit in ("hour", "day", "week", "month")), CUT]

moments = st.datetimes(datetime(1001, 1, 1), datetime(9990, 1, 1)).map(lambda d: d.replace(tzinfo=UTC))
later_moments = st.datetimes(datetime(2017, 1, 1), datetime(9000, 1, 1)).map(lambda d: d.replace(tzinfo=UTC))
calendars = st.sampled_from(CALENDARS)


def test_ids_read_from_the_start():
    moment = datetime(2017, 3, 14, 6, 59, 59, 999_999, tzinfo=UTC)
    ids = [Calendar(unit).span_of(moment).id for unit in ("hour", "day", "week", "month")]
    assert ids == ["2017-03-14T06", "2017-03-14", "2017-W11", "2017-03"]


@pytest.mark.parametrize(
    ("day", "week"),
    [
        (datetime(2020, 12, 31), "2020-W53"),
        (datetime(2021, 1, 3), "2020-W53"),
        (datetime(2021, 1, 4), "2021-W01"),
        (datetime(2018, 12, 31), "2019-W01"),
        (datetime(2023, 1, 1), "2022-W52"),
    ],
)
def test_weeks_at_year_ends_are_iso_weeks(day, week):
    span = Calendar("week").span_of(day.replace(tzinfo=UTC))
    assert span.id == week
    assert span.start.isoweekday() == 1
    assert span.end - span.start == timedelta(days=7)


@given(calendars, later_moments)
def test_a_span_holds_its_moment_and_comes_back_from_its_id(calendar, moment):
    span = calendar.span_of(moment)
    assert span.start <= moment < span.end
    assert calendar.span(span.id) == span
    assert moment in span
    assert span.end not in span


@given(calendars, later_moments)
def test_spans_tile_time(calendar, moment):
    span = calendar.span_of(moment)
    assert calendar.span_of(span.start) == calendar.span_of(span.end - MICROSECOND) == span
    following = calendar.next(span)
    assert following.start == span.end


@given(calendars, later_moments, st.integers(0, 40 * 86_400_000_000))
def test_spans_between_covers_the_range_without_gaps(calendar, start, length):
    end = start + min(length, 40 * 3_600_000_000) * MICROSECOND
    spans = calendar.spans_between(start, end)
    assert (spans == []) == (start == end)
    for one, two in pairwise(spans):
        assert one.end == two.start
    if spans:
        assert start in spans[0]
        assert end - MICROSECOND in spans[-1]


@pytest.mark.parametrize("calendar", CALENDARS, ids=lambda c: c.unit)
@given(data=st.data())
def test_sql_agrees_with_python(calendar, data):
    times = data.draw(st.lists(later_moments if calendar.unit == "cut" else moments, min_size=1, max_size=30))
    sql = f"SELECT {calendar.duckdb_expression('make_timestamp(us)')} FROM (SELECT unnest(?::BIGINT[]) AS us)"
    found = [row[0] for row in DATABASE.execute(sql, [[to_us(t) for t in times]]).fetchall()]
    assert found == [calendar.span_of(t).id for t in times]


def test_daylight_saving_and_offsets_do_not_matter():
    summer = timezone(timedelta(hours=2))
    assert Calendar("day").span_of(datetime(2024, 4, 1, 0, 30, tzinfo=summer)).id == "2024-03-31"
    change = Calendar("day").span_of(datetime(2024, 3, 31, 12, tzinfo=UTC))  # Europe changes its clocks
    assert change.end - change.start == timedelta(hours=24)


@given(
    later_moments,
    st.integers(0, 10**14),
    st.floats(0.01, 0.99),
    st.integers(1, 50),
)
def test_a_cut_holds_the_whole_log_in_count_spans(first, length, alpha, count):
    last = first + min(length, 10**12) * MICROSECOND
    calendar = Calendar.cut(first, last, alpha, count)
    spans = calendar.spans_between(first, last + MICROSECOND)
    assert spans[0].id == "s000"
    assert spans[0].start == first
    assert last in spans[-1]
    assert len(spans) <= count + 1
    assert len({span.end - span.start for span in spans[1:]}) <= 1
    assert Calendar.from_json(calendar.to_json()) == calendar


def test_the_cut_of_the_papers():
    spans = CUT.spans_between(FIRST, LAST)
    assert [span.id for span in spans] == ["s000", "s001", "s002", "s003", "s004", "s005", "s006"]
    assert spans[0].end - FIRST == timedelta(days=365) / 2 - MICROSECOND
    assert CUT.next(spans[-1]).id == "s007"  # time goes on after the log's end


@pytest.mark.parametrize(("count", "ids"), [(999, ["s000", "s999"]), (1000, ["s0000", "s1000"])])
def test_ids_of_a_cut_have_as_many_digits_as_its_spans_need_to_sort_by_time(count, ids):
    calendar = Calendar.cut(FIRST, LAST, 0.5, count)
    spans = calendar.spans_between(FIRST, LAST + MICROSECOND)
    assert [spans[0].id, spans[-1].id] == ids
    assert [span.id for span in spans] == sorted(span.id for span in spans)
    assert Calendar.from_json(calendar.to_json()) == calendar
    assert ("digits" in calendar.to_json()) == (count == 1000)  # as earlier releases have it where they can
    sql = f"SELECT {calendar.duckdb_expression('make_timestamp(us)')} FROM (SELECT unnest(?) AS us)"
    found = DATABASE.execute(sql, [[span.start_us for span in spans]]).fetchall()
    assert found == [(span.id,) for span in spans]
    assert [calendar.span(span.id) for span in spans] == spans


def test_time_before_the_cut_has_no_span():
    with pytest.raises(SpanError, match="before the first span"):
        CUT.span_of(FIRST - MICROSECOND)
    sql = f"SELECT {CUT.duckdb_expression('make_timestamp(us)')} FROM (SELECT ? AS us)"
    assert DATABASE.execute(sql, [to_us(FIRST) - 1]).fetchall() == [(None,)]


@pytest.mark.parametrize("bad", ["2017-13", "2017-3", "../../x", "", "2017-03-14", "s001", "２017-03", "2017-03\n"])
def test_ids_of_another_calendar_are_refused(bad):
    with pytest.raises(SpanError):
        Calendar("month").span(bad)


@pytest.mark.parametrize("bad", ["s1", "s0001", "s-01", "x001", "s٠٠١"])
def test_cut_ids_have_one_spelling(bad):
    with pytest.raises(SpanError):
        CUT.span(bad)


def test_naive_times_are_refused():
    with pytest.raises(SpanError, match="time zone"):
        Calendar("day").span_of(datetime(2024, 1, 1))


@pytest.mark.parametrize(("alpha", "count"), [(0, 6), (1, 6), (0.5, 0)])
def test_impossible_cuts_are_refused(alpha, count):
    with pytest.raises(SpanError):
        Calendar.cut(FIRST, LAST, alpha, count)
    with pytest.raises(SpanError):
        Calendar.cut(LAST, FIRST, 0.5, 6)


def test_unknown_unit():
    with pytest.raises(SpanError, match="fortnight"):
        Calendar("fortnight")  # type: ignore[arg-type]


@given(moments)
def test_microseconds_are_exact(moment):
    assert from_us(to_us(moment)) == moment
    assert Span(moment, moment + MICROSECOND, "x").start_us == to_us(moment)


ZONES = ("Europe/Paris", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "America/Sao_Paulo")
zoned = st.builds(Calendar, st.sampled_from(["day", "week", "month"]), zone=st.sampled_from(ZONES))
modern = st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)).map(lambda d: d.replace(tzinfo=UTC))


@given(zoned, modern)
def test_days_of_a_zone_tile_time_and_sql_agrees(calendar, moment):
    span = calendar.span_of(moment)
    assert span.start <= moment < span.end
    assert calendar.span(span.id) == span
    assert calendar.next(span).start == span.end
    sql = f"SELECT {calendar.duckdb_expression('make_timestamp(' + str(to_us(moment)) + ')')}"
    assert DATABASE.execute(sql).fetchone() == (span.id,)
    assert Calendar.from_json(calendar.to_json()) == calendar


def test_a_day_begins_at_midnight_of_the_zone():
    span = Calendar("day", zone="Europe/Paris").span_of(datetime(2024, 3, 31, 12, tzinfo=UTC))
    assert (span.id, span.start) == ("2024-03-31", datetime(2024, 3, 30, 23, tzinfo=UTC))
    assert span.end - span.start == timedelta(hours=23)  # clocks went forward
    assert "zone" not in Calendar("day").to_json()  # as workspaces from before have it
