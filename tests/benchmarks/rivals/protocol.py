"""What a rival is: something that is trained on a whole history and then scores the catalogue for a user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences

DAY = 86_400_000_000  # microseconds
#: Scores (b, N) float32 of users (b,) given by their index; of users that were never seen, anything.
Scores = Callable[[NDArray[np.int64]], NDArray[np.float32]]
#: Train on a history with so many items and these settings.
Fit = Callable[[SpanSequences, int, Mapping[str, Any]], Scores]


@dataclass(frozen=True)
class Rival:
    """``space`` holds the values of each setting in order, so that a search can walk from one to its neighbour; it
    begins at ``start`` or at the best of so many points at ``random``. With ``once`` a trial is judged on the last
    tuning span only (slow rivals)."""

    name: str
    what: str
    fit: Fit
    space: Mapping[str, Sequence[Any]]
    start: Mapping[str, Any] = field(default_factory=dict)
    random: int = 20
    once: bool = False


def faded_counts(history: SpanSequences, half_life: float | None) -> NDArray[np.float64]:
    """What each event (E,) counts: 1, or less the older it is (``half_life`` in days)."""
    if half_life is None:
        return np.ones(history.n_events)
    age = (history.timestamps.max() - history.timestamps) / DAY
    return np.exp2(-age / half_life)


def positions(known: NDArray[np.int64], users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Position of ``users`` (b,) among the sorted ``known``, and whether each is there (else the position is 0)."""
    place = np.searchsorted(known, users).clip(max=len(known) - 1)
    there = known[place] == users
    return np.where(there, place, 0), there
