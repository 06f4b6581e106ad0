"""How sure a sum over examples is, where those of a user stand and fall together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def error_of_sum(values: NDArray[np.float64], users: NDArray[np.int64]) -> float:
    """The standard error of the sum of values (N,) that belong to these users (N,)."""
    _, own = np.unique(users, return_inverse=True)
    sums = np.bincount(own, weights=values)
    return float(np.sqrt(np.square(sums - sums.mean()).sum()))
