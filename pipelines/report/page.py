"""`imsr report`: one version as one HTML file that fetches nothing.

    reports/<version id>.html

Everything on it comes from the views (`facts`, `floors`), what each ingest brought from the ledger, and what an
interest means from the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files as resource_files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from imsr_core.counted import plural
from imsr_core.twin import TWIN
from pipelines.insight.explain import Explainer
from pipelines.interests.version import Version
from pipelines.report.charts import WIDE, bars, lines, number, percent
from pipelines.report.facts import Facts, Rows, gather, newest
from pipelines.report.floors import Floor, floors
from pipelines.report.gate import gate
from pipelines.report.ingests import ingests
from pipelines.report.matrix import span_matrix
from pipelines.report.person import person, with_most_interests
from pipelines.report.section import Section, Tile
from pipelines.report.slices import slices
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.workspace.layout import Workspace
from pipelines.workspace.places import file_to_write
from pipelines.workspace.seal import write_atomic


def write_report(
    workspace: Workspace, version_id: str | None = None, user_id: str | None = None, out: Path | None = None
) -> Path:
    """Write the report of a version of the `interests` line (the current one); returns its path.

    Args:
        user_id: whose interests are shown in detail; unset: the user who has most.
        out: the file to write; unset: the version's in ``reports/``. With it nothing is written to the workspace, if
            its views are up to date.

    Raises:
        ConfigError: no file can be written at ``out``.
        VersionError: there is no such version, or no current one.
        UnknownUserError: the version has never seen the user.
    """
    return write_and_say(workspace, version_id, user_id, out)[0]


def write_and_say(
    workspace: Workspace, version_id: str | None = None, user_id: str | None = None, out: Path | None = None
) -> tuple[Path, str]:
    """`write_report`, with what the page says first (see `verdict`)."""
    if out is not None:
        file_to_write(out)
    publish_catalog(workspace)  # those of an earlier release may lack a view
    row = Version.open(workspace, version_id).row
    top_n = workspace.settings.evaluation.top_n
    with connect(workspace) as connection:
        facts = gather(connection, row.version_id, f"hr@{top_n}")
        counted = floors(workspace, connection, list(facts.scores.get("all", {})), top_n, keep=out is None)
        shown = user_id or with_most_interests(connection, row.version_id)
        sections = [_score(facts, counted, top_n), slices(facts.scores, facts.counts, facts.tested, top_n)]
        sections += [_interests(facts), _histogram(facts), _changes(facts), _drift(facts)]
        if shown is not None:
            sections += person(connection, Explainer.open(workspace, row.version_id, users=[shown]), shown)
        sections += span_matrix(connection, row.version_id, f"hr@{top_n}")
        sections += [gate(connection, row.version_id), *_operations(facts, workspace)]
    says = verdict(facts, counted, top_n)
    page = _environment().from_string(resource_files("pipelines.report").joinpath("page.html").read_text("utf-8"))
    text = page.render(
        title=f"{workspace.root.name}: version {row.version_id}",
        subtitle=f"{row.state}, learnt from {row.parent or 'nothing'} by {row.strategy}; "
        f"{len(facts.spans)} {plural(len(facts.spans), 'version')} in its chain, "
        f"made {row.created_at[:16].replace('T', ' ')} UTC",
        verdict=says,
        tiles=_tiles(facts, counted, top_n),
        sections=sections,
    )
    path = out or workspace.report_file(row.version_id)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, text.encode("utf-8"))
    return path, says


def verdict(facts: Facts, counted: dict[str, Floor], top_n: int) -> str:
    """The report in a sentence or two: the newest score, beside the better of two counters, and the interests."""
    scores = facts.scores.get("all", {})
    text = f"{facts.mean:.2f} interests a user, {facts.distinct_mean:.2f} of them distinct."
    if not scores:
        return f"{_untested(facts.scores.get('strangers', {}), top_n)} {text}"
    span = newest(scores)
    score, floor = scores[span], counted.get(span)
    known, new = (facts.counts.get(name, {}).get(span, 0) for name in ("all", "strangers"))
    if new > known:  # most come once: the score is of few, and the others get another list
        hits = percent(facts.scores["strangers"][span])
        text = (
            f"Of the {number(new)} events of new users {hits} were among the {top_n} popular items that new users are "
            f"shown. {text}"
        )
    whose = (
        f"the {number(known)} events of {span} by users who had come before" if new > known else f"the events of {span}"
    )
    told = f"Of {whose}, {percent(score)} were among the {top_n} items recommended before they happened"
    if floor is None:
        return f"{told}. {text}"
    name, best = max((("the last span's popular items", floor.popular), ("what each user had most", floor.personal)),
                     key=lambda pair: pair[1])  # fmt: skip
    return f"{told}, {_against(score, best, floor.events)} {name} ({percent(best)}). {text}"


def _against(score: float, best: float, events: int) -> str:
    """How a hit rate compares with another one of the same events; less than two standard errors is no difference.

    With a hit and a miss more on both sides, so that nought of two says little (Agresti and Caffo, 2000).
    """
    if percent(score) == percent(best):
        return "level with"
    ours, theirs = ((rate * events + 1) / (events + 2) for rate in (score, best))
    error = math.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / (events + 2))
    if abs(ours - theirs) < 2 * error:
        return f"level, as far as {number(events)} {plural(events, 'event')} can tell, with"
    return "ahead of" if score > best else "behind"


def _untested(strangers: dict[str, float], top_n: int) -> str:
    """Why there is no score yet; ``strangers`` has the scores, by span, of users that no version had seen."""
    if not strangers:
        return "No span has been tested yet; the next one will be."
    span = newest(strangers)
    return (
        f"Nobody has come back yet, so no list made for a user could be tested. Of the events of {span}, all by new "
        f"users, {percent(strangers[span])} were among the {top_n} popular items that new users are shown."
    )


def _tiles(facts: Facts, counted: dict[str, Floor], top_n: int) -> list[Tile]:
    """The figures that one looks for first."""
    scores, last = facts.scores.get("all", {}), dict(zip(facts.learnt.columns, facts.learnt.rows[-1], strict=True))
    tiles = []
    if scores:
        span = newest(scores)
        floor = counted.get(span)
        beside = f"{percent(max(floor.popular, floor.personal))} by counting alone" if floor else ""
        tiles.append(Tile(f"HR@{top_n} on {span}", percent(scores[span]), beside))
    tiles.append(Tile("interests a user", f"{facts.mean:.2f}", f"{facts.distinct_mean:.2f} distinct"))
    tiles.append(Tile("users", number(last["users"] or 0), f"{number(last['new_users'] or 0)} new in the last span"))
    tiles.append(Tile("items", number(last["items"] or 0), f"{number(last['interests'] or 0)} interests in all"))
    if last["train_seconds"] is not None:
        first = facts.learnt.column("train_seconds")[0]
        beside = f"{number(first)} s for the first version" if first and len(facts.spans) > 1 else ""
        tiles.append(Tile("training of the last span", f"{number(last['train_seconds'])} s", beside))
    return tiles


def _operations(facts: Facts, workspace: Workspace) -> list[Section]:
    """What went live, what it cost, what came in, what was refused; and the tasks, if there are any."""
    refused = [Section("Refused rows", "The quarantine, by reason.", table=facts.quarantine, wide=True)]
    tasks = [Section("Tasks", "The users line: each task in each version.", table=facts.tasks, wide=True, nav="Tasks")]
    return [
        Section("Promotions", "Which version went live when, newest first.", table=facts.promotions, nav="Operations"),
        _costs(facts),
        ingests(workspace),
        *(refused if facts.quarantine.rows else []),
        *(tasks if facts.tasks.rows else []),
    ]


def _score(facts: Facts, counted: dict[str, Floor], top_n: int) -> Section:
    own = facts.scores.get("all", {})
    spans = list(own)
    series: dict[str, Sequence[float | None]] = {"as it serves": [own[s] for s in spans]}
    for name in ("repeat", "explore"):
        if name in facts.scores:
            label = {"repeat": "had before", "explore": "new to the user"}[name]
            series[label] = [facts.scores[name].get(s) for s in spans]
    series["popular last span"] = [counted[s].popular if s in counted else None for s in spans]
    series["what the user had most"] = [counted[s].personal if s in counted else None for s in spans]
    says = (
        f"Hit rate: the share of a span's events whose item was among the {top_n} recommended before they happened, by "
        "the version that had not seen the span. The two counters are what lists without a model reach on them."
    )
    return Section(f"Score, HR@{top_n}", says, Markup(lines(spans, series, percent, WIDE)), wide=True, nav="Score")


def _interests(facts: Facts) -> Section:
    means = facts.learnt.column("mean_interests")
    says = (
        "An interest is one of a user's tastes, as a vector. Mean over users after each span; distinct: without those "
        f"that an older one of the user resembles by more than {TWIN} (cosine), {facts.distinct_mean:.2f} now."
    )
    series = {"interests a user": means}
    if any(value is not None for value in facts.apart.values()):
        series["distinct"] = [facts.apart.get(span) for span in facts.spans]
    return Section("Interests a user", says, Markup(lines(facts.spans, series)), nav="Interests")


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
    says = (
        "Born: new interests of users whose events puzzled the model (NID). Trimmed: proposed ones that said nothing "
        "new, and did not stay (PIT)."
    )
    return Section("Born and trimmed", says, Markup(chart))


def _drift(facts: Facts) -> Section:
    says = (
        "How far a span moved the interests that it touched: 1 - cosine between before and after, mean; 0: not at all."
    )
    return Section("Drift", says, Markup(lines(facts.spans, {"drift": facts.learnt.column("drift")})))


def _costs(facts: Facts) -> Section:
    names = ("span_id", "active_users", "new_users", "items", "interests", "train_seconds")
    rows = [
        (*row, None if seconds is None else f"{seconds:,.1f}")
        for *row, seconds in zip(*(facts.learnt.column(name) for name in names), strict=True)
    ][-24:]
    shown = ("span", "users", "new", "items known", "interests", "seconds")
    return Section("Cost", "What each version learnt, and how long training took.", table=Rows(shown, tuple(rows)))


def _environment() -> Environment:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = _shown
    return environment


def _shown(value: Any) -> Any:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return Markup('<span class="{0}">{0}</span>').format("yes" if value else "no")
    if value in ("passed", "rejected"):
        return Markup('<span class="{}">{}</span>').format("yes" if value == "passed" else "no", value)
    if isinstance(value, float):
        return number(value) if abs(value) >= 1 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value
