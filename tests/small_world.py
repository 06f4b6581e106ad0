"""A small world for tests that need a learnt workspace: six days of 30 users and 60 items, two days pre-train.

Users and items arrive day by day, everybody has favourites (so that something can be learnt), and two ids are nasty.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from pipelines.interests.version import LINE, Version
from pipelines.lake.ingest import ingest
from pipelines.nights.night import SpanOutcome, run_span
from pipelines.nights.plan import PlannedRun, due, run_for
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanRow, VersionRow
from pipelines.workspace.writer import writing

#: user_id, item_id, ISO time.
Event = tuple[str, str, str]

START = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = [f"2024-03-{day:02d}" for day in range(1, 7)]
BASE, LATER = DAYS[:2], DAYS[2:]
VERSIONS = [f"{day}.1" for day in DAYS[1:]]
NOW = datetime(2024, 3, 10, tzinfo=UTC)

NASTY_USER, NASTY_ITEM = "'; DROP TABLE x;--", 'a "b" [/red] $c\\'

TOML = """
[spans]
unit = "day"
pretrain = 2
[ingest]
buckets = 2
lookback_spans = 10
[model]
dim = 8
initial_interests = 2
max_interests = 6
history = 10
[detector]
new_interests = 2
[training]
seed = 3
batch_size = 64
base_epochs = 2
epochs = 1
negatives = 20
targets_per_user = 5
[evaluation]
top_n = 10
"""


def user_name(number: int) -> str:
    """The id of a user; user 5 has a nasty one."""
    return NASTY_USER if number == 5 else f"u{number}"


def item_name(number: int) -> str:
    """The id of an item; item 7 has a nasty one."""
    return NASTY_ITEM if number == 7 else f"i{number}"


def day_of_events(day: int, seed: int = 0, per_user: int = 7) -> list[Event]:
    """One day (0, 1, ...): about two thirds of the users that there are so far, mostly on their favourites."""
    chance = random.Random(f"{seed} {day}")
    events = []
    for user in range(min(15 + 3 * day, 30)):
        if chance.random() < 0.35:
            continue
        for _ in range(chance.randint(1, per_user)):
            favourite = (user % 5) * 12 + chance.randrange(3 + day)
            item = favourite if chance.random() < 0.8 else chance.randrange(min(35 + 5 * day, 60))
            time = START + timedelta(days=day, seconds=chance.randrange(86_400))
            events.append((user_name(user), item_name(item), time.isoformat()))
    return events


def log(days: Iterable[int] = range(6), seed: int = 0) -> list[Event]:
    """Several days."""
    return [event for day in days for event in day_of_events(day, seed)]


def land(workspace: Workspace, events: Sequence[Event], name: str = "log.csv") -> None:
    """Ingest events as one CSV file."""
    path = workspace.root / "landing" / name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows(events)
    ingest(workspace, [path], now=NOW)


def make(root: Path, events: Sequence[Event], toml: str = TOML) -> Workspace:
    """A workspace with these events in the lake."""
    workspace = Workspace.create(root, toml)
    land(workspace, events)
    return workspace


def run_all(workspace: Workspace, *, now: datetime = NOW, **options: Any) -> list[SpanOutcome]:
    """Everything that is due, in one go."""
    with writing(workspace, "test", now=now) as writer:
        return [run_span(writer, run, **options) for run in due(workspace, now=now)]


def run_one(workspace: Workspace, span_id: str, *, now: datetime = NOW) -> SpanOutcome | None:
    """One span on its own; None if there is nothing to do."""
    with writing(workspace, "test", now=now) as writer:
        run: PlannedRun | None = run_for(workspace, span_id, now=now)
        return run_span(writer, run) if run else None


def span_rows(workspace: Workspace) -> dict[str, SpanRow]:
    """The ledger's spans by id."""
    with workspace.ledger.snapshot() as view:
        return {row.span_id: row for row in view.spans()}


def states(workspace: Workspace) -> dict[str, str]:
    """The state of each span."""
    return {span_id: str(row.state) for span_id, row in span_rows(workspace).items()}


def current(workspace: Workspace) -> str | None:
    """The current version's id."""
    with workspace.ledger.snapshot() as view:
        return view.pointer(LINE)


def version_rows(workspace: Workspace) -> dict[str, VersionRow]:
    """The ledger's versions by id."""
    with workspace.ledger.snapshot() as view:
        return {row.version_id: row for row in view.versions()}


def learnt_content(workspace: Workspace, version_id: str) -> dict[str, Any]:
    """All that a version learnt: every tensor as lists, the rows of its interests and changes."""
    folder = Version.open(workspace, version_id).folder
    content: dict[str, Any] = {}
    for name in ("model.safetensors", "optimizer.safetensors"):
        content |= {f"{name}/{key}": tensor.tolist() for key, tensor in load_file(folder / name).items()}
    for name in ("interests.parquet", "changes.parquet"):
        content[name] = pq.ParquetFile(folder / name).read().to_pydict()
    return content


def store_rows(store: Any, user_ids: Callable[[Any], Any]) -> dict[tuple[str, int], list[float]]:
    """(user id, interest id) -> vector, of an interest store."""
    owners = user_ids(store.user.numpy()).to_pylist()
    vectors = store.vectors.to(torch.float32).tolist()
    return dict(zip(zip(owners, store.interest_id.tolist(), strict=True), vectors, strict=True))


def interests_of(workspace: Workspace, version_id: str) -> dict[tuple[str, int], list[float]]:
    """All interests as of a version, read as a recommender reads them."""
    version = Version.open(workspace, version_id)
    return store_rows(version.load().store, version.vocabulary.user_ids)


def tree(root: Path) -> dict[str, int]:
    """Every file and folder below ``root`` with its time of modification, the lease's ledger apart."""
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in sorted(root.rglob("*")) if p.name[:6] != "ledger"}
