"""When a user was here: the spans of a user's last visits, for strategies that count in visits and not in spans.

Noted are users with an interest that no item of the span was nearest to; of all others the interests themselves say
it, since each was nearest to an item in the user's last visit. What was noted is `ModelState.user_memory`:
``visits.user`` (U,) and ``visits.spans`` (U, n), the ordinals of the last n visits, newest first, -1 for none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imsr_core.interests import InterestStore
from imsr_core.state import ModelState

OWNER = "visits"


@dataclass(frozen=True)
class Visits:
    """``user`` (U,) ascending and ``spans`` (U, n); empty in versions from before visits were noted."""

    user: Tensor
    spans: Tensor

    @classmethod
    def of(cls, state: ModelState) -> Visits:
        """What a model has noted."""
        none = torch.zeros(0, dtype=torch.int64)
        memory = state.user_memory
        return cls(memory.get(f"{OWNER}.user", none), memory.get(f"{OWNER}.spans", none[:, None]))

    def before(self, users: Tensor, last: Tensor, n: int) -> Tensor:
        """(R, n) spans of the last n visits of each of ``users`` (R,), newest first.

        Of a user who is not noted only the last visit is known, ``last`` (R,): those before count as one a span.
        """
        found = last[:, None] - torch.arange(n)
        if not len(self.user) or not n:
            return found
        slot = torch.searchsorted(self.user, users).clamp(max=len(self.user) - 1)
        noted = torch.full((len(self.user), n), -1)
        width = min(n, self.spans.shape[1])
        noted[:, :width] = self.spans[:, :width]
        return torch.where((self.user[slot] == users)[:, None], noted[slot], found)

    def after(self, interests: InterestStore, last: Tensor, ordinal: int, n: int) -> dict[str, Tensor]:
        """What to note after span ``ordinal``: ``interests`` are those of its users; ``last`` (R,) as of ``before``."""
        resting = interests.active < ordinal
        users = torch.unique(interests.user[resting])
        row = torch.searchsorted(interests.user, users)  # any row of the user: all say the same
        now = torch.full((len(users), 1), ordinal)
        spans = torch.cat([now, self.before(users, last[row], n)], dim=1)[:, :n]
        other = ~torch.isin(self.user, interests.user)
        old = torch.full((int(other.sum()), n), -1)
        width = min(n, self.spans.shape[1])
        old[:, :width] = self.spans[other, :width]
        user = torch.cat([self.user[other], users])
        order = user.argsort()
        return {f"{OWNER}.user": user[order], f"{OWNER}.spans": torch.cat([old, spans])[order]}


def last_visits(store: InterestStore, users: Tensor) -> Tensor:
    """(R,) the last span in which an interest of each of ``users`` (R,) was nearest to an item; -1 of a new user."""
    if not len(store):
        return torch.full_like(users, -1)
    place = torch.repeat_interleave(torch.arange(len(store.users)), store.counts)
    last = torch.full((len(store.users),), -1).scatter_reduce(0, place, store.active, "amax", include_self=True)
    slot = torch.searchsorted(store.users, users).clamp(max=len(last) - 1)
    return torch.where(store.users[slot] == users, last[slot], -1)
