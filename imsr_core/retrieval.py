"""Exact top-N over the catalogue from a user's interests.

Inference of the paper: the top-N items of each interest by inner product, the lists united, best score first. An
item's score in the union is its best score over the interests, so the first N of the union are the top-N of
``max_k h_k . e_i``: one product, one maximum, one selection, no lists. A bias of the items (see `imsr_core.trend`)
is added to the maximum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from imsr_core.interests import InterestStore

#: Scores held at once (users x items): 4 MB in float32, of this many users at least.
CHUNK_SCORES, FEWEST_USERS = 1_000_000, 8
#: Scores of single interests held at once (users x interests x items): 4 MB, so that they never leave the cache.
BLOCK_SCORES = 1_000_000


@dataclass(frozen=True)
class TopItems:
    """``items`` and ``scores`` (B, N), best first; ``items`` is -1 and ``scores`` -inf where a list is shorter.

    ``interest`` (B, N) is the position of the interest that brought the item, in the order of interest ids.
    """

    items: Tensor
    scores: Tensor
    interest: Tensor


def score_chunks(
    store: InterestStore, users: Tensor, items: Tensor, bias: Tensor | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield (first, scores (b, N)) for consecutive users (B,).

    ``items`` (N, d) are item vectors, ``bias`` (N,) is added to their scores. Users without interests score -inf
    everywhere.
    """
    step = max(FEWEST_USERS, CHUNK_SCORES // max(len(items), 1))
    for first in range(0, len(users), step):
        part = users[first : first + step]
        scores = nearest_scores(store, part, items)
        if bias is not None:
            scores += bias
        scores[store.counts_of(part) == 0] = -torch.inf
        yield first, scores


def padded_interests(store: InterestStore, users: Tensor) -> Tensor:
    """Interests (b, K, d) of users (b,); whoever has fewer than K has the first one again, which changes no maximum."""
    found = store.rows_of(users)
    if not len(store):
        return torch.zeros(*found.mask.shape, store.dim)
    rows = found.rows.where(found.mask, found.rows[:, :1])
    return store.vectors.index_select(0, rows.view(-1)).view(*rows.shape, store.dim)


def nearest_scores(store: InterestStore, users: Tensor, items: Tensor) -> Tensor:
    """(b, N) max_k h_k . e_i over the interests of each of ``users`` (b,); 0 for who has none. ``items`` are (N, d).

    Users with as many interests are looked at together, so that nothing is multiplied in vain.
    """
    first, count = store.runs_of(users)
    if len(users) == 1 and int(count) and int(count) * len(items) <= BLOCK_SCORES:
        return (store.vectors[int(first) : int(first + count)] @ items.T).amax(0, keepdim=True)
    order = count.argsort(descending=True, stable=True)
    count = count[order]
    many, alike = (part.tolist() for part in torch.unique_consecutive(count, return_counts=True))
    begins = (first[order] - (count.cumsum(0) - count)).repeat_interleave(count)
    interests = store.vectors.index_select(0, begins + torch.arange(len(begins)))  # (sum of K, d)
    best = torch.zeros(len(users), len(items))
    step = max(1, BLOCK_SCORES // max(len(interests), 1))
    for start in range(0, len(items) if len(interests) else 0, step):
        block = interests @ items[start : start + step].T
        row = user = 0
        for k, n in zip(many, alike, strict=True):
            if k:
                nearest = best[user : user + n, start : start + step]
                torch.amax(block[row : row + n * k].view(n, k, -1), 1, out=nearest)
            row, user = row + n * k, user + n
    return best if len(many) < 2 else best[order.argsort()]


def nearest_of_one(store: InterestStore, user: int, across: Tensor) -> Tensor:
    """(1, N) the same for one user, of item vectors that lie ``across`` (d, N): with a few rows a product with such a
    matrix takes half the time."""
    own = store.vectors[store.run_of(user)]
    return (own @ across).amax(0, keepdim=True) if len(own) else across.new_zeros(1, across.shape[1])


@torch.no_grad()
def top_items(
    store: InterestStore,
    users: Tensor,
    items: Tensor,
    n: int,
    exclude: tuple[Tensor, Tensor] | None = None,
    bias: Tensor | None = None,
) -> TopItems:
    """The n best items of each of ``users`` (B,), by the scores of `score_chunks`.

    ``exclude`` is a pair (row, item) of equal length: positions in ``users`` and items that must not be shown to
    that user (what was seen before); items that ``items`` does not have yet are ignored.
    """
    n = min(n, len(items))
    lists = []
    for first, scores in score_chunks(store, users, items, bias):
        if exclude is not None:
            here = (exclude[0] >= first) & (exclude[0] < first + len(scores)) & (exclude[1] < len(items))
            scores[exclude[0][here] - first, exclude[1][here]] = -torch.inf
        top = scores.topk(n, dim=1)
        interests = padded_interests(store, users[first : first + len(scores)])
        bringer = (items[top.indices] @ interests.transpose(1, 2)).argmax(-1)
        lists.append((top.indices, top.values, bringer))
    if not lists:
        none = torch.zeros(0, n, dtype=torch.int64)
        return TopItems(none, torch.zeros(0, n), none)
    indices, values, interest = (torch.cat(parts) for parts in zip(*lists, strict=True))
    shown = values > -torch.inf
    return TopItems(indices.where(shown, -1), values, interest.where(shown, -1))
