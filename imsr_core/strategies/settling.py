"""The end of a span: which interests stay, under which ids, and the report of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.interests import InterestStore, dense_ids
from imsr_core.rows import RowTable
from imsr_core.state import ModelState
from imsr_core.strategies.protocol import Change, InterestChanges
from imsr_core.strategies.shrinking import Shrunk
from imsr_core.trainer import WorkingInterests
from imsr_core.trimmer import survives

#: Rows of doubles that are held at once.
CHUNK = 65_536

#: Decides which interests stay; see `imsr_core.strategies.shrinking`.
Shrink = Callable[[InterestStore, Tensor, int, Tensor], Shrunk]


def settle(
    before: ModelState,
    working: WorkingInterests,
    read: InterestStore,
    queries: RowTable,
    clarity: Tensor,
    shrink: Shrink,
) -> tuple[InterestStore, InterestChanges]:
    """The interests of the span's users that stay, and what happened to each.

    ``read`` is the working store with the vectors and the support that were read from the span, ``queries`` (R, q)
    its trained queries; ``clarity`` (U,) is each user's mean KL.
    """
    config, store, vectors = before.config, working.store, read.vectors
    keep = torch.ones(len(store), dtype=torch.bool)
    if config.trimmer.enabled:
        keep = ~working.proposed | survives(vectors, config.trimmer.c2)
    stored = store.born < before.spans
    updated = read.replaced(
        active=torch.where(read.support > 0, before.spans, store.active),
        queries=queries.weight,
        query_moments=torch.stack([queries.moment1, queries.moment2], 1),
        query_steps=queries.steps,
    )
    shrunk = shrink(updated, keep, before.spans, _last_visit(store, stored))
    keep, updated = shrunk.keep, shrunk.store
    ids = dense_ids(store, keep, ~stored, _ids_so_far(before, store.users))
    names = list(Change)
    change = torch.full((len(store),), names.index(Change.BORN))
    change[stored] = names.index(Change.KEPT)
    change[~keep] = names.index(Change.TRIMMED)
    change[~keep & stored] = names.index(Change.FORGOTTEN)
    place = torch.repeat_interleave(torch.arange(len(store.users)), store.counts)
    changes = InterestChanges(
        user=store.user,
        interest_id=ids if bool(keep.all()) else torch.where(keep | stored, ids, -1),
        change=change,
        clarity=_unknown(len(store)) if bool(clarity.isnan().all()) else clarity[place],
        residual=_residual(vectors, working.proposed),
        drift=_drift(store.vectors, updated.vectors, stored),
        reason=shrunk.reason,
    )
    settled = updated.replaced(interest_id=ids)
    return settled if bool(keep.all()) else settled.take(keep), changes


def _residual(vectors: Tensor, proposed: Tensor) -> Tensor:
    """The length (R,) of ``proposed`` vectors (R, d), in double; NaN of all others."""
    if not bool(proposed.any()):
        return _unknown(len(vectors))
    return torch.where(proposed, vectors.norm(dim=-1).double(), math.nan)


def _unknown(rows: int) -> Tensor:
    """(rows,) NaN, in the room of one."""
    return torch.tensor(math.nan, dtype=torch.float64).expand(rows)


def _drift(before: Tensor, after: Tensor, stored: Tensor) -> Tensor:
    """1 - cosine (R,) between vectors (R, d), in double, of the ``stored`` rows; NaN of all others."""
    if not bool(stored.any()):
        return _unknown(len(before))
    drift = torch.full((len(before),), math.nan, dtype=torch.float64)
    for rows in stored.nonzero().squeeze(1).split(CHUNK):
        drift[rows] = 1 - functional.cosine_similarity(before[rows].double(), after[rows].double(), dim=-1)
    return drift


def _last_visit(store: InterestStore, stored: Tensor) -> Tensor:
    """(R,) the last span in which a stored interest of the row's user was nearest to an item; -1 if none is stored."""
    place = torch.repeat_interleave(torch.arange(len(store.users)), store.counts)
    last = torch.full((len(store.users),), -1).scatter_reduce(
        0, place, torch.where(stored, store.active, -1), "amax", include_self=True
    )
    return last[place]


def _ids_so_far(before: ModelState, users: Tensor) -> Tensor:
    """(U,) how many ids each user was ever given, noted where the interest with the newest id was forgotten; else 0."""
    known = before.user_memory.get("ids.user", users[:0])
    if not len(known):
        return torch.zeros_like(users)
    slot = torch.searchsorted(known, users).clamp(max=len(known) - 1)
    return torch.where(known[slot] == users, before.user_memory["ids.given"][slot], 0)


def given_ids(before: ModelState, kept: InterestStore, changes: InterestChanges) -> dict[str, Tensor]:
    """For users whose newest interest is forgotten: how many ids they were given, since no id may be given twice."""
    lost = changes.change == list(Change).index(Change.FORGOTTEN)
    if not bool(lost.any()) and "ids.user" not in before.user_memory:
        return {}
    users = kept.users
    given = torch.maximum(_ids_so_far(before, users), kept.next_ids(users))
    place = torch.searchsorted(users, changes.user[lost])
    given = given.scatter_reduce(0, place, changes.interest_id[lost] + 1, "amax", include_self=True)
    open_end = given > kept.next_ids(users)
    old = before.user_memory.get("ids.user", users[:0])
    other = ~torch.isin(old, users)
    named = torch.cat([old[other], users[open_end]])
    counts = torch.cat([before.user_memory.get("ids.given", given[:0])[other], given[open_end]])
    order = named.argsort()
    return {"ids.user": named[order], "ids.given": counts[order]}
