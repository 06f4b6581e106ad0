"""What the score costs: its share of an update's processor time, and a list of the best items with and without it.

    imsr bench EVENTS... --data imsr.toml --out bench/mine --strategies imsr --seeds 1     # keeps the versions
    python tests/benchmarks/benchmark_score.py --data imsr.toml --out bench/mine [--out bench/other ...]

*Terms and fit* is everything that an update does for the score: it asks the events of the span for weights, counts
them, and moves the factors. *Lists* are the best 20 of the whole catalogue for users of the next span, by the interests
with the trend of before there was a score, and by all terms: 400 users at once (seconds), and one after the other
(milliseconds a user). Each figure is the least of some repetitions, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from imsr_core.score.pairs import IntArray
from imsr_core.score.serving import Scorer
from imsr_core.state import ModelState
from imsr_core.strategies.imsr import imsr, scores_after
from pipelines.bench.cells import Cell, CellFiles
from pipelines.bench.data import BenchData, BenchError, load_bench_data
from pipelines.bench.grid import Grid
from pipelines.bench.log import open_log
from pipelines.bench.variants import variants_named
from pipelines.settings.imsr_toml import load_settings

USERS, ALONE, LIST = 400, 50, 20
HEADER = """\
| log | update, s | terms and fit, s | share | lists of {users}, s: before | all terms | ratio | one user, ms: before \
| all terms | ratio |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


@dataclass(frozen=True)
class Costs:
    """Processor seconds of one log."""

    update: float
    score: float
    lists: tuple[float, float]
    one: tuple[float, float]

    def row(self, log: str) -> str:
        """A line of the table."""
        lists = f"{self.lists[0]:.3f} | {self.lists[1]:.3f} | {self.lists[1] / self.lists[0]:.2f}"
        one = f"{1000 * self.one[0]:.2f} | {1000 * self.one[1]:.2f} | {self.one[1] / self.one[0]:.2f}"
        return f"| {log} | {self.update:.2f} | {self.score:.2f} | {self.score / self.update:.1%} | {lists} | {one} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, type=Path, help="an imsr.toml for the event files")
    parser.add_argument("--out", action="append", required=True, type=Path, help="the folder of `imsr bench`")
    parser.add_argument("--span", type=int, default=3, help="the update that is measured; lists are of the next span")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of each measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(HEADER.format(users=USERS))
    for settings, out in zip(options.data, options.out, strict=True):
        now = datetime.now(UTC)
        workspace, _ = open_log(settings, [], out, now=now)
        data = load_bench_data(workspace, workspace.settings.bench, now=now)
        config = load_settings(settings).interests
        grid = Grid(data, config, tuple(variants_named(["imsr"])), (config.model.extractor,), (0,), LIST)
        before = last_version(grid.cells()[0], data, CellFiles(out), options.span)
        print(measured(before, data, options.span, options.repeat).row(out.name), flush=True)


def last_version(cell: Cell, data: BenchData, files: CellFiles, spans: int) -> ModelState:
    """The version that has learnt ``spans`` spans, with its score."""

    def missing() -> NoReturn:
        raise BenchError(
            f"{files.root} keeps no version of {cell.name}", hint="run `imsr bench` with --strategies imsr"
        )

    before = ModelState.initial(cell.config, data.span_length)
    for number, span in enumerate(data.spans[:spans]):
        state, _ = files.version(cell, number, missing) if number else files.base(cell, missing)
        state.score = scores_after(before, span.learnt, None, span.n_items)[0]
        before = state
    return before


def measured(before: ModelState, data: BenchData, number: int, repeat: int) -> Costs:
    """An update of ``before`` with a span, and lists for the users of that span."""
    span = data.spans[number]
    update = least(lambda: imsr(before, span.learnt, span.n_items), repeat)
    score = least(lambda: scores_after(before, span.learnt, None, span.n_items), repeat)
    plain, whole = replace(before, score=None).scorer("everything"), before.scorer("everything")
    users = span.sequences.users[:USERS]
    lists = [least(partial(scorer.best, users, LIST), 2 * repeat) for scorer in (plain, whole)]
    one = [least(partial(one_by_one, scorer, users[:ALONE]), 2 * repeat) / ALONE for scorer in (plain, whole)]
    return Costs(update, score, (lists[0], lists[1]), (one[0], one[1]))


def one_by_one(scorer: Scorer, users: IntArray) -> None:
    """The lists of ``users`` (B,), each on its own."""
    for user in users:
        scorer.best(np.array([user]), LIST)


def least(act: Callable[[], object], repeat: int) -> float:
    """Processor seconds of ``act``, the least of ``repeat`` times."""
    seconds = []
    for _ in range(repeat):
        started = time.process_time()
        act()
        seconds.append(time.process_time() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
