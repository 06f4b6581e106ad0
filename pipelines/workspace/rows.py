"""The tables of the ledger, their rows as dataclasses, and the states a span can be in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.workspace.states import SpanState, VersionState


@dataclass(frozen=True)
class SpanRow:
    """A span and its state. ``data_version`` is the version in force (None: no data yet)."""

    span_id: str
    start_us: int
    end_us: int
    data_version: int | None
    state: SpanState
    error: str | None = None
    updated_at: str = ""


@dataclass(frozen=True)
class SpanVersionRow:
    """One immutable set of a span's interactions. ``path`` is relative to the workspace."""

    span_id: str
    data_version: int
    path: str
    fingerprint: str
    rows: int
    users: int
    items: int
    created_at: str
    batch_id: str | None = None


@dataclass(frozen=True)
class SequencesRow:
    """The per-user sequences of a span version."""

    span_id: str
    fingerprint: str
    path: str
    users: int
    items: int
    events: int
    truncated: int
    new_users: int
    new_items: int
    created_at: str


@dataclass(frozen=True)
class VersionRow:
    """A model version of one line. ``summary`` is JSON for people: counts, seconds; what decides has a property."""

    version_id: str
    line: str
    span_id: str
    parent: str | None
    state: VersionState
    path: str
    fingerprint: str
    strategy: str
    created_at: str
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def spans(self) -> tuple[str, ...]:
        """The spans that it learnt, oldest first; several only if it begins a chain."""
        return tuple(self.summary.get("spans", (self.span_id,)))

    @property
    def shadow_of(self) -> str | None:
        """The head of the chain beside which it was trained from scratch; None if it was not."""
        return self.summary.get("beside")

    @property
    def verdict(self) -> dict[str, Any] | None:
        """What the gate said of it, as JSON; None if it was not judged."""
        return self.summary.get("verdict")

    @property
    def is_set_aside(self) -> bool:
        """Whether a span of it was restated: it is there to read, but is not taken for the new version of the span."""
        return "restated_at" in self.summary

    @property
    def removed(self) -> str:
        """When and why its files went; its state if nothing was noted."""
        return self.summary.get("removed", self.state)

    @property
    def tasks(self) -> tuple[dict[str, Any], ...]:
        """The tasks that a version of the `users` line does: name, kind, score, ..."""
        return tuple(self.summary.get("tasks", ()))

    def noting(self, **facts: Any) -> VersionRow:
        """The row with these facts in its summary."""
        return replace(self, summary=self.summary | facts)


@dataclass(frozen=True)
class PromotionRow:
    """One move of a line's current pointer, from ``previous`` to ``version_id``."""

    seq: int
    line: str
    version_id: str
    previous: str | None
    reason: str
    at: str


@dataclass(frozen=True)
class MetricRow:
    """One number: ``metric`` of a version on a slice of a span, over ``n`` targets."""

    version_id: str
    span_id: str
    slice: str
    protocol: str
    metric: str
    value: float
    n: int


@dataclass(frozen=True)
class BatchRow:
    """One ingest. ``files``: name, sha256, mapping and counts of each file."""

    batch_id: str
    ingested_at: str
    files: tuple[dict[str, Any], ...]
    read: int
    kept: int
    duplicate: int
    quarantined: int
    quarantine_path: str | None = None

    @property
    def quarantined_share(self) -> float:
        """The share of the rows that were refused for a fault of theirs: what is only too late does not count."""
        # what is damaged in the ledger is for the doctor to say: a look at the status goes on
        counts = [file.get("too_late", 0) for file in self.files if isinstance(file, dict)]
        late = sum(count for count in counts if isinstance(count, int))
        return (self.quarantined - late) / self.read if self.read else 0.0


@dataclass(frozen=True)
class LeaseRow:
    """Who may write. ``holder`` is None when nobody does; ``token`` only ever grows."""

    name: str
    holder: dict[str, Any] | None
    token: int
    heartbeat: float


SCHEMA_VERSION = 1

_STATES = ", ".join(f"'{state}'" for state in SpanState)

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE batches (
    batch_id TEXT PRIMARY KEY, ingested_at TEXT NOT NULL, files TEXT NOT NULL,
    read INTEGER NOT NULL, kept INTEGER NOT NULL, duplicate INTEGER NOT NULL, quarantined INTEGER NOT NULL,
    quarantine_path TEXT,
    CHECK (read = kept + duplicate + quarantined));
CREATE TABLE spans (
    span_id TEXT PRIMARY KEY, start_us INTEGER NOT NULL, end_us INTEGER NOT NULL, data_version INTEGER,
    state TEXT NOT NULL CHECK (state IN ({_STATES})), error TEXT, updated_at TEXT NOT NULL,
    CHECK (start_us < end_us));
CREATE TABLE span_versions (
    span_id TEXT NOT NULL REFERENCES spans, data_version INTEGER NOT NULL, path TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL, rows INTEGER NOT NULL, users INTEGER NOT NULL, items INTEGER NOT NULL,
    created_at TEXT NOT NULL, batch_id TEXT REFERENCES batches,
    PRIMARY KEY (span_id, data_version));
-- parent_span is written no more: `sequences.json` names the parent. It stays, so that other releases open the ledger.
CREATE TABLE sequences (
    span_id TEXT NOT NULL REFERENCES spans, fingerprint TEXT NOT NULL, path TEXT NOT NULL UNIQUE,
    parent_span TEXT, users INTEGER NOT NULL, items INTEGER NOT NULL, events INTEGER NOT NULL,
    truncated INTEGER NOT NULL, new_users INTEGER NOT NULL, new_items INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (span_id, fingerprint));
CREATE TABLE versions (
    version_id TEXT PRIMARY KEY, line TEXT NOT NULL, span_id TEXT NOT NULL, parent TEXT, state TEXT NOT NULL,
    path TEXT NOT NULL, fingerprint TEXT NOT NULL, strategy TEXT NOT NULL, created_at TEXT NOT NULL,
    summary TEXT NOT NULL);
CREATE TABLE promotions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL, version_id TEXT NOT NULL REFERENCES versions,
    previous TEXT, reason TEXT NOT NULL, at TEXT NOT NULL);
CREATE TABLE pointers (line TEXT PRIMARY KEY, version_id TEXT NOT NULL REFERENCES versions);
CREATE TABLE metrics (
    version_id TEXT NOT NULL, span_id TEXT NOT NULL, slice TEXT NOT NULL, protocol TEXT NOT NULL,
    metric TEXT NOT NULL, value REAL NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (version_id, span_id, slice, protocol, metric));
CREATE TABLE leases (
    name TEXT PRIMARY KEY, holder TEXT, token INTEGER NOT NULL, heartbeat REAL NOT NULL);
PRAGMA user_version = {SCHEMA_VERSION};
"""
