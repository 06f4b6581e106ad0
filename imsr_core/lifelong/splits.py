"""Who trains, who selects, who tests: decided once by user, for all tasks and all spans.

The papers split examples, so one user may train T1 and test T2. Here a user's part is a hash of the user and the
split's seed: it needs no table, and it never changes when users are added.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imsr_core.lifelong.config import SplitConfig

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


def parts_of(users: NDArray[np.int64], config: SplitConfig) -> NDArray[np.int8]:
    """(U,) user indices -> (U,) positions in ``PARTS``."""
    share = (_mix(users.astype(np.uint64), config.seed) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.searchsorted([config.train, config.train + config.validation], share, side="right").astype(np.int8)


def _mix(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """SplitMix64 of value and seed: every output bit depends on every input bit."""
    with np.errstate(over="ignore"):
        z = values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed % 2**64) * np.uint64(0xD1B54A32D192ED03)
        z += np.uint64(0x9E3779B97F4A7C15)
        for _ in range(2):  # twice, because value and seed enter linearly
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return z
