"""Several benches in one table: what a user would pick instead, log by log, as in README.md and docs/bench.md.

    python tests/benchmarks/logs_table.py bench/completejourney bench/online_retail ...

Reads the `picks.parquet` that `imsr bench` writes. The best rival of a table is bold: the best of all lines that are no
model of ours. A gain is imsr's, as it serves, over that line, with its 95 % interval over users.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

Row = dict[str, Any]
TABLES = {"everything": "Everything may be shown", "discover": "Only what is new to the user"}


def main() -> None:
    """Print both tables, and the short one of the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    logs = {folder.name: pq.read_table(folder / "picks.parquet").to_pylist() for folder in folders}
    for table, title in TABLES.items():
        print(f"**{title}**: HR@20 / NDCG@20 in per cent, and imsr's gain over it\n")
        print(scores_table({log: [row for row in rows if row["table"] == table] for log, rows in logs.items()}))
    print(short_table(logs))


def scores_table(logs: dict[str, list[Row]]) -> str:
    """One line a variant, one column a log."""
    names = list(dict.fromkeys(row["variant"] for rows in logs.values() for row in rows))
    lines = [["", *logs], ["---", *["--:"] * len(logs)]]
    for name in names:
        cells = [_cell(next((row for row in rows if row["variant"] == name), None)) for rows in logs.values()]
        lines.append([name, *cells])
    return _markdown(lines)


def short_table(logs: dict[str, list[Row]]) -> str:
    """One line a log and table: imsr, the best rival, the counters alone, retraining, and the gains over them."""
    lines = [
        ["log", "table", "imsr", "best rival", "imsr over it", "over the counters alone", "over full_retrain", "seeds"],
        ["---", "---", "--:", "--:", "--:", "--:", "--:", "--:"],
    ]
    for log, rows in logs.items():
        for table in TABLES:
            found = {row["variant"]: row for row in rows if row["table"] == table}
            best = next((row for row in found.values() if row["best_rival"]), None)
            gains = [_gain(found.get(name)) for name in ("counters", "full_retrain")]
            seeds = str(found["imsr"]["seeds"]) if "imsr" in found else "-"
            rival = f"{best['variant']} {_score(best)}" if best else "-"
            lines.append([log, table, _score(found.get("imsr")), rival, _gain(best), *gains, seeds])
    kept = [column for column in zip(*lines, strict=True) if set(column[2:]) != {"-"}]
    return _markdown(list(zip(*kept, strict=True)))


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    mark = "**" if row["best_rival"] else ""
    gain = _gain(row)
    return f"{mark}{_score(row)}{mark}" + (f"<br>{gain}" if gain != "-" else "")


def _score(row: Row | None) -> str:
    return "-" if row is None else f"{100 * row['hr']:.2f} / {100 * row['ndcg']:.2f}"


def _gain(row: Row | None) -> str:
    if row is None or np.isnan(row["gain_mean"]):
        return "-"
    mean, low, high = (100 * row[f"gain_{name}"] for name in ("mean", "low", "high"))
    return f"{mean:+.1f}% ({low:+.1f} .. {high:+.1f})"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
