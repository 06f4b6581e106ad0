"""What a span costs: processor, memory and bytes of `imsr run`, for spans and workspaces of any size. All generated.

    python tests/benchmarks/benchmark_span_costs.py                                      # about an hour
    python tests/benchmarks/benchmark_span_costs.py --users 10000 --events 10 1000       # a few minutes

Each workspace is made by `generated_workspace`, with eight events (--each) and four interests a user and one item for
seven users, and learns one day after the other, each of so many events. Processor seconds are those of the process, its
start and its imports among them (the line "nothing due" is little else); memory is its peak; bytes are those of all
files that are new or were changed. The last line of a workspace is a query over the counts of all versions.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import generated_workspace as generated
from command_costs import cost_of

COUNTS = "SELECT span_id, avg(interests) FROM interest_counts GROUP BY ALL"
USERS, EVENTS = (10_000, 100_000, 1_000_000), (10, 100, 1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Cost:
    """Of one command: processor seconds, peak memory and bytes written."""

    seconds: float
    peak: int
    written: int


def measured(workspace: Path, *arguments: object) -> Cost:
    """The cost of one `imsr` command."""
    before = sizes(workspace)
    code = "import sys; sys.argv[0] = 'imsr'; from flows.cli import main; main()"
    environment = generated.AS_INSTALLED | {"PYTHONPATH": str(generated.ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    seconds, peak = cost_of(command, environment)
    after = sizes(workspace)
    written = sum(size for path, (size, at) in after.items() if before.get(path) != (size, at))
    return Cost(seconds, peak, written)


def sizes(root: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of change of each file."""
    found = {path: path.stat() for path in root.rglob("*") if path.is_file()}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def row(users: int, what: str, cost: Cost) -> str:
    """One row of the table."""
    return f"| {users:,} | {what} | {cost.seconds:.1f} | {cost.peak / 1e6:,.0f} | {cost.written / 1e6:,.2f} |"


def of_workspace(root: Path, users: int, events: list[int], score: bool, each: int = 8) -> None:
    """Print the rows of one workspace."""
    items = max(users // 7, generated.GROUPS)
    costs = list[Cost]()
    generated.make(
        root,
        users,
        items,
        each * users,
        score=score,
        pretrain=lambda made: costs.append(measured(made, "run", "-w", made)),
    )
    print(row(users, f"pre-training, {each * users:,}", costs[0]), flush=True)
    workspace = root / "workspace"
    settings = workspace / "imsr.toml"
    text = settings.read_text(encoding="utf-8").replace("[report]\nnightly = true", "[report]\nnightly = false")
    settings.write_text(text, encoding="utf-8")
    print(row(users, "nothing due", measured(workspace, "run", "-w", workspace)), flush=True)
    for number, count in enumerate(events):
        path = root / "night.parquet"
        active = max(1, min(users, count // 3))
        generated.write_span(path, generated.BASE_DAYS + number, 1, users, items, count, active=active)
        generated.run("ingest", path, "-w", workspace)
        print(row(users, f"{count:,}", measured(workspace, "run", "-w", workspace)), flush=True)
    print(row(users, "SQL: interest_counts by span", measured(workspace, "sql", COUNTS, "-w", workspace)), flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=USERS)
    parser.add_argument("--events", type=int, nargs="+", default=EVENTS)
    parser.add_argument("--no-score", action="store_true")
    parser.add_argument("--each", type=int, default=8, help="events of a user in the pre-training")
    asked = parser.parse_args()
    print("| users | events of the span | processor s | peak MB | written MB |\n|---:|---:|---:|---:|---:|", flush=True)
    for users in asked.users:
        with tempfile.TemporaryDirectory() as folder:
            of_workspace(Path(folder) / "generated", users, list(asked.events), not asked.no_score, asked.each)


if __name__ == "__main__":
    main()
