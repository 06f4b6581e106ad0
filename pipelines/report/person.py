"""One user's interests: in sentences, as a picture of how they moved, and one by one."""

from __future__ import annotations

from typing import Any

import duckdb
from markupsafe import Markup

from pipelines.insight.explain import Explainer, Meaning
from pipelines.insight.meaning import neighbourhood, tidy
from pipelines.insight.sentences import sentences
from pipelines.report.charts import paths
from pipelines.report.facts import Rows
from pipelines.report.path_of_interests import path_of
from pipelines.report.section import Section

_COLUMNS = ("interest", "about", "brings", "born", "last active", "stands out", "nearest items", "overlap", "drift")


def person(connection: duckdb.DuckDBPyConnection, explainer: Explainer, user_id: str) -> list[Section]:
    """The boxes about a user. Raises UnknownUserError if the version has never seen the user."""
    meanings, near = explainer.user(user_id), neighbourhood(explainer.recommender.state.n_items)
    dots, spans = path_of(connection, explainer, user_id)
    picture = Section(
        f"The interests of user {user_id}",
        f"{sentences(user_id, meanings)} Each line is one interest on its way through the spans, coloured by span, the "
        "newest point the largest; what lies close together recommends alike things.",
        Markup(paths(dots, spans)),
        wide=True,
        nav="One user",
    )
    table = Section(
        f"What the interests of user {user_id} stand for",
        f"Stands out: categories among the {near} nearest items, with their share of these and how many times that is "
        "their share of all items. Brings: how many of the first 20 recommendations are nearest to the interest. "
        "Overlap: likeness to the nearest older interest, 1 is the same. Drift: how far a span moves it on average, 0 "
        "is not at all.",
        table=Rows(_COLUMNS, tuple(_row(each) for each in meanings)),
        wide=True,
    )
    return [picture, table]


def with_most_interests(connection: duckdb.DuckDBPyConnection, version_id: str) -> str | None:
    """The user with most interests (the smallest id of several)."""
    query = "SELECT user_id FROM interest_counts_as_of($v) ORDER BY interests DESC, user_id LIMIT 1"
    row = connection.execute(query, {"v": version_id}).fetchone()
    return None if row is None else str(row[0])


def _row(each: Meaning) -> tuple[Any, ...]:
    told = ", ".join(f"{tidy(s.value)} ({s.share:.0%}, {s.lift:.0f} x)" for s in each.categories)
    nearest = ", ".join(dict.fromkeys(name for _, name in each.items))
    overlap, drift = (None if value is None else f"{value:.2f}" for value in (each.overlap, each.drift))
    return each.interest_id, each.label, each.brings, each.born_span, each.active_span, told, nearest, overlap, drift
