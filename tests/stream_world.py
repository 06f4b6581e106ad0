"""Shared by the tests of `imsr stream`: events, what a batch ingest makes of them, and a broker of a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.lake.ingest import ingest
from pipelines.lake.spans import to_us
from pipelines.stream.source import Bounds, Message, Positions
from pipelines.workspace.layout import Workspace

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
START = datetime(2024, 3, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000

TOML = """
[spans]
unit = "day"
[ingest]
buckets = 2
[stream]
max_delay = "0s"
"""


def make_events(count: int, days: int = 3) -> list[dict[str, Any]]:
    """Events in the order of time, by 20 users on 30 items, spread over some days."""
    step = timedelta(days=days) / count
    return [
        {"user_id": f"u{n % 20}", "item_id": f"i{n * 7 % 30}", "timestamp": (START + n * step).isoformat()}
        for n in range(count)
    ]


def spread(events: Iterable[dict[str, Any]], partitions: int) -> list[tuple[int, dict[str, Any]]]:
    """(partition, event): one user, one partition."""
    return [(int(event["user_id"][1:]) % partitions, event) for event in events]


def batch_ingested(root: Path, events: Sequence[dict[str, Any]], toml: str = TOML) -> Workspace:
    """A workspace that has the same events from a file."""
    workspace = Workspace.create(root, toml)
    path = root / "landing" / "all.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    ingest(workspace, [path], now=NOW)
    return workspace


def fingerprints(workspace: Workspace) -> dict[str, str]:
    """span -> the fingerprint of its rows in force."""
    with workspace.ledger.snapshot() as view:
        return {row.span_id: row.fingerprint for row in view.current_span_versions()}


class Log:
    """A broker in memory: what its partitions hold."""

    def __init__(self, partitions: int) -> None:
        self.partitions: list[list[bytes | None]] = [[] for _ in range(partitions)]
        self.first = [0] * partitions

    def send(self, messages: Iterable[tuple[int, Any]]) -> None:
        """Append (partition, value); a mapping as JSON."""
        for partition, value in messages:
            self.partitions[partition].append(json.dumps(value).encode() if isinstance(value, dict) else value)

    def bounds(self, partition: int) -> Bounds:
        """What a partition holds."""
        return Bounds(self.first[partition], len(self.partitions[partition]))


class LogSource:
    """A consumer of a ``Log``; ``assign`` gives it partitions, as a group's leader would."""

    name, label = "log:clicks", "clicks"

    def __init__(self, log: Log, *assigned: int, at_once: int = 100) -> None:
        self._log, self._wanted, self._at_once = log, set(assigned), at_once
        self._next: dict[int, int] = {}
        self.held: list[bool] = []
        self.settled: dict[str, int] = {}

    def identity(self) -> str:
        """A log has none."""
        return ""

    def open(self, resume: Callable[[], Positions], revoked: Callable[[set[str]], None]) -> dict[str, Bounds]:
        """Start to read."""
        self._resume, self._revoked = resume, revoked
        return {str(n): self._log.bounds(n) for n in range(len(self._log.partitions))}

    def assign(self, *partitions: int) -> None:
        """From the next poll on it reads these."""
        self._wanted = set(partitions)

    def poll(self, seconds: float) -> Sequence[Message]:
        """The next messages."""
        if self._wanted != self._next.keys():
            if gone := self._next.keys() - self._wanted:
                self._revoked({str(n) for n in gone})
            positions = self._resume()
            self._next = {n: positions.get(str(n), self._log.first[n]) for n in self._wanted}
        found = []
        if not (self.held and self.held[-1]):
            for n, start in self._next.items():
                values = self._log.partitions[n][start : start + self._at_once]
                found += [Message(str(n), start + k, value) for k, value in enumerate(values)]
                self._next[n] = start + len(values)
        return found

    def hold(self, on: bool) -> None:
        """Stop to fetch, or go on."""
        self.held.append(on)

    def bounds(self) -> dict[str, Bounds]:
        """What the assigned partitions hold."""
        return {str(n): self._log.bounds(n) for n in self._next}

    def settle(self, positions: Positions) -> None:
        """Remembered for the test."""
        self.settled |= positions

    def close(self) -> None:
        """Nothing to leave."""


def us(day: int, hour: float = 0) -> int:
    """A time of March 2024 in microseconds."""
    return to_us(START + timedelta(days=day - 1, hours=hour))
