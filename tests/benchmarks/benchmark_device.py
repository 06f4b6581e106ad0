"""`[training] device`: samples that training does a second on the processor and on a CUDA device, in one run.

    python tests/benchmarks/benchmark_device.py                    # some minutes; columns of CUDA are empty without it
    python tests/benchmarks/benchmark_device.py --smoke            # one small size, in seconds
    python tests/benchmarks/benchmark_device.py --profile          # what a step's time goes to on the device
    python tests/benchmarks/benchmark_device.py --fresh            # with the settings of a new workspace

Made-up events: 5,000 users with 21 each, histories of 20 items, four interests, 64 numbers a vector, 1,280 negatives
shared by a batch. "pre-training" begins with nothing; "update" is `imsr` on a model whose users have interests, with
detector, retainer and trimmer at their defaults. Seconds are those of a clock, from step to step: batches are made,
carried over and stepped; what comes before the first step does not count. The last table is whole updates of a span by
that clock, with everything that happens before and after the steps. --fresh has a table of whole updates, too, by two
members of 128 numbers that tell a target from the whole catalogue, without what is counted. Needs torch and numpy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # imsr_core alone: the rest of imsr need not be installed

from peers.problem import Problem

from imsr_core.config import InterestsConfig, ModelConfig, TrainingConfig
from imsr_core.interests import InterestStore
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named

NEGATIVES, USERS, WARM = 1280, 5_000, 2
#: Items of the table of --fresh, all of them negatives.
FRESH = 3_000
SIZES, BATCHES = (20_000, 300_000, 1_700_000), (128, 1024, 8192)
#: Column -> device, precision, threads (0: all there are).
COLUMNS = {
    "cpu, 1 thread": ("cpu", "float32", 1),
    "cpu, all threads": ("cpu", "float32", 0),
    "cuda": ("cuda", "float32", 0),
    "cuda, bfloat16": ("cuda", "bfloat16", 0),
}
#: Samples of a batch from which on one thread is not waited for.
LONG = 4096
ALL_THREADS = torch.get_num_threads()


class EnoughSteps(Exception):
    """Ends a training whose rate is known."""


def state_of(problem: Problem, extractor: str, learnt: bool) -> ModelState:
    """A model that knows the catalogue; if it has ``learnt``, everybody has random interests."""
    model = ModelConfig(
        extractor=extractor, dim=problem.dim, initial_interests=problem.interests, history=problem.history
    )
    state = ModelState.initial(InterestsConfig(model=model)).with_items(problem.items)
    if not learnt:
        return state
    generator = torch.Generator().manual_seed(1)
    store = InterestStore.random(
        torch.arange(problem.users),
        problem.interests,
        problem.dim,
        scale=0.5,
        born=0,
        generator=generator,
        query_units=model.query_units,
    )
    return replace(state, store=store, spans=1)


def on(state: ModelState, column: str, **training: int) -> ModelState:
    """The state, set to train as the column says; threads are set, too."""
    device, precision, threads = COLUMNS[column]
    torch.set_num_threads(threads or ALL_THREADS)
    settings = TrainingConfig(window=1, targets_per_user=0, patience=0, device=device, precision=precision, **training)
    return replace(state, config=replace(state.config, training=settings))


def rate(state: ModelState, problem: Problem, seconds: float) -> float:
    """Samples a second, after some steps that warm up."""
    marks: list[float] = []

    def tick(done: int, total: int, loss: float) -> None:
        marks.append(time.perf_counter())
        if len(marks) > WARM + 2 and marks[-1] - marks[WARM] > seconds:
            raise EnoughSteps

    with suppress(EnoughSteps):
        strategy_named("imsr")(state, problem.sequences(), problem.items, progress=tick)
    return (len(marks) - 1 - WARM) * state.config.training.batch_size / (marks[-1] - marks[WARM])


def whole(state: ModelState, problem: Problem) -> float:
    """Seconds of a whole update."""
    begun = time.perf_counter()
    strategy_named("imsr")(state, problem.sequences(), problem.items)
    return time.perf_counter() - begun


def columns() -> list[str]:
    """Those that can be filled here."""
    return [name for name, (device, _, _) in COLUMNS.items() if device == "cpu" or torch.cuda.is_available()]


def row(names: list[str], values: dict[str, float], digits: int) -> str:
    """A line of a table, with how many times as fast CUDA is as the processor with as many threads as suit it."""
    shown = [f"{values[name]:,.{digits}f}" if name in values else "-" for name in COLUMNS]
    here, there = [value for name, value in values.items() if COLUMNS[name][0] == "cpu"], values.get("cuda")
    times = "-" if not there else f"x {(min(here) / there if digits else there / max(here)):.1f}"
    return "| " + " | ".join([*names, *shown, times]) + " |"


def table(*names: str) -> None:
    """The head of a table."""
    heads = [*names, *COLUMNS, "cuda : cpu"]
    print("\n| " + " | ".join(heads) + " |\n|" + "---:|" * len(heads), flush=True)


def cases(sizes: tuple[int, ...]) -> Iterator[tuple[str, int, bool]]:
    """(extractor, items, learnt): every size for ComiRec-DR, the middle one for ComiRec-SA."""
    middle = sizes[len(sizes) // 2]
    order = (middle, *(size for size in sizes if size != middle))
    yield from (("comirec-dr", items, learnt) for items in order for learnt in (False, True))
    yield from (("comirec-sa", middle, learnt) for learnt in (False, True))


def rates(sizes: tuple[int, ...], batches: tuple[int, ...], seconds: float, users: int, until: float) -> None:
    """Print samples a second."""
    table("items", "model", "what", "batch")
    for extractor, items, learnt in cases(sizes):
        problem = Problem(items, users=users)
        state = state_of(problem, extractor, learnt)
        for batch in batches:
            if time.perf_counter() > until:
                print("(the rest: --within was over)", flush=True)
                return
            values = {}
            for name in columns():
                if batch < LONG or COLUMNS[name][2] != 1:
                    settings = {"batch_size": batch, "negatives": NEGATIVES, "base_epochs": 10_000, "epochs": 10_000}
                    values[name] = rate(on(state, name, **settings), problem, seconds)
            what = "update" if learnt else "pre-training"
            print(row([f"{items:,}", extractor, what, f"{batch:,}"], values, 0), flush=True)


def updates(sizes: tuple[int, ...], users: int) -> None:
    """Print seconds of whole updates of a span, two epochs."""
    table("items", "events", "batch")
    for items in sizes:
        problem = Problem(items, users=users)
        state = state_of(problem, "comirec-dr", learnt=True)
        for batch in (128, 1024):
            made = partial(on, state, batch_size=batch, negatives=NEGATIVES, epochs=2)
            whole(made(columns()[-1]), Problem(items, users=64))
            values = {name: whole(made(name), problem) for name in columns() if COLUMNS[name][2] != 1}
            print(row([f"{items:,}", f"{problem.users * problem.length:,}", f"{batch:,}"], values, 2), flush=True)


def fresh(section: type) -> dict[str, object]:
    """What a new workspace sets in a section."""
    return {entry.name: entry.metadata["fresh"] for entry in fields(section) if "fresh" in entry.metadata}


def fresh_updates(items: int, users: int) -> None:
    """Print seconds of whole updates of a span by the model of a new workspace."""
    table("items", "events", "batch")
    problem = Problem(items, users=users)
    state = ModelState.initial(InterestsConfig(model=ModelConfig(**fresh(ModelConfig))))
    untaught = replace(state.config.training, **fresh(TrainingConfig), base_epochs=1, patience=0)
    for batch in (128, 1024):
        values = {}
        for name in columns():
            device, precision, threads = COLUMNS[name]
            torch.set_num_threads(threads or ALL_THREADS)
            training = replace(untaught, device=device, precision=precision, batch_size=batch)
            ready = replace(state, config=replace(state.config, training=training))
            learnt = strategy_named("imsr")(ready, problem.sequences(), items).state
            values[name] = whole(learnt, problem)
        print(row([f"{items:,}", f"{problem.users * problem.length:,}", f"{batch:,}"], values, 2), flush=True)


def profiled(items: int, batches: tuple[int, ...], users: int) -> None:
    """Print the costliest operations of an update's first steps, by device and by processor."""
    from torch.profiler import profile

    problem = Problem(items, users=users)
    state = state_of(problem, "comirec-dr", learnt=True)
    for batch in (batches[0], batches[-1]):
        ready = on(state, columns()[-1], batch_size=batch, negatives=NEGATIVES, epochs=10_000)
        rate(ready, problem, 0.1)
        with profile() as seen:
            rate(ready, problem, 0.1)
        for order in ("self_cuda_time_total", "self_cpu_time_total"):
            print(
                f"\nbatch {batch:,}, by {order}\n{seen.key_averages().table(sort_by=order, row_limit=14)}", flush=True
            )


def machine(device: str, dtype: torch.dtype, seconds: float = 0.3) -> tuple[float, float]:
    """Matrix products in TFLOP/s and copies in GB/s (read and written)."""
    size = 4096 if device == "cuda" else 1024
    left = torch.randn(size, size, device=device).to(dtype)
    source = torch.ones(64_000_000 if device == "cuda" else 16_000_000, device=device)
    target = torch.empty_like(source)

    def often(work) -> float:
        wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        work()
        wait()
        done, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            work()
            wait()
            done += 1
        return done / (time.perf_counter() - begun)

    products = often(lambda: left @ left) * 2 * size**3
    return products / 1e12, often(lambda: target.copy_(source)) * 8 * len(source) / 1e9


def machines() -> None:
    """Print what processor and device can do."""
    said = []
    for name in columns():
        device, precision, threads = COLUMNS[name]
        torch.set_num_threads(threads or ALL_THREADS)
        products, copies = machine(device, getattr(torch, precision))
        said.append(f"{name}: {products:.2f} TFLOP/s, {copies:,.0f} GB/s")
    there = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    print(f"{there}; {ALL_THREADS} threads; torch {torch.__version__}.\n" + "; ".join(said) + ".")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small size, few steps each")
    parser.add_argument("--seconds", type=float, default=0.5, help="of the clock for each figure, at least")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--within", type=float, default=600.0, help="seconds after which no further row is begun")
    parser.add_argument("--profile", action="store_true", help="what an update's steps spend their time on")
    parser.add_argument("--fresh", action="store_true", help="whole updates with the settings of a new workspace alone")
    asked = parser.parse_args()
    sizes, batches, seconds, users = tuple(asked.sizes), tuple(asked.batches), asked.seconds, USERS
    if asked.smoke:
        sizes, batches, seconds, users = (2_000,), (128,), 0.05, 100
    machines()
    if asked.profile:
        profiled(sizes[len(sizes) // 2], batches, users)
        return
    if asked.fresh:
        fresh_updates(500 if asked.smoke else FRESH, users // 4)
        return
    updates(sizes[len(sizes) // 2 :][:1], users // 4)
    rates(sizes, batches, seconds, users, time.perf_counter() + asked.within)


if __name__ == "__main__":
    main()
