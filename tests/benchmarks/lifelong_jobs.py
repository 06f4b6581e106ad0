"""Cells of `benchmark_lifelong.py` in several processes: each T1 once, then everything that starts from it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from lifelong_cells import Cell, Place, base_of, run_base, run_cell
from lifelong_worlds import WORLDS, World, smaller

SECONDS = 0.5
SMOKE_USERS = 600
"""Between two looks at whether a signal asked for the end."""
_ASKED = threading.Event()

Told = Callable[[Cell, Cell | Exception | None], None]
"""(what was wanted; the cell that came out, None for its T1 alone, or what went wrong)"""


def run_cells(cells: Sequence[Cell], place: Place, jobs: int, told: Told) -> None:
    """Run all cells, the first ones first; ``told`` hears of each T1 and of each cell as it ends.

    A cell waits for its T1, and meanwhile those after it go on. A cell or a T1 that fails takes nothing else along but
    the cells that start from it.
    """
    waiting, running, failed = list(cells), dict[Future[Cell | None], tuple[Cell, Path | None]](), set[Path]()
    with _processes(jobs) as pool:
        while waiting or running:
            while len(running) < jobs:
                job = _next(waiting, [base for _, base in running.values() if base], failed, place)
                if job is None:
                    break
                running[pool.submit(job.call, place, job.cell)] = job.cell, job.base
            if not running:  # what is left starts from a T1 that failed
                return
            for future in _ended(running):
                cell, base = running.pop(future)
                error = future.exception()
                if base is not None and error is not None:
                    failed.add(base)
                told(cell, _told(future))


@dataclass(frozen=True)
class _Job:
    """A call of a worker; ``base`` is the file that it makes, where it learns a T1."""

    call: Callable[[Place, Cell], Cell | None]
    cell: Cell
    base: Path | None


def _next(waiting: list[Cell], learnt_now: Sequence[Path], failed: set[Path], place: Place) -> _Job | None:
    """The first cell that can go on, taken out of ``waiting`` unless its T1 must be learnt first."""
    for number, cell in enumerate(waiting):
        base = base_of(cell, place)
        if base.exists():
            return _Job(_cell, waiting.pop(number), None)
        if base not in learnt_now and base not in failed:
            return _Job(_base, cell, base)
    return None


def _told(future: Future[Cell | None]) -> Cell | Exception | None:
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return future.result() if error is None else error


def _base(place: Place, cell: Cell) -> None:
    run_base(_world(place, cell.dataset), cell, place)


def _cell(place: Place, cell: Cell) -> Cell:
    return run_cell(_world(place, cell.dataset), cell, place)


@cache
def _world(place: Place, name: str) -> World:
    world = WORLDS[name](place.data / name)
    return smaller(world, SMOKE_USERS) if place.smoke else world


def _ended(running: Iterable[Future[Cell | None]]) -> set[Future[Cell | None]]:
    """Those that have ended, once there are any. Raises SystemExit where a signal asked for the end meanwhile.

    Not in the handler itself: there a lock of the pool may be half taken.
    """
    done: set[Future[Cell | None]] = set()
    while not done:
        done = wait(running, timeout=SECONDS, return_when=FIRST_COMPLETED).done
        if _ASKED.is_set():
            sys.exit(128 + signal.SIGTERM)
    return done


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of one thread each, which end with this one, also where a signal asks for it."""
    _ASKED.clear()
    previous = signal.signal(signal.SIGTERM, lambda *_: _ASKED.set())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin)
    try:
        yield pool
    finally:
        for child in multiprocessing.active_children():
            child.terminate()
        pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGTERM, previous)


def _begin() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
