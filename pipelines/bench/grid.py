"""Which cells a bench consists of, in which order, what is left to do, and how long that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from imsr_core.config import InterestsConfig
from imsr_core.strategies import FLOORS, STARTING_OVER
from imsr_core.strategies.protocol import Progress
from pipelines.bench.cells import Cell, CellFiles, CellResult
from pipelines.bench.chain import CellRun, run_cell
from pipelines.bench.data import BenchData
from pipelines.bench.variants import VARIANTS, Variant
from pipelines.settings.bench import BenchSettings

#: Called with (cell, its number, cells in all, seconds left): the display of a running cell, as a context that gives
#: a `Progress`.
Watch = Callable[[Cell, int, int, tuple[float, float] | None], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Grid:
    """What is compared: variants x extractors x seeds, on one log."""

    data: BenchData
    config: InterestsConfig
    variants: tuple[Variant, ...]
    extractors: tuple[str, ...]
    seeds: tuple[int, ...]
    top_n: int = 20
    until: int | None = None

    def cells(self) -> list[Cell]:
        """All cells, in an order in which each comes after the one that it is matched with, seed by seed."""
        found: dict[str, Cell] = {}
        for seed in self.seeds:
            for extractor in self.extractors:
                for variant in self.variants:
                    for cell in self._with_like(variant, extractor, seed):
                        found.setdefault(cell.name, cell)
        return list(found.values())

    def _with_like(self, variant: Variant, extractor: str, seed: int) -> list[Cell]:
        before = self._with_like(VARIANTS[variant.like], extractor, seed) if variant.like else []
        if not variant.is_model:
            extractor, seed = "none", 0
        config = self.config if not variant.is_model else variant.config(self.config, extractor, seed)
        until = self.until or len(self.data.tested)
        like = before[-1] if before else None
        known = (self.data.fingerprint, until, self.top_n, like, self.data.described)
        cell = Cell(variant, extractor, seed, config, *known)
        return [*before, cell]


@dataclass
class Estimate:
    """Time that is left, from the cells that are done: an interval, or None as long as nothing is known.

    A cell's work is the training targets that it sees; how many go into a second is taken from the cells of the same
    strategy if there are any, else from all.
    """

    done: list[tuple[str, float, float]] = field(default_factory=list)

    def add(self, strategy: str, work: float, seconds: float) -> None:
        """A cell of this much work took so long."""
        if work > 0 and seconds > 0:
            self.done.append((strategy, work, seconds))

    def left(self, todo: Iterable[tuple[str, float]]) -> tuple[float, float] | None:
        """(least, most) seconds for these (strategy, work), at the best and the worst rate seen."""
        least = most = 0.0
        for strategy, work in todo:
            if work <= 0:
                continue
            rates = [s / w for name, w, s in self.done if name == strategy] or [s / w for _, w, s in self.done]
            if not rates:
                return None
            least, most = least + work * min(rates), most + work * max(rates)
        return least, most


def work_of(cell: Cell, data: BenchData, *, base_is_there: bool) -> float:
    """Training targets that all members of a cell see."""
    training, strategy = cell.config.training, cell.variant.strategy
    if not cell.variant.is_model:
        return 0.0
    members = cell.config.model.members
    events = [members * _targets(data, number, training.targets_per_user) for number in range(cell.until)]
    if strategy in STARTING_OVER:
        numbers = range(max(data.tuning, 1), cell.until)
        return float(sum(sum(events[: number + 1]) for number in numbers) * training.base_epochs)
    base = 0.0 if base_is_there else events[0] * training.base_epochs
    return float(base + (0 if strategy in FLOORS else sum(events[1:]) * training.epochs))


def _targets(data: BenchData, number: int, per_user: int) -> int:
    counts = data.spans[number].learnt.counts
    return int(counts.clip(max=per_user).sum() if per_user else counts.sum())


@dataclass(frozen=True)
class Step:
    """A cell that is done: its result, whether it was there before, and what is left."""

    cell: Cell
    result: CellResult
    found: bool
    number: int
    total: int
    left: tuple[float, float] | None


def run_grid(
    grid: Grid, files: CellFiles, settings: BenchSettings, watch: Watch, *, compute: bool = True
) -> Iterator[Step]:
    """Compute what is not there yet, cell by cell; each is kept as soon as it is done. Without ``compute`` only what
    is there is given."""
    cells = grid.cells()
    results = {cell.name: result for cell in cells if (result := files.get(cell)) is not None}
    bases = {cell.base_fingerprint for cell in cells if (files.root / "bases" / cell.base_fingerprint).is_dir()}
    estimate = Estimate()
    todo = {cell.name: (cell.variant.strategy, _work(cell, grid.data, bases)) for cell in cells}
    for cell in cells:
        if cell.name in results:
            todo.pop(cell.name)
    for number, cell in enumerate(cells, 1):
        found = cell.name in results
        if not found and not compute:
            continue
        if not found:
            like = results[cell.like.name] if cell.like else None
            with watch(cell, number, len(cells), estimate.left(todo.values())) as progress:
                run = CellRun(cell, grid.data, files, settings.matrix_users, like, progress)
                results[cell.name] = run_cell(run)
            files.put(cell, results[cell.name])
            strategy, work = todo.pop(cell.name)
            estimate.add(strategy, work, results[cell.name].seconds)
        yield Step(cell, results[cell.name], found, number, len(cells), estimate.left(todo.values()))


def _work(cell: Cell, data: BenchData, bases: set[str]) -> float:
    """The work of a cell. Cells may share a base; the first of them in the queue trains it, and enters ``bases``."""
    if not cell.variant.is_model or cell.variant.strategy in STARTING_OVER:
        return work_of(cell, data, base_is_there=True)
    there = cell.base_fingerprint in bases
    bases.add(cell.base_fingerprint)
    return work_of(cell, data, base_is_there=there)
