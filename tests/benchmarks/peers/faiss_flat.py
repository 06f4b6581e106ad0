"""faiss-cpu's exact index: the best items of each interest, then of each user."""

from __future__ import annotations

import faiss
import numpy as np


def index_of(items: np.ndarray) -> faiss.IndexFlatIP:
    """All item vectors (N, d)."""
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    return index


def search(index: faiss.IndexFlatIP, interests: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and items (B, K n) of users with interests (B, K, d): the n best of each interest, not united."""
    users, k, dim = interests.shape
    scores, items = index.search(interests.reshape(-1, dim), n)
    return scores.reshape(users, k * n), items.reshape(users, k * n)


def united(scores: np.ndarray, items: np.ndarray, n: int) -> np.ndarray:
    """The n best items (B, n) of those lists, each item once."""
    order = np.argsort(-scores, axis=1, kind="stable")
    rows = np.take_along_axis(items, order, axis=1)
    return np.array([list(dict.fromkeys(row.tolist()))[:n] for row in rows])
