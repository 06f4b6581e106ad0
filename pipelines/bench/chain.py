"""One cell of a bench: a chain of versions, each tested on the next span before that span is learnt."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from imsr_core.interests import InterestStore
from imsr_core.ragged import concatenate, take_rows
from imsr_core.score import Score
from imsr_core.sorted_keys import is_in, unique
from imsr_core.state import ModelState
from imsr_core.strategies import STARTING_OVER, Change, SpanUpdate, learn, strategy_named
from imsr_core.strategies.imsr import imsr, scores_after
from imsr_core.strategies.protocol import Progress, silent
from pipelines.bench.cells import Cell, CellFiles, CellResult, store_of_counts
from pipelines.bench.data import BenchData, BenchSpan
from pipelines.bench.floors import FloorRun, rank_floor
from pipelines.bench.kept import SpanRecord
from pipelines.bench.scoring import ranks_alone, score_span


@dataclass(frozen=True)
class CellRun:
    """Everything that a cell is computed from. ``like`` is the result of the cell that it is matched with."""

    cell: Cell
    data: BenchData
    files: CellFiles
    matrix_users: int
    like: CellResult | None = None
    progress: Progress = silent


def run_cell(run: CellRun) -> CellResult:
    """The result of a cell; nothing is written but the pre-trained model."""
    started = time.process_time()
    result = CellResult(run.cell.name)
    if run.cell.variant.is_model:
        _chain(run, result)
    else:
        rank_floor(FloorRun(run.cell.variant.strategy, run.data, run.cell.until, run.cell.top_n), result)
    result.seconds = time.process_time() - started
    return result


def _chain(run: CellRun, result: CellResult) -> None:
    cell, data = run.cell, run.data
    over = cell.variant.strategy in STARTING_OVER
    result.matrix = np.full((cell.until, cell.until), np.nan)
    samples = [_sample(span, run.matrix_users) for span in data.spans[1 : cell.until + 1]]
    if over:
        state = _fresh(run)
    else:
        state, record = cell_base(run)
        result.records.append(record)
    for number in range(1, cell.until + 1):
        span, before = data.spans[number], data.spans[number - 1]
        # what starts over is not learnt for spans that are only tuned on, but for the last, if it fits a score there
        if number > 1 and not (over and number <= data.tuning - cell.config.score.enabled):
            state, record = _version(run, state, number - 1)
            result.records.append(record)
        if state.spans:
            score_span(result, state, span, cell.top_n)
            counts = torch.stack([state.store.users, state.store.counts], 1)
            result.counts[before.id] = counts.numpy()
            result.matrix[number - 1] = [_hits(state, sample, cell.top_n) for sample in samples]


def _fresh(run: CellRun) -> ModelState:
    """A model of a cell that has seen nothing."""
    return ModelState.initial(run.cell.config, run.data.span_length, run.data.categories)


def cell_base(run: CellRun) -> tuple[ModelState, SpanRecord]:
    """The pre-trained model of a cell, from the bench's folder if it is there."""

    def make() -> tuple[ModelState, SpanRecord]:
        first, fresh = run.data.spans[0], _fresh(run)
        with _measured() as cost:
            if run.like is not None:
                update = learn(imsr, fresh, first.learnt, first.n_items, run.progress, like=_like(run, -1))
            else:
                method = strategy_named(run.cell.pretraining)
                update = method(fresh, first.learnt, first.n_items, run.progress)
        return update.state, _record(first.id, cost, update)

    state, record = run.files.base(run.cell, make)
    return with_score(run, state), record


def with_score(run: CellRun, state: ModelState) -> ModelState:
    """A pre-trained model, which cells with and without a score share, with the score of this cell."""
    first = run.data.spans[0]
    state.score, _ = scores_after(_fresh(run), first.learnt, None, first.n_items)
    return state


def _like(run: CellRun, number: int) -> InterestStore | None:
    """The numbers of interests that the cell is matched with, after span ``number`` (-1: the last)."""
    if run.like is None:
        return None
    counts = run.like.counts[run.data.spans[number].id] if number >= 0 else list(run.like.counts.values())[-1]
    model = run.cell.config.model
    return store_of_counts(counts, model.dim, model.query_units)


def _version(run: CellRun, before: ModelState, number: int) -> tuple[ModelState, SpanRecord]:
    """The version after span ``number``: where its interests are the same whatever the score is, they are kept, and
    scored here."""
    if not run.cell.is_scored_apart:
        return _learn(run, before, number)
    learnt: list[ModelState] = []

    def make() -> tuple[ModelState, SpanRecord]:
        state, record = _learn(run, before, number)
        learnt.append(state)
        return state, record

    state, record = run.files.version(run.cell, number, make)
    state.score = learnt[0].score if learnt else _score_after(run, before, number)
    return state, record


def _score_after(run: CellRun, before: ModelState, number: int) -> Score | None:
    """The score of the version after span ``number``, from the version before it."""
    span = run.data.spans[number]
    judged = scores_after(before, span.learnt, None, span.n_items)[0] if before.spans else None
    if run.cell.variant.strategy not in STARTING_OVER:
        return judged
    everything = concatenate([run.data.history(number), span.learnt])
    score, _ = scores_after(_fresh(run), everything, None, span.n_items)
    return replace(score, weights=judged.weights) if score and judged and judged.weights.evidence else score


def _learn(run: CellRun, state: ModelState, number: int) -> tuple[ModelState, SpanRecord]:
    """The version after span ``number``."""
    span, strategy = run.data.spans[number], run.cell.variant.strategy
    over = strategy in STARTING_OVER
    if over:
        judged = scores_after(state, span.learnt, None, span.n_items)[0] if state.spans else None
        state = replace(_fresh(run), spans=number)
        state.score = judged or state.score
        matched = _like(run, number)
        if matched is not None:
            members = tuple(replace(member, store=matched) for member in state.members)
            state = replace(state, store=matched, members=members)
    past = run.data.history(number) if over else None
    with _measured() as cost:
        if run.like is not None and not over:
            update = learn(imsr, state, span.learnt, span.n_items, run.progress, like=_like(run, -1))
        else:
            method = strategy_named(strategy)
            history = (lambda: past) if past is not None else (lambda: run.data.history(number))
            update = method(state, span.learnt, span.n_items, run.progress, history=history)
    return update.state, _record(span.id, cost, update)


@dataclass
class Cost:
    """Seconds of processor and wall, and the largest resident memory in MB, of a block."""

    cpu: float = 0.0
    wall: float = 0.0
    peak_mb: float = float("nan")


@contextmanager
def _measured() -> Iterator[Cost]:
    cost, cpu, wall = Cost(), time.process_time(), time.perf_counter()
    _reset_peak()
    yield cost
    cost.cpu, cost.wall, cost.peak_mb = time.process_time() - cpu, time.perf_counter() - wall, _peak_mb()


def _reset_peak() -> None:
    """Start the kernel's high-water mark anew where it lets us (Linux); elsewhere the peak is the process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _record(span_id: str, cost: Cost, made: SpanUpdate) -> SpanRecord:
    store = made.state.store
    stores = [store, *(member.store for member in made.state.members)]
    return SpanRecord(
        span=span_id,
        cpu_seconds=cost.cpu,
        wall_seconds=cost.wall,
        peak_mb=cost.peak_mb,
        mean_interests=len(store) / max(len(store.users), 1),
        stored_floats=sum(each.vectors.numel() + each.queries.numel() for each in stores),
        born=made.changes.count(Change.BORN),
        trimmed=made.changes.count(Change.TRIMMED),
        forgotten=made.changes.count(Change.FORGOTTEN),
    )


def _sample(span: BenchSpan, limit: int) -> BenchSpan:
    """The events of at most ``limit`` of the span's users, spread evenly; all slices but `all` are left out."""
    size = len(span.sequences)
    rows = unique(np.linspace(0, size - 1, min(limit, size)).astype(np.int64)) if limit else np.zeros(0, np.int64)
    mine = is_in(span.sequences.rows, rows)
    return BenchSpan(
        span.id, take_rows(span.sequences, rows), span.learnt, span.n_items, {"all": span.slices["all"][mine]}
    )


def _hits(state: ModelState, sample: BenchSpan, top_n: int) -> float:
    member = sample.slices["all"]
    return float((ranks_alone(state, sample, top_n)[member] < top_n).mean()) if member.any() else float("nan")
