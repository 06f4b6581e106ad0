"""What a query over counts of interests costs: made-up ones of many users and versions, through the views as they are.

    python tests/benchmarks/benchmark_counts.py --users 322000 --versions 8 385

The first version has everybody's counts, each later one those of the users of its span. Processor seconds and peak
memory of a process that asks; DuckDB uses as many threads as the machine has.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
VIEWS = ("interest_count_history", "interest_counts_as_of", "interest_count_stretches", "interest_counts")
VIEWS = (*VIEWS, "interest_histogram")
#: What people ask, where `{span}` is the newest one.
QUESTIONS = {
    "`interest_counts`, the mean of each span": "SELECT span_id, avg(interests) FROM interest_counts GROUP BY ALL",
    "the same by `interest_histogram`": (
        "SELECT span_id, sum(interests * users) / sum(users) FROM interest_histogram GROUP BY ALL"
    ),
    "`interest_histogram`, all of it": "FROM interest_histogram",
    "`interest_counts` of one span": "SELECT count(*), avg(interests) FROM interest_counts WHERE span_id = '{span}'",
    "the same by `interest_counts_as_of`": "SELECT count(*), avg(interests) FROM interest_counts_as_of('{span}.1')",
    "`interest_counts` of one user": "FROM interest_counts WHERE user_id = 'user-5000'",
    "the same by `interest_count_history`": "FROM interest_count_history WHERE user_id = 'user-5000'",
}


def names(versions: int) -> list[tuple[str, str]]:
    """Version and span of each, hour by hour."""
    start = datetime(2024, 3, 1, tzinfo=UTC)
    spans = [(start + timedelta(hours=n)).strftime("%Y-%m-%dT%H") for n in range(versions)]
    return [(f"{span}.1", span) for span in spans]


def write(folder: Path, users: int, versions: int, active: int) -> None:
    """The files of counts, and the chain of versions."""
    for place, (version, span) in enumerate(names(versions)):
        rng = np.random.default_rng(place)
        own = np.arange(users) if not place else np.sort(rng.choice(users, active, replace=False))
        interests = 4 + rng.poisson(place / versions, len(own))
        table = {
            "version_id": pa.array([version]).take(pa.array(np.zeros(len(own), dtype=np.int64))),
            "span_id": pa.array([span]).take(pa.array(np.zeros(len(own), dtype=np.int64))),
            "user_id": pa.array(np.char.add("user-", own.astype(str))),
            "user_index": own,
            "interests": interests,
            "distinct_interests": interests,
            "born": rng.integers(0, 2, len(own)),
            "active": np.ones(len(own), dtype=bool),
        }
        pq.write_table(pa.table(table), folder / f"counts-{place:04}.parquet")
    chain = names(versions)
    lineage = [(version, span, place) for place, (version, span) in enumerate(chain)]
    pairs = [(chain[a][0], chain[b][0], a - b) for a in range(versions) for b in range(a + 1)]
    for name, rows, columns in (
        ("lineage", lineage, ("version_id", "span_id", "place")),
        ("version_chain", pairs, ("version_id", "ancestor", "depth")),
    ):
        pq.write_table(pa.table(dict(zip(columns, zip(*rows, strict=True), strict=True))), folder / f"{name}.parquet")


def views(folder: Path) -> str:
    """The views of counts as views.sql has them, over these files."""
    text = (ROOT / "pipelines/warehouse/views.sql").read_text(encoding="utf-8")
    found = [re.search(rf"^CREATE OR REPLACE (VIEW|MACRO) {name}\b.*?;$", text, re.M | re.S) for name in VIEWS]
    nothing = (
        "(SELECT NULL::VARCHAR version_id, NULL::VARCHAR span_id, NULL::VARCHAR user_id, NULL::BIGINT user_index, "
    )
    nothing += "NULL::VARCHAR born_span, NULL::FLOAT overlap WHERE false)"
    sources = {name: f"read_parquet('{folder}/{name}.parquet')" for name in ("lineage", "version_chain")}
    sources |= {"counts": f"read_parquet('{folder}/counts-*.parquet')", "twin": "0.9"}
    sources |= {"uncounted": nothing, "uncounted_changes": nothing}
    own = "\n".join(Template(each[0]).substitute(sources) for each in found if each)
    return f"CREATE VIEW version_chain AS FROM {sources['version_chain']};\n{own}"


def asked(folder: Path, query: str) -> None:
    """Ask, and print processor seconds, seconds of the clock, and peak MB."""
    with duckdb.connect() as connection:
        connection.execute(views(folder))
        before, begun = time.process_time(), time.perf_counter()
        connection.execute(query).fetchall()
        spent, clock = time.process_time() - before, time.perf_counter() - begun
    print(f"{spent:.1f} | {clock:.1f} | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=322_000)
    parser.add_argument("--versions", type=int, nargs="+", default=(8, 385))
    parser.add_argument("--active", type=int, default=8_000, help="users of a span")
    parser.add_argument("--ask", nargs=2, metavar=("FOLDER", "QUERY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        asked(Path(given.ask[0]), given.ask[1])
        return
    print("| versions | rows of counts | query | processor s | clock s | peak MB |\n|---:|---:|---|---:|---:|---:|")
    for versions in given.versions:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), given.users, versions, given.active)
            rows = given.users + (versions - 1) * given.active
            last = names(versions)[-1][1]
            for what, query in QUESTIONS.items():
                command = [sys.executable, __file__, "--ask", folder, query.format(span=last)]
                done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
                print(f"| {versions} | {rows:,} | {what} | {done} |", flush=True)


if __name__ == "__main__":
    main()
