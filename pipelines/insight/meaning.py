"""What an interest stands for: the items nearest to it, and the categories that stand out among them.

An interest is a vector; what it means is what it brings. The nearest items are those of the largest inner product, as
in the score that serves. A category stands out by its lift, the share among the nearest items over the share in the
catalogue; categories are ordered by share x log(lift), their part in the divergence of the two distributions, so that
neither a rare word nor a category that is everywhere comes first; one that says of the same items what another says
already (yogurt, and the yogurt department) is left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.retrieval import BLOCK_SCORES
from pipelines.interests.catalogue import Catalogue, Category

#: Nearest items whose categories are counted; in a small catalogue, where most items would be near, a sixth of it.
NEIGHBOURHOOD, SMALL = 50, 6
#: A category of fewer nearest items than this says nothing.
FEWEST = 3
#: Nor does one that is not at least so much more frequent than in the catalogue.
LEAST_LIFT = 2.0
#: A category that shares so much of its items, or of another's, with that one says nothing more.
SAME = 0.8
#: Categories that name an interest.
LABEL_WORDS = 2


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
    found: list[list[_Found]] = [[] for _ in range(len(nearest))]
    for category in catalogue.categories:
        for each in _of_category(nearest, category):
            found[each.row].append(each)
    return [_different(each, most) for each in found]


@dataclass(frozen=True)
class _Found:
    """A category that stands out in a row, its weight, and which of the row's items (M,) have it."""

    row: int
    weight: float
    standout: Standout
    items: NDArray[np.bool_]


def _different(found: list[_Found], most: int) -> list[Standout]:
    chosen: list[_Found] = []
    for each in sorted(found, key=lambda one: -one.weight):
        if len(chosen) < most and not any(_says_the_same(each, other) for other in chosen):
            chosen.append(each)
    return [each.standout for each in chosen]


def _says_the_same(one: _Found, other: _Found) -> bool:
    both = int((one.items & other.items).sum())
    return both >= SAME * min(int(one.items.sum()), int(other.items.sum()))


def _of_category(nearest: NDArray[np.int64], category: Category) -> list[_Found]:
    codes = category.codes[nearest]  # (R, M, W)
    rows, width = np.nonzero(codes >= 0)[0], len(category.values)
    key, counts = np.unique(rows * max(width, 1) + codes[codes >= 0], return_counts=True)
    telling = counts >= FEWEST
    key, counts = key[telling], counts[telling]
    everywhere = np.bincount(category.codes[category.codes >= 0], minlength=width)
    share = counts / max(nearest.shape[1], 1)
    lift = share / (everywhere[key % max(width, 1)] / max(len(category.codes), 1))
    return [
        _Found(
            row=int(k // width),
            weight=float(s * np.log(x)),
            standout=Standout(category.name, category.values[k % width], float(s), float(x)),
            items=(codes[k // width] == k % width).any(1),
        )
        for k, s, x in zip(key, share, lift, strict=True)
        if x >= LEAST_LIFT
    ]


def labels(told: Sequence[Sequence[Standout]], nearest: Sequence[str]) -> list[str]:
    """A short name for each interest of one user: of what stands out (``told``), or the name of its ``nearest`` item.

    It is to tell a user's interests apart: a category that stands out in many of them (produce, in a grocer's log)
    comes behind one that stands out in few.
    """
    spread = Counter(standout.value for each in told for standout in each)

    def weight(standout: Standout) -> float:
        return standout.share * math.log(standout.lift) * math.log(1 + len(told) / spread[standout.value])

    names = []
    for each, item in zip(told, nearest, strict=True):
        values = [tidy(s.value) for s in sorted(each, key=weight, reverse=True)[:LABEL_WORDS]]
        names.append(" & ".join(values) if values else item)
    return names


def tidy(text: str) -> str:
    """A name for people: single spaces, and no word that shouts."""
    words = " ".join(text.split())
    return words.capitalize() if words.isupper() else words
