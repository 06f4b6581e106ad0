"""The interest store: every user's interests, as many as the user has, in flat tensors.

User u has K_u interests (paper, section III: a ragged d x K_u matrix), and K_u differs between users and grows.
The store is one table with a row for each interest, sorted by (user, interest_id): no Python list, no loop over
users. An interest keeps its ``interest_id`` for life; ids of one user count up and are never used again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class InterestRows:
    """Where the interests of a batch of B users stand in the store, padded to the longest K.

    ``rows`` (B, K) int64 are row numbers (0 where padded), ``mask`` (B, K) bool is True for real interests.
    """

    rows: Tensor
    mask: Tensor


@dataclass(frozen=True)
class InterestStore:
    """R interests of U users.

    Each row is described by int64 columns (R,): ``user``, ``interest_id``, ``born`` (ordinal of the span of birth),
    ``active`` (ordinal of the last span in which an item was nearest to it) and ``support`` (how many items were).
    ``vectors`` (R, d) float32 are the interests; ``queries`` (R, q) float32 are the attention queries that ComiRec-SA
    learns for each interest, with q = 0 for the routing extractors; ``query_moments`` (R, 2, q) and ``query_steps``
    (R,) are Adam's state of those.
    """

    user: Tensor
    interest_id: Tensor
    born: Tensor
    active: Tensor
    support: Tensor
    vectors: Tensor
    queries: Tensor
    query_moments: Tensor
    query_steps: Tensor

    @classmethod
    def empty(cls, dim: int, query_units: int = 0) -> InterestStore:
        """A store of no user."""
        none = torch.zeros(0, dtype=torch.int64)
        queries = torch.zeros(0, query_units)
        moments = torch.zeros(0, 2, query_units)
        return cls(none, none, none, none, none, torch.zeros(0, dim), queries, moments, torch.zeros(0))

    @classmethod
    def random(
        cls,
        users: Tensor,
        count: int,
        dim: int,
        *,
        scale: float,
        born: int,
        generator: torch.Generator,
        first_id: Tensor | int = 0,
        query_units: int = 0,
    ) -> InterestStore:
        """``count`` new interests for each of ``users`` (n,), sorted: vectors from N(0, scale^2 I).

        ``first_id`` (n,) is the first free interest id of each user.
        """
        rows = len(users) * count
        order = torch.arange(count).repeat(len(users))
        start = torch.as_tensor(first_id, dtype=torch.int64).expand(len(users)).repeat_interleave(count)
        queries = torch.randn(rows, query_units, generator=generator) / max(query_units, 1) ** 0.5
        return cls(
            user=users.repeat_interleave(count),
            interest_id=start + order,
            born=torch.full((rows,), born, dtype=torch.int64),
            active=torch.full((rows,), born, dtype=torch.int64),
            support=torch.zeros(rows, dtype=torch.int64),
            vectors=torch.randn(rows, dim, generator=generator).mul_(scale),
            queries=queries,
            query_moments=torch.zeros(rows, 2, query_units),
            query_steps=torch.zeros(rows),
        )

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def _index(self) -> tuple[Tensor, Tensor, Tensor]:
        """Distinct users (U,), first row of each (U,), number of rows of each (U,)."""
        users, counts = torch.unique_consecutive(self.user, return_counts=True)
        return users, counts.cumsum(0) - counts, counts

    @property
    def users(self) -> Tensor:
        """The users that have interests (U,), ascending."""
        return self._index[0]

    @property
    def counts(self) -> Tensor:
        """K_u of each of ``users`` (U,)."""
        return self._index[2]

    @property
    def dim(self) -> int:
        """d, the length of an interest."""
        return self.vectors.shape[1]

    def counts_of(self, users: Tensor) -> Tensor:
        """K_u of each of ``users`` (B,), 0 for a user without interests."""
        _, count = self.runs_of(users)
        return count

    def runs_of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """First row and K_u of each of ``users`` (B,); K_u is 0 for a user without interests."""
        known, starts, counts = self._index
        if len(known) == 0:
            return torch.zeros_like(users), torch.zeros_like(users)
        slot = torch.searchsorted(known, users).clamp_(max=len(known) - 1)
        found = known[slot] == users
        return starts[slot], torch.where(found, counts[slot], 0)

    def run_of(self, user: int) -> slice:
        """The rows of one user, none of one without interests."""
        known, starts, counts = self._numbers
        slot = int(known.searchsorted(user))
        if slot == len(known) or known[slot] != user:
            return slice(0, 0)
        return slice(int(starts[slot]), int(starts[slot] + counts[slot]))

    @cached_property
    def _numbers(self) -> tuple[NDArray[np.int64], ...]:
        """`_index` as NumPy has it, which looks one of them up sooner."""
        return tuple(part.numpy() for part in self._index)

    def rows_of(self, users: Tensor) -> InterestRows:
        """Row numbers of the interests of ``users`` (B,), padded to the batch's largest K (at least 1)."""
        start, count = self.runs_of(users)
        width = max(int(count.max()) if len(count) else 0, 1)
        order = torch.arange(width, device=users.device)
        mask = order < count[:, None]
        return InterestRows(torch.where(mask, start[:, None] + order, 0), mask)

    def take(self, rows: Tensor | slice) -> InterestStore:
        """The rows that an index or boolean mask (R,) selects; the index must keep the order of rows."""
        return InterestStore(*(getattr(self, f.name)[rows] for f in fields(self)))

    def of_users(self, users: Tensor) -> InterestStore:
        """The interests of ``users`` only."""
        start, count = self.runs_of(users.unique())
        first = count.cumsum(0) - count
        return self.take((start - first).repeat_interleave(count) + torch.arange(int(count.sum()), device=users.device))

    @classmethod
    def of_parts(cls, parts: list[InterestStore]) -> InterestStore:
        """All rows of one part or several, which must not share an interest, in (user, interest_id) order.

        The list is emptied on the way, so that the room of a part can be given back once its rows are taken over.
        """
        user, ids = (torch.cat([getattr(part, name) for part in parts]) for name in ("user", "interest_id"))
        by_id = torch.argsort(ids, stable=True)
        order = by_id[torch.argsort(user[by_id], stable=True)]
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        columns = {f.name: getattr(parts[0], f.name) for f in fields(cls)}
        columns = {name: like.new_empty(len(order), *like.shape[1:]) for name, like in columns.items()}
        first = 0
        while parts:
            part = parts.pop(0)
            rows = place[first : first + len(part)]
            for name, column in columns.items():
                column[rows] = getattr(part, name)
            first += len(part)
        return cls(**columns)

    def union(self, other: InterestStore) -> InterestStore:
        """All rows of both stores, in (user, interest_id) order. The two must not share an interest."""
        if not len(self) or not len(other):
            return other if not len(self) else self
        return InterestStore.of_parts([self, other])

    def updated(self, changes: InterestStore) -> InterestStore:
        """This store as of a later span: the users of ``changes`` have exactly the interests they have there."""
        return self.take(~torch.isin(self.user, changes.users)).union(changes)

    def replaced(self, **columns: Tensor) -> InterestStore:
        """A store with some columns replaced, row for row."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return InterestStore(**(own | columns))

    def next_ids(self, users: Tensor) -> Tensor:
        """For each of ``users`` (B,) the id behind the highest one in the store (B,)."""
        start, count = self.runs_of(users)
        last = torch.where(count > 0, start + count - 1, 0)
        if not len(self):
            return torch.zeros_like(users)
        return torch.where(count > 0, self.interest_id[last] + 1, 0)


def dense_ids(store: InterestStore, keep: Tensor, new: Tensor, at_least: Tensor | int = 0) -> Tensor:
    """Interest ids (R,) without the gaps that trimmed interests leave.

    ``keep`` (R,) marks the interests that stay and ``new`` (R,) those without an id of their own yet: a user's new
    ones count on from the old, which keep theirs, and from ``at_least``, one for each of the store's users: ids of
    interests that were forgotten are not given again.
    """
    surviving = (keep & new).long()
    running = surviving.cumsum(0)
    start = store.rows_of(store.users).rows[:, 0]
    offset = (running[start] - surviving[start]).repeat_interleave(store.counts)
    base = store.take(~new).next_ids(store.users).clamp(min=at_least).repeat_interleave(store.counts)
    return torch.where(new, base + running - offset - 1, store.interest_id)
