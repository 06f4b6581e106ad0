"""What the updates have lost: the live chain's scores beside those of a model trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.interests.slice_names import NEW, OLD, STRANGERS
from pipelines.versions.ancestry import chain_of_versions, newest_shadow
from pipelines.versions.line import Line
from pipelines.workspace.ledger import MetricRow, Snapshot, SpanRow, VersionRow


@dataclass(frozen=True)
class MetricPair:
    """One metric of two versions on a slice of a span's events: ``first_n`` and ``n`` of them, as each knows its users
    and items (all slices but `everything` are of what a version knows)."""

    span_id: str
    slice: str
    metric: str
    first: float
    second: float
    n: int
    first_n: int

    @property
    def difference(self) -> float:
        """second - first."""
        return self.second - self.first


def latest_drift(view: Snapshot) -> tuple[VersionRow, list[MetricPair]] | None:
    """The newest shadow of the live chain, and the chain's scores (second) against its own (first), by span.

    None if there is no shadow; no scores until a span was tested after it was made.
    """
    chain = chain_of_versions(view, view.pointer(Line.INTERESTS))
    shadow = newest_shadow(view, chain[0]) if chain else None
    if shadow is None:
        return None
    own = view.metrics(shadow.version_id)
    # the chain's score on a span is that of the version from which the span was learnt
    tested = {row.span_id: row.parent for row in chain}
    live = [m for row in chain for m in view.metrics(row.version_id) if tested.get(m.span_id) == row.version_id]
    return shadow, pairs_of(view.spans(), own, live)


def pairs_of(spans: Sequence[SpanRow], first: Sequence[MetricRow], second: Sequence[MetricRow]) -> list[MetricPair]:
    """The metrics that both have, of the same slice of the same span by the same protocol, in the order of ``spans``.

    Who is old, new or a stranger is another question for each version: left out where they are not as many.
    """
    place = {span.span_id: number for number, span in enumerate(spans)}
    known = {(row.span_id, row.slice, row.protocol, row.metric): row for row in first}
    return [
        MetricPair(row.span_id, row.slice, row.metric, before.value, row.value, row.n, before.n)
        for row in sorted(second, key=lambda row: (place.get(row.span_id, -1), row.slice, row.metric))
        if (before := known.get((row.span_id, row.slice, row.protocol, row.metric))) is not None
        if row.n == before.n or row.slice not in (OLD, NEW, STRANGERS)
    ]
