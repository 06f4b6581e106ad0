"""Data versions of spans that are still open: each batch makes one, and the one before is of use to nobody for long.

Only spans that nothing was built on (state ``ingested``) are looked at. What is superseded stays a while for sessions
that read it. The ledger forgets it first, then the views, then the folder goes; a run that was killed in between left
a folder without a row, which goes the next time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction, iso
from pipelines.workspace.states import SpanState
from pipelines.workspace.writer import Writer


def drop_interim(writer: Writer, span_ids: Iterable[str]) -> int:
    """Remove superseded data versions of open spans that are older than ``[stream] keep_interim``; returns how many."""
    keep = timedelta(microseconds=writer.workspace.settings.stream.keep_interim_us)
    before = iso(writer.now - keep)
    gone: list[Path] = []
    with writer.transaction() as tx:
        for span_id in span_ids:
            span = tx.span(span_id)
            if span is not None and span.state == SpanState.INGESTED and not tx.sequences(span_id):
                _forget_superseded(tx, span_id, before)
                gone += _without_row(writer.workspace, tx, span_id)
    hit(FailPoint.STREAM_TIDIED)
    if gone:
        publish_catalog(writer.workspace)  # the views may name one of them still
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return len(gone)


def _forget_superseded(tx: Transaction, span_id: str, before: str) -> None:
    for version, successor in pairwise(tx.span_versions(span_id)):
        if successor.created_at <= before:
            tx.delete("span_versions", span_id=span_id, data_version=version.data_version)


def _without_row(workspace: Workspace, tx: Transaction, span_id: str) -> list[Path]:
    """The folders of the span that no row names."""
    named = {workspace.resolve(row.path) for row in tx.span_versions(span_id)}
    folder = workspace.span_folder(span_id, 1).parent
    return [path for path in folder.glob("v=*") if path not in named]
