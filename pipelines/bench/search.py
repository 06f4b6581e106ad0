"""Choose hyper-parameters on the first spans alone: a random search over a grid, scored on the spans for tuning.

Every trial learns and is tested on the tuning spans and sees nothing of the later ones, which are those that a bench
reports. The score is (HR + NDCG) / 2 as the version serves, mean over the tuning spans: the first shows the base model,
the later ones what updates make of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from imsr_core.config import InterestsConfig
from pipelines.bench.cells import Cell, CellFiles, CellResult
from pipelines.bench.chain import CellRun, run_cell
from pipelines.bench.data import BenchData, BenchError
from pipelines.bench.grid import Estimate, Watch, work_of
from pipelines.bench.summary import METRICS, Scope
from pipelines.bench.variants import Variant, with_settings

#: How the interests are trained: these change most, and together (on sparse logs +25 and +55 % for the interests
#: alone), so a search tries every combination before it draws points at random.
FIRST: dict[str, tuple[Any, ...]] = {
    "training.window": (1, 5),
    "training.full_softmax": (0, 10_000),
    "training.residual": (False, True),
}
#: What a search tries; the values around the defaults that changed something on real logs.
SPACE: dict[str, tuple[Any, ...]] = {
    **FIRST,
    "model.prior_mass": (0.5, 1.0, 2.0, 4.0, 8.0),
    "training.epochs": (2, 4, 8),
    "training.learning_rate": (0.00125, 0.0025, 0.005),
    "retainer.weight": (0.0, 0.01, 0.03, 0.1),
    "detector.c1": (0.25, 0.5, 0.75),
    "detector.min_items": (1, 5, 10),
}


#: Strategies that have the modules of IMSR.
WITH_MODULES = ("imsr", "elastic")


@dataclass(frozen=True)
class Trial:
    """One point of the grid and its score on the tuning spans: (HR + NDCG) / 2, HR, NDCG."""

    settings: Mapping[str, Any]
    score: float
    hr: float
    ndcg: float
    seconds: float
    cell: Cell
    result: CellResult


def space_of(variant: Variant, given: InterestsConfig) -> dict[str, tuple[Any, ...]]:
    """What may be chosen for a variant: not what makes it that variant, nor settings of a module that it has not."""
    fixed = set(variant.settings) if given.score.enabled else {*variant.settings, "training.residual"}
    modules = {"retainer", "detector"} if variant.strategy in WITH_MODULES else set()
    off = {path.split(".")[0] for path, value in variant.settings.items() if path.endswith(".enabled") and not value}
    sections = {"model", "training"} | (modules - off)
    return {path: values for path, values in SPACE.items() if path not in fixed and path.split(".")[0] in sections}


def candidates(
    space: Mapping[str, Sequence[Any]], trials: int, seed: int, given: InterestsConfig | None = None
) -> list[dict[str, Any]]:
    """``trials`` different points of the grid (all, if it has no more).

    The first is {}: the settings as they are ``given``. Then come the combinations of `FIRST` with all else as given,
    but for the one that is given; then points at random.
    """
    first = [path for path in FIRST if path in space]
    chosen = [dict(zip(first, values, strict=True)) for values in product(*(space[path] for path in first))]
    if given is not None:
        chosen = [point for point in chosen if with_settings(given, point) != given]
    points = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    order = np.random.default_rng(seed).permutation(len(points))
    found: list[dict[str, Any]] = [{}]
    for point in (*(chosen if first else ()), *(points[n] for n in order)):
        if len(found) < trials and point not in found:
            found.append(point)
    return found


def search(first: Cell, scope: Scope, files: CellFiles, trials: int, watch: Watch) -> Iterator[Trial]:
    """Trials of a cell's variant, each as soon as it is done; those that were computed before are read.

    Raises:
        BenchError: no span is set apart for tuning, or only one, which no update has learnt from before its test.
    """
    data = scope.data
    if data.tuning < 2:
        raise BenchError(
            f"[bench] tuning_spans = {data.tuning}: a search needs two, one to learn and one to test on",
            hint="set tuning_spans = 2; the reported spans begin after them",
        )
    estimate = Estimate()
    cells = planned(first, data, trials)
    bases = [(files.root / "bases" / cell.base_fingerprint) for _, cell in cells]
    for number, (settings, cell) in enumerate(cells, 1):
        result = files.get(cell)
        if result is None:
            todo = [
                ("", work_of(later, data, base_is_there=base.is_dir()))
                for (_, later), base in zip(cells[number - 1 :], bases[number - 1 :], strict=True)
                if files.get(later) is None
            ]
            with watch(cell, number, len(cells), estimate.left(todo)) as progress:
                result = run_cell(CellRun(cell, data, files, 0, None, progress))
            files.put(cell, result)
            estimate.add("", todo[0][1], result.seconds)
        yield _trial(settings, result, scope, cell)


def planned(first: Cell, data: BenchData, trials: int) -> list[tuple[dict[str, Any], Cell]]:
    """What a search tries: settings, and the cell with them."""
    points = candidates(space_of(first.variant, first.config), trials, first.seed, first.config)
    return [(point, replace(first, until=data.tuning, config=with_settings(first.config, point))) for point in points]


def searchable(variant: Variant) -> None:
    """Raise BenchError for a variant whose settings a search cannot choose."""
    if not variant.is_model or variant.like:
        raise BenchError(f"{variant.name} has nothing to search", hint="search imsr or fine_tune")


def _trial(settings: Mapping[str, Any], result: CellResult, scope: Scope, cell: Cell) -> Trial:
    scores, found = [], result.ranks_of(served=True, discover=scope.discover)
    for span in scope.data.tested[: scope.data.tuning]:
        ranks = torch.from_numpy(found[span.id][scope.member(span)].astype(np.int64))
        scores.append([float(function(ranks, cell.top_n).mean()) for function in METRICS.values()])
    hr, ndcg = np.mean(scores, axis=0)
    return Trial(settings, float((hr + ndcg) / 2), float(hr), float(ndcg), result.seconds, cell, result)


def as_toml(settings: Mapping[str, Any]) -> str:
    """Settings as they stand in an imsr.toml."""
    sections: dict[str, list[str]] = {}
    for path, value in settings.items():
        section, _, key = path.partition(".")
        sections.setdefault(section, []).append(f"{key} = {toml_value(value)}")
    return "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())


def toml_value(value: Any) -> str:
    """A number, string or switch as TOML writes it."""
    return json.dumps(value)
