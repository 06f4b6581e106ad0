"""Choose hyper-parameters on the first spans alone: a random search over a grid, scored on the spans for tuning.

Every trial learns and is tested on the tuning spans and sees nothing of the later ones, which are those that a bench
reports. The score is (HR + NDCG) / 2, mean over the tuning spans: the first shows the base model, the later ones what
updates make of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from pipelines.bench.cells import Cell, CellFiles, CellResult
from pipelines.bench.chain import CellRun, run_cell
from pipelines.bench.data import BenchData, BenchError
from pipelines.bench.grid import Estimate, Watch, work_of
from pipelines.bench.summary import METRICS
from pipelines.bench.variants import Variant, with_settings

#: What a search tries; the values around the defaults that changed something on real logs.
SPACE: dict[str, tuple[Any, ...]] = {
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


def space_of(variant: Variant) -> dict[str, tuple[Any, ...]]:
    """What may be chosen for a variant: not what makes it that variant, nor settings of a module that it has not."""
    fixed = set(variant.settings)
    modules = {"retainer", "detector"} if variant.strategy in WITH_MODULES else set()
    off = {path.split(".")[0] for path, value in variant.settings.items() if path.endswith(".enabled") and not value}
    sections = {"model", "training"} | (modules - off)
    return {path: values for path, values in SPACE.items() if path not in fixed and path.split(".")[0] in sections}


def candidates(space: Mapping[str, Sequence[Any]], trials: int, seed: int) -> list[dict[str, Any]]:
    """``trials`` different points of the grid (all, if it has no more), at random; the first is {}: the settings as
    they are given."""
    points = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    order = np.random.default_rng(seed).permutation(len(points))
    return [{}, *(points[n] for n in order[: max(trials - 1, 0)])]


def search(first: Cell, data: BenchData, files: CellFiles, trials: int, watch: Watch) -> Iterator[Trial]:
    """Trials of a cell's variant, each as soon as it is done; those that were computed before are read.

    Raises:
        BenchError: no span is set apart for tuning, or only one, which no update has learnt from before its test.
    """
    if data.tuning < 2:
        raise BenchError(
            f"[bench] tuning_spans = {data.tuning}: a search needs two, one to learn and one to test on",
            hint="set tuning_spans = 2; the reported spans begin after them",
        )
    estimate = Estimate()
    points = candidates(space_of(first.variant), trials, first.seed)
    for number, settings in enumerate(points, 1):
        cell = replace(first, until=data.tuning, config=with_settings(first.config, settings))
        result = files.get(cell)
        if result is None:
            base = (files.root / "bases" / cell.base_fingerprint).is_dir()
            work = work_of(cell, data, base_is_there=base)
            left = estimate.left([("", work)] * (len(points) - number + 1))
            with watch(cell, number, len(points), left) as progress:
                result = run_cell(CellRun(cell, data, files, 0, None, progress))
            files.put(cell, result)
            estimate.add("", work, result.seconds)
        yield _trial(settings, result, data, cell)


def searchable(variant: Variant) -> None:
    """Raise BenchError for a variant whose settings a search cannot choose."""
    if not variant.is_model or variant.like:
        raise BenchError(f"{variant.name} has nothing to search", hint="search imsr or fine_tune")


def _trial(settings: Mapping[str, Any], result: CellResult, data: BenchData, cell: Cell) -> Trial:
    scores = []
    for span in data.tested[: data.tuning]:
        ranks = torch.from_numpy(result.ranks[span.id][span.slices[data.main_slice]].astype(np.int64))
        scores.append([float(function(ranks, cell.top_n).mean()) for function in METRICS.values()])
    hr, ndcg = np.mean(scores, axis=0)
    return Trial(settings, float((hr + ndcg) / 2), float(hr), float(ndcg), result.seconds)


def as_toml(settings: Mapping[str, Any]) -> str:
    """Settings as they stand in an imsr.toml."""
    sections: dict[str, list[str]] = {}
    for path, value in settings.items():
        section, _, key = path.partition(".")
        sections.setdefault(section, []).append(f"{key} = {value}")
    return "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())
