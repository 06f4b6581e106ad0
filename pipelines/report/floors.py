"""What a user of the lists would get without a model, span by span: two counters, in SQL, over the same events.

    popular   the items with most events in the span before
    personal  the items that the user had most often before the span; a user without any gets the popular ones

Scored as the model is: an event is a hit if its item is among the first n, over all events of users and items that were
known before the span. Ties go to the smaller id.

A span is counted once, by reading what was before it; what was found is kept beside the reports,

    reports/floors.json    {span: [[which events it was counted on, n], events, popular, personal]}

and holds until the events of the span, or of one before it, are others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import duckdb

from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import write_atomic

#: Spans that one report counts at most, the newest ones: each reads all that was before it.
NEWEST = 12

_SCORED = """
WITH earlier_spans AS (
    SELECT span_id, start_time FROM spans
    WHERE events IS NOT NULL AND start_time < (SELECT start_time FROM spans WHERE span_id = $span)),
earlier AS (SELECT user_id, item_id FROM interactions WHERE span_id IN (SELECT span_id FROM earlier_spans)),
own AS MATERIALIZED (SELECT user_id, item_id, count(*) AS events FROM interactions WHERE span_id = $span GROUP BY ALL),
theirs AS MATERIALIZED (
    SELECT user_id, item_id, count(*) AS events FROM earlier WHERE user_id IN (SELECT user_id FROM own) GROUP BY ALL),
asked AS (
    SELECT * FROM own WHERE user_id IN (SELECT user_id FROM theirs)
    AND item_id IN (SELECT item_id FROM earlier WHERE item_id IN (SELECT item_id FROM own))),
personal AS (
    SELECT user_id, item_id FROM theirs
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY events DESC, item_id) <= $n),
popular AS (
    SELECT item_id FROM interactions
    WHERE span_id = (SELECT max_by(span_id, start_time) FROM earlier_spans)
    GROUP BY item_id ORDER BY count(*) DESC, item_id LIMIT $n)
SELECT coalesce(sum(events), 0),
       coalesce(sum(events) FILTER (item_id IN (FROM popular)), 0),
       coalesce(sum(events) FILTER ((user_id, item_id) IN (FROM personal)), 0)
FROM asked
"""


@dataclass(frozen=True)
class Floor:
    """The hit rates of both counters on one span, over ``events`` events."""

    span_id: str
    events: int
    popular: float
    personal: float


def floors(
    workspace: Workspace, connection: duckdb.DuckDBPyConnection, spans: list[str], n: int, *, keep: bool = True
) -> dict[str, Floor]:
    """The floors of these spans, by span, as far as they are known or among the `NEWEST`; ``connection`` has the
    workspace's views. With ``keep`` what is counted is kept for the next report.
    """
    path, events = workspace.root / "reports" / "floors.json", _events_up_to(workspace)
    found = {span: Floor(span, *floor) for span, (on, *floor) in _kept(path).items() if on == [events.get(span), n]}
    asked = set(spans)
    newest = [span for span in events if span in asked][-NEWEST:]
    missing = [span for span in newest if span not in found]
    for span in missing:
        found[span] = _counted(connection, span, n)
    if missing and keep:
        path.parent.mkdir(exist_ok=True)
        rows = {span: [[events[span], n], *astuple(floor)[1:]] for span, floor in found.items()}
        write_atomic(path, json.dumps(rows, indent=0, sort_keys=True).encode())
    return {span: found[span] for span in spans if span in found and found[span].events}


def _kept(path: Path) -> dict[str, list[Any]]:
    """What earlier reports counted; nothing if that is not there, or damaged: then it is counted once more."""
    try:
        rows = json.loads(path.read_bytes())
        return {span: [on, int(events), float(a), float(b)] for span, (on, events, a, b) in rows.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _counted(connection: duckdb.DuckDBPyConnection, span: str, n: int) -> Floor:
    ((asked, popular, personal),) = connection.execute(_SCORED, {"span": span, "n": n}).fetchall()
    return Floor(span, int(asked), int(popular) / max(int(asked), 1), int(personal) / max(int(asked), 1))


def _events_up_to(workspace: Workspace) -> dict[str, str]:
    """Span -> a fingerprint of its events and of all before."""
    found, so_far = {}, hashlib.sha256()
    with workspace.ledger.snapshot() as view:
        for row in view.current_span_versions():
            so_far.update(f"{row.span_id}={row.fingerprint};".encode())
            found[row.span_id] = so_far.hexdigest()[:32]
    return found
