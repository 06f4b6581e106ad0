"""The term `interest` in half the bits: added to scores about, and put right for the few items that may be shown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imsr_core.rough import RoughInterests
from imsr_core.score.had import TermWithHad
from imsr_core.score.interest import InterestTerm
from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had
from imsr_core.score.protocol import Term


@dataclass(frozen=True)
class WeighedInterest:
    """The term ``interest`` as it is in a score, by ``weight``, for what the user had by ``had`` more."""

    interest: InterestTerm
    weight: float
    had: float = 0.0

    def add(self, scores: Tensor, users: IntArray, mine: Had | None) -> tuple[Rough, Tensor | None]:
        """Add it about to ``scores`` (b, N) of ``users`` (b,), in place, but for what is still to be added for what
        they had (P,), ``mine``, which is returned, too."""
        interest, ids = self.interest, torch.from_numpy(users)
        members = [
            (RoughInterests.of(store, ids, items), items)
            for (store, _), items in zip(interest.members, interest.rough, strict=True)
        ]
        near = torch.full(scores.shape, -sum(rough.raised for rough, _ in members))
        for rough, items in members:
            rough.add_nearest(near, items)
        off = torch.stack([rough.off for rough, _ in members]).sum(0)
        share = interest.scale / len(members)
        scores.add_(near, alpha=share * self.weight)
        slack = off * (share * max(abs(self.weight), abs(self.weight + self.had)))
        if mine is None or not self.had:
            return Rough(self, near, slack, None), None
        places, apart = mine.places_in(near), torch.zeros(near.shape, dtype=torch.bool)
        apart.view(-1)[places] = True
        told = near.view(-1).index_select(0, places).mul_(share * self.had)
        return Rough(self, near, slack, apart), told


def weighed_interest(term: Term, weights: Tensor) -> WeighedInterest | None:
    """``term`` with its ``weights`` (1,) or (2,), if it is the interest."""
    alone = term.term if isinstance(term, TermWithHad) else term
    return WeighedInterest(alone, *weights.tolist()) if isinstance(alone, InterestTerm) else None


@dataclass(frozen=True)
class Rough:
    """What was added to scores (b, N): ``near`` (b, N) the products, the sum of all members, and ``apart`` (b, N) what
    the users had; no score is off by more than ``off`` (b,)."""

    term: WeighedInterest
    near: Tensor
    off: Tensor
    apart: Tensor | None

    def put_right(self, scores: Tensor, users: IntArray, items: Tensor) -> Tensor:
        """(b, C) the scores of ``items`` (b, C) for ``users`` (b,), of the ``scores`` (b, N) that it was added to."""
        interest = self.term.interest
        known = interest.at(users, items.numpy())[..., 0]
        known -= self.near.gather(1, items).mul_(interest.scale / len(interest.members))
        if self.apart is not None:
            known *= self.term.weight + self.term.had * self.apart.gather(1, items)
        else:
            known *= self.term.weight
        return known.add_(scores.gather(1, items))
