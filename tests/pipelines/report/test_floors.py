"""The two counters of a report, against a loop over the events."""

from __future__ import annotations

from collections import Counter

from small_world import DAYS, LATER, log

from pipelines.report.floors import floors
from pipelines.warehouse.catalog import connect, publish_catalog


def by_hand(n: int) -> dict[str, tuple[int, float, float]]:
    """Span -> events asked about, hit rate of the popular items, of the user's own."""
    spans = {day: [(user, item) for user, item, time in sorted(set(log())) if time.startswith(day)] for day in DAYS}
    found, had, known = {}, {}, set()
    popular: list[str] = []
    for day, events in spans.items():
        asked = [(user, item) for user, item in events if user in had and item in known]
        if day in LATER:
            hits = sum(item in popular for _, item in asked)
            own = sum(item in top(had[user], n) for user, item in asked)
            found[day] = (len(asked), hits / len(asked), own / len(asked))
        for user, item in events:
            had.setdefault(user, Counter())[item] += 1
            known.add(item)
        popular = top(Counter(item for _, item in events), n)
    return found


def top(counts: Counter[str], n: int) -> list[str]:
    return [item for item, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]]


def test_the_counters_are_those_of_a_loop_and_count_the_events_of_the_metrics(learnt):
    publish_catalog(learnt)
    wanted = by_hand(5)
    with connect(learnt) as connection:
        found = floors(connection, LATER, 5)
        tested = dict(
            connection.sql("SELECT span_id, n FROM metrics WHERE slice = 'all' AND metric = 'hr@10'").fetchall()
        )
    assert found.keys() == wanted.keys()
    for span, (events, popular, personal) in wanted.items():
        assert found[span].events == events == tested[span]
        assert abs(found[span].popular - popular) < 1e-12
        assert abs(found[span].personal - personal) < 1e-12


def test_no_span_has_no_floor(learnt):
    publish_catalog(learnt)
    with connect(learnt) as connection:
        assert floors(connection, [], 5) == {}
