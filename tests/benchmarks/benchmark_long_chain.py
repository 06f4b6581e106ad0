"""What the spans before it cost a night: a chain of many small spans of few users, in one process.

    python tests/benchmarks/benchmark_long_chain.py --spans 120

The log is made up, and every span alike, so that what grows is what a night looks at of each span before it: files of
ids and of sequences, manifests, rows of the ledger, names in the views. Processor seconds, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from generated_workspace import TOML, write_span

from flows.holding import holding
from pipelines.lake.ingest import ingest
from pipelines.nights.night import run_span
from pipelines.nights.plan import due
from pipelines.workspace.layout import Workspace

#: Spans that are pre-trained on, and nights whose median is one figure.
BASE_DAYS, NIGHTS = 3, 10


def workspace_of(folder: Path, spans: int, users: int, items: int, events: int) -> Workspace:
    """A workspace of day spans, ingested."""
    workspace = Workspace.create(folder, TOML.format(days=BASE_DAYS, targets=1, score="false", dim=128, members=2))
    log = folder / "landing" / "log.parquet"
    write_span(log, 0, spans, users, items, events * spans)
    ingest(workspace, [log], now=datetime.now(UTC))
    return workspace


def nights(workspace: Workspace) -> list[float]:
    """Processor seconds of each night."""
    now, spent = datetime.now(UTC), []
    with holding(workspace, "benchmark", now=now) as writer:
        for run in due(workspace, now=now):
            before = time.process_time()
            run_span(writer, run)
            spent.append(time.process_time() - before)
    return spent[1:]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=120)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--events", type=int, default=23, help="of a span")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = workspace_of(Path(folder) / "w", given.spans, given.users, given.items, given.events)
        spent = nights(workspace)
    print("| spans before | a night, s |\n|---:|---:|")
    for first in range(0, len(spent) - NIGHTS + 1, NIGHTS):
        print(f"| {BASE_DAYS + first} | {statistics.median(spent[first : first + NIGHTS]):.2f} |")


if __name__ == "__main__":
    main()
