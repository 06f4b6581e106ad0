"""Who is served how well: the score of the newest tested span by slice of its events, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.report.charts import percent
from pipelines.report.facts import Rows
from pipelines.report.section import Section

#: What the slices are, in the order in which they are shown; segments stand behind them.
WORDS = {
    "all": "known users and items",
    "repeat": "of these: things the user had before",
    "explore": "of these: things new to the user",
    "last": "of these: each user's last event",
    "old_users": "of these: users known for longer than a span",
    "new_users": "of these: users who came in the span before",
    "strangers": "users it had never seen; they get popular items",
    "everything": "everything; unknown users and items are misses",
}
#: Spans whose mean stands beside the newest one.
SPANS = 6


def slices(
    scores: Mapping[str, Mapping[str, float]],
    counts: Mapping[str, Mapping[str, int]],
    tested: Sequence[str],
    top_n: int,
) -> Section:
    """A row a slice; ``scores`` and ``counts`` (events) by slice and span, the spans ``tested`` in the order of time.
    Empty before the first test."""
    title = "Who is served how well"
    if not tested:
        return Section(title, "No span has been tested yet.")
    newest, recent = tested[-1], tested[-SPANS:]
    named = [name for name in WORDS if name in scores] + sorted(name for name in scores if "=" in name)
    rows = tuple(_row(name, newest, recent, scores[name], counts[name]) for name in named)
    says = (
        f"Hit rate: the share of the events whose item was among the {top_n} recommended before they happened. "
        "Segments (column=value) come from the table that [segments] names."
    )
    mean = f"HR@{top_n}, mean of the last {len(recent)}"
    return Section(
        title, says, table=Rows(("events of", "events", f"HR@{top_n}, {newest}", mean), rows), wide=True, nav="Who"
    )


def _row(
    name: str, newest: str, recent: Sequence[str], values: Mapping[str, float], counts: Mapping[str, int]
) -> tuple[str | int | None, ...]:
    asked = [(values[span], counts[span]) for span in recent if span in values]
    events = sum(n for _, n in asked)
    mean = percent(sum(value * n for value, n in asked) / events) if events else None
    return WORDS.get(name, name), counts.get(newest, 0), percent(values[newest]) if newest in values else None, mean
