"""Two versions side by side: their scores where both were tested."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.interests.drift import MetricPair, pairs_of
from pipelines.interests.rank_job import score
from pipelines.interests.version import Version
from pipelines.sequences.chain import chain_of, latest_rows
from pipelines.versions.ancestry import chain_of_versions, learnt_spans
from pipelines.versions.lineage import VersionError
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import MetricRow, VersionRow


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
        spans, found = view.spans(), [view.metrics(version.row.version_id) for version in (one, other)]
    if span_id is not None:
        found = [_scored(workspace, version, span_id) for version in (one, other)]
    return Comparison(one.row, other.row, tuple(pairs_of(spans, *found)))


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
