"""Products of interests and items in half the bits, and how far off they can be.

Processors with matrix instructions for bfloat16 (AMX) multiply six times as fast with numbers of 16 bits, 8 of them
for the digits. What that says of an item is off by less than a hundredth of the product of the two lengths, and the
bound here is proven for the very vectors. So it can tell which few items may be among the best, and those alone are
looked at again in 32 bits (`imsr_core.score.roughly`).

All products are raised by the same number, so that none is negative: of positive numbers the bits are in the order of
the values, and the largest of several is found among whole numbers, five times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from imsr_core.interests import InterestStore

#: Products of single interests held at once (users x interests x items): 2 MB, so that they hardly leave the cache.
BLOCK_PRODUCTS = 1_000_000
#: Items of a block at least, and in steps of so many: what a multiplication needs to be fast. And columns that a
#: vector has more, for what is added to a product.
FEWEST_ITEMS, RAISED = 512, 32
#: What rounding to bfloat16 adds to a number at most, relative to it; what sums of 32 bits add to a product; and with
#: what lengths are known.
HALF, SUMS, LENGTHS = 2.0**-8, 2.0**-14, 1.0 + 2.0**-10


def is_fast() -> bool:
    """Whether bfloat16 is multiplied faster than float32: by the processor, and by the library that is to use it."""
    return bool(torch.backends.mkldnn.enabled) and _has_matrix_instructions()


@cache
def _has_matrix_instructions() -> bool:
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older PyTorch does not say
    return bool(known.get("amx_bf16")) and torch.backends.mkldnn.is_available()


@dataclass(frozen=True, eq=False)
class RoughItems:
    """``vectors`` (N, d) float32, the vectors of items, as they are; in 16 bits they are made once."""

    vectors: Tensor

    @cached_property
    def halves(self) -> Tensor:
        """(N, d + `RAISED`) bfloat16: the vectors, 1 and zeros."""
        found = torch.zeros(len(self.vectors), self.vectors.shape[1] + RAISED, dtype=torch.bfloat16)
        found[:, : self.vectors.shape[1]] = self.vectors
        found[:, self.vectors.shape[1]] = 1.0
        return found

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """How long a rounded vector is at most, and how far from the one that it stands for."""
        longest = farthest = 0.0
        for whole in self.vectors.split(FEWEST_ITEMS) if len(self.vectors) else ():
            rounded = whole.bfloat16().float()
            longest = max(longest, float(rounded.norm(dim=1).max()))
            farthest = max(farthest, float(rounded.sub_(whole).norm(dim=1).max()))
        return longest * LENGTHS, farthest * LENGTHS

    def products(self, length: float) -> tuple[float, float]:
        """How large the product of an interest of this ``length``, rounded, and a rounded item can be, and, by the
        length of an interest, how far off that is of the interest and the item, the product being rounded once more:

        |h' . e' - h . e| <= |h' - h| |e'| + |h| |e' - e|        with |h' - h| <= `HALF` |h|
        """
        longest, farthest = self.lengths
        most = (1 + HALF) * longest
        return most * length * LENGTHS, (HALF * longest + farthest + most * (HALF + SUMS)) * LENGTHS


@dataclass(frozen=True, eq=False)
class RoughInterests:
    """The interests of b users in the order of how many they have: ``whole`` (R, d) as they are, and ``halves``
    (R, d + `RAISED`) bfloat16, ``raised`` in the last columns; ``groups`` of users with as many, the users in that
    ``order`` (b,), and the ``place`` (b,) of each of them in it. ``off`` (b,) is how far off products with items can
    be."""

    whole: Tensor
    halves: Tensor
    raised: float
    groups: list[tuple[slice, slice, int]]
    order: Tensor
    place: Tensor | None
    off: Tensor

    @classmethod
    def of(cls, store: InterestStore, users: Tensor, items: RoughItems) -> RoughInterests:
        """Of ``users`` (b,), to be multiplied with ``items``."""
        first, count = store.runs_of(users)
        order = count.argsort(descending=True, stable=True)
        count = count[order]
        begins = (first[order] - (count.cumsum(0) - count)).repeat_interleave(count)
        interests = store.vectors.index_select(0, begins + torch.arange(len(begins)))  # (R, d)
        groups, lengths = _groups(count), torch.zeros(len(users), 1)
        _nearest(torch.linalg.vector_norm(interests, dim=1, keepdim=True), groups, lengths)
        largest, per_length = items.products(float(lengths.amax()) if len(users) else 0.0)
        raised = float(torch.tensor(largest * (1 + HALF) ** 2).bfloat16())
        halves = torch.empty(len(interests), store.dim + RAISED, dtype=torch.bfloat16)
        halves[:, : store.dim], halves[:, store.dim :] = interests, raised
        place = None if len(groups) == 1 and groups[0][1].stop == len(users) else order.argsort()
        off = (lengths if place is None else lengths.index_select(0, place))[:, 0] * per_length + raised * HALF
        return cls(interests, halves, raised, groups, order, place, off)

    def nearest(self, items: RoughItems) -> Tensor:
        """(b, N) bfloat16: ``raised`` + max_k h_k . e_i of each user, about; ``raised`` of who has none."""
        ends = self.groups[-1][1].stop if self.groups else 0
        best = torch.empty(len(self.off), len(items.vectors), dtype=torch.bfloat16)
        best[ends:] = self.raised
        many = BLOCK_PRODUCTS // max(len(self.halves), 1) // FEWEST_ITEMS * FEWEST_ITEMS
        step = max(FEWEST_ITEMS, many)
        for start in range(0, best.shape[1] if ends else 0, step):
            block = self.halves @ items.halves[start : start + step].T
            _nearest(block.view(torch.int16), self.groups, best[:, start : start + step].view(torch.int16))
        return best if self.place is None else best.index_select(0, self.place)

    def exactly(self, vectors: Tensor, items: Tensor) -> Tensor:
        """(b, C) max_k h_k . e_i of each user and its ``items`` (b, C), in 32 bits, of ``vectors`` (N, d) as they are;
        0 of who has no interest."""
        best, items = torch.zeros(items.shape), items.index_select(0, self.order)
        for rows, users, k in self.groups:
            own, asked = self.whole[rows].view(-1, k, vectors.shape[1]), items[users]
            theirs = vectors.index_select(0, asked.view(-1)).view(*asked.shape, vectors.shape[1])
            torch.amax(own @ theirs.transpose(1, 2), 1, out=best[users])
        return best if self.place is None else best.index_select(0, self.place)


def _groups(count: Tensor) -> list[tuple[slice, slice, int]]:
    """Of users with ``count`` (b,) interests, descending: the interests and the users of those with as many."""
    many, alike = (part.tolist() for part in torch.unique_consecutive(count, return_counts=True))
    found, row, user = [], 0, 0
    for k, n in zip(many, alike, strict=True):
        if k:
            found.append((slice(row, row + n * k), slice(user, user + n), k))
        row, user = row + n * k, user + n
    return found


def _nearest(block: Tensor, groups: list[tuple[slice, slice, int]], best: Tensor) -> None:
    """Put the most of each user's rows of ``block`` (R, C) into ``best`` (b, C)."""
    for rows, users, k in groups:
        torch.amax(block[rows].view(-1, k, block.shape[1]), 1, out=best[users])
