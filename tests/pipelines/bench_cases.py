"""A planted log for the bench: five spans of users with favourites, small enough to learn in a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from imsr_core.config import DetectorConfig, InterestsConfig, ModelConfig, TrainingConfig
from imsr_core.ragged import SpanSequences, from_events
from imsr_core.strategies.protocol import Progress, silent
from pipelines.bench.cells import Cell, CellFiles
from pipelines.bench.data import BenchData, cut, renumbered
from pipelines.bench.grid import Grid, Step, run_grid
from pipelines.bench.variants import variants_named
from pipelines.settings.bench import BenchSettings

#: Microseconds of a span.
LENGTH = 10**12
NAMES = ["s0", "s1", "s2", "s3", "s4"]
CONFIG = InterestsConfig(
    model=ModelConfig(dim=8, initial_interests=2, max_interests=6, history=10),
    detector=DetectorConfig(new_interests=2),
    training=TrainingConfig(batch_size=64, base_epochs=2, epochs=1, negatives=20, targets_per_user=5),
)
SETTINGS = BenchSettings(matrix_users=10)


def spans(seed: int = 0, users: int = 30) -> list[SpanSequences]:
    """Five spans; users and items arrive span by span, everybody has favourites."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(len(NAMES)):
        size = 6 * users // (2 if number else 1)
        who = rng.integers(min(users, 12 + 5 * number), size=size)
        liked = (who % 5) * 10 + rng.integers(3 + number, size=size)
        items = np.where(rng.random(size) < 0.8, liked, rng.integers(30 + 5 * number, size=size))
        found.append(from_events(who, items, np.sort(rng.integers(10**12, size=size)) + number * 10**12))
    return found


def bench_data(parts: Sequence[SpanSequences] | None = None, protocol: str = "prequential") -> BenchData:
    """The planted log, two of its four tested spans reported."""
    return cut(NAMES, renumbered(spans() if parts is None else parts), protocol, 2, LENGTH)


def grid(data: BenchData, names: str, seeds: tuple[int, ...] = (0,), **changes: object) -> Grid:
    """Variants by name, on ComiRec-DR."""
    options = {"config": CONFIG, "extractors": ("comirec-dr",), "top_n": 5} | changes
    return Grid(data=data, variants=tuple(variants_named(names.split())), seeds=seeds, **options)


@contextmanager
def unwatched(cell: Cell, number: int, total: int, left: tuple[float, float] | None) -> Iterator[Progress]:
    """A `Watch` that shows nothing."""
    yield silent


def run(where: Grid, files: CellFiles) -> dict[str, Step]:
    """Every step of a grid, by the cell's name."""
    return {step.cell.name: step for step in run_grid(where, files, SETTINGS, unwatched)}
