"""Why an item is in a user's list, in words: the term of the score that lifts it most above a usual item."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imsr_core.score import Score, Scorer
from imsr_core.score.content import ContentTerm
from imsr_core.score.factors import FactorsTerm
from imsr_core.score.had import TermWithHad
from imsr_core.score.interest import InterestTerm
from imsr_core.score.neighbours import NeighboursTerm
from imsr_core.score.personal import PersonalTerm
from imsr_core.score.trend import HALF_LIVES

IntArray = NDArray[np.int64]
DAY = 86_400_000_000  # microseconds
#: An item is rising if this much more of its events are new than a steady stream's would be.
RISING = 1.5


def reasons(
    score: Score,
    scorer: Scorer,
    users: IntArray,
    items: IntArray,
    interest_ids: IntArray,
    item_ids: Callable[[IntArray], pa.ChunkedArray],
) -> pa.Array:
    """(P,) texts for pairs of users (P,) and items (P,); ``interest_ids`` (P,) are the interests nearest to the items.

    had 6 times, last 9 days ago | interest 3 | rising | popular of late | goes with 1082185 | liked by similar users
    | more of Comedy
    """
    people, place = np.unique(users, return_inverse=True)
    order = np.argsort(place, kind="stable")
    count = np.bincount(place, minlength=len(people))
    column = np.empty(len(users), dtype=np.int64)
    column[order] = np.arange(len(users)) - np.repeat(np.cumsum(count) - count, count)
    table = np.zeros((len(people), int(count.max(initial=0))), dtype=np.int64)
    table[place, column] = items
    which = scorer.reasons(people, table)[place, column] if len(users) else np.zeros(0, dtype=np.int64)
    texts = _trend(score, items)
    for number, (term, _) in enumerate(scorer.terms):
        mine = which == number
        term = term.term if isinstance(term, TermWithHad) else term
        if isinstance(term, InterestTerm):
            own = _joined("interest ", pa.array(interest_ids[mine]))
        elif isinstance(term, PersonalTerm):
            own = _personal(term, users[mine], items[mine])
        elif isinstance(term, NeighboursTerm):
            own = _neighbours(term, users[mine], items[mine], item_ids)
        elif isinstance(term, FactorsTerm):
            own = pa.array(["liked by similar users"] * int(mine.sum()), pa.string())
        elif isinstance(term, ContentTerm):
            own = _content(term, users[mine], items[mine])
        else:
            continue
        texts = pc.replace_with_mask(texts, pa.array(mine), own)
    return texts


def _joined(*parts: str | pa.Array) -> pa.Array:
    texts = [part if isinstance(part, str) else part.cast(pa.string()) for part in parts]
    return pc.binary_join_element_wise(*texts, "")


def _trend(score: Score, items: IntArray) -> pa.Array:
    short, long = HALF_LIVES.index(1.0), HALF_LIVES.index(4.0)
    counts = score.trend.counts[items]
    rising = counts[:, short] * HALF_LIVES[long] > RISING * counts[:, long] * HALF_LIVES[short]
    return pa.array(np.where(rising, "rising", "popular of late"), pa.string())


def _personal(term: PersonalTerm, users: IntArray, items: IntArray) -> pa.Array:
    row = term.pairs.find(users, items)
    had = row >= 0
    times = pa.array(np.where(had, term.pairs.values[row, 0] if len(term.pairs) else 0, 0).astype(np.int64))
    last = np.where(had, term.pairs.last[row] if len(term.pairs) else 0, term.until)
    days = pa.array((term.until - last) // DAY)
    often = pc.if_else(pc.equal(times, 1), pa.scalar("had once"), _joined("had ", times, " times"))
    ago = pc.if_else(pc.equal(days, 1), pa.scalar(", last a day ago"), _joined(", last ", days, " days ago"))
    ago = pc.if_else(pc.equal(days, 0), pa.scalar(", last today"), ago)
    return pc.if_else(pa.array(had), _joined(often, ago), pa.scalar("new to the user"))


def _neighbours(
    term: NeighboursTerm, users: IntArray, items: IntArray, item_ids: Callable[[IntArray], pa.ChunkedArray]
) -> pa.Array:
    voter = term.because(users, items)
    named = item_ids(np.maximum(voter, 0)).combine_chunks()
    return pc.if_else(pa.array(voter >= 0), _joined("goes with ", named), pa.scalar("goes with what the user had"))


def _content(term: ContentTerm, users: IntArray, items: IntArray) -> pa.Array:
    most = term.because(users, items)
    names = pa.array(term.categories.names, pa.string()).take(pa.array(most, mask=most < 0))
    return pc.fill_null(_joined("more of ", names), "of another kind than what the user had")
