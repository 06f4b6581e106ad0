"""What the score costs: its share of an update's processor time, and a list of the best items with and without it.

    imsr bench EVENTS... --data imsr.toml --out bench/mine --strategies imsr --seeds 1     # keeps the versions
    python tests/benchmarks/benchmark_score.py --data imsr.toml --out bench/mine [--out bench/other ...]

*Update* is that of `imsr`, *fine_tune* the same without its modules. *Terms and fit* is everything that an update does
for the score: it asks the events of the span for weights, counts them, and moves the factors. *Lists* are the best 20
of the whole catalogue for users of the next span: *before*, by the interests with the trend as it was done before there
was a score (`as_it_was`), of one member with vectors of 64 numbers (the first 64 of the first member's, which takes as
long as a model of 64) and of all its numbers; *plain*, by the same two as it is done now, and by all terms; 400 users
at once (seconds), and one after the other (milliseconds a user). Each figure is the least of some repetitions, in
turns, on one thread. With `--lists` there is no update, and one repetition is two of the lists. With `--terms` it is
each term alone, that it is added to the scores of the same users at once (microseconds a user), all else in 32 bits.
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
UPDATE_HEADER = """\
| log | update, s | fine_tune, s | ratio | terms and fit, s | share |
|---|--:|--:|--:|--:|--:|"""
LISTS_HEADER = """\
| log | lists of {users}, s: before, 64 | before | plain | all terms | : before, 64 | : before \
| one user, ms: before, 64 | before | plain | all terms | : before, 64 | : before |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""
TERMS_HEADER = """\
| log | trend | personal | neighbours | factors |
|---|--:|--:|--:|--:|"""
#: Numbers of a vector before there was a score.
DIM_THEN = 64


@dataclass(frozen=True)
class UpdateCosts:
    """Processor seconds of an update of one log."""

    update: float
    plain_update: float
    score: float

    def row(self, log: str) -> str:
        """A line of the table."""
        update = f"{self.update:.2f} | {self.plain_update:.2f} | {self.update / self.plain_update:.2f}"
        return f"| {log} | {update} | {self.score:.2f} | {self.score / self.update:.1%} |"


@dataclass(frozen=True)
class ListCosts:
    """Processor seconds of lists of one log: ``together`` of all users, ``alone`` of one."""

    together: list[float]
    alone: list[float]

    def row(self, log: str) -> str:
        """A line of the table."""
        lists = f"{_in_turn(self.together, 3)} | {_ratios(self.together)}"
        return f"| {log} | {lists} | {_in_turn([1000 * each for each in self.alone], 2)} | {_ratios(self.alone)} |"


def _in_turn(seconds: Sequence[float], digits: int) -> str:
    return " | ".join(f"{each:.{digits}f}" for each in seconds)


def _ratios(seconds: Sequence[float]) -> str:
    """All terms, the last, by each of the ways that lists were made before, the first two."""
    return f"{seconds[-1] / seconds[0]:.2f} | {seconds[-1] / seconds[1]:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, type=Path, help="an imsr.toml for the event files")
    parser.add_argument("--out", action="append", required=True, type=Path, help="the folder of `imsr bench`")
    parser.add_argument("--span", type=int, default=3, help="the update that is measured; lists are of the next span")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--lists", action="store_true", help="measure lists, no update")
    parser.add_argument("--terms", action="store_true", help="measure terms, and nothing else")
    parser.add_argument("--whole", action="store_true", help="32 bits, as on a processor without matrix instructions")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.whole:
        torch.backends.mkldnn.set_flags(False)
    updates, lists, terms = [UPDATE_HEADER], [LISTS_HEADER.format(users=USERS)], [TERMS_HEADER]
    for settings, out in zip(options.data, options.out, strict=True):
        now = datetime.now(UTC)
        workspace, _ = open_log(settings, [], out, now=now)
        data = load_bench_data(workspace, workspace.settings.bench, now=now)
        config = load_settings(settings).interests
        grid = Grid(data, config, tuple(variants_named(["imsr"])), (config.model.extractor,), (0,), LIST)
        before = last_version(grid.cells()[0], data, CellFiles(out), options.span)
        if options.terms:
            terms.append(f"| {out.name} | {_in_turn(of_terms(before, data, options.span, options.repeat), 1)} |")
            continue
        if not options.lists:
            updates.append(of_update(before, data, options.span, options.repeat).row(out.name))
        lists.append(of_lists(before, data, options.span, options.repeat).row(out.name))
    print("\n".join(terms if options.terms else lists if options.lists else [*updates, "", *lists]))


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


def of_update(before: ModelState, data: BenchData, number: int, repeat: int) -> UpdateCosts:
    """An update of ``before`` with a span."""
    span = data.spans[number]
    ways_to_learn = [partial(learn, strategy, before, span.learnt, span.n_items) for strategy in (imsr, fine_tune)]
    update, plain_update = least_of(ways_to_learn, repeat)
    score = least(lambda: scores_after(before, span.learnt, None, span.n_items), repeat)
    return UpdateCosts(update, plain_update, score)


def of_lists(before: ModelState, data: BenchData, number: int, repeat: int) -> ListCosts:
    """Lists of ``before`` for the users of a span."""
    span = data.spans[number]
    plain, whole = replace(before, score=None).scorer("everything"), before.scorer("everything")
    users = span.sequences.users[:USERS]
    items, bias = before.item_vectors(), before.item_bias()
    short = before.store.replaced(vectors=before.store.vectors[:, :DIM_THEN].contiguous())
    shorter = partial(as_it_was, short, items[:, :DIM_THEN].contiguous(), bias)
    ways = (shorter, partial(as_it_was, before.store, items, bias), plain.best, whole.best)
    lists = least_of([partial(way, users, LIST) for way in ways], 2 * repeat)
    one = least_of([partial(one_by_one, way, users[:ALONE]) for way in ways], 2 * repeat)
    return ListCosts(lists, [seconds / ALONE for seconds in one])


def of_terms(before: ModelState, data: BenchData, number: int, repeat: int) -> list[float]:
    """Microseconds a user of each counting term, for the users of a span, who are asked about anew each time."""
    users = data.spans[number].sequences.users[:USERS]
    scorer = before.scorer("everything")
    scores = torch.zeros(len(users), scorer.n_items)
    terms = scorer.terms[1:]  # the interest is measured by lists
    seconds = least_of([lambda t=t, w=w: t.add(scores, users.copy(), w) for t, w in terms], 2 * repeat)
    return [1e6 * each / len(users) for each in seconds]


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
