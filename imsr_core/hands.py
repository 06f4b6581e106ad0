"""Work that is done user by user, and who does it: this process, or the many hands that a caller lends.

The core knows no workers. What grows with users (reading interests after training, what a span's events are counted
with) is written as a function of a bucket of users, which needs nothing but tensors and some JSON; whoever calls a
strategy may have the buckets done elsewhere (`lent`). A bucket that is done twice gives the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences, slice_rows

#: Tensors by name: what a bucket is made of, or what came of it.
Tensors = dict[str, Tensor]
#: Does one bucket: from what all buckets share, the bucket's own tensors and JSON. A function of a module.
DoBucket = Callable[[Tensors, Tensors, str], Tensors]


class Hands(Protocol):
    """Who does buckets of users."""

    @property
    def bucket_users(self) -> int:
        """Users of a bucket. A multiple of `imsr_core.extraction.CHUNK` gives the bits of one pass."""

    def __call__(self, do: DoBucket, shared: Tensors, buckets: Iterator[Tensors], how: str) -> Iterator[Tensors]:
        """What ``do`` makes of each bucket, in their order."""


_hands: ContextVar[Hands | None] = ContextVar("hands", default=None)


@contextmanager
def lent(hands: Hands | None) -> Iterator[None]:
    """For the block, work over more users than a bucket holds is done by ``hands`` (None: here)."""
    before = _hands.set(hands)
    try:
        yield
    finally:
        _hands.reset(before)


def somebody_lends() -> bool:
    """Whether hands are lent, however few users there are."""
    return _hands.get() is not None


def hands_for(users: int) -> Hands | None:
    """Who does the work over so many users; None: this process, since nobody else offers, or it is one bucket."""
    hands = _hands.get()
    return None if hands is None or users <= hands.bucket_users else hands


def buckets_of(sequences: SpanSequences, bucket_users: int) -> Iterator[SpanSequences]:
    """The sequences, so many users at a time."""
    for first in range(0, len(sequences), bucket_users):
        yield slice_rows(sequences, first, first + bucket_users)


def tensors_of(sequences: SpanSequences, name: str = "") -> Tensors:
    """Sequences as tensors, named after ``name``."""
    arrays = {"users": sequences.users, "offsets": sequences.offsets}
    arrays |= {"items": sequences.items, "timestamps": sequences.timestamps}
    return {f"{name}{key}": torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()}


def sequences_of(tensors: Tensors, name: str = "") -> SpanSequences:
    """The inverse of `tensors_of`."""
    return SpanSequences(*(tensors[f"{name}{key}"].numpy() for key in ("users", "offsets", "items", "timestamps")))
