"""R[version, span]: how each version ranks what it has learnt; a row a version, and what was forgotten on average."""

from __future__ import annotations

import duckdb

from pipelines.report.charts import percent
from pipelines.report.facts import Rows
from pipelines.report.section import Section

#: Versions that are shown, the newest ones: with every one of them the page would grow by its square.
SHOWN = 24
_CELLS = """
WITH RECURSIVE chain AS (
    SELECT version_id, parent, 0 AS back FROM versions WHERE version_id = $version
    UNION ALL
    SELECT v.version_id, v.parent, back + 1 FROM versions v JOIN chain c ON v.version_id = c.parent)
SELECT m.version_span, s.start_time, m.span_id, m.value
FROM span_metrics m JOIN chain c USING (version_id) JOIN spans s ON s.span_id = m.span_id
WHERE c.back < $most ORDER BY c.back DESC"""
_LOST = "SELECT forgetting, backward_transfer FROM forgetting WHERE version_id = $version"


def span_matrix(connection: duckdb.DuckDBPyConnection, version_id: str, metric: str) -> list[Section]:
    """The matrix of a version's chain, as far as it was asked for ([evaluation] matrix_users); else nothing."""
    cells = connection.execute(_CELLS, {"version": version_id, "most": SHOWN}).fetchall()
    if not cells:
        return []
    spans = [span for _, span in sorted({(start, span) for _, start, span, _ in cells})]
    values = {(version, span): value for version, _, span, value in cells}
    rows = tuple(
        (version, *(percent(values[version, span]) if (version, span) in values else "" for span in spans))
        for version in dict.fromkeys(version for version, *_ in cells)
    )
    says = (
        f"Does learning the new cost the old? {metric.upper()} of the newest versions (a row each, named by its span) "
        "on a sample of the events that they have learnt, by their interests alone; compare within a column."
    )
    lost = connection.execute(_LOST, {"version": version_id}).fetchone()
    if lost is not None and lost[0] is not None:
        says += (
            f" Since their best the earlier spans have lost {lost[0] * 100:.1f} percentage points on average; backward "
            f"transfer {lost[1] * 100:+.1f} points."
        )
    return [
        Section(
            "What earlier spans still score", says, table=Rows(("after", *spans), rows), wide=True, nav="Forgetting"
        )
    ]
