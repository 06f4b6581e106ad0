"""The table of slices: in words, weighed by events, and quiet before the first test."""

from __future__ import annotations

from pipelines.report.slices import slices

SCORES = {"all": {"s1": 0.1, "s2": 0.4}, "plan=gold": {"s1": 0.5}, "strangers": {"s2": 0.25}}
COUNTS = {"all": {"s1": 300, "s2": 100}, "plan=gold": {"s1": 10}, "strangers": {"s2": 4}}


def test_rows_are_in_words_and_means_weigh_events():
    table = slices(SCORES, COUNTS, ("s1", "s2"), 20).table
    assert table.columns == ("events of", "events", "HR@20, s2", "HR@20, mean of the last 2")
    assert table.rows == (
        ("known users and items", 100, "40.0 %", "17.5 %"),
        ("users it had never seen; they get popular items", 4, "25.0 %", "25.0 %"),
        ("plan=gold", 0, None, "50.0 %"),
    )


def test_before_the_first_test_it_says_so():
    section = slices({}, {}, (), 20)
    assert section.table is None
    assert "No span has been tested yet" in section.says
