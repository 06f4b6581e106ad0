"""What the ledger says once a user is forgotten: counts and fingerprints, blotted mentions, the receipt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pipelines.care.landing_files import mention_pattern
from pipelines.care.receipts import Journal, Receipt, finished, put_receipt, write_journal
from pipelines.lake.span_files import SpanContent
from pipelines.nights.restate import record_stale, restatement_of
from pipelines.sequences.bucket import count_bucket
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction, iso
from pipelines.workspace.states import LEARNT


def record_forgetting(
    workspace: Workspace,
    tx: Transaction,
    journal: Journal,
    contents: dict[tuple[str, int], SpanContent],
    now: datetime,
) -> Receipt:
    """All that the ledger has to say about a forgetting, at once; the finished receipt."""
    _recount(workspace, tx, journal, contents, journal.receipt.left)
    _blot_out_mentions(tx, journal.user_id)
    for batch in tx.batches():
        files = tuple(_recognise(file, journal.rewritten) for file in batch.files)
        if files != batch.files:
            tx.put_batch(replace(batch, files=files))
    stale = _mark_stale(workspace, tx, journal, now) if journal.retrain else journal.receipt.stale
    receipt = finished(replace(journal.receipt, stale=stale), iso(now))
    put_receipt(tx, receipt)
    write_journal(tx, replace(journal, receipt=receipt, retrain=False))
    return receipt


def _recount(
    workspace: Workspace,
    tx: Transaction,
    journal: Journal,
    contents: dict[tuple[str, int], SpanContent],
    left: Mapping[str, str],
) -> None:
    """Counts and fingerprints of data and sequences as they are without the user."""
    for (span_id, number), content in contents.items():
        row = tx.span_version(span_id, number)
        assert row is not None
        tx.put_span_version(replace(row, **vars(content)))
    for span_id, fingerprint in journal.sequences:
        sequences = tx.sequence(span_id, fingerprint)
        assert sequences is not None
        if any(name.startswith(sequences.path) for name in left):
            continue
        buckets = [count_bucket(path) for path in sorted(workspace.resolve(sequences.path).glob("bucket=*.parquet"))]
        counts = {name: sum(getattr(each, name) for each in buckets) for name in ("users", "events", "truncated")}
        tx.put_sequences(replace(sequences, **counts))


def _blot_out_mentions(tx: Transaction, user_id: str) -> None:
    """Take the id out of the errors of spans."""
    pattern = re.compile(mention_pattern(user_id))
    for span in tx.spans():
        if span.error and pattern.search(span.error):
            tx.put_span(replace(span, error=pattern.sub("(forgotten)", span.error)))


def _recognise(file: dict[str, object], rewritten: dict[str, str]) -> dict[str, object]:
    """An ingested file's entry, so that it still counts as ingested after its landing file was rewritten."""
    for name in ("sha256", "rewritten"):
        if file.get(name) in rewritten:
            return file | {"rewritten": rewritten[str(file[name])]}
    return file


def _mark_stale(workspace: Workspace, tx: Transaction, journal: Journal, now: datetime) -> tuple[str, ...]:
    touched = set(journal.receipt.spans)
    first = next((span for span in tx.spans() if span.span_id in touched and span.state in LEARNT), None)
    if first is None:
        return ()
    restatement = restatement_of(tx, first.span_id, pretrain=workspace.settings.spans.pretrain, now=now)
    record_stale(tx, restatement, now=now)
    return restatement.spans
