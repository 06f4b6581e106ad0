"""A cell of `benchmark_lifelong.py`: all tasks of one data set learnt in one way with one seed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from lifelong_arms import ARMS, Arm, configuration, tasks_of
from lifelong_kept import base_file, code_digest, kept_references, learn_base, read_base
from lifelong_worlds import World

from imsr_core.lifelong.config import LifelongConfig
from imsr_core.lifelong.evaluation import evaluate, main_metric
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.pooling import wanted_pooling
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.references import main_values
from imsr_core.lifelong.splits import Part, parts_of
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import BASE_TASK, TaskData, next_item_examples

#: T1 is also scored on so many last items of each test user: one alone says little.
BACK = 10


@dataclass(frozen=True)
class Place:
    """Where data lie, where T1s are kept, where it runs, and how: as of `configuration`."""

    data: Path
    kept: Path
    device: str
    smoke: bool = False
    items_alone: bool = False
    served: bool = False


@dataclass
class Cell:
    """What came out.

    Attributes:
        matrix: R (versions, tasks), None where a task is not learnt yet.
        judged: R on the validation users, by which settings are chosen.
        ten: a version's scores of T1 on the last ten items of each test user; ``ten_judged``: of validation users.
        code: what learnt and scored it, see `code_digest`; empty in files from before it was noted.
    """

    dataset: str
    study: str
    method: str
    seed: int
    tasks: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    test_examples: list[int] = field(default_factory=list)
    references: list[dict[str, float]] = field(default_factory=list)
    next_item: dict[str, dict[str, float]] = field(default_factory=dict)
    matrix: list[list[float | None]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    pruned: list[tuple[float, float, float]] = field(default_factory=list)
    judged: list[list[float | None]] = field(default_factory=list)
    ten: list[dict[str, float]] = field(default_factory=list)
    ten_judged: list[dict[str, float]] = field(default_factory=list)
    code: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What names the cell."""
        return self.dataset, self.study, self.method, self.seed

    def __str__(self) -> str:
        return "/".join(map(str, self.key))


def cells_to_run(worlds: Sequence[str], seeds: int, wanted: Sequence[str], done: set[str]) -> Iterator[Cell]:
    """The cells that are not done: those like the first pattern first, and of a pattern those of the first seed.

    Raises:
        ValueError: there is no cell like one of the patterns.
    """
    cells = [
        Cell(world, arm.study, arm.method, seed)
        for seed in range(seeds)
        for world in worlds
        for arm in ARMS
        if world in arm.worlds
    ]
    for pattern in wanted:
        if not any(fnmatch(str(cell), pattern) for cell in cells):
            studies = ", ".join(sorted({cell.study for cell in cells}))
            raise ValueError(f"no cell is like {pattern!r} (DATASET/STUDY/METHOD/SEED); the studies are: {studies}")
    known = set(done)
    for pattern in wanted:
        for cell in cells:
            if fnmatch(str(cell), pattern) and str(cell) not in known:
                known.add(str(cell))
                yield cell


def arm_of(cell: Cell) -> Arm:
    """How the cell learns."""
    return next(arm for arm in ARMS if (arm.study, arm.method) == (cell.study, cell.method))


def base_of(cell: Cell, place: Place) -> Path:
    """Where the cell's T1 lies, once it is learnt."""
    return base_file(place.kept, cell.dataset, cell.method, _configuration(cell, place), cell.seed)


def run_base(world: World, cell: Cell, place: Place) -> None:
    """Learn the cell's T1, unless it lies there."""
    learn_base(place.kept, world, cell.method, _configuration(cell, place), cell.seed)


def run_cell(world: World, wanted: Cell, place: Place) -> Cell:
    """Learn all tasks after T1, which lies in the folder of those that are kept."""
    arm, seed, method = arm_of(wanted), wanted.seed, get_method(wanted.method)
    config, tasks = _configuration(wanted, place), tasks_of(world, arm.study, seed)
    cell = Cell(*wanted.key, tasks=[BASE_TASK, *(task.name for task in tasks)], code=code_digest())
    state, seconds = read_base(base_of(wanted, place))
    state = replace(state, method=method.name)
    _describe(cell, world, tasks, config, place.kept)
    _record(cell, world, method, state, tasks[:0], seconds, parameters_of(state))
    for number, task in enumerate(tasks, 1):
        before, started = state, time.process_time()
        state = method.add_task(state, task, config, seed)
        spent = time.process_time() - started
        added = parameters_of(state) - parameters_of(before)
        _record(cell, world, method, state, tasks[:number], spent, added)
    if arm.method == "conure":
        phases = [task.phases for task in state.tasks]
        cell.pruned = [(p["train"]["metric"], p["pruned"]["metric"], p["retrain"]["metric"]) for p in phases]
    return cell


def parameters_of(state: LifelongState) -> int:
    """Numbers that a version stores, Conure's owner bytes not among them."""
    return sum(tensor.numel() for name, tensor in state.tensors.items() if not name.startswith("owner/"))


def read_cells(path: Path) -> list[Cell]:
    """The results so far."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Cell(**json.loads(line)) for line in lines]


def _configuration(cell: Cell, place: Place) -> LifelongConfig:
    return configuration(cell.seed, arm_of(cell), place.device, place.smoke, place.items_alone, place.served)


def _describe(cell: Cell, world: World, tasks: list[TaskData], config: LifelongConfig, folder: Path) -> None:
    sequences, split, length = world.sequences, config.split, config.encoder.length
    cell.metrics = [main_metric("next_item"), *(main_metric(task.kind) for task in tasks)]
    cell.labels = [world.n_items, *(task.n_labels for task in tasks)]
    users = [next_item_examples(sequences, 1).users, *(task.users for task in tasks)]
    cell.test_examples = [int((parts_of(each, split) == 2).sum()) for each in users]
    found = [kept_references(folder, world, split, length)]
    cell.next_item = dict(found[0])
    goal = config.objective
    read = [max(length * wanted_pooling(task.kind, goal).windows, goal.wide) for task in tasks]
    found += [kept_references(folder, task, split, each) for task, each in zip(tasks, read, strict=True)]
    cell.references = [main_values(each, metric) for each, metric in zip(found, cell.metrics, strict=True)]


def _record(
    cell: Cell,
    world: World,
    method: LifelongMethod,
    state: LifelongState,
    tasks: list[TaskData],
    seconds: float,
    parameters: int,
) -> None:
    places: tuple[tuple[Part, list[list[float | None]], list[dict[str, float]]], ...] = (
        ("test", cell.matrix, cell.ten),
        ("validation", cell.judged, cell.ten_judged),
    )
    for part, matrix, ten in places:
        base = method.evaluate_base(state, world.sequences, part)
        scores = [base, *(method.evaluate(state, task, part) for task in tasks)]
        row = [score[metric] for score, metric in zip(scores, cell.metrics, strict=False)]
        matrix.append([*row, *[None] * (len(cell.tasks) - len(row))])
        examples = next_item_examples(world.sequences, state.encoder.length, BACK).part(part, state.split)
        ten.append(evaluate(method.view(state, BASE_TASK), examples, "next_item"))
        if part == "test":
            cell.next_item.setdefault(state.encoder.name, base)
    cell.seconds.append(round(seconds, 2))
    cell.parameters.append(parameters)
