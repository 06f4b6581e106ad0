"""EASE: a linear item-item model in closed form (Steck, WWW 2019).

B = I - P diag(1 / P_ii), P = (X'X + lambda I)^-1; scores = x B, the diagonal of B being zero
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rivals.protocol import Rival, Scores, faded_counts, positions
from scipy.sparse import csr_matrix

from imsr_core.ragged import SpanSequences


def fit_ease(history: SpanSequences, n_items: int, settings: Mapping[str, Any]) -> Scores:
    """The weights between items from who had both; ``x`` are the user's counts, faded, to a power."""
    counts = faded_counts(history, settings["half_life"])
    matrix = csr_matrix((counts, (history.rows, history.items)), shape=(len(history), n_items))
    matrix.sum_duplicates()
    matrix.data = matrix.data ** settings["power"]
    gram = (matrix.T @ matrix).toarray()
    gram[np.diag_indices(n_items)] += settings["l2"]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(torch.from_numpy(gram).float())).numpy()
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)

    def scores(wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        place, there = positions(history.users, wanted)
        mine = matrix[place].toarray().astype(np.float32) * there[:, None]
        return mine @ weights

    return scores


EASE = Rival(
    "ease",
    "EASE, solved anew on all data before each span",
    fit_ease,
    {
        "l2": (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0),
        "half_life": (15.0, 30.0, 60.0, 120.0, 240.0, None),
        "power": (0.25, 0.5, 1.0),
    },
    {"l2": 100.0, "half_life": 120.0, "power": 0.5},
    random=4,
)
