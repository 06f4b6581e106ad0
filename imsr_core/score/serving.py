"""Score the whole catalogue for many users, a few at a time, and say of each item which term brought it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imsr_core.score.pairs import IntArray
from imsr_core.score.protocol import Term

#: Scores held at once (users x items): 4 MB in float32, of this many users at least.
CHUNK_SCORES, FEWEST_USERS = 1_000_000, 8


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
        return np.isin(users, self.known_users)

    def scores(self, users: IntArray) -> Tensor:
        """(B, N) the score of every item for ``users`` (B,)."""
        scores = torch.zeros(len(users), self.n_items)
        for term, weights in self.terms:
            if bool((weights != 0).any()):
                term.add(scores, users, weights)
        scores[torch.from_numpy(~self.known(users))] = -torch.inf
        return scores

    def at(self, users: IntArray, items: Tensor) -> Tensor:
        """(B, C) the scores of ``items`` (B, C) for ``users`` (B,), known or not; items beyond the catalogue: 0."""
        sums = torch.zeros(len(users), self.n_items)
        for term, weights in self.terms:
            term.add(sums, users, weights)
        inside = items < self.n_items
        return sums.gather(1, items.where(inside, 0)) * inside

    def chunks(self, users: IntArray) -> Iterator[tuple[int, Tensor]]:
        """Yield (first, scores (b, N)) for consecutive users of ``users`` (B,)."""
        step = max(FEWEST_USERS, CHUNK_SCORES // max(self.n_items, 1))
        for first in range(0, len(users), step):
            yield first, self.scores(users[first : first + step])

    def parts(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, T) what each term adds to the score of ``items`` (B, C) for ``users`` (B,)."""
        return torch.stack([term.at(users, items) @ weights for term, weights in self.terms], -1)
