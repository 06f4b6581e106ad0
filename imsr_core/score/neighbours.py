"""The term `neighbours`: what goes with what the user had. Two kinds of together, in one table.

    steps     C_ij = events of i and j within WINDOW steps of each other in a user's sequence, in either order
    taste     C_ij = sum over users: when one has a new item j, each of (at most) 20 items i, spread over the CONTEXT
              that were new last, gets an equal share of 1, and j as much from i: who has few says more with each

    s_ij = C_ij / sqrt(d_i d_j),  d_i = sum_j C_ij                                   (cosine-like: no fame by size)
    v_ui = sum over the user's last items j of 2^(-age / half-life) s_ji             column: log(1 + v_ui / EPSILON)

Item-based collaborative filtering (Sarwar et al., WWW 2001); by steps as sequence-aware kNN has it (Ludewig and
Jannach, *Evaluation of session-based recommendation algorithms*, UMUAI 2018). What a user did last is kept beside the
table, and the user's items are those of the personal term, so that a pair across two spans counts as if they had been
one.

A span adds its `contexts` to a list, and counts nothing: pairs are counted of them, and of the ``base`` that was
counted before, for the items that vote for somebody who is asked about. Now and then all are counted into a new base.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.ragged import SpanSequences, concatenate, empty_sequences, last_n
from imsr_core.score.contexts import KINDS, WINDOW, Contexts, bits_for, in_pieces
from imsr_core.score.counting import counted
from imsr_core.score.pairs import WIDTH, FloatArray, IntArray, Pairs, fading, stacked, strongest
from imsr_core.score.personal import PersonalTerm
from imsr_core.sorted_keys import numbered, union, unique

#: How fast an item that the user had loses its vote, by kind, in spans. And how many items of a user vote at most.
HALF_LIVES, VOTERS = (1.0, 4.0), 50
#: A vote that counts: about a pair in fifty.
EPSILON = 0.02
#: Neighbours of an item that a vote is for: the most similar of each kind.
SERVED = 50
#: Where votes are for more than one place in so many, all places are gone through.
SPARSE = 20
#: Items whose votes are counted together: 100,000 votes, as many as stay in the processor's cache.
VOTERS_AT_ONCE = 2_048
#: Votes held at once in `NeighboursTerm.asked` (users x items): about what stays in the processor's cache.
CHUNK = 300_000
#: Pairs that are compared with the neighbours of an item together.
COMPARED = 16_384
#: A base is counted anew when the entries since are more than this times its pairs, and more than a few.
OVERGROWN, FEW = 3, 1_000_000
#: Entries that are counted together, or those of one item: 16 MB, and as much again while they are put in order.
ENTRIES = 2_000_000


@dataclass(frozen=True)
class NeighboursTerm:
    """``base``: item, item, and how often they went together, by kind, of the spans before ``since``; of each item the
    ``limit`` most frequent neighbours of each kind (0 = all). ``degree`` (N, 2) float64 each item's sum of that, also
    of pairs that were cut off; ``tail`` the last `WINDOW` events of each user. ``personal`` holds the items that vote;
    ``whole`` says that the base has the pairs of all items, not only of those that vote.
    """

    limit: int
    base: Pairs
    degree: FloatArray
    tail: SpanSequences
    personal: PersonalTerm
    since: tuple[Contexts, ...] = ()
    whole: bool = True

    columns = tuple(f"neighbours_{kind}" for kind in KINDS)

    @classmethod
    def empty(cls, personal: PersonalTerm, limit: int = 0) -> NeighboursTerm:
        """Of no item."""
        return cls(limit, Pairs.empty(len(KINDS)), np.zeros((0, len(KINDS))), empty_sequences(), personal)

    def after(self, span: SpanSequences, n_items: int) -> NeighboursTerm:
        """With the events of a span; ``personal`` stays as it was before it."""
        fresh, degree = counted(self.tail, self.personal.pairs, span, n_items)
        degree[: len(self.degree)] += self.degree
        tail = last_n(concatenate([self.tail, span]), WINDOW)
        before = self.settled if self.whole and self.overgrown(len(self.base)) else self
        return replace(before, since=(*before.since, fresh), degree=degree, tail=tail)

    def asked_of(self, personal: PersonalTerm) -> NeighboursTerm:
        """The same table, with the items of other people as voters; an item that nobody here had has no vote."""
        other = replace(self, personal=personal)
        vars(other)["_served"] = self._served  # of this table's items
        return other

    def only_of(self, personal: PersonalTerm) -> NeighboursTerm:
        """The same table, of some of its users alone: neighbours are found of their items, unless they are found
        already."""
        other = replace(self, personal=personal)
        if "_served" in vars(self):
            vars(other)["_served"] = self._served
        return other

    def alone(self) -> NeighboursTerm:
        """The counts without those who vote, and whose the last events are."""
        return replace(self, tail=empty_sequences(), personal=PersonalTerm.empty(self.personal.unit))

    def found(self) -> NeighboursTerm:
        """What may be asked of this and never stored: the neighbours of the items that vote, without what they were
        counted of."""
        other = replace(self, base=Pairs.empty(len(KINDS)), tail=empty_sequences(), since=(), whole=False)
        vars(other)["_served"] = self._served
        return other

    def shared_with(self, personal: PersonalTerm) -> NeighboursTerm:
        """The same table for people who have gone on since: what votes for them is found with what votes now."""
        vars(self)["_served"] = self._nearest(union(voting(self.personal.pairs), voting(personal.pairs)))
        return self.asked_of(personal)

    @property
    def entries(self) -> int:
        """How many entries what came since the base is, at most."""
        return sum(contexts.n_entries for contexts in self.since)

    def overgrown(self, pairs: int) -> bool:
        """Whether a base of so many pairs is to be counted anew."""
        return self.entries > max(OVERGROWN * pairs, FEW)

    @cached_property
    def settled(self) -> NeighboursTerm:
        """The same with everything counted into the base, which must be whole, and cut to the ``limit``."""
        return replace(self, base=stacked(list(self.settling())), since=())

    def settling(self) -> Iterator[Pairs]:
        """The pairs of `settled`, a few items at a time, ascending: all of them are as large as the log. At least one
        piece."""
        yield Pairs.empty(len(KINDS))
        for piece in self._pieces(np.arange(len(self.degree))):
            yield self._cut(piece)

    @property
    def pairs(self) -> Pairs:
        """All pairs: those of the base, and all that came since."""
        return stacked([self.base.take(slice(0)), *self._pieces(np.arange(len(self.degree)))])

    def _pieces(self, items: IntArray) -> Iterator[Pairs]:
        """The pairs of ``items`` (ascending), a few items at a time."""
        bits, none = bits_for(len(self.degree)), np.zeros(0, dtype=np.int64)
        for part in self._parts(items) if len(items) else ():
            wanted = np.zeros(len(self.degree), dtype=bool)
            wanted[part] = True
            known = self.base.between(int(part[0]), int(part[-1]) + 1)
            entries = np.concatenate([none, *(contexts.entries(bits, wanted) for contexts in self.since)])
            yield from in_pieces(known.take(wanted[known.owner]), entries, bits)

    def _parts(self, items: IntArray) -> list[IntArray]:
        """``items`` (ascending) in parts of about `ENTRIES` entries, or of one item."""
        if self.entries <= ENTRIES:
            return [items]
        each = np.zeros(len(self.degree))
        for contexts in self.since:
            each += contexts.entries_of_items(len(each))
        number = (np.cumsum(each[items]) - 1) // ENTRIES  # in a part: those that end in the same so many
        return np.split(items, 1 + np.flatnonzero(number[1:] != number[:-1]))

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (2,)."""
        flat, voters = scores.view(-1), self.voters(users)
        few = len(voters[0]) * SERVED * SPARSE <= len(flat)  # else one pass is sooner done than jumps to many
        votes = torch.empty_like(flat)
        for kind, weight in enumerate(weights.tolist()):
            if weight:
                voted = self._vote(votes.fill_(1.0), voters, scores.shape[1], kind, told=few)  # from 1: for the log
                if not few:
                    flat.add_(votes.log_(), alpha=weight)
                elif voted:
                    places = voted[0] if len(voted) == 1 else torch.cat(voted)
                    flat[places] += weight * votes[places].log_()  # a place that is there twice: once

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 2) the columns of ``items`` (B, C) for ``users`` (B,)."""
        place = np.repeat(np.arange(len(users)), items.shape[1])
        return self.asked(users, items[0, :0], place, items.ravel())[1].view(*items.shape, len(KINDS))

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(B, C, 2) the columns of ``shared`` (C,) items, and (P, 2) those of pairs."""
        width = max(len(self.degree), int(max(items.max(initial=0), shared.max(initial=0))) + 1)
        everybody = torch.zeros(len(KINDS), len(users), len(shared))
        mine, chosen = torch.zeros(len(place), len(KINDS)), torch.from_numpy(shared)
        step = max(1, CHUNK // max(width, 1))
        for first in range(0, len(users), step):
            part = slice(first, first + step)
            votes, voters = torch.zeros(len(users[part]) * width), self.voters(users[part])
            rows = np.flatnonzero((place >= first) & (place < first + step))
            where = torch.from_numpy((place[rows] - first) * width + items[rows])
            for kind in range(len(KINDS)):
                voted = self._vote(votes, voters, width, kind)
                everybody[kind, part] = votes.view(-1, width)[:, chosen]
                mine[torch.from_numpy(rows), kind] = votes[where]
                for places in voted:
                    votes[places] = 0.0
        return everybody.log1p_().permute(1, 2, 0), mine.log1p_()

    def voters(self, users: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Position in ``users`` (V,), item (V,) and strength by kind (V, 2) of the items that vote."""
        mine = self.personal.had_by(users)
        kept = np.flatnonzero(self._voting[mine.rows])
        age = (self.personal.until - mine.last[kept]) / self.personal.unit
        return mine.place[kept], mine.items[kept], fading(age, np.array(HALF_LIVES))

    @cached_property
    def _voting(self) -> NDArray[np.bool_]:
        """Which pairs of ``personal`` vote: of each user the `VOTERS` last."""
        return self.personal.pairs.newest(VOTERS)

    def because(self, users: IntArray, items: IntArray) -> IntArray:
        """(P,) of each pair of user and item, the user's item whose vote for it is the strongest; -1 if none votes."""
        people, place = numbered(users)
        best, found = np.zeros(len(users)), np.full(len(users), -1)
        owner, voter, strength = self.voters(people)
        order = np.lexsort((-voter, -strength[:, -1], owner))  # of votes that are as strong the latest item's
        voter, strength = voter[order], strength[order]
        count = np.bincount(owner, minlength=len(people))
        start = np.cumsum(count) - count
        for kind, near in enumerate(self._served):
            known = near.rows_of(voter)
            for nth in range(int(count.max(initial=0))):
                there = nth < count[place]
                row = (start[place] + nth)[there]
                vote = strength[row, kind] * near.similarity(known[row], items[there])
                better = vote > best[there]
                at = np.flatnonzero(there)[better]
                best[at], found[at] = vote[better], voter[row][better]
        return found

    def _vote(
        self, votes: Tensor, voters: tuple[IntArray, IntArray, FloatArray], width: int, kind: int, *, told: bool = True
    ) -> list[Tensor]:
        """Add the votes of ``voters``, in units of EPSILON, to ``votes`` (B x ``width``,); the places that got one,
        where they are to be ``told``."""
        place, items, strength = voters
        near, strength = self._served[kind], strength[:, kind]
        row = near.rows_of(items)
        if row.min(initial=0) < 0:
            known = np.flatnonzero(row >= 0)
            place, row, strength = place[known], row[known], strength[known]
        short = np.int32 if len(votes) < WIDTH else np.int64
        chosen = torch.from_numpy(row)
        start = torch.from_numpy((place * width).astype(short))[:, None]
        share = torch.from_numpy((strength / EPSILON).astype(np.float32))[:, None]
        voted = []
        for first in range(0, len(chosen), VOTERS_AT_ONCE):
            part = slice(first, first + VOTERS_AT_ONCE)
            places = (near.others.index_select(0, chosen[part]) + start[part]).view(-1)
            votes.index_add_(0, places, near.similar.index_select(0, chosen[part]).mul_(share[part]).view(-1))
            voted += [places] if told else []
        return voted

    @cached_property
    def _served(self) -> list[_Nearest]:
        return self._nearest(unique(self.personal.pairs.other[self._voting]))

    def _nearest(self, items: IntArray) -> list[_Nearest]:
        """Of each kind the `SERVED` most similar neighbours of ``items`` (ascending)."""
        found: list[list[_Nearest]] = [[] for _ in KINDS]
        degrees = [np.ascontiguousarray(self.degree[:, kind]) for kind in range(len(KINDS))]
        for pairs in self._pieces(items[items < len(self.degree)]):
            for kind, degree in enumerate(degrees):
                together = np.flatnonzero(pairs.values[:, kind] > 0)
                owner, other = pairs.owner[together], pairs.other[together]
                similar = pairs.values[together, kind] / np.sqrt(degree[owner] * degree[other])
                kept = strongest(owner, similar, SERVED)
                found[kind].append(_Nearest.of(owner[kept], other[kept], similar[kept]))
        return [_Nearest.together(parts) for parts in found]

    def _cut(self, pairs: Pairs) -> Pairs:
        """Of each item the ``limit`` most frequent neighbours of each kind, of those that it has."""
        if not self.limit:
            return pairs
        kept = np.zeros(len(pairs), dtype=bool)
        for kind in range(len(KINDS)):
            together = np.flatnonzero(pairs.values[:, kind] > 0)
            kept[together[strongest(pairs.owner[together], pairs.values[together, kind], self.limit)]] = True
        return pairs.take(kept)


@dataclass(frozen=True)
class _Nearest:
    """The neighbours of items ``owners`` (V,), ascending: ``others`` (V, W) int32 and how similar they are, ``similar``
    (V, W) float32. Who has fewer than W has item 0 in the other places, by 0. Rows are copied whole: votes are."""

    owners: IntArray
    others: Tensor
    similar: Tensor

    @classmethod
    def of(cls, owner: IntArray, other: IntArray, similarity: FloatArray) -> _Nearest:
        """Of pairs (P,), by owner, ascending, and other."""
        owners, place = numbered(owner)
        count = np.bincount(place, minlength=len(owners))
        column = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        others = np.zeros((len(owners), int(count.max(initial=0))), dtype=np.int32)
        similar = np.zeros(others.shape, dtype=np.float32)
        others[place, column], similar[place, column] = other, similarity
        return cls(owners, torch.from_numpy(others), torch.from_numpy(similar))

    @classmethod
    def together(cls, parts: list[_Nearest]) -> _Nearest:
        """The neighbours of items, and of items above them."""
        owners = np.concatenate([np.zeros(0, dtype=np.int64), *(part.owners for part in parts)])
        width = max((part.others.shape[1] for part in parts), default=0)
        others, similar = torch.zeros(len(owners), width, dtype=torch.int32), torch.zeros(len(owners), width)
        first = 0
        for part in parts:
            own = (slice(first, first + len(part.owners)), slice(part.others.shape[1]))
            others[own], similar[own] = part.others, part.similar
            first += len(part.owners)
        return cls(owners, others, similar)

    def rows_of(self, items: IntArray) -> IntArray:
        """(P,) the row of each of ``items`` (P,), -1 where it has none."""
        return self._rows[np.minimum(items, len(self._rows) - 1)]

    @cached_property
    def _rows(self) -> IntArray:
        """The row of every item up to the last that has one; -1 where it has none, and once more at the end."""
        rows = np.full(int(self.owners.max(initial=-1)) + 2, -1)
        rows[self.owners] = np.arange(len(self.owners))
        return rows

    def similarity(self, rows: IntArray, items: IntArray) -> FloatArray:
        """(P,) s of the owners in ``rows`` (P,) and ``items`` (P,); 0 where they do not go together."""
        found = np.zeros(len(rows))
        known = np.flatnonzero(rows >= 0)
        for first in range(0, len(known), COMPARED):
            part = known[first : first + COMPARED]
            row = torch.from_numpy(rows[part])
            same = self.others.index_select(0, row) == torch.from_numpy(items[part])[:, None]
            found[part] = (self.similar.index_select(0, row) * same).sum(1).double().numpy()
        return found


def voting(had: Pairs) -> IntArray:
    """The items that vote for one of the users who ``had`` items, ascending."""
    return unique(had.other[had.newest(VOTERS)])
