"""What the ledger says once a user is forgotten: counts and fingerprints, blotted mentions, the receipt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pipelines.care.landing_files import mention_pattern
from pipelines.care.receipts import Journal, write_journal
from pipelines.lake.span_files import SpanContent
from pipelines.nights.restate import record_stale, restatement_that_begins
from pipelines.sequences.bucket import count_bucket
from pipelines.workspace.editions import stored_files
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction
from pipelines.workspace.states import LEARNT


def record_forgetting(
    workspace: Workspace,
    tx: Transaction,
    journal: Journal,
    contents: dict[tuple[str, int], SpanContent],
    quarantine: dict[str, str],
    now: datetime,
) -> Journal:
    """All that the ledger has to say about a forgetting, at once; returns what is left to do.

    ``quarantine`` are the files of refused rows that have another name from now on -> that name.
    """
    _recount(workspace, tx, journal, contents, journal.receipt.left)
    _blot_out_mentions(tx, journal.user_id)
    for batch in tx.batches():
        files = tuple(_recognise(file, journal.rewritten) for file in batch.files)
        where = quarantine.get(batch.quarantine_path or "", batch.quarantine_path)
        if (files, where) != (batch.files, batch.quarantine_path):
            tx.put_batch(replace(batch, files=files, quarantine_path=where))
    stale = _mark_stale(workspace, tx, journal, now) if journal.retrain else journal.receipt.stale
    journal = replace(journal, receipt=replace(journal.receipt, stale=stale), retrain=False, committed=True)
    write_journal(tx, journal)
    return journal


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
        buckets = [
            count_bucket(path)
            for path in stored_files(workspace.resolve(sequences.path), "bucket=*.parquet", coming=True)
        ]
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
    restatement = restatement_that_begins(tx, first.span_id, pretrain=workspace.settings.spans.pretrain, now=now)
    record_stale(tx, restatement, now=now)
    return restatement.spans
