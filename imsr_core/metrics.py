"""Ranking metrics over the full catalogue, and the matrix of a chain of versions.

Ranks count ties against the model: an item's rank is the number of *other* items that score at least as much. A
model that scores everything alike thus finds nothing, instead of everything.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def ranks_within(top_scores: Tensor, scores: Tensor) -> Tensor:
    """Rank (0 = best) of items with these ``scores`` (E,), exact below N and N otherwise.

    ``top_scores`` (E, N + 1) are the highest scores of each item's list, the item's own among them if it is there.
    If fewer than N other items score at least as much, all of them and the item are in the list.
    """
    limit = top_scores.shape[1] - 1
    return (
        ((top_scores >= scores[:, None]).sum(1) - 1)
        .clamp(min=0, max=limit)
        .where(scores >= top_scores[:, -1], torch.full_like(scores, limit, dtype=torch.int64))
    )


def hit_rate(ranks: Tensor, n: int) -> Tensor:
    """HR@n of each event (E,): 1 if its item is among the first n."""
    return (ranks < n).double()


def ndcg(ranks: Tensor, n: int) -> Tensor:
    """NDCG@n of each event (E,) with one relevant item: 1 / log2(rank + 2) among the first n, else 0."""
    return torch.where(ranks < n, 1 / (ranks.double() + 2).log2(), 0.0)


def reciprocal_rank(ranks: Tensor, n: int) -> Tensor:
    """MRR@n of each event (E,): 1 / (rank + 1) among the first n, else 0."""
    return torch.where(ranks < n, 1 / (ranks.double() + 1), 0.0)


def backward_transfer(matrix: NDArray[np.float64]) -> float:
    """Mean over spans i < T - 1 of R[T-1, i] - R[i, i], with R[t, i] the score of version t on span i."""
    last = len(matrix) - 1
    if last < 1:
        return float("nan")
    return float(np.mean(matrix[last, :last] - np.diag(matrix)[:last]))


def forgetting(matrix: NDArray[np.float64]) -> float:
    """Mean over spans i < T - 1 of (best R[t, i] of the versions i <= t < T - 1) - R[T-1, i]."""
    last = len(matrix) - 1
    if last < 1:
        return float("nan")
    losses = [np.nanmax(matrix[i:last, i]) - matrix[last, i] for i in range(last)]
    return float(np.mean(losses))
