"""Score the whole catalogue for many users, a few at a time, and say of each item which term brought it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.score.had import TermWithHad
from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import PersonalTerm
from imsr_core.score.protocol import OfWhatWasHad, Term
from imsr_core.sorted_keys import is_in

#: Scores held at once (users x items): 4 MB in float32, of this many users at least.
CHUNK_SCORES, FEWEST_USERS = 1_000_000, 8
#: Scores that are remembered at most (users x items): a quarter of a gigabyte in float32.
REMEMBERED = 64_000_000
#: Items, evenly spread over the catalogue, that say what a usual item is.
USUAL = 16


@dataclass(frozen=True)
class Scorer:
    """Terms with the weights (F,) of their columns, over a catalogue of ``n_items``.

    ``known`` says of users (B,) whether the model has anything of them; who is not known scores -inf everywhere.
    """

    terms: Sequence[tuple[Term, Tensor]]
    n_items: int
    known_users: IntArray

    def known(self, users: IntArray) -> np.ndarray:
        """Which of ``users`` (B,) can be scored."""
        return is_in(users, self.known_users)

    def scores(self, users: IntArray) -> Tensor:
        """(B, N) the score of every item for ``users`` (B,)."""
        scores = self.sums(users)
        if len(strangers := np.flatnonzero(~self.known(users))):
            scores[torch.from_numpy(strangers)] = -torch.inf
        return scores

    def sums(self, users: IntArray) -> Tensor:
        """(B, N) the same, of users who are not known, too."""
        sums, found = torch.zeros(len(users), self.n_items), []
        for term, weights in self._anywhere:
            term.add(sums, users, weights)
        for apart, weights in self._of_what_was_had:
            mine = apart.personal.had_by(users).within(self.n_items)
            found.append((mine, apart.add_elsewhere(sums, mine, weights)))
        told = [values for _, values in found if values is not None]
        if told:
            found[0][0].add(sums, torch.stack(told).sum(0))
        return sums

    @cached_property
    def _weighed(self) -> list[tuple[Term, Tensor]]:
        return [(term, weights) for term, weights in self.terms if bool((weights != 0).any())]

    @cached_property
    def _of_what_was_had(self) -> list[tuple[OfWhatWasHad, Tensor]]:
        return [(term, weights) for term, weights in self._weighed if isinstance(term, OfWhatWasHad)]

    @cached_property
    def _anywhere(self) -> list[tuple[Term, Tensor]]:
        return [(term, weights) for term, weights in self._weighed if not isinstance(term, OfWhatWasHad)]

    def at(self, users: IntArray, items: Tensor) -> Tensor:
        """(B, C) the scores of ``items`` (B, C) for ``users`` (B,), known or not; items beyond the catalogue: 0."""
        return _gathered(self.sums(users), items)

    def chunks(self, users: IntArray) -> Iterator[tuple[int, Tensor]]:
        """Yield (first, scores (b, N)) for consecutive users of ``users`` (B,)."""
        step = max(FEWEST_USERS, CHUNK_SCORES // max(self.n_items, 1))
        for first in range(0, len(users), step):
            yield first, self.scores(users[first : first + step])

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
        lists = [(torch.zeros(0, n, dtype=torch.int64), torch.zeros(0, n))]
        for first, scores in self.chunks(users):
            if allowed is not None:
                scores[:, torch.from_numpy(~allowed[: self.n_items])] = -torch.inf
            if hidden is not None:
                here = (hidden[0] >= first) & (hidden[0] < first + len(scores)) & (hidden[1] < self.n_items)
                scores[torch.from_numpy(hidden[0][here] - first), torch.from_numpy(hidden[1][here])] = -torch.inf
            top = scores.topk(n, dim=1)
            lists.append((top.indices.where(top.values > -torch.inf, -1), top.values))
        items, values = (torch.cat(parts) for parts in zip(*lists, strict=True))
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
