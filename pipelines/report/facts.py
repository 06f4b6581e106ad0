"""What a report shows, read from the workspace's views: nothing that SQL could not say, too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from imsr_core.twin import TWIN

_CHAIN = """
WITH RECURSIVE chain AS (
    SELECT version_id, parent, span_id, 0 AS back FROM versions WHERE version_id = $version
    UNION ALL
    SELECT v.version_id, v.parent, v.span_id, back + 1 FROM versions v JOIN chain c ON v.version_id = c.parent)
"""
_LEARNT = (
    _CHAIN
    + """SELECT v.span_id, v.version_id, v.state, v.strategy, v.users, v.items, v.interests, v.mean_interests,
       v.active_users, v.new_users, v.born, v.trimmed, v.forgotten, v.train_seconds,
       (SELECT avg(drift) FROM interest_changes i WHERE i.version_id = v.version_id) AS drift
FROM chain JOIN versions v USING (version_id) ORDER BY back DESC"""
)
_SCORES = (
    _CHAIN
    + """SELECT m.span_id, m.slice, m.value, m.n FROM metrics m JOIN chain c USING (version_id)
JOIN spans s ON s.span_id = m.span_id WHERE m.metric = $metric ORDER BY s.start_time, m.slice"""
)
_HISTOGRAM = """
SELECT interests, count(*) FROM interest_counts_as_of($version) GROUP BY 1 ORDER BY 1"""
_MEANS = """
SELECT avg(interests), CASE WHEN count(*) = count(distinct_interests) THEN avg(distinct_interests) END
FROM interest_counts_as_of($version)"""
_DISTINCT = """
WITH held AS (SELECT user_id, interest_id, vector FROM interests_as_of($version)),
twins AS (
    SELECT a.user_id, a.interest_id FROM held a JOIN held b ON a.user_id = b.user_id AND b.interest_id < a.interest_id
    GROUP BY ALL HAVING max(list_cosine_similarity(a.vector, b.vector)) > $twin)
SELECT (SELECT count(*) FROM held)::DOUBLE / count(DISTINCT user_id) AS mean,
       ((SELECT count(*) FROM held) - (SELECT count(*) FROM twins))::DOUBLE / count(DISTINCT user_id) AS distinct_mean
FROM held"""
_APART = (
    _CHAIN
    + """
SELECT span_id,
       CASE WHEN count(*) = count(distinct_interests) THEN sum(distinct_interests * users) / sum(users) END AS apart
FROM interest_histogram WHERE version_id IN (SELECT version_id FROM chain) GROUP BY 1"""
)
_PROMOTIONS = """
SELECT version_id AS version, previous AS before, strftime(live_from, '%Y-%m-%d %H:%M') AS "live since (UTC)", reason
FROM promotions WHERE line = 'interests' ORDER BY seq DESC LIMIT 12"""
_QUARANTINE = """SELECT reason, count(*) AS rows, min(source) AS "for example"
FROM quarantine GROUP BY 1 ORDER BY 2 DESC, 1"""
_TASKS = """WITH newest AS (
    SELECT m.*, v.created_at FROM task_metrics m JOIN versions v USING (version_id)
    ORDER BY v.created_at DESC, task, metric LIMIT 60)
SELECT task, version_id, metric, value, first_value, change FROM newest ORDER BY task, created_at, metric"""


@dataclass(frozen=True)
class Rows:
    """A query's answer: column names, and rows as tuples."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers (and NULL), as they are or in words: 17.7 %."""
        return tuple(any(_is_number(row[n]) for row in self.rows) for n in range(len(self.columns)))

    def column(self, name: str) -> list[Any]:
        """One column."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"[-+]?[0-9][0-9,]*([.][0-9]+)?( %)?", value) is not None and not value.isdigit()
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Facts:
    """All figures of a report on one version.

    ``scores`` and ``counts`` (events) are by slice and span, in the order of time; ``tested`` are all spans of them.
    ``learnt`` has a row for each version of its chain, oldest first; ``apart`` the mean number of distinct interests
    after each span, where the files say it.
    """

    version_id: str
    learnt: Rows
    tested: tuple[str, ...]
    scores: dict[str, dict[str, float]]
    counts: dict[str, dict[str, int]]
    histogram: Rows
    mean: float
    distinct_mean: float
    apart: dict[str, float | None]
    promotions: Rows
    quarantine: Rows
    tasks: Rows

    @property
    def spans(self) -> list[str]:
        """The spans of the chain, oldest first."""
        return self.learnt.column("span_id")


def gather(connection: duckdb.DuckDBPyConnection, version_id: str, metric: str) -> Facts:
    """The facts of one version; ``metric`` (such as hr@20) is the score that is followed over the spans."""
    chain = {"version": version_id}
    scores: dict[str, dict[str, float]] = {}
    events: dict[str, dict[str, int]] = {}
    found = _ask(connection, _SCORES, chain | {"metric": metric}).rows
    for span, part, value, n in found:
        scores.setdefault(part, {})[span] = value
        events.setdefault(part, {})[span] = n
    means = _ask(connection, _MEANS, chain).rows[0]
    if means[1] is None:  # files of earlier releases do not say which are distinct; their vectors do
        means = _ask(connection, _DISTINCT, chain | {"twin": TWIN}).rows[0]
    return Facts(
        version_id=version_id,
        learnt=_ask(connection, _LEARNT, chain),
        tested=tuple(dict.fromkeys(span for span, *_ in found)),
        scores=scores,
        counts=events,
        histogram=_ask(connection, _HISTOGRAM, chain),
        mean=means[0] or 0.0,
        distinct_mean=means[1] or 0.0,
        apart=dict(_ask(connection, _APART, chain).rows),
        promotions=_ask(connection, _PROMOTIONS),
        quarantine=_ask(connection, _QUARANTINE),
        tasks=_ask(connection, _TASKS),
    )


def newest(by_span: Mapping[str, object]) -> str:
    """The last of the spans of some figures, which are in the order of time."""
    return list(by_span)[-1]


def _ask(connection: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any] | None = None) -> Rows:
    answer = connection.execute(query, values or {})
    names: Sequence[Any] = answer.description or []
    return Rows(tuple(column[0] for column in names), tuple(answer.fetchall()))
