"""A term that says something else of what the user had: its columns twice, once for every item, once for those alone.

    columns x_f(u, i), and had_f(u, i) = x_f(u, i) if the user had the item, else 0

What is in fashion says which new thing a user might take, and little of which of their own things they take again. With
one weight for both, a fit on all events pays for the new ones with the order of the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had, PersonalTerm
from imsr_core.score.protocol import AddedApart, Term


@dataclass(frozen=True)
class TermWithHad:
    """``term`` with weights of their own for the items that ``personal`` knows of a user."""

    term: Term
    personal: PersonalTerm

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the term, and the same for what the user had."""
        return had_columns(self.term.columns)

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place; ``weights`` (2F,)."""
        mine = self.personal.had_by(users).within(scores.shape[1])
        mine.add(scores, self.add_elsewhere(scores, mine, weights))

    def add_elsewhere(self, scores: Tensor, mine: Had, weights: Tensor) -> Tensor | None:
        """As `OfWhatWasHad` says."""
        every, had = weights.chunk(2)
        if not any(had.tolist()):
            self.term.add(scores, mine.users, every)
            return None
        if self._apart is not None:  # asked once, weighed twice
            return self._apart.add_apart(scores, mine, every, had)
        self.term.add(scores, mine.users, every)
        return self.term.asked(mine.users, mine.items[:0], mine.place, mine.items)[1] @ had

    @cached_property
    def _apart(self) -> AddedApart | None:
        return self.term if isinstance(self.term, AddedApart) else None

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """(B, C, 2F) the columns of ``items`` (B, C) for ``users`` (B,)."""
        return self._doubled(self.term.at(users, items), np.broadcast_to(users[:, None], items.shape), items)

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """(B, C, F) the columns of ``shared`` (C,) items, which the users had not, and (P, 2F) of pairs."""
        everybody, mine = self.term.asked(users, shared, place, items)
        return everybody, self._doubled(mine, users[place], items)

    def _doubled(self, values: Tensor, users: IntArray, items: IntArray) -> Tensor:
        """``values`` (..., F) of pairs, and once more those of what the users had."""
        had = self.personal.pairs.find(users, items) >= 0
        return torch.cat([values, values * torch.from_numpy(had)[..., None]], -1)


def had_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a term, and the same for what the user had."""
    return (*columns, *(f"had_{name}" for name in columns))
