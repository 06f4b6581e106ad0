"""The two counters of a report, against a loop over the events."""

from __future__ import annotations

from collections import Counter

from small_world import DAYS, LATER, NOW, land, log

from pipelines.lake.ingest import ingest
from pipelines.report import floors as module
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


def test_the_counters_are_those_of_a_loop_and_count_the_events_of_the_metrics(learnt, copy_of):
    workspace, wanted = copy_of(learnt), by_hand(5)
    publish_catalog(workspace)
    with connect(workspace) as connection:
        found = floors(workspace, connection, LATER, 5)
        tested = dict(
            connection.sql("SELECT span_id, n FROM metrics WHERE slice = 'all' AND metric = 'hr@10'").fetchall()
        )
    assert found.keys() == wanted.keys()
    for span, (events, popular, personal) in wanted.items():
        assert found[span].events == events == tested[span]
        assert abs(found[span].popular - popular) < 1e-12
        assert abs(found[span].personal - personal) < 1e-12


def test_a_span_is_counted_once_until_its_events_or_those_before_are_others(learnt, copy_of, monkeypatch):
    workspace, asked = copy_of(learnt), []
    counted = module._counted

    def count(connection, span, n):
        asked.append(span)
        return counted(connection, span, n)

    def ask(n=5, **how):
        asked.clear()
        publish_catalog(workspace)
        with connect(workspace) as connection:
            return floors(workspace, connection, LATER, n, **how), list(asked)

    monkeypatch.setattr(module, "_counted", count)
    first, all_of_them = ask(keep=False)
    assert all_of_them == LATER
    assert [ask(), ask(), ask(keep=False)] == [(first, LATER), (first, []), (first, [])]
    kept = workspace.root / "reports" / "floors.json"
    text = kept.read_text()
    for damage in ("", "[1]", "{", text.replace("[", "7,", 1)):
        kept.write_text(damage)
        assert ask() == (first, LATER)
        assert kept.read_text() == text
    assert ask(4)[1] == LATER
    assert ask(5) == (first, LATER)
    land(workspace, [("u1", "i1", f"{LATER[-2]}T20:00:00Z")], "late.csv")
    ingest(workspace, [workspace.root / "landing" / "late.csv"], now=NOW)
    assert ask()[1] == LATER[-2:]


def test_a_report_on_a_long_chain_counts_its_newest_spans(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    publish_catalog(workspace)
    monkeypatch.setattr(module, "NEWEST", 1)
    with connect(workspace) as connection:
        assert list(floors(workspace, connection, LATER, 5)) == LATER[-1:]


def test_no_span_has_no_floor(learnt, copy_of):
    workspace = copy_of(learnt)
    publish_catalog(workspace)
    with connect(workspace) as connection:
        assert floors(workspace, connection, [], 5) == {}
