"""The item vectors of a member of a model in the form that is asked for: of a few items, of all, or lying across."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from imsr_core.interests import InterestStore
from imsr_core.objectives import unit
from imsr_core.retrieval import nearest_of_one, nearest_scores
from imsr_core.rough import RoughItems

#: Numbers of an item table that is kept once more, for one user after the other, at most: 32 MB.
ACROSS = 8_000_000
#: Items that are read together for the first of them: what is made of them stays in the processor's cache.
BLOCK = 2_048


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """``weight`` (N, d) of an item table, read at length 1 where ``normalize`` is set. Nobody may write to it while
    this is in use.

    Each form is made when it is asked for: one user's list takes no copy of the table.
    """

    weight: Tensor
    normalize: bool = False

    @cached_property
    def whole(self) -> Tensor:
        """(N, d) the vectors of all items."""
        return unit(self.weight, self.normalize)

    @cached_property
    def rough(self) -> RoughItems:
        """All of them in half the bits."""
        return RoughItems(self.whole)

    @cached_property
    def _across(self) -> Tensor:
        return self.whole.T.contiguous()

    def at(self, items: Tensor) -> Tensor:
        """(n, d) the vectors of ``items`` (n,)."""
        if "whole" in vars(self):
            return self.whole.index_select(0, items)
        return unit(self.weight.index_select(0, items), self.normalize)

    def nearest(self, store: InterestStore, user: int) -> Tensor:
        """(1, N) max_k h_k . e_i over the interests of one user; 0 for who has none. From the second time on the
        vectors lie across, where they are not too many: a product takes half the time then."""
        if self.weight.numel() > ACROSS:
            return nearest_scores(store, torch.tensor([user]), self.whole)
        if vars(self).get("_asked") or "whole" in vars(self):
            return nearest_of_one(store, user, self._across)
        vars(self)["_asked"] = True
        # each lies across, too, so that a product adds up in the same order as with all of them
        across = (unit(block, self.normalize).T.contiguous() for block in self.weight.split(BLOCK))
        return torch.cat([nearest_of_one(store, user, each) for each in across], 1)
