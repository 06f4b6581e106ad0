"""The term `interest` in half the bits: added to scores about, and put right for the few items that may be shown."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imsr_core.rough import RoughInterests, RoughItems
from imsr_core.score.had import TermWithHad
from imsr_core.score.interest import InterestTerm
from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had
from imsr_core.score.protocol import Term

#: Scores that are added to at once: half a megabyte, so that they stay in the processor's cache.
AT_ONCE = 120_000


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
        share, near = interest.scale / len(members), [rough.nearest(items) for rough, items in members]
        off = torch.stack([rough.off for rough, _ in members]).sum(0)
        slack = off * (share * max(abs(self.weight), abs(self.weight + self.had)))
        found = Rough(self, members, near, slack)
        many = max(1, AT_ONCE // max(scores.shape[1], 1))
        for first in range(0, len(users), many):
            part = slice(first, first + many)
            scores[part].add_(found.of_all([each[part] for each in near]), alpha=share * self.weight)
        if mine is None or not self.had:
            return found, None
        places, apart = mine.places_in(scores), torch.zeros(scores.shape, dtype=torch.bool)
        apart.view(-1)[places] = True
        told = found.of_all([each.view(-1).index_select(0, places) for each in near])
        return replace(found, apart=apart), told.mul_(share * self.had)


def weighed_interest(term: Term, weights: Tensor) -> WeighedInterest | None:
    """``term`` with its ``weights`` (1,) or (2,), if it is the interest."""
    alone = term.term if isinstance(term, TermWithHad) else term
    return WeighedInterest(alone, *weights.tolist()) if isinstance(alone, InterestTerm) else None


@dataclass(frozen=True)
class Rough:
    """What was added to scores (b, N): ``near`` (b, N) the raised products of each of ``members``, its interests and
    its items; and ``apart`` (b, N) what the users had; no score is off by more than ``off`` (b,)."""

    term: WeighedInterest
    members: list[tuple[RoughInterests, RoughItems]]
    near: list[Tensor]
    off: Tensor
    apart: Tensor | None = None

    def put_right(self, scores: Tensor, items: Tensor) -> Tensor:
        """(b, C) the scores of ``items`` (b, C), of the ``scores`` (b, N) that it was added to."""
        share = self.term.interest.scale / len(self.members)
        known = torch.stack([rough.exactly(own.vectors, items) for rough, own in self.members]).sum(0)
        known -= self.of_all([each.gather(1, items) for each in self.near])
        if self.apart is not None:
            known *= self.term.weight + self.term.had * self.apart.gather(1, items)
        else:
            known *= self.term.weight
        return known.mul_(share).add_(scores.gather(1, items))

    def of_all(self, near: list[Tensor]) -> Tensor:
        """The sum of what is ``near`` by each member, not raised."""
        total = near[0].float()
        for more in near[1:]:
            total += more.float()  # which is sooner done than to add halves
        return total.sub_(sum(rough.raised for rough, _ in self.members))
