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
        """Add it about to ``scores`` (b, N) of ``users`` (b,), in place, all of them raised by the same, but for what is
        still to be added for what they had (P,), ``mine``, which is returned, too."""
        interest, ids = self.interest, torch.from_numpy(users)
        near, raised, off = [], 0.0, torch.zeros(len(users))
        share = interest.scale / len(interest.members)
        for (store, _), items in zip(interest.members, interest.rough, strict=True):
            rough = RoughInterests.of(store, ids, items)
            near.append(rough.nearest(items))
            scores.add_(near[-1], alpha=share * self.weight)
            raised, off = raised + rough.raised, off.add_(rough.off)
        slack = off * (share * max(abs(self.weight), abs(self.weight + self.had)))
        if mine is None or not self.had:
            return Rough(self, near, raised, slack, None), None
        places, apart = mine.places_in(scores), torch.zeros(scores.shape, dtype=torch.bool)
        apart.view(-1)[places] = True
        told = sum((each.view(-1).index_select(0, places).float() for each in near), torch.tensor(-raised))
        return Rough(self, near, raised, slack, apart), told.mul_(share * self.had)


def weighed_interest(term: Term, weights: Tensor) -> WeighedInterest | None:
    """``term`` with its ``weights`` (1,) or (2,), if it is the interest."""
    alone = term.term if isinstance(term, TermWithHad) else term
    return WeighedInterest(alone, *weights.tolist()) if isinstance(alone, InterestTerm) else None


@dataclass(frozen=True)
class Rough:
    """What was added to scores (b, N): ``near`` (b, N) the products of each member, of which all together are
    ``raised``, and ``apart`` (b, N) what the users had; no score is off by more than ``off`` (b,)."""

    term: WeighedInterest
    near: list[Tensor]
    raised: float
    off: Tensor
    apart: Tensor | None

    def put_right(self, scores: Tensor, users: IntArray, items: Tensor) -> Tensor:
        """(b, C) the scores of ``items`` (b, C) for ``users`` (b,), of the ``scores`` (b, N) that it was added to."""
        interest = self.term.interest
        known = interest.at(users, items.numpy())[..., 0]
        near = sum((each.gather(1, items).float() for each in self.near), torch.tensor(-self.raised))
        known -= near.mul_(interest.scale / len(interest.members))
        if self.apart is not None:
            known *= self.term.weight + self.term.had * self.apart.gather(1, items)
        else:
            known *= self.term.weight
        raised = interest.scale / len(interest.members) * self.term.weight * self.raised
        return known.add_(scores.gather(1, items)).sub_(raised)
