"""What learning one task did to the others: the matrix R and what the papers read from it.

R[v, j] is the metric of task j measured at version v (after v + 1 tasks), NaN where j was not yet learnt. The
definitions are relative, as recovered from TERACON's tables: a value of -0.05 is a loss of 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def transfer_matrix(rows: Sequence[Mapping[str, float]], tasks: Sequence[str]) -> FloatArray:
    """One mapping task -> metric for each version, oldest first -> R (versions, tasks)."""
    return np.array([[row.get(task, np.nan) for task in tasks] for row in rows], dtype=np.float64)


def when_learnt(matrix: FloatArray) -> FloatArray:
    """R[j, j]: each task's metric at the version that learnt it, (tasks,); NaN where there is none.

    A task that was removed and learnt again counts from the second time: it is another one since.
    """
    known = ~np.isnan(matrix)
    begins = known & ~np.vstack([np.zeros((1, matrix.shape[1]), dtype=bool), known[:-1]])
    last = len(matrix) - 1 - np.argmax(begins[::-1], axis=0)
    return matrix[np.where(begins.any(axis=0), last, 0), np.arange(matrix.shape[1])]


def backward_transfer(matrix: FloatArray) -> FloatArray:
    """BWT_j = (R[last, j] - R[j, j]) / R[j, j], (tasks,); 0 for the newest task, NaN where R[j, j] is 0."""
    start = when_learnt(matrix)
    return _relative(matrix[-1], start)


def forward_transfer(matrix: FloatArray, alone: FloatArray) -> FloatArray:
    """FWT_j = (R[j, j] - S_j) / S_j with S the metric of a model trained on task j alone (SinMo), (tasks,)."""
    return _relative(when_learnt(matrix), alone)


def forgetting(matrix: FloatArray) -> FloatArray:
    """F_j = max(0, -BWT_j), (tasks,): what a gate compares with its tolerance."""
    return np.maximum(0.0, -backward_transfer(matrix)) + 0.0  # -0.0 is 0


def _relative(value: FloatArray, base: FloatArray) -> FloatArray:
    return np.divide(value - base, base, out=np.full_like(base, np.nan), where=base != 0)
