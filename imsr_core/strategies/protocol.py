"""What every strategy takes and gives: M_{t-1} and a span in, M_t and what happened to the interests out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from torch import Tensor

from imsr_core.interests import InterestStore
from imsr_core.ragged import SpanSequences
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
    and after (NaN: was not there before).
    """

    user: Tensor
    interest_id: Tensor
    change: Tensor
    clarity: Tensor
    residual: Tensor
    drift: Tensor

    def count(self, change: Change) -> int:
        """How many interests had this change."""
        return int((self.change == list(Change).index(change)).sum())


@dataclass(frozen=True)
class SpanUpdate:
    """The result of a strategy.

    ``state`` is M_t; ``interests`` holds all interests of the users in the span and nobody else's (the rest did not
    change); ``losses`` one per epoch; ``clarity_quantiles`` maps a quantile to the users' mean KL, so that an
    absolute c1 can be chosen; ``detected`` users got proposals.
    """

    state: ModelState
    interests: InterestStore
    changes: InterestChanges
    losses: list[float]
    new_users: int
    detected: int
    threshold: float = math.nan
    clarity_quantiles: dict[str, float] = field(default_factory=dict)


#: Called with (steps done, steps in all at most, loss of the step).
Progress = Callable[[int, int, float], None]


def silent(done: int, total: int, loss: float) -> None:
    """A `Progress` that shows nothing."""


class Strategy(Protocol):
    """How M_t is made from M_{t-1} and the span."""

    def __call__(self, state: ModelState, span: SpanSequences, n_items: int, progress: Progress = silent) -> SpanUpdate:
        """Learn one span. ``n_items`` is the size of the catalogue after it. ``state`` is left as it was."""
        ...


def quantiles(values: Tensor, at: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> dict[str, float]:
    """Quantiles of the values that are not NaN, by name; empty if there are none."""
    known = values[~values.isnan()]
    if not len(known):
        return {}
    # numpy's, since torch.quantile refuses more than 16 million values
    import numpy as np

    return {str(q): float(v) for q, v in zip(at, np.quantile(known.numpy(), at), strict=True)}
