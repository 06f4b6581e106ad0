"""The term `interest`: how near an item is to the nearest of a user's interests, as a logit.

column: scale x max_k h_k . e_i, of a model with several members the mean of theirs (see `imsr_core.members`). It has
no state of its own: the interests and item vectors are the model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from imsr_core.interests import InterestStore
from imsr_core.item_vectors import ItemVectors
from imsr_core.retrieval import nearest_scores, padded_interests
from imsr_core.rough import RoughItems
from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had

#: Items (users x items) that are looked at together in `at`.
CHUNK = 65_536
#: Pairs that are looked at together in `InterestTerm.asked`.
PAIRS = 1_024


@dataclass(frozen=True)
class InterestTerm:
    """``store`` holds the users' interests, ``items`` (N, d) the item vectors, as they are or in the form that is asked
    for; ``scale`` turns products into logits. ``others`` are store and item vectors of each further member.

    A user without interests has 0 everywhere.
    """

    store: InterestStore
    items: Tensor | ItemVectors
    scale: float
    others: tuple[tuple[InterestStore, Tensor | ItemVectors], ...] = ()

    columns = ("interest",)

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (1,)."""
        scores.add_(self._best(users), alpha=self.scale * float(weights[0]))

    def add_apart(self, scores: Tensor, mine: Had, weights: Tensor, had: Tensor) -> Tensor:
        """As `add` for the users of ``mine``; (P,) what they had, by ``had`` (1,)."""
        best = self._best(mine.users)
        scores.add_(best, alpha=self.scale * float(weights[0]))
        return best.view(-1).index_select(0, mine.places_in(best)).mul_(self.scale * float(had[0]))

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 1) the column of ``items`` (B, C) for ``users`` (B,)."""
        found = torch.zeros(*items.shape, 1)
        step = max(1, CHUNK // max(items.shape[1], 1))
        for first in range(0, len(users), step):
            ids = torch.from_numpy(users[first : first + step])
            shown = torch.from_numpy(np.ascontiguousarray(items[first : first + step]))
            found[first : first + step, :, 0] = self.scale * self._mean(
                _nearest_of(store, vectors, ids, shown) for store, vectors in self.members
            )
        return found

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(B, C, 1) the column of ``shared`` (C,) items, and (P, 1) that of pairs."""
        ids, rows, own = (torch.from_numpy(each) for each in (users, place, items))
        everywhere = torch.from_numpy(shared)
        best = self._mean(nearest_scores(store, ids, vectors.at(everywhere)) for store, vectors in self.members)
        pairs = self._mean(_nearest_of_pairs(store, vectors, ids, rows, own) for store, vectors in self.members)
        return self.scale * best[..., None], self.scale * pairs[:, None]

    @cached_property
    def members(self) -> tuple[tuple[InterestStore, ItemVectors], ...]:
        """Store and item vectors (N, d) of each member, the first one's first."""
        each = ((self.store, self.items), *self.others)
        return tuple((store, ItemVectors(own) if isinstance(own, Tensor) else own) for store, own in each)

    @property
    def rough(self) -> tuple[RoughItems, ...]:
        """The item vectors of each member in half the bits."""
        return tuple(vectors.rough for _, vectors in self.members)

    def asked_of(self, stores: Sequence[InterestStore]) -> InterestTerm:
        """The same items for other people, whose interests are in the ``stores`` of each member; what was made of the
        item vectors is not made again."""
        first, *others = zip(stores, (vectors for _, vectors in self.members), strict=True)
        return replace(self, store=first[0], items=first[1], others=tuple(others))

    def _best(self, users: IntArray) -> Tensor:
        """(B, N) the product of each item with the nearest interest of ``users`` (B,), which nobody may write to."""
        if len(users) == 1:
            return self._of_one(int(users[0]))
        ids = torch.from_numpy(users)
        return self._mean(nearest_scores(store, ids, vectors.whole) for store, vectors in self.members)

    def _of_one(self, user: int) -> Tensor:
        """The same of one user. The last answer is kept: each set of weights asks of the same user in turn."""
        known: tuple[int, Tensor] | None = vars(self).get("_last")
        if known is None or known[0] != user:
            known = user, self._mean(vectors.nearest(store, user) for store, vectors in self.members)
            vars(self)["_last"] = known
        return known[1]

    def _mean(self, said: Iterable[Tensor]) -> Tensor:
        """The mean of what each member says, in place of the first one's."""
        each = iter(said)
        total = next(each)
        for more in each:
            total += more
        return total.div_(1 + len(self.others)) if self.others else total


def _nearest_of(store: InterestStore, vectors: ItemVectors, users: Tensor, items: Tensor) -> Tensor:
    """(b, C) the product of ``items`` (b, C) with the nearest interest of ``users`` (b,), 0 for who has none."""
    interests, own = padded_interests(store, users), vectors.at(items.reshape(-1))
    best = (interests @ own.view(*items.shape, store.dim).transpose(1, 2)).amax(1)
    return best.masked_fill_((store.counts_of(users) == 0)[:, None], 0.0)


def _nearest_of_pairs(
    store: InterestStore, vectors: ItemVectors, users: Tensor, place: Tensor, items: Tensor
) -> Tensor:
    """(P,) the same for pairs of ``items`` (P,) and the user at a ``place`` (P,) among ``users`` (B,)."""
    interests, none = padded_interests(store, users), store.counts_of(users) == 0
    found = [torch.zeros(0)]
    for part in torch.arange(len(place)).split(PAIRS):
        rows = place[part]
        own = vectors.at(items[part])
        nearest = (interests.index_select(0, rows) @ own[..., None])[..., 0].amax(1)
        found.append(nearest.masked_fill(none[rows], 0.0))
    return torch.cat(found)
