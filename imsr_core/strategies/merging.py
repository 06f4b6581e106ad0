"""Interests that have become one: two of a user that point the same way say the same twice.

PIT looks at new interests only. Old ones converge, and those that pre-training starts with may never part: a user with
few items has not enough to tell four apart. In `imsr demo` 5 % of the base model's interests have a cosine above 0.95
to an older one of their user, and after eight updates 19 % (the column ``overlap`` of the view ``interest_history``).

At the end of a span the most similar pair of each of its users is merged while its cosine is at least
[trimmer] merge_cosine: the mean of the two, weighted by their items plus one, under the id, birth and query of the
older. Only users of the span are looked at.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.interests import InterestStore
from imsr_core.strategies.shrinking import Reason, Shrunk, as_it_is, inherited, without

#: Users whose pairs are looked at together.
CHUNK = 8192


def merge_twins(store: InterestStore, keep: Tensor, ordinal: int, last_visit: Tensor, cosine: float) -> Shrunk:
    """Merge what is left of ``store`` after the trimmer (``keep`` (R,)) until no pair of a user has ``cosine``."""
    shrunk = as_it_is(store, keep, ordinal, last_visit)
    users = store.users
    while len(users):
        users, older, younger = _twins(shrunk, users, cosine)
        merged = torch.ones_like(users, dtype=torch.bool)
        gone = torch.zeros_like(shrunk.keep)
        gone[younger] = True
        grown = inherited(shrunk.store, younger, older, merged)
        shrunk = without(Shrunk(grown, shrunk.keep, shrunk.reason), gone, Reason.MERGED)
    return shrunk


def _twins(shrunk: Shrunk, users: Tensor, cosine: float) -> tuple[Tensor, Tensor, Tensor]:
    """Those of ``users`` that have twins (T,), and the rows (T,) of the older and the younger of the closest pair."""
    parts = [_twins_of(shrunk, part, cosine) for part in users.split(CHUNK)]
    with_twins, older, younger = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return with_twins, older, younger


def _twins_of(shrunk: Shrunk, users: Tensor, cosine: float) -> tuple[Tensor, Tensor, Tensor]:
    found = shrunk.store.rows_of(users)
    alive = found.mask & shrunk.keep[found.rows]  # (B, K)
    directions = functional.normalize(shrunk.store.vectors[found.rows].double(), dim=-1) * alive[..., None]
    width = alive.shape[1]
    pairs = (directions @ directions.transpose(1, 2)).masked_fill(~torch.ones(width, width).triu(1).bool(), -1.0)
    closest, place = pairs.flatten(1).max(1)
    chosen = closest >= cosine
    rows, place = found.rows[chosen], place[chosen]
    older = rows.gather(1, (place // width)[:, None])[:, 0]
    younger = rows.gather(1, (place % width)[:, None])[:, 0]
    return users[chosen], older, younger
