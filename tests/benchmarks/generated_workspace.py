"""A generated workspace of any size, learnt in a hurry, to measure what a night costs in it.

    python tests/benchmarks/generated_workspace.py OUT --users 322000 --items 46000 --events 2700000

The log is made up: who is active and what is popular follow power laws, each user likes one of a few groups of items,
days are spans. The first days are pre-training, one pass with a target a user: the model is a poor one, and as large
as a good one. Spans after it are written with `write_span`, and have as many events as one wants.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2024, 3, 1, tzinfo=UTC)
#: The environment without what would keep Python from writing bytecode: an installed package has it.
AS_INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
#: Days that are pre-trained on together, groups of items that users like, and what share of a user's events they are.
BASE_DAYS, GROUPS, LOYALTY = 3, 50, 0.7

TOML = """
[spans]
unit = "day"
pretrain = {days}
[training]
base_epochs = 1
targets_per_user = {targets}
patience = 0
[model]
dim = {dim}
members = {members}
[score]
enabled = {score}
[ingest]
max_clock_skew = "1000w"
"""


def write_span(path: Path, first_day: int, days: int, users: int, items: int, events: int, *, active: int = 0) -> None:
    """A log of ``events`` events over ``days`` days. Everybody of ``users`` is in it at least once if there are enough
    events; with ``active`` it is of that many of them only."""
    rng = np.random.default_rng([first_day, events])
    people = rng.choice(users, active, replace=False) if active else np.arange(users)
    each = people[: min(len(people), events)]
    more = people[(len(people) * rng.random(events - len(each)) ** 2).astype(np.int64)]
    owner = np.concatenate([each, more])
    size = items // GROUPS
    rank = (size * rng.random(events) ** 2.5).astype(np.int64)
    group = np.where(rng.random(events) < LOYALTY, owner % GROUPS, rng.integers(GROUPS, size=events))
    begin = int((START + timedelta(days=first_day)).timestamp() * 1e6)
    times = np.sort(rng.integers(begin, begin + days * 86_400_000_000, size=events))
    item = group * size + rank
    columns = {
        f"{kind}_id": pa.array(np.char.add(f"{kind}-", number.astype(str)))
        for kind, number in (("user", owner), ("item", item))
    }
    pq.write_table(pa.table(columns | {"timestamp": pa.array(times, pa.timestamp("us", "UTC"))}), path)


def run(*arguments: object) -> str:
    """One `imsr` command of this checkout, as somebody would type it; what it printed."""
    code = "import sys; sys.argv[0] = 'imsr'; from flows.cli import main; main()"
    environment = AS_INSTALLED | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"imsr {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done.stdout


def learn(workspace: Path) -> None:
    """Learn what is due."""
    run("run", "-w", workspace)


def make(
    root: Path,
    users: int,
    items: int,
    events: int,
    *,
    targets: int = 1,
    score: bool = True,
    dim: int = 128,
    members: int = 2,
    pretrain: Callable[[Path], object] = learn,
) -> None:
    """A workspace with a base model of that many users, each with some events, at ``root``, which must not exist.
    ``pretrain`` runs the first `imsr run`."""
    root.mkdir(parents=True)
    settings, log = root / "settings.toml", root / "base.parquet"
    learnt = {"days": BASE_DAYS, "targets": targets, "score": str(score).lower(), "dim": dim, "members": members}
    settings.write_text(TOML.format(**learnt), encoding="utf-8")
    write_span(log, 0, BASE_DAYS, users, items, events)
    workspace = root / "workspace"
    run("init", workspace, "--settings", settings)
    run("ingest", log, "-w", workspace)
    pretrain(workspace)
    log.unlink()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make; the workspace is in it")
    parser.add_argument("--users", type=int, default=322_000)
    parser.add_argument("--items", type=int, default=46_000)
    parser.add_argument("--events", type=int, default=2_700_000)
    parser.add_argument("--no-score", action="store_true", help="without [score], as workspaces that know none")
    parser.add_argument("--replace", action="store_true", help="remove what is there")
    asked = parser.parse_args()
    if asked.replace:
        shutil.rmtree(asked.out, ignore_errors=True)
    make(asked.out, asked.users, asked.items, asked.events, score=not asked.no_score)


if __name__ == "__main__":
    main()
