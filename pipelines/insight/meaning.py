"""What an interest stands for: the items nearest to it, and the categories that stand out among them.

An interest is a vector; what it means is what it brings. The nearest items are those of the largest inner product, as
in the score that serves. A category stands out by its lift, the share among the nearest items over the share in the
catalogue; categories are ordered by share x log(lift), their part in the divergence of the two distributions, so that
neither a rare word nor a category that is everywhere comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.retrieval import BLOCK_SCORES
from pipelines.insight.catalogue import Catalogue, Category

#: Nearest items whose categories are counted; in a small catalogue, where most items would be near, a sixth of it.
NEIGHBOURHOOD, SMALL = 50, 6
#: A category of fewer nearest items than this says nothing.
FEWEST = 3
#: Nor does one that is not at least so much more frequent than in the catalogue.
LEAST_LIFT = 2.0


@dataclass(frozen=True)
class Standout:
    """A category that stands out: ``share`` of the nearest items have it, ``lift`` times the catalogue's share."""

    column: str
    value: str
    share: float
    lift: float

    def __str__(self) -> str:
        lift = f"{self.lift:.0f}" if self.lift >= 10 else f"{self.lift:.1f}"
        return f"{self.value} ({self.share:.0%}, {lift} x)"


@dataclass(frozen=True)
class Nearest:
    """The nearest items of R interests: ``items`` (R, M) int64 and ``scores`` (R, M) float32, best first."""

    items: NDArray[np.int64]
    scores: NDArray[np.float32]


def neighbourhood(n_items: int) -> int:
    """How many of the nearest items of an interest say what it stands for, in a catalogue of ``n_items``."""
    return min(NEIGHBOURHOOD, max(FEWEST, n_items // SMALL))


@torch.no_grad()
def nearest_items(vectors: Tensor, items: Tensor, most: int) -> Nearest:
    """The ``most`` items of the largest inner product with each interest; ``vectors`` (R, d), ``items`` (N, d)."""
    most = min(most, len(items))
    step = max(1, BLOCK_SCORES // max(len(items), 1))
    parts = [(vectors[at : at + step] @ items.T).topk(most, dim=1) for at in range(0, len(vectors), step)]
    if not parts:
        return Nearest(np.zeros((0, most), np.int64), np.zeros((0, most), np.float32))
    return Nearest(
        torch.cat([part.indices for part in parts]).numpy(), torch.cat([part.values for part in parts]).numpy()
    )


def standouts(nearest: NDArray[np.int64], catalogue: Catalogue, most: int = 3) -> list[list[Standout]]:
    """For each row of nearest items (R, M) the categories that stand out, the most telling first."""
    found: list[list[tuple[float, Standout]]] = [[] for _ in range(len(nearest))]
    for category in catalogue.categories:
        for row, weight, standout in _of_category(nearest, category):
            found[row].append((weight, standout))
    return [[s for _, s in sorted(each, key=lambda pair: -pair[0])[:most]] for each in found]


def _of_category(nearest: NDArray[np.int64], category: Category) -> list[tuple[int, float, Standout]]:
    codes = category.codes[nearest]
    rows, width = np.nonzero(codes >= 0)[0], len(category.values)
    key, counts = np.unique(rows * max(width, 1) + codes[codes >= 0], return_counts=True)
    telling = counts >= FEWEST
    key, counts = key[telling], counts[telling]
    everywhere = np.bincount(category.codes[category.codes >= 0], minlength=width)
    share = counts / max(nearest.shape[1], 1)
    lift = share / (everywhere[key % max(width, 1)] / max(len(category.codes), 1))
    weight = share * np.log(lift)
    return [
        (int(k // width), float(w), Standout(category.name, category.values[k % width], float(s), float(x)))
        for k, w, s, x in zip(key, weight, share, lift, strict=True)
        if x >= LEAST_LIFT
    ]
