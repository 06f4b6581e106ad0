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

#: Scores held at once (users x items), 256 MB in float32 for the widest K of 4.
CHUNK_SCORES = 16_000_000


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
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (first, scores (b, N), interest (b, N)) for consecutive users (B,).

    ``items`` (N, d) are item vectors, ``bias`` (N,) is added to their scores. Users without interests score -inf
    everywhere.
    """
    width = int(store.counts_of(users).max().clamp(min=1)) if len(users) else 1
    step = max(1, CHUNK_SCORES // max(len(items) * width, 1))
    for first in range(0, len(users), step):
        found = store.rows_of(users[first : first + step])
        vectors = store.vectors[found.rows] if len(store) else torch.zeros(*found.mask.shape, store.dim)
        scores = (vectors.flatten(0, 1) @ items.T).view(*found.mask.shape, len(items))
        best = scores.masked_fill_(~found.mask[..., None], -torch.inf).max(1)
        yield first, best.values if bias is None else best.values + bias, best.indices


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
    for first, scores, interest in score_chunks(store, users, items, bias):
        if exclude is not None:
            here = (exclude[0] >= first) & (exclude[0] < first + len(scores)) & (exclude[1] < len(items))
            scores[exclude[0][here] - first, exclude[1][here]] = -torch.inf
        top = scores.topk(n, dim=1)
        lists.append((top.indices, top.values, interest.gather(1, top.indices)))
    if not lists:
        none = torch.zeros(0, n, dtype=torch.int64)
        return TopItems(none, torch.zeros(0, n), none)
    indices, values, interest = (torch.cat(parts) for parts in zip(*lists, strict=True))
    shown = values > -torch.inf
    return TopItems(indices.where(shown, -1), values, interest.where(shown, -1))
