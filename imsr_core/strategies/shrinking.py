"""Forgetting, so that memory does not only grow (the paper's future work; its successor EMA, arXiv 2504.21270).

    rest     an interest that no item was nearest to for n spans of its user is forgotten
    budget   a user with more than B interests gives some up, one after the other: while the two most similar ones have
             at least the cosine that was set, they are merged, else the least active one is dropped

Ours in the detail. Rest is counted in visits, that is spans in which the user had an item (`visits`): a user who comes
back after a year has not lost interest in anything. The least active interest is the one whose last item is longest
ago, then the one with the fewest items, then the shortest. A merged interest is the mean of the two, weighted by their
items plus one; it keeps the id, the birth and the query of the older. Items of a dropped interest count for the most
similar one that stays.

Nobody loses everything: a user with an item in the span has an interest that this item is nearest to. Only users of
the span are looked at, so that forgetting costs nothing for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.config import ElasticConfig
from imsr_core.interests import InterestStore
from imsr_core.strategies.visits import Visits


class Reason(StrEnum):
    """Why an interest is gone, or never came to be."""

    REDUNDANT = "redundant"
    RESTED = "rested"
    MERGED = "merged"
    BUDGET = "budget"


@dataclass(frozen=True)
class Shrunk:
    """The same rows, some with what they took over; ``keep`` (R,) marks those that stay.

    ``reason`` (R,) int64 is a position in `Reason`, -1 for those that stay.
    """

    store: InterestStore
    keep: Tensor
    reason: Tensor


def as_it_is(store: InterestStore, keep: Tensor, ordinal: int, last_visit: Tensor) -> Shrunk:
    """Forget nothing: what ``keep`` drops is redundant to the trimmer."""
    del ordinal, last_visit
    redundant = list(Reason).index(Reason.REDUNDANT)
    return Shrunk(store, keep, torch.where(keep, -1, redundant))


def shrink(
    store: InterestStore, keep: Tensor, ordinal: int, last_visit: Tensor, config: ElasticConfig, visits: Visits
) -> Shrunk:
    """Forget what rested and what is beyond the budget, of the users in ``store``, after span ``ordinal``.

    ``keep`` (R,) are the rows that the trimmer left; ``last_visit`` (R,) the ordinal of the last span before this
    one in which the row's user had an item; ``visits`` those before it.
    """
    shrunk = as_it_is(store, keep, ordinal, last_visit)
    if config.idle_spans:
        earlier = visits.before(store.user, last_visit, config.idle_spans - 1)
        rest = (earlier > store.active[:, None]).sum(dim=1) + 1  # this visit is one of them
        rest = torch.where(store.active < ordinal, rest, 0)
        shrunk = without(shrunk, keep & (rest >= config.idle_spans), Reason.RESTED)
    while config.budget:
        over = _users_over(shrunk, config.budget)
        if not len(over):
            break
        shrunk = _give_up_one(shrunk, over, config.merge_cosine)
    return shrunk


def without(shrunk: Shrunk, gone: Tensor, reason: Reason) -> Shrunk:
    """The same without the rows that ``gone`` (R,) marks, for a ``reason``."""
    place = torch.where(gone, list(Reason).index(reason), shrunk.reason)
    return Shrunk(shrunk.store, shrunk.keep & ~gone, place)


def _users_over(shrunk: Shrunk, budget: int) -> Tensor:
    users, counts = torch.unique_consecutive(shrunk.store.user[shrunk.keep], return_counts=True)
    return users[counts > budget]


def _give_up_one(shrunk: Shrunk, users: Tensor, merge_cosine: float) -> Shrunk:
    """One interest fewer for each of ``users`` (B,), all of whom have at least two."""
    store = shrunk.store
    found = store.rows_of(users)
    alive = found.mask & shrunk.keep[found.rows]  # (B, K)
    directions = functional.normalize(store.vectors[found.rows].double(), dim=-1)
    cosine = directions @ directions.transpose(1, 2)
    pairs = alive[:, :, None] & alive[:, None, :] & ~torch.eye(alive.shape[1], dtype=torch.bool)
    cosine = cosine.masked_fill(~pairs, -torch.inf)  # (B, K, K)
    best = cosine.flatten(1).max(1)
    older, younger = best.indices // alive.shape[1], best.indices % alive.shape[1]
    older, younger = torch.minimum(older, younger), torch.maximum(older, younger)
    merged = best.values >= merge_cosine
    # where nothing is similar enough: the least active goes, and its items to the nearest that stays
    least = _least_active(store, found.rows, alive)
    gone = torch.where(merged, younger, least)
    heir = torch.where(
        merged, older, cosine.gather(1, least[:, None, None].expand(-1, 1, alive.shape[1]))[:, 0].argmax(1)
    )
    gone, heir = (found.rows.gather(1, place[:, None])[:, 0] for place in (gone, heir))
    store = inherited(store, gone, heir, merged)
    lost = torch.zeros_like(shrunk.keep)
    lost[gone] = True
    by_merging = torch.zeros_like(shrunk.keep)
    by_merging[gone[merged]] = True
    shrunk = Shrunk(store, shrunk.keep, shrunk.reason)
    return without(without(shrunk, lost & by_merging, Reason.MERGED), lost & ~by_merging, Reason.BUDGET)


def _least_active(store: InterestStore, rows: Tensor, alive: Tensor) -> Tensor:
    """Place (B,) of the least active of each user's living interests."""
    order = torch.arange(alive.shape[1]).expand_as(rows)
    for key in (store.vectors.norm(dim=-1), store.support, store.active):  # the last one decides first
        values = key[rows].double().masked_fill(~alive, torch.inf).gather(1, order)
        order = order.gather(1, values.argsort(dim=1, stable=True))
    return order[:, 0]


def inherited(store: InterestStore, gone: Tensor, heir: Tensor, merged: Tensor) -> InterestStore:
    """The heirs (B,) with the items of those that go (B,), and where ``merged`` with their vectors."""
    support, active, vectors = store.support.clone(), store.active.clone(), store.vectors.clone()
    own, other = ((store.support[rows] + 1.0)[:, None] for rows in (heir, gone))
    mean = (own * store.vectors[heir] + other * store.vectors[gone]) / (own + other)
    vectors[heir] = torch.where(merged[:, None], mean, store.vectors[heir])
    support[heir] += support[gone]
    active[heir] = torch.maximum(active[heir], active[gone])
    return store.replaced(support=support, active=active, vectors=vectors)
