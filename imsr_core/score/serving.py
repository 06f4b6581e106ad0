"""Score the whole catalogue for many users, a few at a time, and say of each item which term brought it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.rough import is_fast
from imsr_core.score.had import TermWithHad
from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had, PersonalTerm
from imsr_core.score.protocol import OfWhatWasHad, Term
from imsr_core.score.roughly import Rough, WeighedInterest, weighed_interest
from imsr_core.score.shortlist import in_order, shortlist

#: Scores held at once (users x items): 8 MB in float32, of this many users at least.
CHUNK_SCORES, FEWEST_USERS = 2_000_000, 8
#: Half the bits are worth a second look for so many scores (users x items).
WORTH = 200_000
#: Scores that are remembered at most (users x items): a quarter of a gigabyte in float32.
REMEMBERED = 64_000_000
#: Items, evenly spread over the catalogue, that say what a usual item is.
USUAL = 16


@dataclass(frozen=True)
class Scorer:
    """Terms with the weights (F,) of their columns, over a catalogue of ``n_items``.

    ``known_users`` (U,), ascending, are those of whom the model has anything; who is not known scores -inf everywhere.
    """

    terms: Sequence[tuple[Term, Tensor]]
    n_items: int
    known_users: IntArray

    def known(self, users: IntArray) -> np.ndarray:
        """Which of ``users`` (B,) can be scored."""
        if not len(self.known_users):
            return np.zeros(len(users), dtype=bool)
        place = np.searchsorted(self.known_users, users)
        return self.known_users[np.minimum(place, len(self.known_users) - 1)] == users

    def scores(self, users: IntArray) -> Tensor:
        """(B, N) the score of every item for ``users`` (B,)."""
        return self._of_known(users, self.sums(users))

    def sums(self, users: IntArray) -> Tensor:
        """(B, N) the same, of users who are not known, too."""
        sums = torch.zeros(len(users), self.n_items)
        self._weighed.add(sums, users)
        return sums

    def _roughly(self, users: IntArray, interest: WeighedInterest) -> tuple[Tensor, Rough]:
        """(B, N) the score of every item for ``users`` (B,), ``interest`` about, and how."""
        sums = torch.zeros(len(users), self.n_items)
        rough, told = interest.add(sums, users, self._but_interest.had_by(users, self.n_items))
        self._but_interest.add(sums, users, told)
        return self._of_known(users, sums), rough

    def _of_known(self, users: IntArray, scores: Tensor) -> Tensor:
        """``scores`` (B, N) with -inf for those of ``users`` (B,) who are not known."""
        if len(strangers := np.flatnonzero(~self.known(users))):
            scores[torch.from_numpy(strangers)] = -torch.inf
        return scores

    @cached_property
    def _weighed(self) -> _Weighed:
        return _Weighed.of([(term, weights) for term, weights in self.terms if bool((weights != 0).any())])

    @cached_property
    def _but_interest(self) -> _Weighed:
        """All terms but the interest."""
        return _Weighed.of([each for each in self._weighed.all if weighed_interest(*each) is None])

    @cached_property
    def _interest(self) -> WeighedInterest | None:
        """The interest, where it counts."""
        return next((found for each in self._weighed.all if (found := weighed_interest(*each))), None)

    def at(self, users: IntArray, items: Tensor) -> Tensor:
        """(B, C) the scores of ``items`` (B, C) for ``users`` (B,), known or not; items beyond the catalogue: 0."""
        return _gathered(self.sums(users), items)

    def chunks(self, users: IntArray) -> Iterator[tuple[int, Tensor]]:
        """Yield (first, scores (b, N)) for consecutive users of ``users`` (B,)."""
        for first in range(0, len(users), self._step):
            yield first, self.scores(users[first : first + self._step])

    @cached_property
    def _step(self) -> int:
        """Users whose scores are held at once."""
        return max(FEWEST_USERS, CHUNK_SCORES // max(self.n_items, 1))

    def best(
        self,
        users: IntArray,
        n: int,
        hidden: tuple[IntArray, IntArray] | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Items and scores (B, n) of the best items of ``users`` (B,), best first; -1 and -inf where a list is shorter.

        ``hidden`` are pairs (position in ``users``, item) that must not be shown, ``allowed`` (N,) the items that may.
        """
        n = min(n, self.n_items)
        interest = self._interest if is_fast() else None
        shown = _Shown(hidden, None if allowed is None else torch.from_numpy(~allowed[: self.n_items]))
        lists = [(torch.zeros(0, n, dtype=torch.int64), torch.zeros(0, n))]
        for first in range(0, len(users), self._step):
            part = users[first : first + self._step]
            if interest is None or len(part) * self.n_items < WORTH:
                top = shown.only(self.scores(part), first).topk(n, dim=1)
                items, values = top.indices.where(top.values > -torch.inf, -1), top.values
            else:
                scores, rough = self._roughly(part, interest)
                items, values = self._put_right(part, n, shown.only(scores, first), rough)
            lists.append((items, values))
        items, values = (torch.cat(parts) for parts in zip(*lists, strict=True))
        return items, values

    def _put_right(self, users: IntArray, n: int, scores: Tensor, rough: Rough) -> tuple[Tensor, Tensor]:
        """Items and scores (B, n) of the best items of ``users`` (B,), from ``scores`` (B, N) that are `_roughly`."""
        near, many = shortlist(scores, n, 2 * rough.off)
        items, values = in_order(near, rough.put_right(scores, near.clamp(min=0)), n)
        if many.any():
            rows = torch.from_numpy(np.flatnonzero(many))
            whole = self.scores(users[many]).masked_fill_(scores[rows] == -torch.inf, -torch.inf)
            again = whole.topk(n, dim=1)
            items[rows], values[rows] = again.indices.where(again.values > -torch.inf, -1), again.values
        return items, values

    def reasons(self, users: IntArray, items: IntArray) -> IntArray:
        """(B, C) position in ``terms`` of the term that lifts each of ``items`` (B, C) most above a usual item."""
        usual = np.linspace(0, max(self.n_items - 1, 0), min(USUAL, self.n_items)).astype(np.int64)
        parts = self.parts(users, np.concatenate([np.tile(usual, (len(users), 1)), items], 1))
        return (parts[:, len(usual) :] - parts[:, : len(usual)].mean(1, keepdim=True)).argmax(-1).numpy()

    def parts(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, T) what each term adds to the score of ``items`` (B, C) for ``users`` (B,).

        What another term says of an item only because the user had it is the part of `PersonalTerm`: where one's own
        things are most of a list, much of that they are there stands in those weights.
        """
        parts, because_had = [], torch.zeros(items.shape)
        for term, weights in self.terms:
            values = term.at(users, items)
            if isinstance(term, TermWithHad):
                values, had = values.chunk(2, -1)
                weights, weights_had = weights.chunk(2)
                because_had = because_had + had @ weights_had
            parts.append(values @ weights)
        own = [isinstance(term, PersonalTerm) for term, _ in self.terms]
        return torch.stack([part + because_had if mine else part for part, mine in zip(parts, own, strict=True)], -1)


@dataclass(frozen=True)
class _Weighed:
    """Terms with their weights, those that say something of any item and those of what a user had apart."""

    all: Sequence[tuple[Term, Tensor]]
    anywhere: Sequence[tuple[Term, Tensor]]
    of_what_was_had: Sequence[tuple[OfWhatWasHad, Tensor]]

    @classmethod
    def of(cls, terms: list[tuple[Term, Tensor]]) -> _Weighed:
        """Of ``terms`` with their weights."""
        had = [(term, weights) for term, weights in terms if isinstance(term, OfWhatWasHad)]
        return cls(terms, [(term, w) for term, w in terms if not isinstance(term, OfWhatWasHad)], had)

    def had_by(self, users: IntArray, n_items: int) -> Had | None:
        """What ``users`` (B,) had of the first ``n_items``; None where no term asks for that."""
        had = self.of_what_was_had
        return had[0][0].personal.had_by(users).within(n_items) if had else None

    def add(self, sums: Tensor, users: IntArray, told: Tensor | None = None) -> None:
        """Add the terms to ``sums`` (B, N) of ``users`` (B,), in place, and what was ``told`` of what they had (P,)."""
        found = [] if told is None else [told]
        for term, weights in self.anywhere:
            term.add(sums, users, weights)
        mine = self.had_by(users, sums.shape[1])
        if mine is None:
            return
        for apart, weights in self.of_what_was_had:
            values = apart.add_elsewhere(sums, mine, weights)
            found += [] if values is None else [values]
        if found:
            mine.add(sums, torch.stack(found).sum(0))


@dataclass(frozen=True)
class _Shown:
    """What may be shown: not the pairs ``hidden`` (position, item), nor the items ``closed`` (N,)."""

    hidden: tuple[IntArray, IntArray] | None
    closed: Tensor | None

    def only(self, scores: Tensor, first: int) -> Tensor:
        """``scores`` (b, N) of the users from position ``first``, -inf for what must not be shown."""
        if self.closed is not None:
            scores[:, self.closed] = -torch.inf
        if self.hidden is not None:
            place, item = self.hidden
            here = (place >= first) & (place < first + len(scores)) & (item < scores.shape[1])
            scores[torch.from_numpy(place[here] - first), torch.from_numpy(item[here])] = -torch.inf
        return scores


@dataclass(frozen=True)
class Remembering:
    """Says what ``scorer`` says of ``users`` (U,), ascending, and scores each of them once: for a training that asks of
    the same users in every epoch. Beyond `REMEMBERED` scores it asks again."""

    scorer: Scorer
    users: IntArray

    def at(self, users: IntArray, items: Tensor) -> Tensor:
        """As `Scorer.at`."""
        if len(self.users) * self.scorer.n_items > REMEMBERED:
            return self.scorer.at(users, items)
        rows = np.searchsorted(self.users, users)
        missing = np.unique(rows[~self._known[rows]])
        if len(missing):
            self._table[torch.from_numpy(missing)] = self.scorer.sums(self.users[missing])
            self._known[missing] = True
        return _gathered(self._table[torch.from_numpy(rows)], items)

    @cached_property
    def _table(self) -> Tensor:
        return torch.empty(len(self.users), self.scorer.n_items)

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.users), dtype=bool)


def _gathered(sums: Tensor, items: Tensor) -> Tensor:
    """Of ``sums`` (B, N) those of ``items`` (B, C); 0 beyond N."""
    inside = items < sums.shape[1]
    return sums.gather(1, items.where(inside, 0)) * inside


def with_places_kept(
    first: tuple[Tensor, Tensor], kept: tuple[Tensor, Tensor], share: float, n: int
) -> tuple[Tensor, Tensor]:
    """Lists (B, n) of which a ``share`` of the places, evenly spread, go to the best of ``kept`` that are not there.

    ``first`` and ``kept`` are items and scores (B, >= n), best first, as of `Scorer.best`.
    """
    places = torch.arange(1, n + 1)
    own = (places * share).floor() > ((places - 1) * share).floor()  # (n,) places that are kept
    main = first[0][:, : int((~own).sum())]
    fresh = (kept[0][:, :, None] != main[:, None, :]).all(-1) & (kept[0] >= 0)
    order = (~fresh).to(torch.int8).argsort(dim=1, stable=True)[:, : int(own.sum())]
    items, scores = torch.full((len(main), n), -1), torch.full((len(main), n), -torch.inf)
    items[:, ~own], scores[:, ~own] = main, first[1][:, : main.shape[1]]
    chosen = fresh.gather(1, order)
    items[:, own] = kept[0].gather(1, order).where(chosen, -1)
    scores[:, own] = kept[1].gather(1, order).where(chosen, -torch.inf)
    return items, scores
