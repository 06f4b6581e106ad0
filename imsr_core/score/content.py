"""The term `content`: what an item is, by its categories, and how much of that the user had.

    n_ug    = how many different items of category g the user had
    column: mean over the item's categories of log(1 + n_ug / EPSILON)

An item without categories has 0. Nothing is stored of a user: n_ug is counted from `personal` when it is asked for, so
a user's new event counts at once. An item that hardly anybody took yet is known by its categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had, PersonalTerm
from imsr_core.sorted_keys import numbered

#: Items of a category that a user needs to have had to count for more than one who had none.
EPSILON = 0.1
#: Cells (users x categories) that are held at once.
CELLS = 1_000_000


@dataclass(frozen=True, eq=False)
class Categories:
    """Which categories items have: ``item[r]`` has ``category[r]``, both (R,), items ascending, each pair once.

    ``names`` (G,) are those of the categories; an item that is not there has none.
    """

    item: IntArray
    category: IntArray
    names: tuple[str, ...]

    @classmethod
    def none(cls) -> Categories:
        """Of no item."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), ())

    def of(self, items: IntArray) -> tuple[IntArray, IntArray]:
        """The categories of ``items`` (P,), one item's after the other's (Q,), and which item each is of, (Q,)."""
        items = np.minimum(items, len(self._first) - 2)
        first = self._first[items]
        count = self._first[items + 1] - first
        row = np.repeat(np.arange(len(items)), count)
        return self.category[np.arange(len(row)) + np.repeat(first - (np.cumsum(count) - count), count)], row

    def up_to(self, n_items: int) -> tuple[IntArray, IntArray]:
        """The categories of the first ``n_items`` items, one item's after the other's (Q,), and where each one's begin
        (n_items,)."""
        begin = self._first[np.minimum(np.arange(n_items + 1), len(self._first) - 1)]
        return self.category[: begin[-1]], begin[:-1]

    @cached_property
    def _first(self) -> IntArray:
        """The first row of every item up to the one after the last that has any, and where its rows end."""
        return np.searchsorted(self.item, np.arange(int(self.item.max(initial=-1)) + 3))


@dataclass(frozen=True)
class ContentTerm:
    """``categories`` say what items are, ``personal`` what users had."""

    categories: Categories
    personal: PersonalTerm

    columns = ("content",)

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (1,)."""
        scores.add_(self._means(users, *self.categories.up_to(scores.shape[1])), alpha=float(weights[0]))

    def add_apart(self, scores: Tensor, mine: Had, weights: Tensor, had: Tensor) -> Tensor:
        """As `add` for the users of ``mine``; (P,) what they had, by ``had`` (1,)."""
        every = self._means(mine.users, *self.categories.up_to(scores.shape[1]))
        scores.add_(every, alpha=float(weights[0]))
        return every.view(-1)[mine.places_in(every)].mul_(had[0])

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 1) the column of ``items`` (B, C) for ``users`` (B,)."""
        people, place = numbered(users)
        return self._of_pairs(people, np.repeat(place, items.shape[1]), items.ravel()).view(*items.shape, 1)

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(B, C, 1) the column of ``shared`` (C,) items for ``users`` (B,), and (P, 1) that of pairs."""
        category, row = self.categories.of(shared)
        everybody = self._means(users, category, np.searchsorted(row, np.arange(len(shared))))
        return everybody[..., None], self._of_pairs(users, place, items)[:, None]

    def because(self, users: IntArray, items: IntArray) -> IntArray:
        """(P,) the category of each pair's item of which its user had most; -1 where the user had none of them."""
        people, place = numbered(users)
        category, row = self.categories.of(items)
        times = self._times(people, place[row], category)
        best = np.full(len(items), -1)
        order = np.lexsort((-category, times, row))  # of each item the last is the one with most
        order = order[times[order] > 0]
        best[row[order]] = category[order]
        return best

    def _cells(self, users: IntArray) -> IntArray:
        """(R,) the categories of all that distinct ``users`` (B,) had, each as a cell of a table (B, G)."""
        had = self.personal.had_by(users)
        category, row = self.categories.of(had.items)
        return had.place[row] * len(self.categories.names) + category

    def _times(self, users: IntArray, place: IntArray, category: IntArray) -> IntArray:
        """(Q,) how many items of ``category`` (Q,) the user at ``place`` (Q,) in distinct ``users`` (B,) had."""
        cells, which = numbered(self._cells(users))
        times = np.bincount(which, minlength=len(cells))
        wanted = place * len(self.categories.names) + category
        if not len(cells):
            return np.zeros(len(wanted), dtype=np.int64)
        found = np.searchsorted(cells, wanted).clip(max=len(cells) - 1)
        return np.where(cells[found] == wanted, times[found], 0)

    def _of_pairs(self, users: IntArray, place: IntArray, items: IntArray) -> Tensor:
        """(P,) the column of pairs: ``place`` (P,) in distinct ``users`` (B,), and ``items`` (P,)."""
        category, row = self.categories.of(items)
        values = np.log1p(self._times(users, place[row], category) / EPSILON)
        many = np.bincount(row, minlength=len(items))
        total = np.bincount(row, weights=values, minlength=len(items))
        return torch.from_numpy(total / np.maximum(many, 1)).float()

    def _means(self, users: IntArray, category: IntArray, begin: IntArray) -> Tensor:
        """(B, C) the column of items for each of distinct ``users`` (B,), given the categories of all of them (Q,) and
        where those of each begin (C,)."""
        width, kinds, bags = len(self.categories.names), torch.from_numpy(category), torch.from_numpy(begin)
        found = torch.zeros(len(users), len(begin))
        step = max(1, CELLS // max(width, 1))
        for first in range(0, len(users), step) if width else ():
            part = users if step >= len(users) else users[first : first + step]  # the same array: looked up once
            times = np.bincount(self._cells(part), minlength=len(part) * width)
            table = torch.from_numpy(times).float().div_(EPSILON).log1p_().view(len(part), width)
            found[first : first + step] = embedding_bag(kinds, table.T.contiguous(), bags, mode="mean").T
        return found
