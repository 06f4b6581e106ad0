"""What nights cost in a large workspace, step by step: as commands, and in a process that goes on. All generated.

    python tests/benchmarks/benchmark_night.py                              # 322,000 users; some ten minutes
    python tests/benchmarks/benchmark_night.py --users 3000 --items 500 --base 9000 --nights 23:8 900:300

The workspace is made by `generated_workspace` with the settings that `imsr init` writes, without [score] (--score:
with it). A night is EVENTS:USERS. "command" is `imsr run`, start and imports and all; "goes on" is a night
of as many events in a process that has learnt one before, as in `imsr stream` and `imsr serve`. (The first night after
the pre-training, which hashes the base model's files, is not among them.) Processor
seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import benchmark_span_costs as costs
import generated_workspace as generated

STEPS = ("sequences", "evaluate", "train", "gate", "publish", "matrix")


def version_bytes(workspace: Path) -> int:
    """Size of the newest version's files."""
    newest = max((workspace / "versions").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    return sum(path.stat().st_size for path in newest.iterdir())


def steps_of(workspace: Path, nights: int) -> list[dict[str, float]]:
    """Processor seconds of each step of so many nights, learnt in this process one after the other."""
    from pipelines.nights.night import run_span
    from pipelines.nights.plan import due
    from pipelines.workspace.layout import Workspace
    from pipelines.workspace.writer import writing

    opened, now, found = Workspace.open(workspace), datetime.now(UTC), []
    with writing(opened, "benchmark", now=lambda: now) as writer:
        for run in due(opened, now=now)[:nights]:
            spent: dict[str, float] = {}

            def call(step: str, function: Any, *arguments: Any, spent: dict[str, float] = spent) -> Any:
                begun = time.process_time()
                try:
                    return function(*arguments)
                finally:
                    spent[step] = time.process_time() - begun

            begun = time.process_time()
            run_span(writer, run, call=call)
            found.append(spent | {"all": time.process_time() - begun})
    return found


def in_one_process(workspace: Path, nights: int) -> list[dict[str, float]]:
    """`steps_of` in a process of its own."""
    code = "import benchmark_night, json; from pathlib import Path; print(json.dumps(benchmark_night.steps_of("
    code += f"Path({str(workspace)!r}), {nights})))"
    paths = f"{generated.ROOT}:{Path(__file__).parent}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**generated.AS_INSTALLED, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def arrive(workspace: Path, day: int, users: int, items: int, events: int, active: int) -> None:
    """A day of events, ingested."""
    path = workspace.parent / "night.parquet"
    generated.write_span(path, day, 1, users, items, events, active=active)
    generated.run("ingest", path, "-w", workspace)


def without_report(workspace: Path) -> None:
    """Nights of this workspace write no report."""
    settings = workspace / "imsr.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("[report]\nnightly = true", "[report]\nnightly = false"), encoding="utf-8")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=322_000)
    parser.add_argument("--items", type=int, default=46_000)
    parser.add_argument("--base", type=int, default=2_700_000, help="events of the pre-training")
    parser.add_argument("--nights", nargs="*", default=["23:8", "92000:30000"], help="EVENTS:USERS of each, if any")
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--dim", type=int, default=128, help="numbers of a vector")
    parser.add_argument("--members", type=int, default=2, help="models that learn side by side")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, base = Path(folder) / "generated", list[costs.Cost]()

        def pretrain(workspace: Path) -> None:
            without_report(workspace)
            base.append(costs.measured(workspace, "run", "-w", workspace))

        learnt = {"score": asked.score, "dim": asked.dim, "members": asked.members}
        generated.make(root, asked.users, asked.items, asked.base, **learnt, pretrain=pretrain)
        workspace, day = root / "workspace", generated.BASE_DAYS
        what = f"pre-training on {asked.base:,} events of {asked.users:,} users, one pass with a target a user"
        print(f"{what}: {base[0].seconds:.0f} s, peak {base[0].peak / 1e6:,.0f} MB\n")
        print("| events | users | command s | peak MB | version MB | goes on: s | " + " | ".join(STEPS) + " |")
        print("|" + "---:|" * (6 + len(STEPS)), flush=True)
        for night in asked.nights:
            events, active = map(int, night.split(":"))
            sizes = (asked.users, asked.items, events, active)
            arrive(workspace, day, *sizes)
            arrive(workspace, day + 1, *sizes)
            steps = in_one_process(workspace, 2)[-1]
            arrive(workspace, day + 2, *sizes)
            day += 3
            cost = costs.measured(workspace, "run", "-w", workspace)
            size = version_bytes(workspace) / 1e6
            shown = " | ".join(f"{steps.get(step, 0.0):.2f}" for step in ("all", *STEPS))
            own = f"{events:,} | {active:,} | {cost.seconds:.1f} | {cost.peak / 1e6:,.0f} | {size:.2f}"
            print(f"| {own} | {shown} |", flush=True)
        asked_for = costs.measured(workspace, "recommend", "-w", workspace, "--user", "user-1")
        print(f"\nrecommend --user: {asked_for.seconds:.1f} s, peak {asked_for.peak / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
