"""What every term of a score is: a few columns of numbers for each user and item, and a state that learns spans.

score(u, i) = sum over the columns of all terms of weight x value(u, i). A term is one file. `Score` has a field for
each that learns, because what it learns is stored with a version and handed on from span to span. All of them promise
that `add` and `asked` say the same as `at`; those that count, that learning spans one by one equals learning them at
once.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from imsr_core.score.pairs import IntArray
from imsr_core.score.personal import Had, PersonalTerm


class Term(Protocol):
    """Something that is known of a user and an item: F columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns (F,)."""
        ...

    def add(self, scores: Tensor, users: IntArray, weights: Tensor) -> None:
        """Add values x ``weights`` (F,) to ``scores`` (B, N) of ``users`` (B,), in place: what serving does."""
        ...

    def at(self, users: IntArray, items: IntArray) -> Tensor:
        """The values (B, C, F) of ``items`` (B, C) for ``users`` (B,): what explaining does."""
        ...

    def asked(self, users: IntArray, shared: IntArray, place: IntArray, items: IntArray) -> tuple[Tensor, Tensor]:
        """What fitting does: the values (B, C, F') of the same items ``shared`` (C,) for all ``users`` (B,), as if they
        had none of them, and those (P, F) of pairs, ``items`` (P,) of the users at ``place`` (P,), as of `at`.

        The last F - F' columns of a term are 0 for what a user did not have, and are left out of the former; it is
        (1, C, F') where all users have the same.
        """
        ...


@runtime_checkable
class AddedApart(Protocol):
    """A term that weighs what the user had apart in one go."""

    def add_apart(self, scores: Tensor, mine: Had, weights: Tensor, had: Tensor) -> Tensor:
        """Add values x ``weights`` (F,) to ``scores`` (B, N) of the users of ``mine``, in place; values x ``had`` (F,)
        of what they had (P,) are returned, and still to be added there."""
        ...


@runtime_checkable
class OfWhatWasHad(Protocol):
    """A term some columns of which are 0 for what the user did not have: such terms are added there together."""

    @property
    def personal(self) -> PersonalTerm:
        """What says what users had."""
        ...

    def add_elsewhere(self, scores: Tensor, mine: Had, weights: Tensor) -> Tensor | None:
        """Add to ``scores`` (B, N) of the users of ``mine`` what does not depend on it, in place, and return what is to
        be added for what they had (P,), None where that is nothing."""
        ...
