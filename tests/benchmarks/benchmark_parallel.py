"""Would pre-training on two cores be faster? Processes that share the users and add up the gradients, beside one alone.

    python tests/benchmarks/benchmark_parallel.py                  # a minute
    python tests/benchmarks/benchmark_parallel.py --smoke          # one small size, in seconds

Each process (gloo, as `torchrun` starts them) trains the targets of its own users; the item table is in all of them.
After each step they tell each other which rows they touched and by how much, and all step the same rows: P processes
with batches of B do what one does with batches of P x B. `--smoke` checks that all of them end at the same table. Rows
of users are not exchanged. Processor seconds a step, of the slowest process: waiting is free, so that a machine with
other work shows what cores of its own could give at most; the clock is printed, too.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # imsr_core alone: the rest of imsr need not be installed

from peers.problem import Problem

from imsr_core.batches import TargetBatch
from imsr_core.config import InterestsConfig, ModelConfig, TrainingConfig
from imsr_core.ragged import slice_rows
from imsr_core.rows import RowTable
from imsr_core.state import ModelState
from imsr_core.strategies.imsr import imsr
from imsr_core.trainer import SpanTrainer

NEGATIVES, WARM = 1280, 3


class EnoughSteps(Exception):
    """Ends a training whose rate is known."""


@dataclass
class SharedTrainer(SpanTrainer):
    """A trainer that is one of several, each with users of its own."""

    def step(self, batch: TargetBatch) -> float:
        """One step of all processes, on the mean of their losses."""
        self.optimizer.zero_grad()
        loss, leaves = self.loss(batch, self.generator)
        loss.backward()
        processes = dist.get_world_size()
        for leaf in leaves:
            if leaf.table is self.state.items:
                leaf.table.step(*added(leaf.ids, leaf.rows.grad), self.learning_rate)
            else:
                leaf.table.step(leaf.ids, leaf.rows.grad / processes, self.learning_rate)
        for parameter in self.optimizer.parameters.values():
            dist.all_reduce(parameter.grad)
            parameter.grad /= processes
        self.optimizer.step()
        return float(loss.detach())


def added(ids: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows that any process touched, ascending, and the mean of the gradients (n, d)."""
    processes = dist.get_world_size()
    sizes = torch.zeros(processes, dtype=torch.int64)
    sizes[dist.get_rank()] = len(ids)
    dist.all_reduce(sizes)
    width = int(sizes.max())
    own_ids, own = ids.new_zeros(width), gradient.new_zeros(width, gradient.shape[1])
    own_ids[: len(ids)], own[: len(ids)] = ids, gradient
    all_ids, every = [torch.empty_like(own_ids) for _ in sizes], [torch.empty_like(own) for _ in sizes]
    dist.all_gather(all_ids, own_ids)
    dist.all_gather(every, own)
    parts = [(a[:n], g[:n]) for a, g, n in zip(all_ids, every, sizes.tolist(), strict=True)]
    union, place = torch.unique(torch.cat([part[0] for part in parts]), return_inverse=True)
    total = gradient.new_zeros(len(union), gradient.shape[1]).index_add_(0, place, torch.cat([p[1] for p in parts]))
    return union, total / processes


def trained(problem: Problem, batch: int, processes: int, rank: int, steps: int) -> tuple[float, float, RowTable]:
    """Processor seconds and seconds of the clock a step, and the table after ``steps`` of them."""
    model = ModelConfig(dim=problem.dim, initial_interests=problem.interests, history=problem.history)
    training = TrainingConfig(batch_size=batch, negatives=NEGATIVES, base_epochs=10_000, patience=0, window=1)
    state = ModelState.initial(InterestsConfig(model=model, training=training)).with_items(problem.items)
    size = problem.users // processes
    span = slice_rows(problem.sequences(), rank * size, (rank + 1) * size)
    marks, made = [], []

    def tick(done: int, total: int, loss: float) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        marks.append((used.ru_utime + used.ru_stime, time.perf_counter()))
        if len(marks) == WARM + 1 + steps:
            raise EnoughSteps

    def make(state: ModelState, *arguments: object) -> SpanTrainer:
        made.append((SharedTrainer if processes > 1 else SpanTrainer)(state, *arguments))
        return made[0]

    with suppress(EnoughSteps):
        imsr(state, span, problem.items, tick, make_trainer=make)
    cpu, clock = ((marks[-1][n] - marks[WARM][n]) / steps for n in (0, 1))
    return cpu, clock, made[0].state.items


def one_of(rank: int, processes: int, port: int, problem: Problem, batch: int, steps: int, results: object) -> None:
    """A process of several."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    cpu, clock, table = trained(problem, batch, processes, rank, steps)
    results[rank] = (cpu, clock, table.weight.numpy().copy() if steps < 20 else None)  # type: ignore[index]
    dist.barrier()
    dist.destroy_process_group()


def side_by_side(problem: Problem, batch: int, processes: int, steps: int) -> list[tuple]:
    """What each of several processes says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(partial(one_of), (processes, port, problem, batch, steps, results), nprocs=processes)
        return [results[rank] for rank in range(processes)]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small size, and whether the tables are the same")
    parser.add_argument("--sizes", type=int, nargs="+", default=(20_000, 300_000))
    parser.add_argument("--batches", type=int, nargs="+", default=(128, 512))
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    many = asked.processes
    print("| items | batch in all | processes | processor ms / step | clock ms / step | samples / s at most | gain |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for items in (2_000,) if asked.smoke else asked.sizes:
        problem, steps = Problem(items, users=400 if asked.smoke else 4_000), 12 if asked.smoke else 100
        for batch in (64,) if asked.smoke else asked.batches:
            cpu, clock, _ = trained(problem, many * batch, 1, 0, steps // many)
            found = side_by_side(problem, batch, many, steps)
            if asked.smoke and not all((each[2] == found[0][2]).all() for each in found):
                raise SystemExit("the processes do not have the same table")
            slowest = max(each[0] for each in found)
            for count, mine, wall in ((1, cpu, clock), (many, slowest, max(each[1] for each in found))):
                times = f"{many * batch / mine:,.0f} | x {cpu / mine:.2f}"
                print(
                    f"| {items:,} | {many * batch} | {count} | {mine * 1e3:.1f} | {wall * 1e3:.1f} | {times} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
