"""What every strategy takes and gives: M_{t-1} and a span in, M_t and what happened to the interests out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from imsr_core.counted import counted
from imsr_core.interests import InterestStore
from imsr_core.ragged import SequenceError, SpanSequences, drop_empty
from imsr_core.score import Score, Weights
from imsr_core.state import ModelState


class Change(StrEnum):
    """What a span did to an interest."""

    BORN = "born"
    KEPT = "kept"
    TRIMMED = "trimmed"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class InterestChanges:
    """One row for each interest that the span touched or proposed, C in all.

    ``user`` and ``interest_id`` (C,) int64 (-1 for a trimmed one: it never got an id); ``change`` (C,) int64 is a
    position in `Change`; ``clarity`` (C,) the user's mean KL (NaN: not measured); ``residual`` (C,) length of a
    proposed interest's orthogonal part (NaN: not proposed); ``drift`` (C,) 1 - cosine between the interest before
    and after (NaN: was not there before); ``reason`` (C,) int64 is a position in
    `imsr_core.strategies.shrinking.Reason`, why it was trimmed or forgotten (-1: neither).
    """

    user: Tensor
    interest_id: Tensor
    change: Tensor
    clarity: Tensor
    residual: Tensor
    drift: Tensor
    reason: Tensor

    def take(self, rows: slice) -> InterestChanges:
        """Some of the rows."""
        return InterestChanges(*(getattr(self, f.name)[rows] for f in fields(self)))

    def count(self, change: Change) -> int:
        """How many interests had this change."""
        return int((self.change == list(Change).index(change)).sum())


@dataclass(frozen=True)
class SpanUpdate:
    """The result of a strategy.

    ``state`` is M_t; ``interests`` holds all interests of the users in the span and nobody else's (the rest did not
    change); ``losses`` one per epoch; ``clarity_quantiles`` maps a quantile to the users' mean KL, so that an
    absolute c1 can be chosen; ``detected`` users were puzzled (those at the cap get no proposal). ``blind`` holds the
    interests of the users with events that were hidden from learning, as they are without those; None if none were.
    ``blind_score`` is the score without them, to be asked of those users. ``members`` are the updates of further
    members, if any.
    """

    state: ModelState
    interests: InterestStore
    changes: InterestChanges
    losses: list[float]
    new_users: int
    detected: int
    threshold: float = math.nan
    clarity_quantiles: dict[str, float] = field(default_factory=dict)
    blind: InterestStore | None = None
    blind_score: Score | None = None
    members: tuple[SpanUpdate, ...] = ()

    def unseen(self, users: Tensor | None = None) -> ModelState:
        """M_t as it is without the hidden events: weights that never saw them, and the ``blind`` interests; of
        ``users`` alone, if they are given."""
        if self.blind is None and users is None:
            return self.state
        score = self.state.score if self.blind is None else self.blind_score
        pairs = zip(self.state.members, self.members, strict=True)
        members = tuple(replace(member, store=update._blind_store(users)) for member, update in pairs)
        return replace(self.state, store=self._blind_store(users), score=score, members=members)

    def _blind_store(self, users: Tensor | None) -> InterestStore:
        store, blind = self.state.store, self.blind
        if users is not None:
            blind = None if blind is None else blind.of_users(users)
            store = store.of_users(users if blind is None else users[~torch.isin(users, blind.users)])
        return store if blind is None else store.updated(blind)

    def without_blind(self) -> SpanUpdate:
        """The same without what hidden events need: as large as the interests, and asked for once."""
        members = tuple(update.without_blind() for update in self.members)
        return replace(self, blind=None, blind_score=None, members=members)

    def weighed(self, weights: Weights) -> SpanUpdate:
        """The same with other weights of the score."""
        own, blind = (
            None if score is None else replace(score, weights=weights) for score in (self.state.score, self.blind_score)
        )
        return replace(self, state=replace(self.state, score=own), blind_score=blind)


#: Called with (steps done, steps in all at most, loss of the step).
Progress = Callable[[int, int, float], None]


def silent(done: int, total: int, loss: float) -> None:
    """A `Progress` that shows nothing."""


#: Gives everything that happened before the span, for a strategy that looks back. Called only by those that do.
History = Callable[[], SpanSequences]


class Strategy(Protocol):
    """How M_t is made from M_{t-1} and the span."""

    def __call__(
        self,
        state: ModelState,
        span: SpanSequences,
        n_items: int,
        progress: Progress = silent,
        *,
        visible: SpanSequences | None = None,
        history: History | None = None,
    ) -> SpanUpdate:
        """Learn one span. ``n_items`` is the size of the catalogue after it. ``state`` is left as it was.

        ``visible`` is the span without the events that M_t will be judged on. Weights, targets and detection come
        from ``visible`` alone. The interests of M_t are read from the whole span, so that what is served knows all
        that happened; `SpanUpdate.blind` are those that are read from ``visible``. ``history`` gives what happened
        before the span; a strategy may ignore it.
        """
        ...


def visible_part(span: SpanSequences, visible: SpanSequences) -> SpanSequences:
    """``visible`` without empty users. Raises `SequenceError` unless each of the span's users has an event in it."""
    visible = drop_empty(visible)
    if not np.array_equal(visible.users, span.users):
        raise SequenceError(
            f"the visible events are of {counted(len(visible), 'user')}, the span's of {len(span)}",
            hint="hide at most all but one event of each user",
        )
    return visible


def quantiles(values: Tensor) -> dict[str, float]:
    """Five quantiles of the values that are not NaN, by name; empty if there are none."""
    at = (0.05, 0.25, 0.5, 0.75, 0.95)
    known = values[~values.isnan()]
    if not len(known):
        return {}
    # numpy's, since torch.quantile refuses more than 16 million values
    import numpy as np

    return {str(q): float(v) for q, v in zip(at, np.quantile(known.numpy(), at), strict=True)}
