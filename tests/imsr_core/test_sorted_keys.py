import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.sorted_keys import is_in, numbered, union, unique, without

keys = st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 9), max_size=30).map(
    lambda k: np.array(k, dtype=np.int64)
)
pairs = st.tuples(keys | keys.map(np.sort), keys | keys.map(np.sort))


@given(pairs)
def test_as_numpy_says(both):
    first, second = both
    np.testing.assert_array_equal(unique(first), np.unique(first))
    np.testing.assert_array_equal(union(first, second), np.union1d(first, second))
    np.testing.assert_array_equal(is_in(first, second), np.isin(first, second))
    np.testing.assert_array_equal(without(first, second), np.setdiff1d(first, second))


@given(keys)
def test_what_is_given_is_not_changed_and_not_shared(given_keys):
    before = given_keys.copy()
    found = unique(given_keys)
    found += 1
    is_in(given_keys, given_keys)
    np.testing.assert_array_equal(given_keys, before)


def test_any_shape():
    table = np.array([[3, 1], [1, 2]])
    assert unique(table).tolist() == [1, 2, 3]
    assert is_in(table, np.array([2, 1])).tolist() == [[False, True], [True, True]]


@given(st.lists(st.integers(-5, 5)))
def test_numbered_is_unique_with_its_inverse(keys):
    keys = np.array(keys, dtype=np.int64)
    found, place = numbered(keys)
    wanted, inverse = np.unique(keys, return_inverse=True)
    assert np.array_equal(found, wanted)
    assert np.array_equal(place, inverse)
