"""What is read of the ledger, and what is written to it, within one transaction (see `ledger`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from imsr_core.errors import ImsrError
from pipelines.workspace.decoding import LedgerError, decode
from pipelines.workspace.rows import (
    BatchRow,
    LeaseRow,
    MetricRow,
    PromotionRow,
    SequencesRow,
    SpanRow,
    SpanVersionRow,
    VersionRow,
)
from pipelines.workspace.states import SpanState

LEASE = "workspace"

Row = TypeVar("Row")

#: Columns that hold JSON.
_JSON = {"files", "summary", "holder"}


class LeaseLost(ImsrError):
    """Another run took the workspace over while this one was suspended; this one may not write any more."""


def iso(moment: datetime) -> str:
    """An aware datetime as the ledger stores it: ISO 8601 in UTC with microseconds."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime: give it tzinfo=UTC")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class Snapshot:
    """The reads. Rows come back as dataclasses; spans in order of time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _rows(self, kind: type[Row], sql: str, *values: object) -> list[Row]:
        # all rows first: a statement that an error leaves half read would keep the ledger locked
        return [decode(kind, row) for row in self._connection.execute(sql, values).fetchall()]

    def _row(self, kind: type[Row], sql: str, *values: object) -> Row | None:
        rows = self._rows(kind, sql, *values)
        return rows[0] if rows else None

    def meta(self, key: str) -> str | None:
        """A value of the ``meta`` table."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def spans(self) -> list[SpanRow]:
        """All known spans by start."""
        return self._rows(SpanRow, "SELECT * FROM spans ORDER BY start_us")

    def span(self, span_id: str) -> SpanRow | None:
        """One span."""
        return self._row(SpanRow, "SELECT * FROM spans WHERE span_id = ?", span_id)

    def spans_after(self, start_us: int) -> list[SpanRow]:
        """The spans that start after ``start_us``, by start."""
        return self._rows(SpanRow, "SELECT * FROM spans WHERE start_us > ? ORDER BY start_us", start_us)

    def span_versions(self, span_id: str | None = None) -> list[SpanVersionRow]:
        """All versions of one span, or of all, oldest first."""
        sql = "SELECT v.* FROM span_versions v JOIN spans USING (span_id) WHERE ?1 IS NULL OR span_id = ?1"
        return self._rows(SpanVersionRow, f"{sql} ORDER BY start_us, v.data_version", span_id)

    def span_version(self, span_id: str, data_version: int | None = None) -> SpanVersionRow | None:
        """One version of a span; without a number the one in force."""
        sql = """SELECT v.* FROM span_versions v JOIN spans s USING (span_id)
                 WHERE span_id = ? AND v.data_version = coalesce(?, s.data_version)"""
        return self._row(SpanVersionRow, sql, span_id, data_version)

    def current_span_versions(self) -> list[SpanVersionRow]:
        """The version in force of every span that has data, by start."""
        sql = """SELECT v.* FROM span_versions v JOIN spans s USING (span_id)
                 WHERE v.data_version = s.data_version ORDER BY s.start_us"""
        return self._rows(SpanVersionRow, sql)

    def sequences(self, span_id: str | None = None) -> list[SequencesRow]:
        """Sequences of one span, or of all, by span and age."""
        sql = "SELECT q.* FROM sequences q JOIN spans USING (span_id) WHERE ?1 IS NULL OR span_id = ?1"
        return self._rows(SequencesRow, f"{sql} ORDER BY start_us, q.rowid", span_id)

    def sequence(self, span_id: str, fingerprint: str) -> SequencesRow | None:
        """One set of sequences."""
        sql = "SELECT * FROM sequences WHERE span_id = ? AND fingerprint = ?"
        return self._row(SequencesRow, sql, span_id, fingerprint)

    def versions(self, line: str | None = None) -> list[VersionRow]:
        """Model versions of one line, or of all, oldest first."""
        sql = "SELECT * FROM versions WHERE ?1 IS NULL OR line = ?1 ORDER BY rowid"  # clocks are set back
        return self._rows(VersionRow, sql, line)

    def version(self, version_id: str) -> VersionRow | None:
        """One model version."""
        return self._row(VersionRow, "SELECT * FROM versions WHERE version_id = ?", version_id)

    def pointer(self, line: str) -> str | None:
        """The current version's id of a line."""
        row = self._connection.execute("SELECT version_id FROM pointers WHERE line = ?", (line,)).fetchone()
        return None if row is None else row[0]

    def promotions(self, line: str | None = None) -> list[PromotionRow]:
        """The log of all pointer moves, oldest first."""
        return self._rows(PromotionRow, "SELECT * FROM promotions WHERE ?1 IS NULL OR line = ?1 ORDER BY seq", line)

    def metrics(self, version_id: str | None = None) -> list[MetricRow]:
        """Metrics of one version, or all."""
        sql = "SELECT * FROM metrics WHERE ?1 IS NULL OR version_id = ?1"
        return self._rows(MetricRow, f"{sql} ORDER BY version_id, span_id, slice, protocol, metric", version_id)

    def batches(self) -> list[BatchRow]:
        """All ingests, oldest first."""
        return self._rows(BatchRow, "SELECT * FROM batches ORDER BY rowid")

    def ingested_files(self) -> dict[str, str]:
        """sha256 of every file that was ingested, and not withdrawn since -> the id of its batch."""
        found: dict[str, str] = {}
        for batch in self.batches():
            for file in batch.files:
                hashes = () if file.get("withdrawn") else (file.get("sha256"), file.get("rewritten"))
                found.update({sha256: batch.batch_id for sha256 in hashes if sha256})
        return found

    def next_batch_id(self) -> str:
        """The id of the next batch: ``b000001``, ``b000002``, ..."""
        (count,) = self._connection.execute("SELECT count(*) FROM batches").fetchone()
        return f"b{count + 1:06d}"

    def lease(self, name: str = LEASE) -> LeaseRow | None:
        """The lease as it is stored."""
        return self._row(LeaseRow, "SELECT * FROM leases WHERE name = ?", name)

    def paths(self) -> set[str]:
        """Every path that the ledger names; what else lies in the workspace is an orphan."""
        sql = """SELECT path FROM span_versions UNION SELECT path FROM sequences
                 UNION SELECT path FROM versions WHERE state <> 'pruned'
                 UNION SELECT quarantine_path FROM batches WHERE quarantine_path IS NOT NULL"""
        return {row[0] for row in self._connection.execute(sql)}

    def names_path(self, path: str) -> bool:
        """Whether the ledger names this path."""
        return path in self.paths()


class Transaction(Snapshot):
    """The writes. ``put_*`` inserts or replaces by primary key, ``add_*`` refuses a key that is there."""

    def check_fence(self, token: int) -> None:
        """Raise LeaseLost unless the lease is held with ``token``."""
        lease = self.lease()
        if lease is None or lease.token != token or lease.holder is None:
            raise LeaseLost(
                f"this run (lease {token}) no longer holds the workspace",
                hint="nothing of it was recorded; run the command again",
            )

    def _insert(self, table: str, row: object, *, replace: bool = False, skip: tuple[str, ...] = ()) -> None:
        record = {f.name: getattr(row, f.name) for f in fields(row) if f.name not in skip}  # type: ignore[arg-type]
        values = [json.dumps(v) if k in _JSON and v is not None else v for k, v in record.items()]
        columns, marks = ", ".join(record), ", ".join("?" * len(record))
        sql = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
        if replace:
            sql += f" ON CONFLICT DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in record)}"
        self._connection.execute(sql, values)

    def put_meta(self, key: str, value: str) -> None:
        """Set a value of the ``meta`` table."""
        sql = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
        self._connection.execute(sql, (key, value))

    def put_span(self, row: SpanRow) -> None:
        """Insert or replace a span."""
        self._insert("spans", row, replace=True)

    def set_span_state(self, span_id: str, state: SpanState, *, at: datetime, error: str | None = None) -> None:
        """Move a span to ``state``. Raises LedgerError if the span is unknown."""
        sql = "UPDATE spans SET state = ?, error = ?, updated_at = ? WHERE span_id = ?"
        if self._connection.execute(sql, (state, error, iso(at), span_id)).rowcount == 0:
            raise LedgerError(f"no span {span_id!r} in the ledger", hint="run: imsr status")

    def add_span_version(self, row: SpanVersionRow) -> None:
        """Record a new version of a span; ``put_span`` puts it in force."""
        self._insert("span_versions", row)

    def put_span_version(self, row: SpanVersionRow) -> None:
        """Insert or replace a span version; only forgetting changes one."""
        self._insert("span_versions", row, replace=True)

    def add_sequences(self, row: SequencesRow) -> None:
        """Record the sequences of a span."""
        self._insert("sequences", row)

    def put_sequences(self, row: SequencesRow) -> None:
        """Insert or replace the sequences of a span; only forgetting changes them."""
        self._insert("sequences", row, replace=True)

    def add_version(self, row: VersionRow) -> None:
        """Record a model version."""
        self._insert("versions", row)

    def put_version(self, row: VersionRow) -> None:
        """Insert or replace a model version (its state and summary change; its folder does not)."""
        self._insert("versions", row, replace=True)

    def promote(self, line: str, version_id: str, reason: str, *, at: datetime) -> PromotionRow:
        """Move the pointer of ``line`` and log the move."""
        previous = self.pointer(line)
        sql = "INSERT INTO pointers VALUES (?, ?) ON CONFLICT DO UPDATE SET version_id = excluded.version_id"
        self._connection.execute(sql, (line, version_id))
        self._insert("promotions", PromotionRow(0, line, version_id, previous, reason, iso(at)), skip=("seq",))
        return self.promotions(line)[-1]

    def put_metrics(self, rows: Iterable[MetricRow]) -> None:
        """Insert or replace metrics."""
        for row in rows:
            self._insert("metrics", row, replace=True)

    def add_batch(self, row: BatchRow) -> None:
        """Record an ingest."""
        self._insert("batches", row)

    def put_batch(self, row: BatchRow) -> None:
        """Insert or replace an ingest; only forgetting changes one."""
        self._insert("batches", row, replace=True)

    def put_lease(self, row: LeaseRow) -> None:
        """Insert or replace a lease (see ``pipelines.workspace.lease``)."""
        self._insert("leases", row, replace=True)

    def delete(self, table: str, **key: Any) -> int:
        """Delete the rows of ``table`` that match ``key``; for restating and forgetting. Returns how many."""
        if table not in {"meta", "span_versions", "sequences", "versions", "metrics"} or not key:
            raise LedgerError(f"rows of {table!r} are not deleted")
        where = " AND ".join(f"{column} = ?" for column in key)
        return self._connection.execute(f"DELETE FROM {table} WHERE {where}", tuple(key.values())).rowcount
