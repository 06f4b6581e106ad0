"""iALS: alternating least squares on confidences 1 + alpha x count (Hu, Koren and Volinsky, ICDM 2008), by the package
`implicit`. Rendle et al. (RecSys 2022) show that, tuned, it keeps up with most of what came after.

Counts may fade with age, which is what whoever retrains on a growing log would do.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rivals.protocol import Rival, Scores, faded_counts, positions
from scipy.sparse import csr_matrix

from imsr_core.ragged import SpanSequences


def fit_ials(history: SpanSequences, n_items: int, settings: Mapping[str, Any]) -> Scores:
    """Factors of users and items from all events so far."""
    from implicit.cpu.als import AlternatingLeastSquares

    counts = faded_counts(history, settings["half_life"])
    matrix = csr_matrix((counts, (history.rows, history.items)), shape=(len(history), n_items), dtype=np.float32)
    matrix.sum_duplicates()
    if settings["logs"]:
        matrix.data = np.log1p(matrix.data / 0.1).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises on threads of BLAS
        model = AlternatingLeastSquares(
            factors=settings["factors"],
            regularization=settings["regularization"],
            alpha=settings["alpha"],
            iterations=settings["iterations"],
            num_threads=1,
            random_state=0,
        )
        model.fit(matrix, show_progress=False)
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)

    def scores(wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        place, there = positions(history.users, wanted)
        return (users[place] * there[:, None]) @ items.T

    return scores


IALS = Rival(
    "ials",
    "iALS (implicit), retrained on all data before each span",
    fit_ials,
    {
        "factors": (8, 16, 32, 64, 128, 256),
        "regularization": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        "alpha": (0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        "half_life": (15.0, 30.0, 60.0, 120.0, 240.0, 480.0, None),
        "logs": (False, True),
        "iterations": (5, 10, 20),
    },
    {"factors": 64, "regularization": 1.0, "alpha": 3.0, "half_life": 240.0, "logs": False, "iterations": 10},
)
