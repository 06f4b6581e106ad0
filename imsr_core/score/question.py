"""What a fit asks: which of some users took which items of a span, and the candidates that they took them from.

The catalogue of a user is made of: the items in fashion and those the user had, each of them; and a uniform sample of
the rest, whose terms in the sum count log(rest / sample) more, so that the sum is right on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences
from imsr_core.score.pairs import FloatArray, IntArray, Pairs
from imsr_core.sorted_keys import is_in, numbered, unique, without

#: Events that a fit rests on at most, of so many users at most.
EVENTS, USERS = 4_000, 1_000
#: One user gives at most so many of them, or this share of the sample if that is more: a robot's thousands would decide
#: the weights of everybody.
OF_ONE, SHARE_OF_ONE = 100, 1 / 16
#: Items of the catalogue that stand for themselves (the most popular of late), and that stand for all others; items
#: that a user had and that are not popular.
POPULAR, SAMPLED, OWN = 200, 400, 200


@dataclass(frozen=True)
class Own:
    """Items (P,) that users had, by position in the question's users, ascending: ``place`` (P,), ``items`` (P,), and
    as a logarithm for how many items each stands, ``stands`` (P,)."""

    place: IntArray
    items: IntArray
    stands: FloatArray


@dataclass(frozen=True)
class Question:
    """Which of the ``users`` (B,) took which item: ``place`` (E,) positions in ``users`` and ``wanted`` (E,) items.

    The candidates are ``shared`` (C,), the same for all, and what each user had, ``own``, which is no candidate where
    only new things may be shown. ``offset`` (B, C) is added to the scores of the shared ones (-inf where the user had
    it), ``new`` (E,) marks what the user had not had.
    """

    users: IntArray
    place: IntArray
    wanted: IntArray
    shared: IntArray
    offset: Tensor
    own: Own
    new: Tensor

    @property
    def open(self) -> Tensor:
        """(E,) whether there is a candidate that is new to the user of an event."""
        return self.offset.isfinite().any(1)[torch.from_numpy(self.place)]


def sample_events(span: SpanSequences, known: np.ndarray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Users (E,) and items (E,) of at most `EVENTS` of the ``known`` (E',) events, of `USERS` users at most, and
    `OF_ONE` or `SHARE_OF_ONE` of each at most."""
    users, items = span.users[span.rows][known], span.items[known]
    chosen = rng.permutation(unique(users))[:USERS]
    inside = np.flatnonzero(is_in(users, chosen))
    kept = np.sort(_of_each(rng.permutation(inside)[:EVENTS], users))
    return users[kept], items[kept]


def _of_each(events: IntArray, users: IntArray) -> IntArray:
    """The ``events`` (E,), but of each of their ``users`` (E',) the first only, as many as one may give."""
    owners, most = users[events], max(OF_ONE, int(len(events) * SHARE_OF_ONE))
    order = np.argsort(owners, kind="stable")
    _, first, counts = np.unique(owners[order], return_index=True, return_counts=True)
    nth = np.arange(len(order)) - np.repeat(first, counts)
    return events[np.sort(order[nth < most])]


def question(users: IntArray, items: IntArray, popularity: Tensor, had: Pairs, rng: np.random.Generator) -> Question:
    """The candidates of events (E,), given as users and items; ``popularity`` (N,), ``had`` what users had."""
    people, place = numbered(users)
    n = len(popularity)
    popular = np.sort(torch.topk(popularity, min(POPULAR, n)).indices.numpy())
    rest = without(np.arange(n), popular)
    drawn = np.sort(rng.permutation(rest)[:SAMPLED])
    shared = np.concatenate([popular, drawn])
    correction = np.zeros(len(shared))
    correction[len(popular) :] = np.log(max(len(rest), 1) / max(len(drawn), 1))
    mine = had.of_owners(people)
    mine = mine.take(mine.other < n)
    owner, _ = mine.rows_of(people)
    offset = np.tile(correction, (len(people), 1))
    column = np.full(n, -1)
    column[shared] = np.arange(len(shared))
    inside = column[mine.other] >= 0
    # what the user had stands for itself, among the own items: not once more in the sample
    offset[owner[inside], column[mine.other[inside]]] = -np.inf
    own = _own_items(owner, mine.other, popular, rng)
    new = had.find(users, items) < 0
    return Question(people, place, items, shared, torch.from_numpy(offset).float(), own, torch.from_numpy(new))


def _own_items(owner: IntArray, items: IntArray, popular: IntArray, rng: np.random.Generator) -> Own:
    """What users had, given as ``owner`` (R,), ascending, and ``items`` (R,).

    Of those that are not popular `OWN` of a user are drawn where there are more: the oldest are taken again too, and
    count in the sum as the newest.
    """
    in_fashion = is_in(items, popular)
    rows = np.flatnonzero(~in_fashion)
    place = owner[rows]
    count = np.bincount(place)
    order = rows[np.lexsort((rng.random(len(rows)), place))]
    kept = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count) < OWN
    stands = np.log(np.maximum(count / OWN, 1.0))[place]
    chosen = np.concatenate([order[kept], np.flatnonzero(in_fashion)])
    stands = np.concatenate([stands[kept], np.zeros(int(in_fashion.sum()))])
    by_user = np.argsort(owner[chosen], kind="stable")
    return Own(owner[chosen][by_user], items[chosen][by_user], stands[by_user])
