"""Ids by index and indices by id: the rows that are read follow what is asked for."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sequences import id_files
from pipelines.sequences.id_files import IdFiles, VocabularyError, by_id, write_ids
from pipelines.workspace.parquet_files import ParquetFileError

GROUP = 10


def write(path, first, ids):
    index = pa.array(range(first, first + len(ids)), pa.int64())
    pq.write_table(pa.table({"user_id": pa.array(ids, pa.string()), "user_index": index}), path, row_group_size=GROUP)
    return path


@pytest.fixture
def files(tmp_path):
    """Files of 100, 0, 7 and 33 ids in groups of ten; the id of index i is "u<i>"."""
    found, at = [], 0
    for n, size in enumerate((100, 0, 7, 33)):
        found.append(write(tmp_path / f"{n}.parquet", at, [f"u{i}" for i in range(at, at + size)]))
        at += size
    return found


@pytest.fixture
def read(monkeypatch):
    """Groups of rows that were read, by the file's name."""
    groups = []
    original = pq.ParquetFile.read_row_groups

    def noted(self, wanted, columns):
        groups.extend(wanted)
        return original(self, wanted, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, *_, **__: pytest.fail("a whole file was read"))
    return groups


def test_ids_are_read_from_the_groups_that_hold_them(files, read):
    ids = IdFiles.open(files, "user")
    assert len(ids) == 140
    asked = np.array([139, 5, 103, 5, 9, 98])
    assert ids.at(asked).to_pylist() == [f"u{i}" for i in asked]
    assert sorted(read) == [0, 0, 3, 9]


def test_any_few_indices_in_any_order(files, read):
    for seed in range(50):
        ids = IdFiles.open(files, "user")
        asked = random.Random(seed).choices(range(140), k=seed % 20)
        assert ids.at(np.array(asked, dtype=np.int64)).to_pylist() == [f"u{i}" for i in asked]
    assert len(read) < 50 * 20


def test_many_are_read_at_once(files):
    ids = IdFiles.open(files, "user")
    asked = np.arange(139, -1, -1)
    assert ids.at(asked).to_pylist() == [f"u{i}" for i in asked]
    assert ids.at(np.array([3])).to_pylist() == ["u3"]


def test_many_by_and_by_are_read_at_once(files, monkeypatch):
    """Who is asked again and again, as a server is, reads the files once, and no more."""
    ids = IdFiles.open(files, "user")
    for i in range(140):
        assert ids.at(np.array([i])).to_pylist() == [f"u{i}"]
    monkeypatch.setattr(pq, "ParquetFile", lambda *_, **__: pytest.fail("a file was opened"))
    assert ids.at(np.array([7, 139])).to_pylist() == ["u7", "u139"]


def test_indices_by_id(files):
    ids = IdFiles.open(files, "user")
    assert ids.indices_of(["u139", "?", "u0", "u0", "u104"]).tolist() == [139, -1, 0, 0, 104]


def test_an_id_at_two_places_is_refused_where_it_is_asked_for(files):
    write(files[3], 107, [*(f"u{i}" for i in range(107, 139)), "u3"])
    ids = IdFiles.open(files, "user")
    assert ids.indices_of(["u4"]).tolist() == [4]
    for ask in (lambda: ids.indices_of(["u4", "u3"]), ids.check):
        with pytest.raises(VocabularyError, match=r"3\.parquet: user_id 'u3' already has an index"):
            ask()


def test_a_gap_inside_a_group_is_found_by_the_check(files):
    table = pq.read_table(files[0])
    swapped = table.take(pa.array([0, 2, 1, *range(3, 100)]))
    pq.write_table(swapped, files[0], row_group_size=GROUP)
    ids = IdFiles.open(files, "user")
    with pytest.raises(VocabularyError, match="user_index must run from 0 without a gap"):
        ids.check()


@pytest.mark.parametrize("statistics", [True, False])
def test_a_file_that_begins_elsewhere_is_refused(files, statistics):
    table = pa.table({"user_id": ["x"], "user_index": pa.array([101], pa.int64())})
    pq.write_table(table, files[1], write_statistics=statistics)
    with pytest.raises(VocabularyError, match=r"1\.parquet: user_index must run from 100"):
        IdFiles.open(files, "user")


def test_an_index_of_another_kind_is_refused(files):
    pq.write_table(pa.table({"user_id": ["x"], "user_index": ["100"]}), files[1])
    with pytest.raises(ParquetFileError, match="user_index is string"):
        IdFiles.open(files, "user")


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file of 100 ids, in random order, with the one beside it that has them in their own; and a small one of 5."""
    monkeypatch.setattr(id_files, "LARGE", 50)
    monkeypatch.setattr(id_files, "GROUP_ROWS", GROUP)
    ids = [f"é{i:02d}" for i in range(50)] + [f"𝄞{i:02d}" for i in range(50, 100)]
    random.Random(1).shuffle(ids)
    found = []
    for n, some in enumerate((ids, ["a", "b", "c", "d", "e"])):
        found.append(tmp_path / f"{n}.parquet")
        index = pa.array(range(100 * n, 100 * n + len(some)), pa.int64())
        write_ids(pa.table({"user_id": some, "user_index": index}), found[-1])
    return found, ids


def test_an_id_is_looked_up_in_the_groups_that_can_hold_it(large, monkeypatch):
    files, ids = large
    assert (by_id(files[0]).exists(), by_id(files[1]).exists()) == (True, False)
    read = []
    original = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_groups",
        lambda self, wanted, *rest: read.extend(wanted) or original(self, wanted, *rest),
    )
    asked = ["é07", "𝄞93", "é08", "c", "?", "𝄞100"]
    found = IdFiles.open(files, "user").indices_of(asked)
    assert found.tolist() == [ids.index("é07"), ids.index("𝄞93"), ids.index("é08"), 102, -1, -1]
    assert sorted(read) == [0, 9]


def test_the_answer_is_the_same_for_few_and_for_many(large):
    files, ids = large
    for seed in range(30):
        asked = random.Random(seed).choices([*ids, "c", "?", None], k=seed)
        found = IdFiles.open(files, "user").indices_of(pa.array(asked, pa.string()))
        assert found.tolist() == [{"c": 102, **dict(zip(ids, range(100), strict=True))}.get(each, -1) for each in asked]


def test_the_check_compares_the_two_orders(large):
    files, _ = large
    IdFiles.open(files, "user").check()
    table = pq.read_table(by_id(files[0]))
    pq.write_table(table.slice(1), by_id(files[0]))
    with pytest.raises(VocabularyError, match=r"0_by_id\.parquet has other ids than 0\.parquet"):
        IdFiles.open(files, "user").check()
