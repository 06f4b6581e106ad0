"""Vocabulary: append-only, in the order of first events, whatever the order of files and rows."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_logs import tie_of, write_lake

from pipelines.sequences import vocabulary
from pipelines.sequences.id_files import VocabularyError
from pipelines.sequences.vocabulary import ITEMS_FILE, USERS_FILE, Vocabulary, write_delta
from pipelines.workspace.parquet_files import ParquetFileError

ODD_IDS = ["", " ", "0", "00", "null", "naïve", "nai\u0308ve", "🛒", "a\nb", "a\x00b", "it's", "x" * 300]
IDS = st.sampled_from(["u1", "u2", "u3", *ODD_IDS])
LOGS = st.lists(st.tuples(IDS, IDS, st.integers(-3, 3)), max_size=12)


def grow(folder, spans) -> tuple[Vocabulary, list]:
    """One delta per span of events; returns the final vocabulary and the folders."""
    folders = []
    for number, events in enumerate(spans):
        files = write_lake(folder / f"lake{number}", events)
        folders.append(folder / f"delta{number}")
        folders[-1].mkdir()
        write_delta(folders[-1], Vocabulary.open(folders[:-1]).extend(files))
    return Vocabulary.open(folders), folders


def expected_order(spans, column) -> list[str]:
    """New ids in the order of (first time, tie of that event, id), span after span."""
    order: list[str] = []
    for events in spans:
        first = {}
        for event in events:
            key = (event[2], tie_of(event))
            first[event[column]] = min(first.get(event[column], key), key)
        order += sorted((i for i in first if i not in order), key=lambda i: (first[i], i.encode()))
    return order


@settings(deadline=None, max_examples=25)
@given(st.lists(LOGS, min_size=1, max_size=3))
def test_ids_are_numbered_by_first_event_and_never_move(tmp_path_factory, spans):
    vocabulary, folders = grow(tmp_path_factory.mktemp("chain"), spans)
    users, items = expected_order(spans, 0), expected_order(spans, 1)
    assert vocabulary.user_ids(np.arange(vocabulary.n_users)).to_pylist() == users
    assert vocabulary.item_ids(np.arange(vocabulary.n_items)).to_pylist() == items
    assert vocabulary.users_of(users).tolist() == list(range(len(users)))
    shorter = Vocabulary.open(folders[:-1])
    assert shorter.users_of(users[: shorter.n_users]).tolist() == list(range(shorter.n_users))


@settings(deadline=None, max_examples=25)
@given(LOGS)
def test_few_events_and_many_give_the_same_ids(tmp_path_factory, events):
    files, found = write_lake(tmp_path_factory.mktemp("lake"), events), []
    for few in (0, 1_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vocabulary, "FEW_EVENTS", few)
            found.append(Vocabulary.open([]).extend(files))
    assert found[0] == found[1]


def test_the_tie_of_the_first_event_comes_before_the_id(tmp_path):
    events = [(f"u{n}", f"i{n}", 5) for n in range(20)]
    vocabulary, _ = grow(tmp_path, [events])
    numbered = vocabulary.item_ids(np.arange(20)).to_pylist()
    assert numbered == [e[1] for e in sorted(events, key=tie_of)]
    assert numbered != sorted(numbered)


def test_order_of_files_and_rows_does_not_matter(tmp_path):
    chance = random.Random(1)
    events = [(f"u{chance.randrange(30)}", f"i{chance.randrange(30)}", chance.randrange(9)) for _ in range(200)]
    one = Vocabulary.open([]).extend(write_lake(tmp_path / "a", events))
    two = Vocabulary.open([]).extend(write_lake(tmp_path / "b", events, shuffle=chance)[::-1])
    assert one.new_users == two.new_users
    assert one.new_items == two.new_items


def test_extending_lists_every_id_of_the_span_and_marks_the_new_ones(tmp_path):
    vocabulary, _ = grow(tmp_path, [[("ann", "tea", 1), ("bob", "jam", 2)]])
    ids = vocabulary.extend(write_lake(tmp_path / "next", [("cat", "jam", 9), ("ann", "rye", 10)]))
    assert ids.users.drop_columns(["file"]).to_pylist() == [
        {"user_id": "cat", "user_index": 2},
        {"user_id": "ann", "user_index": 0},
    ]
    assert ids.new_users.to_pylist() == [{"user_id": "cat", "user_index": 2}]
    assert ids.new_items.to_pylist() == [{"item_id": "rye", "item_index": 2}]
    assert (vocabulary.n_users, vocabulary.n_items) == (2, 2)


def test_unknown_ids_are_minus_one_and_repeats_are_fine(tmp_path):
    vocabulary, _ = grow(tmp_path, [[("ann", "tea", 1), ("bob", "jam", 2)]])
    asked = pa.chunked_array([["bob", "eve"], ["bob", "ann"]])
    assert vocabulary.users_of(asked).tolist() == [1, -1, 1, 0]
    assert vocabulary.items_of([]).tolist() == []
    assert Vocabulary.open([]).items_of(["tea"]).tolist() == [-1]


def test_no_span_and_an_empty_span_add_nothing(tmp_path):
    vocabulary, _ = grow(tmp_path, [[], [("ann", "tea", 1)], []])
    assert (vocabulary.validate().n_users, vocabulary.n_items) == (1, 1)
    assert Vocabulary.open([]).validate().n_users == 0


@pytest.mark.parametrize("index", [-1, 1, 2**40])
def test_an_index_outside_is_refused(tmp_path, index):
    vocabulary, _ = grow(tmp_path, [[("ann", "tea", 1)]])
    with pytest.raises(VocabularyError, match=f"no item index {index}"):
        vocabulary.item_ids(np.array([0, index]))


def test_a_missing_link_is_named(tmp_path):
    _, folders = grow(tmp_path, [[("ann", "tea", 1)], [("bob", "jam", 2)], [("cat", "rye", 3)]])
    with pytest.raises(VocabularyError, match=r"delta2.users\.parquet: user_index must run from 1"):
        Vocabulary.open([folders[0], folders[2]])


def test_an_id_that_occurs_twice_is_named_with_its_file(tmp_path):
    _, folders = grow(tmp_path, [[("ann", "tea", 1)], [("bob", "jam", 2)]])
    table = pq.read_table(folders[1] / ITEMS_FILE)
    pq.write_table(table.set_column(0, table.schema.field(0), pa.array([["tea"][0]])), folders[1] / ITEMS_FILE)
    vocabulary = Vocabulary.open(folders)
    with pytest.raises(VocabularyError, match=r"delta1.items\.parquet: item_id 'tea' already has an index"):
        vocabulary.validate()


@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped"])
def test_a_damaged_delta_is_named(tmp_path, damage):
    _, folders = grow(tmp_path, [[(f"u{n}", f"i{n}", n) for n in range(500)]])
    path = folders[0] / USERS_FILE
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[:-20])
    if damage == "flipped":
        data[len(data) // 3] ^= 0xFF
        path.write_bytes(data)
    with pytest.raises((ParquetFileError, VocabularyError), match=r"delta0.users\.parquet"):
        Vocabulary.open(folders).validate()


def test_a_user_in_two_files_is_refused(tmp_path):
    files = write_lake(tmp_path / "a", [("ann", "tea", 1)]) + write_lake(tmp_path / "b", [("ann", "jam", 2)])
    with pytest.raises(VocabularyError, match="user 'ann' is in two files"):
        Vocabulary.open([]).extend(files)
