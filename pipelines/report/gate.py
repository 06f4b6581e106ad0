"""The gate's history: what became of each version, and what the newest was compared on."""

from __future__ import annotations

import duckdb

from pipelines.report.facts import Rows
from pipelines.report.section import Section

#: Versions that are shown, the newest first.
SHOWN = 24
_CHAIN = """
WITH RECURSIVE chain AS (
    SELECT version_id, parent, 0 AS back FROM versions WHERE version_id = $version
    UNION ALL
    SELECT v.version_id, v.parent, back + 1 FROM versions v JOIN chain c ON v.version_id = c.parent),
judged AS (
    SELECT version_id, back FROM chain
    UNION
    SELECT v.version_id, c.back FROM versions v JOIN chain c ON v.parent = c.version_id WHERE v.state = 'rejected')
"""
_VERDICTS = (
    _CHAIN
    + """SELECT v.version_id, any_value(v.state), bool_and(v.verdict),
       any_value(metric) FILTER (is_main), any_value("current") FILTER (is_main), any_value(candidate) FILTER (is_main),
       any_value(low) FILTER (is_main), any_value(high) FILTER (is_main), any_value(n) FILTER (is_main),
       coalesce(bool_or("check" = 'events'), FALSE)
FROM (SELECT *, "check" = 'change' AND slice = 'all' AS is_main FROM verdicts) v JOIN judged j USING (version_id)
JOIN (SELECT version_id, created_at FROM versions) m USING (version_id)
GROUP BY 1 ORDER BY max(j.back), max(m.created_at) DESC, v.version_id DESC LIMIT $most"""
)
_CHECKS = """SELECT "check", slice, metric, "current", candidate, difference, low, high, n, passed FROM verdicts
WHERE version_id = $version AND n > 0 ORDER BY "check", slice, metric"""
_NAMES = {"change": "not worse", "bar": "above the bar", "preflight": "a model that finds nothing would fail"}


def gate(connection: duckdb.DuckDBPyConnection, version_id: str) -> Section:
    """A line for each version of the chain and each rejected one beside it; the newest one's checks are folded."""
    rows = connection.execute(_VERDICTS, {"version": version_id, "most": SHOWN}).fetchall()
    columns = ("version", "verdict", "score", "the one before", "this one", "change lies between", "events")
    table = Rows(columns, tuple(_line(*row) for row in rows))
    found = connection.execute(_CHECKS, {"version": version_id}).fetchall()
    checks = tuple((_NAMES.get(row[0], row[0]), *row[1:]) for row in found)
    names = ("check", "events of", "score", "before", "this one", "change", "low", "high", "events", "passed")
    says = (
        "Before a version goes live it is compared with the one that is live, on events that were kept from both. "
        "It is rejected if its score fell for certain: if the whole interval of the change lies below what [gate] "
        "allows. With fewer hidden events than [gate] min_events it is only asked whether the version serves; [gate] "
        "holdout hides more."
    )
    folded = (f"What {version_id} was compared on", Rows(names, checks)) if checks else None
    return Section("The gate", says, table=table, wide=True, folded=folded, nav="Gate")


def _line(
    version: str,
    state: str,
    passed: bool,
    metric: str | None,
    before: float | None,
    now: float | None,
    low: float | None,
    high: float | None,
    events: int | None,
    few: bool,
) -> tuple[object, ...]:
    interval = None if low is None or high is None else f"{low:+.4f} .. {high:+.4f}"
    return version, _word(state, passed, few), metric and metric.upper(), before, now, interval, events


def _word(state: str, passed: bool, few: bool) -> str:
    if not passed:
        return "rejected"
    if state == "rejected":
        return "passed, given up later"
    return "serves, too few events to judge" if few else "passed"
