"""The interest store against a dictionary of lists."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.interests import InterestStore
from imsr_core.testing.planted_logs import tensors_of_store

#: {user: tags of its interests}; the tag is the vector, the position is the id.
CONTENTS = st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 999), min_size=1, max_size=4), max_size=6)
USERS = st.lists(st.integers(0, 14), max_size=8)


def build(contents: dict[int, list[int]], first: dict[int, int] | None = None) -> InterestStore:
    """A store of these contents; ids of user u count from ``first[u]``."""
    store = InterestStore.empty(1, query_units=2)
    for user, tags in contents.items():
        own = InterestStore.random(
            torch.tensor([user]),
            len(tags),
            1,
            scale=1.0,
            born=0,
            generator=torch.Generator().manual_seed(0),
            first_id=torch.tensor([(first or {}).get(user, 0)]),
            query_units=2,
        )
        tagged = torch.tensor(tags, dtype=torch.float32)[:, None]
        store = store.union(own.replaced(vectors=tagged, queries=tagged.expand(-1, 2)))
    return store


def as_lists(store: InterestStore) -> dict[int, list[tuple[int, int]]]:
    lists: dict[int, list[tuple[int, int]]] = {}
    rows = zip(store.user.tolist(), store.interest_id.tolist(), store.vectors[:, 0].tolist(), strict=True)
    assert torch.equal(store.queries[:, 0], store.vectors[:, 0])
    for user, number, tag in rows:
        lists.setdefault(user, []).append((number, int(tag)))
    return lists


def numbered(contents: dict[int, list[int]]) -> dict[int, list[tuple[int, int]]]:
    return {user: list(enumerate(tags)) for user, tags in sorted(contents.items())}


def assert_sorted(store: InterestStore) -> None:
    keys = list(zip(store.user.tolist(), store.interest_id.tolist(), strict=True))
    assert keys == sorted(set(keys))
    assert len({len(column) for column in tensors_of_store(store).values()}) == 1


@given(CONTENTS)
def test_users_and_counts(contents):
    store = build(contents)
    assert_sorted(store)
    assert as_lists(store) == numbered(contents)
    assert store.users.tolist() == sorted(contents)
    assert store.counts.tolist() == [len(contents[u]) for u in sorted(contents)]


@given(CONTENTS, USERS)
def test_rows_counts_and_next_ids_of_any_users(contents, users):
    store = build(contents)
    asked = torch.tensor(users, dtype=torch.int64)
    lengths = [len(contents.get(u, [])) for u in users]
    assert store.counts_of(asked).tolist() == lengths
    assert store.next_ids(asked).tolist() == lengths
    found = store.rows_of(asked)
    assert found.rows.shape == (len(users), max([*lengths, 1]))
    for row, mask, user in zip(found.rows, found.mask, users, strict=True):
        assert store.vectors[row[mask], 0].tolist() == contents.get(user, [])
        assert not row[~mask].any()


@given(CONTENTS, USERS)
def test_of_users_keeps_those_and_take_keeps_the_order(contents, users):
    store = build(contents)
    expected = {u: rows for u, rows in numbered(contents).items() if u in users}
    assert as_lists(store.of_users(torch.tensor(users, dtype=torch.int64))) == expected
    odd = store.take(store.interest_id % 2 == 1)
    assert_sorted(odd)
    assert as_lists(odd) == {u: rows[1::2] for u, rows in numbered(contents).items() if rows[1::2]}


@given(CONTENTS, CONTENTS)
def test_a_union_puts_new_interests_behind_the_old(old, new):
    first = {u: len(tags) for u, tags in old.items()}
    for store in (build(old).union(build(new, first)), build(new, first).union(build(old))):
        assert_sorted(store)
        joined = {u: old.get(u, []) + new.get(u, []) for u in old | new}
        assert as_lists(store) == numbered(joined)


@given(CONTENTS, st.integers(0, 12), st.integers(0, 12))
def test_parts_in_any_order_are_a_store_again(contents, one, two):
    store = build(contents)
    cuts = [0, *sorted(min(cut, len(store)) for cut in (one, two)), len(store)]
    parts = [store.take(slice(first, last)) for first, last in pairwise(cuts)]
    whole = InterestStore.of_parts(given := [parts[1], parts[2], parts[0]])
    assert_sorted(whole)
    assert as_lists(whole) == numbered(contents)
    assert given == []


@given(CONTENTS, CONTENTS)
def test_an_update_replaces_whole_users(old, new):
    store = build(old)
    updated = store.updated(build(new))
    assert_sorted(updated)
    assert as_lists(updated) == numbered(old | new)
    assert as_lists(store) == numbered(old)


@given(st.lists(st.integers(0, 20), unique=True, max_size=6), st.integers(0, 4), st.integers(0, 9))
def test_random_interests_of_several_users(users, count, seed):
    users = torch.tensor(sorted(users), dtype=torch.int64)

    def draw(seed: int) -> InterestStore:
        generator = torch.Generator().manual_seed(seed)
        return InterestStore.random(
            users, count, 4, scale=0.5, born=3, generator=generator, first_id=users * 2, query_units=3
        )

    store = draw(seed)
    assert_sorted(store)
    assert len(store) == len(users) * count
    ids = [(u, 2 * u + j) for u in users.tolist() for j in range(count)]
    assert list(zip(store.user.tolist(), store.interest_id.tolist(), strict=True)) == ids
    assert set(store.born.tolist()) <= {3}
    assert len(store.vectors.unique(dim=0)) == len(store)
    assert torch.equal(store.vectors, draw(seed).vectors)
    assert not len(store) or not torch.equal(store.vectors, draw(seed + 1).vectors)


def test_the_scale_is_the_standard_deviation():
    generator = torch.Generator().manual_seed(0)
    store = InterestStore.random(torch.arange(500), 4, 8, scale=0.3, born=0, generator=generator)
    assert abs(float(store.vectors.std()) - 0.3) < 0.01
