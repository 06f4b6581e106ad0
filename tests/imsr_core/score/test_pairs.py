"""Tables of pairs: the newest of each owner, as a loop finds them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.score.pairs import Pairs

ROWS = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 9)), st.integers(0, 3), max_size=40)


def table(rows):
    owner, other = (np.array([pair[n] for pair in sorted(rows)], dtype=np.int64) for n in (0, 1))
    return Pairs(owner, other, np.array([rows[pair] for pair in sorted(rows)], dtype=np.int64), np.ones((len(rows), 1)))


@given(ROWS, st.integers(0, 12))
def test_the_newest_of_each_owner_and_of_those_touched_at_once_the_higher_others(rows, limit):
    wanted = set()
    for owner in {pair[0] for pair in rows}:
        own = sorted((pair for pair in rows if pair[0] == owner), key=lambda pair: (-rows[pair], -pair[1]))
        wanted |= set(own[:limit] if limit else own)
    pairs = table(rows)
    kept = pairs.take(pairs.newest(limit))
    assert set(zip(kept.owner.tolist(), kept.other.tolist(), strict=True)) == wanted
    assert (np.diff(kept.keys) > 0).all()
