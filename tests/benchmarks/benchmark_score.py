"""What the score costs: its share of an update's processor time, and a list of the best items with and without it.

    imsr bench EVENTS... --data imsr.toml --out bench/mine --strategies imsr --seeds 1     # keeps the versions
    python tests/benchmarks/benchmark_score.py --data imsr.toml --out bench/mine [--out bench/other ...]

*Update* is that of `imsr`, *fine_tune* the same without its modules. *Terms and fit* is everything that an update does
for the score: it asks the events of the span for weights, counts them, and moves the factors. *Lists* are the best 20
of the whole catalogue for users of the next span: *before*, by the interests with the trend as it was done before there
was a score (`as_it_was`), *plain*, by the same two as it is done now, and by all terms; 400 users at once (seconds),
and one after the other (milliseconds a user). Each figure is the least of some repetitions, in turns, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from imsr_core.interests import InterestStore
from imsr_core.retrieval import CHUNK_SCORES, FEWEST_USERS, padded_interests
from imsr_core.score.pairs import IntArray
from imsr_core.state import ModelState
from imsr_core.strategies import learn
from imsr_core.strategies.fine_tune import fine_tune
from imsr_core.strategies.imsr import imsr, scores_after
from pipelines.bench.cells import Cell, CellFiles
from pipelines.bench.data import BenchData, BenchError, load_bench_data
from pipelines.bench.grid import Grid
from pipelines.bench.log import open_log
from pipelines.bench.variants import variants_named
from pipelines.settings.imsr_toml import load_settings

USERS, ALONE, LIST = 400, 50, 20
#: Scores of single interests that were held at once, before there was a score.
BLOCK_THEN = 1_000_000
HEADER = """\
| log | update, s | fine_tune, s | ratio | terms and fit, s | share \
| lists of {users}, s: before | plain | all terms | : before | : plain \
| one user, ms: before | plain | all terms | : before |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


@dataclass(frozen=True)
class Costs:
    """Processor seconds of one log."""

    update: float
    plain_update: float
    score: float
    lists: list[float]
    one: list[float]

    def row(self, log: str) -> str:
        """A line of the table."""
        then, plain, whole = self.lists
        lists = f"{then:.3f} | {plain:.3f} | {whole:.3f} | {whole / then:.2f} | {whole / plain:.2f}"
        then, plain, whole = (1000 * seconds for seconds in self.one)
        one = f"{then:.2f} | {plain:.2f} | {whole:.2f} | {whole / then:.2f}"
        update = f"{self.update:.2f} | {self.plain_update:.2f} | {self.update / self.plain_update:.2f}"
        return f"| {log} | {update} | {self.score:.2f} | {self.score / self.update:.1%} | {lists} | {one} |"


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

    before = ModelState.initial(cell.config, data.span_length, data.categories)
    for number, span in enumerate(data.spans[:spans]):
        state, _ = files.version(cell, number, missing) if number else files.base(cell, missing)
        state.score = scores_after(before, span.learnt, None, span.n_items)[0]
        before = state
    return before


def measured(before: ModelState, data: BenchData, number: int, repeat: int) -> Costs:
    """An update of ``before`` with a span, and lists for the users of that span."""
    span = data.spans[number]
    ways_to_learn = [partial(learn, strategy, before, span.learnt, span.n_items) for strategy in (imsr, fine_tune)]
    update, plain_update = least_of(ways_to_learn, repeat)
    score = least(lambda: scores_after(before, span.learnt, None, span.n_items), repeat)
    plain, whole = replace(before, score=None).scorer("everything"), before.scorer("everything")
    users = span.sequences.users[:USERS]
    then = partial(as_it_was, before.store, before.item_vectors(), before.item_bias())
    ways = (then, plain.best, whole.best)
    lists = least_of([partial(way, users, LIST) for way in ways], 2 * repeat)
    one = least_of([partial(one_by_one, way, users[:ALONE]) for way in ways], 2 * repeat)
    return Costs(update, plain_update, score, lists, [seconds / ALONE for seconds in one])


def as_it_was(store: InterestStore, items: Tensor, bias: Tensor, users: IntArray, n: int) -> object:
    """Lists (B, n) by the interests and the trend, as before there was a score: every user of a chunk has as many
    products as the one with the most interests. ``items`` (N, d), ``bias`` (N,)."""
    lists = []
    for part in torch.from_numpy(users).split(max(FEWEST_USERS, CHUNK_SCORES // len(items))):
        interests = padded_interests(store, part)  # (b, K, d)
        scores = torch.empty(len(part), len(items))
        step = max(1, BLOCK_THEN // max(interests.shape[0] * interests.shape[1], 1))
        for first in range(0, len(items), step):
            block = interests.flatten(0, 1) @ items[first : first + step].T
            torch.amax(block.view(*interests.shape[:2], -1), 1, out=scores[:, first : first + step])
        scores += bias
        scores[store.counts_of(part) == 0] = -torch.inf
        lists.append(scores.topk(n, dim=1))
    return lists


def one_by_one(way: Callable[[IntArray, int], object], users: IntArray) -> None:
    """The lists of ``users`` (B,), each on its own."""
    for user in users:
        way(np.array([user]), LIST)


def least_of(ways: Sequence[Callable[[], object]], repeat: int) -> list[float]:
    """As `least`, of several that take turns, since other work on the machine comes and goes."""
    turns = [[least(way, 1) for way in ways] for _ in range(repeat)]
    return [min(seconds) for seconds in zip(*turns, strict=True)]


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
