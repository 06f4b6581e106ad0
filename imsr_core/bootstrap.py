"""Is one model worse than another? A paired bootstrap over users.

Both models ranked the same events; a user's events stand or fall together, so users are drawn, not events
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: the percentile interval).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Draws held at once (resamples x users).
CHUNK_DRAWS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: NDArray[np.float64],
    users: NDArray[np.int64],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean difference over events and its interval.

    ``differences`` (E,) are the candidate's metric less the current one's, event by event, and ``users`` (E,) whose
    event it is; E >= 1. The same arguments give the same interval.
    """
    _, group = np.unique(users, return_inverse=True)
    counts = np.bincount(group).astype(np.float64)
    sums = np.bincount(group, weights=differences)
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, CHUNK_DRAWS // len(sums))
    for first in range(0, resamples, step):
        drawn = rng.integers(len(sums), size=(min(step, resamples - first), len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(np.mean(differences)), float(low), float(high))
