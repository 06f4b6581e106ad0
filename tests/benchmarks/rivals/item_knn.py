"""Item-kNN: the cosine of items over users, and the items that a user had vote (Sarwar et al., WWW 2001; with shrinkage
as in Ferrari Dacrema et al., RecSys 2019, where it beats most neural models)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rivals.protocol import Rival, Scores, faded_counts, positions
from scipy.sparse import csr_matrix, diags

from imsr_core.ragged import SpanSequences


def fit_item_knn(history: SpanSequences, n_items: int, settings: Mapping[str, Any]) -> Scores:
    """The nearest items of each item. ``half_life`` (days) fades the votes, not what the cosine is made of."""
    shape = (len(history), n_items)
    plain = _logs(csr_matrix((np.ones(history.n_events), (history.rows, history.items)), shape=shape))
    votes = _logs(
        csr_matrix((faded_counts(history, settings["half_life"]), (history.rows, history.items)), shape=shape)
    )
    length = np.sqrt(np.asarray(plain.multiply(plain).sum(0)).ravel())
    common = (plain.T @ plain).tocoo()
    values = common.data / (length[common.row] * length[common.col] + settings["shrink"])
    similar = csr_matrix((values, (common.row, common.col)), shape=common.shape)
    similar.setdiag(0)
    near = _strongest(similar, settings["neighbours"])

    def scores(wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        place, there = positions(history.users, wanted)
        return (diags(there.astype(float)) @ votes[place] @ near).toarray().astype(np.float32)

    return scores


def _logs(matrix: csr_matrix) -> csr_matrix:
    matrix.sum_duplicates()
    matrix.data = np.log1p(matrix.data / 0.1)
    return matrix


def _strongest(similar: csr_matrix, count: int) -> csr_matrix:
    """The ``count`` largest entries of each row, transposed: what each item gives to the others."""
    entries = similar.tocoo()
    order = np.lexsort((-entries.data, entries.row))
    row = entries.row[order]
    first = np.searchsorted(row, np.arange(similar.shape[0]))
    kept = order[np.arange(len(row)) - first[row] < count]
    return csr_matrix((entries.data[kept], (entries.col[kept], entries.row[kept])), shape=similar.shape)


ITEM_KNN = Rival(
    "item-cosine",
    "item-kNN (cosine), computed anew on all data before each span",
    fit_item_knn,
    {
        "neighbours": (20, 50, 100, 200, 400),
        "shrink": (0.0, 3.0, 10.0, 30.0, 100.0, 300.0),
        "half_life": (4.0, 8.0, 15.0, 30.0, 60.0, 120.0, None),
    },
    {"neighbours": 100, "shrink": 10.0, "half_life": 30.0},
    random=4,
)
