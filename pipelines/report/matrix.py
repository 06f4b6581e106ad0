"""R[version, span]: how each version ranks what it has learnt; a row a version, and what was forgotten on average."""

from __future__ import annotations

import duckdb

from pipelines.report.charts import percent
from pipelines.report.facts import Rows
from pipelines.report.section import Section

_CELLS = """
WITH RECURSIVE chain AS (
    SELECT version_id, parent FROM versions WHERE version_id = $version
    UNION ALL
    SELECT v.version_id, v.parent FROM versions v JOIN chain c ON v.version_id = c.parent)
SELECT version_span, span_id, value FROM span_metrics JOIN chain USING (version_id) ORDER BY version_span, span_id"""
_LOST = "SELECT forgetting, backward_transfer FROM forgetting WHERE version_id = $version"


def span_matrix(connection: duckdb.DuckDBPyConnection, version_id: str, metric: str) -> list[Section]:
    """The matrix of a version's chain, as far as it was asked for ([evaluation] matrix_users); else nothing."""
    cells = connection.execute(_CELLS, {"version": version_id}).fetchall()
    if not cells:
        return []
    spans = sorted({span for _, span, _ in cells})
    values = {(version, span): value for version, span, value in cells}
    rows = tuple(
        (version, *(percent(values[version, span]) if (version, span) in values else "" for span in spans))
        for version in sorted({version for version, _, _ in cells})
    )
    says = (
        f"Does learning the new cost the old? {metric.upper()} of each version (a row, named by its span) on a sample "
        "of the events that it has learnt, by its interests alone; compare within a column."
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
