"""Sequences: the Beam job against one DuckDB query that gives the same rows, medians of processor seconds.

    python tests/benchmarks/benchmark_sequences.py                        # a generated log of 1,000,000 events
    python tests/benchmarks/benchmark_sequences.py log.parquet --repeat 3 # any Parquet log that imsr can ingest

The log is ingested once, as one span. Then each side runs from the span's lake files to written Parquet: new
ids are numbered, events are grouped by user in the order of time, and cut to the most recent. Every run's
rows are compared, so a figure can only come from equal results. Both sides get the same cores: --cores. With workers
in other processes (--mode multi_processing) the seconds are those of the clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipelines.lake.ingest import ingest
from pipelines.sequences.beam_runner import RunnerOptions, import_beam
from pipelines.sequences.build import build_sequences
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.workspace.layout import Workspace

QUERY = """
    COPY (
        WITH lake AS (SELECT * FROM read_parquet($files, hive_partitioning = false)),
        new_users AS (
            SELECT user_id, row_number() OVER (ORDER BY first, user_id) - 1 AS user_index FROM (
                SELECT user_id, min(epoch_us(timestamp)::HUGEINT * 18446744073709551616 + tie) AS first
                FROM lake GROUP BY user_id)),
        new_items AS (
            SELECT item_id, row_number() OVER (ORDER BY first, item_id) - 1 AS item_index FROM (
                SELECT item_id, min(epoch_us(timestamp)::HUGEINT * 18446744073709551616 + tie) AS first
                FROM lake GROUP BY item_id)),
        lists AS (
            SELECT user_index, list_sort(list({{t: epoch_us(timestamp), tie: tie, i: item_index}})) AS events
            FROM lake JOIN new_users USING (user_id) JOIN new_items USING (item_id) GROUP BY user_index)
        SELECT user_index,
               [e.i FOR e IN events[-{limit}:]] AS items,
               [e.t FOR e IN events[-{limit}:]] AS timestamps,
               greatest(len(events) - {limit}, 0) AS truncated
        FROM lists ORDER BY user_index
    ) TO '{out}' (FORMAT parquet, COMPRESSION zstd)
"""


def generate(path: Path, events: int) -> None:
    """A log of Zipf-like items and log-normally active users over thirty days."""
    rng = np.random.default_rng(0)
    activity = rng.lognormal(0, 1, max(events // 20, 1))
    users = rng.choice(len(activity), events, p=activity / activity.sum())
    items = np.minimum(rng.zipf(1.2, events), max(events // 50, 1))
    seconds = 1_700_000_000 + rng.integers(0, 30 * 86_400, events)
    names = {"user_id": [f"u{u}" for u in users], "item_id": [f"i{i}" for i in items]}
    pq.write_table(pa.table({**names, "timestamp": pa.array(seconds * 10**6, pa.timestamp("us", "UTC"))}), path)


def ingest_as_one_span(log: Path, root: Path, source: str) -> list[Path]:
    """The lake files of a workspace whose single span holds (almost) the whole log."""
    workspace = Workspace.create(root, f'[spans]\nunit = "cut"\nalpha = 0.999999\ncount = 1\n[source]\n{source}')
    started = time.perf_counter()
    report = ingest(workspace, [log], now=datetime.now(UTC))
    print(f"ingested {report.kept:,} of {report.read:,} rows in {time.perf_counter() - started:.1f} s")
    with workspace.ledger.snapshot() as view:
        (folder, *_) = [workspace.resolve(row.path) for row in view.current_span_versions()]
    return sorted(folder.glob("bucket=*.parquet"))


def run_beam(files: list[Path], out: Path, limit: int, options: RunnerOptions) -> list[Path]:
    """The job of this project."""
    out.mkdir()
    build_sequences(
        span_files=files, vocabulary=Vocabulary.open([]), out=out, max_events_per_user=limit, options=options
    )
    return sorted(out.glob("bucket=*.parquet"))


def run_duckdb(files: list[Path], out: Path, limit: int, threads: int) -> list[Path]:
    """The same in SQL."""
    out.mkdir()
    target = out / "sequences.parquet"
    with duckdb.connect(config={"threads": threads}) as connection:
        query = QUERY.format(limit=limit, out=str(target).replace("'", "''"))
        connection.execute(query, {"files": [str(file) for file in files]})
    return [target]


def rows_of(files: list[Path]) -> pa.Table:
    """All rows by user, in one form for comparing."""
    tables = [pq.ParquetFile(file).read() for file in files]
    names = ["user_index", "items", "timestamps", "truncated"]
    lists = pa.list_(pa.int64())
    schema = pa.schema(list(zip(names, [pa.int64(), lists, lists, pa.int64()], strict=True)))
    merged = pa.concat_tables([table.select(names).cast(schema) for table in tables])
    return merged.sort_by("user_index").combine_chunks()


def measure(
    name: str,
    events: int,
    repeat: int,
    run: Callable[[Path], list[Path]],
    folder: Path,
    clock: Callable[[], float],
) -> tuple:
    """(median seconds, rows) of one side; every run must give the same rows."""
    seconds, rows = [], None
    for number in range(repeat):
        started = clock()
        files = run(folder / f"{name}-{number}".replace(" ", "-"))
        seconds.append(clock() - started)
        again = rows_of(files)
        assert rows is None or rows.equals(again), f"{name}: two runs differ"
        rows = again
    median = statistics.median(seconds)
    spread = f"{repeat} runs: {min(seconds):.2f} .. {max(seconds):.2f} s"
    print(f"{name:34s} {median:7.2f} s  {events / median:12,.0f} events/s   ({spread})")
    return median, rows


def main() -> None:
    """Run both sides and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, nargs="?", help="Parquet log; generated without it")
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the generated log")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--max-events-per-user", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=1, help="cores of the process: DuckDB's threads, Beam's workers")
    parser.add_argument("--mode", choices=["in_memory", "multi_threading", "multi_processing"], default="in_memory")
    parser.add_argument("--source", default="", help="lines of the [source] section, if columns have other names")
    arguments = parser.parse_args()
    import_beam()  # its import is not part of the figure
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    workers = 1 if arguments.mode == "in_memory" else arguments.cores
    options = RunnerOptions(mode=arguments.mode, workers=workers)
    clock = time.perf_counter if arguments.mode == "multi_processing" else time.process_time
    limit = arguments.max_events_per_user
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = arguments.log or folder / "generated.parquet"
        if arguments.log is None:
            generate(log, arguments.events)
        files = ingest_as_one_span(log, folder / "workspace", arguments.source)
        events = sum(pq.read_metadata(file).num_rows for file in files)
        print(f"one span of {events:,} events in {len(files)} buckets, at most {limit:,} events a user")
        beam_name = f"Beam, {arguments.mode}, {workers} worker(s)"
        beam, ours = measure(
            beam_name, events, arguments.repeat, lambda out: run_beam(files, out, limit, options), folder, clock
        )
        sql, theirs = measure(
            f"DuckDB, {arguments.cores} thread(s)",
            events,
            arguments.repeat,
            lambda out: run_duckdb(files, out, limit, arguments.cores),
            folder,
            clock,
        )
    if not ours.equals(theirs):
        raise SystemExit("the results differ")
    print(f"the same {ours.num_rows:,} rows; Beam has {sql / beam:.2f} times the speed of the query")


if __name__ == "__main__":
    main()
