"""The term `interest`: how near an item is to the nearest of a user's interests, as a logit.

column: scale x max_k h_k . e_i. It has no state of its own: the interests and item vectors are the model's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imsr_core.interests import InterestStore
from imsr_core.retrieval import nearest_scores, padded_interests
from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had

#: Items (users x items) that are looked at together in `at`.
CHUNK = 65_536
#: Pairs that are looked at together in `InterestTerm.asked`.
PAIRS = 1_024


@dataclass(frozen=True)
class InterestTerm:
    """``store`` holds the users' interests, ``items`` (N, d) the item vectors; ``scale`` turns products into logits.

    A user without interests has 0 everywhere.
    """

    store: InterestStore
    items: Tensor
    scale: float

    columns = ("interest",)

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (1,)."""
        scores.add_(self._best(users, self.items), alpha=self.scale * float(weights[0]))

    def add_apart(self, scores: Tensor, mine: Had, weights: Tensor, had: Tensor) -> Tensor:
        """As `add` for the users of ``mine``; (P,) what they had, by ``had`` (1,)."""
        best = self._best(mine.users, self.items)
        scores.add_(best, alpha=self.scale * float(weights[0]))
        return best.view(-1).index_select(0, mine.places_in(best)).mul_(self.scale * float(had[0]))

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 1) the column of ``items`` (B, C) for ``users`` (B,)."""
        found = torch.zeros(*items.shape, 1)
        step = max(1, CHUNK // max(items.shape[1], 1))
        for first in range(0, len(users), step):
            ids = torch.from_numpy(users[first : first + step])
            interests = padded_interests(self.store, ids)  # (b, K, d)
            vectors = self.items[torch.from_numpy(np.ascontiguousarray(items[first : first + step]))]  # (b, C, d)
            best = (vectors @ interests.transpose(1, 2)).amax(-1)
            best[self.store.counts_of(ids) == 0] = 0.0
            found[first : first + step, :, 0] = self.scale * best
        return found

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(B, C, 1) the column of ``shared`` (C,) items, and (P, 1) that of pairs."""
        best = self._best(users, self.items[torch.from_numpy(shared)])
        ids = torch.from_numpy(users)
        interests, none = padded_interests(self.store, ids), self.store.counts_of(ids) == 0
        found = []
        for part in torch.arange(len(place)).split(PAIRS):
            rows = torch.from_numpy(place)[part]
            vectors = self.items.index_select(0, torch.from_numpy(items)[part])
            nearest = (interests.index_select(0, rows) @ vectors[..., None])[..., 0].amax(1)
            found.append(nearest.masked_fill(none[rows], 0.0))
        return self.scale * best[..., None], self.scale * torch.cat([torch.zeros(0), *found])[:, None]

    def _best(self, users: IntArray, vectors: Tensor) -> Tensor:
        """(B, N) the product of each of ``vectors`` (N, d) with the nearest interest of ``users`` (B,)."""
        return nearest_scores(self.store, torch.from_numpy(users), vectors)
