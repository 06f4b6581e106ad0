"""One user's interests over the spans, in two dimensions: the paper's picture of how interests move, are born and stay.

All vectors that the user's interests had, as of each version of the chain, are projected on their two principal
directions. Points of one interest are linked in the order of the spans; the newest one is labelled with what it
stands for.
"""

from __future__ import annotations

import duckdb
import numpy as np
import torch

from pipelines.insight.explain import Explainer
from pipelines.report.charts import Dot

#: Every vector that a version's chain wrote for a user. A file of everybody repeats the vectors that did not move.
_HISTORY = """
WITH RECURSIVE chain AS (
    SELECT version_id, parent, 0 AS back FROM versions WHERE version_id = $version
    UNION ALL
    SELECT v.version_id, v.parent, back + 1 FROM versions v JOIN chain c ON v.version_id = c.parent)
SELECT h.span_id, h.interest_id, h.vector FROM interest_history h JOIN chain c USING (version_id)
WHERE h.user_id = $user ORDER BY c.back DESC, h.interest_id"""


def path_of(connection: duckdb.DuckDBPyConnection, explainer: Explainer, user_id: str) -> tuple[list[Dot], list[str]]:
    """A dot for each interest of the user in each version that changed it, oldest first, and the spans of their shades;
    views from ``connection``."""
    chosen = {"version": explainer.recommender.version.row.version_id, "user": user_id}
    rows = connection.execute(_HISTORY, chosen).fetchall()
    if not rows:
        return [], []
    spans, ids = [row[0] for row in rows], [row[1] for row in rows]
    points = torch.from_numpy(np.array([row[2] for row in rows], dtype=np.float32))
    flat = _two_dimensions(points)
    order = {span: n for n, span in enumerate(dict.fromkeys(spans))}
    last = {interest: n for n, interest in enumerate(ids)}
    labels = explainer.labels(points[list(last.values())])
    named = dict(zip(last.values(), labels, strict=True))
    dots = [
        Dot(
            x=float(flat[n, 0]),
            y=float(flat[n, 1]),
            path=ids[n],
            shade=order[spans[n]] / max(len(order) - 1, 1),
            title=f"interest {ids[n]}, {spans[n]}",
            label=f"{ids[n]}: {named[n]}" if n in named else "",
        )
        for n in range(len(ids))
    ]
    return dots, list(order)


def _two_dimensions(points: torch.Tensor) -> torch.Tensor:
    """(R, d) -> (R, 2): the principal directions, each with the sign that makes its largest entry positive."""
    centred = points - points.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    axes = directions[:2]
    if len(axes) < 2:
        axes = torch.cat([axes, torch.zeros(2 - len(axes), points.shape[1])])
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return centred @ (axes * torch.where(largest < 0, -1.0, 1.0)).T
