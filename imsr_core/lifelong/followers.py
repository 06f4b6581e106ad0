"""What followed an item in the histories of the training users: of each item the followers that say most.

    lift(y after x) = log(1 + c(x, y) / (``PRIOR`` p(y)))

c(x, y) counts how often y came one to ``REACH`` events after x, an event that is k away as 1 / k; p(y) is y's share of
all events. So a follower that is no more frequent than it is anywhere else is lifted little, and one that was never
seen not at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.ragged import SpanSequences
from imsr_core.sorted_keys import numbered

MOST, MOST_CELLS = 50, 5_000_000
"""Followers of an item that are kept, those with the largest c * lift; fewer where all items would have more cells."""
REACH = 3
PRIOR = 30.0


class Followers(NamedTuple):
    """The table.

    Attributes:
        items: (V, K) int32, K up to ``MOST`` followers of each item; what is left of a row is 0.
        lift: (V, K) float32, above 0 for a follower, 0 in what is left.
    """

    items: Tensor
    lift: Tensor


def followers_of(sequences: SpanSequences, n_items: int) -> Followers:
    """The table of these histories, whose items are below ``n_items``."""
    before, after, counts = _pairs(sequences, n_items)
    share = np.bincount(sequences.items, minlength=n_items) / max(1, len(sequences.items))
    lift = np.log1p(counts / (PRIOR * share[after]))
    order = np.lexsort((after, -counts * lift, before))
    starts = np.searchsorted(before[order], np.arange(n_items))
    place = np.arange(len(order)) - starts[before[order]]
    most = max(1, min(MOST, MOST_CELLS // n_items))
    order, place = order[place < most], place[place < most]
    items = np.zeros((n_items, most), dtype=np.int32)
    lifts = np.zeros((n_items, most), dtype=np.float32)
    items[before[order], place] = after[order]
    lifts[before[order], place] = lift[order]
    return Followers(torch.from_numpy(items), torch.from_numpy(lifts))


def _pairs(sequences: SpanSequences, n_items: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(P,) item, (P,) what came after it, and (P,) how often, the nearer the more."""
    owners, items = sequences.rows, sequences.items.astype(np.int64)
    keys, weights = [], []
    for step in range(1, REACH + 1):
        own = owners[step:] == owners[:-step]
        keys.append((items[:-step] * n_items + items[step:])[own])
        weights.append(np.full(len(keys[-1]), 1.0 / step))
    pairs, place = numbered(np.concatenate(keys))
    counts: NDArray[np.float64] = np.bincount(place, np.concatenate(weights), len(pairs)).astype(np.float64)
    return pairs // n_items, pairs % n_items, counts
