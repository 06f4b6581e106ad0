"""Two versions side by side: their scores where both were tested, and what training from scratch would have given."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.interests.evaluation import score
from pipelines.interests.version import LINE, Version
from pipelines.sequences.chain import chain_of, latest_rows
from pipelines.versions.ancestry import chain_of_versions, learnt_spans, newest_shadow
from pipelines.versions.lineage import VersionError
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import MetricRow, Snapshot, VersionRow


@dataclass(frozen=True)
class MetricPair:
    """One metric of two versions, over the same ``n`` events of a span."""

    span_id: str
    slice: str
    metric: str
    first: float
    second: float
    n: int

    @property
    def difference(self) -> float:
        """second - first."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """Two versions, and their scores on the spans on which both were tested before learning them."""

    first: VersionRow
    second: VersionRow
    metrics: tuple[MetricPair, ...]


def compare(workspace: Workspace, first: str, second: str, span_id: str | None = None) -> Comparison:
    """Compare two versions by the scores in the ledger, or by scoring both on a span now. Writes nothing.

    Raises:
        VersionError: a version is unknown; the span has no sequences; one of them has learnt the span, or numbers
            its ids by other data.
    """
    one, other = (Version.open(workspace, version_id) for version_id in (first, second))
    with workspace.ledger.snapshot() as view:
        found = [view.metrics(version.row.version_id) for version in (one, other)]
    if span_id is not None:
        found = [_scored(workspace, version, span_id) for version in (one, other)]
    return Comparison(one.row, other.row, tuple(_pairs(*found)))


def latest_drift(view: Snapshot) -> tuple[VersionRow, list[MetricPair]] | None:
    """The newest shadow of the live chain, and the chain's scores (second) against its own (first), by span.

    None if there is no shadow; no scores until a span was tested after it was made.
    """
    chain = chain_of_versions(view, view.pointer(LINE))
    shadow = newest_shadow(view, chain[0]) if chain else None
    if shadow is None:
        return None
    own = view.metrics(shadow.version_id)
    # the chain's score on a span is that of the version from which the span was learnt
    tested = {row.span_id: row.parent for row in chain}
    live = [m for row in chain for m in view.metrics(row.version_id) if tested.get(m.span_id) == row.version_id]
    return shadow, _pairs(own, live)


def _pairs(first: list[MetricRow], second: list[MetricRow]) -> list[MetricPair]:
    known = {(row.span_id, row.slice, row.protocol, row.metric): row for row in first}
    return [
        MetricPair(row.span_id, row.slice, row.metric, before.value, row.value, row.n)
        for row in sorted(second, key=lambda row: (row.span_id, row.slice, row.metric))
        if (before := known.get((row.span_id, row.slice, row.protocol, row.metric))) is not None
    ]


def _scored(workspace: Workspace, version: Version, span_id: str) -> list[MetricRow]:
    name = version.row.version_id
    with workspace.ledger.snapshot() as view:
        row = latest_rows(view).get(span_id)
        learnt = learnt_spans(chain_of_versions(view, name))
    if row is None:
        raise VersionError(f"span {span_id} has no sequences", hint="see: imsr status")
    if span_id in learnt:
        raise VersionError(f"version {name} has learnt span {span_id}", hint="compare on a later span")
    folders = [link.folder for link in chain_of(workspace, row.span_id, row.fingerprint)]
    if not version.continues_in(folders):
        raise VersionError(
            f"version {name} was made before the data of an earlier span changed",
            hint=f"it cannot be scored on span {span_id} as it is now",
        )
    return score(workspace, name, row, version.lineage.protocol)
