"""Discard damaged sequences and versions, with all that rests on them, so that the next run builds them again.

Derived data are functions of the lake. A damaged folder cannot be trusted and must not be found again by its
fingerprint, so its row goes: sequences lose theirs, with all that continue them; versions become ``pruned``, with all
that read their ids or interests. The spans from the first one on become stale. The lake itself is not derived from
anything: of it only old data versions are discarded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pipelines.care.doctor import examine
from pipelines.sequences.chain import latest_rows, parent_folder
from pipelines.versions.ancestry import chain_of_versions, learnt_spans
from pipelines.versions.dependencies import read_by
from pipelines.versions.line import Line
from pipelines.versions.rebuilding import chain_aside
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, SpanState, Transaction, VersionRow, iso
from pipelines.workspace.states import GONE, LEARNT, VersionState
from pipelines.workspace.writer import Writer


def discard_damaged(writer: Writer) -> list[str]:
    """Take everything damaged out of the ledger and mark its spans stale; returns the paths that were dropped.

    The folders are orphans then, for ``remove_orphans``.
    """
    workspace, now = writer.workspace, writer.now
    subjects = _damaged(workspace)
    with writer.transaction() as tx:
        sequences, versions = _resting_on(workspace, tx, subjects)
        stale = subjects["lost sequences"] | _spans_of(tx, sequences, versions)
        _drop(tx, sequences, versions, subjects["data"], now)
        _mark_stale(tx, stale, now)
    return _paths(sequences, versions, subjects["data"])


def plan_discarding(workspace: Workspace) -> list[str]:
    """The paths that `discard_damaged` would drop now. Reads only."""
    subjects = _damaged(workspace)
    with workspace.ledger.snapshot() as view:
        return _paths(*_resting_on(workspace, view, subjects), subjects["data"])


def _damaged(workspace: Workspace) -> defaultdict[str, set[str]]:
    """What is damaged, by its kind."""
    found = defaultdict[str, set[str]](set)
    for finding in examine(workspace, deep=True):
        if finding.subject:
            found[finding.subject[0]].add(finding.subject[1])
    return found


def _resting_on(
    workspace: Workspace, view: Snapshot, subjects: Mapping[str, set[str]]
) -> tuple[set[str], dict[str, VersionRow]]:
    """The damaged sequences and versions, with all that rests on them."""
    sequences = _sequences_on(workspace, view, subjects["sequences"])
    return sequences, _versions_on(workspace, view, sequences, subjects["version"])


def _paths(sequences: set[str], versions: dict[str, VersionRow], data: set[str]) -> list[str]:
    return sorted([*sequences, *(row.path for row in versions.values()), *data])


def _sequences_on(workspace: Workspace, view: Snapshot, damaged: set[str]) -> set[str]:
    """Paths of the damaged sequences, and of those that continue one."""
    found = set(damaged)
    for row in view.sequences():  # by span: a parent comes before its children
        if row.path not in found:
            parent = parent_folder(workspace, workspace.resolve(row.path))
            if parent is not None and workspace.relative(parent) in found:
                found.add(row.path)
    return found


def _versions_on(workspace: Workspace, view: Snapshot, sequences: set[str], damaged: set[str]) -> dict[str, VersionRow]:
    """The damaged versions, and those that read something that is dropped."""
    rows = {row.version_id: row for row in view.versions() if row.state != VersionState.PRUNED}
    found = {name: row for name, row in rows.items() if name in damaged}
    for name, row in rows.items():
        if name not in found and row.state not in GONE:
            reads = read_by(workspace, workspace.resolve(row.path))
            if set(reads.sequences) & sequences or set(reads.versions) & damaged:
                found[name] = row
    return found


def _spans_of(view: Snapshot, sequences: set[str], versions: dict[str, VersionRow]) -> set[str]:
    """Spans whose sequences in force are dropped, or that the live chain, or one that is built aside, learnt by one."""
    spans = {row.span_id for row in latest_rows(view).values() if row.path in sequences}
    chain = [*chain_of_versions(view, view.pointer(Line.INTERESTS)), *chain_aside(view)]
    return spans | learnt_spans([row for row in chain if row.version_id in versions])


def _drop(tx: Transaction, sequences: set[str], versions: dict[str, VersionRow], data: set[str], now: datetime) -> None:
    for row in tx.sequences():
        if row.path in sequences:
            tx.delete("sequences", span_id=row.span_id, fingerprint=row.fingerprint)
    for each in tx.span_versions():
        if each.path in data:
            tx.delete("span_versions", span_id=each.span_id, data_version=each.data_version)
    for version in versions.values():
        discarded = replace(version, state=VersionState.PRUNED)
        tx.put_version(discarded.noting(removed=f"damaged, discarded on {iso(now)[:10]}"))


def _mark_stale(tx: Transaction, spans: set[str], now: datetime) -> None:
    """Mark these spans, and what was learnt after the first of them, as to be learnt again."""
    first = min((span.start_us for span in tx.spans() if span.span_id in spans), default=None)
    for span in tx.spans():
        if first is not None and span.start_us >= first and span.state in LEARNT:
            tx.set_span_state(span.span_id, SpanState.STALE, at=now)
