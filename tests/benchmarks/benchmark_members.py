"""Two members that learn a span side by side, beside the same two one after the other.

    python tests/benchmarks/benchmark_members.py                   # some minutes
    python tests/benchmarks/benchmark_members.py --smoke           # one small size, in seconds

Made-up events: users with 21 each, the settings of a new workspace (two members of 128 numbers; up to 10,000 items all
are negatives). Seconds of the clock and of the processor of one update, medians of some in turn, and whether the item
tables are the same. Where the process may use one core only, members learn one after the other: that is how the first
figures are made. Needs torch and numpy, and an operating system that binds processes to cores.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from statistics import median

import torch
from benchmark_device import fresh  # which also finds imsr_core

from imsr_core.config import InterestsConfig, ModelConfig, TrainingConfig
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named

from peers.problem import Problem  # isort: skip

CORES = os.sched_getaffinity(0)


def taught(problem: Problem) -> ModelState:
    """A model that has learnt a span."""
    state = ModelState.initial(InterestsConfig(model=ModelConfig(**fresh(ModelConfig))))
    training = replace(state.config.training, **fresh(TrainingConfig), base_epochs=1, patience=0)
    state.config = replace(state.config, training=training)
    return strategy_named("imsr")(state, problem.sequences(), problem.items).state


def update(state: ModelState, problem: Problem, cores: set[int]) -> tuple[float, float, list[torch.Tensor]]:
    """Seconds of the clock and of the processor, and the item tables after an update on these cores."""
    os.sched_setaffinity(0, cores)
    clock, processor = time.perf_counter(), time.process_time()
    after = strategy_named("imsr")(state, problem.sequences(), problem.items).state
    spent = time.perf_counter() - clock, time.process_time() - processor
    os.sched_setaffinity(0, CORES)
    return *spent, [table.weight for table in after.item_tables()]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small size, and whether the tables are the same")
    parser.add_argument("--sizes", type=int, nargs="+", default=(1_000, 5_000, 50_000))
    parser.add_argument("--users", type=int, default=250)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| items | one after the other: clock s | processor s | side by side: clock s | processor s | gain |")
    print("|---:|---:|---:|---:|---:|---:|")
    for items in (200,) if asked.smoke else asked.sizes:
        problem = Problem(items, users=20 if asked.smoke else asked.users)
        state = taught(problem)
        turns = [(update(state, problem, {min(CORES)}), update(state, problem, CORES)) for _ in range(asked.repeat)]
        if not all(torch.equal(*pair) for alone, both in turns for pair in zip(alone[2], both[2], strict=True)):
            raise SystemExit("the members are not the same")
        (wall, cpu), (beside, both) = (tuple(median(turn[n][k] for turn in turns) for k in (0, 1)) for n in (0, 1))
        print(f"| {items:,} | {wall:.2f} | {cpu:.2f} | {beside:.2f} | {both:.2f} | x {wall / beside:.2f} |", flush=True)


if __name__ == "__main__":
    main()
