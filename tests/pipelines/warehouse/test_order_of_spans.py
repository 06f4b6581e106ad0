"""Past s999 of a cut ids no longer sort as their spans do: what lists spans, or looks for the newest, goes by time."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import chain

import pytest
from small_world import NOW, START, TOML, day_of_events, land, make, run_all, user_name

from pipelines.care.forget import forget
from pipelines.interests.drift import pairs_of
from pipelines.report.page import write_and_say
from pipelines.warehouse.catalog import connect
from pipelines.workspace.ledger import MetricRow

CUT = TOML.replace('unit = "day"', 'unit = "cut"\nalpha = 0.001\ncount = 998')
CUT += "matrix_users = 20\n[score]\nenabled = true\n"
#: Views in which a row has a span, by the column that names it.
ORDERED = {
    "metrics": "span_id",
    "forgetting": "version_span",
    "interest_histogram": "span_id",
    "score_weights": "span_id",
}


@pytest.fixture(scope="module")
def long_cut(tmp_path_factory):
    """Six days at the end of a cut of 998 spans and beyond it; everybody was there once at its beginning. Read only."""
    early = (START - timedelta(days=996)).isoformat()
    first = [(user_name(user), f"i{user}", early) for user in range(15)]
    workspace = make(tmp_path_factory.mktemp("cut") / "w", [*first, *chain(*map(day_of_events, range(2)))], CUT)
    land(workspace, [event for day in range(2, 6) for event in day_of_events(day)], "later.csv")
    run_all(workspace)
    return workspace


def in_time(spans):
    return sorted(spans, key=lambda span: int(span[1:]))


def test_views_and_the_report_have_spans_in_the_order_of_time(long_cut):
    with connect(long_cut) as connection:
        for view, column in ORDERED.items():
            spans = [span for (span,) in connection.execute(f"SELECT {column} FROM {view}").fetchall()]
            assert {"s999", "s1000"} <= set(spans), view
            assert spans == in_time(spans), view
        metrics = connection.execute("SELECT span_id, value FROM metrics WHERE metric = 'hr@10' AND slice = 'all'")
        newest, score = metrics.fetchall()[-1]
        tested = connection.execute("SELECT span_id FROM metrics").fetchall()
        matrix = connection.execute("SELECT version_span, span_id FROM span_metrics").fetchall()
    assert matrix == sorted(matrix, key=lambda pair: [int(span[1:]) for span in pair])
    path, says = write_and_say(long_cut)
    assert f"Of the events of {newest}, {score:.1%}".replace("%", " %") in says
    page = path.read_text()
    for what in ("as it serves", "interests a user"):
        shown = re.findall(rf"<title>{what}, (s\d+):", page)
        assert shown == in_time(shown), what
    (head,) = re.findall(r"<tr><th[^>]*>after</th>.*?</tr>", page)
    columns = re.findall(r"s\d{3,}", head)
    assert "s1000" in columns
    assert columns == in_time(columns)
    assert re.search(rf"<th[^>]*>HR@10, {tested[-1][0]}</th>", page)


def test_scores_of_two_versions_and_a_receipt_have_them_so(long_cut, copy_of):
    with long_cut.ledger.snapshot() as view:
        spans = view.spans()
    rows = [MetricRow("v", span.span_id, "all", "prequential", "hr@10", 0.5, 9) for span in spans]
    assert [pair.span_id for pair in pairs_of(spans, rows, rows)] == [span.span_id for span in spans]
    touched = forget(copy_of(long_cut), "u1", now=NOW).spans
    assert "s1000" in touched
    assert list(touched) == in_time(touched)
