"""Two hundred small spans, night after night in one process: memory, open files and the disk stay flat."""

from __future__ import annotations

import json
import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from children import call
from workspace_content import require_clean

from pipelines.care.prune import prune
from pipelines.lake.ingest import ingest
from pipelines.nights.night import run_span
from pipelines.nights.plan import due
from pipelines.sequences import beam_job as beam_sequences
from pipelines.sequences.bucket import build_bucket
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing

SPANS = 200
#: Spans after which everything that is loaded once has been loaded.
WARM = 50
USERS, ITEMS = 30, 60
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
TOML = """
[spans]
unit = "day"
pretrain = 1
[ingest]
buckets = 2
[model]
dim = 8
initial_interests = 2
max_interests = 4
history = 10
[training]
base_epochs = 1
epochs = 1
negatives = 10
targets_per_user = 3
[gate]
enabled = false
[retention]
keep_versions = 5
"""


def land(workspace: Workspace, day: int) -> Path:
    """One day of events of the same users."""
    chance = random.Random(day)
    lines = ["user_id,item_id,timestamp"]
    for user in range(USERS):
        for _ in range(3):
            at = FIRST + timedelta(days=day, seconds=chance.randrange(86_400))
            lines.append(f"u{user},i{chance.randrange(ITEMS)},{at.isoformat()}")
    path = workspace.root.parent / "day.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def live(root: str, spans: int, every: int, out: str) -> None:
    """In a child: one night after the other; write down what it costs."""
    pa.set_cpu_count(1)  # pools that begin a thread when they first need one more would look like a leak
    pa.set_io_thread_count(1)
    beam_sequences.run_bucket_tasks = lambda tasks, options: [build_bucket(task) for task in tasks]
    workspace, costs = Workspace.open(root), []
    for day in range(spans):
        now = FIRST + timedelta(days=day + 1, hours=2)
        ingest(workspace, [land(workspace, day)], now=now)
        with writing(workspace, "night", now=now) as writer:
            for run in due(workspace, now=now):
                run_span(writer, run)
            if day % every == every - 1:
                prune(workspace, now=now, writer=writer)
                costs.append(_costs(workspace))
    Path(out).write_text(json.dumps(costs))


def _costs(workspace: Workspace) -> dict[str, int]:
    sizes = {
        name: sum(path.stat().st_size for path in (workspace.root / name).rglob("*") if path.is_file())
        for name in ("lake", "sequences", "versions", "catalog", "staging")
    }
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return sizes | {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


@pytest.mark.slow
def test_two_hundred_spans(done, tmp_path):
    workspace = Workspace.create(tmp_path / "workspace", TOML)
    every = 10
    out = tmp_path / "costs.json"
    ended = call(tmp_path / "log", live, str(workspace.root), SPANS, every, str(out)).wait(seconds=3600)
    assert ended.code == 0, ended.said
    costs = json.loads(out.read_text())
    warm, last = costs[WARM // every - 1], costs[-1]
    print(f"after {WARM} spans {warm}, after {SPANS} {last}")
    assert last["files"] <= warm["files"]
    assert last["threads"] <= warm["threads"]
    assert last["memory"] < 1.25 * warm["memory"]
    assert last["staging"] == 0
    assert last["versions"] < 3 * warm["versions"]  # a kept version, and the chain of interests it reads
    per_span = {name: (last[name] - warm[name]) / (SPANS - WARM) for name in ("lake", "sequences", "catalog")}
    first_ten = {name: costs[0][name] / every for name in per_span}
    assert per_span["lake"] < 1.5 * first_ten["lake"]  # the log itself, and no more
    assert per_span["sequences"] < 1.5 * first_ten["sequences"]
    with workspace.ledger.snapshot() as view:
        assert {str(row.state) for row in view.spans()} == {"published"}
        assert len(view.spans()) == SPANS
    require_clean(workspace)
    done["spans in one process"] += SPANS
    shutil.rmtree(workspace.root)
