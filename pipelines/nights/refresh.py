"""A model trained from scratch on everything, beside the chain: what have the updates lost, and a fresh start.

A shadow (strategy ``full_retrain``) learns all spans that the current version has learnt, with as many interests per
user. It is not live. From the next span on every test also scores the newest shadow, so that the view ``drift`` shows
chain - shadow. On its first span both have learnt the same; later the shadow has learnt less, and the difference is
an upper bound of what the chain is ahead. A rebase puts a shadow live as the head of a new chain.
"""

from __future__ import annotations

from imsr_core.counted import counted
from imsr_core.strategies.protocol import silent
from pipelines.interests.gate import judge_version
from pipelines.interests.promotion import promote
from pipelines.interests.training import Progress, TrainingInput, train_version
from pipelines.interests.version import LINE, Version
from pipelines.versions.ancestry import chain_of_versions, learnt_spans
from pipelines.versions.pointer import GateError
from pipelines.versions.rebuilding import chain_aside
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import PromotionRow, SequencesRow, Snapshot, VersionRow
from pipelines.workspace.writer import Writer

STRATEGY = "full_retrain"


def shadow_retrain(writer: Writer, *, progress: Progress = silent) -> VersionRow:
    """A shadow of the current version; the one that is there if nothing has changed since, and the current version
    itself if it started over.

    Raises:
        VersionError: there is no current version yet.
        NonFiniteError: training diverged; nothing is recorded.
    """
    workspace = writer.workspace
    head = Version.open(workspace)
    if head.row.strategy == STRATEGY:
        return head.row
    with workspace.ledger.snapshot() as view:
        rows = _sequences(view, workspace, head)
    settings = workspace.settings
    source = TrainingInput(
        workspace=workspace,
        parent=None,
        spans=tuple(row.span_id for row in rows),
        sequences=tuple(rows),
        config=settings.interests,
        strategy=STRATEGY,
        protocol=head.lineage.protocol,
        holdout=settings.gate.hidden_share,
        top_n=settings.evaluation.top_n,
        like=head,
    )
    return train_version(source, writer, progress=progress)


def rebase(writer: Writer, *, progress: Progress = silent) -> tuple[VersionRow, PromotionRow | None]:
    """Put a shadow of the current version live, as the first version of a new chain; None if it is live already.

    It is compared with the current version on the events that both were kept from.

    Raises:
        GateError: it does not pass the gate; it stays a shadow.
    """
    workspace, row = writer.workspace, shadow_retrain(writer, progress=progress)
    verdict = judge_version(Version.open(workspace, row.version_id), workspace.settings.gate)
    if not verdict.passed:
        raise GateError(
            f"version {row.version_id} may not replace the chain: {'; '.join(verdict.reasons)}",
            hint=f"see: imsr compare VERSION {row.version_id}; it stays a shadow",
        )
    reason = f"started over on {counted(len(row.spans), 'span')}"
    move = promote(writer, row.version_id, reason, verdict=verdict.to_json())
    return Version.open(workspace, row.version_id).row, move


def refresh_if_due(writer: Writer) -> VersionRow | None:
    """Make a shadow if ``[refresh] every_spans`` spans were learnt since the last one, or since the chain began.

    Not while a chain is built aside: the one that is live is about to be replaced.
    """
    workspace = writer.workspace
    every = workspace.settings.refresh.every_spans
    if not every:
        return None
    with workspace.ledger.snapshot() as view:
        if chain_aside(view):
            return None
        chain = chain_of_versions(view, view.pointer(LINE))
        shadowed = {row.shadow_of for row in view.versions(LINE) if row.strategy == STRATEGY}
    since = next((n for n, row in enumerate(chain) if row.version_id in shadowed), len(chain) - 1)
    return shadow_retrain(writer) if since >= every else None


def _sequences(view: Snapshot, workspace: Workspace, head: Version) -> list[SequencesRow]:
    """The sequences of the spans that ``head``'s chain has learnt, as it numbers them, oldest first; not of those whose
    events were all withdrawn since."""
    there = {span.span_id for span in view.spans() if span.data_version is not None}
    learnt = learnt_spans(chain_of_versions(view, head.row.version_id)) & there
    by_path = {row.path: row for row in view.sequences()}
    rows = [by_path[path] for path in head.lineage.vocabulary]
    return [row for row in rows if row.span_id in learnt]
