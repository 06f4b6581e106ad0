"""What a user of the lists would get without a model, span by span: two counters, in SQL, over the same events.

    popular   the items with most events in the span before
    personal  the items that the user had most often before the span; a user without any gets the popular ones

Scored as the model is: an event is a hit if its item is among the first n, over all events of users and items that were
known before the span. Ties go to the item with more events overall, then to the smaller id.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

_SCORED = """
WITH numbered AS (
    SELECT span_id, row_number() OVER (ORDER BY start_time) AS t FROM spans WHERE events IS NOT NULL),
counted AS (
    SELECT n.t, i.user_id, i.item_id, count(*) AS events
    FROM interactions i JOIN numbered n USING (span_id) GROUP BY ALL),
item_span AS (SELECT t, item_id, sum(events) AS events FROM counted GROUP BY ALL),
popular AS (
    SELECT t + 1 AS t, item_id FROM item_span
    QUALIFY row_number() OVER (PARTITION BY t ORDER BY events DESC, item_id) <= $n),
first_user AS (SELECT user_id, min(t) AS first FROM counted GROUP BY ALL),
first_item AS (SELECT item_id, min(t) AS first FROM counted GROUP BY ALL),
asked AS (
    SELECT c.* FROM counted c JOIN first_user u USING (user_id) JOIN first_item i USING (item_id)
    WHERE u.first < c.t AND i.first < c.t AND c.t IN (SELECT t FROM numbered WHERE span_id IN (SELECT unnest($spans)))),
before AS (
    SELECT a.t, a.user_id, c.item_id, sum(c.events) AS events
    FROM (SELECT DISTINCT t, user_id FROM asked) a JOIN counted c ON c.user_id = a.user_id AND c.t < a.t GROUP BY ALL),
personal AS (
    SELECT t, user_id, item_id FROM before
    QUALIFY row_number() OVER (PARTITION BY t, user_id ORDER BY events DESC, item_id) <= $n)
SELECT n.span_id, sum(a.events) AS events,
       sum(a.events) FILTER ((a.t, a.item_id) IN (FROM popular)) / sum(a.events) AS popular,
       sum(a.events) FILTER ((a.t, a.user_id, a.item_id) IN (FROM personal)) / sum(a.events) AS personal
FROM asked a JOIN numbered n USING (t) GROUP BY n.span_id, a.t ORDER BY a.t
"""


@dataclass(frozen=True)
class Floor:
    """The hit rates of both counters on one span, over ``events`` events."""

    span_id: str
    events: int
    popular: float
    personal: float


def floors(connection: duckdb.DuckDBPyConnection, spans: list[str], n: int) -> dict[str, Floor]:
    """The floors of these spans, by span; ``connection`` has the workspace's views."""
    rows = connection.execute(_SCORED, {"n": n, "spans": spans}).fetchall()
    return {row[0]: Floor(row[0], int(row[1]), row[2] or 0.0, row[3] or 0.0) for row in rows}
