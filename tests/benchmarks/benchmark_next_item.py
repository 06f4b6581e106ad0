"""T1 of the `users` line, the next item, beside another library's SASRec on the same split of the same log.

    python tests/benchmarks/benchmark_next_item.py --data FOLDER --out OUT --seeds 3 [--only movietweetings]
    python tests/benchmarks/next_item/rectools_sasrec.py OUT/ml-100k.0.csv      # see there; once a split
    python tests/benchmarks/benchmark_next_item.py --data FOLDER --out OUT --report

FOLDER as of `benchmark_lifelong.py`. The first command writes each split (users of training, validation and test) to
OUT, and learns T1 with the default settings; OUT/results.jsonl has a line for each result, and what it has is not run
again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lifelong_worlds import WORLDS, World

from imsr_core.encoders.build import build_encoder, initial_weights
from imsr_core.encoders.config import EncoderConfig
from imsr_core.lifelong.config import LifelongConfig, ObjectiveConfig, SplitConfig
from imsr_core.lifelong.counts import fit_counts
from imsr_core.lifelong.evaluation import evaluate
from imsr_core.lifelong.followers import followers_of
from imsr_core.lifelong.heads import Head
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.references import next_item_references
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.tasks import BASE_TASK, next_item_examples
from imsr_core.lifelong.view import View
from imsr_core.ragged import take_rows

BACK = 10
HELD = {"last": 1, "ten": BACK}
COUNTS, ALONE = ", beside counts", "*counts alone*"
SHOWN = ("hr@20", "ndcg@20", "mrr@5")
#: Our encoders: name -> what differs from the default.
OURS: dict[str, dict[str, Any]] = {
    "default": {},
    "gru4rec": {"name": "gru4rec", "layers": 1},
    "sasrec": {"name": "sasrec"},
}


def split_of(seed: int) -> SplitConfig:
    """65 % of the users train, 10 % select, 25 % test."""
    return SplitConfig(seed=seed, train=0.65, validation=0.1)


def write_split(world: World, seed: int, path: Path) -> None:
    """One row an event: user, item, place within the history, part of the user (0 train, 1 validation, 2 test)."""
    own, sequences = world.sequences.rows, world.sequences
    place = np.arange(len(own)) - sequences.offsets[own]
    columns = [sequences.users[own], sequences.items, place, parts_of(sequences.users, split_of(seed))[own]]
    np.savetxt(path, np.stack(columns, axis=1), "%d", ",", header="user,item,place,part", comments="")


def learn(world: World, seed: int, changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """T1 on the test users' last item, and on their last ten: its encoder alone, and as it is served, beside counts."""
    config = LifelongConfig(encoder=replace(EncoderConfig(), **changes), split=split_of(seed))
    method, started = get_method("sinmo"), time.process_time()
    state = method.pretrain(world.sequences, config, seed, world.n_items)
    spent = round(time.process_time() - started, 1)
    facts = {"epoch": state.tasks[0].phases["train"]["best_epoch"] + 1, "seconds": spent}
    deep, both = method.deep_view(state, BASE_TASK), method.view(state, BASE_TASK)
    return {"": facts | score(world, seed, deep), COUNTS: facts | score(world, seed, both)}


def score(world: World, seed: int, view: View) -> dict[str, dict[str, float]]:
    """The metrics of a view of T1 on the test users."""
    examples = {name: next_item_examples(world.sequences, view.length, steps) for name, steps in HELD.items()}
    return {name: evaluate(view, each.part("test", split_of(seed)), "next_item") for name, each in examples.items()}


def counts_alone(world: World, seed: int) -> dict[str, Any]:
    """The same counts beside how often the training users had an item, which stands where the encoder would."""
    parts = parts_of(world.sequences.users, split_of(seed))
    train, judges = (take_rows(world.sequences, np.flatnonzero(parts == part)) for part in (0, 1))
    popular = torch.from_numpy(np.bincount(train.items, minlength=world.n_items) + 0.5).log().float()
    head = Head(torch.zeros(world.n_items, 2), popular)
    nothing = replace(EncoderConfig(name="dssm"), dim=2, length=2)
    view = View(build_encoder(nothing), initial_weights(nothing, world.n_items, 0), head, world.n_items)
    started, wide = time.process_time(), ObjectiveConfig().wide
    examples = next_item_examples(judges, wide, BACK)
    counts = fit_counts(view.logits, followers_of(train, world.n_items), examples, wide)
    return score(world, seed, replace(view, wide=counts)) | {"seconds": round(time.process_time() - started, 1)}


def report(results: Sequence[dict[str, Any]]) -> str:
    """A table for each log: mean over the seeds, HR@20 with its standard deviation over them."""
    tables = []
    for dataset in dict.fromkeys(each["dataset"] for each in results):
        known = [each for each in results if each["dataset"] == dataset]
        titles = ["", "seeds", *(f"{name} {metric}" for name in ("last", "ten") for metric in SHOWN), "CPU s"]
        rows = [titles, ["---"] * len(titles)]
        for model in dict.fromkeys(each["model"] for each in known):
            own = [each for each in known if each["model"] == model]
            cells = []
            for name, metric in ((name, metric) for name in ("last", "ten") for metric in SHOWN):
                values = [each[name][metric] for each in own if name in each]
                spread = f" ± {np.std(values):.3f}" if len(values) > 1 and metric == "hr@20" else ""
                cells.append(f"{np.mean(values):.3f}{spread}" if values else "-")
            rows.append([model, str(len(own)), *cells, f"{np.mean([each.get('seconds', 0) for each in own]):.0f}"])
        tables.append(f"### {dataset}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(tables)


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="one log")
    parser.add_argument("--encoders", default="default", help="with commas: " + ", ".join(OURS))
    parser.add_argument("--report", action="store_true", help="only print the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.jsonl"

    def results() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def add(dataset: str, seed: int, model: str, found: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"dataset": dataset, "seed": seed, "model": model, **found}) + "\n")

    names = [name for name in WORLDS if (options.data / name).is_dir() and options.only in ("", name)]
    for dataset in () if options.report else names:
        world = WORLDS[dataset](options.data / dataset)
        for seed in range(options.seeds):
            write_split(world, seed, options.out / f"{dataset}.{seed}.csv")
            done = {each["model"] for each in results() if (each["dataset"], each["seed"]) == (dataset, seed)}
            if "*popular*" not in done:
                length = EncoderConfig().length
                for name, found in next_item_references(world.sequences, world.n_items, split_of(seed), length).items():
                    add(dataset, seed, f"*{name}*", {"last": found})
            if ALONE not in done:
                add(dataset, seed, ALONE, counts_alone(world, seed))
            for name in options.encoders.split(","):
                if f"ours, {name}{COUNTS}" not in done:
                    for what, found in learn(world, seed, OURS[name]).items():
                        if f"ours, {name}{what}" not in done:
                            add(dataset, seed, f"ours, {name}{what}", found)
    print(report(results()))


if __name__ == "__main__":
    main()
