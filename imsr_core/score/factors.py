"""The term `factors`: what users with the same things have. Item factors by least squares; users are read, not stored.

    minimise  sum over users u of the span and items i of c_ui (p_ui - x_u . y_i)^2  +  ridge |x_u|^2  +  ridge |y_i|^2
    p_ui = 1 if the user had the item, else 0        c_ui = 1 + w log(1 + p_ui(T) / EPSILON)

with the user's decayed counts p_ui(T) of the term `personal`, by alternating least squares over the whole catalogue
(Hu, Koren and Volinsky, *Collaborative filtering for implicit feedback datasets*, ICDM 2008). A span moves the factors
of its items: the sum is over its users (everything that they had), and each is pulled to where it was. A user is one
solution of k equations from what is known of it at the time, so nothing of a user is stored here.

There is a table of factors for each w of `WEIGHTS`. With a small one an item that was had says about as much as one
that was not, and the factors tell crowds apart; with a large one what was had often, and of late, is nearly all.

columns: SCALE x_u . y_i by table
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences
from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had, PersonalTerm
from imsr_core.sorted_keys import is_in, unique

#: k, and the penalty on the length of factors.
RANK, RIDGE = 32, 10.0
#: How much more an item counts that was had, by table, and the names of their columns.
WEIGHTS, COLUMNS = (0.3, 3.0), ("factors", "factors_often")
#: How much an item is held to where it was, in the unit of the ridge.
PULL = 10.0
#: Rounds of users and items: for a first span, and for a later one, which begins near its end.
FIRST_SWEEPS, SWEEPS = 6, 2
#: Users of a span that are read at most.
USERS = 10_000
SCALE = 10.0
#: Which column of the personal term counts, log(1 + p / EPSILON) faded by half in four spans; the length of a fresh
#: factor.
COUNTS, FRESH = PersonalTerm.columns.index("personal_4_spans"), 0.1
#: What is had counts at least so much: nothing, but there is an inverse.
LEAST = 1e-30
#: Pairs that are held at once, as many as stay in the processor's cache; and systems of equations.
CHUNK, LARGEST = 8_192, 2_048
#: Systems of which the matrices are there together: 2 MB for each table.
SYSTEMS = 256
#: Who has so many items at most is solved for by them, in as many equations, and not by the k numbers of a factor.
FEW = 16


@dataclass(frozen=True)
class FactorsTerm:
    """``factors`` (N, T x RANK) float32 of the items, table beside table; ``personal`` says what users had.

    A version that was made before there was a second table has the first alone, until the next span.
    """

    factors: Tensor
    personal: PersonalTerm

    @classmethod
    def empty(cls, personal: PersonalTerm) -> FactorsTerm:
        """Of no item."""
        return cls(torch.zeros(0, RANK * len(WEIGHTS)), personal)

    @property
    def tables(self) -> int:
        """T, how many tables there are."""
        return self.factors.shape[1] // RANK

    @property
    def columns(self) -> tuple[str, ...]:
        """A column for each table."""
        return COLUMNS[: self.tables]

    def only_of(self, personal: PersonalTerm) -> FactorsTerm:
        """The same factors, of some users alone."""
        other = replace(self, personal=personal)
        if "_everybody" in vars(self):
            vars(other)["_everybody"] = self._everybody
        return other

    def asked_of(self, personal: PersonalTerm, n_items: int) -> FactorsTerm:
        """The same factors for other people; items that came since have none."""
        other = replace(self, factors=_padded(self.factors, n_items), personal=personal)
        vars(other)["_everybody"] = self._everybody  # which items that have none add nothing to
        return other

    def after(self, span: SpanSequences, n_items: int) -> FactorsTerm:
        """With a span, which ``personal`` has counted already. A table that was not there begins with it."""
        users = span.users[span.counts > 0]
        if len(users) > USERS:
            users = users[np.linspace(0, len(users) - 1, USERS).astype(np.int64)]
        mine = self.personal.only_of(users).pairs
        if not len(mine):
            return replace(self, factors=_padded(self.factors, n_items))
        counts = self.personal.columns_of(mine)[:, COUNTS]
        had = _Had(np.searchsorted(users, mine.owner), mine.other, counts, len(users))
        missing = self.factors.new_zeros(0, RANK * (len(WEIGHTS) - self.tables))
        items = np.flatnonzero(np.bincount(span.items, minlength=n_items))
        parts = [
            _moved(before, had, weights, items, n_items)
            for before, weights in ((self.factors, WEIGHTS[: self.tables]), (missing, WEIGHTS[self.tables :]))
            if weights
        ]
        return replace(self, factors=torch.cat(parts, 1))

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (T,)."""
        scores[:, : len(self.factors)].addmm_(_weighed(self.vectors(users), weights), self._below(scores.shape[1]).T)

    def add_apart(self, scores: Tensor, mine: Had, weights: Tensor, had: Tensor) -> Tensor:
        """As `add` for the users of ``mine``; (P,) what they had, by ``had`` (T,)."""
        known = mine.within(len(self.factors))
        vectors, told = self._read(known, had)
        scores[:, : len(self.factors)].addmm_(_weighed(vectors, weights), self._below(scores.shape[1]).T)
        told = told.mul_(SCALE)
        if known is mine:
            return told
        everything = torch.zeros(len(mine.items))
        everything[torch.from_numpy(mine.items < len(self.factors))] = told
        return everything

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, T) the columns of ``items`` (B, C) for ``users`` (B,)."""
        people, place = np.unique(users, return_inverse=True)
        place = np.repeat(place, items.shape[1])
        return self.asked(people, items[0, :0], place, items.ravel())[1].view(*items.shape, self.tables)

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(B, C, T) the columns of ``shared`` (C,) items, and (P, T) those of pairs."""
        vectors = SCALE * self.vectors(users)
        known = _padded(self.factors, int(shared.max(initial=-1)) + 1)[torch.from_numpy(shared)]
        everybody = _by_table(vectors).transpose(0, 1) @ _by_table(known).permute(1, 2, 0)  # (T, B, C)
        return everybody.permute(1, 2, 0), self._products(vectors, place, items)

    def vectors(self, users: IntArray) -> Tensor:
        """(B, T x RANK) x_u of ``users`` (B,), ascending or not: from what they had."""
        return self._read(self.personal.had_by(users).within(len(self.factors)))[0]

    def _read(self, mine: Had, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T x RANK) x_u of the users of ``mine``, and (P,) the products with what they had by ``weights`` (T,)."""
        counts = mine.values[:, COUNTS]
        if len(mine.users) == 1:
            own = self.factors.index_select(0, torch.from_numpy(mine.items))
            return _alone(own, counts, WEIGHTS[: self.tables], self._everybody, weights)
        had = _Had(mine.place, mine.items, counts, len(mine.users))
        return _solved(had, WEIGHTS[: self.tables], self.factors, everybody=self._everybody, told=weights)

    def _below(self, n_items: int) -> Tensor:
        return self.factors[:n_items]

    @cached_property
    def _everybody(self) -> _Everybody:
        return _Everybody.of(self.factors)

    def _products(self, vectors: Tensor, place: IntArray, items: IntArray) -> Tensor:
        """(P, T) the products of ``vectors`` (B, T x k) and the factors of pairs ``place`` and ``items`` (P,); 0 for
        items that have none."""
        found = torch.zeros(len(place), self.tables)
        rows = np.flatnonzero(items < len(self.factors))
        for first in range(0, len(rows), CHUNK):
            part = rows[first : first + CHUNK]
            factors = self.factors.index_select(0, torch.from_numpy(items[part]))
            factors *= vectors.index_select(0, torch.from_numpy(place[part]))
            found[torch.from_numpy(part)] = factors.view(len(part), self.tables, RANK).sum(-1)
        return found


@dataclass(frozen=True)
class _Had:
    """Pairs (R,): ``owner`` (ascending, below ``owners``), ``other``, and how much they count, ``counts``."""

    owner: IntArray
    other: IntArray
    counts: Tensor
    owners: int


def _moved(known: Tensor, had: _Had, weights: tuple[float, ...], items: IntArray, n_items: int) -> Tensor:
    """(``n_items``, T x k) the factors ``known`` (N, T x k), moved for the ``items`` (ascending) of a span, by what its
    users ``had``; where none are known, for all that they had."""
    if not len(known):
        items = unique(had.other)
    moved = np.flatnonzero(is_in(had.other, items))
    moved = moved[np.argsort(had.other[moved], kind="stable")]
    theirs = _Had(np.searchsorted(items, had.other[moved]), had.owner[moved], had.counts[moved], len(items))
    before, chosen = _padded(known, n_items), torch.from_numpy(items)
    factors, new = before.clone(), chosen[chosen >= len(known)]
    factors[new] = _fresh(len(known), n_items)[new - len(known)].repeat(1, len(weights))
    held = before[chosen], PULL * (chosen < len(known))
    for _ in range(SWEEPS if len(known) else FIRST_SWEEPS):
        people, _ = _solved(had, weights, factors)
        factors[chosen] = _solved(theirs, weights, people, held)[0]
    return factors


def _padded(factors: Tensor, n_items: int) -> Tensor:
    """With zeros for items that nobody had yet; the very same where there are none."""
    missing = n_items - len(factors)
    return factors if missing <= 0 else torch.cat([factors, factors.new_zeros(missing, factors.shape[1])])


def _by_table(factors: Tensor) -> Tensor:
    """(N, T, k) of (N, T x k)."""
    return factors.view(len(factors), factors.shape[1] // RANK, RANK)


def _weighed(vectors: Tensor, weights: Tensor) -> Tensor:
    """(B, T x k) of ``vectors`` (B, T x k) by SCALE and ``weights`` (T,)."""
    return (SCALE * weights[:, None] * _by_table(vectors)).flatten(1)


def _fresh(first: int, n_items: int) -> Tensor:
    """(n_items - first, RANK) where new items begin: drawn, the same for the same numbers."""
    generator = torch.Generator().manual_seed(first)
    return FRESH * torch.randn(n_items - first, RANK, generator=generator)


@dataclass(frozen=True)
class _Everybody:
    """What is the same in the equations of all who are solved for by the same factors: by table, the sum of y y^T over
    all of them and the ridge, ``curve`` (T, k, k), and what undoes it, ``inverse`` (T, k, k).

    With the ridge the equations are far from singular (conditions of 2 to 10 on five logs): 32 bits are enough."""

    curve: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, factors: Tensor) -> _Everybody:
        """Of all ``factors`` (M, T x k)."""
        tables = _by_table(factors).transpose(0, 1).double()
        curve = tables.transpose(1, 2) @ tables + RIDGE * torch.eye(RANK, dtype=torch.float64)
        return cls(curve.float(), torch.linalg.inv(curve).float())


def _solved(
    had: _Had,
    weights: tuple[float, ...],
    known: Tensor,
    held: tuple[Tensor, Tensor] | None = None,
    everybody: _Everybody | None = None,
    told: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(owners, T x k) the factors of the owners of ``had`` that fit the ``known`` (M, T x k) of what they had best, for
    each of ``weights`` (T,); and (R,) their products with those by ``told`` (T,), where it is given.

    ``held`` are factors (owners, T x k) to which they are pulled, and by how much (owners,). Who has nothing gets zero.
    ``everybody`` is that of ``known``, where it is at hand.
    """
    same, by_table = everybody or _Everybody.of(known), torch.tensor(weights)
    found, products = torch.zeros(had.owners, known.shape[1]), torch.zeros(len(had.other) + 1)
    count = np.bincount(had.owner, minlength=had.owners)
    start, gap = np.cumsum(count) - count, len(had.other)  # a row that is no pair
    others, roots = torch.from_numpy(np.append(had.other, 0)), had.counts.clamp(min=LEAST).sqrt_()
    scales = torch.nn.functional.pad(torch.stack([roots.reciprocal(), roots]), (0, 1)).view(-1)
    for batch in _batches(count):
        column = np.arange(int(count[batch[-1]]))
        own_rows = np.where(column < count[batch, None], start[batch, None] + column, gap)
        both = torch.from_numpy(np.stack([own_rows, own_rows + (gap + 1)], 1))  # (b, 2, W) of ``scales``
        rows, chosen = torch.from_numpy(own_rows.ravel()), torch.from_numpy(batch)
        vectors = known.index_select(0, others.index_select(0, rows))
        own = _Own.of(vectors, scales.index_select(0, both.view(-1)).view(both.shape), by_table)
        if held is None and len(column) <= FEW:
            solved = _by_items(own, same)
        else:
            solved = _by_factors(own, same, None if held is None else (_by_table(held[0][chosen]), held[1][chosen]))
        found[chosen] = solved.flatten(1)
        if told is not None:
            each = own.products((told[:, None] * solved).flatten(1))
            products.index_copy_(0, rows, each.view(-1))
    return found, products[:gap]


def _alone(
    own: Tensor, counts: Tensor, weights: tuple[float, ...], same: _Everybody, told: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `_solved` for one owner of ``own`` (W, T x k) with ``counts`` (W,): the same in fewer steps, which are what
    takes the time of one."""
    tables = _by_table(own).transpose(0, 1)  # (T, W, k)
    more = torch.tensor(weights)[:, None, None] * counts[:, None]  # (T, W, 1)
    curve = torch.baddbmm(same.curve, tables.transpose(1, 2), tables * more)
    slope = tables.transpose(1, 2) @ more.add_(1.0)
    found = torch.cholesky_solve(slope, torch.linalg.cholesky(curve)).view(len(weights), -1)
    return found.view(1, -1), own[:, 0] if told is None else own @ (told[:, None] * found).view(-1)


@dataclass(frozen=True)
class _Own:
    """What each of b owners had, in W places: ``vectors`` (b, W, T x k) times the roots R of how much they count;
    ``scales`` (b, 2, W) what undoes that, and R, both 0 in places that are empty; ``weights`` (T,) by table."""

    vectors: Tensor
    scales: Tensor
    weights: Tensor

    @classmethod
    def of(cls, vectors: Tensor, scales: Tensor, weights: Tensor) -> _Own:
        """Of ``vectors`` (b x W, T x k) as they are, which are changed."""
        return cls(vectors.view(len(scales), scales.shape[2], -1).mul_(scales[:, 1, :, None]), scales, weights)

    def take(self, part: slice) -> _Own:
        """Some of the owners."""
        return _Own(self.vectors[part], self.scales[part], self.weights)

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The vectors (b, W, k) of each table."""
        return self.vectors.view(*self.vectors.shape[:2], len(self.weights), RANK).unbind(2)

    @property
    def sums(self) -> Tensor:
        """(b, T, k) V^T (1 + D) 1: the vectors of each table summed up, each as often as it weighs."""
        sums = (self.scales @ self.vectors).view(-1, 2, len(self.weights), RANK)
        return sums[:, 0] + self.weights[:, None] * sums[:, 1]

    def products(self, vectors: Tensor) -> Tensor:
        """(b, W) the products of the owners' ``vectors`` (b, T x k) and what they had."""
        return (vectors[:, None] @ self.vectors.transpose(1, 2))[:, 0].mul_(self.scales[:, 0])


def _by_factors(own: _Own, same: _Everybody, pulled: tuple[Tensor, Tensor] | None) -> Tensor:
    """(b, T, k) what solves (same + V^T D V + pull) x = V^T (1 + D) 1 + pull before, for the vectors V of each table
    and D what they weigh more; ``pulled`` are before (b, T, k) and pull (b,)."""
    found = []
    for first in range(0, len(own.vectors), SYSTEMS):
        part = slice(first, first + SYSTEMS)
        held = None if pulled is None else (pulled[0][part], pulled[1][part])
        found.append(_solved_at_once(own.take(part), same, held))
    return torch.cat(found)


def _solved_at_once(own: _Own, same: _Everybody, pulled: tuple[Tensor, Tensor] | None) -> Tensor:
    """`_by_factors` of a few, whose matrices are there together."""
    slope = own.sums  # (b, T, k)
    curve = torch.empty(len(own.weights), len(slope), RANK, RANK)
    for n, (table, weight) in enumerate(zip(own.tables, own.weights.tolist(), strict=True)):
        torch.baddbmm(same.curve[n], table.transpose(1, 2), table, alpha=weight, out=curve[n])
    if pulled is not None:
        pull = pulled[1][:, None, None]
        curve += pull * torch.eye(RANK)
        slope += pull * pulled[0]
    root = torch.linalg.cholesky(curve)
    return torch.cholesky_solve(slope.transpose(0, 1)[..., None], root)[..., 0].transpose(0, 1)


def _by_items(own: _Own, same: _Everybody) -> Tensor:
    """(b, T, k) the same without a pull, by the identity of Woodbury: W equations, with P the inverse of ``same``,

    (P^-1 + V^T D V)^-1 = P - P V^T R (1 + R V P V^T R)^-1 R V P        with R the root of D
    """
    first = (own.sums.transpose(0, 1) @ same.inverse).transpose(0, 1)  # (b, T, k)
    spread, inner, missed = [], [], []
    for n, scaled in enumerate(own.tables):  # R V, but for the root of the table's weight
        spread.append(scaled @ (own.weights[n] * same.inverse[n]))  # R V P, times that root
        inner.append(spread[-1] @ scaled.transpose(1, 2))
        missed.append((scaled * first[:, n, None]).sum(-1))  # (b, W)
    curve = torch.stack(inner, 1).add_(torch.eye(inner[0].shape[1]))
    given = torch.cholesky_solve(torch.stack(missed, 1)[..., None], torch.linalg.cholesky(curve))  # (b, T, W, 1)
    return first - (torch.stack(spread, 1) * given).sum(2)


def _batches(count: IntArray) -> Iterator[IntArray]:
    """Owners with pairs, those with about as many together, so that a table of them has few empty places."""
    order = np.argsort(count, kind="stable")
    order = order[count[order] > 0]
    end = len(order)
    while end > 0:
        size = min(LARGEST, max(1, CHUNK // int(count[order[end - 1]])))
        yield order[max(0, end - size) : end]
        end -= size
