import math
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_cases import NOW

from pipelines.lake.event_sql import number_sql
from pipelines.lake.spans import from_us, to_us
from pipelines.lake.times import TimeReading, TimeUnitError, check_readable, decide_times, timestamp_sql
from pipelines.lake.validation import Limits, Reason, id_sql, present_sql, reason_sql
from pipelines.settings.sections import IngestSettings
from pipelines.settings.source import NULL_WORDS, SourceSettings

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


DATABASE = duckdb.connect(config={"threads": 1})
DATABASE.execute("SET TimeZone = 'UTC'")


def _raw(times, **columns):
    """Fill the raw table; one database for all tests, because opening one takes longer than a test."""
    rows = len(times)
    values = {"user_id": ["u"] * rows, "item_id": ["i"] * rows, "timestamp": times, **columns}
    names = ("user_id", "item_id", "timestamp", "event_type", "value", "event_id", "malformed")
    lists = [values.get(name, [None] * rows) for name in names]
    select = ", ".join(f"unnest(?::VARCHAR[]) AS {name}" for name in names)
    DATABASE.execute(f"CREATE OR REPLACE TABLE raw AS SELECT row_number() OVER () AS row_number, {select}", lists)


def microseconds(times, *forms, **how):
    _raw(times)
    exact, _ = timestamp_sql(TimeReading(forms, **how))
    return [row[0] for row in DATABASE.execute(f"SELECT {exact} FROM raw").fetchall()]


def reasons(times, unit="iso8601", first_span_us=None, settings=None, **columns):
    _raw(times, **columns)
    exact, coarse = timestamp_sql(TimeReading((unit,)))
    limits = Limits.of(settings or IngestSettings(min_year=1970), NOW, first_span_us, NULL_WORDS)
    sql = f"SELECT {reason_sql(limits)} FROM (SELECT *, {exact} AS us, {coarse} AS coarse FROM raw)"
    return [row[0] for row in DATABASE.execute(sql).fetchall()]


def decide(times, wanted="auto", **source):
    _raw(times)
    return str(decide_times(DATABASE, "raw", SourceSettings(time_unit=wanted, **source), NOW, "events.csv"))


@pytest.mark.parametrize("unit", PER_SECOND)
@given(st.lists(st.integers(-(10**15), 4 * 10**15), min_size=1, max_size=20))
def test_whole_numbers_of_every_unit(unit, times):
    """Times down to microseconds, both sides of 1970, written in each unit; fractions are cut downwards."""
    factor = PER_SECOND[unit]
    raw = [t * factor // 10**6 for t in times]
    assert microseconds([str(r) for r in raw], unit) == [r * 10**6 // factor for r in raw]


@given(st.integers(-(2**60), 2**60))
def test_nanoseconds_keep_every_digit(ns):
    assert microseconds([str(ns)], "ns") == [ns // 1000]


@given(st.integers(-(10**15), 4 * 10**15))
def test_fractions_of_seconds_are_exact(us):
    sign, whole = ("-", -us) if us < 0 else ("", us)
    assert microseconds([f"{sign}{whole // 10**6}.{whole % 10**6:06d}"], "s") == [us]


def test_numbers_as_they_are_really_written():
    written = ["1483271606", "1483271606.0", "1.483271606e9", "+1483271606", " 1483271606 "]
    assert microseconds(written, "s") == [1_483_271_606_000_000] * 5
    assert microseconds(["0", "-1", "1.5"], "s") == [0, -1_000_000, 1_500_000]


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1)), st.sampled_from(["T", " "]))
def test_iso_text(moment, separator):
    expected = to_us(moment.replace(tzinfo=UTC))
    text = moment.isoformat(separator)
    shifted = (moment + timedelta(hours=5, minutes=30)).isoformat(separator)
    assert microseconds([text, f"{text}Z", f"{shifted}+05:30", f"{shifted}+0530"], "iso8601") == [expected] * 4


def test_iso_forms():
    expected = {
        "2024-02-29": datetime(2024, 2, 29, tzinfo=UTC),
        "2024-02-29 07:08": datetime(2024, 2, 29, 7, 8, tzinfo=UTC),
        "2024-02-29T07:08:09.1234567Z": datetime(2024, 2, 29, 7, 8, 9, 123456, tzinfo=UTC),
        "2024-02-29T07:08:09-02": datetime(2024, 2, 29, 9, 8, 9, tzinfo=UTC),
        "2024-02-29 07:08:09+00": datetime(2024, 2, 29, 7, 8, 9, tzinfo=UTC),
    }
    assert [from_us(us) for us in microseconds(list(expected), "iso8601")] == list(expected.values())


NO_ISO = [
    "",
    None,
    "yesterday",
    "2023-02-29",
    "2024-13-01",
    "2024-01-01 25:00",
    "infinity",
    "epoch",
    "NaT",
    "1704067200",
]
NO_NUMBER = ["", None, "yesterday", "nan", "inf", "-inf", "NaT", "0x10", "2024-01-01", "1,5", "1e999"]


def test_what_is_no_time_is_unparsable():
    assert reasons([*NO_ISO, "10/03/2024", "2024-01-01 12:00 Europe/Paris"]) == [Reason.UNPARSABLE_TIMESTAMP] * 12
    for unit in PER_SECOND:
        assert reasons(NO_NUMBER, unit) == [Reason.UNPARSABLE_TIMESTAMP] * len(NO_NUMBER)


@pytest.mark.parametrize("unit", PER_SECOND)
def test_bounds_in_every_unit(unit):
    factor = PER_SECOND[unit]
    latest = (to_us(NOW) + 3_600_000_000) * factor // 10**6
    times = [0, -1 * max(1, factor // 10**6), latest, latest + max(1, factor // 10**6), 10**30, -(10**30)]
    early, late = Reason.TIMESTAMP_TOO_EARLY, Reason.TIMESTAMP_IN_FUTURE
    assert reasons([str(t) for t in times], unit) == [None, early, None, late, late, early]


def test_bounds_of_iso_times_and_of_settings():
    times = ["1970-01-01", "1969-12-31T23:59:59.999999", "2024-06-15 13:00:00", "2024-06-15 13:00:00.000001"]
    early, late = Reason.TIMESTAMP_TOO_EARLY, Reason.TIMESTAMP_IN_FUTURE
    assert reasons(times) == [None, early, None, late]
    settings = IngestSettings(min_year=1000, max_clock_skew="2d")
    assert reasons(times, settings=settings) == [None] * 4
    assert reasons(["9999-12-31", "2034-06-15"]) == [late, late]  # an event ten years ahead moves nothing


def test_every_other_reason():
    day = "2024-01-01"
    long = "é" * 129
    ids = ["u", "", None, "a\0b", "é" * 128, long]
    expected = [None, "missing_user_id", "missing_user_id", "id_contains_nul", None, "id_too_long"]
    assert reasons([day] * 6, user_id=ids) == expected
    assert reasons([day] * 6, item_id=ids) == [e and e.replace("user", "item") for e in expected]
    optional = [None, None, None, "id_contains_nul", None, "id_too_long"]
    assert reasons([day] * 6, event_type=ids) == reasons([day] * 6, event_id=ids) == optional
    values = ["1", "", None, "-2.5e3", "cheap", "nan", "inf", "1,5"]
    assert reasons([day] * 8, value=values) == [None] * 8  # a value that cannot be read does not cost the event
    assert reasons([day], malformed=["what"]) == [Reason.MALFORMED_ROW]
    first = to_us(datetime(2024, 1, 1, tzinfo=UTC))
    assert reasons([day, "2023-12-31"], first_span_us=first) == [None, Reason.BEFORE_FIRST_SPAN]


def test_the_first_reason_is_given():
    assert reasons(["bad"], user_id=[""], item_id=[""], value=["x"]) == [Reason.MISSING_USER_ID]


def test_words_for_nothing_are_nothing():
    words = ["NULL", "\\N", "nan", "None", "", " ", "null", "Nan", "0"]
    missing = [Reason.MISSING_USER_ID] * 7 + [None, None]
    assert reasons(["2024-01-01"] * 9, user_id=words) == missing
    _raw([None] * 9, value=words)
    sql = f"SELECT {present_sql('value', NULL_WORDS)}, {present_sql('value', ())} FROM raw"
    found = DATABASE.execute(sql).fetchall()
    assert [row[0] for row in found] == [None] * 7 + ["Nan", "0"]
    assert [row[1] for row in found] == [*words[:4], None, None, *words[6:]]


def test_whole_numbers_that_were_written_as_floats():
    ids = ["13085.0", "-7.0", "13085", "1.00", "1.50", "v1.0", ".0", "0.0"]
    _raw([None] * 8, user_id=ids)
    for whole, expected in ((True, ["13085", "-7", "13085", "1.00", "1.50", "v1.0", ".0", "0"]), (False, ids)):
        found = DATABASE.execute(f"SELECT {id_sql('user_id', NULL_WORDS, whole)} FROM raw").fetchall()
        assert [row[0] for row in found] == expected


def test_numbers_with_a_comma():
    numbers = ["12,50", "1.234,50", "-0,5", "7", "x", "inf", "nan", None]
    _raw([None] * 8, value=numbers)
    found = DATABASE.execute(f"SELECT {number_sql(',')}, {number_sql('.')} FROM raw").fetchall()
    assert [row[0] for row in found] == [12.5, 1234.5, -0.5, 7.0, None, None, None, None]
    assert [row[1] for row in found] == [None, None, None, 7.0, None, None, None, None]
    assert microseconds(["1704067200,5"], "s", decimal=",") == [1_704_067_200_500_000]


def decide_and_check(times):
    decide(times)
    check_readable(DATABASE, "raw", TimeReading(("iso8601",)), NOW, "events.csv", ())


FORMATS = {
    "20240101T100000Z": "%Y%m%dT%H%M%SZ",
    "2019/11/15 09:05:58": "%Y/%m/%d %H:%M:%S",
    "Tue Apr 03 18:00:09 +0000 2012": "%a %b %d %H:%M:%S %z %Y",
    "2019-11-5 9:05": "%Y-%m-%d %H:%M",
    "11/15/2019 9:05:58 AM": "%m/%d/%Y %I:%M:%S %p",
    "2019-10-01 00:00:00 UTC": "%Y-%m-%d %H:%M:%S %Z",
    "12/1/2010 8:26": "%m/%d/%Y %H:%M",
    "2014-12-08 18": "%Y-%m-%d %H",
    "20240101": "%Y%m%d",
    "14102100": "%y%m%d%H",
    "09 18, 2014": "%m %d, %Y",
    "15.11.2019 09:05": "%d.%m.%Y %H:%M",
    "15 Nov 2019": "%d %b %Y",
    "10/Oct/2000:13:55:36 -0700": "%d/%b/%Y:%H:%M:%S %z",
}


@pytest.mark.parametrize("text", FORMATS)
def test_a_file_without_one_readable_time_is_refused_with_the_setting_that_reads_it(text):
    with pytest.raises(TimeUnitError) as caught:
        decide_and_check([text, text])
    assert repr(text) in str(caught.value)
    assert f'time_format = "{FORMATS[text]}"' in str(caught.value)
    form = decide([text], time_format=FORMATS[text])
    assert form == FORMATS[text]
    assert microseconds([text], form)[0] is not None
    check_readable(DATABASE, "raw", TimeReading((form,)), NOW, "events.csv", ())


def test_days_and_months_that_could_be_swapped_are_said():
    for times, formats in (
        (["01/02/2020"], ("%m/%d/%Y", "%d/%m/%Y")),
        (["01/02/2020", "25/12/2020"], ("%d/%m/%Y", "")),
    ):
        _raw(times)
        with pytest.raises(TimeUnitError) as caught:
            check_readable(DATABASE, "raw", TimeReading(("iso8601",)), NOW, "events.csv", ())
        assert f'time_format = "{formats[0]}"' in str(caught.value)
        assert not formats[1] or f'(or "{formats[1]}", if the day comes first)' in str(caught.value)


def test_a_file_whose_times_are_all_missing_is_refused_and_one_without_rows_is_not():
    _raw(["", None, "NULL"])
    with pytest.raises(TimeUnitError, match="all are missing"):
        check_readable(DATABASE, "raw", TimeReading(("iso8601",)), NOW, "events.csv", NULL_WORDS)
    _raw([])
    check_readable(DATABASE, "raw", TimeReading(("iso8601",)), NOW, "events.csv", NULL_WORDS)


def test_several_formats_and_the_zone_of_times_without_an_offset():
    times = ["31/12/2023 23:30", "2023-12-31T23:30", "2023-12-31T23:30Z", "1704065400"]
    forms = ("%d/%m/%Y %H:%M", "iso8601", "s")
    utc = [1_704_065_400_000_000] * 4
    assert microseconds(times, *forms) == utc
    paris = [us - 3_600_000_000 for us in utc[:2]] + utc[2:]
    assert microseconds(times, *forms, zone="Europe/Paris") == paris
    assert (
        microseconds(["2024-07-01T00:00", "2024-07-01"], "iso8601", zone="Europe/Paris") == [1_719_784_800_000_000] * 2
    )


def test_space_around_a_time_is_none_of_it():
    times = [" 2024-01-01 10:00", "2024-01-01T10:00\t", "2024-01-01 12:00:00 +02:00", "2024-01-01 10:00 Z"]
    assert microseconds(times, "iso8601") == [1_704_103_200_000_000] * 4
    assert microseconds(times, "iso8601", zone="Asia/Tokyo")[2:] == [1_704_103_200_000_000] * 2


def test_offsets_that_no_place_has_are_no_times():
    times = [f"2024-01-01T00:00{offset}" for offset in ("+14:00", "-14", "+13:45", "+14:30", "+15:00", "+99:00", "-1")]
    assert [us is not None for us in microseconds(times, "iso8601")] == [True] * 3 + [False] * 4


def test_zero_and_seconds_among_milliseconds_are_too_early():
    settings = IngestSettings()
    assert reasons(["0", "1704067200", "1704067200000"], "ms", settings=settings) == [
        Reason.TIMESTAMP_TOO_EARLY
    ] * 2 + [None]
    assert reasons(["1704067200000", "1704067200"], "s", settings=settings) == [Reason.TIMESTAMP_IN_FUTURE, None]


@pytest.mark.parametrize("unit", PER_SECOND)
def test_auto_finds_the_unit_by_size(unit):
    start, factor = 631_152_000, PER_SECOND[unit]  # 1990
    assert decide([str((start + n * 86_400) * factor) for n in range(0, 12_000, 500)]) == unit
    assert decide([f"{(start + 10**8) * factor}.0", None, ""]) == unit


def test_ticks_of_dotnet_are_no_nanoseconds_of_1990():
    ticks = ["638396640000000000", "638396640010000017"]
    with pytest.raises(TimeUnitError, match="2 as ns, 2 as ticks") as caught:
        decide(ticks)
    assert 'time_unit under [source] in imsr.toml: "ticks"' in str(caught.value)
    assert microseconds(ticks, "ticks") == [1_704_067_200_000_000, 1_704_067_201_000_001]
    assert microseconds(["0", "-1", "9" * 30], "ticks")[2] is None


@pytest.mark.parametrize("mark", [".", ","])
def test_days_as_excel_counts_them_are_read_by_the_setting_that_the_error_names(mark):
    days = [text.replace(".", mark) for text in ("45292", "45292.5", "45292.000694444443", "45474.0")]
    with pytest.raises(TimeUnitError) as caught:
        check_readable(DATABASE, "raw", TimeReading((decide(days),)), NOW, "events.csv", NULL_WORDS)
    assert 'time_unit = "excel"' in caught.value.hint
    assert ('decimal = ","' in caught.value.hint) == (mark == ",")
    start = 1_704_067_200_000_000  # 2024-01-01; the last is 2024-07-01
    wanted = [start, start + 43_200_000_000, start + 60_000_000, 1_719_792_000_000_000]
    assert microseconds(days, "excel", decimal=mark) == wanted
    hour = 3_600_000_000
    assert microseconds(days, "excel", zone="Europe/Paris", decimal=mark) == [
        us - hours * hour for us, hours in zip(wanted, (1, 1, 1, 2), strict=True)
    ]
    assert microseconds(["x", "9e99", ""], "excel") == [None] * 3


def test_auto_forgives_a_tenth_and_finds_text():
    assert decide(["2024-01-01"] * 18 + ["0", "17"]) == "iso8601"
    assert decide(["1704067200"] * 9 + ["-1"]) == "s"
    assert decide(["1704067200"] * 9 + ["soon"] * 9) == "s"  # what is no time at all has no vote


@pytest.mark.parametrize(
    "times",
    [
        ["1", "2", "3"],
        ["1704067200", "1704067200000"],
        ["2024-01-01", "1704067200"],
        ["0", "0"],
        ["-100000000"],
        ["9" * 25],
    ],
)
def test_auto_refuses_to_guess(times):
    with pytest.raises(TimeUnitError) as caught:
        decide(times)
    assert "events.csv" in str(caught.value)
    assert "set time_" in str(caught.value)
    assert decide(times, "s") == "s"


def test_auto_has_nothing_to_decide_without_times():
    assert decide([]) == decide([None]) == decide(["never"]) == "iso8601"


def test_the_ranges_of_auto_do_not_overlap():
    """1980 .. ten years from now spans a factor below 1000, the step between units."""
    low, high = datetime(1980, 1, 1, tzinfo=UTC).timestamp(), (NOW + timedelta(days=3653)).timestamp()
    assert math.log10(high / low) < 3
