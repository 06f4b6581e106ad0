"""What the next span costs: an update of imsr, plain fine-tuning, and retraining on everything. Generated.

    python tests/benchmarks/benchmark_growth.py                            # 24 spans, a few minutes
    python tests/benchmarks/benchmark_growth.py --plot growth.svg          # with a picture (needs matplotlib)
    python tests/benchmarks/benchmark_growth.py --spans 4 --events 300     # in seconds
    python tests/benchmarks/benchmark_growth.py --modules --spans 4 --events 8000 --users 2000 --items 50000 --epochs 3
                                                                           # what of an update its modules are

Every span has as many events of as many users, and a few new items. Both pass over what they learn as often
(`--epochs`, early stopping off), with the same model, batches and negatives: what differs is what they learn from.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from imsr_core.config import InterestsConfig, ModelConfig, TrainingConfig
from imsr_core.ragged import SpanSequences, concatenate, empty_sequences, from_events
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named

NEW_ITEMS = 20


def spans(count: int, events: int, users: int, items: int) -> list[tuple[SpanSequences, int]]:
    """Sequences of each span, and the size of the catalogue after it."""
    found = []
    for number in range(count):
        rng = np.random.default_rng([number, events])
        known = items + number * NEW_ITEMS
        who = np.sort(rng.integers(users, size=events))
        what = (known * rng.random(events) ** 2).astype(np.int64)
        found.append((from_events(who, what, np.arange(events) + number * events), known))
    return found


def seconds_of(strategy: str, chain: list[tuple[SpanSequences, int]], epochs: int) -> list[float]:
    """Processor seconds of each span, learnt one after the other."""
    training = TrainingConfig(base_epochs=epochs, epochs=epochs, patience=0, targets_per_user=0)
    state = ModelState.initial(InterestsConfig(model=ModelConfig(dim=64), training=training))
    past: list[SpanSequences] = [empty_sequences()]
    spent = []
    for sequences, n_items in chain:
        start = time.process_time()
        state = strategy_named(strategy)(state, sequences, n_items, history=partial(concatenate, past)).state
        spent.append(time.process_time() - start)
        past = [*past, sequences]
    return spent


def modules(chain: list[tuple[SpanSequences, int]], epochs: int, times: int = 5) -> dict[str, float]:
    """Processor seconds of the last span, at best, with all modules, without each, and without any."""
    training = TrainingConfig(base_epochs=epochs, epochs=epochs, patience=0, targets_per_user=0)
    state = ModelState.initial(InterestsConfig(model=ModelConfig(dim=64), training=training))
    for sequences, n_items in chain[:-1]:
        state = strategy_named("imsr")(state, sequences, n_items).state
    own = {"EIR": "retainer", "NID": "detector", "PIT": "trimmer"}
    without = {"all modules": (), **{f"without {name}": (part,) for name, part in own.items()}, "none": own.values()}
    best = dict.fromkeys(without, float("inf"))
    for _ in range(times):
        for name, parts in without.items():
            off = {part: replace(getattr(state.config, part), enabled=False) for part in parts}
            start = time.process_time()
            strategy_named("imsr")(replace(state, config=replace(state.config, **off)), *chain[-1])
            best[name] = min(best[name], time.process_time() - start)
    return best


def plot(path: Path, columns: dict[str, list[float]]) -> None:
    """A line for each strategy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for name, values in columns.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
    axes.set(xlabel="span", ylabel="processor seconds", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=24)
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--modules", action="store_true", help="what of the last update its modules are")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chain = spans(asked.spans, asked.events, asked.users, asked.items)
    if asked.modules:
        found = modules(chain, asked.epochs)
        for name, seconds in found.items():
            print(f"{name}: {seconds:.2f} s, x {seconds / found['none']:.3f}")
        return
    columns = {name: seconds_of(name, chain, asked.epochs) for name in ("imsr", "fine_tune", "full_retrain")}
    print("| span | imsr, s | fine_tune, s | full_retrain, s | full_retrain : imsr |\n|---:|---:|---:|---:|---:|")
    for number, (update, plain, retrain) in enumerate(zip(*columns.values(), strict=True), 1):
        print(f"| {number} | {update:.2f} | {plain:.2f} | {retrain:.2f} | {retrain / update:.1f} |")
    growth = {name: f"{values[-1] / values[1]:.1f}" for name, values in columns.items()}
    print(f"\nthe last span against the second: {', '.join(f'{name} x {times}' for name, times in growth.items())}")
    after = {name: sum(values[1:]) for name, values in columns.items()}
    print(f"imsr : fine_tune, all spans after the first: {after['imsr'] / after['fine_tune']:.2f}")
    if asked.plot:
        plot(asked.plot, columns)


if __name__ == "__main__":
    main()
