"""`imsr report`: one version as one HTML file that fetches nothing.

    reports/<version id>.html

Everything on it comes from the views (`facts`, `floors`), what each ingest brought from the ledger, and what an
interest means from the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files as resource_files
from pathlib import Path
from typing import Any

import duckdb
from jinja2 import Environment
from markupsafe import Markup

from imsr_core.twin import TWIN
from pipelines.insight.explain import Explainer, Meaning
from pipelines.insight.meaning import neighbourhood
from pipelines.report.charts import WIDE, bars, lines, number, paths, percent
from pipelines.report.facts import Facts, Rows, gather
from pipelines.report.floors import Floor, floors
from pipelines.report.ingests import ingests
from pipelines.report.matrix import span_matrix
from pipelines.report.path_of_interests import path_of
from pipelines.report.section import Section
from pipelines.report.slices import slices
from pipelines.warehouse.catalog import connect
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import write_atomic


def write_report(workspace: Workspace, version_id: str | None = None, user_id: str | None = None) -> Path:
    """Write the report of a version of the `interests` line (the current one); returns its path.

    Args:
        user_id: whose interests are shown in detail; unset: the user who has most.

    Raises:
        VersionError: there is no such version, or no current one.
        UnknownUserError: the version has never seen the user.
    """
    explainer = Explainer.open(workspace, version_id)
    row = explainer.recommender.version.row
    top_n = workspace.settings.evaluation.top_n
    with connect(workspace) as connection:
        facts = gather(connection, row.version_id, f"hr@{top_n}")
        counted = floors(connection, list(facts.scores.get("all", {})), top_n)
        shown = user_id or _with_most(connection, row.version_id)
        sections = _sections(facts, counted, top_n, workspace)
        sections += span_matrix(connection, row.version_id, f"hr@{top_n}")
        if shown is not None:
            sections += _of_user(connection, explainer, shown)
    page = _environment().from_string(resource_files("pipelines.report").joinpath("page.html").read_text("utf-8"))
    text = page.render(
        title=f"{workspace.root.name}: version {row.version_id}",
        subtitle=f"{row.state}, learnt from {row.parent or 'nothing'} by {row.strategy}; "
        f"{len(facts.spans)} spans of learning, made {row.created_at[:16].replace('T', ' ')} UTC",
        verdict=verdict(facts, counted, top_n),
        sections=sections,
    )
    path = workspace.report_file(row.version_id)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, text.encode("utf-8"))
    return path


def verdict_of(workspace: Workspace, version_id: str) -> str:
    """What the report on a version says first (see `verdict`)."""
    top_n = workspace.settings.evaluation.top_n
    with connect(workspace) as connection:
        facts = gather(connection, version_id, f"hr@{top_n}")
        return verdict(facts, floors(connection, list(facts.scores.get("all", {})), top_n), top_n)


def verdict(facts: Facts, counted: dict[str, Floor], top_n: int) -> str:
    """The report in a sentence or two: the newest score, beside the better of two counters, and the interests."""
    scores = facts.scores.get("all", {})
    text = f"{facts.mean:.2f} interests a user, {facts.distinct_mean:.2f} of them distinct."
    if not scores:
        return f"No span has been tested yet; the next one will be. {text}"
    span = max(scores)
    score, floor = scores[span], counted.get(span)
    told = f"Of the events of {span} {percent(score)} were among the {top_n} items recommended before they happened"
    if floor is None:
        return f"{told}. {text}"
    name, best = max((("the last span's popular items", floor.popular), ("what each user had most", floor.personal)),
                     key=lambda pair: pair[1])  # fmt: skip
    against = "ahead of" if score >= best else "behind"
    return f"{told}, {against} {name} ({percent(best)}). {text}"


def _sections(facts: Facts, counted: dict[str, Floor], top_n: int, workspace: Workspace) -> list[Section]:
    return [
        _score(facts, counted, top_n),
        slices(facts.scores, facts.counts, top_n),
        _interests(facts),
        _histogram(facts),
        _changes(facts),
        _drift(facts),
        Section("Promotions", "Which version went live when, newest first.", table=facts.promotions),
        Section("Quarantine", _quarantined(facts.quarantine), table=facts.quarantine),
        ingests(workspace),
        _costs(facts),
        Section("The gate", "What each version was compared on before it went live.", table=facts.verdicts, wide=True),
        *([Section("Tasks", "The users line: each task in each version.", table=facts.tasks, wide=True)]
          if facts.tasks.rows else []),
    ]  # fmt: skip


def _score(facts: Facts, counted: dict[str, Floor], top_n: int) -> Section:
    own = facts.scores.get("all", {})
    spans = sorted(own)
    series: dict[str, Sequence[float | None]] = {"as it serves": [own[s] for s in spans]}
    for name in ("repeat", "explore"):
        if name in facts.scores:
            label = {"repeat": "had before", "explore": "new to the user"}[name]
            series[label] = [facts.scores[name].get(s) for s in spans]
    series["popular last span"] = [counted[s].popular if s in counted else None for s in spans]
    series["what the user had most"] = [counted[s].personal if s in counted else None for s in spans]
    says = (
        f"HR@{top_n} of the version before each span, on events that it had never seen; the two counters are what a "
        "list without a model reaches on the same events."
    )
    return Section(f"Score, HR@{top_n}", says, Markup(lines(spans, series, percent, WIDE)), wide=True)


def _interests(facts: Facts) -> Section:
    means = facts.learnt.column("mean_interests")
    says = f"Mean over all users after each span. Distinct (overlap below {TWIN}): {facts.distinct_mean:.2f} now."
    series = {"interests a user": means}
    if any(value is not None for value in facts.apart.values()):
        series["distinct"] = [facts.apart.get(span) for span in facts.spans]
    return Section("Interests a user", says, Markup(lines(facts.spans, series)))


def _histogram(facts: Facts) -> Section:
    labels = [str(k) for k in facts.histogram.column("interests")]
    counts = [float(users) for _, users in facts.histogram.rows]
    return Section(
        "How many interests", "Users by their number of interests, now.", Markup(bars(labels, {"users": counts}))
    )


def _changes(facts: Facts) -> Section:
    later = facts.learnt.rows[1:]
    columns = facts.learnt.columns
    part = Rows(columns, later)
    series = {name: [float(v or 0) for v in part.column(name)] for name in ("born", "trimmed", "forgotten")}
    series = {name: values for name, values in series.items() if any(values)}
    chart = bars(part.column("span_id"), series) if later and series else ""
    says = "Interests that NID proposed and that stayed, and those that PIT trimmed as redundant, span by span."
    return Section("Born and trimmed", says, Markup(chart))


def _drift(facts: Facts) -> Section:
    says = "How far a span moved the interests it touched: the mean of 1 - cosine between before and after."
    return Section("Drift", says, Markup(lines(facts.spans, {"drift": facts.learnt.column("drift")})))


def _costs(facts: Facts) -> Section:
    names = ("span_id", "active_users", "new_users", "items", "interests", "train_seconds")
    rows = list(zip(*(facts.learnt.column(name) for name in names), strict=True))[-24:]
    shown = ("span", "users in it", "new users", "items known", "interests", "seconds of training")
    return Section(
        "Cost", "What each version learnt, and how long training took.", table=Rows(shown, tuple(rows)), wide=True
    )


def _quarantined(rows: Rows) -> str:
    return "Rows that were refused, by reason." if rows.rows else "No row was refused."


def _of_user(connection: duckdb.DuckDBPyConnection, explainer: Explainer, user_id: str) -> list[Section]:
    meanings, near = explainer.user(user_id), neighbourhood(explainer.recommender.state.n_items)
    columns = ("interest", "born", "last active", "items", "overlap", "drift", "brings", "stands for", "nearest items")
    picture = Section(
        f"The interests of user {user_id}",
        "Every interest as of every span, on the two principal directions: points of one interest are linked, "
        "newer ones larger and darker.",
        Markup(paths(path_of(connection, explainer, user_id))),
        wide=True,
    )
    table = Section(
        f"What the interests of user {user_id} stand for",
        f"Categories that stand out among the {near} nearest items, with their share and lift over the "
        "catalogue; brings: of the user's first 20 recommendations.",
        table=Rows(columns, tuple(_meaning_row(each) for each in meanings)),
        wide=True,
    )
    return [picture, table]


def _meaning_row(each: Meaning) -> tuple[Any, ...]:
    return (
        each.interest_id, each.born_span, each.active_span, each.support, each.overlap, each.drift, each.brings,
        ", ".join(map(str, each.categories)), ", ".join(dict.fromkeys(name for _, name in each.items)),
    )  # fmt: skip


def _with_most(connection: duckdb.DuckDBPyConnection, version_id: str) -> str | None:
    """The user with most interests (the smallest id of several)."""
    query = "SELECT user_id FROM interests_as_of($v) GROUP BY 1 ORDER BY count(*) DESC, user_id LIMIT 1"
    row = connection.execute(query, {"v": version_id}).fetchone()
    return None if row is None else str(row[0])


def _environment() -> Environment:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = _shown
    return environment


def _shown(value: Any) -> Any:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return Markup('<span class="{0}">{0}</span>').format("yes" if value else "no")
    if isinstance(value, float):
        return number(value) if abs(value) >= 1 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value
