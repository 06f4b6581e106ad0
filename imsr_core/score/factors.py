"""The term `factors`: what users with the same things have. Item factors by least squares; users are read, not stored.

    minimise  sum over users u of the span and items i of c_ui (p_ui - x_u . y_i)^2  +  ridge |x_u|^2  +  ridge |y_i|^2
    p_ui = 1 if the user had the item, else 0        c_ui = 1 + WEIGHT log(1 + p_ui(T) / EPSILON)

with the user's decayed counts p_ui(T) of the term `personal`, by alternating least squares over the whole catalogue
(Hu, Koren and Volinsky, *Collaborative filtering for implicit feedback datasets*, ICDM 2008). A span moves the factors
of its items: the sum is over its users (everything that they had), and each is pulled to where it was. A user is one
solution of k equations from what is known of it at the time, so nothing of a user is stored here.

column: SCALE x_u . y_i
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences
from imsr_core.score.pairs import IntArray, Pairs
from imsr_core.score.personal import EPSILON, PersonalTerm
from imsr_core.score.personal import HALF_LIVES as PERSONAL_HALF_LIVES
from imsr_core.sorted_keys import is_in, unique

#: k, how much more an item counts that was had, and the penalty on the length of factors.
RANK, WEIGHT, RIDGE = 32, 0.3, 10.0
#: How much an item is held to where it was, in the unit of the ridge.
PULL = 10.0
#: Rounds of users and items: for a first span, and for a later one, which begins near its end.
FIRST_SWEEPS, SWEEPS = 6, 2
#: Users of a span that are read at most.
USERS = 10_000
SCALE = 10.0
#: Which of the personal counts is meant, in spans, and the length of a fresh factor.
HALF_LIFE, FRESH = 4.0, 0.1
#: Pairs that are held at once, as many as stay in the processor's cache; and systems of equations.
CHUNK, LARGEST = 8_192, 2_048


@dataclass(frozen=True)
class FactorsTerm:
    """``factors`` (N, RANK) float32 of the items; ``personal`` says what users had."""

    factors: Tensor
    personal: PersonalTerm

    columns = ("factors",)

    @classmethod
    def empty(cls, personal: PersonalTerm) -> FactorsTerm:
        """Of no item."""
        return cls(torch.zeros(0, RANK), personal)

    def asked_of(self, personal: PersonalTerm, n_items: int) -> FactorsTerm:
        """The same factors for other people; items that came since have none."""
        return replace(self, factors=_padded(self.factors, n_items), personal=personal)

    def after(self, span: SpanSequences, n_items: int) -> FactorsTerm:
        """With a span, which ``personal`` has counted already."""
        before = _padded(self.factors, n_items)
        users = span.users[span.counts > 0]
        if len(users) > USERS:
            users = users[np.linspace(0, len(users) - 1, USERS).astype(np.int64)]
        mine = self.personal.pairs.of_owners(users)
        if not len(mine):
            return replace(self, factors=before)
        known = len(self.factors)
        items = unique(span.items) if known else unique(mine.other)
        place, weight = np.searchsorted(users, mine.owner), self._weights(mine)
        moved = np.flatnonzero(is_in(mine.other, items))
        moved = moved[np.argsort(mine.other[moved], kind="stable")]
        rows, chosen = np.searchsorted(items, mine.other[moved]), torch.from_numpy(items)
        factors = before.clone()
        factors[chosen[chosen >= known]] = _fresh(known, n_items)[chosen[chosen >= known] - known]
        pull = PULL * (chosen < known)
        for _ in range(SWEEPS if known else FIRST_SWEEPS):
            people = _solved(place, mine.other, weight, factors, len(users))
            factors[chosen] = _solved(rows, place[moved], weight[moved], people, len(items), before[chosen], pull)
        return replace(self, factors=factors)

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (1,)."""
        if not len(self.factors):
            return
        vectors = SCALE * float(weights[0]) * self.vectors(users)
        scores.addmm_(vectors, self.factors[: scores.shape[1]].T)

    def column(self, users: IntArray, n_items: int) -> Tensor:
        """(B, ``n_items``) the column of all items for ``users`` (B,)."""
        if not len(self.factors):
            return torch.zeros(len(users), n_items)
        return (SCALE * self.vectors(users)) @ self.factors[:n_items].T

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 1) the column of ``items`` (B, C) for ``users`` (B,)."""
        people, place = np.unique(users, return_inverse=True)
        vectors = self.vectors(people)
        factors = _padded(self.factors, int(items.max(initial=-1)) + 1)
        found = torch.zeros(*items.shape, 1)
        step = max(1, CHUNK // max(items.shape[1], 1))
        for first in range(0, len(users), step):
            part = slice(first, first + step)
            chosen = factors[torch.from_numpy(np.ascontiguousarray(items[part]))]  # (b, C, k)
            found[part] = SCALE * (chosen @ vectors[torch.from_numpy(place[part])][:, :, None])
        return found

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(B, C, 1) the column of ``shared`` (C,) items, and (P, 1) that of pairs."""
        vectors = self.vectors(users)
        factors = _padded(self.factors, int(max(shared.max(initial=-1), items.max(initial=-1))) + 1)
        found = torch.empty(len(place))
        for first in range(0, len(place), CHUNK):
            part = slice(first, first + CHUNK)
            mine = vectors[torch.from_numpy(place[part])] * factors[torch.from_numpy(items[part])]  # (p, k)
            found[part] = mine.sum(1)
        return SCALE * (vectors @ factors[torch.from_numpy(shared)].T)[..., None], SCALE * found[:, None]

    def vectors(self, users: IntArray) -> Tensor:
        """(B, RANK) x_u of ``users`` (B,), ascending or not: from what they had."""
        place, rows = self.personal.pairs.rows_of(users)
        mine = self.personal.pairs.take(rows)
        inside = mine.other < len(self.factors)
        weight = self._weights(mine)
        return _solved(place[inside], mine.other[inside], weight[inside], self.factors, len(users), gram=self._gram)

    @cached_property
    def _gram(self) -> Tensor:
        return _gram(self.factors)

    def _weights(self, pairs: Pairs) -> Tensor:
        """(R,) c - 1 of pairs."""
        column = 2 + PERSONAL_HALF_LIVES.index(HALF_LIFE)
        age = (self.personal.until - pairs.last) / self.personal.unit
        faded = pairs.values[:, column] * np.exp2(-age / HALF_LIFE)
        return torch.from_numpy(WEIGHT * np.log1p(faded / EPSILON)).float()


def _padded(factors: Tensor, n_items: int) -> Tensor:
    """With zeros for items that nobody had yet."""
    return torch.cat([factors, torch.zeros(max(0, n_items - len(factors)), RANK)])


def _fresh(first: int, n_items: int) -> Tensor:
    """(n_items - first, RANK) where new items begin: drawn, the same for the same numbers."""
    generator = torch.Generator().manual_seed(first)
    return FRESH * torch.randn(n_items - first, RANK, generator=generator)


def _solved(
    owner: IntArray,
    other: IntArray,
    weight: Tensor,
    known: Tensor,
    owners: int,
    before: Tensor | None = None,
    pull: Tensor | None = None,
    gram: Tensor | None = None,
) -> Tensor:
    """(owners, k) the factors of ``owner`` (R,), ascending, that fit the ``known`` (M, k) of their ``other`` (R,) best;
    each is pulled to ``before`` (owners, k) by ``pull`` (owners,). Who has nothing gets zero. ``gram`` is that of
    ``known``, where it is at hand."""
    rank = known.shape[1]
    before = torch.zeros(owners, rank) if before is None else before
    pull = torch.zeros(owners) if pull is None else pull
    one = torch.eye(rank, dtype=torch.float64)
    base = (_gram(known) if gram is None else gram) + RIDGE * one
    found = torch.zeros(owners, rank)
    count = np.bincount(owner, minlength=owners)
    start = np.cumsum(count) - count
    for batch in _batches(count):
        column = np.arange(int(count[batch[-1]]))
        real = column < count[batch, None]  # (b, W)
        rows, chosen = np.where(real, start[batch, None] + column, 0), torch.from_numpy(batch)
        mask = torch.from_numpy(real).float()
        vectors = known[torch.from_numpy(other[rows])]  # (b, W, k); those of empty places weigh nothing below
        extra = weight[torch.from_numpy(rows)] * mask
        held = pull[chosen, None].double()
        left = base + held[..., None] * one + (vectors.transpose(1, 2) @ (vectors * extra[..., None])).double()
        right = ((mask + extra)[:, None, :] @ vectors)[:, 0].double() + held * before[chosen].double()
        found[chosen] = torch.cholesky_solve(right[..., None], torch.linalg.cholesky(left))[..., 0].float()
    return found


def _gram(factors: Tensor) -> Tensor:
    """(k, k) the sum of y y^T over all items."""
    return factors.double().T @ factors.double()


def _batches(count: IntArray) -> Iterator[IntArray]:
    """Owners with pairs, those with about as many together, so that a table of them has few empty places."""
    order = np.argsort(count, kind="stable")
    order = order[count[order] > 0]
    end = len(order)
    while end > 0:
        size = min(LARGEST, max(1, CHUNK // int(count[order[end - 1]])))
        yield order[max(0, end - size) : end]
        end -= size
